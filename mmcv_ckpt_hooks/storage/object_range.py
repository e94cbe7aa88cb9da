"""A part of an object, all of it or an error."""
from typing import Any, Tuple

from ..wording import counted
from .object_errors import ShortAnswer

_EMPTY_RANGE = 'status code: 416'


class EmptyObject(Exception):
    """The object has no bytes, and so no range."""


def read_range(client: Any, store: Any, name: str, start: int, stop: int,
               **options: Any) -> Tuple[Any, Any]:
    """Return what the store says of an object, and a part of it.

    Args:
        client (module): Of the store.
        store (Any): The prefix.
        name (str): Of the object.
        start (int): First byte.
        stop (int): The one after the last; may lie past the object's end.

    Raises:
        EmptyObject: If the object is.
        ShortAnswer: If bytes are missing.
    """
    try:
        found = client.get(
            store, name, options=dict(options, range=(start, stop)))
        data = found.bytes()
    except client.exceptions.BaseError as error:
        if _EMPTY_RANGE not in str(error):
            raise
        raise EmptyObject from error
    expected = min(stop, found.meta['size']) - start
    if len(data) != expected:
        raise ShortAnswer(
            f'of {counted(expected, "bytes")} from {start} on came '
            f'{len(data)}')
    return found.meta, data
