"""The commands on sharded checkpoints, and on what only looks like one."""
import json
import os
import shutil
from pathlib import Path

import pytest
import torch.distributed.checkpoint as dcp
from folders import NEW_TORCH, build_folder
from toy import ToyModel, make_runner, train

from mmcv_ckpt_hooks import find_resumable, verify_checkpoint
from mmcv_ckpt_hooks.cli import main
from mmcv_ckpt_hooks.errors import CheckpointError, ConfigError, IntegrityError
from mmcv_ckpt_hooks.folders.layout import METADATA_NAME, WRITING_NAME

pytestmark = [
    NEW_TORCH,
    pytest.mark.filterwarnings('ignore:torch.distributed is')
]


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
    """Directory of a run with folders; to be copied, not to be changed."""
    directory = tmp_path_factory.mktemp('finished')
    train(
        directory,
        runner=dict(type='IterBasedRunnerAmp', max_iters=6),
        hooks=[
            dict(type='DurableCheckpointHook', interval=2, format='dcp'),
        ])
    return directory


@pytest.fixture
def run_dir(finished, tmp_path):
    """A copy of it: ``iter_2.dcp``, ``iter_4.dcp``, ``iter_6.dcp``."""
    return shutil.copytree(str(finished), str(tmp_path / 'run'), symlinks=True)


def command(capsys, *arguments):
    code = main([str(one) for one in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture
def begun(run_dir):
    """With one that lacks ``.metadata``, and one that is being written."""
    os.unlink(f'{run_dir}/iter_4.dcp/{METADATA_NAME}')
    os.unlink(f'{run_dir}/iter_6.dcp/{METADATA_NAME}')
    with open(f'{run_dir}/iter_6.dcp/{WRITING_NAME}', 'w'):
        pass
    return run_dir


def test_ls_remembers_what_verify_found_damaged(run_dir, capsys):
    path = Path(run_dir) / 'iter_2.dcp' / '__0_0.distcp'
    before, data = path.stat(), bytearray(path.read_bytes())
    third = len(data) // 3
    data[third:2 * third] = bytes(third)
    with open(str(path), 'r+b') as file:
        file.write(data)
    # as a disk does it: nobody has written
    os.utime(str(path), ns=(before.st_atime_ns, before.st_mtime_ns))
    code, _, _ = command(capsys, 'verify', '--all', run_dir)
    assert code == 1
    _, out, _ = command(capsys, 'ls', run_dir)
    assert 'damaged: iter_2.dcp: verify found it damaged at ' in out


def test_ls_tells_of_folders_that_are_no_checkpoint(begun, capsys):
    code, out, _ = command(capsys, 'ls', begun)
    lines = out.splitlines()
    assert code == 0
    assert lines[3] == '1 checkpoint, ' + lines[3].partition(', ')[2]
    assert lines[4] == (
        f'incomplete: {begun}/iter_4.dcp has no .metadata, which is written '
        'last. Copy it here again, with the files whose names begin with a '
        'dot (cp -a), or remove it')
    assert lines[5] == (
        f'not finished: {begun}/iter_6.dcp is being written or removed, or '
        'was when a run was killed; then the next start here removes it')
    assert 'would take iter_2.dcp' in lines[6]
    content = json.loads(command(capsys, 'ls', begun, '--json')[1])
    assert [one['name'] for one in content['checkpoints']] == ['iter_2.dcp']
    assert list(content['incomplete']) == ['iter_4.dcp']
    assert list(content['unfinished']) == ['iter_6.dcp']


def test_ls_tells_of_them_where_there_is_nothing_else(tmp_path, capsys):
    (tmp_path / 'iter_4.dcp').mkdir()
    (tmp_path / 'iter_4.dcp' / '__0_0.distcp').write_bytes(b'')
    # as a save begins, and a removal ends
    (tmp_path / 'iter_6.dcp').mkdir()
    code, out, _ = command(capsys, 'ls', tmp_path)
    assert code == 0
    first, *told = out.splitlines()
    assert first == f'No checkpoints in {tmp_path}'
    assert told[0].startswith(
        f'incomplete: {tmp_path}/iter_4.dcp has no .metadata')
    assert told[1].startswith(
        f'not finished: {tmp_path}/iter_6.dcp is being written')


def test_a_latest_that_has_lost_its_metadata_is_there(run_dir, capsys):
    os.unlink(f'{run_dir}/iter_6.dcp/{METADATA_NAME}')
    err = command(capsys, 'ls', run_dir)[2]
    assert err == (f'mmcv-ckpt: {run_dir}/latest.dcp points to iter_6.dcp, '
                   'which has no .metadata\n')


def test_nothing_is_told_of_whole_folders(run_dir, capsys):
    code, out, _ = command(capsys, 'ls', run_dir)
    assert code == 0 and 'incomplete' not in out and 'finished:' not in out
    content = json.loads(command(capsys, 'ls', run_dir, '--json')[1])
    assert content['incomplete'] == {} and content['unfinished'] == {}


def test_verify_all_finds_what_lacks_its_metadata(begun, capsys):
    code, out, err = command(capsys, 'verify', '--all', begun)
    assert code == 1
    assert [one.split()[0]
            for one in out.splitlines()] == ['ok', 'damaged', '1']
    assert 'iter_4.dcp is no complete checkpoint: it has no .metadata' in out
    assert out.splitlines()[-1].startswith('1 ok, 1 damaged; ')
    assert err == (
        f'mmcv-ckpt: not checked: {begun}/iter_6.dcp is being written or '
        'removed, or was when a run was killed; then the next start here '
        'removes it\n')
    content = json.loads(
        command(capsys, 'verify', '--all', begun, '--json')[1])
    assert [one['status'] for one in content['checked']] == ['ok', 'damaged']
    assert list(content['unfinished']) == [f'{begun}/iter_6.dcp']


def test_one_that_is_being_written_is_no_damage(begun, capsys):
    shutil.rmtree(f'{begun}/iter_4.dcp')
    assert command(capsys, 'verify', '--all', begun)[0] == 0
    shutil.rmtree(f'{begun}/iter_2.dcp')
    code, _, err = command(capsys, 'verify', begun)
    assert code == 2 and 'holds no checkpoints; ' in err
    assert 'iter_6.dcp is being written or removed' in err


@pytest.mark.parametrize('name', ['iter_4.dcp', 'iter_4.dcp/', 'plain'])
def test_a_folder_is_no_directory_of_checkpoints(run_dir, capsys, name):
    shutil.copytree(f'{run_dir}/iter_4.dcp', f'{run_dir}/plain')
    path = os.path.join(run_dir, name)
    code, out, err = command(capsys, 'ls', path)
    assert code == 2 and out == ''
    assert f'{path} is a sharded checkpoint, expected a directory' in err
    assert f'"mmcv-ckpt inspect {path}"' in err
    assert command(capsys, 'inspect', path)[0] == 0
    content = json.loads(command(capsys, 'ls', path, '--json')[1])
    assert content['exit_code'] == 2 and content['error'] == 'ConfigError'
    assert content['incomplete'] == {}


@pytest.mark.parametrize('arguments', [('verify', ), ('inspect', ),
                                       ('convert', 'out.pth')])
@pytest.mark.parametrize(
    'name', ['__0_0.distcp', 'rest.zip', 'manifest.json', '.metadata'])
def test_a_part_of_a_folder_names_the_whole(run_dir, monkeypatch, capsys,
                                            arguments, name):
    folder = f'{run_dir}/iter_4.dcp'
    verb, *others = arguments
    code, _, err = command(capsys, verb, f'{folder}/{name}', *others)
    assert code == 2
    assert f'{folder}/{name} is a part of the sharded checkpoint ' \
        f'{folder}: expected the whole' in err
    monkeypatch.chdir(folder)
    code, _, err = command(capsys, verb, name, *others)
    assert code == 2 and f'checkpoint {os.path.realpath(folder)}: ' in err


@pytest.mark.parametrize('name', ['__0_0.distcp', 'rest.zip'])
def test_a_part_is_no_checkpoint_in_python_either(run_dir, name):
    """Of a file with its structure, and its digest in no catalog."""
    with pytest.raises(ConfigError) as caught:
        verify_checkpoint(f'{run_dir}/iter_4.dcp/{name}')
    assert str(caught.value) == (
        f'{run_dir}/iter_4.dcp/{name} is a part of the sharded checkpoint '
        f'{run_dir}/iter_4.dcp: expected the whole, that is the folder')


def test_what_is_looked_for_in_a_directory_is_not_in_a_checkpoint(run_dir):
    shutil.copy(f'{run_dir}/iter_4.dcp/rest.zip', f'{run_dir}/iter_1.pth')
    for name, what in (('iter_1.pth', 'a file'), ('iter_4.dcp',
                                                  'a sharded checkpoint')):
        path = f'{run_dir}/{name}'
        with pytest.raises(ConfigError) as caught:
            find_resumable(path)
        assert str(caught.value) == (
            f'{path} is {what}, expected a directory of checkpoints: '
            f"verify_checkpoint('{path}') checks one")
    with pytest.raises(ConfigError, match='is a directory, expected a'):
        verify_checkpoint(run_dir)


def test_what_is_not_there_is_missing(run_dir, capsys):
    code, _, err = command(capsys, 'verify', f'{run_dir}/iter_4.dcp/other')
    assert code == 2 and 'No such file' in err


def test_inspect_says_what_a_folder_is(run_dir, capsys):
    path = f'{run_dir}/iter_4.dcp'
    out = command(capsys, 'inspect', path)[1]
    content = json.loads(command(capsys, 'inspect', path, '--json')[1])
    lines = out.splitlines()
    assert lines[0].startswith(f'{path}: ')
    assert lines[0].endswith(f', {content["digest"]}')
    assert lines[1] == 'a folder of 4 files'
    assert 'meta.iter: 4' in lines
    assert f'state_dict: OrderedDict of {len(ToyModel().state_dict())}' in \
        lines
    assert {
        one: os.path.getsize(f'{path}/{one}')
        for one in os.listdir(path)
    } == content['files']
    assert content['bytes'] == sum(content['files'].values())


@pytest.mark.parametrize(
    'name',
    ['resnet50.pth.tar', 'epoch_3.pth.sha256', 'iter_4.pth.bak', 'a.pth.1'])
def test_what_somebody_put_there_is_not_set_aside(tmp_path, capsys, name):
    (tmp_path / name).write_bytes(b'mine')
    assert main(['ls', str(tmp_path), '--json']) == 0
    assert json.loads(capsys.readouterr().out)['set_aside'] == {}


@pytest.mark.parametrize('end', ['pth', 'dcp'])
def test_what_is_set_aside_is_told(tmp_path, capsys, end):
    for steps in (4, 2):
        train(
            tmp_path,
            runner=dict(type='IterBasedRunnerAmp', max_iters=steps),
            hooks=[dict(type='DurableCheckpointHook', interval=2, format=end)])
    aside, = (
        name for name in os.listdir(tmp_path)
        if name.startswith(f'iter_2.{end}.'))
    content = json.loads(command(capsys, 'ls', tmp_path, '--json')[1])
    assert content['set_aside'] == {
        aside:
        f'{tmp_path}/{aside} had the name iter_2.{end} before. No run takes '
        'or deletes it: remove it when you do not need it any more, or give '
        f'it another name that ends in .{end}'
    }
    assert [one['name'] for one in content['checkpoints']
            ] == [f'iter_2.{end}', f'iter_4.{end}']
    out = command(capsys, 'ls', tmp_path)[1]
    assert out.splitlines()[-2].startswith(f'set aside: {tmp_path}/{aside} ')
    # as it says
    os.rename(tmp_path / aside, tmp_path / f'before_iter_2.{end}')
    assert command(capsys, 'verify', f'{tmp_path}/before_iter_2.{end}')[0] == 0


def test_where_to_is_no_name(run_dir, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'there').mkdir()
    assert command(capsys, 'convert', f'{run_dir}/iter_2.dcp', 'a.pth')[0] == 0
    for source, name in ((f'{run_dir}/iter_2.dcp/', 'iter_2.pth'), ('a.pth',
                                                                    'a.dcp')):
        for target, such in (('.', f'./{name}'), ('there', f'there/{name}'),
                             ('new/', f'new/{name}')):
            code, _, err = command(capsys, 'convert', source, target)
            assert (code, err) == (
                2, f'mmcv-ckpt: DST {target!r} is a directory: give the name '
                f'of what is to be written, too, such as {such}\n')
        code, _, err = command(capsys, 'convert', source, '')
        assert code == 2 and f'DST is empty: give the name of what is to be ' \
            f'written, too, such as {name}' in err
    code, _, err = command(capsys, 'convert', 'a.pth', 'b.pth')
    assert code == 2 and 'a.pth is a .pth file, and b.pth would be one: ' \
        'give DST a name that ends in .dcp or .safetensors' in err
    code, _, err = command(capsys, 'convert', 'a.pth', 'b.pt')
    assert code == 2 and 'a.pth is a .pth file: expected a DST that ends in ' \
        '.dcp or .safetensors, got b.pt' in err
    assert command(capsys, 'convert', 'a.pth', 'there/a.dcp/')[0] == 0


@pytest.mark.parametrize('verb, words', [
    ('ls', ['.dcp', 'incomplete', 'not finished', 'set aside', 'latest.dcp']),
    ('inspect', ['sharded', 'folder']),
    ('verify', ['sharded', '.metadata']),
    ('push', ['.metadata', 'skipped']),
    ('convert', ['.dcp']),
])
def test_the_help_knows_of_folders(capsys, verb, words):
    with pytest.raises(SystemExit):
        main([verb, '--help'])
    said = ' '.join(capsys.readouterr().out.split())
    for word in words:
        assert word in said


# -- the best ---------------------------------------------------------------


@pytest.mark.parametrize('given, end', [(dict(), 'pth'),
                                        (dict(format='dcp'), 'dcp')])
def test_the_best_that_keep_ranks_has_its_flag(tmp_path, capsys, given, end):
    work = tmp_path / 'run'
    train(
        work,
        runner=dict(type='IterBasedRunnerAmp', max_iters=8),
        hooks=[
            dict(
                type='DurableCheckpointHook',
                interval=2,
                keep=dict(best=2, monitor='mIoU'),
                mirror=dict(url=str(tmp_path / 'mirror')),
                **given)
        ],
        evaluation=dict(scores=[.5, .7, .6, .65], interval=2, by_epoch=False))
    # a mirror has what the run tells of it
    for place in (work, tmp_path / 'mirror' / 'run'):
        code, out, _ = command(capsys, 'ls', place)
        best, newest = out.splitlines()[1:3]
        assert code == 0
        assert best.startswith(f'iter_4.{end} ') and best.endswith(
            ' best mIoU')
        assert newest.startswith(f'iter_8.{end} ') and 'best' not in newest
        content = json.loads(command(capsys, 'ls', place, '--json')[1])
        best = content['best']['mIoU']
        assert best['name'] == f'iter_4.{end}' and best['score'] == .7
        assert [
            one['name'] for one in content['checkpoints']
            if 'best mIoU' in one['flags']
        ] == [f'iter_4.{end}']


# -- what a resume takes ------------------------------------------------------


def resumes_from(directory):
    """What resume='auto' does in a new run: a name, or the error."""
    runner = make_runner(
        directory,
        runner=dict(type='IterBasedRunnerAmp', max_iters=20),
        hooks=[
            dict(
                type='DurableCheckpointHook',
                resume='auto',
                interval=9,
                format='dcp')
        ])
    try:
        runner.call_hook('before_run')
    except CheckpointError as error:
        return error
    restored = runner.restored
    runner.call_hook('after_run')
    return restored and restored.name


def plain_folder(path, **more):
    """As torch writes it, without our manifest."""
    dcp.save(
        dict(state_dict=ToyModel().state_dict(), **more),
        checkpoint_id=str(path))


@pytest.mark.parametrize('more', [{}, {'meta': dict(iter=8, epoch=2)}])
def test_a_folder_of_torch_alone_is_not_resumed_from(run_dir, capsys, more):
    plain_folder(f'{run_dir}/iter_8.dcp', **more)
    content = json.loads(command(capsys, 'ls', run_dir, '--json')[1])
    plain = content['checkpoints'][-1]
    assert plain['flags'] == ['not resumable', 'not owned']
    assert content['resume'] == 'iter_6.dcp' == resumes_from(run_dir)
    out = command(capsys, 'ls', run_dir)[1]
    assert 'take iter_6.dcp, the newest that a run can go on from' in out


def test_nothing_but_folders_of_torch_alone(tmp_path, capsys):
    plain_folder(tmp_path / 'iter_2.dcp')
    out = command(capsys, 'ls', tmp_path)[1].splitlines()
    assert out[4].startswith(
        'not resumable: iter_2.dcp cannot be resumed from: it is one of '
        'torch.distributed.checkpoint alone')
    assert out[5] == ("resume='auto' would stop with an error: nothing here "
                      'can be continued from')
    error = resumes_from(tmp_path)
    assert isinstance(error, IntegrityError)
    assert 'torch.distributed.checkpoint alone' in str(error)


def test_a_folder_that_has_all_files_and_no_counters(tmp_path, capsys):
    state = ToyModel().state_dict()
    build_folder(tmp_path / 'iter_2.dcp', dict(state_dict=state), {})
    content = json.loads(command(capsys, 'ls', tmp_path, '--json')[1])
    assert content['checkpoints'][0]['flags'] == ['not resumable']
    error = resumes_from(tmp_path)
    assert content['checkpoints'][0]['problem'].partition(': ')[2] in \
        str(error)


def test_folders_that_lack_their_metadata_stop_a_resume(run_dir, capsys):
    for name in ('iter_2.dcp', 'iter_4.dcp', 'iter_6.dcp'):
        os.unlink(f'{run_dir}/{name}/{METADATA_NAME}')
    assert command(capsys, 'ls', run_dir)[1].splitlines()[-1] == (
        "resume='auto' would stop with an error, to write over nothing that "
        'may be completed')
    assert isinstance(resumes_from(run_dir), IntegrityError)
    # one of another program's making is none that could be completed
    for name in ('iter_2.dcp', 'iter_4.dcp', 'iter_6.dcp'):
        os.unlink(f'{run_dir}/{name}/manifest.json')
    assert 'would stop' not in command(capsys, 'ls', run_dir)[1]
    assert resumes_from(run_dir) is None
