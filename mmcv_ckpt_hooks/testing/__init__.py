"""Fakes for tests of this package and of what is built on it.

``testing.contract`` needs pytest and is imported by its full name.
"""
from .apex import FakeApex
from .apex import install as install_apex
from .clock import ManualClock
from .faulty import Fault, FaultyBackend
from .memory import MemoryBackend
from .pavi import FakePavi, install

__all__ = [
    'FakeApex', 'FakePavi', 'Fault', 'FaultyBackend', 'ManualClock',
    'MemoryBackend', 'install', 'install_apex'
]
