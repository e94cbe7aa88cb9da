"""What safetensors calls torch's types."""
from typing import Dict, Optional

import torch

#: Names of types that torch has, in one of its versions.
_NAMES: Dict[str, str] = {
    'F64': 'float64',
    'F32': 'float32',
    'F16': 'float16',
    'BF16': 'bfloat16',
    'I64': 'int64',
    'I32': 'int32',
    'I16': 'int16',
    'I8': 'int8',
    'U8': 'uint8',
    'BOOL': 'bool',
    'C64': 'complex64',
    'U64': 'uint64',
    'U32': 'uint32',
    'U16': 'uint16',
    'F8_E4M3': 'float8_e4m3fn',
    'F8_E4M3FNUZ': 'float8_e4m3fnuz',
    'F8_E5M2': 'float8_e5m2',
    'F8_E5M2FNUZ': 'float8_e5m2fnuz',
    'F8_E8M0': 'float8_e8m0fnu',
}
_OF_TORCH = {
    getattr(torch, name): told
    for told, name in _NAMES.items() if hasattr(torch, name)
}
_TORCH = {told: dtype for dtype, told in _OF_TORCH.items()}


def name_of(dtype: torch.dtype) -> Optional[str]:
    """Return the name of a type; None if safetensors has no such type."""
    return _OF_TORCH.get(dtype)


def dtype_of(name: str) -> Optional[torch.dtype]:
    """Return the type of a name; None if this torch has no such type."""
    return _TORCH.get(name)
