"""Run the tests on every version of mmcv, with the oldest and newest torch.

    python tools/matrix.py                    # all cells: hours
    python tools/matrix.py --short            # the corners, fewer tests: CI
    python tools/matrix.py --cells 1.4.8/2.0.1,1.7.2/2.12.1
    python tools/matrix.py --tests 'tests/test_amp.py tests/test_runners.py'

Each cell runs the same tests and writes checkpoints; then every cell resumes
the files of all others. The table in README.md, with the reasons of what was
skipped, is made of the results, which are kept under ``.venv-matrix``.

torch is installed once a version, mmcv once a version (without compiled
operators, which it does not need); a cell is a small environment that leads to
both, in every process that its tests start.
"""
import argparse
import collections
import json
import os
import re
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree
import zipfile

import make_env

ROOT = make_env.ROOT
HOME = ROOT / '.venv-matrix'
RESULTS = HOME / 'results.json'
README = ROOT / 'README.md'
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
BEGIN, END = '<!-- matrix: made by `make matrix` -->', '<!-- end of matrix -->'


class Cell:
    """One pair of versions and its environment.

    Args:
        mmcv (str): Its version.
        which (str): A key of ``TORCH``.
    """

    def __init__(self, mmcv, which):
        self.mmcv = mmcv
        self.which = which
        self.base = torch_environment(which)
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
                              env=dict(os.environ, CUDA_VISIBLE_DEVICES=''),
                              stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT,
                              universal_newlines=True)
        return done.returncode, done.stdout

    def test(self, tests):
        """Run the tests; returns counts, and skips by their reasons."""
        code, said = self.run('-c', 'import mmcv.runner')
        if code:
            return dict(error='does not import: ' + said.splitlines()[-1])
        report = self.path / 'junit.xml'
        began = time.monotonic()
        code, said = self.run('-m', 'pytest', '-q', '-p', 'no:cacheprovider',
                              f'--junitxml={report}', *tests.split())
        (self.path / 'pytest.log').write_text(said)
        if code not in (0, 1):
            return dict(error=f'pytest ended with {code}: {last_line(said)}')
        return dict(counted(report), secs=round(time.monotonic() - began))

    def write(self):
        """Write the checkpoints that all cells resume."""
        shutil.rmtree(str(self.files), ignore_errors=True)
        code, said = self.run('tools/matrix_exchange.py', 'write', self.files)
        return None if code == 0 else last_line(said)

    def resume(self, others):
        """Resume the checkpoints of others; returns what went wrong."""
        code, said = self.run('tools/matrix_exchange.py', 'resume',
                              *[one.files for one in others])
        return None if code == 0 else said.strip()[-2000:]


def torch_environment(which):
    return make_env.Environment(
        f'.venv-matrix/torch-{which}',
        f'matrix-{which}.txt',
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


def counted(report):
    """Counts of a run, from pytest's XML."""
    counts, reasons = collections.Counter(), collections.Counter()
    for case in xml.etree.ElementTree.parse(str(report)).iter('testcase'):
        kinds = {child.tag: child for child in case}
        if 'failure' in kinds or 'error' in kinds:
            counts['failed'] += 1
        elif 'skipped' in kinds:
            counts['skipped'] += 1
            reason = kinds['skipped'].get('message') or 'NO REASON GIVEN'
            reasons[re.sub(r'\s+', ' ', reason)] += 1
        else:
            counts['passed'] += 1
    return dict(
        passed=counts['passed'],
        skipped=counts['skipped'],
        failed=counts['failed'],
        reasons=dict(reasons))


def last_line(text):
    return (text.strip().splitlines() or ['(no output)'])[-1]


def commit():
    done = subprocess.run(['git', 'rev-parse', '--short', 'HEAD'],
                          cwd=str(ROOT),
                          stdout=subprocess.PIPE,
                          universal_newlines=True)
    return done.stdout.strip()


def table(results):
    """Return the table of all results, as Markdown."""
    versions = sorted({name.split('/')[1]
                       for name in results},
                      key=lambda one: tuple(map(int, one.split('.'))))
    lines = [
        '| mmcv | ' + ' | '.join(f'torch {one}' for one in versions) + ' |',
        '|---' * (len(versions) + 1) + '|'
    ]
    for mmcv in MMCV:
        row = [results.get(f'{mmcv}/{one}') for one in versions]
        lines.append(f'| {mmcv} | ' + ' | '.join(map(cell_text, row)) + ' |')
    lines += ['', *reason_lines(results)]
    commits = sorted({one['commit'] for one in results.values()})
    lines.append(f'(`make matrix`, commit {", ".join(commits)})')
    return '\n'.join(lines)


def cell_text(result):
    if result is None:
        return 'not run'
    if 'error' in result:
        return result['error'].replace('|', '/')
    text = f'{result["passed"]} passed, {result["skipped"]} skipped'
    if result['failed']:
        text += f', **{result["failed"]} failed**'
    wrong = result.get('exchange')
    return text + ('; resumes the files of '
                   f'{result.get("resumed", 0)} cells'
                   if not wrong else '; **files of other cells differ**')


def reason_lines(results):
    """Every reason for a skip, with the cells that have it."""
    cells = collections.defaultdict(dict)
    for name, result in sorted(results.items()):
        for reason, count in result.get('reasons', {}).items():
            cells[reason][name] = count
    lines = []
    for reason, counts in sorted(cells.items()):
        where = 'in all cells' if len(counts) == len(results) else \
            'with ' + ', '.join(counts)
        most = max(counts.values())
        lines.append(f'- skipped, {where}: {reason} ({most} tests)')
    return lines + [''] if lines else lines


def write_table(results):
    """Put the table between its marks in the README."""
    text = README.read_text(encoding='utf-8')
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        sys.exit(f'matrix: {README} has no marks for the table')
    README.write_text(
        f'{before}{BEGIN}\n{table(results)}\n{END}{after}', encoding='utf-8')


def chosen(args):
    """Return the cells to run."""
    cells = [Cell(mmcv, which) for which in TORCH for mmcv in MMCV]
    if args.short:
        return [
            one for one in cells
            if (one.mmcv, one.which) in ((MMCV[0], 'oldest'), (MMCV[-1],
                                                               'newest'))
        ]
    if not args.cells:
        return cells
    names = args.cells.split(',')
    unknown = set(names) - {one.name for one in cells}
    if unknown:
        sys.exit(f'matrix: no cell {", ".join(sorted(unknown))}; there are ' +
                 ', '.join(one.name for one in cells))
    return [one for one in cells if one.name in names]


def run(cells, tests):
    """Build, test and exchange; returns the results by cell."""
    results = {}
    for cell in cells:
        make_env.build(cell.base)
        install_mmcv(cell.mmcv, cell.base)
        cell.build()
        print(f'{cell.name}: testing', flush=True)
        result = dict(cell.test(tests), commit=commit())
        if 'error' not in result:
            problem = cell.write()
            if problem:
                result['exchange'] = problem
        results[cell.name] = result
        print(f'{cell.name}: {cell_text(result)}', flush=True)
    able = [
        one for one in cells
        if not {'error', 'exchange'} & set(results[one.name])
    ]
    for cell in able:
        problem = cell.resume(able)
        results[cell.name].update(resumed=len(able))
        if problem:
            results[cell.name]['exchange'] = problem
            print(f'{cell.name}: {problem}', flush=True)
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--cells', help='mmcv/torch, several with commas')
    parser.add_argument(
        '--short', action='store_true', help='the corners, fewer tests')
    parser.add_argument('--tests', help='what pytest is given')
    args = parser.parse_args()
    HOME.mkdir(exist_ok=True)
    tests = args.tests or (SHORT_TESTS if args.short else TESTS)
    try:
        results = run(chosen(args), tests)
    except make_env.StepError as error:
        sys.exit(f'matrix: {error}')
    if not args.short and not args.tests:
        kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        kept.update(results)
        RESULTS.write_text(json.dumps(kept, indent=1))
        write_table(kept)
    else:
        print(table(results))
    sys.exit(
        any({'error', 'exchange'} & set(one) or one['failed']
            for one in results.values()))


if __name__ == '__main__':
    main()
