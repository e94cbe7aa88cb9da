"""Python's garbage collector, kept out of the way of a save or a resume."""
import functools
import gc
from typing import Any, Callable, TypeVar, cast

_Function = TypeVar('_Function', bound=Callable[..., Any])


def without_collections(function: _Function) -> _Function:
    """Put off automatic garbage collection: it comes after the function.

    A collection of all objects takes longer than the whole save where torch
    and mmcv are loaded, and a third of a resume. When it is due is decided by
    everything that the process has allocated since the last one, so training
    has it either way.

    Args:
        function (callable): Any; it may call others of the kind.
    """

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if not gc.isenabled():
            return function(*args, **kwargs)
        gc.disable()
        try:
            return function(*args, **kwargs)
        finally:
            # last, and no context manager: its end allocates, and so collects
            gc.enable()

    return cast(_Function, wrapper)
