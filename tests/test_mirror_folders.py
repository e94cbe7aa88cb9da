"""Mirrors of sharded checkpoints in a second directory."""
import json
import os
import shutil
import signal
import uuid

import pytest
from folders import NEW_TORCH, with_another_value
from launching import launch
from test_mirror import flip_a_bit, opened
from test_sharded import run as run_ranks
from toy import ToyModel, train

from mmcv_ckpt_hooks import find_resumable, verify_checkpoint
from mmcv_ckpt_hooks.catalog import Catalog
from mmcv_ckpt_hooks.errors import (ConfigError, IntegrityError,
                                    OutOfSpaceError, StorageError)
from mmcv_ckpt_hooks.folders import sending
from mmcv_ckpt_hooks.folders.folder import remove
from mmcv_ckpt_hooks.folders.layout import METADATA_NAME
from mmcv_ckpt_hooks.mirroring import MirrorPlace
from mmcv_ckpt_hooks.retention import KeepLast
from mmcv_ckpt_hooks.sending import Gone
from mmcv_ckpt_hooks.storage.local import LocalBackend
from mmcv_ckpt_hooks.storage.object_folders import move_folder
from mmcv_ckpt_hooks.testing.faulty import Fault, FaultyBackend
from mmcv_ckpt_hooks.testing.memory import MemoryBackend

pytestmark = NEW_TORCH

FILES = ['.metadata', '__0_0.distcp', 'manifest.json', 'rest.zip']


@pytest.fixture
def dirs(tmp_path):
    """A work dir, the root of its mirror and the mirror."""
    root = tmp_path / 'second'
    return tmp_path / 'first' / 'run', root, root / 'run'


def run(work_dir, root, steps=8, keep=None, hooks=(), model=None, **hook):
    given = dict(
        type='DurableCheckpointHook', interval=2, resume='auto', format='dcp')
    if root is not None:
        given['mirror'] = dict(url=str(root), keep=keep)
    return train(
        work_dir,
        runner=dict(type='IterBasedRunnerAmp', max_iters=steps),
        model=model or ToyModel(),
        hooks=[dict(given, **hook), *hooks])


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def listed(directory):
    """The checkpoints of a directory."""
    return [
        file.name for file in LocalBackend(str(directory)).list()
        if file.name.startswith('iter_')
    ]


@pytest.fixture
def saved(dirs):
    """The places of a run with one checkpoint: the first, and a mirror."""
    work_dir, _, there = dirs
    run(work_dir, None, steps=2)
    catalog = opened(work_dir)
    place = MirrorPlace(str(there), KeepLast(None), print, print)
    place.open()
    place.begin(catalog)
    return LocalBackend(str(work_dir)), catalog.find('iter_2.dcp'), place


def nothing(nbytes):
    """Takes note of no bytes."""


# -- every checkpoint ------------------------------------------------------


def test_what_is_committed_is_in_the_mirror_too(dirs, caplog):
    work_dir, root, there = dirs
    run(work_dir, root, max_keep_ckpts=2)
    assert listed(there) == listed(work_dir) == ['iter_6.dcp', 'iter_8.dcp']
    assert os.readlink(there / 'latest.dcp') == 'iter_8.dcp'
    first, second = opened(work_dir), opened(there)
    for info in first.checkpoints():
        assert second.find(info.name) == info
        assert contents(there / info.name) == contents(work_dir / info.name)
        assert sorted(contents(there / info.name)) == FILES
        verify_checkpoint(there / info.name)
    assert find_resumable(there) == str(there / 'iter_8.dcp')
    assert f'Copied checkpoint iter_8.dcp to {there}: ' in caplog.text
    saves = [
        json.loads(line) for line in (there / 'checkpoints.log.jsonl').open()
    ]
    assert [
        one['deleted'] for one in saves if one.get('name') == 'iter_8.dcp'
    ] == [['iter_4.dcp']]


def test_a_mirror_keeps_its_own_and_both_formats(dirs):
    work_dir, root, there = dirs
    run(work_dir, root, steps=4, max_keep_ckpts=2, keep=dict(last=1))
    assert listed(there) == ['iter_4.dcp']
    run(work_dir, root, steps=6, format='pth', keep=dict(last=2))
    assert listed(there) == ['iter_4.dcp', 'iter_6.pth']
    assert 'latest.pth' in os.listdir(
        there) and 'latest.dcp' not in os.listdir(there)
    run(work_dir, root, steps=8, keep=dict(last=2))
    assert listed(there) == ['iter_6.pth', 'iter_8.dcp']
    assert 'latest.dcp' in os.listdir(
        there) and 'latest.pth' not in os.listdir(there)
    run(work_dir, root, steps=10, create_symlink=False)
    assert 'latest.dcp' not in os.listdir(there)


def test_folders_of_an_earlier_start_are_copied(dirs, caplog):
    work_dir, root, there = dirs
    run(work_dir, None, steps=2)
    run(work_dir, root, steps=4, format='pth')
    assert listed(there) == ['iter_2.dcp', 'iter_4.pth']
    assert 'beginning with iter_2.dcp of an earlier start' in caplog.text


def test_ranks_go_on_from_the_mirror_when_the_disk_is_lost(dirs):
    work_dir, root, there = dirs
    whole = run_ranks(dirs[0].parent / 'straight', steps=8)
    options = dict(mirror=dict(url=str(root)), resume='auto')
    run_ranks(work_dir, steps=4, options=options)
    assert '__1_0.distcp' in contents(there / 'iter_4.dcp')
    for name in listed(there):
        verify_checkpoint(there / name)
    shutil.rmtree(work_dir)
    resumed = run_ranks(work_dir, steps=8, options=options)
    assert 'iter_4.dcp, newer than all in' in resumed['logs'][0]
    assert resumed['model'] == whole['model']
    assert resumed['optimizer'] == whole['optimizer']
    assert listed(work_dir) == ['iter_6.dcp', 'iter_8.dcp']
    assert listed(there) == [f'iter_{step}.dcp' for step in (2, 4, 6, 8)]


# -- killed ----------------------------------------------------------------


@pytest.mark.parametrize('name', ['__1_0.distcp', '.metadata'])
def test_a_copy_that_is_killed_is_no_checkpoint_and_made_anew(dirs, name):
    work_dir, root, there = dirs
    options = dict(mirror=dict(url=str(root)), resume='auto')
    ranks = launch(
        'sharded_worker.py', work_dir,
        json.dumps(dict(steps=4, options=options, killed_copying=name)))
    try:
        said = ranks[0].communicate(timeout=180)[0]
        assert ranks[0].returncode == -signal.SIGKILL, said
    finally:
        for rank in ranks:
            rank.kill()
            rank.wait()
            rank.stdout.close()
    assert listed(there) == []
    half = [one for one in os.listdir(there) if one.startswith('iter_')]
    assert half and 'writing' in os.listdir(there / half[0])
    told = run_ranks(work_dir, steps=4, options=options)['logs'][0]
    assert 'what a killed copy left behind' in told and half[0] in told
    assert listed(there) == ['iter_2.dcp', 'iter_4.dcp']
    for one in listed(there):
        assert contents(there / one) == contents(work_dir / one)


# -- what is damaged -------------------------------------------------------


@pytest.mark.parametrize('name', FILES)
def test_a_damaged_folder_is_named_and_not_copied(dirs, caplog, name):
    work_dir, root, there = dirs
    run(work_dir, None, steps=6)
    path = work_dir / 'iter_4.dcp' / name
    if name == '__0_0.distcp':
        # its middle may be padding
        path.write_bytes(with_another_value(path.read_bytes()))
    else:
        flip_a_bit(path)
    run(work_dir, root, steps=8)
    assert listed(there) == ['iter_2.dcp', 'iter_6.dcp', 'iter_8.dcp']
    assert not (there / 'iter_4.dcp').exists()
    told = [
        record.message for record in caplog.records
        if 'iter_4.dcp is not copied' in record.message
    ]
    # the digest in the catalog is that of the manifest
    what = 'expected digest' if name == 'manifest.json' else name
    assert len(told) == 1 and what in told[0]


@pytest.mark.parametrize('name', ['__0_0.distcp', 'rest.zip'])
def test_every_flipped_bit_of_a_record_is_seen_on_the_way(saved, name):
    source, info, place = saved
    path = os.path.join(source.url, info.name, name)
    with open(path, 'rb') as file:
        good = file.read()
    copy, found = os.path.join(place.url, info.name), 0
    for at in range(0, len(good), len(good) // 50):
        content = bytearray(good)
        content[at] ^= 1
        with open(path, 'wb') as file:
            file.write(content)
        try:
            place.add(info, source, nothing)
        except IntegrityError as error:
            found += 1
            assert f'iter_2.dcp/{name}' in str(error) or \
                f'iter_2.dcp: {name}' in str(error)
            assert not os.path.exists(copy)
        else:
            # padding, or what no reader looks at
            verify_checkpoint(copy)
            shutil.rmtree(copy)
    assert found > 20


def test_another_checkpoint_under_the_name_is_not_copied(saved, dirs):
    source, info, place = saved
    run(dirs[0].parent / 'other', None, steps=2)
    shutil.rmtree(dirs[0] / 'iter_2.dcp')
    os.rename(dirs[0].parent / 'other' / 'iter_2.dcp', dirs[0] / 'iter_2.dcp')
    with pytest.raises(IntegrityError, match='is not the checkpoint that'):
        place.add(info, source, nothing)
    assert not (dirs[2] / 'iter_2.dcp').exists()


def test_the_part_of_another_checkpoint_is_not_copied(saved, dirs):
    source, info, place = saved
    run(dirs[0].parent / 'other', None, steps=4)
    name = '__0_0.distcp'
    other = (dirs[0].parent / 'other' / 'iter_4.dcp' / name).read_bytes()
    part = dirs[0] / 'iter_2.dcp' / name
    assert len(other) == part.stat().st_size
    part.write_bytes(other)
    with pytest.raises(IntegrityError, match='or is that of another checkp'):
        place.add(info, source, nothing)
    assert not (dirs[2] / 'iter_2.dcp').exists()


@pytest.mark.parametrize('name', ['manifest.json', '.metadata'])
def test_small_files_that_change_meanwhile_are_not_copied(saved, dirs, name):
    source, info, place = saved
    path = dirs[0] / info.name / name

    def change(nbytes):
        content = path.read_bytes()
        if b'changed' not in content:
            # written in its place: the file that is open is this one
            path.write_bytes(content.replace(content[-7:], b'changed'))

    with pytest.raises(IntegrityError, match=name):
        place.add(info, source, change)
    assert not (dirs[2] / info.name).exists()


@pytest.fixture
def anew(dirs):
    """A copy of a checkpoint, which the run has saved anew since."""
    work_dir, _, there = dirs
    run(work_dir, None, steps=4)
    first = opened(work_dir)
    place = MirrorPlace(str(there), KeepLast(None), print, print)
    place.open()
    place.begin(first)
    source = LocalBackend(str(work_dir))
    place.add(first.find('iter_4.dcp'), source, nothing)
    shutil.rmtree(work_dir / 'iter_4.dcp')
    run(work_dir, None, steps=4)
    info = opened(work_dir).find('iter_4.dcp')
    assert info.lineage == first.lineage
    assert info.digest != first.find(info.name).digest
    yield source, info, place
    place.release()


@pytest.mark.parametrize('name', ['__0_0.distcp', 'rest.zip'])
def test_a_damaged_folder_replaces_none_of_its_name(anew, dirs, name):
    source, info, place = anew
    there, part = dirs[2] / info.name, dirs[0] / info.name / name
    before, entry = contents(there), place.catalog.find(info.name)
    if name == 'rest.zip':
        flip_a_bit(part)
    else:
        part.write_bytes(with_another_value(part.read_bytes()))
    with pytest.raises(IntegrityError, match=name):
        place.add(info, source, nothing)
    assert contents(there) == before
    assert place.catalog.find(info.name) == entry
    assert find_resumable(dirs[2]) == str(there)


def test_what_replaces_another_is_not_refused_for_its_digest(anew, dirs):
    """The process ends between the last file and the catalog."""
    source, info, place = anew
    files = faulty(place)
    catalogs = []

    def refuse(name, *arguments):
        catalogs.append(name == 'checkpoints.json')
        if sum(catalogs) > 1:
            raise StorageError('no')
        return FaultyBackend.put(files, name, *arguments)

    files.put = refuse
    with pytest.raises(StorageError):
        place.add(info, source, nothing)
    assert contents(dirs[2] / info.name) == contents(dirs[0] / info.name)
    assert find_resumable(dirs[2]) == str(dirs[2] / info.name)
    assert opened(dirs[2]).find(info.name).digest == info.digest


# -- what goes meanwhile ---------------------------------------------------


def deleting(source, name, at):
    """Deletes a folder when so many bytes are sent."""
    left = [at]

    def advance(nbytes):
        left[0] -= nbytes
        if left[0] <= 0 and os.path.exists(os.path.join(source.url, name)):
            remove(source, name)

    return advance


def test_a_copy_that_has_begun_goes_on_from_the_open_files(saved, dirs):
    source, info, place = saved
    place.add(info, source, deleting(source, info.name, 1))
    assert not (dirs[0] / 'iter_2.dcp').exists()
    assert verify_checkpoint(dirs[2] / 'iter_2.dcp').digest == info.digest


def test_of_more_files_than_can_be_open_nothing_is_left(
        saved, dirs, monkeypatch):
    source, info, place = saved
    monkeypatch.setattr(sending, '_OPEN_AT_ONCE', 1)
    with pytest.raises(Gone, match='iter_2.dcp is gone'):
        place.add(info, source, deleting(source, info.name, 1))
    assert not (dirs[2] / 'iter_2.dcp').exists()
    assert place.catalog.find('iter_2.dcp') is None
    with pytest.raises(Gone):
        place.add(info, source, nothing)


def test_a_run_that_deletes_what_is_copied_goes_on(dirs, monkeypatch, caplog):
    work_dir, root, there = dirs
    monkeypatch.setattr(sending, '_OPEN_AT_ONCE', 1)
    inner = MirrorPlace.add

    def add(place, info, source, advance, **options):
        if info.iter == 2:
            advance = deleting(source, info.name, 1)
        return inner(place, info, source, advance, **options)

    monkeypatch.setattr(MirrorPlace, 'add', add)
    run(work_dir, root)
    assert listed(there) == ['iter_4.dcp', 'iter_6.dcp', 'iter_8.dcp']
    assert 'falls behind' not in caplog.text
    assert 'not copied' not in caplog.text


# -- how it is committed ---------------------------------------------------


def faulty(place, faults=()):
    """Let verbs of a mirror fail."""
    files = FaultyBackend(LocalBackend(place.url), faults)
    place.backend._inner = files
    return files


def test_metadata_is_written_last_and_the_mark_removed(saved):
    source, info, place = saved
    files = faulty(place)
    place.add(info, source, nothing)
    done = [
        one for one in files.calls
        if one.split()[0] in ('put', 'delete') and 'checkpoints.' not in one
    ]
    assert done == [
        'put writing', 'put __0_0.distcp', 'put rest.zip', 'put manifest.json',
        'put .metadata', 'delete writing'
    ]


class Counter:
    """Knows how far a copy is."""

    def __init__(self):
        self.done = 0

    def __call__(self, nbytes):
        self.done += nbytes


@pytest.mark.parametrize('after_bytes', [None, 7])
@pytest.mark.parametrize('nth', range(1, 7))
@pytest.mark.parametrize('kind', [StorageError, OutOfSpaceError])
def test_whatever_fails_commits_nothing_and_it_is_made_anew(
        saved, kind, nth, after_bytes):
    source, info, place = saved
    files = faulty(place, [Fault('put', kind('no'), nth, 1, after_bytes)])
    with pytest.raises(kind):
        place.add(info, source, nothing)
    # the sixth is the catalog
    assert listed(place.url) == (['iter_2.dcp'] if nth > 5 else [])
    if kind is OutOfSpaceError and nth < 6:
        assert not os.path.exists(os.path.join(place.url, info.name))
    files.faults.clear()
    counter = Counter()
    place.add(info, source, counter)
    assert counter.done == info.bytes
    assert verify_checkpoint(os.path.join(place.url, info.name)).digest == \
        info.digest
    assert sorted(os.listdir(os.path.join(place.url, info.name))) == FILES
    assert place.catalog.find(info.name) == info


def test_another_runs_folder_is_kept_under_another_name(dirs, caplog):
    work_dir, root, there = dirs
    run(there, None, steps=4)
    other = contents(there / 'iter_4.dcp')
    run(work_dir, root, steps=4, resume=None)
    assert 'iter_4.dcp belongs to another run; that one is kept as' in \
        caplog.text
    kept = [one for one in os.listdir(there) if one.startswith('iter_4.dcp.')]
    assert [contents(there / one) for one in kept] == [other]
    assert contents(there / 'iter_4.dcp') == contents(work_dir / 'iter_4.dcp')


def test_what_was_kept_under_another_name_is_never_replaced(dirs):
    """Two runs in turns, by mistake, with one mirror."""
    work_dir, root, there = dirs
    other = work_dir.parent.parent / 'other' / 'run'
    run(work_dir, root, steps=4)
    run(other, root, steps=4, resume=None)
    for one in (work_dir, other):
        run(one, root, steps=4)
    kept = [
        contents(there / one)['rest.zip'] for one in os.listdir(there)
        if one.startswith('iter_4.dcp.')
    ]
    first, second = ((one / 'iter_4.dcp' / 'rest.zip').read_bytes()
                     for one in (work_dir, other))
    assert sorted(kept) == sorted([first, first, second])


class Lying(MemoryBackend):
    """Its first listing of a folder is none."""
    lies = True

    def folder(self, name):
        folder = super().folder(name)
        inner = MemoryBackend.list

        def listed():
            found = [] if self.lies else inner(folder)
            self.lies = False
            return found

        folder.list = listed
        return folder


def test_a_listing_that_is_none_leaves_nothing():
    files = Lying()
    for name in (METADATA_NAME, '__0_0.distcp'):
        files.folder('iter_2.dcp').put(name, lambda stream: None)
    remove(files, 'iter_2.dcp')
    assert not files.inside['iter_2.dcp'].files


def test_a_folder_is_not_moved_by_a_listing_that_is_none():
    files = Lying()
    for name in (METADATA_NAME, '__0_0.distcp'):
        files.folder('iter_2.dcp').put(name, lambda stream: None)
    copied = []
    with pytest.raises(StorageError, match='cannot move'):
        move_folder(files.folder('iter_2.dcp'), copied.append)
    assert not copied
    assert len(files.inside['iter_2.dcp'].files) == 2


def test_what_came_there_meanwhile_is_not_replaced(saved, dirs):
    source, info, place = saved
    run(dirs[0].parent / 'other', None, steps=2)
    came = dirs[2] / 'iter_2.dcp'
    os.rename(dirs[0].parent / 'other' / 'iter_2.dcp', came)
    before = contents(came)
    with pytest.raises(StorageError, match='belongs to another run'):
        place.add(info, source, nothing)
    assert contents(came) == before


def test_a_second_name_is_a_copy(saved, dirs):
    source, info, place = saved
    place.add(info, source, nothing)
    shutil.copytree(dirs[0] / 'iter_2.dcp', dirs[0] / 'again_iter_2.dcp')
    again = opened(dirs[0]).find('again_iter_2.dcp')
    assert again.digest == info.digest
    assert place.add(again, source, nothing).twin == ''
    assert contents(dirs[2] / 'again_iter_2.dcp') == \
        contents(dirs[2] / 'iter_2.dcp')


def test_files_that_do_not_belong_to_it_stay_where_they_are(dirs):
    work_dir, root, there = dirs
    run(work_dir, None, steps=2)
    (work_dir / 'iter_2.dcp' / 'notes.txt').write_text('mine')
    run(work_dir, root, steps=4)
    assert sorted(contents(there / 'iter_2.dcp')) == FILES
    files = LocalBackend(str(there))
    catalog = Catalog(files, files, print)
    catalog.open(reconcile=False)  # as it was written
    entry = catalog.find('iter_2.dcp')
    assert entry.bytes == sum(map(len, contents(there / entry.name).values()))


def test_the_log_tells_the_bytes_of_all_files(dirs, caplog):
    work_dir, root, there = dirs
    run(work_dir, root, steps=2, model=ToyModel(width=20000))
    nbytes = opened(there).find('iter_2.dcp').bytes
    assert nbytes > 1e6
    assert f'iter_2.dcp to {there}: {nbytes / 1e6:.2f} MB' in caplog.text


def test_a_mirror_without_folders_is_refused(dirs):
    pytest.importorskip('fsspec')
    with pytest.raises(ConfigError, match='cannot list folders'):
        run(dirs[0], 'memory://second')


def test_what_no_place_is_for_is_left_out(dirs, caplog):
    pytest.importorskip('fsspec')
    work_dir, _, _ = dirs
    run(work_dir, None, steps=2)
    root = f'memory://{uuid.uuid4().hex}'
    run(work_dir, root, steps=4, format='pth')
    assert 'Copied checkpoint iter_4.pth' in caplog.text
    assert 'falls behind' not in caplog.text
