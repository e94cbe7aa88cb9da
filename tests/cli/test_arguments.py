"""What is wrong with a command line is told in two lines."""
import json

import pytest

from mmcv_ckpt_hooks.cli import arguments, main


def refused(capsys, *given):
    """Both lines of a refusal."""
    with pytest.raises(SystemExit) as caught:
        main(list(given))
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert out == ''
    problem, usage = err.splitlines()
    return problem, usage


@pytest.mark.parametrize('given, near', [('lst', 'ls'), ('list', 'ls'),
                                         ('verfy', 'verify'),
                                         ('check', 'verify'), ('gc', 'prune'),
                                         ('download', 'pull')])
def test_an_unknown_command_names_the_nearest(capsys, given, near):
    problem, usage = refused(capsys, given, 'dir')
    assert problem == (
        f'mmcv-ckpt: unknown command {given!r} (did you mean {near}?); there '
        f'are: {", ".join(arguments.COMMANDS)}')
    assert usage == ('usage: mmcv-ckpt [OPTION ...] COMMAND ... ("mmcv-ckpt '
                     '--help" tells all)')


def test_what_others_call_so_leads_to_a_command():
    for meant in arguments._MEANT.values():
        assert meant.split()[0] in arguments.COMMANDS


def test_a_command_like_no_other_names_them_all(capsys):
    problem, _ = refused(capsys, 'xyzzy')
    assert problem.startswith(
        "mmcv-ckpt: unknown command 'xyzzy'; there are: ls")


@pytest.mark.parametrize('given, said', [
    (['ls', '--jsn'], 'ls: unknown option --jsn (did you mean --json?)'),
    (['--jsn', 'ls'], 'ls: unknown option --jsn (did you mean --json?)'),
    (['prune', '.', '--lastt=3'
      ], 'prune: unknown option --lastt (did you mean --last?)'),
    (['verify', '.', '--xyzzy'], 'verify: unknown option --xyzzy'),
    (['ls', 'a', 'b'], "ls: one argument too many: 'b'"),
    (['verify'], 'verify: the following arguments are required: PATH'),
])
def test_a_wrong_argument_names_the_right_one(capsys, given, said):
    problem, usage = refused(capsys, *given)
    command = said.partition(':')[0]
    assert problem == f'mmcv-ckpt {said}'
    assert usage.startswith(f'usage: mmcv-ckpt {command} [OPTION ...] ')
    assert usage.endswith(f'("mmcv-ckpt {command} --help" tells all)')


@pytest.mark.parametrize('given, problem', [
    (['publish', '--json', 'a'], 'the following arguments are required: DST'),
    (['--json', 'ls', '--xyzzy'], 'unknown option --xyzzy'),
    (['--json'], 'the following arguments are required: COMMAND'),
    (['--json', 'lst'], "unknown command 'lst' (did you mean ls?); there are:"
     f' {", ".join(arguments.COMMANDS)}'),
    (['ls', 'a', 'b', '--json'], "one argument too many: 'b'"),
])
def test_wrong_usage_is_told_to_programs_as_well(capsys, given, problem):
    with pytest.raises(SystemExit) as caught:
        main(given)
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert json.loads(out) == dict(
        ok=False, exit_code=2, error='UsageError', problem=problem)
    assert err.count('\n') == 2 and f': {problem}\nusage: ' in err


def test_a_file_of_that_name_asks_for_no_json(capsys):
    refused(capsys, 'verify', '--xyzzy', '--', '--json')


def test_json_may_stand_before_the_command(run_dir, capsys):
    assert main(['--json', 'ls', str(run_dir)]) == 0
    before = capsys.readouterr().out
    assert main(['ls', str(run_dir), '--json']) == 0
    assert json.loads(before) == json.loads(capsys.readouterr().out)


def test_without_a_command_the_program_shows_what_it_has(capsys):
    assert main([]) == 2
    out, err = capsys.readouterr()
    assert err == ''
    for command in arguments.COMMANDS:
        assert f'\n    {command}' in out
    assert 'mmcv-ckpt prune work_dirs/run --last 3' in out
    assert all(len(line) <= 80 for line in out.splitlines()[3:])


def test_a_command_reads_no_other(capsys):
    parser = arguments.make_parser(['ls'])
    assert list(arguments.parsers_of(parser)) == ['ls']
    whole = arguments.make_parser()
    assert tuple(arguments.parsers_of(whole)) == arguments.COMMANDS
