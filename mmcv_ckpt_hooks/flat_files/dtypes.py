"""What safetensors calls torch's types."""
from typing import Optional

import torch

from .header import TORCH_NAMES

_OF_TORCH = {
    getattr(torch, name): told
    for told, name in TORCH_NAMES.items() if hasattr(torch, name)
}
_TORCH = {told: dtype for dtype, told in _OF_TORCH.items()}


def name_of(dtype: torch.dtype) -> Optional[str]:
    """Return the name of a type; None if safetensors has no such type."""
    return _OF_TORCH.get(dtype)


def dtype_of(name: str) -> Optional[torch.dtype]:
    """Return the type of a name; None if this torch has no such type."""
    return _TORCH.get(name)
