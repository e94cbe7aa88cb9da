"""The save core as a function, a drop-in for mmcv's."""
import os
from typing import IO, Any, Dict, List, Mapping, Optional

import torch

from .amp import capture_amp
from .card import CARD_VERSION
from .errors import ConfigError
from .folders.layout import is_folder
from .optimizers import Optimizers
from .serialization import write_checkpoint
from .staging import reference
from .state import build_checkpoint
from .storage import Path, open_backend, split_filename
from .types import StorageBackend


def save_checkpoint(model: torch.nn.Module,
                    filename: Path,
                    optimizer: Optimizers = None,
                    meta: Optional[Dict[str, Any]] = None,
                    file_client_args: Optional[Mapping[str, Any]] = None,
                    amp: Any = None,
                    storage_options: Optional[Mapping[str, Any]] = None) -> \
        None:
    """Save a checkpoint: complete and durable on return, or not there.

    The fields are ``meta`` (with mmcv's version, the time, CLASSES and
    PALETTE), ``state_dict`` (wrappers removed), ``optimizer`` (one, or a dict
    of them by name) and ``amp`` (only when AMP is in use).

    Args:
        model (Module): The model.
        filename (str | Path): A path, ``s3://bucket/prefix/name.pth`` (also
            ``gs://``, ``az://``), or ``pavi://project/model/name.pth``.
        optimizer (Optimizer | dict, optional): Default: None.
        meta (dict, optional): It is not changed. Default: None.
        file_client_args (dict, optional): Arguments of ``mmcv.FileClient``.
            Default: None.
        amp (optional): A GradScaler, ``apex.amp``, their state, or False.
            Default: None, which means detected.
        storage_options (dict, optional): Of an object store. Default: None.

    Raises:
        TypeError: If ``meta`` is no dict.
        ConfigError: If the name is that of a sharded checkpoint, a folder.
        StorageError: If it could not be saved; a file of that name is
            unchanged.
    """
    checkpoint = build_checkpoint(model, optimizer, meta, capture_amp(amp=amp))
    directory, name = split_filename(filename)
    backend = open_backend(
        directory, file_client_args, storage_options=storage_options)
    save_to(backend, name, checkpoint)


def save_to(backend: StorageBackend, name: str, checkpoint: Dict[str,
                                                                 Any]) -> str:
    """Write a checkpoint from the live tensors and commit it.

    Returns:
        str: Its digest.

    Raises:
        ConfigError: If the name is that of a sharded checkpoint.
    """
    if is_folder(name):
        raise ConfigError(
            f'{os.path.join(backend.url, name)} has the name of a sharded '
            'checkpoint, which is a folder: this function writes one file, '
            "expected a name such as 'iter_1000.pth'. A run writes folders "
            "with DurableCheckpointHook's format='dcp', and \"mmcv-ckpt "
            'convert" makes one of a file')
    backend.prepare()
    state = reference(checkpoint)
    # the caller's meta may count in any way: the name tells the step
    info = {'format': CARD_VERSION}
    digests: List[str] = []

    def write(stream: IO[bytes]) -> None:
        digests.append(write_checkpoint(stream, state, info))

    backend.put(name, write)
    return digests[0]
