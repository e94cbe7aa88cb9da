"""What ``verify`` has found is noted for ``ls``, as long as it is true."""
import errno
import json
import os
import shutil
import struct
import zipfile

import pytest
from mmcv.runner import save_checkpoint
from toy import ToyModel

from mmcv_ckpt_hooks import find_resumable
from mmcv_ckpt_hooks.cli import main
from mmcv_ckpt_hooks.cli.verified import VERIFIED_NAME
from mmcv_ckpt_hooks.errors import AccessError
from mmcv_ckpt_hooks.storage.local import LocalBackend


def listed(capsys, directory):
    assert main(['ls', str(directory), '--json']) == 0
    captured = capsys.readouterr()
    content = json.loads(captured.out)
    return {one['name']: one for one in content['checkpoints']}, captured.err


def times(capsys, directory):
    found, _ = listed(capsys, directory)
    return {name: one['verified_at'] for name, one in found.items()}


def names_verified(capsys, directory):
    return {name for name, at in times(capsys, directory).items() if at}


@pytest.fixture
def verified_dir(run_dir, capsys):
    assert main(['verify', str(run_dir), '--all']) == 0
    capsys.readouterr()
    return run_dir


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    with open(str(path), 'r+b') as file:
        file.write(data)


def test_the_table_says_when_every_byte_was_read(verified_dir, capsys):
    assert main(['ls', str(verified_dir)]) == 0
    *_, row, _, _, resume = capsys.readouterr().out.splitlines()
    at = times(capsys, verified_dir)['iter_8.pth']
    shown = at[:19].replace('T', ' ')
    assert row.count(shown) and '  structure' not in row
    assert resume.endswith(f'Every byte was verified {shown}')


def test_one_that_was_checked_is_noted_beside_the_others(run_dir, capsys):
    for name in ('iter_2.pth', 'iter_6.pth'):
        assert main(['verify', str(run_dir / name)]) == 0
        capsys.readouterr()
    assert names_verified(capsys, run_dir) == {'iter_2.pth', 'iter_6.pth'}


def test_of_a_file_that_was_changed_since_nothing_is_said(
        verified_dir, capsys):
    path = verified_dir / 'iter_6.pth'
    os.utime(str(path), ns=(1, 1))
    found = names_verified(capsys, verified_dir)
    assert 'iter_6.pth' not in found and 'iter_8.pth' in found


def test_of_a_copy_with_the_same_time_nothing_is_said(verified_dir, capsys):
    path = verified_dir / 'iter_6.pth'
    shutil.copy2(str(path), str(verified_dir / 'copy'))
    os.replace(str(verified_dir / 'copy'), str(path))
    assert 'iter_6.pth' not in names_verified(capsys, verified_dir)


def test_what_is_damaged_loses_its_note(verified_dir, capsys):
    path = verified_dir / 'iter_6.pth'
    before = path.stat()
    flip(path, before.st_size // 2)
    # as the disk does it: nobody has written
    os.utime(str(path), ns=(before.st_atime_ns, before.st_mtime_ns))
    assert 'iter_6.pth' in names_verified(capsys, verified_dir)
    assert main(['verify', str(path)]) == 1
    capsys.readouterr()
    assert 'iter_6.pth' not in names_verified(capsys, verified_dir)


def flip_as_a_disk_does(path):
    """Flip a bit of a tensor: nobody has written."""
    before = path.stat()
    # the middle of a file is padding in those of older versions of torch
    with zipfile.ZipFile(str(path)) as archive:
        record, = [
            one for one in archive.infolist()
            if one.filename.endswith('/data/0')
        ]
        archive.fp.seek(record.header_offset + 26)
        name, extra = struct.unpack('<2H', archive.fp.read(4))
    flip(path, record.header_offset + 30 + name + extra)
    os.utime(str(path), ns=(before.st_atime_ns, before.st_mtime_ns))


def ls_lines(capsys, directory):
    assert main(['ls', str(directory)]) == 0
    return capsys.readouterr().out.splitlines()


@pytest.fixture
def damaged_dir(run_dir, capsys):
    """Where ``verify`` has found that a bit of the newest is flipped."""
    flip_as_a_disk_does(run_dir / 'iter_8.pth')
    assert main(['verify', str(run_dir)]) == 1
    capsys.readouterr()
    return run_dir


def test_what_verify_found_damaged_ls_and_report_pass_over(
        damaged_dir, capsys):
    one = listed(capsys, damaged_dir)[0]['iter_8.pth']
    shown = one['damaged_at'][:19].replace('T', ' ')
    assert shown and not one['verified_at']
    assert 'damaged' in one['flags'] and one['structure'] == 'ok'
    assert one['problem'] == (
        f'iter_8.pth: verify found it damaged at {shown} ("mmcv-ckpt verify '
        f'{damaged_dir}/iter_8.pth" says how)')
    *_, row, _, _, told, resume = ls_lines(capsys, damaged_dir)
    assert f'damaged {shown}' in row
    assert told == f'damaged: {one["problem"]}'
    assert resume.startswith("resume='auto' would take iter_6.pth, the newest "
                             'that is not damaged. Its structure was checked')
    assert main(['report', str(damaged_dir), '--json']) == 0
    content = json.loads(capsys.readouterr().out)
    assert content['resume']['taken'] == 'iter_6.pth'
    # and that is what a run does, which has read no note
    assert find_resumable(str(damaged_dir)).endswith('iter_6.pth')


def test_one_that_a_resume_does_not_come_to_is_damaged_as_well(
        run_dir, capsys):
    flip_as_a_disk_does(run_dir / 'iter_4.pth')
    assert main(['verify', str(run_dir), '--all']) == 1
    capsys.readouterr()
    found, _ = listed(capsys, run_dir)
    assert {name
            for name, one in found.items()
            if one['damaged_at']} == {'iter_4.pth', 'best_mIoU_iter_4.pth'}
    assert found['iter_8.pth']['verified_at']
    assert main(['prune', str(run_dir), '--last=3', '--json']) == 0
    content = json.loads(capsys.readouterr().out)
    why, = [
        one['why'] for one in content['checkpoints']
        if one['name'] == 'iter_4.pth'
    ]
    assert why == ['damaged: it neither counts nor goes']


def test_a_second_name_of_a_damaged_file_is_damaged(damaged_dir, capsys):
    os.link(
        str(damaged_dir / 'iter_8.pth'),
        str(damaged_dir / 'best_mIoU_iter_8.pth'))
    found, _ = listed(capsys, damaged_dir)
    assert found['best_mIoU_iter_8.pth']['damaged_at']
    assert 'resume' in found['iter_6.pth']['flags']


def test_a_check_that_could_not_read_takes_no_note_away(
        damaged_dir, capsys, monkeypatch):

    opened = LocalBackend.open

    def deny(self, name):
        if name == 'iter_8.pth':
            raise AccessError(f'cannot read {name}')
        return opened(self, name)

    with monkeypatch.context() as patch:
        patch.setattr(LocalBackend, 'open', deny)
        assert main(['verify', str(damaged_dir / 'iter_8.pth')]) == 2
    capsys.readouterr()
    assert listed(capsys, damaged_dir)[0]['iter_8.pth']['damaged_at']


def test_of_another_program_it_is_passed_over_as_well(run_dir, capsys):
    path = run_dir / 'iter_1.pth'
    save_checkpoint(ToyModel(), str(path), meta=dict(epoch=0, iter=1))
    flip_as_a_disk_does(path)
    assert 'damaged' not in listed(capsys, run_dir)[0]['iter_1.pth']['flags']
    assert main(['verify', str(path)]) == 1
    capsys.readouterr()
    assert 'damaged' in listed(capsys, run_dir)[0]['iter_1.pth']['flags']


def test_a_note_of_damage_ends_with_the_file_that_it_is_about(
        damaged_dir, capsys):
    path = damaged_dir / 'iter_8.pth'
    flip(path, path.stat().st_size // 2)
    found, _ = listed(capsys, damaged_dir)
    assert not found['iter_8.pth']['damaged_at']
    assert 'resume' in found['iter_8.pth']['flags']


def test_a_note_of_damage_ends_when_it_is_found_good(damaged_dir, capsys):
    path = damaged_dir / 'iter_8.pth'
    flip_as_a_disk_does(path)
    assert main(['verify', str(path)]) == 0
    capsys.readouterr()
    assert names_verified(capsys, damaged_dir) == {'iter_8.pth'}


def test_what_only_the_catalog_says_is_not_noted_of_the_file(run_dir, capsys):
    shutil.copy(str(run_dir / 'iter_6.pth'), str(run_dir / 'iter_8.pth'))
    assert main(['verify', str(run_dir)]) == 1
    capsys.readouterr()
    found, _ = listed(capsys, run_dir)
    assert found['iter_8.pth']['structure'] == 'damaged'
    (run_dir / 'checkpoints.json').unlink()
    found, _ = listed(capsys, run_dir)
    assert not found['iter_8.pth']['damaged_at']
    assert 'damaged' not in found['iter_8.pth']['flags']


def test_a_damaged_structure_is_no_whatever_was_noted(verified_dir, capsys):
    path = verified_dir / 'iter_4.pth'
    before = path.stat()
    os.truncate(str(path), 1000)
    os.truncate(str(path), before.st_size)
    os.utime(str(path), ns=(before.st_atime_ns, before.st_mtime_ns))
    found, _ = listed(capsys, verified_dir)
    assert found['iter_4.pth']['structure'] == 'damaged'
    assert main(['ls', str(verified_dir)]) == 0
    rows = capsys.readouterr().out.splitlines()
    row = next(row for row in rows if row.startswith('iter_4.pth'))
    assert '  no  ' in row and 'damaged' in row


def test_a_directory_that_may_not_be_written_to_is_verified(
        run_dir, capsys, monkeypatch):
    monkeypatch.setattr(os, 'access', lambda path, mode: mode != os.W_OK)
    assert main(['verify', str(run_dir), '--all']) == 0
    assert capsys.readouterr().err == ''
    assert not (run_dir / VERIFIED_NAME).exists()


def test_a_note_that_cannot_be_written_changes_no_verdict(run_dir, capsys):
    (run_dir / VERIFIED_NAME).mkdir()
    (run_dir / VERIFIED_NAME / 'file').touch()
    assert main(['verify', str(run_dir)]) == 0
    assert 'what was verified is not noted' in capsys.readouterr().err


@pytest.mark.parametrize('text', [
    '{', '[]', '{"version": 9}', '[' * 9999,
    '{"version": 1, "verified": [["iter_2.pth", {}]]}'
])
def test_notes_that_cannot_be_read_are_told_and_written_anew(
        verified_dir, capsys, text):
    (verified_dir / VERIFIED_NAME).write_text(text)
    found, err = listed(capsys, verified_dir)
    assert not any(one['verified_at'] for one in found.values())
    assert f'{VERIFIED_NAME} cannot be read' in err
    assert main(['verify', str(verified_dir)]) == 0
    capsys.readouterr()
    assert names_verified(capsys, verified_dir) == {'iter_8.pth'}


def test_a_note_of_another_form_is_passed_over(verified_dir, capsys):
    path = verified_dir / VERIFIED_NAME
    content = json.loads(path.read_text())
    content['verified']['iter_2.pth'] = 'yes'
    path.write_text(json.dumps(content))
    found, err = listed(capsys, verified_dir)
    assert 'says of \'iter_2.pth\' what no "mmcv-ckpt verify" writes' in err
    assert found['iter_8.pth']['verified_at']
    assert not found['iter_2.pth']['verified_at']


@pytest.mark.parametrize('name', [
    '', '.', '..', '../run/iter_2.pth', '/etc/passwd', 'iter_2.pth\0',
    '\ud800', 'a' * 70000
])
def test_a_name_that_no_file_here_has_ends_no_command(verified_dir, capsys,
                                                      name):
    path = verified_dir / VERIFIED_NAME
    content = json.loads(path.read_text())
    content['verified'][name] = content['verified']['iter_2.pth']
    path.write_text(json.dumps(content))
    found, err = listed(capsys, verified_dir)
    assert found['iter_8.pth']['verified_at']
    # one that is only too long was never there
    assert ('what no "mmcv-ckpt verify" writes' in err) is (len(name) < 70000)
    # of its --json the data alone, for which matplotlib is not needed
    for command in (['report', '--json'], ['prune', '--last', '1']):
        assert main([command[0], str(verified_dir), *command[1:]]) == 0
    capsys.readouterr()
    assert main(['verify', str(verified_dir), '--all', '--json']) == 0
    told = json.loads(capsys.readouterr().out)
    assert [one['ok'] for one in told['checked']] == [True] * 5
    # written anew without it
    assert listed(capsys, verified_dir)[1] == ''


def test_notes_without_end_are_not_read(verified_dir, capsys):
    path = verified_dir / VERIFIED_NAME
    os.truncate(str(path), 17 << 20)
    assert f'{VERIFIED_NAME} cannot be read (it has more than 16 MiB)' in \
        listed(capsys, verified_dir)[1]


@pytest.mark.parametrize('given', [[], ['--json']])
def test_the_result_is_told_before_a_note_fails(run_dir, capsys, monkeypatch,
                                                given):

    def full(self, name, write):
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(LocalBackend, 'put', full)
    out_when_noted = []

    def looked_at(path, mode):
        out_when_noted.append(capsys.readouterr().out)
        return True

    monkeypatch.setattr(os, 'access', looked_at)
    assert main(['verify', str(run_dir), '--all', *given]) == 0
    said = ''.join(out_when_noted)
    if given:
        assert len(json.loads(said)['checked']) == 5
    else:
        assert said.splitlines()[-1].startswith('5 ok; ')
    assert 'what was verified is not noted: [Errno 28] No space' in \
        capsys.readouterr().err
