"""The bytes of a checkpoint: torch's own format, written as a stream."""
import errno
import hashlib
import io
import json
import struct
import tracemalloc
import warnings
import zipfile
from contextlib import suppress

import pytest
import torch
from checkpoint_files import equal, record_of, written
from stock import WEIGHTS_ONLY

from mmcv_ckpt_hooks import serialization, zip_writing
from mmcv_ckpt_hooks.compat import STORAGE_NAMES, torch_dtypes
from mmcv_ckpt_hooks.errors import CorruptError, TruncatedError
from mmcv_ckpt_hooks.loading import load_checkpoint
from mmcv_ckpt_hooks.serialization import host_memory, write_checkpoint
from mmcv_ckpt_hooks.staging import reference
from mmcv_ckpt_hooks.verification import verify_file
from mmcv_ckpt_hooks.version import version_tuple

pytestmark = pytest.mark.filterwarnings('error')

#: SHA-256 of a small checkpoint; changes with every change of the format.
GOLDEN = '0818c614282e4189eab4a21989bfd639152944619ba5cd5f9f34236fe51448dd'


class Stream:
    """Takes bytes, and nothing else; fails after a number of them."""

    def __init__(self, room=None, error=None, forget=False):
        self.sizes = []
        self.content = bytearray()
        self.room, self.error, self.forget = room, error, forget

    def write(self, data):
        size = memoryview(data).nbytes
        self.sizes.append(size)
        if self.room is not None and sum(self.sizes) > self.room:
            raise self.error
        if not self.forget:
            self.content += data
        return size

    def flush(self):
        pass


#: torch >= 2.1 maps files.
MAPPED = dict(mmap=True) if version_tuple(torch.__version__) >= (2, 1) else {}


def tree_of_every_dtype():
    tree = {}
    known = set(STORAGE_NAMES)
    if hasattr(torch._utils, '_rebuild_tensor_v3'):  # torch >= 2.1
        known.update(torch_dtypes())
    for dtype in sorted(known, key=str):
        # quantized, sub-byte and other unfinished types cannot be cast to
        with suppress(RuntimeError, NotImplementedError), \
                warnings.catch_warnings():
            warnings.simplefilter('ignore')
            tree[str(dtype)] = torch.arange(5).to(dtype)
    return tree


def small_tree():
    return dict(
        meta=dict(iter=3, text='a', values=[1, 2.5, None, True]),
        state_dict={
            'weight': torch.arange(6.).reshape(2, 3),
            'bias': torch.zeros(3),
            'count': torch.tensor(3)
        })


def test_a_stream_that_cannot_seek_is_enough():
    # Stream has neither tell() nor seek(): an upload has none
    stream = Stream()
    write_checkpoint(stream, reference(small_tree()), {})
    content = io.BytesIO(stream.content)
    assert equal(load_checkpoint(content, 'a.pth'), small_tree())
    assert len(stream.content) == sum(stream.sizes)


def test_no_write_is_larger_than_a_block_and_none_is_lost():
    tree = dict(large=torch.zeros(5 << 20), small=torch.ones(3))
    stream = Stream()
    write_checkpoint(stream, reference(tree), {})
    assert max(stream.sizes) == 8 << 20
    assert sum(stream.sizes) == len(stream.content)
    assert verify_file(io.BytesIO(stream.content), 'a').bytes == \
        sum(stream.sizes)


def test_a_save_needs_no_memory_for_the_whole_file():
    state = reference(dict(large=torch.zeros(16 << 20)))
    stream = Stream(forget=True)
    tracemalloc.start()
    try:
        write_checkpoint(stream, state, {})
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sum(stream.sizes) > 64 << 20
    assert peak < 1 << 20


@pytest.mark.parametrize('name', sorted(tree_of_every_dtype()))
def test_a_tensor_of_any_type_keeps_its_bits(name, tmp_path):
    tree = dict(a=tree_of_every_dtype()[name])
    path = tmp_path / 'a.pth'
    path.write_bytes(written(tree))
    assert equal(torch.load(path, weights_only=True), tree)
    assert equal(torch.load(path, weights_only=False), tree)
    with open(path, 'rb') as file:
        assert equal(load_checkpoint(file, 'a.pth'), tree)


def test_every_type_that_stock_writes_as_a_typed_storage_is_one():
    # readers older than torch 2.1 know no others
    names = record_of(written(tree_of_every_dtype()), 'data.pkl')
    for name in STORAGE_NAMES.values():
        assert f'torch\n{name}\n'.encode() in names


def data_offsets(content):
    """Where the content of each record begins, as the file itself says."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for record in archive.infolist():
            header = content[record.header_offset:][:30]
            name, extra = struct.unpack('<HH', header[26:30])
            yield (record.filename, record.header_offset + 30 + name + extra)


@pytest.mark.parametrize('numel', [0, 1, 15, 16, 1000])
def test_every_record_is_aligned_for_memory_maps(numel):
    tree = {f'key{index}': torch.zeros(numel + index) for index in range(9)}
    offsets = dict(data_offsets(written(tree)))
    assert len(offsets) >= 9
    assert {offset % 64 for offset in offsets.values()} == {0}


def test_a_large_checkpoint_can_be_mapped_instead_of_read(tmp_path):
    path = tmp_path / 'a.pth'
    path.write_bytes(written(small_tree()))
    mapped = torch.load(path, weights_only=True, **MAPPED)
    assert equal(mapped, small_tree())


def test_the_same_content_gives_the_same_bytes():
    assert written(small_tree(), dict(a=1, b=2)) == \
        written(small_tree(), dict(b=2, a=1))


def test_a_release_that_writes_other_bytes_does_so_on_purpose():
    # a mirror that has the file, and every digest in a catalog, depend on it
    tree = dict(
        meta=dict(text='a', values=(1, None)),
        weight=torch.arange(6.).reshape(2, 3).t())
    content = written(tree, dict(iter=1))
    assert hashlib.sha256(content).hexdigest() == GOLDEN


def test_the_card_is_read_without_torch_and_torch_ignores_it():
    content = written(small_tree(), dict(iter=7, metrics=dict(mIoU=0.5)))
    card = json.loads(record_of(content, 'checkpoint_info.json'))
    assert card == dict(iter=7, metrics=dict(mIoU=0.5))
    assert equal(torch.load(io.BytesIO(content)), small_tree())


def test_the_digest_is_the_one_that_verify_finds():
    stream = io.BytesIO()
    digest = write_checkpoint(stream, reference(small_tree()), {})
    assert verify_file(stream, 'a.pth', digest).digest == digest


def test_every_change_of_a_tensor_changes_the_digest():
    one, other = small_tree(), small_tree()
    other['state_dict']['bias'][1] = 1e-30
    digests = {
        write_checkpoint(io.BytesIO(), reference(tree), {})
        for tree in (one, other)
    }
    assert len(digests) == 2


@pytest.fixture
def tiny_zip64(monkeypatch):
    """Files of a few hundred bytes take the path of those over 4 GiB."""
    monkeypatch.setattr(zip_writing, '_LIMIT', 200)


def test_a_checkpoint_over_4_gib_loads_everywhere(tmp_path, tiny_zip64):
    tree = dict(
        small=torch.zeros(3),
        large=torch.arange(1000.),
        # just below and just above the limit
        below=torch.arange(50, dtype=torch.float32),
        above=torch.arange(51, dtype=torch.float32))
    path = tmp_path / 'a.pth'
    path.write_bytes(written(tree, dict(iter=1)))
    content = path.read_bytes()
    assert b'PK\x06\x06' in content  # the zip64 end record
    assert {offset % 64 for _, offset in data_offsets(content)} == {0}
    assert equal(torch.load(path), tree)
    assert equal(torch.load(path, **MAPPED), tree)
    with open(path, 'rb') as file:
        assert verify_file(file, 'a.pth').info == dict(iter=1)
        assert equal(load_checkpoint(file, 'a.pth'), tree)


def test_a_record_behind_2_gib_is_wide_in_all_fields(tiny_zip64):
    """torch 2.0 calls the file corrupt otherwise."""
    content = written(dict(large=torch.arange(100.), small=torch.zeros(3)))
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        at, count = archive.start_dir, len(archive.infolist())
    for _ in range(count):
        sizes = struct.unpack('<2L', content[at + 20:at + 28])
        name, extra = struct.unpack('<2H', content[at + 28:at + 32])
        offset, = struct.unpack('<L', content[at + 42:at + 46])
        assert (offset == 0xffffffff) == (sizes == (0xffffffff, ) * 2)
        at += 46 + name + extra


def test_a_truncated_or_damaged_file_over_4_gib_is_found(tiny_zip64):
    content = written(dict(large=torch.arange(100.)))
    for cut in range(1, 200):
        with pytest.raises(TruncatedError):
            verify_file(io.BytesIO(content[:-cut]), 'a.pth')
    place = content.index(b'PK\x06\x06') + 40  # size of the directory
    damaged = bytearray(content)
    damaged[place] ^= 1
    with pytest.raises(CorruptError, match='not where'):
        verify_file(io.BytesIO(damaged), 'a.pth')


def test_more_than_65535_tensors_load_everywhere(monkeypatch, tmp_path):
    monkeypatch.setattr(zip_writing, '_COUNT_LIMIT', 5)
    tree = {str(index): torch.full((2, ), index) for index in range(9)}
    path = tmp_path / 'a.pth'
    path.write_bytes(written(tree))
    assert b'PK\x06\x06' in path.read_bytes()
    assert equal(torch.load(path), tree)
    with open(path, 'rb') as file:
        verify_file(file, 'a.pth')
        assert equal(load_checkpoint(file, 'a.pth'), tree)


FULL = OSError(errno.ENOSPC, 'No space left on device')


def test_the_error_of_a_full_disk_is_the_one_that_is_raised():
    whole = Stream()
    write_checkpoint(whole, reference(small_tree()), {})
    written_before = 0
    for size in filter(None, whole.sizes):
        stream = Stream(written_before, FULL)
        with pytest.raises(OSError) as caught:
            write_checkpoint(stream, reference(small_tree()), {})
        assert caught.value is FULL
        written_before += size


def test_a_tensor_that_cannot_be_fetched_fails_the_save(monkeypatch):
    failure = RuntimeError('CUDA error')

    def broken(tensor):
        raise failure

    monkeypatch.setattr(serialization, 'host_memory', broken)
    stream = Stream()
    with pytest.raises(RuntimeError) as caught:
        write_checkpoint(stream, reference(small_tree()), {})
    assert caught.value is failure


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, torch.bool])
def test_host_memory_is_the_memory_itself(dtype):
    tensor = torch.zeros(4, dtype=dtype)
    view = host_memory(tensor)
    assert view.nbytes == tensor.numel() * tensor.element_size()
    view[:] = bytes([1]) * view.nbytes
    assert bool((tensor != 0).all())


def test_stock_readers_ignore_what_they_do_not_know():
    tree = dict(small_tree(), resume_state=dict(version=1, rng=[(1, 'a')]))
    loaded = torch.load(io.BytesIO(written(tree)), weights_only=WEIGHTS_ONLY)
    assert equal(loaded, tree)
