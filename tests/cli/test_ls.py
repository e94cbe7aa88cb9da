"""``mmcv-ckpt ls``: a person sees what is there and what a resume takes."""
import io
import json
import os
import re
import shutil
import subprocess
import sys

import pytest
import torch
from checkpoint_files import without_crc
from toy import make_loader, make_runner, train

import mmcv_ckpt_hooks
from mmcv_ckpt_hooks import find_resumable
from mmcv_ckpt_hooks.cli import main, output
from mmcv_ckpt_hooks.cli.output import Column
from mmcv_ckpt_hooks.errors import IntegrityError
from mmcv_ckpt_hooks.place_note import PLACE_NOTE, note_place
from mmcv_ckpt_hooks.wording import size_text

DURABLE = [dict(type='DurableCheckpointHook')]


def listed(capsys, *arguments):
    assert main(['ls', *map(str, arguments), '--json']) == 0
    return json.loads(capsys.readouterr().out)


def flags(capsys, directory):
    content = listed(capsys, directory)
    return {one['name']: one['flags'] for one in content['checkpoints']}


class Terminal(io.StringIO):
    encoding = 'utf-8'

    def isatty(self):
        return True


def test_a_terminal_that_can_nothing_gets_plain_lines(run_dir, monkeypatch,
                                                      capsys):
    assert main(['ls', str(run_dir)]) == 0
    plain = capsys.readouterr().out
    monkeypatch.setenv('TERM', 'dumb')
    monkeypatch.setattr('sys.stdout', Terminal())
    assert main(['ls', str(run_dir)]) == 0
    assert sys.stdout.getvalue() == plain


# -- the table -------------------------------------------------------------


def test_the_table_tells_all_about_each_checkpoint(run_dir, capsys):
    assert main(['ls', str(run_dir)]) == 0
    out = capsys.readouterr().out
    head, *lines = out.splitlines()
    assert re.split(r'  +', head) == [
        'name', 'iter', 'epoch', 'size', 'metrics', 'time (UTC)', 'verified',
        'flags'
    ]
    time = r'20\d\d-\d\d-\d\d \d\d:\d\d:\d\d +structure'
    rows = [
        rf'iter_2\.pth +2 +0 +\d+\.\d kB +mIoU 0\.5 +{time}',
        rf'iter_4\.pth +4 +0 +\d+\.\d kB +mIoU 0\.7 +{time}',
        rf'best_mIoU_iter_4\.pth +4 +0 +\d+\.\d kB +mIoU 0\.7 +{time}'
        r' +best mIoU, same as iter_4\.pth, pinned',
        rf'iter_6\.pth +6 +0 +\d+\.\d kB +mIoU 0\.6 +{time}',
        rf'iter_8\.pth +8 +[01] +\d+\.\d kB +mIoU 0\.65 +{time}'
        r' +resume, latest, pinned',
    ]
    for pattern, line in zip(rows, lines):
        assert re.fullmatch(pattern, line), line
    assert '4 checkpoints and 1 second name, ' in out
    assert "resume='auto' would take iter_8.pth, the newest of its run" in out


def test_json_has_what_the_catalog_has_and_more(run_dir, capsys):
    content = listed(capsys, run_dir)
    catalog = json.loads((run_dir / 'checkpoints.json').read_text())
    assert content['directory'] == str(run_dir)
    assert content['lineage'] == catalog['lineage']
    assert content['resume'] == content['latest'] == 'iter_8.pth'
    assert content['best'] == catalog['best']
    for one, entry in zip(content['checkpoints'], catalog['checkpoints']):
        assert one.pop('flags') is not None
        assert one.pop('problem') == one.pop('link') == ''
        assert one.pop('structure') == 'ok'
        assert one.pop('verified_at') == one.pop('damaged_at') == ''
        assert one.pop('pinned') == {
            'best_mIoU_iter_4.pth': ['the best so far'],
            'iter_8.pth': ['the latest', 'for a resume']
        }.get(one['name'], [])
        assert one == entry


def test_numbers_that_json_does_not_have_are_null(run_dir, capsys):
    path = run_dir / 'checkpoints.json'
    path.write_text(
        without_crc(path.read_text()).replace('"mIoU": 0.5', '"mIoU": NaN'))
    first = listed(capsys, run_dir)['checkpoints'][0]
    assert first['metrics'] == {'mIoU': None}
    assert main(['ls', str(run_dir)]) == 0
    assert 'mIoU nan' in capsys.readouterr().out


def test_scores_of_single_classes_are_counted_not_shown(run_dir, capsys):
    path = run_dir / 'checkpoints.json'
    content = json.loads(without_crc(path.read_text()))
    content['checkpoints'][0]['metrics'] = {
        'IoU.a': .1,
        'IoU.b': .2,
        'aAcc': .3,
        'mAcc': .4,
        'mDice': .5,
        'mIoU': .6
    }
    path.write_text(json.dumps(content))
    assert main(['ls', str(run_dir)]) == 0
    # the metric of the best goes first
    assert '  mIoU 0.6, aAcc 0.3, mAcc 0.4, +3  ' in capsys.readouterr().out


@pytest.mark.parametrize('size, text', [(0, '0 B'), (999, '999 B'),
                                        (1000, '1.0 kB'), (868785, '868.8 kB'),
                                        (999_960, '1.0 MB'),
                                        (2_606_355_000, '2.6 GB'),
                                        (12e18, '12000.0 PB')])
def test_sizes_are_for_people(size, text):
    assert size_text(size) == text


def test_nothing_in_a_name_acts_on_the_terminal(run_dir, capsys):
    (run_dir / 'iter_8.pth').rename(run_dir / 'iter_\x1b[31m\n8.pth')
    path = run_dir / 'checkpoints.json'
    path.write_text(
        without_crc(path.read_text()).replace('"mIoU": 0.5',
                                              '"\\u001b[2Jm": 0.5'))
    assert main(['ls', str(run_dir)]) == 0
    captured = capsys.readouterr()
    assert '\x1b' not in captured.out + captured.err
    assert r'iter_\x1b[31m\n8.pth' in captured.out
    assert r'\x1b[2Jm 0.5' in captured.out


def test_a_terminal_that_lacks_a_character_ends_nothing(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding='ascii')
    monkeypatch.setattr(sys, 'stdout', stream)
    output.print_line('größe')
    stream.flush()
    assert stream.buffer.getvalue().strip() == rb'gr\xf6\xdfe'


# -- rich ------------------------------------------------------------------


def on_terminal(monkeypatch, run_dir, columns):
    stream = Terminal()
    monkeypatch.setattr(sys, 'stdout', stream)
    monkeypatch.setenv('COLUMNS', str(columns))
    monkeypatch.setenv('TERM', 'xterm')
    assert main(['ls', str(run_dir)]) == 0
    return stream.getvalue()


def test_without_rich_a_terminal_gets_the_plain_table(run_dir, monkeypatch,
                                                      capsys):
    assert main(['ls', str(run_dir)]) == 0
    plain = capsys.readouterr().out
    for name in [name for name in sys.modules if name.startswith('rich')]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, 'rich', None)
    monkeypatch.setitem(sys.modules, 'rich.console', None)
    assert on_terminal(monkeypatch, run_dir, 100) == plain


@pytest.mark.parametrize('columns', [200, 40])
def test_rich_leaves_no_column_out(run_dir, monkeypatch, columns):
    pytest.importorskip('rich')
    text = on_terminal(monkeypatch, run_dir, columns)
    assert '\x1b[' in text  # in colour
    text = re.sub(r'\x1b\[[0-9;]*m', '', text)
    for word in ('best_mIoU_iter_4.pth', 'epoch', 'kB', 'mIoU 0.65', 'flags',
                 'resume, latest'):
        assert word in text


def test_square_brackets_are_no_markup(monkeypatch):
    pytest.importorskip('rich')
    stream = Terminal()
    monkeypatch.setattr(sys, 'stdout', stream)
    output.print_table([Column('name')], [['[red]iter_[/nothing].pth']], [''])
    assert '[red]iter_[/nothing].pth' in stream.getvalue()


# -- what a resume would take ----------------------------------------------


def cut_off(path):
    os.truncate(path, path.stat().st_size // 2)


def empty(path):
    os.truncate(path, 0)


def replaced(path):
    """By a complete checkpoint of the same size: the digest tells."""
    other = path.with_name('iter_6.pth').read_bytes()
    size = path.stat().st_size
    path.write_bytes(other)
    catalog = path.with_name('checkpoints.json')
    catalog.write_text(catalog.read_text().replace(f'"bytes": {size}',
                                                   f'"bytes": {len(other)}'))


def removed(path):
    path.unlink()


@pytest.mark.parametrize('damage, lost', [
    (cut_off, False),
    (cut_off, True),
    (empty, False),
    (empty, True),
    (replaced, False),
    (removed, False),
    (removed, True),
])
def test_it_names_what_a_resume_takes(run_dir, capsys, damage, lost):
    damage(run_dir / 'iter_8.pth')
    if lost:
        (run_dir / 'checkpoints.json').unlink()
    content = listed(capsys, run_dir)
    assert content['resume'] == 'iter_6.pth'
    assert find_resumable(str(run_dir)) == str(run_dir / 'iter_6.pth')
    damaged = {
        one['name']: one['problem']
        for one in content['checkpoints'] if 'damaged' in one['flags']
    }
    if damage is removed:
        assert damaged == {}
        return
    assert list(damaged) == ['iter_8.pth']
    assert 'iter_8.pth' in damaged['iter_8.pth']
    assert main(['ls', str(run_dir)]) == 0
    out = capsys.readouterr().out
    assert f'damaged: {damaged["iter_8.pth"]}' in out
    assert 'iter_6.pth, the newest that is not damaged' in out


def test_a_cut_off_file_is_still_its_runs(run_dir, capsys):
    """Its size differs, so that the catalog reads it anew: and learns none."""
    cut_off(run_dir / 'iter_8.pth')
    last = listed(capsys, run_dir)['checkpoints'][-1]
    assert (last['iter'], last['metrics']) == (8, {'mIoU': .65})
    assert last['flags'] == ['damaged', 'latest']


def test_an_old_damaged_file_is_told_of_too(run_dir, capsys):
    cut_off(run_dir / 'iter_2.pth')
    content = listed(capsys, run_dir)
    assert content['resume'] == 'iter_8.pth'
    assert 'damaged' in content['checkpoints'][0]['flags']


def test_nothing_to_resume_from_is_said(run_dir, capsys):
    for path in run_dir.glob('*.pth'):
        empty(path)
    assert main(['ls', str(run_dir)]) == 0
    assert "resume='auto' would stop with an error" in capsys.readouterr().out


def test_a_format_that_a_resume_refuses_is_told(run_dir, capsys):
    old_format(run_dir / 'iter_8.pth')
    found = flags(capsys, run_dir)
    assert found['iter_8.pth'] == ['needs trust_checkpoint', 'latest']
    assert found['iter_6.pth'] == ['resume']
    assert find_resumable(str(run_dir)) == str(run_dir / 'iter_6.pth')
    assert main(['ls', str(run_dir)]) == 0
    assert 'take iter_6.pth, the newest that can be verified' in \
        capsys.readouterr().out


def test_nothing_but_such_a_format_is_told(run_dir, capsys):
    for path in run_dir.glob('*.pth'):
        if not path.is_symlink():
            old_format(path)
    assert listed(capsys, run_dir)['resume'] is None
    with pytest.raises(IntegrityError):
        find_resumable(str(run_dir))
    assert main(['ls', str(run_dir)]) == 0
    assert 'continued from without trust_checkpoint=True' in \
        capsys.readouterr().out


def old_format(path):
    torch.save(
        torch.load(path, weights_only=False),
        path,
        _use_new_zipfile_serialization=False)


def test_what_was_written_beyond_the_resume_is_superseded(run_dir, capsys):
    runner = make_runner(
        run_dir,
        runner=dict(type='IterBasedRunnerAmp', max_iters=6),
        checkpoint_config=dict(interval=2),
        hooks=DURABLE)
    runner.resume(str(run_dir / 'iter_4.pth'))
    runner.run([make_loader(32)], [('train', 1)])
    found = flags(capsys, run_dir)
    assert found['iter_8.pth'] == ['superseded']
    assert found['iter_6.pth'] == ['resume', 'latest']
    assert found['iter_2.pth'] == []


def test_other_runs_and_programs_are_told_apart(run_dir, tmp_path, capsys):
    train(  # stock mmcv
        tmp_path / 'stock',
        runner=dict(type='IterBasedRunner', max_iters=1),
        checkpoint_config=dict(interval=1))
    os.rename(tmp_path / 'stock' / 'iter_1.pth', run_dir / 'iter_1.pth')
    train(
        run_dir,
        loader=make_loader(64),
        runner=dict(type='IterBasedRunnerAmp', max_iters=10),
        checkpoint_config=dict(interval=10),
        hooks=DURABLE)
    found = flags(capsys, run_dir)
    assert found['iter_1.pth'] == ['not owned']
    assert found['iter_8.pth'] == ['other run']
    assert found['iter_10.pth'] == ['resume', 'latest']


def test_a_directory_of_stock_mmcv_is_listed(tmp_path, capsys):
    train(
        tmp_path,
        runner=dict(type='IterBasedRunner', max_iters=4),
        checkpoint_config=dict(interval=2))
    assert flags(capsys, tmp_path) == {
        'iter_2.pth': [],
        'iter_4.pth': ['resume', 'latest']
    }
    assert main(['ls', str(tmp_path)]) == 0
    assert 'would take iter_4.pth, the newest. ' in capsys.readouterr().out
    assert not (tmp_path / 'checkpoints.json').exists()  # only read


# -- latest.pth ------------------------------------------------------------


def test_latest_may_be_a_hard_link(run_dir, capsys):
    (run_dir / 'latest.pth').unlink()
    os.link(run_dir / 'iter_6.pth', run_dir / 'latest.pth')
    assert listed(capsys, run_dir)['latest'] == 'iter_6.pth'


@pytest.mark.parametrize('text', ['iter_6.pth\n', '/moved/away/iter_6.pth'])
def test_latest_may_be_a_pointer_file(run_dir, capsys, text):
    (run_dir / 'latest.pth').unlink()
    (run_dir / 'last_checkpoint').write_text(text)
    assert listed(capsys, run_dir)['latest'] == 'iter_6.pth'


@pytest.mark.parametrize('text', ['iter_7.pth', ''])
def test_a_pointer_to_nothing_is_none(run_dir, capsys, text):
    (run_dir / 'latest.pth').unlink()
    (run_dir / 'last_checkpoint').write_text(text)
    assert listed(capsys, run_dir)['latest'] is None


@pytest.mark.parametrize('target, why',
                         [('iter_7.pth', 'does not exist'),
                          ('../other/iter_8.pth', 'is not in this directory')])
def test_a_latest_that_leads_elsewhere_is_told(run_dir, capsys, target, why):
    other = run_dir.parent / 'other'
    other.mkdir()
    shutil.copy(run_dir / 'iter_8.pth', other)
    (run_dir / 'latest.pth').unlink()
    (run_dir / 'latest.pth').symlink_to(target)
    assert main(['ls', str(run_dir)]) == 0
    captured = capsys.readouterr()
    assert f'latest.pth points to {target}, which {why}' in captured.err
    assert '(latest)' not in captured.out
    assert listed(capsys, run_dir)['latest'] is None


# -- what cannot be listed -------------------------------------------------


def test_an_empty_directory_is_no_error(tmp_path, capsys):
    assert main(['ls', str(tmp_path)]) == 0
    assert capsys.readouterr().out == f'No checkpoints in {tmp_path}\n'
    content = listed(capsys, tmp_path)
    assert content['checkpoints'] == [] and content['resume'] is None


def test_a_work_dir_says_where_its_checkpoints_went(tmp_path, capsys):
    work_dir, out_dir = tmp_path / 'run', tmp_path / 'out'

    def run(steps, **hook):
        train(
            work_dir,
            runner=dict(type='IterBasedRunnerAmp', max_iters=steps),
            hooks=[dict(type='DurableCheckpointHook', **hook)])
        capsys.readouterr()
        assert main(['ls', str(work_dir)]) == 0
        return capsys.readouterr().out

    assert run(
        1, out_dir=str(out_dir)) == (
            f'No checkpoints in {work_dir}\nThe last run of this work dir has '
            f'them in {out_dir}/run: "mmcv-ckpt ls {out_dir}/run"\n')
    assert (work_dir / PLACE_NOTE).exists()
    assert 'has them in' not in run(2)
    assert not (work_dir / PLACE_NOTE).exists()


def test_that_has_the_endpoint_and_no_credentials(tmp_path, capsys):
    pytest.importorskip('obstore')
    options = dict(endpoint='http://a:1', secret_access_key='hidden')
    note_place(str(tmp_path), 's3://bucket/run', options)
    assert 'hidden' not in (tmp_path / PLACE_NOTE).read_text()
    assert main(['ls', str(tmp_path)]) == 0
    assert '"mmcv-ckpt ls s3://bucket/run --endpoint http://a:1"' in \
        capsys.readouterr().out


@pytest.mark.parametrize('text', ['', '{"url": 3}', '[]', '{"url": "a', '3'])
def test_a_note_that_says_nothing_is_passed_over(tmp_path, capsys, text):
    (tmp_path / PLACE_NOTE).write_text(text)
    assert main(['ls', str(tmp_path)]) == 0
    assert capsys.readouterr().out == f'No checkpoints in {tmp_path}\n'


def test_a_note_that_is_a_pipe_is_not_waited_for(tmp_path, capsys):
    os.mkfifo(tmp_path / PLACE_NOTE)
    assert main(['ls', str(tmp_path)]) == 0
    assert capsys.readouterr().out == f'No checkpoints in {tmp_path}\n'


def test_the_directory_above_names_those_that_have_some(run_dir, capsys):
    (run_dir.parent / 'empty').mkdir()
    assert main(['ls', str(run_dir.parent)]) == 0
    assert f'there are some in {run_dir}: name' in capsys.readouterr().out


def test_the_current_directory_is_the_default(run_dir, monkeypatch, capsys):
    monkeypatch.chdir(run_dir)
    assert listed(capsys)['resume'] == 'iter_8.pth'


@pytest.mark.parametrize('given, told', [
    ('missing', 'cannot find {}: No such file or directory'),
    ('run/iter_8.pth', '{} is a file, expected a directory'),
    ('run/iter_8.pth/x', 'run/iter_8.pth is a file): Not a directory'),
    ('dangling', 'dangling is a link to nowhere, which is not there'),
    ('nowhere://bucket/run', 'reads no nowhere:// URL'),
])
def test_a_wrong_path_is_a_clear_error(run_dir, capsys, given, told):
    (run_dir.parent / 'dangling').symlink_to('nowhere')
    path = given if '://' in given else str(run_dir.parent / given)
    assert main(['ls', path]) == 2
    captured = capsys.readouterr()
    assert captured.out == ''
    assert captured.err.startswith('mmcv-ckpt: ')
    assert told.format(path) in captured.err


def test_a_refusal_is_not_an_empty_directory(run_dir, monkeypatch, capsys):

    def refuse(path):
        raise PermissionError(13, 'Permission denied', path)

    monkeypatch.setattr(os, 'scandir', refuse)
    assert main(['ls', str(run_dir)]) == 2
    err = capsys.readouterr().err
    assert f'{run_dir}: Permission denied' in err and 'owner and mode' in err


# -- the program -----------------------------------------------------------


@pytest.mark.parametrize('arguments',
                         [['lst'], ['ls', 'a', 'b'], ['ls', '--long']])
def test_wrong_usage_is_2(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert 'usage: mmcv-ckpt' in capsys.readouterr().err


def test_the_version_is_the_packages(capsys):
    with pytest.raises(SystemExit) as caught:
        main(['--version'])
    assert caught.value.code == 0
    version = mmcv_ckpt_hooks.__version__
    assert capsys.readouterr().out == f'mmcv-ckpt {version}\n'


def program(*arguments):
    return [sys.executable, '-m', 'mmcv_ckpt_cli', *arguments]


@pytest.mark.parametrize('arguments, lines', [
    (['ls', '.'], 0),
    (['ls', '.', '--json'], 0),
    (['inspect', 'nowhere.pth'], 1),
    (['inspect', 'nowhere.pth', '--json'], 1),
    (['ls', 'nowhere', '--json'], 1),
    (['verify', 'iter_8.pth', '--json'], 0),
])
def test_a_reader_that_goes_away_is_no_traceback(run_dir, monkeypatch, capfd,
                                                 arguments, lines):
    monkeypatch.chdir(run_dir)
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, 'w') as closed_pipe:
        monkeypatch.setattr(sys, 'stdout', closed_pipe)
        code = main(arguments)
    # nothing was to be written where people alone are told what is wrong
    silent = lines and '--json' not in arguments
    assert code == (2 if silent else 141)
    assert capfd.readouterr().err.count('\n') == lines


@pytest.mark.parametrize('both', [False, True])
def test_a_pipe_that_is_closed_is_told_by_the_exit_code(tmp_path, both):
    """Seen from outside: the interpreter flushes once more at the exit."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        program('inspect', str(tmp_path / 'nowhere.pth'), '--json'),
        stdout=writer,
        stderr=writer if both else subprocess.PIPE,
        timeout=300)
    os.close(writer)
    assert done.returncode == 141
    assert both or b'Traceback' not in done.stderr


@pytest.mark.skipif(
    not os.path.exists('/dev/full'), reason='no device without space')
def test_an_output_without_space_is_no_traceback(run_dir):
    with open('/dev/full', 'w') as full:
        done = subprocess.run(
            program('ls', str(run_dir), '--json'),
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=300)
    assert done.returncode == 2
    assert b'cannot write the output: [Errno 28]' in done.stderr
    assert b'Traceback' not in done.stderr
    assert b'Exception ignored' not in done.stderr


def test_an_interrupt_is_no_traceback(run_dir, monkeypatch, capsys):

    def interrupt(path):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, 'scandir', interrupt)
    assert main(['ls', str(run_dir)]) == 130
    assert capsys.readouterr().err == 'mmcv-ckpt: interrupted\n'
