"""The folders below a URL: where else checkpoints may be.

No verb of a backend: a run never asks.
"""
from typing import Any, List, Mapping, Optional

from ..errors import StorageError
from . import OBJECT_STORES, is_of_fsspec, scheme_of
from .object_errors import object_errors
from .object_line import ObjectLine
from .object_url import import_client, parse_place


def folders(url: str,
            storage_options: Optional[Mapping[str, Any]] = None) -> List[str]:
    """Return the names of the folders right below a URL.

    Args:
        url (str): A directory.
        storage_options (dict, optional): Of it. Default: None.

    Returns:
        list[str]: Sorted; empty where they cannot be listed.

    Raises:
        StorageError: If that fails.
    """
    scheme = scheme_of(url)
    if is_of_fsspec(scheme):
        from .fsspec_store import FsspecBackend
        return FsspecBackend(url, storage_options).folders()
    if scheme not in OBJECT_STORES:
        return []
    place = parse_place(url, storage_options)
    client = import_client(place.url)
    with object_errors('cannot list', place.url, StorageError, place.secrets):
        found = ObjectLine(place).reach(client.list_with_delimiter)
    return sorted(
        prefix.rstrip('/').rpartition('/')[2]
        for prefix in found['common_prefixes'])
