"""Python's garbage collector, kept out of the way of a save."""
import gc
from contextlib import contextmanager
from typing import Iterator


@contextmanager
def without_collections() -> Iterator[None]:
    """Put off automatic garbage collection: it comes right afterwards.

    A collection of all objects takes longer than the whole save where torch
    and mmcv are loaded. When it is due is decided by everything that the
    process has allocated since the last one, so training has it either way.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
