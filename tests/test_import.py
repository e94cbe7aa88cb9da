"""Importing the package registers its classes; nothing else happens."""
import json
import os
import subprocess
import sys

import pytest

from mmcv_ckpt_hooks import compat

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

#: Everything that an import could leave behind, before and after.
FACTS = '''
import atexit, gc, json, logging, os, random, signal, sys, threading, time
import warnings
import mmcv.runner
from mmcv.utils import Registry
import numpy, torch

def facts():
    return dict(
        threads=[thread.name for thread in threading.enumerate()],
        signals=[str(signal.getsignal(number))
                 for number in sorted(signal.valid_signals())],
        files=sorted(os.listdir('.')) + sorted(os.listdir(os.environ['HOME'])),
        environment=dict(os.environ),
        directory=os.getcwd(),
        filters=len(warnings.filters),
        handlers=[str(one) for one in logging.getLogger().handlers],
        loggers=sorted(name for name in logging.root.manager.loggerDict
                       if name.startswith('mmcv')),
        atexit=atexit._ncallbacks(),
        generators=[hash(random.getstate()),
                    hash(numpy.random.get_state()[1].tobytes()),
                    torch.initial_seed()],
        hooks=[sys.excepthook is sys.__excepthook__,
               threading.excepthook is threading.__excepthook__,
               sys.gettrace() is None],
        umask=os.umask(0o022))

def registries():
    return {
        registry.name: sorted(registry.module_dict)
        for registry in gc.get_objects() if isinstance(registry, Registry)}

before, registered = facts(), registries()
modules = set(sys.modules)
started = time.perf_counter()
import mmcv_ckpt_hooks
secs = time.perf_counter() - started
print(json.dumps(dict(
    before=before, after=facts(), secs=secs,
    modules=sorted(set(sys.modules) - modules),
    registered={
        name: sorted(set(names) - set(registered.get(name, ())))
        for name, names in registries().items()
        if names != registered.get(name)},
    stdlib=sorted(getattr(sys, 'stdlib_module_names', ())))))
'''

#: A repo with its own mmcv_custom, imported by its tools/train.py.
REPO = '''
import sys, types
sys.modules['mmcv_custom'] = types.ModuleType('mmcv_custom')
from mmcv.runner import HOOKS, RUNNERS, IterBasedRunner, OptimizerHook

class IterBasedRunnerAmp(IterBasedRunner):
    pass

class DistOptimizerHook(OptimizerHook):
    pass

for cls in (IterBasedRunnerAmp, DistOptimizerHook):
    cls.__module__ = 'mmcv_custom.apex_runner'
RUNNERS.register_module()(IterBasedRunnerAmp)
HOOKS.register_module()(DistOptimizerHook)

# mmcv's own, which silences all whose names begin with it
from mmcv.utils import get_logger
get_logger('mmcv')

import mmcv_ckpt_hooks
assert RUNNERS.get('IterBasedRunnerAmp') is mmcv_ckpt_hooks.IterBasedRunnerAmp
assert HOOKS.get('DistOptimizerHook') is mmcv_ckpt_hooks.DistOptimizerHook
import importlib
importlib.reload(mmcv_ckpt_hooks)
'''


def run(code, home, **environment):
    """Run Python in an empty directory; warnings of mmcv are not ours."""
    env = dict(
        os.environ,
        HOME=str(home),
        PYTHONWARNINGS='ignore',
        PYTHONDONTWRITEBYTECODE='1',
        PYTHONPATH=environment.pop('path', ROOT),
        **environment)
    (home / 'cwd').mkdir()
    return subprocess.run([sys.executable, '-c', code],
                          cwd=str(home / 'cwd'),
                          env=env,
                          stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE,
                          universal_newlines=True)


@pytest.fixture(scope='module')
def imported(tmp_path_factory):
    result = run(FACTS, tmp_path_factory.mktemp('home'))
    assert result.returncode == 0, result.stderr
    return dict(json.loads(result.stdout), stderr=result.stderr)


@pytest.mark.parametrize('fact', [
    'threads', 'signals', 'files', 'environment', 'directory', 'filters',
    'handlers', 'loggers', 'atexit', 'generators', 'hooks', 'umask'
])
def test_importing_changes_nothing_of_the_process(imported, fact):
    assert imported['after'][fact] == imported['before'][fact]


def test_importing_registers_the_public_classes_and_no_others(imported):
    assert imported['registered'] == {
        'hook': ['DistOptimizerHook', 'DurableCheckpointHook'],
        'runner': ['EpochBasedRunnerAmp', 'IterBasedRunnerAmp'],
        # since mmcv 1.3.12
        **({
            'runner builder': ['DurableRunnerConstructor']
        } if compat.runner_builders() is not None else {}),
    }


def test_importing_is_silent(imported):
    assert 'mmcv_ckpt_hooks' not in imported['stderr']


def test_importing_brings_no_other_package_with_it(imported):
    print(f"import beyond mmcv.runner: {imported['secs'] * 1000:.1f} ms, "
          f"{len(imported['modules'])} modules")
    own = {
        name
        for name in imported['modules']
        if name.split('.')[0] == 'mmcv_ckpt_hooks'
    }
    others = {name.split('.')[0] for name in imported['modules']} - \
        {'mmcv_ckpt_hooks'} - set(imported['stdlib'])
    if imported['stdlib']:  # Python >= 3.10 tells
        # the extra [fast], where it is installed
        assert others <= {'isal'}
    for name in ('boto3', 'fsspec', 'rich', 'pavi', 'apex', 'mmseg'):
        assert name not in imported['modules']
    # optional rooms are imported when they are used
    for name in ('cli', 'testing', 'storage.pavi', 'storage.file_client'):
        assert f'mmcv_ckpt_hooks.{name}' not in own


def test_a_repo_that_registered_the_names_before_does_not_stop_the_import(
        tmp_path):
    result = run(REPO, tmp_path)
    assert result.returncode == 0, result.stderr
    lines = [
        line for line in (result.stdout + result.stderr).splitlines()
        if 'mmcv_custom' in line
    ]
    assert len(lines) == 1
    assert 'IterBasedRunnerAmp of mmcv_custom.apex_runner' in lines[0]
    assert 'DistOptimizerHook of mmcv_custom.apex_runner' in lines[0]


def stub(directory, name, content=''):
    package = directory / 'stubs' / name
    package.mkdir(parents=True)
    (package / '__init__.py').write_text(content)


BLOCKED = '''
import sys
sys.modules[{!r}] = None
import mmcv_ckpt_hooks
'''


@pytest.mark.parametrize('missing, present', [('mmcv', 'torch'),
                                              ('torch', 'mmcv')])
def test_a_missing_package_is_told_with_what_to_install(
        missing, present, tmp_path):
    stub(tmp_path, present, '__version__ = "1.7.2"\n')
    result = run(
        BLOCKED.format(missing),
        tmp_path,
        path=f'{tmp_path}/stubs{os.pathsep}{ROOT}')
    assert result.returncode == 1
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith('ImportError: ')
    assert f'{missing} is not installed' in last
    assert '>=1.3.0,<2.0.0' in last


@pytest.mark.parametrize('version', ['2.0.0', '2.2.0', '1.2.7'])
def test_an_mmcv_that_cannot_work_is_told_with_what_does(version, tmp_path):
    stub(tmp_path, 'torch', '__version__ = "2.0.1"\n')
    stub(tmp_path, 'mmcv', f'__version__ = {version!r}\n')
    result = run(
        'import mmcv_ckpt_hooks',
        tmp_path,
        path=f'{tmp_path}/stubs{os.pathsep}{ROOT}')
    assert result.returncode == 1
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith('ImportError: ')
    assert f'mmcv {version} is installed' in last
    assert '>=1.3.0,<2.0.0' in last
    assert 'mmcv-full==1.7.2' in last


def test_what_is_public_is_there_and_documented():
    import mmcv_ckpt_hooks
    assert mmcv_ckpt_hooks.__all__ == sorted(mmcv_ckpt_hooks.__all__)
    for name in mmcv_ckpt_hooks.__all__:
        public = getattr(mmcv_ckpt_hooks, name)
        assert name == '__version__' or public.__doc__


def test_a_run_that_starts_has_nothing_left_to_import(tmp_path):
    """It would be a tenth of a resume."""
    code = '''
import sys
from mmcv_ckpt_hooks import DurableCheckpointHook
from toy import make_runner
runner = make_runner('.', runner=dict(type='IterBasedRunnerAmp', max_iters=4),
                     hooks=[dict(type='DurableCheckpointHook', interval=2)])
modules = set(sys.modules)
for hook in runner.hooks:
    if isinstance(hook, DurableCheckpointHook):
        hook.prepare(runner)
        hook.drain(runner)
print(sorted(name for name in set(sys.modules) - modules
             if name.startswith('mmcv_ckpt_hooks')))
'''
    path = os.pathsep.join([ROOT, os.path.join(ROOT, 'tests')])
    result = run(code, tmp_path, path=path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == '[]'
