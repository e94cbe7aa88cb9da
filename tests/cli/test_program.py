"""The program ``mmcv-ckpt`` as a process of its own, without torch."""
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from folders import NEW_TORCH

import mmcv_ckpt_cli
import mmcv_ckpt_hooks

ROOT = Path(mmcv_ckpt_cli.__file__).parent
DRAWS = pytest.mark.skipif(
    importlib.util.find_spec('matplotlib') is None,
    reason='pip install matplotlib')
#: Runs the program where some packages are not installed, and says which of
#: them it would have imported.
PROGRAM = """
import sys
missing, *arguments = sys.argv[1:]
for name in filter(None, missing.split(',')):
    sys.modules[name] = None  # importing it fails
import mmcv_ckpt_cli
code = mmcv_ckpt_cli.main(arguments)
print(*sorted({'torch', 'mmcv', 'numpy', 'rich'} & set(sys.modules)),
      file=sys.stderr)
sys.exit(code)
"""
#: Ctrl-C comes when a module is about to be imported.
INTERRUPTED = """
import os, signal, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == sys.argv[1]:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder())
import mmcv_ckpt_cli
sys.exit(mmcv_ckpt_cli.main(['ls', '.']))
"""
COMMANDS = [(['ls', '.'], 'would take iter_8.pth'),
            (['verify', '--all', '.'], '5 ok'),
            (['inspect', 'iter_4.pth'], 'meta.iter: 4'),
            (['prune', '.', '--last=1'], '3 of 5 checkpoints would be'),
            (['push', '.', '../copy'], 'iter_8.pth'),
            (['pull', '.', '../copy'], 'iter_8.pth'),
            (['report', '.', '--json'], '"taken": "iter_8.pth"')]


def in_a_shell(directory, arguments, before='', **kwargs):
    """Run the program with arguments that a shell reads, redirections too."""
    return subprocess.run(
        f'{before}exec {sys.executable} -m mmcv_ckpt_cli {arguments}',
        cwd=str(directory),
        shell=True,
        timeout=300,
        **kwargs)


def program(directory, missing, *arguments):
    return subprocess.run([sys.executable, '-c', PROGRAM, missing, *arguments],
                          cwd=str(directory),
                          stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE,
                          universal_newlines=True,
                          timeout=300)


@pytest.mark.parametrize('arguments, said', COMMANDS)
def test_the_commands_import_neither_torch_nor_mmcv(run_dir, arguments, said):
    done = program(run_dir, '', *arguments)
    assert done.returncode == 0, done.stderr
    assert said in done.stdout
    assert done.stderr == '\n'


@pytest.mark.parametrize('arguments, said', COMMANDS)
def test_the_commands_need_neither_torch_nor_mmcv_nor_rich(
        run_dir, arguments, said):
    done = program(run_dir, 'torch,mmcv,numpy,rich', *arguments)
    assert done.returncode == 0, done.stderr
    assert said in done.stdout


@pytest.mark.parametrize(
    'module',
    ['mmcv_ckpt_hooks', 'mmcv_ckpt_hooks.cli', 'mmcv_ckpt_hooks.cli.ls'])
def test_it_may_be_interrupted_while_it_is_imported(run_dir, module):
    done = subprocess.run([sys.executable, '-c', INTERRUPTED, module],
                          cwd=str(run_dir),
                          stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE,
                          universal_newlines=True,
                          timeout=300)
    assert done.returncode == 130
    assert (done.stdout, done.stderr) == ('', 'mmcv-ckpt: interrupted\n')


@pytest.mark.parametrize('arguments, code', [
    ('ls .', 0),
    ('verify .', 0),
    pytest.param('report . -o -', 0, marks=DRAWS),
    ('ls nowhere', 2),
    ('ls --lst', 2),
    ('', 2),
])
def test_streams_may_be_closed(run_dir, arguments, code):
    # as of a daemon: Python has None for them
    done = in_a_shell(run_dir, f'{arguments} <&- >&- 2>log')
    said = (run_dir / 'log').read_text()
    assert (done.returncode, 'Traceback' in said) == (code, False), said


def test_what_is_for_a_closed_stream_goes_to_no_other(run_dir):
    done = in_a_shell(
        run_dir,
        'verify iter_4.pth nowhere --json 2>&-',
        stdout=subprocess.PIPE)
    assert json.loads(done.stdout)['exit_code'] == done.returncode == 2


@pytest.mark.skipif(
    not os.path.exists('/dev/full'), reason='no device without space')
@pytest.mark.parametrize('arguments, streams, code, said', [
    ('ls .', '>/dev/full', 2, True),
    ('ls . --json', '>/dev/full', 2, True),
    pytest.param('report . -o -', '>/dev/full', 2, True, marks=DRAWS),
    ('completion bash', '>/dev/full', 2, True),
    ('ls nowhere', '2>/dev/full', 2, False),
    ('verify . nowhere', '>/dev/full 2>&1', 2, False),
])
@pytest.mark.parametrize('unbuffered', ['', '1'])
def test_an_output_that_is_full_is_no_damage(run_dir, arguments, streams, code,
                                             said, unbuffered):
    done = in_a_shell(
        run_dir,
        f'{arguments} {streams}',
        env=dict(os.environ, PYTHONUNBUFFERED=unbuffered),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE)
    assert done.returncode == code
    assert done.stderr.decode() == (
        'mmcv-ckpt: cannot write the output: [Errno 28] No space left on '
        'device\n' if said else '')


def test_a_directory_that_has_gone_is_told(tmp_path):
    (tmp_path / 'gone').mkdir()
    done = in_a_shell(
        tmp_path,
        'ls',
        before='cd gone && rmdir ../gone && ',
        stderr=subprocess.PIPE)
    assert done.returncode == 2
    assert done.stderr == (b'mmcv-ckpt: the current directory is not there '
                           b'any more: go to another one\n')


@NEW_TORCH
def test_convert_needs_torch_alone(run_dir):
    done = program(run_dir, 'mmcv', 'convert', 'iter_4.pth', 'other.dcp')
    assert done.returncode == 0, done.stderr
    done = program(run_dir, 'torch', 'convert', 'other.dcp', 'again.pth')
    assert done.returncode == 2
    assert 'mmcv-ckpt: convert needs torch: ' in done.stderr
    assert 'Traceback' not in done.stderr
    assert sorted(os.listdir(str(run_dir / 'other.dcp'))) == [
        '.metadata', '__0_0.distcp', 'manifest.json', 'rest.zip'
    ]


def test_a_package_that_is_imported_stays_as_it_is(run_dir, capsys):
    assert mmcv_ckpt_cli.main(['ls', str(run_dir)]) == 0
    assert 'would take iter_8.pth' in capsys.readouterr().out
    assert sys.modules['mmcv_ckpt_hooks'] is mmcv_ckpt_hooks
    assert mmcv_ckpt_hooks.DurableCheckpointHook is not None


@pytest.mark.parametrize('module', ['mmcv_ckpt_cli', 'mmcv_ckpt_hooks.cli'])
def test_it_runs_as_a_module(run_dir, module):
    done = subprocess.run(
        [sys.executable, '-m', module, 'inspect', 'iter_4.pth'],
        cwd=str(run_dir),
        stdout=subprocess.PIPE,
        timeout=300)
    assert done.returncode == 0
    assert b'meta.iter: 4' in done.stdout


def test_the_program_of_this_environment_works(run_dir):
    done = subprocess.run(
        [str(Path(sys.executable).parent / 'mmcv-ckpt'), 'ls', run_dir.name],
        cwd=str(run_dir.parent),
        stdout=subprocess.PIPE,
        timeout=300)
    assert done.returncode == 0
    assert b'would take iter_8.pth' in done.stdout


def test_what_pip_installs_works_without_torch(run_dir, tmp_path):
    source, target = tmp_path / 'source', tmp_path / 'target'
    shutil.copytree(
        str(ROOT / 'mmcv_ckpt_hooks'),
        str(source / 'mmcv_ckpt_hooks'),
        ignore=shutil.ignore_patterns('__pycache__'))
    for name in ('mmcv_ckpt_cli.py', 'setup.py', 'setup.cfg', 'README.md',
                 'LICENSE', 'MANIFEST.in', 'CHANGELOG.md'):
        shutil.copy(str(ROOT / name), str(source))
    pip = [sys.executable, '-m', 'pip', 'install', '--no-deps', '--no-index']
    pip += ['--no-build-isolation', '--quiet', '--target', str(target)]
    subprocess.run(pip + [str(source)], check=True, timeout=300)
    # -S: nothing else that is installed can be imported
    command = [sys.executable, '-S', str(target / 'bin' / 'mmcv-ckpt')]
    done = subprocess.run(
        command + ['ls', str(run_dir)],
        env=dict(os.environ, PYTHONPATH=str(target)),
        stdout=subprocess.PIPE,
        timeout=300)
    assert done.returncode == 0
    assert b'would take iter_8.pth' in done.stdout
