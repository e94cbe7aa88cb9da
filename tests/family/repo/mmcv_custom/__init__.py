"""A stand-in for the package of that name in ConvNeXt, Swin, BEiT, UniFormer.

It registers what theirs register, trains as their ``train_api`` trains, and
knows nothing of the plugin.
"""
from .apex_runner import (DistOptimizerHook, EpochBasedRunnerAmp,
                          IterBasedRunnerAmp)
from .train_api import train_segmentor

__all__ = [
    'DistOptimizerHook', 'EpochBasedRunnerAmp', 'IterBasedRunnerAmp',
    'train_segmentor'
]
