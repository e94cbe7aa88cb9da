"""``mmcv-ckpt verify``: what is damaged is found, whatever else is."""
import contextlib
import io
import json
import os
import re
import shutil
import sys
import zipfile

import pytest
import torch
from toy import make_loader, train

from mmcv_ckpt_hooks import verify_checkpoint
from mmcv_ckpt_hooks.catalog import Catalog
from mmcv_ckpt_hooks.cli import checks, main, progress, verify
from mmcv_ckpt_hooks.errors import IntegrityError

NAMES = [
    'iter_2.pth', 'iter_4.pth', 'best_mIoU_iter_4.pth', 'iter_6.pth',
    'iter_8.pth'
]


def verified(capsys, *arguments):
    """Exit code and JSON of the command."""
    code = main(['verify', *map(str, arguments), '--json'])
    content = json.loads(capsys.readouterr().out)
    assert content['exit_code'] == code
    return code, content


def statuses(capsys, *arguments):
    code, content = verified(capsys, *arguments)
    return code, {
        os.path.basename(one['path']): one['status']
        for one in content['checked']
    }


def catalog_of(directory):
    content = json.loads((directory / 'checkpoints.json').read_text())
    return {one['name']: one for one in content['checkpoints']}


# -- undamaged -------------------------------------------------------------


def test_a_directory_means_its_newest(run_dir, capsys):
    assert main(['verify', str(run_dir)]) == 0
    assert re.fullmatch(
        rf'ok +{re.escape(str(run_dir))}/iter_8\.pth: \d+ records, '
        r'\d+\.\d kB in \d+\.\d\d s, \d+(\.\d)? \w+/s\n',
        capsys.readouterr().out)


def test_all_means_every_checkpoint(run_dir, capsys):
    code, found = statuses(capsys, run_dir, '--all')
    assert code == 0
    assert found == dict.fromkeys(NAMES, 'ok')
    assert main(['verify', str(run_dir), '--all']) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert re.fullmatch(r'5 ok; \d+\.\d kB in \d+\.\d\d s, \d+(\.\d)? \w+/s',
                        last)


def test_a_second_name_is_not_read_twice(run_dir, monkeypatch, capsys):
    read = []
    real = checks.verify_loadable
    monkeypatch.setattr(
        checks, 'verify_loadable',
        lambda file, path, *rest: read.append(path) or real(file, path, *rest))
    assert main(['verify', str(run_dir), '--all']) == 0
    assert [os.path.basename(path) for path in read
            ] == ['iter_2.pth', 'iter_4.pth', 'iter_6.pth', 'iter_8.pth']
    assert re.search(r'best_mIoU_iter_4\.pth: .* the same file as .*iter_4',
                     capsys.readouterr().out)


def test_it_agrees_with_the_function(run_dir, capsys):
    path = run_dir / 'iter_6.pth'
    report = verify_checkpoint(str(path))
    _, content = verified(capsys, path)
    one, = content['checked']
    assert (one['bytes'], one['records'],
            one['digest']) == (report.bytes, report.records, report.digest)
    assert one['path'] == str(path) and one['secs'] > 0


def test_latest_is_checked_as_the_file_that_it_leads_to(run_dir, capsys):
    replace_by(run_dir / 'iter_8.pth', run_dir / 'iter_6.pth')
    assert main(['verify', str(run_dir / 'latest.pth')]) == 1
    assert 'latest.pth is not the checkpoint' in capsys.readouterr().out


def test_many_files_of_a_directory_open_its_catalog_once(
        run_dir, monkeypatch, capsys):
    opened = []
    real = Catalog.open
    monkeypatch.setattr(Catalog, 'open',
                        lambda catalog: opened.append(1) or real(catalog))
    assert main(['verify', *map(str, run_dir.glob('*.pth'))]) == 0
    assert len(opened) == 1


def test_a_relative_path_needs_no_directory(run_dir, monkeypatch, capsys):
    monkeypatch.chdir(run_dir)
    assert main(['verify', 'iter_8.pth']) == 0
    assert capsys.readouterr().out.startswith('ok           iter_8.pth: ')


def test_files_of_stock_mmcv_verify(tmp_path, capsys):
    train(
        tmp_path,
        runner=dict(type='IterBasedRunner', max_iters=4),
        checkpoint_config=dict(interval=2))
    assert main(['verify', '--all', str(tmp_path)]) == 0
    assert not (tmp_path / 'checkpoints.json').exists()  # only read


# -- damaged ---------------------------------------------------------------


def replace_by(path, other):
    """By another complete checkpoint that the catalog takes for it."""
    size, data = path.stat().st_size, other.read_bytes()
    path.write_bytes(data)
    catalog = path.with_name('checkpoints.json')
    catalog.write_text(catalog.read_text().replace(f'"bytes": {size}',
                                                   f'"bytes": {len(data)}'))


def flip_bit(path):
    """In the middle of the largest record."""
    with zipfile.ZipFile(path) as archive:
        record = max(archive.infolist(), key=lambda one: one.file_size)
    with open(path, 'r+b') as file:
        file.seek(record.header_offset + 26)
        lengths = file.read(4)
        file.seek(record.header_offset + 30 + lengths[0] + 256 * lengths[1] +
                  lengths[2] + 256 * lengths[3] + record.file_size // 2)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 4]))


def cut_off(path):
    os.truncate(path, path.stat().st_size - 1)


def empty(path):
    os.truncate(path, 0)


def no_checkpoint(path):
    path.write_bytes(b'<html>404</html>')


def swapped(path):
    replace_by(path, path.with_name('iter_6.pth'))


DAMAGES = [
    (flip_bit, 'CorruptError'),
    (cut_off, 'TruncatedError'),
    (empty, 'TruncatedError'),
    (no_checkpoint, 'CorruptError'),
    (swapped, 'CorruptError'),
]


@pytest.mark.parametrize('damage, error', DAMAGES)
@pytest.mark.parametrize('how', ['file', 'newest', 'all'])
def test_damage_is_found_and_told(run_dir, capsys, damage, error, how):
    path = run_dir / 'iter_8.pth'
    damage(path)
    with pytest.raises(IntegrityError):
        verify_checkpoint(str(path))
    arguments = {
        'file': [path],
        'newest': [run_dir],
        'all': [run_dir, '--all']
    }[how]
    code, content = verified(capsys, *arguments)
    assert code == 1
    bad, = (one for one in content['checked'] if one['status'] != 'ok')
    assert (bad['path'], bad['status']) == (str(path), 'damaged')
    assert bad['error'] == error and str(path) in bad['problem']
    assert main(['verify', *map(str, arguments)]) == 1
    assert f'damaged      {bad["problem"]}\n' in capsys.readouterr().out


def test_one_damaged_file_does_not_hide_another(run_dir, capsys):
    flip_bit(run_dir / 'iter_2.pth')
    cut_off(run_dir / 'iter_6.pth')
    assert statuses(capsys, run_dir, '--all') == (1, {
        **dict.fromkeys(NAMES, 'ok'), 'iter_2.pth':
        'damaged',
        'iter_6.pth':
        'damaged'
    })
    assert main(['verify', str(run_dir), '--all']) == 1
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith('3 ok, 2 damaged; ')


def test_damage_of_a_link_is_damage_of_both_names(run_dir, capsys):
    flip_bit(run_dir / 'best_mIoU_iter_4.pth')
    _, found = statuses(capsys, run_dir, '--all')
    assert found['iter_4.pth'] == found['best_mIoU_iter_4.pth'] == 'damaged'


def test_a_link_in_the_place_of_another_checkpoint_is_found(run_dir, capsys):
    """Read already and good, but not what the catalog lists here."""
    replace_by(run_dir / 'iter_8.pth', run_dir / 'iter_6.pth')
    (run_dir / 'iter_8.pth').unlink()
    os.link(run_dir / 'iter_6.pth', run_dir / 'iter_8.pth')
    _, found = statuses(capsys, run_dir, '--all')
    assert (found['iter_6.pth'], found['iter_8.pth']) == ('ok', 'damaged')


def test_the_newest_is_damaged_although_the_catalog_is_lost(run_dir, capsys):
    """The file cannot say which run it is of: it still is the newest."""
    cut_off(run_dir / 'iter_8.pth')
    (run_dir / 'checkpoints.json').unlink()
    assert statuses(capsys, run_dir) == (1, {'iter_8.pth': 'damaged'})


def test_what_another_program_went_on_to_is_the_newest(run_dir, tmp_path,
                                                       capsys):
    """It came after the run's last save, and a resume would take it."""
    train(
        tmp_path / 'stock',
        loader=make_loader(64),
        runner=dict(type='IterBasedRunner', max_iters=9),
        checkpoint_config=dict(interval=9))
    shutil.copy(tmp_path / 'stock' / 'iter_9.pth', run_dir)
    assert statuses(capsys, run_dir) == (0, {'iter_9.pth': 'ok'})


def test_a_format_without_checksums_is_not_called_good(tmp_path, capsys):
    path = tmp_path / 'iter_4.pth'
    torch.save(dict(meta={}), path, _use_new_zipfile_serialization=False)
    assert statuses(capsys, path) == (1, {'iter_4.pth': 'unverifiable'})
    assert main(['verify', str(path)]) == 1
    assert capsys.readouterr().out.startswith('unverifiable ')


# -- missing ---------------------------------------------------------------


@pytest.mark.parametrize('name, told',
                         [('missing.pth', 'cannot find'),
                          ('empty', 'holds no checkpoints'),
                          ('nowhere://a/a.pth', 'reads no nowhere'),
                          ('pipe', 'neither a file nor'),
                          ('link.pth', 'is a link to away.pth, which is not')])
def test_what_cannot_be_checked_is_2_and_the_rest_is_checked(
        run_dir, capsys, name, told):
    (run_dir.parent / 'empty').mkdir()
    os.mkfifo(run_dir.parent / 'pipe')
    (run_dir.parent / 'link.pth').symlink_to('away.pth')
    path = name if '://' in name else str(run_dir.parent / name)
    assert main(['verify', path, str(run_dir)]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith('mmcv-ckpt: ') and told in captured.err
    assert captured.out.startswith('ok ')
    assert captured.out.splitlines()[-1].startswith('1 ok, 1 not checked; ')
    code, content = verified(capsys, path, run_dir)
    assert code == 2
    assert told in content['checked'][0]['problem']


def test_damage_weighs_more_than_a_missing_file(run_dir, capsys):
    flip_bit(run_dir / 'iter_8.pth')
    code, found = statuses(capsys, run_dir, run_dir / 'missing.pth')
    assert code == 1
    assert found == {'iter_8.pth': 'damaged', 'missing.pth': 'not checked'}


def test_a_disk_that_cannot_be_read_is_not_damage(run_dir, monkeypatch,
                                                  capsys):

    def fail(*args):
        raise OSError(5, 'Input/output error')

    monkeypatch.setattr(checks, 'verify_loadable', fail)
    assert main(['verify', str(run_dir)]) == 2
    assert f'cannot read {run_dir}/iter_8.pth: Input/output error' in \
        capsys.readouterr().err


def test_a_file_deleted_meanwhile_is_not_damage(run_dir, monkeypatch, capsys):
    real = verify._select

    def select(*args):
        found = real(*args)
        (run_dir / 'iter_2.pth').unlink()
        return found

    monkeypatch.setattr(verify, '_select', select)
    code, found = statuses(capsys, run_dir, '--all')
    assert (code, found['iter_2.pth']) == (2, 'not checked')


def test_a_path_is_needed(capsys):
    with pytest.raises(SystemExit) as caught:
        main(['verify'])
    assert caught.value.code == 2


# -- the catalog -----------------------------------------------------------


def test_a_file_replaced_on_purpose_is_accepted_once_told(run_dir, capsys):
    before = catalog_of(run_dir)
    swapped(run_dir / 'iter_8.pth')
    assert main(['verify', str(run_dir)]) == 1
    option = re.search(r'--[\w-]+', capsys.readouterr().out).group()
    assert main(['verify', option, str(run_dir)]) == 0
    assert f'{run_dir}/checkpoints.json: read anew from the files: ' \
        'iter_8.pth\n' in capsys.readouterr().out
    after = catalog_of(run_dir)
    assert after['iter_8.pth']['digest'] == before['iter_6.pth']['digest']
    for name in NAMES[:-1]:  # with the scores that only the catalog has
        assert after[name] == before[name]
    assert main(['verify', '--all', str(run_dir)]) == 0


def listed(capsys, directory):
    capsys.readouterr()
    assert main(['ls', str(directory), '--json']) == 0
    return json.loads(capsys.readouterr().out)


def test_the_best_scores_outlive_a_repair(run_dir, capsys):
    path = run_dir / 'checkpoints.json'
    best = json.loads(path.read_text())['best']
    swapped(run_dir / 'iter_8.pth')
    assert main(['verify', '--repair-catalog', str(run_dir)]) == 0
    assert best and json.loads(path.read_text())['best'] == best


@pytest.mark.parametrize('text', [None, '', '{"version": 1', '[]'])
def test_a_lost_catalog_is_rebuilt(run_dir, capsys, text):
    path = run_dir / 'checkpoints.json'
    before, lineage = catalog_of(run_dir), json.loads(
        path.read_text())['lineage']
    path.unlink()
    if text is not None:
        path.write_text(text)
    assert main(['verify', '--all', '--repair-catalog', str(run_dir)]) == 0
    assert ('damaged' in capsys.readouterr().err) == (text is not None)
    after = catalog_of(run_dir)
    assert set(after) == set(NAMES)
    assert json.loads(path.read_text())['lineage'] == lineage
    for name in NAMES:
        for key in ('digest', 'bytes', 'iter', 'epoch', 'created_at'):
            assert after[name][key] == before[name][key]


def test_a_repair_keeps_what_the_history_tells(run_dir, capsys):
    before = listed(capsys, run_dir)
    (run_dir / 'checkpoints.json').unlink()
    assert main(['verify', '--repair-catalog', str(run_dir)]) == 0
    after = listed(capsys, run_dir)
    for key in ('metrics', 'flags', 'lineage', 'trigger', 'pinned'):
        assert [one[key] for one in after['checkpoints']
                ] == [one[key] for one in before['checkpoints']]


def test_names_that_are_gone_are_dropped(run_dir, capsys):
    (run_dir / 'iter_2.pth').unlink()
    _, content = verified(capsys, run_dir, '--repair-catalog')
    assert content['repaired'] == {
        f'{run_dir}/checkpoints.json': {
            'read_anew': [],
            'gone': ['iter_2.pth']
        }
    }
    assert set(catalog_of(run_dir)) == set(NAMES[1:])


def test_a_right_catalog_is_not_touched(run_dir, capsys):
    before = (run_dir / 'checkpoints.json').stat()
    assert main(['verify', '--repair-catalog', str(run_dir)]) == 0
    assert 'checkpoints.json: agrees with the files' in capsys.readouterr().out
    after = (run_dir / 'checkpoints.json').stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino,
                                                   after.st_mtime_ns)


@pytest.mark.parametrize('damage', [flip_bit, cut_off, empty, no_checkpoint])
def test_a_repair_declares_no_damage_good(run_dir, capsys, damage):
    damage(run_dir / 'iter_8.pth')
    (run_dir / 'iter_2.pth').unlink()  # there is something to write
    for _ in range(2):
        code, found = statuses(capsys, run_dir, '--repair-catalog')
        assert (code, found) == (1, {'iter_8.pth': 'damaged'})
    assert catalog_of(run_dir)['iter_8.pth']['metrics'] == {'mIoU': .65}


def test_a_catalog_that_cannot_be_written_is_an_error(run_dir, monkeypatch,
                                                      capsys):
    swapped(run_dir / 'iter_8.pth')

    def refuse(source, target):
        raise PermissionError(13, 'Permission denied')

    monkeypatch.setattr(os, 'replace', refuse)
    assert main(['verify', '--repair-catalog', str(run_dir)]) == 2
    assert 'checkpoints.json: Permission denied' in capsys.readouterr().err


def test_a_catalog_is_made_for_files_of_stock_mmcv(tmp_path, capsys):
    train(
        tmp_path,
        runner=dict(type='IterBasedRunner', max_iters=4),
        checkpoint_config=dict(interval=2))
    assert main(['verify', '--repair-catalog', str(tmp_path)]) == 0
    assert set(catalog_of(tmp_path)) == {'iter_2.pth', 'iter_4.pth'}


# -- progress --------------------------------------------------------------


class Terminal(io.StringIO):
    encoding = 'utf-8'

    def isatty(self):
        return True


def on_terminal(monkeypatch, run_dir):
    """Verify with a terminal as standard error output.

    Every file is worth a bar.

    Returns:
        tuple[int, str]: The exit code, and what the terminal got.
    """
    stream = Terminal()
    monkeypatch.setattr(progress, 'WORTH_A_BAR_BYTES', 1)
    monkeypatch.setattr(sys, 'stderr', stream)
    monkeypatch.setenv('TERM', 'xterm')
    monkeypatch.setenv('COLUMNS', '200')
    return main(['verify', str(run_dir)]), stream.getvalue()


@pytest.fixture
def no_rich(monkeypatch):
    for name in [name for name in sys.modules if name.startswith('rich')]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, 'rich', None)


def test_a_long_check_shows_its_progress(run_dir, monkeypatch, capsys):
    pytest.importorskip('rich')
    code, shown = on_terminal(monkeypatch, run_dir)
    assert code == 0 and 'iter_8.pth' in shown
    assert capsys.readouterr().out.startswith('ok ')


def test_without_rich_it_shows_per_cent(run_dir, monkeypatch, capsys, no_rich):
    code, shown = on_terminal(monkeypatch, run_dir)
    assert code == 0
    assert re.search(r'\r\S*iter_8\.pth +\d+ %', shown)
    assert shown.endswith(' \r')  # cleared
    assert capsys.readouterr().out.startswith('ok ')


def test_progress_is_cleared_before_an_error(run_dir, monkeypatch, no_rich):
    flip_bit(run_dir / 'iter_8.pth')
    code, shown = on_terminal(monkeypatch, run_dir)
    assert code == 1 and shown.endswith(' \r')


def test_nothing_is_shown_off_a_terminal(run_dir, monkeypatch, capsys):
    monkeypatch.setattr(progress, 'WORTH_A_BAR_BYTES', 1)
    assert main(['verify', str(run_dir)]) == 0
    assert capsys.readouterr().err == ''


def test_the_bar_says_which_of_how_many(run_dir, capsys, monkeypatch):
    shown = []

    @contextlib.contextmanager
    def bar(name, total_bytes):
        shown.append(name)
        yield None

    monkeypatch.setattr(checks, 'progress_of', bar)
    assert main(['verify', '--all', str(run_dir)]) == 0
    # of five, one is a second name
    assert shown == [
        f'{run_dir}/iter_{step}.pth ({number} of 5)'
        for step, number in ((2, 1), (4, 2), (6, 4), (8, 5))
    ]
    assert main(['verify', str(run_dir)]) == 0
    assert shown[-1] == f'{run_dir}/iter_8.pth'
