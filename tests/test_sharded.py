"""Checkpoints that all ranks write: real ranks on gloo, and torch's reader."""
import json
import os

import pytest
import torch
from folders import FSDP2
from launching import launch, run_to_the_end
from toy import ToyModel, make_runner, train

from mmcv_ckpt_hooks import verify_checkpoint
from mmcv_ckpt_hooks.errors import ConfigError
from mmcv_ckpt_hooks.storage.local import LocalBackend
from mmcv_ckpt_hooks.verification import verify_file

# torch >= 2.3
format_utils = pytest.importorskip('torch.distributed.checkpoint.format_utils')
dcp = pytest.importorskip('torch.distributed.checkpoint')


def run(directory, world_size=2, **given):
    """Run ranks; return what rank 0 tells of all of them."""
    ranks = run_to_the_end(
        'sharded_worker.py',
        directory,
        json.dumps(given),
        world_size=world_size)
    for rank in ranks:
        assert rank.returncode == 0, rank.output[-3000:]
    lines = ranks[0].output.splitlines()
    line = [line for line in lines if 'RESULT' in line][0]
    return json.loads(line.partition('RESULT ')[2])


def run_shattered(directory, world_size=2, **given):
    """Run ranks of which one is killed, or stopped until rank 0 says so.

    Returns:
        tuple: The exit status of rank 0, and what it has written.
    """
    ranks = launch(
        'sharded_worker.py',
        directory,
        json.dumps(given),
        world_size=world_size)
    said = []
    try:
        for line in ranks[0].stdout:
            said.append(line)
            if 'was not saved' in line:
                break
        # the others are in a collective, which waits for it
        ranks[given['fault']['rank']].kill()
        said += ranks[0].communicate(timeout=180)[0]
    finally:
        for rank in ranks:
            rank.kill()
            rank.wait()
            rank.stdout.close()
    return ranks[0].returncode, ''.join(said)


def folders(directory):
    return sorted(
        name for name in os.listdir(directory)
        if name.endswith('.dcp') and name != 'latest.dcp')


def committed(directory):
    """What a listing has of them."""
    return [
        file.name for file in LocalBackend(str(directory)).list()
        if file.name.endswith('.dcp')
    ]


def metadata_of(folder):
    return dcp.FileSystemReader(str(folder)).read_metadata()


def plain(folder, tmp_path):
    """Convert a folder with torch's own tool."""
    path = tmp_path / 'plain.pth'
    format_utils.dcp_to_torch_save(str(folder), str(path))
    return torch.load(path)


def sharded(**options):
    return [dict(type='DurableCheckpointHook', format='dcp', **options)]


def test_one_process_writes_what_torch_reads(tmp_path):
    work_dir = tmp_path / 'run'
    runner = train(
        work_dir, checkpoint_config=dict(interval=4), hooks=sharded())
    assert committed(work_dir) == ['iter_4.dcp', 'iter_8.dcp']
    assert os.readlink(work_dir / 'latest.dcp') == 'iter_8.dcp'
    state = dict(state_dict=ToyModel().state_dict())
    dcp.load(state, checkpoint_id=str(work_dir / 'iter_8.dcp'))
    for name, value in runner.model.state_dict().items():
        assert torch.equal(state['state_dict'][name], value), name
    found = plain(work_dir / 'iter_8.dcp', tmp_path)
    assert sorted(found['optimizer']['state']['last.bias']) == [
        'exp_avg', 'exp_avg_sq', 'step'
    ]
    with open(work_dir / 'iter_8.dcp' / 'rest.zip', 'rb') as file:
        report = verify_file(file, 'rest.zip')
    assert report.info['name'] == 'iter_8.dcp' and report.info['iter'] == 8
    rest = torch.load(work_dir / 'iter_8.dcp' / 'rest.zip')
    assert rest['optimizer']['param_names'][0] == 'first.weight'
    assert rest['optimizer']['param_groups'][0]['params'] == [*range(6)]


def test_the_manifest_has_every_file(tmp_path):
    train(tmp_path, checkpoint_config=dict(interval=8), hooks=sharded())
    folder = tmp_path / 'iter_8.dcp'
    content = (folder / 'manifest.json').read_bytes()
    files = json.loads(content)['files']
    assert sorted(files) == ['.metadata', '__0_0.distcp', 'rest.zip']
    for name, told in files.items():
        data = (folder / name).read_bytes()
        assert told['bytes'] == len(data)
        if name == '.metadata':
            assert told['digest'] == f'sha256:{sha256(data)}'
    # what is written is what is read
    verify_checkpoint(str(folder))
    entry = catalog(tmp_path)[0]
    assert entry['digest'] == f'sha256-manifest:{sha256(content)}'
    assert entry['bytes'] == sum(path.stat().st_size
                                 for path in folder.iterdir())


def sha256(data):
    import hashlib
    return hashlib.sha256(data).hexdigest()


def catalog(directory):
    return json.loads(
        (directory / 'checkpoints.json').read_text())['checkpoints']


def test_retention_and_a_lost_catalog_know_folders(tmp_path):
    options = dict(
        checkpoint_config=dict(interval=2, max_keep_ckpts=2), hooks=sharded())
    train(tmp_path, **options)
    assert folders(tmp_path) == ['iter_6.dcp', 'iter_8.dcp']
    before = catalog(tmp_path)
    (tmp_path / 'checkpoints.json').unlink()
    (tmp_path / 'iter_3.dcp').mkdir()  # of a save that was killed
    (tmp_path / 'iter_3.dcp' / '__0_0.distcp').write_bytes(b'half')
    (tmp_path / 'iter_3.dcp' / 'writing').write_bytes(b'token')
    runner = make_runner(tmp_path, **options)
    runner.call_hook('before_run')
    assert folders(tmp_path) == ['iter_6.dcp', 'iter_8.dcp']
    known = next(hook for hook in runner.hooks if hasattr(hook, 'drain'))
    assert [(info.name, info.iter, info.digest, info.bytes)
            for info in known._saver.catalog.checkpoints()] == \
        [(one['name'], one['iter'], one['digest'], one['bytes'])
         for one in before]
    known.drain(runner)


def test_a_save_best_is_refused_and_says_what_does_it(tmp_path):
    with pytest.raises(ConfigError, match="keep=dict.best=1, monitor='mIoU'"):
        train(
            tmp_path,
            evaluation=dict(scores=[0.5], by_epoch=False, save_best='mIoU'),
            hooks=sharded())


def test_the_best_is_kept_by_its_score(tmp_path):
    train(
        tmp_path,
        checkpoint_config=dict(interval=2),
        evaluation=dict(
            scores=[0.5, 0.9, 0.1, 0.2], interval=2, by_epoch=False),
        hooks=sharded(keep=dict(best=1, last=1, monitor='mIoU')))
    assert folders(tmp_path) == ['iter_4.dcp', 'iter_8.dcp']


@pytest.mark.parametrize('world_size', [2, 4])
def test_ranks_write_each_tensor_once_and_share_the_bytes(
        tmp_path, world_size):
    run(tmp_path / 'run', world_size, steps=4)
    folder = tmp_path / 'run' / 'iter_4.dcp'
    stored = metadata_of(folder).storage_data
    names = [index.fqn for index in stored]
    assert len(names) == len(set(names)) and len(names) > 20
    writers = {info.relative_path for info in stored.values()}
    assert writers == {f'__{rank}_0.distcp' for rank in range(world_size)}
    # buffers differ from rank to rank: those of rank 0 go together
    assert {
        info.relative_path
        for index, info in stored.items() if 'running_' in index.fqn
    } == {'__0_0.distcp'}
    found = plain(folder, tmp_path)
    model = ToyModel(width=64)
    model.load_state_dict(found['state_dict'])
    rest = torch.load(folder / 'rest.zip')
    assert rest['resume_state']['world_size'] == world_size
    assert len(rest['resume_state']['rng']) == world_size


def test_a_run_that_goes_on_from_it_ends_with_the_same_bits(tmp_path):
    whole = run(tmp_path / 'whole', steps=8)
    run(tmp_path / 'cut', steps=4)
    resumed = run(
        tmp_path / 'cut', steps=8, load=str(tmp_path / 'cut' / 'iter_4.dcp'))
    assert resumed['model'] == whole['model']
    assert resumed['optimizer'] == whole['optimizer']


@pytest.mark.parametrize('scene', [pytest.param('fsdp2', marks=FSDP2), 'fsdp'])
def test_what_is_sharded_stays_so(tmp_path, scene):
    whole = run(tmp_path / 'whole', 2, steps=8, scene=scene)
    run(tmp_path / 'cut', 2, steps=4, scene=scene)
    metadata = metadata_of(tmp_path / 'cut' / 'iter_4.dcp')
    weight = metadata.state_dict_metadata['state_dict.first.weight']
    assert len(weight.chunks) == 2
    moment = 'optimizer.state.first.weight.exp_avg'
    assert len(metadata.state_dict_metadata[moment].chunks) == 2
    resumed = run(
        tmp_path / 'cut',
        2,
        steps=8,
        scene=scene,
        load=str(tmp_path / 'cut' / 'iter_4.dcp'))
    assert resumed['model'] == whole['model']


@pytest.mark.parametrize('rank', [0, 1])
def test_a_place_that_one_rank_cannot_read_is_refused_on_all(tmp_path, rank):
    ranks = run_to_the_end(
        'sharded_worker.py', tmp_path,
        json.dumps(dict(steps=2, refused=dict(verb='open', rank=rank))))
    assert [one.returncode for one in ranks] == [1, 1]
    assert 'AccessError: cannot open checkpoints.probe' in ranks[rank].output
    assert f'failed on rank {rank}: AccessError: cannot open' in \
        ranks[1 - rank].output
    assert not (tmp_path / 'checkpoints.probe').exists()


def test_a_probe_that_cannot_be_removed_stops_nobody(tmp_path):
    run(tmp_path, steps=2, refused=dict(verb='delete', rank=0))
    assert committed(tmp_path) == ['iter_2.dcp']


@pytest.mark.parametrize('scene', [pytest.param('fsdp2', marks=FSDP2), 'fsdp'])
def test_a_signal_saves_no_parts_when_the_other_ranks_are_gone(
        tmp_path, scene):
    ranks = run_to_the_end('sharded_worker.py', tmp_path,
                           json.dumps(dict(steps=6, scene=scene, alone_at=2)))
    first, other = [one.output for one in ranks]
    assert [one.returncode for one in ranks] == [143, 143], first[-3000:]
    assert 'iter_3.dcp was not saved (CheckpointError: parts of the model ' \
        'are on other ranks' in first
    assert 'was not saved' not in other
    assert committed(tmp_path) == ['iter_2.dcp']


def test_ranks_of_one_host_share_its_memory(tmp_path):
    given = dict(steps=2, width=4096)
    told = run(tmp_path / 'free', **given, memory=1 << 30)
    assert 'does not fit' not in ''.join(told['logs'])
    tensors = metadata_of(tmp_path / 'free' / 'iter_2.dcp')
    nbytes = sum(one.size.numel() * one.properties.dtype.itemsize
                 for one in tensors.state_dict_metadata.values())
    # the half of it would fit into what copies may take, but not twice
    told = run(tmp_path / 'full', **given, memory=int(0.9 * nbytes))
    for log in told['logs']:
        assert 'does not fit the available memory' in log
    assert committed(tmp_path / 'full') == ['iter_2.dcp']


def test_a_full_disk_on_one_rank_commits_nothing_and_the_next_save_works(
        tmp_path):
    """The error comes on a thread behind the writer's.

    torch's FileSystemWriter has lost such a one, and committed without the
    tensors of that thread.
    """
    told = run(tmp_path, steps=6, fault=dict(kind='full', rank=1, part=2))
    assert committed(tmp_path) == ['iter_2.dcp', 'iter_6.dcp']
    # what was left of it goes with the next save
    assert folders(tmp_path) == ['iter_2.dcp', 'iter_6.dcp']
    assert 'iter_4.dcp was not saved (OutOfSpaceError: rank 1 could not ' \
        'write its part' in told['logs'][0]
    assert 'iter_4.dcp was not saved (OutOfSpaceError' in told['logs'][1]


def test_room_is_made_for_the_part_of_another_rank(tmp_path):
    told = run(
        tmp_path,
        steps=6,
        fault=dict(kind='full', rank=1, part=3),
        options=dict(max_keep_ckpts=2))
    assert 'No space for iter_6.dcp: deleted iter_2.dcp' in told['logs'][0]
    assert 'was not saved' not in ''.join(told['logs'])
    assert committed(tmp_path) == ['iter_4.dcp', 'iter_6.dcp']


def test_ranks_end_when_the_one_that_commits_is_killed(tmp_path):
    ranks = run_to_the_end(
        'sharded_worker.py', tmp_path,
        json.dumps(dict(steps=6, fault=dict(kind='kill', rank=0, part=2))))
    assert [rank.returncode for rank in ranks] == [-9, 1]
    assert 'iter_4.dcp was not saved' in ranks[1].output
    assert committed(tmp_path) == ['iter_2.dcp']


@pytest.mark.parametrize('kind', ['stop', 'kill'])
def test_a_rank_that_falls_silent_in_its_part_commits_nothing(tmp_path, kind):
    status, said = run_shattered(
        tmp_path,
        steps=6,
        fault=dict(kind=kind, rank=1, part=2),
        options=dict(triggers=dict(exception=False)))
    assert 'rank 1 does not answer' in said
    assert status == 1, said[-3000:]
    assert committed(tmp_path) == ['iter_2.dcp']
    assert folders(tmp_path) == ['iter_2.dcp', 'iter_4.dcp']
    assert [one['name'] for one in catalog(tmp_path)] == ['iter_2.dcp']
    assert os.readlink(tmp_path / 'latest.dcp') == 'iter_2.dcp'
    # the next start removes it, and saves
    run(tmp_path, steps=2)
    assert folders(tmp_path) == ['iter_2.dcp']


def test_what_all_ranks_have_alike_is_saved_by_one_behind_an_exception(
        tmp_path):
    status, said = run_shattered(
        tmp_path, steps=6, fault=dict(kind='stop', rank=1, part=2))
    assert status == 1, said[-3000:]
    assert committed(tmp_path) == ['iter_2.dcp', 'iter_4.dcp']
    folder = tmp_path / 'iter_4.dcp'
    assert {
        info.relative_path
        for info in metadata_of(folder).storage_data.values()
    } == {'__0_0.distcp'}
    assert [one['trigger'] for one in catalog(tmp_path)] == \
        ['interval', 'exception']
