"""With ``--json`` every command prints one JSON object, whatever it finds."""
import json
import os
import re
from pathlib import Path

import pytest
from checkpoint_files import Payload, torch_written

from mmcv_ckpt_hooks.cli import arguments, main

ROOT = Path(__file__).parents[2]


def missing(path):
    os.unlink(path)


def cut_off(path):
    os.truncate(path, 100)


def unsafe(path):
    path.write_bytes(torch_written(dict(a=Payload(os.mkdir, 'nowhere'))))


def a_link_to_nothing(path):
    os.unlink(path)
    path.symlink_to('/away/iter_8.pth')


def nothing(path):
    pass


def both(capsys, arguments):
    """Exit code, JSON, standard error output; and what people get.

    The exit codes agree, and so does what is told of the work itself.
    """
    capsys.readouterr()
    plain = main(arguments)
    for_people = capsys.readouterr()
    code = main([*arguments, '--json'])
    out, err = capsys.readouterr()
    assert code == plain
    content = json.loads(out)
    assert (content['exit_code'], content['ok']) == (code, code == 0)
    assert bool(content['error']) == bool(content['problem']) == bool(code)
    return code, content, err, for_people


def keys(capsys, *arguments):
    _, content, _, _ = both(capsys, [*arguments])
    return set(content)


CASES = [(nothing, 0, ''), (missing, 2, 'MissingCheckpointError'),
         (a_link_to_nothing, 2, 'MissingCheckpointError'),
         (cut_off, 1, 'TruncatedError'), (unsafe, 3, 'UnsafeCheckpointError')]


@pytest.mark.parametrize('change, code, error', CASES)
def test_inspect_says_what_is_wrong(run_dir, capsys, change, code, error):
    path = run_dir / 'iter_8.pth'
    change(path)
    found, content, err, plain = both(capsys, ['inspect', str(path)])
    assert (found, content['error']) == (code, error)
    assert content['path'] == str(path)
    assert err == plain.err
    assert err == (f'mmcv-ckpt: {content["problem"]}\n' if code else '')
    assert bool(content['meta']) == bool(content['tensors']) == (code == 0)


@pytest.mark.parametrize('change, code, error', CASES)
def test_verify_says_what_is_wrong(run_dir, capsys, change, code, error):
    path = run_dir / 'iter_8.pth'
    (run_dir / 'checkpoints.json').unlink()
    change(path)
    found, content, err, plain = both(
        capsys,
        ['verify', str(path), str(run_dir / 'iter_2.pth')])
    assert found == code
    one, = [one for one in content['checked'] if one['path'] == str(path)]
    other, = [other for other in content['checked'] if other is not one]
    assert (one['ok'], one['error']) == (code == 0, error)
    assert content['error'] == error
    assert (other['ok'], other['problem']) == (True, '')
    if code:
        assert f'mmcv-ckpt: {one["problem"]}\n' in err
        assert one['problem'] in plain.out + plain.err


@pytest.mark.parametrize('change, code, error', CASES)
def test_verify_of_one_file_says_what_is_wrong_with_it(run_dir, capsys, change,
                                                       code, error):
    path = run_dir / 'iter_8.pth'
    (run_dir / 'checkpoints.json').unlink()
    change(path)
    _, content, _, _ = both(capsys, ['verify', str(path)])
    one, = content['checked']
    assert (content['error'], content['problem']) == (error, one['problem'])


def test_the_error_of_several_is_what_decided_the_exit_code(run_dir, capsys):
    (run_dir / 'checkpoints.json').unlink()
    unsafe(run_dir / 'iter_4.pth')
    cut_off(run_dir / 'iter_6.pth')
    names = ['iter_2.pth', 'nowhere.pth', 'iter_4.pth', 'iter_6.pth']
    paths = [str(run_dir / name) for name in names]
    errors = []
    for count in range(1, 5):
        code, content, _, _ = both(capsys, ['verify', *paths[:count]])
        errors.append((code, content['error'], content['problem']))
    assert errors == [
        (0, '', ''),
        (2, 'MissingCheckpointError', '1 ok, 1 not checked'),
        (3, 'UnsafeCheckpointError', '1 ok, 1 unsafe, 1 not checked'),
        (1, 'TruncatedError', '1 ok, 1 damaged, 1 unsafe, 1 not checked'),
    ]


@pytest.mark.parametrize('name, error', [('nowhere', 'MissingCheckpointError'),
                                         ('run/iter_8.pth', 'ConfigError'),
                                         ('pipe', 'ConfigError')])
def test_ls_says_what_is_wrong(run_dir, capsys, name, error):
    os.mkfifo(run_dir.parent / 'pipe')
    path = str(run_dir.parent / name)
    found, content, err, plain = both(capsys, ['ls', path])
    assert (found, content['error'], content['path']) == (2, error, path)
    assert err == plain.err == f'mmcv-ckpt: {content["problem"]}\n'


def test_ls_of_a_directory_is_ok(run_dir, capsys):
    found, content, _, _ = both(capsys, ['ls', str(run_dir)])
    assert (found, content['path']) == (0, str(run_dir))
    assert content['directory'] == str(run_dir) and content['checkpoints']


@pytest.mark.parametrize('command, name', [('ls', ''),
                                           ('inspect', 'iter_8.pth')])
def test_what_fails_has_the_keys_of_what_does_not(run_dir, capsys, command,
                                                  name):
    told = keys(capsys, command, str(run_dir / name))
    assert told == keys(capsys, command, str(run_dir / 'nowhere' / name))
    assert told == keys(capsys, command, f's3:///{name}')


@pytest.mark.parametrize('name', ['iter_8.pth', 'nowhere.pth'])
@pytest.mark.parametrize('start', ['~/', 'file://~/', './'])
def test_a_path_is_told_as_it_was_given(run_dir, monkeypatch, capsys, start,
                                        name):
    monkeypatch.setenv('HOME', str(run_dir))
    monkeypatch.chdir(run_dir)
    path = start + name
    _, content, _, _ = both(capsys, ['inspect', path])
    assert content['path'] == path
    _, content, _, _ = both(capsys, ['verify', path])
    assert content['paths'] == [path] == [content['checked'][0]['path']]
    for directory in (start, start + 'nowhere'):
        _, content, _, _ = both(capsys, ['ls', directory])
        assert content['path'] == directory


@pytest.mark.parametrize('command', arguments.COMMANDS)
def test_the_page_has_every_field(command):
    page = (ROOT / 'docs' / 'command-line.md').read_text()
    _, _, table = page.partition('## `--json`')
    row, = re.findall(rf'^\| `{command}` \| (.*) \|$',
                      table.partition('\n## ')[0], re.MULTILINE)
    parser = arguments.make_parser([command])
    chosen = arguments.parsers_of(parser)[command]
    nothing = chosen.get_default('nothing')
    assert (nothing is None) == (command == 'completion')
    if nothing is not None:
        paths = ['x' for _ in chosen._get_positional_actions()]
        fields = nothing(parser.parse_args([command, *paths]))
        assert set(fields) <= set(re.findall(r'`(\w+)`', row))


def test_a_repair_that_is_refused_says_so(run_dir, monkeypatch, capsys):
    (run_dir / 'iter_2.pth').unlink()

    def refuse(source, target):
        raise PermissionError(13, 'Permission denied')

    monkeypatch.setattr(os, 'replace', refuse)
    told = keys(capsys, 'verify', str(run_dir))
    found, content, err, _ = both(capsys,
                                  ['verify', '--repair-catalog',
                                   str(run_dir)])
    assert set(content) == told and content['paths'] == [str(run_dir)]
    assert (found, content['error']) == (2, 'AccessError')
    assert content['checked'] == [] and content['repaired'] == {}
    assert content['problem'] in err
