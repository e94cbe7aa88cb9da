"""What differs between two checkpoints."""
import math
from dataclasses import dataclass, field
from typing import Any, Dict, Iterator, List, Optional, Tuple

import torch

from .errors import UnsafeCheckpointError
from .unfolding import unfolds_without_end

#: So many elements at a time are float64 (8 MB).
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Change:
    """How a tensor that both have differs.

    Args:
        name (str): Its name.
        relative (float): The 2-norm of the difference, divided by that of
            the first tensor: 0 if both are equal, infinite if the first is
            all zero and the second is not, NaN if one is not finite.
        is_count (bool): Whether it has integers, such as the number of
            batches of a BatchNorm.
    """
    name: str
    relative: float
    is_count: bool


@dataclass(frozen=True)
class Comparison:
    """What two checkpoints have in one field.

    Args:
        only_first (dict[str, str]): Names that the second lacks, with type
            and shape.
        only_second (dict[str, str]): Names that the first lacks.
        reshaped (dict[str, tuple[str, str]]): Type and shape in both, of
            what differs in them; it is compared no further.
        changes (list[Change]): Of all others.
    """
    only_first: Dict[str, str] = field(default_factory=dict)
    only_second: Dict[str, str] = field(default_factory=dict)
    reshaped: Dict[str, Tuple[str, str]] = field(default_factory=dict)
    changes: List[Change] = field(default_factory=list)

    @property
    def is_same(self) -> bool:
        """Whether names, types, shapes and all values are the same."""
        return not (self.only_first or self.only_second or self.reshaped
                    or any(one.relative != 0 for one in self.changes))


def compare(first: Any, second: Any) -> Comparison:
    """Compare the tensors of one field.

    Args:
        first, second (Any): Nested dicts and lists of tensors.

    Raises:
        UnsafeCheckpointError: If one of them has no end.
    """
    for tree in (first, second):
        if unfolds_without_end(tree):
            raise UnsafeCheckpointError(
                'a field contains itself, or a part many times over: expected '
                'dicts and lists of tensors')
    ours, theirs = dict(_tensors(first)), dict(_tensors(second))
    found = Comparison(
        {
            name: _kind(one)
            for name, one in ours.items() if name not in theirs
        }, {
            name: _kind(one)
            for name, one in theirs.items() if name not in ours
        })
    for name, one in ours.items():
        other = theirs.get(name)
        if other is None:
            continue
        if _kind(one) != _kind(other):
            found.reshaped[name] = _kind(one), _kind(other)
        else:
            is_count = not (one.is_floating_point() or one.is_complex())
            found.changes.append(Change(name, _relative(one, other), is_count))
    return found


def _relative(one: torch.Tensor, other: torch.Tensor) -> float:
    one, other = _plain(one), _plain(other)
    # what is NaN in both is the same, and yet unequal
    if torch.equal(_bytes(one), _bytes(other)):
        return 0.
    size = difference = 0.
    pairs = zip(*[both.reshape(-1).split(_BLOCK) for both in (one, other)])
    for before, after in pairs:
        if not one.is_floating_point():
            # of large integers float64 sees no difference
            before, after = before.long(), after.long()
            changed = (after - before).double()
        else:
            changed = after.double() - before.double()
        difference = math.hypot(difference, float(changed.norm()))
        size = math.hypot(size, float(before.double().norm()))
    if not math.isfinite(difference):
        return math.nan
    if not difference:
        return 0.  # zeros of another sign
    return difference / size if size else math.inf


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    """Return what a norm can be taken of."""
    if tensor.layout != torch.strided:
        tensor = tensor.to_dense()
    if tensor.is_quantized:
        tensor = tensor.dequantize()
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor


def _bytes(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous().reshape(-1).view(torch.uint8)


def _kind(tensor: torch.Tensor) -> str:
    shape = 'x'.join(map(str, tensor.shape))
    return f'{str(tensor.dtype)[len("torch."):]} {shape or "scalar"}'


def _tensors(value: Any, name: str = '') -> Iterator[Tuple[str, torch.Tensor]]:
    """Yield tensors with their names: ``'state.0.exp_avg'``."""
    left: List[Tuple[str, Any]] = [(name, value)]
    while left:
        name, value = left.pop()
        if isinstance(value, torch.Tensor):
            yield name, value
            continue
        pairs: Optional[List[Tuple[Any, Any]]] = None
        if isinstance(value, dict):
            pairs = list(value.items())
        elif isinstance(value, (list, tuple)):
            pairs = list(enumerate(value))
        for key, inner in reversed(pairs or []):
            left.append((f'{name}.{key}' if name else str(key), inner))
