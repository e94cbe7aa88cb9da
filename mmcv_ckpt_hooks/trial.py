"""Whether a model's parameters stay the same from one moment to another."""
from typing import Dict, List, Optional, Tuple

import torch

#: By their size in bytes.
_INTEGERS = {
    1: torch.uint8,
    2: torch.int16,
    4: torch.int32,
    8: torch.int64,
}
_COLUMNS = 64

#: Of each device: names of the parameters, and numbers that tell of them.
_Content = Dict[torch.device, Tuple[List[str], torch.Tensor]]


class Trial:
    """Compares all parameters at two moments.

    ``Tensor._version`` would miss what is written through ``Tensor.data``. On
    a GPU nothing is waited for before the verdict.

    Args:
        model (Module): Without wrappers.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        self._model = model
        self._begun: Optional[_Content] = None
        self._ended: Optional[_Content] = None
        self._verdict: Optional[str] = None

    def begin(self) -> None:
        """Take the first look; nothing if it was taken."""
        if self._begun is None:
            self._begun = _content(self._model)

    def end(self) -> None:
        """Take the second look; nothing if it was taken or none before."""
        if self._begun is not None and self._ended is None:
            self._ended = _content(self._model)

    def verdict(self) -> Optional[str]:
        """Name a parameter that has changed.

        Returns:
            str | None: Empty if none has; None before the second look.
        """
        if self._verdict is None and self._begun is not None and \
                self._ended is not None:
            self._verdict = _changed(self._begun, self._ended)
            self._begun, self._ended = {}, {}
        return self._verdict


def incomparable(model: torch.nn.Module) -> Optional[str]:
    """Name a parameter that cannot be compared, None if there is none."""
    for name, one in model.named_parameters():
        if type(one) not in (torch.Tensor, torch.nn.Parameter) or \
                one.layout is not torch.strided or \
                one.device.type not in ('cpu', 'cuda'):
            return name
    return None


def _content(model: torch.nn.Module) -> _Content:
    names: Dict[torch.device, List[str]] = {}
    numbers: Dict[torch.device, List[torch.Tensor]] = {}
    for name, parameter in model.named_parameters():
        names.setdefault(parameter.device, []).append(name)
        numbers.setdefault(parameter.device,
                           []).append(_numbers(parameter.detach()))
    return {
        device: (names[device], torch.stack(numbers[device]))
        for device in names
    }


def _changed(before: _Content, after: _Content) -> str:
    for device, (names, numbers) in before.items():
        if device not in after or after[device][0] != names:
            return 'parameters that were not there'
        differ = (numbers != after[device][1]).any(1)
        if bool(differ.any()):
            return names[int(differ.nonzero()[0])]
    return ''


def _numbers(tensor: torch.Tensor) -> torch.Tensor:
    """Return numbers that change with any bit, and with the order of any.

    Sums over rows and columns of the bits, each weighted with an odd number:
    two passes at the speed of the memory.
    """
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor)
    flat = tensor.reshape(-1).view(_INTEGERS[tensor.element_size()])
    per_word = 8 // flat.element_size()
    if flat.data_ptr() % 8 == 0 and flat.storage_offset() % per_word == 0:
        # wide integers are added fastest
        whole = flat.numel() // per_word * per_word
        parts = [flat[:whole].view(torch.int64), flat[whole:]]
    else:
        parts = [flat]
    found = torch.zeros(2, dtype=torch.int64, device=flat.device)
    for number, part in enumerate(parts):
        whole = part.numel() // _COLUMNS * _COLUMNS
        grid = part[:whole].reshape(-1, _COLUMNS)
        rest = part[whole:].to(torch.int64)
        found[0] += (2 * number + 1) * _weighted(
            grid.sum(1, dtype=torch.int64))
        found[1] += (2 * number + 1) * _weighted(
            grid.sum(0, dtype=torch.int64)) + 3 * _weighted(rest)
    return found


def _weighted(numbers: torch.Tensor) -> torch.Tensor:
    weights = 2 * torch.arange(
        numbers.numel(), dtype=torch.int64, device=numbers.device) + 1
    return (numbers * weights).sum()
