"""One error of the operating system at each call that a save makes."""
import builtins
import errno
import io
import os

import pytest
from faulty_runs import (END, FAILING, assert_whole, contents, errors_told,
                         faulty_run)

from mmcv_ckpt_hooks.errors import StorageError

NAME = f'iter_{FAILING}.pth'
ERRNOS = [
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EACCES,
    errno.ESTALE
]
#: The base name of a directory with a slash behind it is empty.
DIRECTORY = 'fsync '


def path_of(descriptor):
    return os.readlink(f'/proc/self/fd/{descriptor}')


class Disk:
    """Lets one call fail while the save at step 4 is under way."""

    def __init__(self, patch):
        self._patch = patch
        self.code, self.point, self.hits = 0, '', 0
        self.is_failing = False
        self._original = {
            name: getattr(os, name)
            for name in ('replace', 'fsync', 'unlink', 'symlink', 'link')
        }
        patch.setattr(builtins, 'open', self._open(builtins.open))
        for name in self._original:
            patch.setattr(os, name, self._call(name))
        self._file = self._raw_file()

    def fail(self, point, code):
        self.point, self.code = point, code

    def mend(self):
        self._patch.undo()

    def _hit(self, point, path):
        """Raise if this call on this file is the one."""
        name = os.path.basename(path)
        call = f'{point} {name}'
        if not self.is_failing or not call.startswith(self.point) or \
                self.point == DIRECTORY != call:
            return
        self.hits += 1
        raise OSError(self.code, os.strerror(self.code), path)

    def _open(self, original):

        def opened(path, *args, **kwargs):
            name = os.path.basename(str(path))
            if name.startswith('.iter_'):
                self.is_failing = name.startswith(f'.{NAME}')
            mode = args[0] if args else kwargs.get('mode', 'r')
            self._hit(f'open {mode}', str(path))
            if kwargs.get('buffering') == 0 and mode == 'xb':
                return self._file(path, mode)
            return original(path, *args, **kwargs)

        return opened

    def _call(self, name):

        def called(*args, **kwargs):
            path = args[-1]
            if isinstance(path, int):
                path = path_of(path)
                path += '/' * os.path.isdir(path)
            self._hit(name, path)
            return self._original[name](*args, **kwargs)

        return called

    def _raw_file(self):
        disk = self

        class Raw(io.FileIO):

            def write(self, data):
                disk._hit('write', self.name)
                return super().write(data)

            def close(self):
                if not self.closed:
                    # the kernel closes, whatever it says
                    super().close()
                    disk._hit('close', self.name)

        return Raw


@pytest.fixture
def disk():
    patch = pytest.MonkeyPatch()
    made = Disk(patch)
    yield made
    patch.undo()


#: How a call begins; is the checkpoint in place; is it an error of the save.
POINTS = {
    'create': (f'open xb .{NAME}', False, True),
    'write': (f'write .{NAME}', False, True),
    'sync': (f'fsync .{NAME}', False, True),
    'close': (f'close .{NAME}', False, True),
    'rename': (f'replace {NAME}', False, True),
    'sync the directory': (DIRECTORY, True, True),
    'create the catalog': ('open xb .checkpoints.json', True, True),
    'write the catalog': ('write .checkpoints.json', True, True),
    'sync the catalog': ('fsync .checkpoints.json', True, True),
    'rename the catalog': ('replace checkpoints.json', True, True),
    'rename latest': ('replace latest.pth', True, True),
    'delete': ('unlink iter_2.pth', True, False),
    'history': ('open ab checkpoints.log.jsonl', True, False),
}


@pytest.mark.parametrize('point', POINTS)
@pytest.mark.parametrize(
    'number, code',
    list(enumerate(ERRNOS)),
    ids=[errno.errorcode[code] for code in ERRNOS])
def test_training_goes_on(tmp_path, caplog, disk, point, number, code):
    call, committed, is_error = POINTS[point]
    disk.fail(call, code)
    runner, watch, raised = faulty_run(
        tmp_path, 'warn', background=bool(number % 2))
    assert raised is None and runner.iter == 8
    assert disk.hits >= 1
    assert (NAME in watch.after) == committed
    if not committed:
        assert watch.after['iter_2.pth'] == watch.before['iter_2.pth']
    told = errors_told(caplog)
    messages = [one.getMessage() for one in told]
    of_this = [one for one in messages if f'Checkpoint {NAME}' in one]
    assert len(of_this) == is_error, messages
    assert os.strerror(code) in caplog.text
    assert all(one.exc_info is None for one in told)
    if is_error:
        durable = committed and point != 'sync the directory'
        assert ('was not saved' in of_this[0]) != durable
    disk.mend()
    left = lost(point, True) if point == 'sync the directory' else []
    assert_whole(tmp_path, sorted(left + END))


def lost(point, background):
    """What stays where its record could not be written.

    It has its name, and a power cut may take it: it was told as not saved.
    A best is then nobody's; other files the next start finds.
    """
    best = f'best_mIoU_{NAME}'
    if point == 'sync the directory':
        return [best, NAME] if background else [NAME]
    return [best] if 'catalog' in point and background else []


@pytest.mark.parametrize(
    'point', [point for point, (_, _, is_error) in POINTS.items() if is_error])
@pytest.mark.parametrize('background', [False, True])
def test_training_stops_where_it_is_asked_to(tmp_path, caplog, disk, point,
                                             background):
    call, committed, _ = POINTS[point]
    disk.fail(call, errno.EIO)
    runner, watch, raised = faulty_run(tmp_path, 'raise', background)
    assert isinstance(raised, StorageError)
    assert raised.__cause__.errno == errno.EIO
    assert runner.iter < 8
    there = contents(tmp_path)
    if not committed:
        assert there['iter_2.pth'] == watch.before['iter_2.pth']
    disk.mend()
    again, _, raised = faulty_run(tmp_path, 'raise', resume='auto', better=1.)
    assert raised is None
    assert again.restored.iter == max(
        int(name.split('_')[-1][:-4]) for name in there)
    kept = set(lost(point, background)) - {NAME}  # this start found that one
    assert_whole(tmp_path, sorted(kept) + END)
