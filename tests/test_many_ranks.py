"""What is promised to many ranks, on real ones: docs/many-ranks.md."""
import json
import signal

import pytest
from folders import NEW_TORCH
from launching import launch, run_to_the_end
from torch import distributed as dist
from toy import names, train

from mmcv_ckpt_hooks import verify_checkpoint

both = pytest.mark.parametrize(
    'form', ['pth', pytest.param('dcp', marks=NEW_TORCH)])


def run(work_dir, scene, world_size=2, **given):
    """Run ranks to their end, and return what each of them tells."""
    ranks = run_to_the_end(
        'many_ranks_worker.py',
        work_dir,
        json.dumps(dict(given, scene=scene)),
        world_size=world_size)
    for rank in ranks:
        assert rank.returncode == 0, rank.output[-3000:]
    return json.loads(
        ranks[0].output.partition('RESULT ')[2].partition('\n')[0])


def broken(work_dir, scene, **given):
    """Run two ranks of which at least one fails; return both."""
    return run_to_the_end('many_ranks_worker.py', work_dir,
                          json.dumps(dict(given, scene=scene)))


@both
@pytest.mark.parametrize('world_size', [2, 4])
def test_no_rank_waits_for_a_write(tmp_path, form, world_size):
    """What iteration 2 saves is written when all have finished the fifth."""
    run(tmp_path,
        'slow disks',
        world_size,
        options=dict(format=form, interval=100, triggers=dict(at=[2])))
    for step in (2, 6):
        verify_checkpoint(str(tmp_path / f'iter_{step}.{form}'))


@pytest.mark.parametrize('given', [
    dict(),
    dict(evaluates=True),
    dict(optimizer='zero'),
    dict(options=dict(sync_buffer=True, triggers=dict(secs=1e-9))),
    pytest.param(dict(options=dict(format='dcp')), marks=NEW_TORCH),
])
def test_collectives_are_those_of_all_ranks_on_the_training_thread(
        tmp_path, given):
    """In the same order, or a rank would wait for another one."""
    told = run(tmp_path, 'collectives', **given)
    first, other = [one['noted'] for one in told]
    assert first == other
    assert len(first) > 10 and all(on_thread for _, on_thread in first)


def test_a_full_disk_of_the_writer_costs_one_save(tmp_path):
    told = run(tmp_path, 'full disk')
    assert names(tmp_path) == ['iter_2.pth', 'iter_6.pth', 'latest.pth']
    assert 'iter_4.pth was not saved (OSError: [Errno 28]' in told[0]['log']


def test_a_rank_that_is_killed_does_not_take_the_save_along(tmp_path):
    ranks = broken(tmp_path, 'other killed')
    assert ranks[0].returncode != 0, ranks[0].output[-3000:]
    assert ranks[1].returncode == -signal.SIGKILL
    assert 'iter_4.pth' in names(tmp_path)
    for name in names(tmp_path):
        verify_checkpoint(str(tmp_path / name))


def test_a_writer_that_is_killed_leaves_no_half_checkpoint(tmp_path):
    ranks = broken(tmp_path, 'writer killed')
    assert ranks[0].returncode == -signal.SIGKILL
    assert ranks[1].returncode != 0, ranks[1].output[-3000:]
    assert names(tmp_path) == ['iter_2.pth', 'latest.pth']
    verify_checkpoint(str(tmp_path / 'iter_2.pth'))


def test_a_rank_that_is_stopped_does_not_keep_the_writer(tmp_path):
    ranks = launch('many_ranks_worker.py', tmp_path,
                   json.dumps(dict(scene='other stopped')))
    for line in ranks[0].stdout:
        if 'Saved checkpoint iter_4.pth' in line:
            break
    verify_checkpoint(str(tmp_path / 'iter_4.pth'))
    ranks[1].send_signal(signal.SIGCONT)
    for rank in ranks:
        rank.communicate(timeout=120)
        assert rank.returncode == 0


@pytest.mark.parametrize('scene', ['dies at a save', 'stops at a save'])
def test_a_rank_that_does_not_come_to_a_save_is_named(tmp_path, scene):
    """Within a deadline; what was trained until then is saved without it."""
    ranks = launch('many_ranks_worker.py', tmp_path,
                   json.dumps(dict(scene=scene, commit_secs=3)))
    output, _ = ranks[0].communicate(timeout=120)
    ranks[1].kill()
    ranks[1].communicate()
    assert ranks[0].returncode not in (0, None), output[-3000:]
    assert 'RuntimeError: rank 1 has not come to a save of all ranks' in output
    assert names(tmp_path) == ['iter_2.pth', 'iter_4.pth', 'latest.pth']
    assert 'the state after 4 iterations is in iter_4.pth, with the ' \
        'generators of this rank only' in output


@pytest.mark.parametrize('has_store', [True, False])
@pytest.mark.parametrize('scene', ['dies at a save', 'stops at a save'])
def test_the_others_end_when_rank_0_does_not_come_to_a_save(
        tmp_path, scene, has_store):
    """Also where it has the store, which alone could name it."""
    store = None if has_store else dist.TCPStore(
        '127.0.0.1', 0, is_master=True, wait_for_workers=False)
    ranks = launch(
        'many_ranks_worker.py',
        tmp_path,
        json.dumps(dict(scene=scene, struck=0, commit_secs=3)),
        world_size=4,
        store_port=store and store.port)
    try:
        for rank in ranks[1:]:
            output, _ = rank.communicate(timeout=300)
            assert rank.returncode not in (0, None), output[-3000:]
            told = output.rpartition('RuntimeError: ')[2]
            expected = "the store of torch.distributed, which rank 0 or " \
                'torchrun has, does not answer' if has_store else \
                'rank 0 has not come to a save of all ranks'
            assert expected in told, output[-3000:]
    finally:
        for rank in ranks:
            rank.kill()
            rank.communicate()
    # rank 0 may have been stopped while it wrote the one before
    assert 'iter_4.pth' not in names(tmp_path)


def test_ranks_that_would_go_on_from_different_steps_are_refused(tmp_path):
    """As a tool has it that looks for the newest on a disk of its own."""
    train(
        tmp_path / 'saved',
        runner=dict(type='IterBasedRunnerAmp', max_iters=4),
        hooks=[dict(type='DurableCheckpointHook', interval=2)])
    saved = str(tmp_path / 'saved' / 'iter_4.pth')
    ranks = broken(tmp_path / 'run', 'resume', **{'from': [saved, None]})
    assert [one.returncode for one in ranks] == [1, 1]
    for rank in ranks:
        assert f'ResumeError: the ranks do not go on from the same ' \
            f'checkpoint: rank 0 from {saved} at 4 iterations; rank 1 ' \
            'without a checkpoint at 0 iterations' in rank.output


def test_a_rank_that_does_not_see_the_file_is_named(tmp_path):
    own = [str(tmp_path / f'node_{rank}' / 'run') for rank in range(2)]
    given = dict(work_dirs=own, options=dict(resume='auto'))
    run(tmp_path, 'nothing', **given)
    ranks = broken(tmp_path, 'nothing', **given)
    assert [one.returncode for one in ranks] == [1, 1]
    assert 'ResumeError: resuming failed on rank 1: MissingCheckpointError' \
        in ranks[0].output
    assert f'{own[1]}/iter_6.pth' in ranks[1].output
