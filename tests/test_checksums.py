"""The CRC-32 is zlib's, whichever library computes it."""
import mmap
import subprocess
import sys
import zlib

import pytest
import torch

from mmcv_ckpt_hooks.checksums import crc32
from mmcv_ckpt_hooks.serialization import host_memory

isal_zlib = pytest.importorskip('isal.isal_zlib')

DATA = bytes(range(256)) * 5000


def test_the_fastest_one_that_is_installed_is_used():
    assert crc32 is isal_zlib.crc32


@pytest.mark.parametrize('size', [0, 1, 15, 64, 1000, 65537, len(DATA)])
@pytest.mark.parametrize('start', [0, 1, 7])
def test_both_libraries_agree(size, start):
    data = memoryview(DATA)[start:start + size]
    for before in (0, 1, 0xffffffff):
        assert crc32(data, before) == zlib.crc32(data, before)
    assert crc32(data[size // 2:], crc32(data[:size // 2])) == \
        zlib.crc32(data)


def test_any_memory_will_do():
    tensor = torch.arange(1000.)
    mapped = mmap.mmap(-1, 5000)
    for memory in (host_memory(tensor), mapped, bytearray(9)):
        assert crc32(memory) == zlib.crc32(memory)


def test_without_the_extra_zlib_computes_it():
    code = '''
import sys
sys.modules['isal'] = None
from mmcv_ckpt_hooks.checksums import crc32
print(crc32.__module__)
'''
    done = subprocess.run([sys.executable, '-W', 'ignore', '-c', code],
                          stdout=subprocess.PIPE,
                          check=True)
    assert done.stdout.split()[-1] == b'zlib'
