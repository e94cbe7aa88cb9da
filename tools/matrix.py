"""Run the tests on every version of mmcv, with the oldest and newest torch.

    python tools/matrix.py                    # all cells: hours
    python tools/matrix.py --short            # the corners, fewer tests: CI
    python tools/matrix.py --cells 1.4.8/2.0.1,1.7.2/2.12.1
    python tools/matrix.py --tests 'tests/test_amp.py tests/test_runners.py'
    python tools/matrix.py --exchange

Each cell runs the same tests and writes checkpoints; then every cell resumes
those of all. The results are kept under ``.venv-matrix``, so that cells can be
run one by one; with the last of them the tables in README.md and
docs/versions.md are written. Cells that are run one by one exchange nothing:
--exchange does it for all, when they have been run.

torch is installed once a version, mmcv once a version (without compiled
operators, which it does not need); a cell is a small environment that leads to
both, in every process that its tests start.
"""
import argparse
import datetime
import json
import os
import shutil
import subprocess
import sys
import time
import zipfile

import make_env
import matrix_table

ROOT = make_env.ROOT
HOME = ROOT / '.venv-matrix'
RESULTS = HOME / 'results.json'
MMCV = ('1.3.0', '1.3.18', '1.4.8', '1.5.3', '1.6.2', '1.7.2')
#: torch by the name of its environment; the versions stand in the pins.
TORCH = dict(oldest='torch-oldest.txt', newest='torch.txt')
#: What faces mmcv or torch most. `make test` runs the rest on one cell.
TESTS = ('tests/family tests/traps tests/test_amp.py tests/test_best.py '
         'tests/test_compat.py tests/test_core.py tests/test_exact.py '
         'tests/test_exceptions.py tests/test_files_of_others.py '
         'tests/test_fitting.py tests/test_hook.py tests/test_import.py '
         'tests/test_loading.py tests/test_mmcv_amp.py '
         'tests/test_old_formats.py tests/test_overlap.py '
         'tests/test_registration.py tests/test_resume_auto.py '
         'tests/test_runners.py tests/test_serialization.py '
         'tests/test_staging.py tests/test_state.py tests/test_takeover.py')
SHORT_TESTS = ('tests/family tests/test_amp.py tests/test_compat.py '
               'tests/test_import.py tests/test_mmcv_amp.py '
               'tests/test_runners.py')
#: The corners. The last of them is the stack of `make test`, which has run all
#: tests there before: it only exchanges checkpoints.
SHORT_CELLS = [(mmcv, which) for mmcv in (MMCV[0], MMCV[-1])
               for which in TORCH]


class Cell:
    """One pair of versions and its environment.

    Args:
        mmcv (str): Its version.
        which (str): A key of ``TORCH``.
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
    if reuse and test.torch.name == TORCH[which] and \
            test.stamp() == test.key():
        return test
    return make_env.Environment(
        f'.venv-matrix/torch-{which}',
        'matrix-tests.txt',
        False,
        'torch, torchvision, pytest',
        torch=TORCH[which],
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


def commit():
    """The commit that is run, and whether something was changed since."""
    said = [
        subprocess.run(['git', *arguments],
                       cwd=str(ROOT),
                       stdout=subprocess.PIPE,
                       universal_newlines=True).stdout.strip()
        for arguments in (('rev-parse', '--short', 'HEAD'),
                          ('status', '--porcelain', '--', 'mmcv_ckpt_hooks',
                           'tests', 'tools'))
    ]
    return said[0] + (' with changes' if said[1] else '')


def all_cells():
    return [Cell(mmcv, which) for which in TORCH for mmcv in MMCV]


def chosen(args):
    """Return the cells to run."""
    if args.short:
        return [Cell(*versions, reuse=True) for versions in SHORT_CELLS]
    cells = all_cells()
    if not args.cells:
        return cells
    names = args.cells.split(',')
    unknown = set(names) - {one.name for one in cells}
    if unknown:
        sys.exit(f'matrix: no cell {", ".join(sorted(unknown))}; there are ' +
                 ', '.join(one.name for one in cells))
    return [one for one in cells if one.name in names]


def run(cell, tests):
    """Build a cell, run its tests and write its checkpoints."""
    began = time.monotonic()
    make_env.build(cell.base)
    install_mmcv(cell.mmcv, cell.base)
    cell.build()
    print(
        f'{cell.name}: built in {time.monotonic() - began:.0f} s', flush=True)
    began = time.monotonic()
    result = cell.test(tests)
    problem = None if 'error' in result else cell.write()
    if problem:
        result = dict(error=f'writes no checkpoints: {problem}')
    for one in result.get('files', {}).values():
        one.update(commit=commit(), day=str(datetime.date.today()))
    print(
        f'{cell.name}: {matrix_table.cell_text(result)} in '
        f'{time.monotonic() - began:.0f} s',
        flush=True)
    return result


def merged(before, result):
    """What a cell has come to, with what it had in files not run again."""
    if 'error' in result or 'error' in before:
        return result
    return dict(files={**before.get('files', {}), **result['files']})


def exchange(cells, results):
    """Let every cell resume the checkpoints of all, its own as well."""
    able = [
        one for one in cells if one.name in results
        and 'error' not in results[one.name] and one.files.is_dir()
    ]
    for cell in able:
        began = time.monotonic()
        differs = cell.resume(able)
        results[cell.name].update(
            resumed=[one.name for one in able], differs=differs)
        print(
            f'{cell.name}: resumed the checkpoints of {len(able)} cells in '
            f'{time.monotonic() - began:.0f} s'
            f'{": " if differs else ""}{differs or ""}',
            flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--cells', help='mmcv/torch, several with commas')
    parser.add_argument(
        '--short', action='store_true', help='the corners, fewer tests')
    parser.add_argument('--tests', help='what pytest is given')
    parser.add_argument(
        '--exchange',
        action='store_true',
        help='resume the checkpoints that are there; test nothing')
    args = parser.parse_args()
    began = time.monotonic()
    HOME.mkdir(exist_ok=True)
    tests = (args.tests or (SHORT_TESTS if args.short else TESTS)).split()
    # cells can be run one by one, and their tests file by file
    whole = not args.short and set(tests) <= set(TESTS.split())
    kept = whole and RESULTS.exists()
    results = json.loads(RESULTS.read_text()) if kept else {}
    cells = chosen(args)
    try:
        for cell in [] if args.exchange else cells:
            # `make test` has run all of them there
            just_run = args.short and cell.versions == SHORT_CELLS[-1]
            before = results.get(cell.name, {})
            result = run(cell, [] if just_run else tests)
            results[cell.name] = merged(before, result)
            save(results, whole)
    except make_env.StepError as error:
        sys.exit(f'matrix: {error}')
    if args.exchange or not args.cells:
        exchange(cells, results)
        save(results, whole)
    print(f'{time.monotonic() - began:.0f} s in all', flush=True)
    if whole and {one.name for one in all_cells()} <= set(results):
        matrix_table.write_tables(results)
    print(matrix_table.compact_table(results))
    sys.exit(not all(map(matrix_table.is_good, results.values())))


def save(results, whole):
    if whole:
        RESULTS.write_text(json.dumps(results, indent=1))


if __name__ == '__main__':
    main()
