"""The configs of ConvNeXt, Swin, BEiT and UniFormer, with two lines more.

The repo is a stand-in (``repo/``): its tool imports ``mmcv_custom``, which
registers the names first, and calls ``apex.amp.initialize`` where there is an
apex. That is the shipped stub; the runs are processes of their own.
"""
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from checkpoint_files import equal
from doc_blocks import logged
from doc_output import missing_line
from mmcv import runner as mmcv_runner

import mmcv_ckpt_hooks
from mmcv_ckpt_hooks import verify_checkpoint

HERE = Path(__file__).parent
PACKAGE = Path(mmcv_ckpt_hooks.__file__).parent.parent
PLUGIN = '''
custom_imports = dict(imports=['mmcv_ckpt_hooks'], allow_failed_imports=False)
custom_hooks = [dict(type='DurableCheckpointHook', resume='auto')]
'''
KINDS = {
    'upernet_9_iters': 'iter_{}.pth',
    'mask_rcnn_3_epochs': 'epoch_{}.pth'
}
LAST = {'upernet_9_iters': 9, 'mask_rcnn_3_epochs': 3}


class Repo:
    """Runs the tool below one folder; see :meth:`run`."""

    def __init__(self, folder):
        self.folder = folder

    def run(self, name, config, *arguments, apex=False, more=PLUGIN, status=0):
        """Run the tool with a config of the repo and two lines of ours.

        Returns:
            str: What it printed; ``pytest -s`` shows it.
        """
        path = self.folder / f'{name}.py'
        base = HERE / 'repo' / f'{config}.py'
        path.write_text(f'_base_ = [{str(base)!r}]\n{more}')
        paths = [PACKAGE, HERE / 'repo'] + [HERE / 'stubs'] * apex
        done = subprocess.run(
            [
                sys.executable,
                str(HERE / 'repo' / 'train.py'),
                str(path), '--work-dir',
                str(self.folder / name), *map(str, arguments)
            ],
            env={
                **os.environ, 'PYTHONPATH': os.pathsep.join(map(str, paths)),
                'CUDA_VISIBLE_DEVICES': '',
                'OMP_NUM_THREADS': '1'
            },
            cwd=str(self.folder),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            universal_newlines=True,
            timeout=180)
        print(done.stdout)
        assert done.returncode == status, done.stdout
        return done.stdout

    def load(self, name, file):
        path = self.folder / name / file
        verify_checkpoint(str(path))
        return torch.load(str(path), map_location='cpu')


@pytest.fixture
def repo(tmp_path):
    return Repo(tmp_path)


def restored_line(said):
    line, = [
        line for line in said.splitlines() if line.startswith('Restored from')
    ]
    return line


def dying_at(iteration):
    """The two lines of ours, and an end with every save before it on disk."""
    return PLUGIN + f'''
custom_hooks[0].update(write=dict(background=False))
custom_hooks += [dict(type='DieHook', at={iteration})]
'''


@pytest.mark.parametrize('config', sorted(KINDS))
@pytest.mark.parametrize('apex', [True, False])
def test_a_config_of_the_family_runs_dies_and_goes_on(repo, config, apex):
    template, last = KINDS[config], LAST[config]
    whole = repo.run('whole', config, apex=apex)
    assert 'in the place of' in whole
    assert 'IterBasedRunnerAmp of mmcv_custom.apex_runner' in whole
    assert 'DistOptimizerHook of mmcv_custom.apex_runner' in whole
    told, = [
        line for line in whole.splitlines()
        if line.startswith('Mixed precision:')
    ]
    assert told == 'Mixed precision: apex.amp' if apex else \
        'torch autocast on cpu' in told
    cut = repo.run('cut', config, apex=apex, more=dying_at(7), status=9)
    resumed = repo.run('cut', config, '--seed', 5, apex=apex)
    for shown in logged('docs/family-logs.md', __file__):
        if template.format(last) in shown and apex == ('apex.amp\n' in shown):
            printed = f'{whole}{cut}{resumed}'.replace(f'{repo.folder}/',
                                                       'work_dirs/')
            assert missing_line(shown, printed) is None
    assert 'Resumed from' in resumed
    expected = repo.load('whole', template.format(last))
    found = repo.load('cut', template.format(last))
    for field in ('state_dict', 'optimizer'):
        assert equal(found[field], expected[field]), field
    assert ('amp' in found) == apex
    if apex:
        assert found['amp'] == expected['amp'] == dict(
            loss_scaler0=dict(
                loss_scale=2.**16,
                unskipped=9 if config == 'upernet_9_iters' else 12))
    if hasattr(mmcv_runner, 'EvalHook'):  # mmcv >= 1.3.1
        assert list((repo.folder / 'cut').glob('best_mIoU_*.pth'))


@pytest.mark.parametrize('saved_with, goes_on_with', [(True, False),
                                                      (False, True)])
def test_apex_comes_or_goes_between_two_runs(repo, saved_with, goes_on_with):
    repo.run(
        'run', 'upernet_9_iters', apex=saved_with, more=dying_at(7), status=9)
    said = repo.run('run', 'upernet_9_iters', apex=goes_on_with)
    assert 'Resumed from' in said
    found = repo.load('run', 'iter_9.pth')
    if goes_on_with:
        assert 'the checkpoint has no AMP state' in said
        assert found['amp'] == dict(
            loss_scaler0=dict(loss_scale=2.**16, unskipped=3))
    else:
        assert 'AMP state (apex), which this run does not use' in said
        assert 'amp' not in found


def test_the_tools_own_resume_goes_through_apex(repo):
    plain = PLUGIN.replace(", resume='auto'", '')
    repo.run('first', 'upernet_9_iters', apex=True, more=plain)
    source = repo.folder / 'first' / 'iter_6.pth'
    said = repo.run(
        'second',
        'upernet_9_iters',
        '--resume-from',
        source,
        '--seed',
        5,
        apex=True,
        more=plain)
    restored = restored_line(said)
    assert 'loss scale' in restored and 'Not restored' not in restored
    assert equal(
        repo.load('first', 'iter_9.pth')['state_dict'],
        repo.load('second', 'iter_9.pth')['state_dict'])


def test_the_opt_level_is_noted_beside_the_state_of_apex(repo):
    """apex refuses keys that are not its own: the repos read ``amp``."""
    repo.run('run', 'upernet_9_iters', apex=True)
    found = repo.load('run', 'iter_9.pth')
    assert set(found['amp']) == {'loss_scaler0'}
    assert found['resume_state']['apex'] == dict(
        opt_level='O1', loss_scale='dynamic')


@pytest.mark.parametrize('amp', [True, False], ids=['beit', 'convnext'])
@pytest.mark.parametrize('config, kept, finished, steps', [
    ('upernet_9_iters', 6, 6, 9),
    ('mask_rcnn_3_epochs', 2, 8, 12),
])
def test_a_file_of_the_repo_itself_is_gone_on_from(repo, config, kept,
                                                   finished, steps, amp):
    """Two lines are added to a run that is under way."""
    template = KINDS[config]
    repo.run('run', config, apex=True, more='')
    file = repo.folder / 'run' / template.format(kept)
    content = torch.load(str(file))
    assert content['amp']['loss_scaler0']['unskipped'] == finished
    if not amp:
        # the line that saves it is commented out in ConvNeXt
        del content['amp']
        torch.save(content, str(file))
    for path in (repo.folder / 'run').glob('*.pth'):
        if path != file:
            path.unlink()
    said = repo.run('run', config, apex=True)
    assert f'{finished} iterations are finished' in said
    restored, _, left = restored_line(said).partition('. Not restored: ')
    assert ('loss scale' in restored) == amp
    assert ('loss scale (not in the file)' in left) == (not amp)
    assert ('the checkpoint has no AMP state' in said) == (not amp)
    assert 'random generators (not in the file)' in left
    counted = steps if amp else steps - finished
    assert repo.load('run', template.format(LAST[config]))['amp'] == dict(
        loss_scaler0=dict(loss_scale=2.**16, unskipped=counted))


ACCUMULATES = '''
optimizer_config = dict(
    _delete_=True, type='DistOptimizerHook', update_interval=4,
    grad_clip=dict(max_norm=0.05), coalesce=True, bucket_size_mb=-1,
    use_fp16=True)
'''


@pytest.mark.parametrize('apex', [True, False])
def test_a_kill_between_two_steps_of_the_optimizer_loses_no_gradient(
        repo, apex):
    """Six iterations: a step, and a half of the next."""
    config = 'upernet_9_iters'
    repo.run('whole', config, apex=apex, more=PLUGIN + ACCUMULATES)
    repo.run(
        'cut', config, apex=apex, more=dying_at(7) + ACCUMULATES, status=9)
    held = repo.load('cut', 'iter_6.pth')['resume_state']['gradients']
    assert held and any(one.abs().sum() for one in held.values())
    said = repo.run('cut', config, apex=apex, more=PLUGIN + ACCUMULATES)
    assert 'accumulated gradients' in restored_line(said)
    assert 'Not restored' not in restored_line(said)
    expected = repo.load('whole', 'iter_9.pth')
    found = repo.load('cut', 'iter_9.pth')
    for field in ('state_dict', 'optimizer'):
        assert equal(found[field], expected[field]), field
    # the step of iteration 8, whose gradients are of 5 to 8
    before = repo.load('cut', 'iter_6.pth')['state_dict']
    assert not equal(found['state_dict'], before)


def test_the_repo_goes_on_without_the_plugin_again(repo):
    """Its own runner reads ``amp``, and apex refuses what it has not."""
    repo.run('first', 'upernet_9_iters', apex=True)
    source = repo.folder / 'first' / 'iter_6.pth'
    said = repo.run(
        'second',
        'upernet_9_iters',
        '--resume-from',
        source,
        apex=True,
        more='')
    assert 'mmcv_ckpt_hooks' not in said
    content = torch.load(str(repo.folder / 'second' / 'iter_9.pth'))
    assert content['amp']['loss_scaler0']['unskipped'] == 9
    assert {
        one['step'].item()
        for one in content['optimizer']['state'].values()
    } == {9.}


def test_alone_the_repo_cannot_save_without_apex(repo):
    said = repo.run('run', 'upernet_9_iters', more='', status=1)
    assert "NameError: name 'amp' is not defined" in said
    assert not list((repo.folder / 'run').glob('*.pth'))


def test_the_plugin_imported_first_is_mmcvs_own_key_error(repo):
    code = 'import mmcv_ckpt_hooks\nimport mmcv_custom'
    done = subprocess.run(
        [sys.executable, '-c', code],
        env={
            **os.environ, 'PYTHONPATH':
            os.pathsep.join([str(PACKAGE), str(HERE / 'repo')])
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        universal_newlines=True)
    assert done.returncode == 1
    assert "KeyError: 'IterBasedRunnerAmp is already registered" in done.stdout


def test_the_way_out_of_it_works(repo):
    """In a tool that does not import ``mmcv_custom`` itself."""
    config = repo.folder / 'config.py'
    config.write_text("custom_imports = dict(imports=['mmcv_custom', "
                      "'mmcv_ckpt_hooks'], allow_failed_imports=False)\n")
    code = 'from mmcv import Config\n' \
        f'Config.fromfile({str(config)!r})\n' \
        'from mmcv.runner import RUNNERS\n' \
        "print(RUNNERS.get('IterBasedRunnerAmp').__module__)"
    done = subprocess.run(
        [sys.executable, '-c', code],
        env={
            **os.environ, 'PYTHONPATH':
            os.pathsep.join([str(PACKAGE), str(HERE / 'repo')])
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        universal_newlines=True)
    assert done.returncode == 0, done.stdout
    assert done.stdout.splitlines()[-1] == 'mmcv_ckpt_hooks.runners'
