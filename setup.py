"""Metadata and tool settings are in setup.cfg; only the version is computed.

The version is read as text: importing the package needs mmcv and torch, which
pip must not be asked for here (see ``install_requires`` in setup.cfg).
"""
import re
from pathlib import Path

from setuptools import setup


def read_version():
    path = Path(__file__).parent / 'mmcv_ckpt_hooks' / 'version.py'
    text = path.read_text(encoding='utf-8')
    match = re.search(r"^__version__ = '([^']+)'$", text, re.M)
    if match is None:
        raise RuntimeError(f"{path}: no line __version__ = '...'")
    return match.group(1)


setup(version=read_version())
