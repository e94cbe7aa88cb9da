"""A damaged file is found before a run resumes from it."""
import errno
import io
import json
import os
import random
import struct
import threading
import zipfile

import pytest
import torch
from checkpoint_files import (equal, record_of, rewritten, stored_zip,
                              torch_written, torch_zip, written)

from mmcv_ckpt_hooks import records
from mmcv_ckpt_hooks.errors import (AccessError, CorruptError, IntegrityError,
                                    StorageError, TruncatedError,
                                    UnverifiableError)
from mmcv_ckpt_hooks.loading import load_checkpoint
from mmcv_ckpt_hooks.verification import (open_archive, read_info, verify_file,
                                          zip_digest)

pytestmark = pytest.mark.filterwarnings('error')


def small_tree():
    return dict(
        meta=dict(iter=3, text='a'),
        state_dict={
            'weight': torch.arange(6.).reshape(2, 3),
            'count': torch.tensor(3)
        })


OURS = written(small_tree(), dict(iter=3))
STOCK = torch_written(small_tree())
BOTH = pytest.mark.parametrize(
    'content', [OURS, STOCK], ids=['ours', 'torch.save'])


def verify(content, digest=None):
    return verify_file(io.BytesIO(content), 'iter_3.pth', digest)


@BOTH
def test_a_good_file_is_good(content):
    report = verify(content)
    assert report.path == 'iter_3.pth'
    assert report.bytes == len(content)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert report.records == len(archive.namelist())
        assert report.digest == zip_digest(archive.infolist())
    assert report.digest.startswith('sha256-zipdir:')


def test_the_card_is_reported_and_missing_in_files_of_others():
    assert verify(OURS).info == dict(iter=3)
    assert verify(STOCK).info == {}


def test_files_that_torch_saves_under_their_own_name_are_good(tmp_path):
    # the top folder in the zip file is then called after the file
    for name in ('iter_10.pth', 'a..b.pth', 'two words.pth'):
        torch.save(small_tree(), tmp_path / name)
        with open(tmp_path / name, 'rb') as file:
            verify_file(file, name)
            assert equal(load_checkpoint(file, name), small_tree())


def test_progress_adds_up_to_the_bytes_of_all_records():
    seen = []
    verify_file(io.BytesIO(OURS), 'a.pth', progress=seen.append)
    with zipfile.ZipFile(io.BytesIO(OURS)) as archive:
        expected = sum(record.file_size for record in archive.infolist())
    assert sum(seen) == expected


@BOTH
def test_a_file_cut_off_anywhere_is_called_truncated(content):
    for length in range(len(content)):
        with pytest.raises(TruncatedError) as caught:
            verify(content[:length])
        assert 'iter_3.pth' in str(caught.value)


def directory_start(content):
    # the first entry of the directory
    return content.index(b'PK\x01\x02')


def flipped(content, place, bit):
    damaged = bytearray(content)
    damaged[place] ^= 1 << bit
    return bytes(damaged)


def assert_found_or_harmless(content, place, bit):
    damaged = flipped(content, place, bit)
    try:
        verify(damaged)
    except IntegrityError:
        return
    where = f'byte {place}, bit {bit}'
    assert equal(load_checkpoint(io.BytesIO(damaged), 'a.pth'),
                 small_tree()), where
    assert equal(torch.load(io.BytesIO(damaged)), small_tree()), where


@BOTH
def test_a_flipped_bit_is_found_or_changes_nothing(content):
    # torch.load alone reads flipped weights and says nothing
    choice = random.Random(0)
    for _ in range(400):
        place = choice.randrange(directory_start(content))
        assert_found_or_harmless(content, place, choice.randrange(8))


@BOTH
def test_a_flipped_bit_in_the_zip_directory_hides_no_record(content):
    # zipfile believes the directory: one wrong length hides what follows, and
    # a resume would find out only after it has chosen the file
    for place in range(directory_start(content), len(content)):
        for bit in range(8):
            assert_found_or_harmless(content, place, bit)


@BOTH
def test_every_flipped_bit_of_a_weight_is_found(content):
    weight = small_tree()['state_dict']['weight'].numpy().tobytes()
    start = content.index(weight)
    for place in range(start, start + len(weight)):
        with pytest.raises(CorruptError, match='data/0'):
            verify(flipped(content, place, place % 8))


@BOTH
def test_bytes_after_the_end_are_found(content):
    for more in (b'\0', b'PK\x05\x06', bytes(100), OURS + STOCK):
        with pytest.raises(IntegrityError):
            verify(content + more)


def test_zeroed_blocks_are_found():
    # what a power cut leaves of a file that was not synced
    for start in range(0, len(OURS), 64):
        damaged = OURS[:start] + bytes(64) + OURS[start + 64:]
        try:
            verify(damaged)
        except IntegrityError:
            continue
        assert equal(
            load_checkpoint(io.BytesIO(damaged), 'a.pth'), small_tree())


def legacy():
    return torch_written(small_tree(), _use_new_zipfile_serialization=False)


WRONG = [
    # content, error, what it says
    (b'', TruncatedError, '0 bytes'),
    (b'PK', TruncatedError, '2 bytes'),
    (b'PK\x03\x04', TruncatedError, 'no zip directory'),
    (b'hello world, this is text', CorruptError, "b'hell'"),
    (b'<!DOCTYPE html><html>404</html>', CorruptError, 'no torch checkpoint'),
    (bytes(1000), CorruptError, 'no torch checkpoint'),
    (legacy(), UnverifiableError, 'torch < 1.6'),
    (legacy()[:100], UnverifiableError, 'trust_checkpoint=True'),
    (stored_zip([('a.txt', b'a')]), CorruptError, "'data.pkl'"),
    (stored_zip([]), CorruptError, 'no torch checkpoint'),
    (stored_zip([('data.pkl', b'a')]), CorruptError, "'data.pkl'"),
    (stored_zip([('a/data.pkl', b'a'),
                 ('b/data/0', b'')]), CorruptError, 'outside'),
    (torch_zip(b'', more=[('archive/../../etc/passwd', b'')]), CorruptError,
     'outside'),
    (torch_zip(b'', more=[('../etc/passwd', b'')]), CorruptError, 'outside'),
    (torch_zip(b'', more=[('/etc/passwd', b'')]), CorruptError, 'outside'),
    (stored_zip([('a/data.pkl', b'a' * 99)],
                zipfile.ZIP_DEFLATED), CorruptError, 'compressed'),
    (stored_zip([('a/data.pkl', b'a' * 99)],
                zipfile.ZIP_BZIP2), CorruptError, 'compressed'),
    (stored_zip([('a/data.pkl', b'a' * 99)],
                zipfile.ZIP_LZMA), CorruptError, 'compressed'),
]


@pytest.mark.parametrize('content, error, words', WRONG)
def test_what_is_no_checkpoint_is_told_apart(content, error, words):
    with pytest.raises(error) as caught:
        verify(content)
    assert type(caught.value) is error
    assert words in str(caught.value)
    if content:
        assert 'iter_3.pth' in str(caught.value)


def test_a_second_record_of_a_name_cannot_hide_the_first():
    with pytest.warns(UserWarning, match='Duplicate name'):
        content = torch_zip(b'', more=[('archive/data.pkl', b'other')])
    with pytest.raises(CorruptError, match='same name'):
        verify(content)


def test_another_file_under_the_name_is_found_by_its_digest():
    expected = verify(OURS).digest
    assert verify(OURS, expected).digest == expected
    other = written(dict(small_tree(), more=1), dict(iter=3))
    with pytest.raises(CorruptError) as caught:
        verify(other, expected)
    assert expected in str(caught.value)
    assert verify(other).digest in str(caught.value)


def test_a_removed_record_is_found_without_a_digest_when_it_is_needed():
    content = rewritten(
        OURS, lambda name, data: None if name.endswith('data/1') else data)
    # a complete zip file: only the digest or the pickle can know
    with pytest.raises(CorruptError, match='digest'):
        verify(content, verify(OURS).digest)
    with pytest.raises(CorruptError, match="storage '1' has no record"):
        load_checkpoint(io.BytesIO(content), 'iter_3.pth')


CARDS = [b'{', b'[]', b'"a"', b'\xff\xfe', b'[' * 100000, b'1' * 100000]


@pytest.mark.parametrize('card', CARDS, ids=range(len(CARDS)))
def test_a_card_that_is_no_json_object_is_damage_and_nothing_else(card):
    content = torch_zip(b'', more=[('archive/checkpoint_info.json', card)])
    with pytest.raises(CorruptError, match='checkpoint_info.json'):
        verify(content)


def test_a_huge_card_is_not_read_into_memory():
    card = json.dumps(dict(a='x' * (1 << 20))).encode()
    content = torch_zip(b'', more=[('archive/checkpoint_info.json', card)])
    with open_archive(io.BytesIO(content), 'a.pth') as archive:
        with pytest.raises(CorruptError, match='expected at most'):
            read_info(archive, 'a.pth')


def test_records_that_overlap_do_not_take_for_ever():
    # each of many records claims the whole file: a "better zip bomb"
    whole = torch_zip(b'', [bytes(100000)] + [b''] * 20)
    directory = directory_start(whole)
    head, tail = whole[:directory], bytearray(whole[directory:])
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        large = archive.getinfo('archive/data/0')
    place = 0
    while tail[place:place + 4] == b'PK\x01\x02':
        name, extra, comment = struct.unpack_from('<3H', tail, place + 28)
        struct.pack_into('<3L', tail, place + 16, large.CRC,
                         large.compress_size, large.file_size)
        struct.pack_into('<L', tail, place + 42, large.header_offset)
        place += 46 + name + extra + comment
    with pytest.raises(CorruptError, match='overlap'):
        verify(head + bytes(tail))


class Failing(io.BytesIO):
    """A file whose medium fails after some reads."""

    def __init__(self, content, reads, error):
        super().__init__(content)
        self.reads, self.error = reads, error

    def read(self, *args):
        self.reads -= 1
        if self.reads < 0:
            raise self.error
        return super().read(*args)


def reads_needed():
    file = Failing(OURS, 10**6, None)
    verify_file(file, 'a.pth')
    return 10**6 - file.reads


@pytest.mark.parametrize('error, expected', [
    (OSError(errno.ESTALE, 'Stale file handle'), StorageError),
    (TimeoutError(errno.ETIMEDOUT, 'timed out'), StorageError),
    (PermissionError(errno.EACCES, 'Permission denied'), AccessError),
])
def test_a_network_that_fails_is_not_taken_for_damage(error, expected):
    # damage makes a resume fall back to an older checkpoint
    for reads in range(reads_needed()):
        with pytest.raises(expected, match='a.pth'):
            verify_file(Failing(OURS, reads, error), 'a.pth')


def test_a_bad_sector_is_damage():
    error = OSError(errno.EIO, 'Input/output error')
    for reads in range(reads_needed()):  # the zip directory, too
        with pytest.raises(CorruptError, match='Input/output error'):
            verify_file(Failing(OURS, reads, error), 'a.pth')


class Ending(io.BytesIO):
    """A file that gives nothing where twelve bytes are asked for."""

    def read(self, size=-1):
        return super().read(size) if size != 12 else b''

    def readinto(self, buffer):
        return super().readinto(buffer) if len(buffer) != 12 else 0


def test_a_record_that_ends_early_is_not_filled_up_with_old_memory():
    content = written(dict(a=torch.ones(3)))
    with pytest.raises(CorruptError, match='has 0 bytes, expected 12'):
        verify_file(Ending(content), 'a.pth')
    with pytest.raises(CorruptError, match='has 0 bytes, expected 12'):
        load_checkpoint(Ending(content), 'a.pth')


class Trickling(io.BytesIO):
    """A file that fills a buffer little by little."""

    def readinto(self, buffer):
        return super().readinto(buffer[:100])


def test_a_file_may_give_less_than_it_is_asked_for():
    content = written(dict(a=torch.arange(1000.)))
    verify_file(Trickling(content), 'a.pth')
    found = load_checkpoint(Trickling(content), 'a.pth')
    assert torch.equal(found['a'], torch.arange(1000.))


def patched_entry(content, name, offset):
    """Let the directory say that a record begins elsewhere."""
    entry = content.rindex(b'PK\x01\x02', 0, content.rindex(name))
    changed = bytearray(content)
    struct.pack_into('<L', changed, entry + 42, offset)
    return bytes(changed)


def nested(inside):
    """One record in the data of another, or one behind the other."""
    whole = torch_zip(b'', [bytes(200)], [('archive/data/1', bytes(50))])
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        outer = archive.getinfo('archive/data/0')
        inner = archive.getinfo('archive/data/1')
    header = whole[inner.header_offset:][:30 + len(inner.filename) + 50]
    whole = torch_zip(b'', [header.ljust(200, b'\0')],
                      [('archive/data/1', bytes(50))])
    if not inside:
        return whole
    start = outer.header_offset + 30 + len(outer.filename)
    return patched_entry(whole, b'archive/data/1', start)


def test_a_record_inside_of_another_is_damage():
    # torch would read it
    verify(nested(inside=False))
    with pytest.raises(CorruptError, match='overlaps another'):
        verify(nested(inside=True))


@pytest.mark.parametrize('offset', [1, 1 << 20, 0xfffffff0, None])
def test_a_record_that_is_not_where_the_directory_says_is_damage(
        tmp_path, offset):
    content = nested(False)
    if offset is None:  # where the one before begins
        offset = content.index(b'archive/data/0') - 30
    content = patched_entry(content, b'archive/data/1', offset)
    (tmp_path / 'a.pth').write_bytes(content)
    with open(tmp_path / 'a.pth', 'rb') as file:
        for one in (file, io.BytesIO(content)):
            with pytest.raises(CorruptError, match='data/1 is damaged'):
                verify_file(one, 'a.pth')


@pytest.fixture
def large(tmp_path, monkeypatch):
    """A local file that two threads check."""
    monkeypatch.setattr(records, '_LARGE_BYTES', 0)
    path = tmp_path / 'a.pth'
    path.write_bytes(
        written(dict(a=[torch.full((900, ), float(i)) for i in range(40)])))
    return path


def test_of_a_large_file_all_is_checked_by_two_threads(large, monkeypatch):
    threads, plain = set(), records.crc32
    # either waits for the other, once
    both = threading.Barrier(2, timeout=60)

    def crc32(block, value):
        if threading.get_ident() not in threads:
            threads.add(threading.get_ident())
            both.wait()
        return plain(block, value)

    monkeypatch.setattr(records, 'crc32', crc32)
    checked = []
    with open(large, 'rb') as file:
        with open_archive(file, 'a.pth') as archive:
            records.check_data(archive, 'a.pth', checked.append)
            sizes = [one.file_size for one in archive.infolist()]
    assert len(threads) == 2 and threading.get_ident() not in threads
    assert sum(checked) == sum(sizes)


@pytest.mark.parametrize('number', [0, 1, 20, 39])
def test_one_damaged_record_of_a_large_file_is_found(large, number):
    content = bytearray(large.read_bytes())
    weights = torch.full((900, ), float(number)).numpy().tobytes()
    content[content.index(weights) + 3000] ^= 1
    large.write_bytes(content)
    with open(large, 'rb') as file:
        with pytest.raises(CorruptError, match=f'data/{number} is damaged'):
            verify_file(file, 'a.pth')


def test_headers_are_not_read_ahead_of_the_data(large, monkeypatch):
    # a disk that goes from header to header first loses its read-ahead
    monkeypatch.setattr(records, '_LARGE_BYTES', 1 << 30)
    places = []

    def seen(read):

        def wrapper(number, what, start):
            places.append(start)
            return read(number, what, start)

        return wrapper

    for name in ('pread', 'preadv'):
        monkeypatch.setattr(records.os, name, seen(getattr(os, name)))
    with open(large, 'rb') as file:
        with open_archive(file, 'a.pth') as archive:
            records.check_data(archive, 'a.pth')
            count = len(archive.infolist())
    # header and data of each record, front to back
    assert len(places) == 2 * count
    assert places == sorted(places)


def test_verifying_executes_nothing():
    content = torch_zip(b'cos\nsystem\n(S"touch /tmp/never"\ntR.')
    assert verify(content).records == 3
    assert record_of(content, 'data.pkl').startswith(b'cos')
