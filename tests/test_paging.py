"""Memory has its pages before it is filled, and keeps what it holds."""
import io
import mmap
import platform

import pytest
import torch
from checkpoint_files import written

from mmcv_ckpt_hooks import loading, records
from mmcv_ckpt_hooks.paging import make_pages

pytestmark = pytest.mark.filterwarnings('error')

SIZE = 16 << 20
KERNEL = tuple(int(part) for part in platform.release().split('.')[:2])


def resident_bytes():
    with open('/proc/self/statm') as file:
        return int(file.read().split()[1]) * mmap.PAGESIZE


@pytest.mark.skipif(KERNEL < (5, 14), reason='Linux < 5.14 has no such call')
def test_the_pages_are_there_before_anything_is_written():
    with mmap.mmap(-1, SIZE) as memory:
        before = resident_bytes()
        with memoryview(memory) as view:
            make_pages(view)
        assert resident_bytes() - before > SIZE * 0.9


@pytest.mark.parametrize('start', [0, 1, mmap.PAGESIZE - 1])
def test_what_is_there_stays(start):
    content = bytes(range(256)) * (SIZE // 256)
    memory = bytearray(content)
    view = memoryview(memory)
    make_pages(view[start:])
    make_pages(view[start:start + 10])
    make_pages(view[:0])
    assert memory == content


def test_what_is_loaded_has_its_pages_first(monkeypatch):
    made = []
    monkeypatch.setattr(records, 'make_pages',
                        lambda memory: made.append(len(memory)))
    values = torch.arange(SIZE // 4, dtype=torch.float32)
    content = written(dict(state_dict=dict(weight=values)))
    loaded = loading.load_mapped(io.BytesIO(content), 'iter_3.pth')
    assert torch.equal(loaded['state_dict']['weight'], values)
    assert sum(made) == SIZE
