"""The shipped stub as the package ``apex``.

Loaded by its path: a repo imports apex before anything has imported the
plugin, whose import registers its classes.
"""
import importlib.util
import os
import sys

_FOLDER, = importlib.util.find_spec(
    'mmcv_ckpt_hooks').submodule_search_locations
_SPEC = importlib.util.spec_from_file_location(
    'apex_stub', os.path.join(_FOLDER, 'testing', 'apex.py'))
_STUB = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_STUB)

amp = sys.modules['apex.amp'] = _STUB.FakeApex()
