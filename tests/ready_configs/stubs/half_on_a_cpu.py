"""mmcv's mixed precision on a CPU: float16, and a loss scaler that is on.

mmcv takes both from ``torch.cuda.amp``, where they are off without a GPU. A
config lists this module in ``custom_imports``.
"""
import functools

import torch
from mmcv.runner import fp16_utils
from mmcv.runner.hooks import optimizer

fp16_utils.autocast = functools.partial(
    torch.autocast, 'cpu', dtype=torch.float16)
optimizer.GradScaler = functools.partial(torch.amp.GradScaler, 'cpu')
