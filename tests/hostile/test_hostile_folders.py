"""Hostile metadata of sharded checkpoints: refused, and no payload runs."""
import os
import pathlib
import pickle

import pytest
import torch
from checkpoint_files import Payload
from doors import command, in_small_process, load_from, runner_resume
from folders import NEW_TORCH, folder_of_file, names_of
from toy import train

from mmcv_ckpt_hooks import verify_checkpoint
from mmcv_ckpt_hooks.errors import CheckpointError
from mmcv_ckpt_hooks.folders.folder import bytes_digest, manifest
from mmcv_ckpt_hooks.folders.layout import MANIFEST_NAME, METADATA_NAME
from mmcv_ckpt_hooks.folders.manifest import parse_manifest
from mmcv_ckpt_hooks.storage import open_backend

records = pytest.importorskip('torch.distributed.checkpoint.metadata')
filesystem = pytest.importorskip('torch.distributed.checkpoint.filesystem')

pytestmark = NEW_TORCH

NAME = 'iter_4.dcp'
DOORS = {
    'verify_checkpoint':
    lambda at, name: verify_checkpoint(str(at / name)),
    'mmcv-ckpt verify':
    lambda at, name: command('verify', at / name),
    'mmcv-ckpt inspect':
    lambda at, name: command('inspect', at / name),
    'mmcv-ckpt convert':
    lambda at, name: command('convert', at / name, at / 'out.pth'),
    'runner.resume':
    runner_resume,
    'load_from':
    load_from,
}
#: Of the exit codes of commands.
EXITS = {'exit 1': 'CorruptError', 'exit 3': 'UnsafeCheckpointError'}
#: All others open a folder as these do.
READING = ('verify_checkpoint', 'runner.resume')


@pytest.fixture(scope='module')
def good(tmp_path_factory):
    """A folder from which everything resumes, its files by name."""
    directory = tmp_path_factory.mktemp('good')
    runner = train(
        directory,
        runner=dict(type='IterBasedRunnerAmp', max_iters=4),
        hooks=[dict(type='DurableCheckpointHook', interval=4)])
    folder = folder_of_file(
        directory / 'iter_4.pth',
        directory / NAME,
        names_of(runner.model, runner.optimizer),
        ranks=2)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def metadata_of(good):
    return pickle.loads(good[METADATA_NAME])


def outcomes(tmp_path, good, metadata, doors=READING):
    """What each door makes of a folder with that metadata."""
    files = dict(good)
    files[METADATA_NAME] = metadata
    # whoever can write the folder can write its manifest
    listed = parse_manifest(files[MANIFEST_NAME], 'a.dcp')
    sums = {name: (file.bytes, file.digest) for name, file in listed.items()}
    sums[METADATA_NAME] = len(metadata), bytes_digest(metadata)
    files[MANIFEST_NAME] = manifest(sums)

    def try_all():
        found = {}
        for number, door in enumerate(doors):
            at = tmp_path / str(number)
            (at / NAME).mkdir(parents=True)
            for name, content in files.items():
                (at / NAME / name).write_bytes(content)
            try:
                DOORS[door](at, NAME)
                found[door] = 'ok'
            except CheckpointError as error:
                assert len(str(error)) < 3000
                found[door] = EXITS.get(str(error), type(error).__name__)
        return found

    return in_small_process(try_all, tmp_path)


def test_the_good_folder_passes_all_doors(tmp_path, good):
    found = outcomes(tmp_path, good, good[METADATA_NAME], DOORS)
    assert set(found.values()) == {'ok'}


# -- pickles that run code --------------------------------------------------


class Built:
    """Pickles as a new object of a class and a state for it."""

    def __init__(self, kind, state):
        self.kind, self.state = kind, state

    def __reduce_ex__(self, protocol):
        return object.__reduce_ex__(self,
                                    protocol)[0], (self.kind, ), self.state


def ways(mark):
    """Where a call may stand in the metadata."""
    call = Payload(os.system, f'touch {mark}')
    return {
        'as the whole':
        lambda metadata: call,
        'as planner data':
        lambda metadata: vars(metadata).update(planner_data={'a': call}),
        'as storage meta':
        lambda metadata: vars(metadata).update(storage_meta=call),
        'as a tensor':
        lambda metadata: metadata.state_dict_metadata.update(evil=call),
        'as a name':
        lambda metadata: metadata.state_dict_metadata.update({Key(call): 1}),
        'as a size':
        lambda metadata: setattr(first(metadata), 'size', call),
        'as chunks':
        lambda metadata: setattr(first(metadata), 'chunks', [call]),
        'as a place':
        lambda metadata: metadata.storage_data.update(
            {next(iter(metadata.storage_data)): call}),
        'as a path':
        lambda metadata: setattr(
            next(iter(metadata.storage_data.values())), 'relative_path', call),
    }


class Key:
    """Pickles as a call in a tuple, which is a key."""

    def __init__(self, call):
        self.call = call

    def __reduce__(self):
        return tuple, ([self.call], )


def first(metadata):
    return next(iter(metadata.state_dict_metadata.values()))


@pytest.mark.parametrize('way', [name.replace(' ', '_') for name in ways('')])
def test_a_call_is_refused_wherever_it_stands(tmp_path, good, way):
    mark = tmp_path / 'mark'
    metadata = metadata_of(good)
    changed = ways(mark)[way.replace('_', ' ')](metadata)
    found = outcomes(tmp_path, good, pickle.dumps(changed or metadata), DOORS)
    assert set(found.values()) == {'UnsafeCheckpointError'}
    assert not mark.exists()


def global_of(module, name):
    return b'c' + f'{module}\n{name}\n'.encode()


META = 'torch.distributed.checkpoint.metadata'
GETATTR = {
    # getattr(Metadata, '__init__') and the like lead to any function
    'getattr':
    global_of('builtins', 'getattr') + b'(' + global_of(META, 'Metadata') +
    b'V__init__\ntR.',
    'dotted':
    b'\x80\x04\x8c' + bytes([len(META)]) + META.encode() +
    b'\x8c\x1bMetadata.__init__.__globals__'[:2] +
    b'Metadata.__init__.__globals'[:27] + b'\x93.',
    'module':
    global_of('torch', 'os') + b'.',
    'torch_load':
    global_of('torch', 'load') + b'(Vx\ntR.',
    'filesystem':
    global_of('torch.distributed.checkpoint.filesystem', 'FileSystem') +
    b')R.',
    'planner':
    global_of('torch.distributed.checkpoint.default_planner',
              'DefaultSavePlanner') + b')\x81.',
    'writer':
    global_of('torch.distributed.checkpoint.filesystem', 'FileSystemWriter') +
    b'(Vevil\nt\x81.',
    'new_with_arguments':
    b'\x80\x02' + global_of(META, 'Metadata') + b'K\x01\x85\x81.',
    'new_of_a_function':
    b'\x80\x02' + global_of('posix', 'system') + b')\x81.',
    'path_that_is_called':
    global_of('pathlib', 'Path') + b'(Vevil\ntR.',
    'enum_of_a_name':
    global_of(META, '_MEM_FORMAT_ENCODING.__class__') + b'.',
    'extension':
    b'\x80\x02\x82\x01.',
    'reduce_a_part':
    b'\x80\x02' + global_of(META, 'Metadata') + b')\x81)R.',
    'instance':
    b'(i' + b'posix\nsystem\n.',
}


@pytest.mark.parametrize('trick', sorted(GETATTR))
def test_a_trick_is_refused(tmp_path, good, trick):
    found = outcomes(tmp_path, good, GETATTR[trick])
    assert 'ok' not in found.values()
    assert set(found.values()) <= {'UnsafeCheckpointError', 'CorruptError'}


# -- claims that are not so -------------------------------------------------


def item(metadata):
    return next(iter(metadata.storage_data.values()))


def outside(path):

    def change(metadata):
        item(metadata).relative_path = path

    return change


def swapped(metadata):
    one, other = list(metadata.storage_data.values())[:2]
    other.offset = one.offset


def add(metadata, name, size, chunks, where):
    metadata.state_dict_metadata[name] = records.TensorStorageMetadata(
        records.TensorProperties(), torch.Size(size), [
            records.ChunkStorageMetadata(torch.Size(a), torch.Size(b))
            for a, b in chunks
        ])
    for (offsets, _), (file, start, length) in zip(chunks, where):
        metadata.storage_data[records.MetadataIndex(
            name, offsets)] = filesystem._StorageInfo(file, start, length)


HUGE = 1 << 40
CLAIMS = {
    'a_folder_above':
    outside('../secret'),
    'an_absolute_path':
    outside('/etc/passwd'),
    'a_folder_below':
    outside('a/b'),
    'no_path':
    outside(''),
    'the_folder_above':
    outside('..'),
    'a_zero_in_it':
    outside('a\0b'),
    'a_path_of_a_class':
    lambda metadata: outside(pathlib.PurePosixPath('/etc/passwd'))(metadata),
    'a_missing_file':
    outside('__9_0.distcp'),
    'beyond_the_file':
    lambda metadata: setattr(item(metadata), 'length', HUGE),
    'before_the_file':
    lambda metadata: setattr(item(metadata), 'offset', -1),
    'offset_beyond_64_bits':
    lambda metadata: setattr(item(metadata), 'offset', 1 << 70),
    'an_offset_that_is_no_number':
    lambda metadata: setattr(item(metadata), 'offset', 1.5),
    'two_in_one_place':
    swapped,
    'a_huge_size':
    lambda metadata: add(metadata, 'state_dict.x', (HUGE, ), [(
        (0, ), (HUGE, ))], [('__0_0.distcp', 0, 64)]),
    'a_huge_product':
    lambda metadata: add(metadata, 'state_dict.x', (HUGE, ) * 60, [(
        (0, ) * 60, (HUGE, ) * 60)], [('__0_0.distcp', 0, 64)]),
    'too_many_dimensions':
    lambda metadata: add(metadata, 'state_dict.x', (1, ) * 65, [(
        (0, ) * 65, (1, ) * 65)], [('__0_0.distcp', 0, 64)]),
    'a_gap':
    lambda metadata: first(metadata).chunks.pop(),
    'another_size':
    lambda metadata: setattr(first(metadata), 'size', torch.Size((3, 3))),
    'a_type_that_is_larger':
    lambda metadata: setattr(
        first(metadata).properties, 'dtype', torch.float64),
    'a_type_of_the_same_size':
    lambda metadata: setattr(first(metadata).properties, 'dtype', torch.int32),
    'packed_by_an_extension':
    lambda metadata: setattr(
        item(metadata), 'transform_descriptors', ['zstd']),
    'no_place':
    lambda metadata: metadata.storage_data.pop(
        next(iter(metadata.storage_data))),
    'a_place_of_nothing':
    lambda metadata: metadata.storage_data.update(
        {records.MetadataIndex('state_dict.evil', (0, )): item(metadata)}),
    'no_storage_data':
    lambda metadata: setattr(metadata, 'storage_data', None),
}


@pytest.mark.parametrize('claim', sorted(CLAIMS))
def test_a_claim_that_is_not_so_is_damage(tmp_path, good, claim):
    (tmp_path / 'secret').write_bytes(good['__0_0.distcp'])
    metadata = metadata_of(good)
    CLAIMS[claim](metadata)
    found = outcomes(tmp_path, good, pickle.dumps(metadata))
    assert 'ok' not in found.values()
    assert set(found.values()) <= {'CorruptError', 'UnsafeCheckpointError'}


def test_overlapping_chunks_are_damage(tmp_path, good):
    metadata = metadata_of(good)
    where = [('__0_0.distcp', 0, 0)] * 2
    add(metadata, 'state_dict.x', (4, ), [((0, ), (2, )), ((1, ), (2, ))],
        where)
    found = outcomes(tmp_path, good, pickle.dumps(metadata))
    assert set(found.values()) == {'CorruptError'}


def test_many_chunks_are_not_compared_for_ever(tmp_path, good):
    """Of thin boxes that all begin at different places of each dimension."""
    metadata = metadata_of(good)
    count = 8000
    chunks = [((0, index), (count, 1)) if index % 2 else
              ((index, 0), (1, count)) for index in range(count)]
    add(metadata, 'state_dict.x', (count, count), chunks,
        [('__0_0.distcp', 0, 1 << 40)] * count)
    found = outcomes(tmp_path, good, pickle.dumps(metadata))
    assert set(found.values()) <= {'CorruptError', 'UnsafeCheckpointError'}


def test_metadata_that_fill_the_memory_are_refused(tmp_path, good):
    found = outcomes(tmp_path, good, b'\x80\x04' + b']' * (12 << 20) + b'.')
    assert set(found.values()) == {'UnsafeCheckpointError'}


@pytest.mark.parametrize('content', [b'', b'.', b'\x80\x04N.', b'garbage'])
def test_what_is_no_metadata_is_damage(tmp_path, good, content):
    found = outcomes(tmp_path, good, content)
    assert set(found.values()) <= {'CorruptError', 'UnsafeCheckpointError'}


def test_a_manifest_leads_nowhere_else(tmp_path, good):
    """It names files, and may name them as it likes."""
    for name in ('../a', '/etc/passwd', 'a/b', '..', ''):
        files = dict(good)
        text = files[MANIFEST_NAME].decode().replace('__0_0.distcp', name)
        at = tmp_path / str(len(list(tmp_path.iterdir()))) / NAME
        at.mkdir(parents=True)
        files[MANIFEST_NAME] = text.encode()
        for file, content in files.items():
            (at / file).write_bytes(content)
        with pytest.raises(CheckpointError, match='manifest.json is damaged'):
            verify_checkpoint(str(at))
    assert open_backend(str(tmp_path))


def test_an_item_that_runs_code_is_refused(tmp_path, good):
    """The tensors' own pickles are the other way in."""
    metadata = metadata_of(good)
    found = item(metadata)
    evil = pickle.dumps(Payload(os.system, 'touch evil'), 2)
    content = good[found.relative_path]
    start = content.index(b'data.pkl', found.offset)
    assert start < found.offset + found.length
    files = dict(good)
    # its CRC-32 and digest tell; a hostile writer would make them fit
    files[found.relative_path] = content[:start +
                                         64] + evil + content[start + 64 +
                                                              len(evil):]
    assert len(files[found.relative_path]) == len(content)
    result = outcomes(tmp_path, files, good[METADATA_NAME])
    assert 'ok' not in result.values()
