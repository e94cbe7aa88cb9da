"""The short way to a digest says what the long way says, or nothing."""
import io
import zipfile

import pytest
import torch

from mmcv_ckpt_hooks import save_checkpoint
from mmcv_ckpt_hooks.directory_digest import directory_digest
from mmcv_ckpt_hooks.verification import open_archive, zip_digest


@pytest.fixture(scope='module')
def ours(tmp_path_factory):
    path = tmp_path_factory.mktemp('ours') / 'iter_1.pth'
    save_checkpoint(torch.nn.Linear(4, 4), str(path))
    return path.read_bytes()


def long_way(data):
    with open_archive(io.BytesIO(data), 'a.pth') as archive:
        return zip_digest(archive.infolist())


def short_way(data):
    return directory_digest(io.BytesIO(data))


@pytest.mark.parametrize('tensors', [1, 3000])
def test_both_ways_agree(tmp_path, tensors):
    # 3000: more than the first read at the end
    path = tmp_path / 'a.pth'
    torch.save({str(i): torch.zeros(i % 7) for i in range(tensors)}, str(path))
    data = path.read_bytes()
    assert short_way(data) == long_way(data) != ''


def test_a_file_of_the_plugin_too(ours):
    assert short_way(ours) == long_way(ours)


def test_whatever_bit_is_flipped_it_is_no_more_believed_than_the_long_way(
        ours):
    digest = long_way(ours)
    with zipfile.ZipFile(io.BytesIO(ours)) as archive:
        start = archive.start_dir
    places = [*range(4), *range(start, len(ours))]
    missed = []
    for place in places:
        for bit in (1, 8, 128):
            data = bytearray(ours)
            data[place] ^= bit
            try:
                found = long_way(bytes(data))
            except Exception:
                found = ''
            if short_way(bytes(data)) == digest != found:
                missed.append((place - start, bit))
    assert missed == []


@pytest.mark.parametrize('size', [0, 3, 21, 60, 97, 98, 99])
def test_a_short_file_has_none(ours, size):
    assert short_way(ours[:size]) == short_way(ours[len(ours) - size:]) == ''


def test_a_cut_off_file_has_none(ours):
    assert short_way(ours[:-1]) == short_way(ours + b'\0') == ''
