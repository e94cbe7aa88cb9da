"""Fakes for tests of this package and of what is built on it.

``testing.contract`` needs pytest, ``testing.apex`` torch; both are imported by
their full names.
"""
from .clock import ManualClock
from .faulty import Fault, FaultyBackend
from .memory import MemoryBackend
from .pavi import FakePavi, install

__all__ = [
    'FakePavi', 'Fault', 'FaultyBackend', 'ManualClock', 'MemoryBackend',
    'install'
]
