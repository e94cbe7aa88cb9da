"""Values of a checkpoint as JSON has them, and not more of them than fits."""
from typing import Any, Callable, Dict, Mapping

from ..instructions import shortened
from ..outline import Tensor

#: How much text (characters) there may be in all: what a small file holds by
#: reference would be written out here.
_MAX_TEXT = 16 << 20
#: Longest key then.
KEY_TEXT = 200


class PlainValues:
    """Values as JSON has them; what it lacks is described."""

    def __init__(self) -> None:
        self._left = _MAX_TEXT

    @property
    def has_room(self) -> bool:
        """Whether text may still be written out."""
        return self._left >= 0

    def key(self, key: Any, more: int = 0) -> str:
        """Return the text of a key; ``more`` characters are written, too."""
        text = key if isinstance(key, str) else shortened(key)
        self._left -= len(text) + more
        return text if self.has_room else text[:KEY_TEXT]

    def keyed(self, values: Mapping[Any, Any],
              told: Callable[[Any], Any]) -> Dict[str, Any]:
        """Return what is told of values; no two keys become one."""
        found: Dict[str, Any] = {}
        alike: Dict[str, int] = {}
        for key, value in values.items():
            name = text = self.key(key)
            while name in found:
                alike[text] = alike.get(text, 1) + 1
                name = f'{text} ({alike[text]})'
            found[name] = told(value)
        return found

    def value(self, value: Any) -> Any:
        """Return a value that JSON has."""
        if isinstance(value, dict):
            return self.keyed(value, self.value)
        if isinstance(value, (list, tuple)):
            return [self.value(item) for item in value]
        if isinstance(value, str):
            self._left -= len(value)
            return value if self.has_room else f'text of {len(value)}'
        if isinstance(value, int) and value.bit_length() > 64:
            return f'number of {value.bit_length()} bits'
        if value is None or isinstance(value, (bool, int, float)):
            return value
        if isinstance(value, Tensor):
            return f'tensor of {value.dtype.name} {shape_text(value.shape)}'
        if isinstance(value, (set, frozenset, bytes, bytearray)):
            return size_of(value)
        return shortened(value)


def size_of(value: Any) -> str:
    """Say what a container is, and how much it holds."""
    return f'{type(value).__name__} of {len(value)}'


def shape_text(shape: Any) -> str:
    """``(3, 4)`` to ``'3x4'``."""
    return 'x'.join(map(str, shape)) or 'scalar'
