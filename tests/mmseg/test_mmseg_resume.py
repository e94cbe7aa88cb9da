"""Killed with SIGKILL and started again, by the unmodified tool."""
import os

import pytest
import torch
from mmseg_scenarios import KILL_FROM, MAX_ITERS, fingerprint
from mmseg_tool import on_disk, read_catalog

from mmcv_ckpt_hooks import verify_checkpoint

pytestmark = pytest.mark.mmseg
RUNS = ('killed_amp', 'killed_stock', 'resumed_amp', 'resumed_stock',
        'resumed_from', 'loaded_by_amp', 'loaded_by_stock',
        'mmcv_alone_resumed')

both = pytest.mark.parametrize('kind', ['amp', 'stock'])


@both
def test_killed_in_the_middle(runs, kind):
    run = runs[f'killed_{kind}']
    assert KILL_FROM <= on_disk(run.work_dir)[-1] < MAX_ITERS - 10
    assert max(run.training()) < MAX_ITERS - 10


@both
def test_what_a_kill_leaves_verifies(runs, kind):
    work_dir = runs[f'killed_{kind}'].work_dir
    for path in work_dir.glob('*.pth'):
        verify_checkpoint(str(path))
    assert (work_dir / 'latest.pth').exists()


def test_kill_before_the_commit_leaves_no_checkpoint(runs):
    work_dir = runs['killed_stock'].work_dir
    name = f'iter_{KILL_FROM + 4}.pth'
    assert not (work_dir / name).exists()
    written, = work_dir.glob(f'.{name}*')
    assert written.suffix != '.pth'
    assert on_disk(work_dir)[-1] == KILL_FROM


@both
def test_goes_on_where_the_newest_checkpoint_is(runs, kind):
    run = runs[f'resumed_{kind}']
    newest = on_disk(runs[f'killed_{kind}'].work_dir)[-1]
    said, = run.lines('Resumed from')
    assert f'iter_{newest}.pth' in said
    assert list(run.training()) == list(range(newest + 1, MAX_ITERS + 1))


@both
def test_every_iteration_is_an_optimizer_step(runs, kind):
    checkpoint = torch.load(runs[f'resumed_{kind}'].work_dir /
                            f'iter_{MAX_ITERS}.pth')
    assert checkpoint['meta']['iter'] == MAX_ITERS
    assert {
        int(state['step'])
        for state in checkpoint['optimizer']['state'].values()
    } == {MAX_ITERS}


@both
def test_learning_rate_goes_on(runs, kind):
    for run in runs[f'killed_{kind}'], runs[f'resumed_{kind}']:
        for iteration, line in run.training().items():
            left = 1 - (iteration - 1) / MAX_ITERS
            assert line['lr'] == pytest.approx(
                (0.02 - 1e-4) * left**0.9 + 1e-4, abs=1e-5)


@both
def test_loss_goes_on(runs, kind):
    """What was learnt is there: it does not start at ln(2) again."""
    trained = list(runs[f'resumed_{kind}'].training().values())
    assert all(line['loss'] < 0.4 for line in trained)


@both
def test_best_score_is_kept(runs, kind):
    killed, run = runs[f'killed_{kind}'], runs[f'resumed_{kind}']
    before = killed.catalog['best']['mIoU']
    after = run.catalog['best']['mIoU']
    scores = {**killed.scores(), **run.scores()}
    assert after['score'] == pytest.approx(max(scores.values()), abs=1e-4)
    assert after['score'] > before['score'] or after == before
    assert all(score > before['score'] for score in best_scores_announced(run))
    assert [path.name for path in run.work_dir.glob('best_*')] == \
        [after['name']]
    newest = torch.load(run.work_dir / f'iter_{MAX_ITERS}.pth')
    messages = newest['meta']['hook_msgs']
    assert messages['best_score'] >= before['score']


@both
def test_retention_is_right_across_the_resume(runs, kind):
    run = runs[f'resumed_{kind}']
    best = run.catalog['best']['mIoU']['name']
    assert run.names() == {
        *[f'iter_{step}.pth' for step in (MAX_ITERS - 8, MAX_ITERS - 4)],
        f'iter_{MAX_ITERS}.pth', best
    }
    assert os.readlink(run.work_dir / 'latest.pth') == f'iter_{MAX_ITERS}.pth'


@both
def test_every_file_verifies_and_is_listed(runs, kind):
    run = runs[f'resumed_{kind}']
    for path in run.work_dir.glob('*.pth'):
        verify_checkpoint(str(path))
    assert set(run.catalog['checkpoints']) == run.names()


@both
def test_it_stays_one_run(runs, kind):
    """The lineage is kept, so that its own old files may be deleted."""
    killed, run = runs[f'killed_{kind}'], runs[f'resumed_{kind}']
    assert run.catalog['lineage'] == killed.catalog['lineage']
    for path in run.checkpoints():
        state = torch.load(path)['resume_state']
        assert state['lineage'] == killed.catalog['lineage']


def best_scores_announced(run):
    mark = 'Best mIoU is '
    return [float(line.split(mark)[1].split()[0]) for line in run.lines(mark)]


def test_alone_a_stock_runner_cannot_resume_without_a_gpu(runs):
    run = runs['mmcv_alone_resumed']
    assert run.lines('torch.cuda.current_device()')
    assert run.lines('in resume')


class TestResumeFrom:
    """``--resume-from FILE``, which is not the newest of its directory."""

    def test_starts_after_that_file(self, runs):
        run = runs['resumed_from']
        step = int(run.source.stem[5:])
        assert step < on_disk(run.source.parent)[-1]
        assert list(run.training()) == list(range(step + 1, MAX_ITERS + 1))

    def test_leaves_the_original_alone(self, runs):
        run = runs['resumed_from']
        assert run.work_dir != run.source.parent
        assert fingerprint(run.source.parent) == run.source_directory_before

    def test_is_a_continuation_of_the_run(self, runs):
        run = runs['resumed_from']
        assert run.catalog['lineage'] == \
            read_catalog(run.source.parent)['lineage']
        last = {f'iter_{MAX_ITERS - back}.pth' for back in (8, 4, 0)}
        assert {name
                for name in run.names()
                if not name.startswith('best_')} == last

    def test_best_score_is_that_of_the_file(self, runs):
        run = runs['resumed_from']
        before = torch.load(run.source)['meta']['hook_msgs']['best_score']
        announced = best_scores_announced(run)
        assert all(score > before for score in announced)
        end = torch.load(run.work_dir / f'iter_{MAX_ITERS}.pth')
        assert end['meta']['hook_msgs']['best_score'] == pytest.approx(
            max([before, *announced]), abs=1e-4)
        assert len(list(run.work_dir.glob('best_*.pth'))) == \
            bool(announced)


@pytest.mark.parametrize('name', ['loaded_by_amp', 'loaded_by_stock'])
def test_load_from_takes_only_the_weights(runs, name):
    """The learning rate is 0: it ends with the weights it began with."""
    run = runs[name]
    assert list(run.training()) == [1, 2]
    source = torch.load(run.source, weights_only=False)
    end = torch.load(run.work_dir / 'iter_2.pth')
    parameters = {
        key: value
        for key, value in source['state_dict'].items()
        if key.endswith(('weight', 'bias'))
    }
    assert len(parameters) > 10
    for key, value in parameters.items():
        assert torch.equal(end['state_dict'][key], value), key
    for state in end['optimizer']['state'].values():
        assert int(state['step']) == 2
    lineage = source.get('resume_state', {}).get('lineage')
    assert end['resume_state']['lineage'] != lineage
