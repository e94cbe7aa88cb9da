"""A checkpoint of any kind, also of another program, as its fields."""
from typing import Any, Mapping

from .checkpoint_fields import weights_of
from .counting import finished_steps, is_count
from .flat_files.header import SUFFIX as FLAT
from .flat_files.reading import read_flat
from .folders.layout import is_folder
from .folders.loading import as_of_file, load_folder, load_folder_weights
from .folders.opening import open_folder
from .loading import load_mapped
from .types import StorageBackend

#: Fields with tensors of a training, in the order in which they are told.
FIELDS = ('state_dict', 'optimizer')


def load(files: StorageBackend, name: str, path: str) -> Mapping[str, Any]:
    """Load the fields of a checkpoint; it is verified meanwhile.

    ``meta`` counts finished epochs and iterations, whoever wrote it.

    Args:
        files (StorageBackend): Where it is; of a folder, the folder itself.
        name (str): Its name.
        path (str): It, for the messages.

    Raises:
        IntegrityError: If it is damaged.
        UnsafeCheckpointError: If loading it would need to run code.
    """
    if is_folder(name):
        if open_folder(files, path).is_plain:
            return load_folder_weights(files, path)
        return as_of_file(load_folder(files, path))
    with files.open(name) as file:
        if name.endswith(FLAT):
            return _with_weights(read_flat(file, path).fields)
        return _counted(_with_weights(load_mapped(file, path)), name)


def _counted(content: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Have ``meta`` count finished steps, as the name of the file does."""
    meta = content.get('meta')
    if not isinstance(meta, dict) or 'iter' not in meta or not all(
            is_count(meta.get(key, 0)) for key in ('epoch', 'iter')):
        return content
    # what neither name nor resume_state tells is taken as it is
    epoch, finished = finished_steps(
        content, name, epoch_runner=True, log=lambda message: None)
    return {**content, 'meta': {**meta, 'epoch': epoch, 'iter': finished}}


def _with_weights(content: Any) -> Mapping[str, Any]:
    if not isinstance(content, dict):
        return {'state_dict': content}
    if 'state_dict' in content:
        return content
    # of a backbone they may lie below 'model', or be all that there is
    weights = weights_of(content)
    rest = {} if weights is content else {
        key: value
        for key, value in content.items() if value is not weights
    }
    return {**rest, 'state_dict': weights}
