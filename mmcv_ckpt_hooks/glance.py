"""The first field of a checkpoint, ``meta``, without the rest of its pickle.

Every mmcv writes it first. The pickle is executed as ever, by
:mod:`unpickling`, and ends where the first tensor comes: a listing of hundreds
of files of stock mmcv would outline every tensor of each. Standard library
only.
"""
from typing import Any, Dict, NoReturn, Optional

from . import outline
from .records import Archive
from .scanning import check_byte_order, read_pickle
from .unpickling import unpickle_until

#: What only the plugin writes, after the tensors; steps count otherwise then.
_OF_PLUGIN = b'resume_state'


class _FirstTensor(Exception):
    """The pickle has come to it."""


def read_meta(archive: Archive, path: str) -> Optional[Dict[str, Any]]:
    """Return ``meta``; None if it does not stand first, and before tensors.

    Then nothing is known: :func:`scanning.read_outline` tells all.

    Args:
        archive (Archive): Of :func:`quick_directory.open_directory`.
        path (str): Its name, for the messages.

    Raises:
        CorruptError: If the pickle is damaged, or malformed until there.
        UnsafeCheckpointError: If it asks for too much until there.
    """
    check_byte_order(archive, path)
    data = read_pickle(archive, path)
    if _OF_PLUGIN in data:
        return None
    items = unpickle_until(data, outline.VOCABULARY, _stop, _FirstTensor, path)
    names = [] if items is None else items[::2]
    if items is None or names[:2] != ['meta', 'state_dict'] or \
            not isinstance(items[1], dict):
        return None
    return dict(items[1])


def _stop(key: str, dtype: Any, numel: int) -> NoReturn:
    raise _FirstTensor
