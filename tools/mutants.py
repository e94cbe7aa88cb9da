"""Break one important line at a time and see that its test fails.

Usage::

    python tools/mutants.py [--only WORD] [--list] [--why]

The table is ``tools/mutants.json``: a list of objects with ``name``, ``file``,
``old`` (text that stands in the file exactly once), ``new`` and ``test`` (what
pytest is given). The package and the tests are copied to a temporary folder
and broken there; the checkout is never touched. Exit code 1 if a mutant
survives or the table no longer fits the code.
"""
import argparse
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TABLE = os.path.join(ROOT, 'tools', 'mutants.json')
COPIED = ('mmcv_ckpt_hooks', 'mmcv_ckpt_cli.py', 'tests', 'configs', 'demo',
          'tools', 'setup.cfg', 'docs', 'benchmarks', 'mkdocs.yml',
          'README.md', 'CHANGELOG.md', 'Makefile')
#: For the test of a mutant: one may hang.
TIMEOUT_SECS = 300
#: For all of them together: on a busy machine, too.
ALL_TESTS_SECS = 3600


def read(path):
    with open(path) as file:
        return file.read()


def write(path, text):
    with open(path, 'w') as file:
        file.write(text)


def check(mutant, folder):
    """Return what is wrong with a row of the table, or None."""
    path = os.path.join(folder, mutant['file'])
    if not os.path.exists(path):
        return f'{mutant["file"]} does not exist'
    count = read(path).count(mutant['old'])
    if count != 1:
        return f'its old text stands {count} times in {mutant["file"]}'
    return None


def copy_tree(folder):
    for name in COPIED:
        source = os.path.join(ROOT, name)
        target = os.path.join(folder, name)
        if os.path.isdir(source):
            shutil.copytree(
                source, target, ignore=shutil.ignore_patterns('__pycache__'))
        elif os.path.exists(source):
            shutil.copy(source, target)


def run_tests(folder, selection, timeout_secs=TIMEOUT_SECS):
    """Return pytest's exit code and the end of what it printed.

    In a fork of this process: torch and mmcv, whose import takes longer than
    most of the tests, are there already; the package is not.
    """
    with tempfile.TemporaryFile() as printed:
        process = multiprocessing.get_context('fork').Process(
            target=_run_pytest, args=(folder, selection, printed.fileno()))
        process.start()
        process.join(timeout_secs)
        stopped = process.is_alive()
        if stopped:
            process.kill()
            process.join()
        printed.seek(0)
        output = printed.read().decode(errors='replace')[-3000:]
    if stopped:
        return 1, f'(stopped after {timeout_secs} s)'
    return process.exitcode, output


def _run_pytest(folder, selection, printed):
    os.dup2(printed, 1)
    os.dup2(printed, 2)
    os.chdir(folder)
    sys.path.insert(0, folder)
    sys.dont_write_bytecode = True
    # of the processes that tests start
    os.environ.update(PYTHONPATH=folder, PYTHONDONTWRITEBYTECODE='1')
    import pytest
    code = pytest.main(
        ['-x', '-q', '-p', 'no:cacheprovider', *selection.split()])
    sys.stdout.flush()
    os._exit(int(code))


def preload():
    """Import what every test needs, but nothing that is broken here."""
    import mmcv.runner
    import torch
    assert 'mmcv_ckpt_hooks' not in sys.modules
    return mmcv, torch


def try_mutant(mutant, folder):
    """Return what is wrong (None if it is killed), and pytest's last words."""
    path = os.path.join(folder, mutant['file'])
    whole = read(path)
    write(path, whole.replace(mutant['old'], mutant['new']))
    try:
        code, output = run_tests(folder, mutant['test'])
    finally:
        write(path, whole)
    problem = None
    if code == 0:
        problem = 'SURVIVED: the test passes on broken code'
    elif code != 1:
        problem = f'no verdict: pytest ended with {code}\n{output}'
    return problem, output


def reasons(output):
    """Return the lines in which pytest says why a test failed."""
    return [line for line in output.splitlines() if line.startswith('E  ')]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--only', default='', help='part of a name or file')
    parser.add_argument('--list', action='store_true')
    parser.add_argument(
        '--why', action='store_true', help='show how the tests failed')
    args = parser.parse_args()
    table = [
        mutant for mutant in json.loads(read(TABLE))
        if args.only in mutant['name'] + mutant['file']
    ]
    if not table:
        print(f'no mutant has {args.only!r} in its name or file')
        return 2
    if args.list:
        for mutant in table:
            print(f'{mutant["file"]}: {mutant["name"]}  [{mutant["test"]}]')
        return 0
    failures = 0
    begun = time.time()
    preload()
    with tempfile.TemporaryDirectory(prefix='mutants-') as folder:
        copy_tree(folder)
        selections = sorted({mutant['test'] for mutant in table})
        print(f'{len(table)} mutants; first the {len(selections)} tests on '
              'the unbroken code')
        code, output = run_tests(folder, ' '.join(selections), ALL_TESTS_SECS)
        if code != 0:
            print(f'the tests fail on the unbroken code:\n{output}')
            return 1
        for number, mutant in enumerate(table, 1):
            problem, output = check(mutant, folder), ''
            if problem is None:
                problem, output = try_mutant(mutant, folder)
            failures += problem is not None
            print(
                f'[{number}/{len(table)}, {time.time() - begun:.0f} s] '
                f'{"killed" if problem is None else problem}: '
                f'{mutant["name"]} ({mutant["file"]})',
                flush=True)
            if args.why:
                print('    ' + '\n    '.join(reasons(output)), flush=True)
    print(f'{len(table) - failures} of {len(table)} mutants killed in '
          f'{time.time() - begun:.0f} s')
    return 1 if failures else 0


if __name__ == '__main__':
    sys.exit(main())
