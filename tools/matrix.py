"""Run the tests on every version of mmcv, with the oldest and newest torch.

    python tools/matrix.py                    # all cells: hours
    python tools/matrix.py --short            # the corners, fewer tests: CI
    python tools/matrix.py --between          # three versions of torch more
    python tools/matrix.py --cells 1.4.8/2.0.1,1.7.2/2.12.1
    python tools/matrix.py --tests 'tests/test_amp.py tests/test_runners.py'
    python tools/matrix.py --exchange

Each cell runs the same tests and writes checkpoints; then every cell resumes
those of all. The results are kept under ``.venv-matrix``, so that cells can be
run one by one; with the last of them the table in docs/versions.md is
written. Cells that are run one by one exchange nothing:
--exchange does it for all, when they have been run.
"""
import argparse
import datetime
import json
import subprocess
import sys
import time

import make_env
import matrix_table
from matrix_cell import BETWEEN, HOME, MMCV, ROOT, TORCH, Cell, install_mmcv

RESULTS = HOME / 'results.json'
#: What faces mmcv or torch most. `make test` runs the rest on one cell.
TESTS = ('tests/traps tests/test_amp.py tests/test_best.py '
         'tests/test_compat.py tests/test_core.py tests/test_exceptions.py '
         'tests/test_files_of_others.py tests/test_fitting.py '
         'tests/test_hook.py tests/test_loading.py tests/test_mmcv_amp.py '
         'tests/test_old_formats.py tests/test_registration.py '
         'tests/test_resume_auto.py tests/test_runners.py '
         'tests/test_serialization.py tests/test_state.py '
         'tests/test_takeover.py')
SHORT_TESTS = ('tests/test_amp.py tests/test_compat.py '
               'tests/test_files_of_others.py tests/test_fitting.py '
               'tests/test_loading.py tests/test_mmcv_amp.py '
               'tests/test_old_formats.py tests/test_registration.py '
               'tests/test_runners.py')
BETWEEN_TESTS = ('tests/test_config.py tests/test_core.py '
                 'tests/test_folder_ranks.py tests/test_overlap.py '
                 'tests/test_resume_auto.py tests/test_sharded.py '
                 'tests/test_zero.py')
#: The corners. The last of them is the stack of `make test`, which has run all
#: tests there before: it only exchanges checkpoints.
SHORT_CELLS = [(mmcv, which) for mmcv in (MMCV[0], MMCV[-1])
               for which in TORCH]


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
    if args.between:
        return [Cell(MMCV[-1], which) for which in BETWEEN]
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
    parser.add_argument(
        '--between', action='store_true', help='three versions of torch more')
    parser.add_argument('--tests', help='what pytest is given')
    parser.add_argument(
        '--exchange',
        action='store_true',
        help='resume the checkpoints that are there; test nothing')
    args = parser.parse_args()
    began = time.monotonic()
    HOME.mkdir(exist_ok=True)
    usual = SHORT_TESTS if args.short else \
        BETWEEN_TESTS if args.between else TESTS
    tests = (args.tests or usual).split()
    # cells can be run one by one, and their tests file by file
    whole = usual is TESTS and set(tests) <= set(TESTS.split())
    results = {}
    cells = chosen(args)
    try:
        for cell in [] if args.exchange else cells:
            # `make test` has run all of them there
            just_run = args.short and cell.versions == SHORT_CELLS[-1]
            result = run(cell, [] if just_run else tests)
            # read again: another cell may have ended meanwhile
            results = kept() if whole else results
            results[cell.name] = merged(results.get(cell.name, {}), result)
            save(results, whole)
    except make_env.StepError as error:
        sys.exit(f'matrix: {error}')
    results = kept() if whole else results
    if args.exchange or not args.cells:
        exchange(cells, results)
        save(results, whole)
    print(f'{time.monotonic() - began:.0f} s in all', flush=True)
    if whole and {one.name for one in all_cells()} <= set(results):
        matrix_table.write_table(results)
    print(matrix_table.compact_table(results))
    sys.exit(not all(map(matrix_table.is_good, results.values())))


def kept():
    """What has been found so far, by cell."""
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {}


def save(results, whole):
    if whole:
        RESULTS.write_text(json.dumps(results, indent=1))


if __name__ == '__main__':
    main()
