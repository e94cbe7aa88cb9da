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
            str: What it printed.
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
        assert done.returncode == status, done.stdout
        return done.stdout

    def load(self, name, file):
        path = self.folder / name / file
        verify_checkpoint(str(path))
        return torch.load(str(path), map_location='cpu')


@pytest.fixture
def repo(tmp_path):
    return Repo(tmp_path)


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
    repo.run('cut', config, apex=apex, more=dying_at(7), status=9)
    resumed = repo.run('cut', config, '--seed', 5, apex=apex)
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
    restored, = [
        line for line in said.splitlines() if line.startswith('Restored from')
    ]
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


def test_a_file_of_the_repo_itself_is_gone_on_from(repo):
    """Two lines are added to a run that is under way."""
    repo.run('run', 'upernet_9_iters', apex=True, more='')
    file = repo.folder / 'run' / 'iter_6.pth'
    assert torch.load(str(file))['amp']['loss_scaler0']['unskipped'] == 6
    for later in ('iter_9.pth', 'best_mIoU_iter_3.pth'):
        path = repo.folder / 'run' / later
        if path.exists():
            path.unlink()
    said = repo.run('run', 'upernet_9_iters', apex=True)
    assert '6 iterations are finished' in said
    restored, = [
        line for line in said.splitlines() if line.startswith('Restored from')
    ]
    assert 'loss scale' in restored.split('Not restored')[0]
    assert 'random generators (not in the file)' in restored
    assert repo.load('run', 'iter_9.pth')['amp'] == dict(
        loss_scaler0=dict(loss_scale=2.**16, unskipped=9))


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
