"""A file that is replaced, out of the catalog meanwhile.

Standard library only.
"""
from contextlib import contextmanager, suppress
from typing import Iterator

from .card import describe
from .catalog import Catalog
from .errors import StorageError
from .types import CheckpointInfo, StorageBackend


@contextmanager
def replaced_in_catalog(backend: StorageBackend, catalog: Catalog,
                        name: str) -> Iterator[None]:
    """Take out the entry of a file while it is replaced.

    INVARIANT: the catalog never holds the digest of another file of that
    name; killed in between, it would have the good new one refused.
    """
    before, leads_to = catalog.find(name), catalog.link(name)
    if before is not None:
        catalog.forget(name)
    try:
        yield
    except BaseException:
        if before is not None:
            _put_back(backend, catalog, before, leads_to)
        raise


def _put_back(backend: StorageBackend, catalog: Catalog,
              before: CheckpointInfo, leads_to: str) -> None:
    """Enter a file again whose replacement failed, if it is the same.

    A failed sync of the directory comes after the rename: then the new
    file is there, and the next start finds it.
    """
    with suppress(StorageError):
        there = describe(backend, before.name, before.bytes)
        if there.digest == before.digest:
            catalog.commit(before, leads_to)
