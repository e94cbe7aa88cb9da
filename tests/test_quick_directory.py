"""The quick way to a zip directory says what the long way says, or nothing."""
import errno
import io
import os
import struct
import zipfile

import pytest
import torch
from checkpoint_files import written
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mmcv.runner import save_checkpoint as stock_save

from mmcv_ckpt_hooks import quick_directory as quick_module
from mmcv_ckpt_hooks.cli import main
from mmcv_ckpt_hooks.errors import (CheckpointError, CorruptError,
                                    StorageError, TruncatedError)
from mmcv_ckpt_hooks.glance import read_meta
from mmcv_ckpt_hooks.quick_directory import open_directory, quick_directory
from mmcv_ckpt_hooks.verification import open_archive, read_info, zip_digest
from mmcv_ckpt_hooks.version import version_tuple
from mmcv_ckpt_hooks.zip_layout import MAX32
from mmcv_ckpt_hooks.zip_writing import ArchiveLayout

#: What the long way says of a file that it refuses.
REFUSED = (CheckpointError, OSError)


@pytest.fixture(scope='module')
def ours():
    tree = dict(meta=dict(iter=3), state_dict={'a': torch.zeros(3)})
    return written(tree, dict(iter=3, lineage='a'))


@pytest.fixture(scope='module')
def stock(tmp_path_factory):
    path = tmp_path_factory.mktemp('stock') / 'iter_1.pth'
    stock_save(torch.nn.Linear(4, 4), str(path), meta=dict(iter=7))
    return path.read_bytes()


def told(archive, digest):
    """All that who reads a few records can be told, or why not."""
    return [
        digest,
        archive.namelist(),
        [(one.filename, one.file_size, one.compress_size, one.CRC,
          one.header_offset)
         for one in map(archive.getinfo, archive.namelist())],
        archive.start_dir,
        outcome(lambda: read_info(archive, 'a.pth')),
        outcome(lambda: read_meta(archive, 'a.pth')),
    ]


def outcome(read):
    try:
        return read()
    except CheckpointError as error:
        return type(error), str(error)


def long_way(file):
    archive = open_archive(file, 'a.pth')
    return told(archive, zip_digest(archive.infolist()))


def short_way(file):
    quick = quick_directory(file)
    return None if quick is None else told(quick, quick.digest)


def both_ways(data):
    """Return what both say; None is the quick way's silence."""
    try:
        found = long_way(io.BytesIO(data))
    except REFUSED as error:
        found = type(error)
    return short_way(io.BytesIO(data)), found


@pytest.mark.parametrize('tensors', [1, 12, 3000])
def test_both_ways_agree(tmp_path, tensors):
    # 3000: more than the first read at the end
    path = tmp_path / 'a.pth'
    torch.save({str(i): torch.zeros(i % 7) for i in range(tensors)}, str(path))
    short, long = both_ways(path.read_bytes())
    assert short == long
    # torch's own since 2.1, beside what holds the tensors
    assert any('.data/serialization_id' in name for name in short[1]) == \
        (version_tuple(torch.__version__) >= (2, 1))


@pytest.mark.parametrize('tensors', [400, 3000])
def test_numbers_may_be_in_the_order_of_text(tensors):
    # as torch 2.0 writes them: '1', '10', '100', '11'
    numbers = sorted(map(str, range(tensors)))
    data = zipped(['a/data.pkl', *(f'a/data/{one}' for one in numbers)])
    short, long = both_ways(data)
    assert short is not None
    assert short == long


def test_of_a_long_run_every_record_is_looked_at(tmp_path):
    # the last differ from those before them, which are of one length
    entries = [
        entry(b'a/data.pkl'),
        *(entry(b'a/data/%04d' % number) for number in range(5000)),
        *(entry(b'a/data/%d' % number) for number in range(10))
    ]
    with_directory(tmp_path / 'a.pth', entries, 1 << 20)
    short, long = both_ways_from(tmp_path / 'a.pth')
    assert short is not None
    assert short == long


def test_both_ways_agree_about_ours_and_those_of_stock(ours, stock):
    for data in (ours, stock):
        short, long = both_ways(data)
        assert short == long
        assert short[0].startswith('sha256-zipdir:')


# -- damage ----------------------------------------------------------------


@pytest.mark.parametrize('whose', ['ours', 'stock'])
def test_whatever_bit_is_flipped_it_is_no_more_believed_than_the_long_way(
        request, whose):
    good = request.getfixturevalue(whose)
    with zipfile.ZipFile(io.BytesIO(good)) as archive:
        start = archive.start_dir
    missed, silent = [], 0
    for place in [*range(4), *range(start, len(good))]:
        for bit in range(8):
            data = bytearray(good)
            data[place] ^= 1 << bit
            short, long = both_ways(bytes(data))
            silent += short is None
            if short not in (None, long):
                missed.append((place - start, bit))
    assert missed == []
    assert 0 < silent < 8 * (len(good) - start)


@settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_nothing_that_the_long_way_refuses_is_believed(ours, data):
    with zipfile.ZipFile(io.BytesIO(ours)) as archive:
        start = archive.start_dir
    changed = bytearray(ours)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(start, len(changed) - 1))
        count = data.draw(st.integers(0, 60))
        changed[place:place + count] = data.draw(
            st.one_of(
                st.binary(max_size=60),
                st.sampled_from([b'', b'PK\1\2',
                                 bytes(46), b'\xff' * 8])))
        if len(changed) <= start:
            return
    short, long = both_ways(bytes(changed))
    assert short in (None, long)


def test_a_record_that_is_read_is_checked(ours):
    data = bytearray(ours)
    data[data.index(b'"lineage"')] ^= 1
    quick = quick_directory(io.BytesIO(bytes(data)))
    with pytest.raises(CorruptError, match='CRC-32'):
        read_info(quick, 'a.pth')
    header = bytearray(ours)
    header[header.index(b'archive/checkpoint_info.json')] ^= 1
    quick = quick_directory(io.BytesIO(bytes(header)))
    with pytest.raises(CorruptError, match='header is not that'):
        read_info(quick, 'a.pth')


@pytest.mark.parametrize('size', [0, 3, 21, 60, 97, 98, 99])
def test_a_short_file_has_none(ours, size):
    for part in (ours[:size], ours[len(ours) - size:]):
        assert quick_directory(io.BytesIO(part)) is None


def test_a_cut_off_file_has_none_and_the_long_way_says_why(ours):
    for data in (ours[:-1], ours + b'\0'):
        assert quick_directory(io.BytesIO(data)) is None
    with pytest.raises(TruncatedError, match='a.pth'):
        open_directory(io.BytesIO(ours[:-1]), 'a.pth')


# -- what torch never writes -----------------------------------------------


def zipped(names, **attributes):
    """A zip file of records that are not compressed."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w') as archive:
        for name in names:
            record = zipfile.ZipInfo(name)
            for key, value in attributes.items():
                setattr(record, key, value)
            archive.writestr(record, b'12345678')
    return file.getvalue()


def test_a_plain_one_is_believed():
    data = zipped(['a/data.pkl', 'a/data/0', '.data/serialization_id'])
    short, long = both_ways(data)
    assert short == long


@pytest.mark.filterwarnings('ignore:Duplicate name')
@pytest.mark.parametrize('names', [
    ['a/data/0', 'a/data/1'],
    ['a/data.pkl', 'a/data/0', 'a/data/0'],
    ['a/data.pkl', 'a/../0'],
    ['a/data.pkl', '../data.pkl'],
    ['a/data.pkl', 'a//0'],
    ['a/data.pkl', 'a/0/'],
    ['a/data.pkl', '/a/0'],
    ['a/data.pkl', 'b/data/0'],
    ['a/data.pkl', 'ab/data'],
    ['.a/data.pkl', 'b/0'],
    ['/data.pkl', '/0'],
    ['b', 'a/data.pkl'],
])
def test_names_that_the_long_way_refuses_are_not_believed(names):
    short, long = both_ways(zipped(names))
    assert short is None
    assert long is CorruptError


@pytest.mark.parametrize('names', [
    ['ä/data.pkl', 'ä/data/0'],
    ['a/data.pkl', 'a/b..c'],
    ['.a/data.pkl', '.a/0'],
    ['a/data.pkl', *(f'a/{"x" * (1 + i % 2)}{i}' for i in range(99))],
])
def test_names_that_are_only_unusual_are_left_to_the_long_way(names):
    data = zipped(names)
    short, long = both_ways(data)
    assert short is None
    archive, digest = open_directory(io.BytesIO(data), 'a.pth')
    assert told(archive, digest) == long


@pytest.mark.parametrize('attributes', [
    dict(compress_type=zipfile.ZIP_DEFLATED),
    dict(external_attr=0x10),
    dict(comment=b'c'),
    dict(extra=b'\1\0\4\0abcd'),
    dict(extra=b'\1\0\10\0' + bytes(8)),
])
def test_an_entry_that_is_unusual_is_not_believed(attributes):
    data = zipped(['a/data.pkl', 'a/data/0'], **attributes)
    assert quick_directory(io.BytesIO(data)) is None


# -- large files -----------------------------------------------------------


def large(path, sizes):
    """A file as the plugin writes it, of which only the ends are written."""
    layout = ArchiveLayout()
    layout.add('archive/data.pkl', 8).CRC = 7
    for number, size in enumerate(sizes):
        layout.add(f'archive/data/{number}', size).CRC = number
    with open(path, 'wb') as file:
        file.write(b'PK\3\4')
        file.seek(layout.end)
        file.write(layout.directory())


@pytest.mark.parametrize(
    'sizes', [[1 << 31, 8], [5 << 30, 8, 8], [8] * 3],
    ids=['2 GiB', '5 GiB', 'small'])
def test_large_ones_of_the_plugin_too(tmp_path, sizes):
    path = tmp_path / 'a.pth'
    large(path, sizes)
    with open(path, 'rb') as file:
        short = short_way(file)
        assert short == long_way(file)
    assert short[2][1][1] == sizes[0]


def entry(name, size=8, offset=0, extra=b'', comment=b'', disk=0):
    return struct.pack('<4s6H3L5H2L', b'PK\1\2', 45, 45, 8, 0, 0, 33, 7, size,
                       size, len(name), len(extra), len(comment), disk, 0, 0,
                       offset) + name + extra + comment


def with_directory(path, entries, start=4, count=None):
    """A file with nothing before that directory but its first bytes."""
    content, count = b''.join(entries), count or len(entries)
    with open(path, 'wb') as file:
        file.write(b'PK\3\4')
        file.seek(start)
        file.write(content)
        file.write(
            struct.pack('<4sQ2H2L4Q', b'PK\6\6', 44, 45, 45, 0, 0, count,
                        count, len(content), start))
        file.write(
            struct.pack('<4sLQL', b'PK\6\7', 0, start + len(content), 1))
        file.write(
            struct.pack('<4s4H2LH', b'PK\5\6', 0, 0, count, count,
                        len(content), min(start, MAX32), 0))


def both_ways_from(path):
    with open(path, 'rb') as file:
        try:
            found = long_way(file)
        except REFUSED as error:
            found = type(error)
        return short_way(file), found


def wide(*numbers, tag=1):
    return struct.pack(f'<2H{len(numbers)}Q', tag, 8 * len(numbers), *numbers)


FIRST = entry(b'a/data.pkl')


def test_an_offset_alone_may_be_wide(tmp_path):
    # as torch writes it, and zipfile
    entries = [
        FIRST,
        entry(b'a/data/0', offset=100),
        entry(b'a/data/1', offset=MAX32, extra=wide(5 << 30)),
        entry(b'a/data/2', offset=MAX32, extra=wide((5 << 30) + 100))
    ]
    with_directory(tmp_path / 'a.pth', entries, 6 << 30)
    short, long = both_ways_from(tmp_path / 'a.pth')
    assert short == long
    assert [place for *_, place in short[2]] == \
        [0, 100, 5 << 30, (5 << 30) + 100]


@pytest.mark.parametrize('second', [
    entry(b'a/data/0', MAX32, MAX32, wide(5 << 30)),
    entry(b'a/data/0', MAX32, 100, wide(8, 8, 100)),
    entry(b'a/data/0', 8, MAX32, wide(8, 8, 100)),
    entry(b'a/data/0', 8, MAX32, wide(100, tag=2)),
    entry(b'a/data/0', 8, 100, wide(100)),
    entry(b'a/data/0', 8, MAX32),
    entry(b'a/data/0', MAX32, 100),
])
def test_wide_numbers_are_as_torch_has_them_or_left_alone(tmp_path, second):
    # of the largest only the first could be in it
    with_directory(tmp_path / 'a.pth', [FIRST, second], 9 << 30)
    short, _ = both_ways_from(tmp_path / 'a.pth')
    assert short is None


@pytest.mark.parametrize('entries, count', [
    ([
        FIRST,
        entry(b'a/data/0'),
        entry(b'a/data/1', comment=entry(b'a/data/2'))
    ], 4),
    ([FIRST, entry(b'a/data/0'), entry(b'a/data/1')], 2),
    ([FIRST, entry(b'a/data/0')], 3),
    ([FIRST, entry(b'a/data/0'), b'12345'], 2),
    ([FIRST, entry(b'a/data/0', disk=1)], 2),
    ([FIRST, entry(b'a/data/0', size=1 << 20)], 2),
])
def test_a_directory_that_is_not_counted_right_is_not_believed(
        tmp_path, entries, count):
    with_directory(tmp_path / 'a.pth', entries, 4, count)
    short, long = both_ways_from(tmp_path / 'a.pth')
    assert (short, long) == (None, CorruptError)


# -- storage that fails ----------------------------------------------------


class Failing(io.BytesIO):
    """Cannot read one of its bytes."""

    def __init__(self, data, number, bad):
        super().__init__(data)
        self._number, self._bad = number, bad

    def read(self, size=-1):
        at = self.tell()
        data = super().read(size)
        if at <= self._bad < at + len(data):
            raise OSError(self._number, os.strerror(self._number))
        return data


def test_a_bad_place_that_is_not_needed_is_no_damage(ours):
    # the tail that is read quickly has it, the directory has not
    file = Failing(ours, errno.EIO, 400)
    _, digest = open_directory(file, 'a.pth')
    assert digest == long_way(io.BytesIO(ours))[0]


def test_a_bad_place_in_the_directory_is_damage(ours):
    with pytest.raises(CorruptError, match='its zip directory cannot be read'):
        open_directory(Failing(ours, errno.EIO, len(ours) - 120), 'a.pth')


def test_a_storage_that_fails_is_no_damage(ours):
    with pytest.raises(StorageError, match='cannot read a.pth'):
        open_directory(Failing(ours, errno.ESTALE, 400), 'a.pth')


# -- who uses it -----------------------------------------------------------


def test_what_is_listed_is_not_read_slowly(ours, stock, tmp_path, capsys,
                                           monkeypatch):
    for name, content in (('iter_1.pth', ours), ('iter_2.pth', stock),
                          ('iter_3.pth', stock)):
        (tmp_path / name).write_bytes(content)
    read = []

    def read_slowly(file, path):
        read.append(path)
        return open_archive(file, path)

    # without a catalog, all of them are described
    monkeypatch.setattr(quick_module, 'open_archive', read_slowly)
    assert main(['ls', str(tmp_path)]) == 0
    assert 'iter_1.pth' in capsys.readouterr().out
    assert read == []
    (tmp_path / 'iter_1.pth').write_bytes(ours[:-1])
    assert main(['ls', str(tmp_path)]) == 0
    assert 'damaged' in capsys.readouterr().out
    assert {*read} == {'iter_1.pth'}
