"""What ``format='dcp'`` does not go together with, said when a hook is built.

Standard library only.
"""
import sys

from ..errors import ConfigError
from ..folders.layout import MIN_TORCH
from ..options import CheckpointOptions
from ..storage import OBJECT_STORES, scheme_of
from ..version import version_tuple


def check_format(options: CheckpointOptions) -> None:
    """Refuse options that a checkpoint of all ranks cannot keep.

    Raises:
        ConfigError: If there is one.
    """
    if options.format != 'dcp':
        return
    start = "DurableCheckpointHook: format='dcp' "
    scheme = scheme_of(options.out_dir or '')
    if options.file_client_args is not None:
        raise ConfigError(f'{start}writes several files a checkpoint, which '
                          'file_client_args cannot list or delete; give a '
                          "directory that all ranks see, or format='pth'")
    if scheme not in ('', 'file', *OBJECT_STORES):
        raise ConfigError(
            f'{start}needs a directory that all ranks see, or an object store '
            f"(s3://, gs://, az://), but out_dir is {scheme}://. Give one of "
            "them, or format='pth'")
    if options.write.staging == 'overlap':
        raise ConfigError(f"{start}contradicts write.staging='overlap': every "
                          'rank copies its part before training goes on. '
                          "Leave it out, or use format='pth'")
    # not imported for it: who has a hook has it
    version = getattr(sys.modules.get('torch'), '__version__', MIN_TORCH)
    if version_tuple(version) < version_tuple(MIN_TORCH):
        raise ConfigError(f'{start}needs torch >= {MIN_TORCH}, but {version} '
                          "is installed: use format='pth'")
