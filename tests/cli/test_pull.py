"""``mmcv-ckpt pull``: the checkpoints of a run, where one is needed."""
import json
import os
import shutil

import pytest
from folders import NEW_TORCH
from toy import names, train

from mmcv_ckpt_hooks import find_resumable, verify_checkpoint
from mmcv_ckpt_hooks.catalog import CATALOG_NAME
from mmcv_ckpt_hooks.cli import copies as cli_copies
from mmcv_ckpt_hooks.cli import main

ALL = ['best_mIoU_iter_4.pth'] + [f'iter_{step}.pth' for step in (2, 4, 6, 8)]


@pytest.fixture
def pull(capsys):
    """Run the command; exit code, its JSON object, what it warned of."""

    def run(*arguments):
        capsys.readouterr()
        code = main(['pull', *map(str, arguments), '--json'])
        out, err = capsys.readouterr()
        content = json.loads(out)
        assert content['exit_code'] == code and content['ok'] is (code == 0)
        return code, content, err

    return run


def by_status(content, status):
    return sorted(one['name'] for one in content['checkpoints']
                  if one['status'] == status)


@pytest.mark.parametrize('name, code', [('', 0), ('nowhere', 2)])
def test_the_directory_is_told_as_it_was_given(run_dir, tmp_path, monkeypatch,
                                               pull, name, code):
    monkeypatch.setenv('HOME', str(tmp_path))
    found, content, _ = pull(run_dir / name, '~/new')
    assert (found, content['path']) == (code, '~/new')
    assert content['url'] == str(run_dir / name)


def test_everything_comes_once_and_a_run_goes_on(run_dir, tmp_path, pull):
    there = tmp_path / 'new' / 'place'
    code, content, _ = pull(run_dir, there)
    assert code == 0 and by_status(content, 'copied') == ALL
    for name in ALL:
        verify_checkpoint(there / name)
    assert find_resumable(there) == str(there / 'iter_8.pth')
    assert os.readlink(there / 'latest.pth') == 'iter_8.pth'
    code, content, _ = pull(run_dir, there)
    assert code == 0 and by_status(content, 'skipped') == ALL
    runner = train(
        there,
        runner=dict(type='IterBasedRunnerAmp', max_iters=10),
        hooks=[dict(type='DurableCheckpointHook', interval=2, resume='auto')])
    assert runner.restored.iter == 8
    scores = {
        one['name']: one['metrics']
        for one in json.loads((there /
                               CATALOG_NAME).read_text())['checkpoints']
    }
    assert scores['iter_4.pth'] == dict(mIoU=.7)


def test_the_newest_alone(run_dir, tmp_path, pull):
    code, content, _ = pull(run_dir, tmp_path / 'there', '--newest')
    assert code == 0
    assert names(tmp_path / 'there') == ['iter_8.pth', 'latest.pth']


def test_one_by_its_name(run_dir, tmp_path, pull):
    code, content, _ = pull(run_dir / 'iter_4.pth', tmp_path / 'there')
    assert code == 0
    assert names(tmp_path / 'there') == ['iter_4.pth', 'latest.pth']
    shutil.copy(str(run_dir / 'iter_4.pth'), str(run_dir / 'iter_5.pth'))
    code, content, _ = pull(run_dir / 'iter_5.pth', tmp_path / 'there')
    assert code == 2 and 'is not of the run there' in content['problem']


def test_what_is_damaged_is_told_and_the_others_come(run_dir, tmp_path, pull):
    path = run_dir / 'iter_6.pth'
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    code, content, err = pull(run_dir, tmp_path / 'there')
    assert code == 1 and by_status(content, 'failed') == ['iter_6.pth']
    assert 'iter_6.pth is not copied' in err
    assert set(ALL) - {'iter_6.pth'} <= set(names(tmp_path / 'there'))
    assert 'iter_6.pth' not in names(tmp_path / 'there')


def test_one_that_was_killed_goes_on(run_dir, tmp_path, pull, monkeypatch):

    class Killed(BaseException):
        pass

    def progress_of(name, total, count=[]):
        count.append(name)
        if len(count) == 3:
            raise Killed
        return inner(name, total)

    inner, there = cli_copies.progress_of, tmp_path / 'there'
    monkeypatch.setattr(cli_copies, 'progress_of', progress_of)
    with pytest.raises(Killed):
        main(['pull', str(run_dir), str(there)])
    monkeypatch.undo()
    before = set(names(there)) - {'latest.pth'}
    assert len(before) == 2
    code, content, _ = pull(run_dir, there)
    assert code == 0 and set(by_status(content, 'skipped')) == before
    assert set(names(there)) == {*ALL, 'latest.pth'}


def test_another_run_there_keeps_its_files(run_dir, tmp_path, pull):
    there = tmp_path / 'there'
    train(
        there,
        runner=dict(type='IterBasedRunnerAmp', max_iters=4),
        hooks=[dict(type='DurableCheckpointHook', interval=4)])
    mine = (there / 'iter_4.pth').read_bytes()
    code, _, _ = pull(run_dir, there)
    assert code == 0
    kept, = [path for path in there.glob('iter_4.pth.*')]
    assert kept.read_bytes() == mine


def test_a_run_that_is_writing_there_is_left_alone(run_dir, tmp_path, pull,
                                                   live_run):
    there = tmp_path / 'there'
    there.mkdir()
    with live_run(there):
        code, content, _ = pull(run_dir, there)
    assert (code, content['error']) == (2, 'LockedError')
    assert names(there) == []


def test_a_lost_catalog_there_keeps_nothing_back(run_dir, tmp_path, pull):
    (run_dir / CATALOG_NAME).unlink()
    (run_dir / 'checkpoints.log.jsonl').unlink()
    code, content, _ = pull(run_dir, tmp_path / 'there')
    assert code == 0
    # of the best file only the catalog knew whose it is
    assert by_status(content, 'copied') == ALL[1:]


def test_what_cannot_be_meant_is_refused(run_dir, tmp_path, pull):
    empty = tmp_path / 'empty'
    empty.mkdir()
    for arguments, said in (((run_dir, 's3://bucket/x'), 'is no local path'),
                            ((run_dir, run_dir), 'are the same place'),
                            ((empty, tmp_path / 'there'),
                             'holds no checkpoints'),
                            ((empty, tmp_path / 'there', '--newest'),
                             'holds no checkpoints'), ((tmp_path / 'nowhere',
                                                        tmp_path / 'there'),
                                                       'nowhere')):
        code, content, _ = pull(*arguments)
        assert code == 2 and said in content['problem']
    assert not (tmp_path / 'there').exists()


@NEW_TORCH
@pytest.mark.filterwarnings('ignore:torch.distributed is')
def test_folders_come_too(tmp_path, pull):
    train(
        tmp_path / 'run',
        runner=dict(type='IterBasedRunnerAmp', max_iters=4),
        hooks=[dict(type='DurableCheckpointHook', interval=2, format='dcp')])
    there = tmp_path / 'there'
    code, content, _ = pull(tmp_path / 'run' / 'iter_4.dcp', there)
    assert code == 0 and by_status(content, 'copied') == ['iter_4.dcp']
    code, content, _ = pull(tmp_path / 'run', there)
    assert code == 0 and by_status(content, 'copied') == ['iter_2.dcp']
    assert main(['verify', '--all', str(there)]) == 0
