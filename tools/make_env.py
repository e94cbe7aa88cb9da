"""Build one of the environments, or bring it up to date.

    python tools/make_env.py demo    # .venv-demo: torch, plain mmcv
    python tools/make_env.py test    # .venv: mmcv-full, mmsegmentation
    python tools/make_env.py bench   # .venv-bench: plain mmcv, other savers
    python tools/make_env.py oldest  # .venv-oldest: oldest torch, plain mmcv
    python tools/make_env.py docs    # .venv-docs: mkdocs, neither of both

Standard library only. Every step can be interrupted and is completed by the
next run; a finished environment carries a stamp, and a run that finds it valid
does nothing. pip is called with the user's own configuration: nothing here
names an index.

mmcv 1.x has no wheels for today's torch, so its wheel is built here once and
kept under ``$MMCV_CKPT_HOOKS_CACHE`` (default
``$XDG_CACHE_HOME/mmcv-ckpt-hooks``), where another checkout finds it.
"""
import argparse
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / 'tools' / 'requirements'
IMAGE_PACKAGE = 'stardist==0.9.2'
HEARTBEAT_SECS = 15
STAMP = 'mmcv-ckpt-hooks.json'


class StepError(Exception):
    """A step failed; the message is what the user reads."""


class Environment:
    """What one of the environments holds.

    Args:
        folder (str): Its directory in the checkout.
        requirements (str): Its file under ``tools/requirements``.
        with_ops (bool): mmcv-full with compiled operators, or plain mmcv.
        imports (str): What must import when it is finished.
        torch (str, optional): The file that pins torch and torchvision; None
            for neither them nor this package.
        mmcv (str, optional): The version of mmcv; None for none.
    """

    def __init__(self,
                 folder,
                 requirements,
                 with_ops,
                 imports,
                 torch='torch.txt',
                 mmcv='1.7.2'):
        self.path = ROOT / folder
        self.requirements = REQUIREMENTS / requirements
        self.with_ops = with_ops
        self.imports = imports
        self.torch = torch and REQUIREMENTS / torch
        self.mmcv = mmcv
        scripts = 'Scripts' if os.name == 'nt' else 'bin'
        self.python = self.path / scripts / 'python'
        self.log = self.path / 'make_env.log'

    def key(self):
        """What the stamp must say for the environment to be up to date."""
        digest = hashlib.sha256()
        sources = sorted(REQUIREMENTS.glob('*.txt'))
        for path in sources + [ROOT / 'setup.py', ROOT / 'setup.cfg']:
            digest.update(path.name.encode() + b'\0' + path.read_bytes())
        recipe = [self.mmcv, IMAGE_PACKAGE, self.imports]
        digest.update(repr(recipe).encode())
        return dict(
            python=platform.python_version(),
            path=str(self.path),
            files=digest.hexdigest())

    def stamp(self):
        try:
            return json.loads((self.path / STAMP).read_text())
        except (OSError, ValueError):
            return None


ENVIRONMENTS = dict(
    demo=Environment('.venv-demo', 'demo.txt', False,
                     'torch, torchvision, mmcv.runner, tifffile'),
    test=Environment('.venv', 'test.txt', True,
                     'torch, torchvision, mmcv.ops, mmseg, mmseg.apis'),
    bench=Environment(
        '.venv-bench', 'bench.txt', False,
        'torch, torchvision, mmcv.runner, safetensors, lightning.pytorch'),
    oldest=Environment(
        '.venv-oldest',
        'oldest.txt',
        False,
        'torch, torchvision, mmcv.runner, pytest',
        torch='torch-oldest.txt',
        mmcv='1.3.1'),
    docs=Environment(
        '.venv-docs',
        'docs.txt',
        False,
        'mkdocs, material, mkdocstrings_handlers.python',
        torch=None,
        mmcv=None))


class Steps:
    """Runs the steps of one environment and shows that they move."""

    def __init__(self, env, total):
        self.env = env
        self.total = total
        self.done = 0
        self.began = time.monotonic()

    def announce(self, text):
        self.done += 1
        print(
            f'[{self.done}/{self.total}] {elapsed(self.began)} {text}',
            flush=True)

    def call(self, *command, cwd=None, **variables):
        """Run a command, its output in the log, a line every 15 seconds."""
        command = [str(part) for part in command]
        environ = dict(os.environ, PYTHONUNBUFFERED='1', **variables)
        with open(self.env.log, 'ab') as log:
            log.write(f'\n$ {" ".join(command)}\n'.encode())
            log.flush()
            start = log.tell()
            process = subprocess.Popen(
                command,
                cwd=cwd,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT)
            try:
                self._watch(process, start)
            finally:
                stop(process)
        if process.returncode != 0:
            raise StepError(
                f'{" ".join(command[:4])} ... failed with exit code '
                f'{process.returncode}; the end of {self.env.log}:\n'
                f'{tail(self.env.log, start)}')

    def _watch(self, process, start):
        shown = time.monotonic()
        while True:
            try:
                process.wait(timeout=1)
                return
            except subprocess.TimeoutExpired:
                if time.monotonic() - shown >= HEARTBEAT_SECS:
                    shown = time.monotonic()
                    print(
                        f'      {elapsed(self.began)} '
                        f'{progress(self.env.log, start)}',
                        flush=True)

    def pip(self, *arguments, **keywords):
        self.call(self.env.python, '-m', 'pip', *arguments, **keywords)

    def install(self, *arguments):
        self.pip('install', '--no-input', '--progress-bar', 'off', *arguments)


def elapsed(began):
    """Seconds since ``began`` as a column of fixed width."""
    return f'{time.monotonic() - began:5.0f} s'


def stop(process):
    """End a process that is still running, children left to follow it."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def log_lines(log, start):
    """Lines of the log from byte ``start`` on, what redraws a line undone."""
    with open(log, 'rb') as stream:
        stream.seek(max(start, os.path.getsize(log) - 65536))
        text = stream.read().decode(errors='replace')
    return [line.strip() for line in text.split('\n') if line.strip()]


def progress(log, start):
    """What the running command said last, in a line that fits a terminal."""
    lines = log_lines(log, start)
    compiled = [re.match(r'\[(\d+)/(\d+)\]', line) for line in lines]
    counts = [match for match in compiled if match]
    if counts:
        return 'compiled {} of {} files'.format(*counts[-1].groups())
    told = [line for line in lines if not line.startswith('WARNING')]
    last = told[-1] if told else 'working'
    if last.startswith('Installing collected packages:'):
        last = f'installing {last.count(",") + 1} packages'
    return last[:64]


def tail(log, start, count=25):
    return '\n'.join('    ' + line for line in log_lines(log, start)[-count:])


def cache_dir():
    """The folder of built wheels, shared by all checkouts of this user."""
    named = os.environ.get('MMCV_CKPT_HOOKS_CACHE')
    if named:
        return Path(named).expanduser().resolve()
    base = os.environ.get('XDG_CACHE_HOME') or '~/.cache'
    return Path(base).expanduser().resolve() / 'mmcv-ckpt-hooks'


def pinned(env, name):
    """The version that the environment pins for torch or torchvision."""
    match = re.search(rf'^{name}==(\S+)$', env.torch.read_text(), re.M)
    if match is None:
        raise StepError(f'no pin for {name} in {env.torch}')
    return match.group(1)


def mmcv_name(env):
    return 'mmcv-full' if env.with_ops else 'mmcv'


def wheel_key(env):
    """Everything that the built wheel depends on, as a folder name."""
    tag = f'{sys.implementation.name}{sys.version_info[0]}' \
          f'{sys.version_info[1]}'
    where = re.sub(r'[^A-Za-z0-9]+', '_', sysconfig.get_platform())
    name = mmcv_name(env).replace('-', '_')
    return f'{name}{env.mmcv}-{tag}-torch{pinned(env, "torch")}-{where}'


def cached_wheel(env):
    """The kept wheel, or None."""
    found = sorted((cache_dir() / 'wheels' / wheel_key(env)).glob('*.whl'))
    return found[0] if found else None


def require_compiler():
    """Say in one line what is missing to compile mmcv's operators."""
    named = os.environ.get('CXX', '').split()
    if not any(shutil.which(name) for name in named or ['c++', 'g++']):
        raise StepError(
            'a C++ compiler is needed to compile mmcv-full (Debian: install '
            'g++); `make demo` needs none')
    header = Path(sysconfig.get_path('include')) / 'Python.h'
    if not header.is_file():
        raise StepError(
            f'{header} is needed to compile mmcv-full (Debian: install '
            f'python3.{sys.version_info[1]}-dev); `make demo` needs no '
            'compiler')


def unpacked_source(steps, folder):
    """Download and unpack the source of mmcv; a finished one is kept.

    The build happens inside it, so that an interrupted compilation goes on
    with the files that were left.
    """
    name, version = mmcv_name(steps.env), steps.env.mmcv
    source = folder / f'{name}-{version}'
    if not source.is_dir():
        unpacking = folder / 'unpacking'
        shutil.rmtree(unpacking, ignore_errors=True)
        unpacking.mkdir(parents=True)
        steps.pip('download', '--no-deps', '--no-build-isolation',
                  '--no-binary', ':all:', '-d', unpacking,
                  f'{name}=={version}')
        with tarfile.open(next(unpacking.glob('*.tar.gz'))) as archive:
            archive.extractall(unpacking)
        os.replace(unpacking / source.name, source)
    return source


def build_wheel(steps):
    """Build the wheel of mmcv and keep it; renamed into place when whole."""
    key = wheel_key(steps.env)
    building = cache_dir() / 'build' / key
    source = unpacked_source(steps, building)
    # Without a visible GPU the operators are compiled for the CPU alone, on
    # every machine alike.
    variables = dict(
        MMCV_WITH_OPS='1' if steps.env.with_ops else '0',
        FORCE_CUDA='0',
        CUDA_VISIBLE_DEVICES='',
        MAX_JOBS=os.environ.get('MAX_JOBS', str(os.cpu_count() or 1)))
    output = building / 'wheel'
    shutil.rmtree(output, ignore_errors=True)
    steps.pip('wheel', '-v', '--no-deps', '--no-build-isolation', '-w', output,
              source, **variables)
    kept = cache_dir() / 'wheels' / key
    shutil.rmtree(kept, ignore_errors=True)
    kept.parent.mkdir(parents=True, exist_ok=True)
    os.replace(output, kept)
    shutil.rmtree(building, ignore_errors=True)
    return cached_wheel(steps.env)


def install_mmcv(steps):
    """Install mmcv from the kept wheel, built first where there is none."""
    title = f'{mmcv_name(steps.env)} {steps.env.mmcv}'
    wheel = cached_wheel(steps.env)
    if wheel:
        steps.announce(f'{title} from the wheel kept in {wheel.parent}')
    elif steps.env.with_ops:
        require_compiler()
        steps.announce(
            f'{title}: compiling its operators, 10 to 20 minutes on 2 cores, '
            f'once; the wheel is kept in {cache_dir()}')
    else:
        steps.announce(f'{title} without operators (no compiler needed)')
    steps.install('--no-deps', wheel or build_wheel(steps))


def create_venv(steps):
    """Make the virtual environment; a usable one is kept as it is."""
    env = steps.env
    if usable(env):
        steps.announce(f'{env.path.name} is there, Python '
                       f'{platform.python_version()}')
        drop_half_installed(env)
        return
    shutil.rmtree(env.path, ignore_errors=True)
    env.path.mkdir(parents=True)
    steps.announce(f'creating {env.path.name} with Python '
                   f'{platform.python_version()} ({sys.executable})')
    steps.call(sys.executable, '-m', 'venv', env.path)


def usable(env):
    """Whether the environment runs, with this Python and in this place."""
    code = 'import pip, platform, sys; ' \
           'print(platform.python_version(), sys.prefix)'
    try:
        said = subprocess.run([str(env.python), '-c', code],
                              stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL,
                              universal_newlines=True)
    except OSError:
        return False
    return said.stdout.split() == [platform.python_version(), str(env.path)]


def drop_half_installed(env):
    """Forget packages whose installation was interrupted.

    pip writes INSTALLER after the last file of a package; without it pip
    would take the rest of an interrupted copy for the whole package.
    """
    for info in env.path.glob('lib/python*/site-packages/*.dist-info'):
        if not (info / 'INSTALLER').is_file():
            print(f'      completing {info.name}', flush=True)
            shutil.rmtree(info)


def check_imports(steps):
    """Import what the environment is for; a stale wheel is built again."""
    env = steps.env
    steps.announce(f'checking that {env.imports} import')
    check = [env.python, '-c', f'import {env.imports}']
    try:
        steps.call(*check)
    except StepError:
        if not env.with_ops:
            raise
        print('      the compiled wheel does not import here', flush=True)
        require_compiler()
        print('      compiling it again', flush=True)
        wheel = build_wheel(steps)
        steps.install('--no-deps', '--force-reinstall', wheel)
        steps.call(*check)


def build(env):
    """Bring ``env`` up to date."""
    key = env.key()
    if env.stamp() == key:
        print(f'{env.path.name} is up to date', flush=True)
        return
    steps = Steps(env, total=8 - (env.mmcv is None) - 3 * (not env.torch))
    if env.with_ops and not cached_wheel(env):
        require_compiler()
    create_venv(steps)
    (env.path / STAMP).unlink() if (env.path / STAMP).exists() else None
    steps.announce('pip, setuptools, wheel, ninja')
    steps.install('-r', REQUIREMENTS / 'build.txt')
    if env.torch:
        steps.announce(f'torch {pinned(env, "torch")} and torchvision '
                       f'{pinned(env, "torchvision")} (about 3 GB to '
                       'download)')
        steps.install('-r', env.torch, '-c', REQUIREMENTS / 'constraints.txt',
                      '-c', REQUIREMENTS / 'mmcv.txt')
    steps.announce(
        f'the {"other " if env.torch else ""}pins of tools/requirements/'
        f'{env.requirements.name}')
    steps.install('-r', env.requirements)
    if env.mmcv is not None:
        install_mmcv(steps)
    if env.torch:
        steps.announce(f'{IMAGE_PACKAGE} for the image that it ships')
        steps.install('--no-deps', '--only-binary', ':all:', IMAGE_PACKAGE)
        steps.announce('mmcv_ckpt_hooks, editable')
        steps.install('--no-deps', '--no-build-isolation', '-e', ROOT)
    check_imports(steps)
    (env.path / STAMP).write_text(json.dumps(key, indent=1))
    print(
        f'{env.path.name} is ready after '
        f'{time.monotonic() - steps.began:.0f} s',
        flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('name', choices=sorted(ENVIRONMENTS))
    try:
        build(ENVIRONMENTS[parser.parse_args().name])
    except StepError as error:
        sys.exit(f'make_env: {error}')
    except KeyboardInterrupt:
        sys.exit('make_env: interrupted; the next run goes on from here')


if __name__ == '__main__':
    main()
