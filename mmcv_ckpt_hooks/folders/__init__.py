"""Checkpoints that are folders: their format, read, checked and converted.

What one process needs of them; nothing here knows of ranks. :mod:`.layout`
has the names, :mod:`.folder` what catalog, retention and saves see of one.
"""
