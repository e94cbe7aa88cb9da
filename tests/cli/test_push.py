"""``mmcv-ckpt push``: what a mirror lacks, copied by hand."""
import json
import os
import shutil

import pytest
from folders import NEW_TORCH, with_another_value
from toy import make_loader, make_runner, names, train

from mmcv_ckpt_hooks import find_resumable, verify_checkpoint
from mmcv_ckpt_hooks.cli import destination as cli_destination
from mmcv_ckpt_hooks.cli import main
from mmcv_ckpt_hooks.errors import MissingCheckpointError, StorageError
from mmcv_ckpt_hooks.history import History
from mmcv_ckpt_hooks.mirror_note import NOTE_NAME, MirrorNote, write_note
from mmcv_ckpt_hooks.storage.local import LocalBackend

ALL = ['best_mIoU_iter_4.pth'] + [f'iter_{step}.pth' for step in (2, 4, 6, 8)]


def push(capsys, *arguments):
    capsys.readouterr()
    code = main(['push', *map(str, arguments), '--json'])
    out, err = capsys.readouterr()
    content = json.loads(out)
    assert content['exit_code'] == code and content['ok'] is (code == 0)
    assert bool(content['error']) == bool(content['problem']) == bool(code)
    return code, content, err


def by_status(content, status):
    return sorted(one['name'] for one in content['checkpoints']
                  if one['status'] == status)


def test_everything_that_is_missing_is_copied_once(run_dir, tmp_path, capsys):
    there = tmp_path / 'there'
    code, content, _ = push(capsys, run_dir, there)
    assert code == 0
    assert by_status(content, 'copied') == ALL == names(there)[:-1]
    why = {one['name']: one['why'] for one in content['checkpoints']}
    assert why['best_mIoU_iter_4.pth'] == 'a copy of iter_4.pth there'
    for name in ALL:
        verify_checkpoint(there / name)
    assert find_resumable(there) == str(there / 'iter_8.pth')
    assert os.readlink(there / 'latest.pth') == 'iter_8.pth'
    code, content, _ = push(capsys, run_dir, there)
    assert code == 0 and by_status(content, 'skipped') == ALL
    # what people get
    shutil.rmtree(there)
    assert main(['push', str(run_dir), str(there)]) == 0
    out, _ = capsys.readouterr()
    assert 'copied   iter_8.pth: ' in out
    assert out.startswith(f'Copying to {there}\n')
    assert f'{there}: 5 copied, 0 skipped, 0 failed' in out


def test_a_run_goes_on_from_what_was_pushed(run_dir, tmp_path, capsys):
    push(capsys, run_dir, tmp_path / 'root' / 'again')
    runner = train(
        tmp_path / 'again',
        runner=dict(type='IterBasedRunnerAmp', max_iters=10),
        hooks=[
            dict(
                type='DurableCheckpointHook',
                interval=2,
                resume='auto',
                mirror=dict(url=str(tmp_path / 'root')))
        ])
    assert runner.restored.iter == 8
    assert 'iter_10.pth' in names(tmp_path / 'root' / 'again')


def test_without_a_url_it_is_the_mirror_of_the_run(tmp_path, capsys):
    work_dir, there = tmp_path / 'run', tmp_path / 'root' / 'run'
    train(
        work_dir,
        runner=dict(type='IterBasedRunnerAmp', max_iters=8),
        hooks=[
            dict(
                type='DurableCheckpointHook',
                interval=2,
                mirror=dict(
                    url=str(tmp_path / 'root'), keep=dict(last=1, every=4)))
        ])
    shutil.rmtree(there)
    code, content, _ = push(capsys, work_dir)
    assert (code, content['url']) == (0, str(there))
    assert by_status(content, 'copied') == ['iter_4.pth', 'iter_8.pth']
    assert by_status(content, 'skipped') == ['iter_2.pth', 'iter_6.pth']
    assert names(there) == ['iter_4.pth', 'iter_8.pth', 'latest.pth']
    # with one everything is
    code, content, _ = push(capsys, work_dir, there)
    assert by_status(content, 'copied') == ['iter_2.pth', 'iter_6.pth']
    # nothing is deleted
    push(capsys, work_dir)
    assert len(names(there)) == 5


@pytest.mark.parametrize('save_best, rule, keep', [
    ('mIoU', None, None),
    ('mIoU', 'less', None),
    ('auto', None, dict(best=3)),
    (None, None, dict(best=2, monitor='depth', rule='less')),
])
def test_of_the_best_what_the_mirror_keeps_is_copied(tmp_path, capsys,
                                                     save_best, rule, keep):
    work_dir, there = tmp_path / 'run', tmp_path / 'root' / 'run'
    scores = [dict(mIoU=one, depth=one) for one in (.5, .9, .7, .6, .1, .2)]
    train(
        work_dir,
        runner=dict(type='IterBasedRunnerAmp', max_iters=12),
        evaluation=dict(
            scores=scores,
            interval=2,
            by_epoch=False,
            save_best=save_best,
            rule=rule),
        hooks=[
            dict(
                type='DurableCheckpointHook',
                interval=2,
                keep=keep and dict(keep, last=9),
                mirror=dict(
                    url=str(tmp_path / 'root'), keep=dict(last=1, best=2)))
        ])
    kept = names(there)
    assert len(names(work_dir)) > len(kept) - 1
    shutil.rmtree(there)
    push(capsys, work_dir)
    assert names(there) == kept


def test_of_the_best_all_are_copied_while_scores_are_lost(
        run_dir, tmp_path, capsys, monkeypatch):
    note = MirrorNote(
        str(tmp_path / 'there'), last=1, best=1, monitors=dict(mIoU=''))
    write_note(LocalBackend(str(run_dir)), note)
    (run_dir / 'checkpoints.json').unlink()

    real = History.read

    def read(self, *args):
        if self._path.startswith(str(run_dir)):
            raise PermissionError(self._path)
        return real(self, *args)

    monkeypatch.setattr(History, 'read', read)
    _, content, _ = push(capsys, run_dir)
    assert by_status(content, 'copied') == ALL[1:]


def test_a_mirror_without_a_pointer_gets_none(tmp_path, capsys):
    work_dir, there = tmp_path / 'run', tmp_path / 'root' / 'run'
    train(
        work_dir,
        runner=dict(type='IterBasedRunnerAmp', max_iters=2),
        hooks=[
            dict(
                type='DurableCheckpointHook',
                interval=2,
                create_symlink=False,
                mirror=dict(url=str(tmp_path / 'root')))
        ])
    shutil.rmtree(there)
    push(capsys, work_dir)
    assert names(there) == ['iter_2.pth']


@pytest.mark.parametrize('given, expected', [
    ([], dict(endpoint='http://a:1', region='here')),
    (['--endpoint', 'http://b:2'], dict(endpoint='http://b:2', region='here')),
    (['--storage-options', '{"aws_region": "there"}'
      ], dict(endpoint='http://a:1', aws_region='there')),
])
def test_where_an_s3_mirror_is_was_noted(run_dir, capsys, monkeypatch, given,
                                         expected):
    note = MirrorNote('s3://bucket/run', endpoint='http://a:1', region='here')
    write_note(LocalBackend(str(run_dir)), note)
    seen = []

    def place(url, *args, **options):
        raise StorageError(f'{url} of {seen.append(args[3])}')

    monkeypatch.setattr(cli_destination, 'MirrorPlace', place)
    assert push(capsys, run_dir, *given)[0] == 2
    assert seen == [dict(expected, retry_secs=10.)]


@pytest.mark.parametrize('given, endpoint, said', [
    ([], 'http://127.0.0.1:9', ' (noted there)'),
    (['--endpoint', 'http://127.0.0.1:7'], 'http://127.0.0.1:7', ''),
])
def test_where_it_goes_is_said_before_anything_is_sent(run_dir, capsys,
                                                       monkeypatch, given,
                                                       endpoint, said):
    pytest.importorskip('obstore')
    note = MirrorNote('s3://bucket/run', endpoint='http://127.0.0.1:9')
    write_note(LocalBackend(str(run_dir)), note)
    told = f'Copying to s3://bucket/run (noted in {run_dir}/{NOTE_NAME}), ' \
        f'endpoint {endpoint}{said}\n'
    seen = []

    def opened(mirror):
        seen.append(capsys.readouterr())
        raise StorageError('nothing is there')

    monkeypatch.setattr(cli_destination.MirrorPlace, 'open', opened)
    assert main(['push', str(run_dir), *given]) == 2
    assert main(['push', str(run_dir), '--json', *given]) == 2
    (out, _), (_, err) = seen
    assert out == told and err.endswith(f'mmcv-ckpt: {told}')


def test_what_is_damaged_is_named_and_all_else_copied(run_dir, tmp_path,
                                                      capsys):
    path = run_dir / 'iter_8.pth'
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    code, content, err = push(capsys, run_dir, tmp_path / 'there')
    assert (code, content['error']) == (1, 'CorruptError')
    assert by_status(content, 'failed') == ['iter_8.pth']
    assert 'iter_8.pth is not copied' in err
    assert names(tmp_path / 'there')[:-1] == ALL[:-1]


def run_in_both_formats(run):
    for steps, form in ((2, 'dcp'), (4, 'pth'), (6, 'dcp')):
        train(
            run,
            runner=dict(type='IterBasedRunnerAmp', max_iters=steps),
            hooks=[
                dict(
                    type='DurableCheckpointHook',
                    interval=2,
                    format=form,
                    resume='auto')
            ])


@NEW_TORCH
def test_folders_are_copied_like_files(tmp_path, capsys):
    run, there = tmp_path / 'run', tmp_path / 'there'
    run_in_both_formats(run)
    both = ['iter_2.dcp', 'iter_4.pth', 'iter_6.dcp']
    code, content, err = push(capsys, run, there)
    assert code == 0 and 'not copied' not in err
    assert by_status(content, 'copied') == both
    for name in ('iter_2.dcp', 'iter_6.dcp'):
        verify_checkpoint(there / name)
    assert find_resumable(there) == str(there / 'iter_6.dcp')
    assert os.readlink(there / 'latest.dcp') == 'iter_6.dcp'
    code, content, _ = push(capsys, run, there)
    assert code == 0 and by_status(content, 'skipped') == both
    # one is damaged: it is named, and the others are copied
    part = run / 'iter_2.dcp' / '__0_0.distcp'
    part.write_bytes(with_another_value(part.read_bytes()))
    code, content, err = push(capsys, run, tmp_path / 'other')
    assert (code, content['error']) == (1, 'CorruptError')
    assert by_status(content, 'failed') == ['iter_2.dcp']
    assert by_status(content, 'copied') == both[1:]
    assert not (tmp_path / 'other' / 'iter_2.dcp').exists()


@NEW_TORCH
def test_folders_are_skipped_where_there_is_no_place_for_them(
        tmp_path, capsys):
    pytest.importorskip('fsspec')
    run_in_both_formats(tmp_path / 'run')
    url = 'memory://without_folders'
    code, content, _ = push(capsys, tmp_path / 'run', url)
    assert code == 0 and by_status(content, 'copied') == ['iter_4.pth']
    why = {one['name']: one['why'] for one in content['checkpoints']}
    assert why['iter_6.dcp'] == f'{url} cannot hold sharded checkpoints'


@pytest.mark.parametrize('who', ['run', 'mirror'])
def test_only_what_is_missing_in_the_run_lets_the_others_be_copied(
        run_dir, tmp_path, capsys, monkeypatch, who):
    real = LocalBackend.put, LocalBackend.open

    def put(self, name, write):
        if who == 'mirror' and name == 'iter_8.pth':
            raise MissingCheckpointError('404: no such upload')
        return real[0](self, name, write)

    def opened(self, name):
        if who == 'run' and name == 'iter_8.pth':
            raise MissingCheckpointError('404: no such file')
        return real[1](self, name)

    monkeypatch.setattr(LocalBackend, 'put', put)
    monkeypatch.setattr(LocalBackend, 'open', opened)
    code, content, _ = push(capsys, run_dir, tmp_path / 'there')
    assert (code, content['error']) == (2, 'MissingCheckpointError')
    copied = by_status(content, 'copied')
    assert copied == (ALL[:-1] if who == 'run' else [])


def test_what_is_not_of_the_run_is_skipped_and_told(run_dir, tmp_path, capsys):
    train(
        tmp_path / 'other',
        runner=dict(type='IterBasedRunnerAmp', max_iters=3),
        hooks=[dict(type='DurableCheckpointHook', interval=3)])
    shutil.copy(tmp_path / 'other' / 'iter_3.pth', run_dir)
    shutil.copy(run_dir / 'iter_6.pth', run_dir / 'copy_iter_6.pth')
    os.symlink(tmp_path / 'other' / 'iter_3.pth', run_dir / 'linked_3.pth')
    code, content, _ = push(capsys, run_dir, tmp_path / 'there')
    why = {
        one['name']: one['why']
        for one in content['checkpoints'] if one['status'] == 'skipped'
    }
    assert (code, by_status(content, 'copied')) == (0, ALL)
    assert why == {
        'copy_iter_6.pth':
        'no run wrote it under this name: another program did, or it was '
        'converted, copied or renamed. Copy it by hand',
        'iter_3.pth':
        'it is of another run than the last one here',
        'linked_3.pth':
        'a link that somebody made',
    }
    assert main(['push', str(run_dir), str(tmp_path / 'there')]) == 0
    out = capsys.readouterr().out
    assert 'skipped  iter_3.pth: it is of another run' in out
    assert ': 0 copied, 8 skipped, 0 failed' in out


def test_what_the_run_gave_up_is_told(run_dir, tmp_path, capsys):
    runner = make_runner(
        run_dir,
        runner=dict(type='IterBasedRunnerAmp', max_iters=5),
        hooks=[dict(type='DurableCheckpointHook', interval=5)])
    runner.resume(str(run_dir / 'iter_4.pth'))
    runner.run([make_loader(32)], [('train', 1)])
    # is no name of a step: a run would make a link of it
    (run_dir / 'latest.pth').unlink()
    shutil.copy(run_dir / 'iter_8.pth', run_dir / 'latest.pth')
    (run_dir / 'iter_8.pth').unlink()
    _, content, _ = push(capsys, run_dir, tmp_path / 'there')
    why = {one['name']: one['why'] for one in content['checkpoints']}
    assert why['iter_6.pth'] == \
        'given up: the run went on from an earlier one'
    assert why['latest.pth'] == \
        'its name is that of the link to the newest'


@NEW_TORCH
def test_a_folder_without_its_metadata_is_told(tmp_path, capsys):
    work = tmp_path / 'run'
    train(
        work,
        runner=dict(type='IterBasedRunnerAmp', max_iters=6),
        hooks=[dict(type='DurableCheckpointHook', interval=2, format='dcp')])
    (work / 'iter_2.dcp' / '.metadata').unlink()
    (work / 'iter_8.dcp').mkdir()
    code, content, err = push(capsys, work, tmp_path / 'there')
    assert (code, content['error']) == (1, 'TruncatedError')
    assert by_status(content, 'copied') == ['iter_4.dcp', 'iter_6.dcp']
    assert by_status(content, 'failed') == ['iter_2.dcp']
    assert 'iter_2.dcp has no .metadata' in content['problem']
    assert f'iter_2.dcp is not copied: {work}/iter_2.dcp has no' in err
    # a killed run has left it: nothing is lost with it
    assert by_status(content, 'skipped') == ['iter_8.dcp']
    shutil.rmtree(work / 'iter_2.dcp')
    code, content, _ = push(capsys, work, tmp_path / 'there')
    assert code == 0 and 'iter_8.dcp' in by_status(content, 'skipped')


@pytest.mark.parametrize('arguments, problem', [
    (lambda tmp: [tmp / 'run'], 'notes no mirror'),
    (lambda tmp: [tmp / 'run', tmp / 'run'], 'is the directory itself'),
    (lambda tmp: [tmp / 'run' / 'iter_2.pth', tmp], 'is a file'),
    (lambda tmp: [tmp / 'nowhere', tmp], 'nowhere'),
    (lambda tmp: ['s3://bucket/a', tmp], 'is no local path'),
    (lambda tmp: [tmp / 'run', tmp / 'run' / 'iter_2.pth'], 'iter_2.pth'),
    (lambda tmp: [tmp / 'run', 's3://key:secret@b/c'], 'must not hold'),
])
def test_wrong_usage_is_told(run_dir, tmp_path, capsys, arguments, problem):
    code, content, err = push(capsys, *arguments(tmp_path))
    assert code == 2 and problem in content['problem']
    assert 'secret' not in err + json.dumps(content).replace(
        's3://key:secret@b/c', '')


def test_a_single_folder_is_refused_and_left_as_it_is(tmp_path, capsys):
    folder = tmp_path / 'iter_2.dcp'
    folder.mkdir()
    (folder / '.metadata').write_bytes(b'')
    code, content, _ = push(capsys, folder, tmp_path / 'there')
    assert code == 2 and 'is a sharded checkpoint' in content['problem']
    assert [path.name for path in folder.iterdir()] == ['.metadata']
    assert not (tmp_path / 'there').exists()


def test_a_damaged_note_is_told(run_dir, capsys):
    for text in ('{', '[]', '{"url": 3}', '{"url": "a", "last": -1}', '{}',
                 '{"url": "a", "last": true}', '{"url": "a", "by_epoch": 3}',
                 '{"url": "a", "create_symlink": 1}',
                 '{"url": "a", "monitors": {"mIoU": "more"}}',
                 '{"url": "a", "endpoint": {}}', '{"url": "a", "region": 1}'):
        (run_dir / NOTE_NAME).write_text(text)
        code, content, _ = push(capsys, run_dir)
        assert code == 2 and 'is damaged' in content['problem']


def test_it_keeps_out_of_the_way_of_a_run(run_dir, tmp_path, capsys, live_run):
    with live_run(run_dir):
        code, content, _ = push(capsys, run_dir, tmp_path / 'there')
    assert (code, content['error']) == (2, 'LockedError')
    assert content['problem'].endswith(
        'on checkpoints.lock. Wait for the end of that run, or stop it, and '
        'give the command again')
    assert not (tmp_path / 'there').exists()
