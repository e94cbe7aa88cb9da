"""A cell of the version matrix: a pair of versions and its environment.

torch is installed once a version, mmcv once a version (without compiled
operators, which it does not need); a cell is a small environment that leads to
both, in every process that its tests start.
"""
import os
import shutil
import subprocess
import sys
import zipfile

import make_env
import matrix_table

ROOT = make_env.ROOT
HOME = ROOT / '.venv-matrix'
MMCV = ('1.3.0', '1.3.18', '1.4.8', '1.5.3', '1.6.2', '1.7.2')
#: torch by the name of its environment; the versions stand in the pins.
TORCH = dict(oldest='torch-oldest.txt', newest='torch.txt')
#: Of torch between the two ends, with the newest mmcv: the last that writes no
#: sharded checkpoints, the first that does, and one that loads other pickles.
BETWEEN = {
    '2.2': 'torch-2.2.txt',
    '2.3': 'torch-2.3.txt',
    '2.7': 'torch-2.7.txt'
}


class Cell:
    """One pair of versions and its environment.

    Args:
        mmcv (str): Its version.
        which (str): A key of ``TORCH`` or ``BETWEEN``.
        reuse (bool): Take torch from the environment of `make test` where
            that is up to date. Default: False.
    """

    def __init__(self, mmcv, which, reuse=False):
        self.mmcv = mmcv
        self.versions = mmcv, which
        self.base = torch_environment(which, reuse)
        self.torch = make_env.pinned(self.base, 'torch')
        self.name = f'{mmcv}/{self.torch}'
        self.path = HOME / f'mmcv-{mmcv}-torch-{self.torch}'
        self.python = self.path / self.base.python.relative_to(self.base.path)
        self.files = self.path / 'exchange'

    def build(self):
        """Make the small environment; what it leads to is there already."""
        if not self.python.exists():
            command = [sys.executable, '-m', 'venv', '--without-pip']
            subprocess.run([*command, str(self.path)], check=True)
        site = site_packages(self.path)
        # mmcv first: it goes before what else is there
        leads = [
            ROOT, HOME / f'mmcv-{self.mmcv}',
            site_packages(self.base.path)
        ]
        (site / 'matrix.pth').write_text('\n'.join(map(str, leads)) + '\n')

    def run(self, *arguments):
        """Run python in the cell; returns exit code and output."""
        done = subprocess.run([str(self.python), *map(str, arguments)],
                              cwd=str(ROOT),
                              env=dict(
                                  os.environ,
                                  CUDA_VISIBLE_DEVICES='',
                                  OMP_NUM_THREADS='1'),
                              stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT,
                              universal_newlines=True)
        return done.returncode, done.stdout

    def test(self, tests):
        """Run files of tests; returns what each has come to, or an error."""
        code, said = self.run('-c', 'import mmcv.runner')
        if code:
            return dict(error='does not import: ' + last_line(said))
        if not tests:
            return dict(files={})
        report = self.path / 'junit.xml'
        code, said = self.run('-m', 'pytest', '-q', '-p', 'no:cacheprovider',
                              '-o', 'junit_family=xunit1',
                              f'--junitxml={report}', *tests)
        (self.path / 'pytest.log').write_text(said)
        if code not in (0, 1):
            return dict(error=f'pytest ended with {code}: {last_line(said)}')
        for line in said.splitlines():
            if line.startswith(('FAILED', 'ERROR')):
                print(f'{self.name}: {line}', flush=True)
        return dict(files=matrix_table.counted(report))

    def write(self):
        """Write the checkpoints that all cells resume; None if it works."""
        shutil.rmtree(str(self.files), ignore_errors=True)
        code, said = self.run('tools/matrix_exchange.py', 'write', self.files)
        return None if code == 0 else last_line(said)

    def resume(self, others):
        """Resume the checkpoints of others; None if all is the same."""
        code, said = self.run('tools/matrix_exchange.py', 'resume',
                              *[one.files for one in others])
        return None if code == 0 else said.strip()[-2000:]


def torch_environment(which, reuse=False):
    """The environment with torch, and what the tests need besides."""
    test = make_env.ENVIRONMENTS['test']
    pins = {**TORCH, **BETWEEN}[which]
    if reuse and test.torch.name == pins and \
            test.stamp() == test.key():
        return test
    return make_env.Environment(
        f'.venv-matrix/torch-{which}',
        'matrix-tests.txt',
        False,
        'torch, torchvision, pytest',
        torch=pins,
        mmcv=None)


def site_packages(path):
    """Where an environment has its packages; they share one Python."""
    if os.name == 'nt':
        return path / 'Lib' / 'site-packages'
    version = '.'.join(map(str, sys.version_info[:2]))
    return path / 'lib' / f'python{version}' / 'site-packages'


def install_mmcv(version, base):
    """Unpack mmcv, pure Python, into a folder of its own."""
    folder = HOME / f'mmcv-{version}'
    if folder.is_dir():
        return
    kept = make_env.cache_dir() / 'wheels' / f'mmcv-{version}-pure'
    if not list(kept.glob('*.whl')):
        print(f'building the wheel of mmcv {version}', flush=True)
        command = [
            str(base.python), '-m', 'pip', 'wheel', '-q', '--no-deps',
            '--no-build-isolation', '--no-binary', 'mmcv', '-w',
            str(kept), f'mmcv=={version}'
        ]
        subprocess.run(
            command, env=dict(os.environ, MMCV_WITH_OPS='0'), check=True)
    unpacking = HOME / 'unpacking'
    shutil.rmtree(str(unpacking), ignore_errors=True)
    with zipfile.ZipFile(str(next(kept.glob('*.whl')))) as wheel:
        wheel.extractall(str(unpacking))
    os.replace(str(unpacking), str(folder))


def last_line(text):
    return (text.strip().splitlines() or ['(no output)'])[-1]
