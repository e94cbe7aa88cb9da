"""Sharded checkpoints, read by several real ranks."""
import json
import shutil

import pytest
import torch
from doc_blocks import logged
from doc_output import missing_line
from folder_worker import Counted
from folders import (FSDP2, NEW_TORCH, build_folder, folder_of_file, names_of,
                     with_another_value)
from launching import run_to_the_end
from toy import ToyModel, train
from zero_worker import digest_of

pytestmark = NEW_TORCH


def save(directory, model=None, optimizer=None):
    runner = train(
        directory,
        model=model,
        optimizer=optimizer,
        runner=dict(type='IterBasedRunnerAmp', max_iters=4),
        hooks=[dict(type='DurableCheckpointHook', interval=4)])
    folder = folder_of_file(
        directory / 'iter_4.pth',
        directory / 'iter_4.dcp',
        names_of(runner.model, runner.optimizer),
        ranks=3)
    return directory / 'iter_4.pth', folder


@pytest.fixture(scope='module')
def saved(tmp_path_factory):
    """A file, and what three ranks would have written of it."""
    return save(tmp_path_factory.mktemp('saved'))


def ranks_of(source, work_dir, scene, world_size):
    ranks = run_to_the_end(
        'folder_worker.py', source, work_dir, scene, world_size=world_size)
    for rank in ranks:
        assert rank.returncode == 0, rank.output[-3000:]
    line = [one for one in ranks[0].output.splitlines() if 'RESULT' in one][0]
    return json.loads(line.partition('RESULT ')[2])


@pytest.mark.parametrize('world_size', [1, 2, 4])
def test_any_number_of_ranks_trains_on_as_from_the_file(
        saved, tmp_path, world_size):
    file, folder = saved
    expected = ranks_of(file, tmp_path / 'file', 'train', world_size)
    found = ranks_of(folder, tmp_path / 'folder', 'train', world_size)
    for one, other in zip(found, expected):
        assert one['restored'] == 'iter_4.dcp' and one['iter'] == 8
        assert one == dict(other, restored='iter_4.dcp')


def test_a_run_of_four_ranks_goes_on_with_two_and_with_one(tmp_path):
    four = ranks_of('', tmp_path, 'auto-4', 4)
    for world_size in (2, 1):
        # nothing is left to train
        found = ranks_of('', tmp_path, 'auto-4', world_size)
        for one in found:
            assert one['restored'] == 'iter_4.dcp'
            assert one['model'] == four[0]['model']
            assert one['optimizer'] == four[0]['optimizer']


def test_the_same_ranks_go_on_with_the_same_bits(tmp_path):
    whole = ranks_of('', tmp_path / 'whole', 'auto-8', 2)
    ranks_of('', tmp_path / 'cut', 'auto-4', 2)
    resumed = ranks_of('', tmp_path / 'cut', 'auto-8', 2)
    for one, other in zip(resumed, whole):
        assert one == dict(other, restored='iter_4.dcp')


@FSDP2
@pytest.mark.parametrize('scene, world_size', [('fsdp', 1), ('fsdp', 2),
                                               ('fsdp', 4), ('columns', 2)])
def test_each_rank_of_sharded_weights_takes_its_part(saved, tmp_path, scene,
                                                     world_size):
    file, folder = saved
    content = torch.load(str(file), weights_only=True)
    found = ranks_of(folder, tmp_path / scene, scene, world_size)
    assert len(found) == world_size
    for one in found:
        assert one['iter'] == 4
        assert one['part'] == 'DTensor' and one['held'] == 16 // world_size
        assert one['model'] == digest_of(dict(content['state_dict']))
        assert one['optimizer'] == digest_of(content['optimizer']['state'])


@pytest.mark.parametrize('world_size', [1, 2])
def test_what_fsdp_has_flattened_is_filled(saved, tmp_path, world_size):
    file, folder = saved
    content = torch.load(str(file), weights_only=True)
    for one in ranks_of(folder, tmp_path, 'flat', world_size):
        assert one['iter'] == 4 and one['lr'] == 0.01
        assert one['model'] == digest_of(dict(content['state_dict']))
        assert one['optimizer'] == digest_of(content['optimizer']['state'])


def test_what_an_optimizer_has_in_numbers_is_restored_into_fsdp(tmp_path):
    model = ToyModel()
    file, folder = save(tmp_path / 'saved', model,
                        Counted(model.parameters(), lr=0.01))
    content = torch.load(str(file), weights_only=True)
    for one in ranks_of(folder, tmp_path, 'flat-counted', 2):
        assert one['steps'] == [4.] * 6
        assert one['optimizer'] == digest_of(content['optimizer']['state'])


def test_what_does_not_fit_fsdp_leaves_no_state_behind(tmp_path):
    """torch has the optimizer take a first step, to tell what it keeps."""
    model = ToyModel()
    _, folder = save(tmp_path / 'saved', model,
                     Counted(model.parameters(), lr=0.01))
    for one in ranks_of(folder, tmp_path, 'flat-refused', 2):
        assert 'exp_avg is missing' in one['text']
        assert one['same'] and one['held'] == 0


def test_a_folder_without_an_optimizer_into_fsdp_is_warned_of(saved, tmp_path):
    content = torch.load(str(saved[0]), weights_only=True)
    del content['optimizer']
    folder = build_folder(tmp_path / 'iter_4.dcp', content, {})
    [one] = ranks_of(folder, tmp_path, 'flat', 1)
    assert one['model'] == digest_of(dict(content['state_dict']))
    assert any('holds no optimizer state' in said for said in one['said'])


def test_an_optimizer_that_is_spread_takes_its_part(saved, tmp_path):
    file, folder = saved
    content = torch.load(str(file), weights_only=True)
    first, _ = ranks_of(folder, tmp_path, 'zero', 2)
    assert first['optimizer'] == digest_of(content['optimizer']['state'])


def test_a_rank_that_does_not_see_the_folder_says_so(saved, tmp_path):
    first, second = ranks_of(saved[1], tmp_path, 'away', 2)
    assert second['error'] == 'MissingCheckpointError'
    assert '/not/mounted/iter_4.dcp' in second['text']
    # nobody has waited, and nothing was changed
    assert first['error'] == 'ResumeError' and first['same']
    assert 'failed on rank 1' in first['text']
    said, = logged('docs/sharded-reading.md', __file__)
    assert missing_line(
        said, f'{second["error"]}: {second["text"]}\n'
        f'{first["error"]}: {first["text"]}') is None


def test_damage_is_found_by_one_rank_and_stops_all(saved, tmp_path):
    folder = shutil.copytree(saved[1], tmp_path / 'iter_4.dcp')
    for name in ('__0_0.distcp', '__1_0.distcp', '__2_0.distcp', 'rest.zip'):
        path = folder / name
        content = path.read_bytes()
        path.write_bytes(with_another_value(content))
        found = ranks_of(folder, tmp_path / name, 'damaged', 2)
        path.write_bytes(content)
        assert all(one['error'] and one['same'] for one in found)
        # the rank that checks that file, and the others
        assert 'CorruptError' in [one['error'] for one in found]
        assert all(name in one['text'] for one in found)
