"""The recorder sees what CPython does to files, and only that."""
import os
import signal
import subprocess
import sys

import pytest
from power_loss import Disk, contents
from recording import (AFTER, BEFORE, HERE, NEVER, TORN, build, environment,
                       read_log)

PROGRAM = '''
import os, sys
from recording import Recorder
watched, log, at, when, code = sys.argv[1:]
os.chdir(watched)
Recorder().arm(watched, log, int(at), int(when), 3)
exec(code)
'''

#: Everything that a program may do to files, with and without descriptors of
#: directories, by absolute and by relative names.
ALL = '''
os.mkdir('d'); here = os.open('d', os.O_RDONLY)
open('a', 'wb').write(b'12345')
open(os.path.join(watched, 'a'), 'ab').write(b'67')
file = open('a', 'r+b', buffering=0)
os.pwrite(file.fileno(), b'xy', 1); os.writev(file.fileno(), [b'p', b'q'])
os.fsync(file.fileno()); os.fdatasync(file.fileno()); file.truncate(6)
file.close(); os.truncate('a', 5); open('e', 'w').close()
os.replace('a', 'd/b'); os.rename('b', 'c', src_dir_fd=here, dst_dir_fd=here)
os.link('d/c', 'f'); os.link('d/c', 'g', dst_dir_fd=here)
os.symlink('f', 'h'); os.symlink('c', 'i', dir_fd=here)
os.unlink('e'); os.unlink('i', dir_fd=here); os.mkdir('j', dir_fd=here)
os.rmdir('d/j'); os.close(os.open('k', os.O_CREAT | os.O_WRONLY, dir_fd=here))
'''


@pytest.fixture
def start(recorder, tmp_path):
    """``start(code, at, when)``: exit status of a program; its operations."""
    watched = tmp_path / 'watched'
    watched.mkdir()

    def run(code, at=0, when=NEVER):
        command = [sys.executable, '-c', PROGRAM, str(watched)]
        command += [str(tmp_path / 'log'), str(at), str(when), code]
        process = subprocess.run(
            command, env=dict(environment(build()), PYTHONPATH=HERE))
        return process.returncode, read_log(tmp_path / 'log')

    run.watched = watched
    return run


def test_nothing_that_changes_the_directory_goes_by(start):
    disk = Disk(start.watched)
    status, operations = start(ALL)
    assert status == 0
    for operation in operations:
        disk.apply(operation)
    assert contents(disk.now()) == contents(Disk(start.watched).now())
    kinds = 'mkdir open write fsync ftruncate truncate close rename link ' \
        'symlink unlink rmdir'
    assert {operation.kind for operation in operations} == set(kinds.split())


@pytest.mark.parametrize('when, left', [(BEFORE, b''), (AFTER, b'12345'),
                                        (TORN, b'123')])
def test_the_process_dies_where_it_was_told_to(start, when, left):
    status, operations = start("open('a', 'wb').write(b'12345')", 2, when)
    assert status == -signal.SIGKILL
    assert operations[-1].number == (1 if when == BEFORE else 2)
    assert (start.watched / 'a').read_bytes() == left


def test_failed_calls_and_forked_children_do_not_count(start):
    """A worker of a data loader, and the look for a trigger file."""
    status, operations = start('''
try:
    os.unlink('missing')
except FileNotFoundError:
    os.mkdir('a')
if os.fork() == 0:
    os.mkdir('b'); os._exit(0)
os.wait()
''')
    assert status == 0 and os.path.isdir(start.watched / 'b')
    assert [operation.path
            for operation in operations] == [str(start.watched / 'a')]
