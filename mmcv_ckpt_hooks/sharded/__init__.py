"""Checkpoints that all ranks write: planned, staged, committed, restored.

:mod:`.sharding` is one save of all ranks, :mod:`.commit` the order of its
commit, :mod:`.board` what the ranks tell each other meanwhile.
"""
