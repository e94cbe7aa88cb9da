"""What the names in a pickle lead to when a checkpoint is loaded."""
from typing import Any

import numpy as np
import torch

from .building import check_counts
from .compat import STORAGE_NAMES, torch_dtypes
from .instructions import Malformed, shortened
from .rebuilding import Array, Dtype, Tensors
from .vocabulary import Vocabulary


def _size(lengths: Any) -> torch.Size:
    check_counts(lengths, 'a torch.Size')
    return torch.Size(lengths)


def _device(kind: Any, *index: Any) -> torch.device:
    if type(kind) is not str or any(type(value) is not int for value in index):
        raise Malformed(f'a device is {shortened((kind, *index))}')
    return torch.device(kind, *index)


VOCABULARY = Vocabulary(
    calls={
        'torch.Size': _size,
        'torch.device': _device,
        **Tensors().calls(),
    },
    storages={
        **{
            f'torch.{text}': dtype
            for dtype, text in STORAGE_NAMES.items()
        },
        'torch.UntypedStorage': torch.uint8,
        'torch.storage.UntypedStorage': torch.uint8,
    },
    dtype=Dtype,
    array=Array,
    key_types=(torch.dtype, torch.device, torch.Size, np.generic))
# dtypes are pickled by name and stand for themselves
VOCABULARY.names.update(
    (('torch', str(dtype)[len('torch.'):]), dtype) for dtype in torch_dtypes())
