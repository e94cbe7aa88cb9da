"""What a real shell completes with the script that the program prints."""
import os
import re
import select
import shutil
import subprocess
import sys

import pytest

from mmcv_ckpt_hooks.cli import main

pytest.importorskip('shtab')
pty = pytest.importorskip('pty')

#: Fills COMPREPLY as bash does on the TAB key, and prints it.
BASH = """
source ./script
set -- $(complete -p mmcv-ckpt)
while [ "$1" != -F ]; do shift; done
function=$2
COMP_WORDS=(%s '%s')
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
COMPREPLY=()
$function mmcv-ckpt "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
printf '%%s\\n' "${COMPREPLY[@]}"
"""
#: What a user has in ~/.zshrc, and a key that shows the line and ends.
ZSH = """stty cols 200 rows 50; fpath=($PWD $fpath); autoload -U compinit; \\
compinit -u -D; show() { print -r -- "<$BUFFER>"; exit }; zle -N show; \\
bindkey '^X' show; print REA'DY'
"""

#: Has the terminal as that of its session, as a login shell.
OF_TERMINAL = """
import fcntl, os, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execvp('zsh', ['zsh', '-f', '-i'])
"""
#: Of silence.
LIMIT_SECS = 60


@pytest.fixture
def place(tmp_path, capsys):
    """A directory with the scripts, a run and files of others."""
    for shell, name in (('bash', 'script'), ('zsh', '_mmcv-ckpt')):
        assert main(['completion', shell]) == 0
        (tmp_path / name).write_text(capsys.readouterr().out)
    (tmp_path / 'runs' / 'first').mkdir(parents=True)
    (tmp_path / 'runs' / 'iter_8.pth').touch()
    return tmp_path


def in_bash(place, given, last):
    if shutil.which('bash') is None:
        pytest.skip('bash is not installed')
    done = subprocess.run(['bash', '-c', BASH % (given, last)],
                          cwd=str(place),
                          check=True,
                          stdout=subprocess.PIPE,
                          universal_newlines=True)
    return done.stdout.split()


@pytest.mark.parametrize('given, last, completed', [
    ('mmcv-ckpt', 'ver', ['verify']),
    ('mmcv-ckpt', 'pu', ['publish', 'push', 'pull']),
    ('mmcv-ckpt ls', '--j', ['--json']),
    ('mmcv-ckpt prune runs', '--la', ['--last']),
    ('mmcv-ckpt prune runs --by', '', ['epoch', 'iter']),
    ('mmcv-ckpt completion', '', ['bash', 'zsh', 'tcsh']),
    ('mmcv-ckpt ls', 'runs/', ['runs/first']),
    ('mmcv-ckpt verify', 'runs/', ['runs/first', 'runs/iter_8.pth']),
    ('mmcv-ckpt inspect', 'runs/i', ['runs/iter_8.pth']),
])
def test_bash_completes(place, given, last, completed):
    assert sorted(in_bash(place, given, last)) == sorted(completed)


def in_zsh(place, typed):
    """The line after the TAB key, in a zsh with a terminal."""
    terminal, theirs = pty.openpty()
    child = subprocess.Popen([sys.executable, '-c', OF_TERMINAL],
                             cwd=str(place),
                             stdin=theirs,
                             stdout=theirs,
                             stderr=theirs,
                             start_new_session=True)
    os.close(theirs)
    seen = ''

    def wait_for(pattern):
        nonlocal seen
        while not re.search(pattern, seen):
            ready, _, _ = select.select([terminal], [], [], LIMIT_SECS)
            assert ready, f'zsh says nothing more:\n{seen}'
            seen += os.read(terminal, 4096).decode(errors='replace')
        return re.search(pattern, seen)

    try:
        os.write(terminal, ZSH.encode())
        wait_for('READY')
        os.write(terminal, typed.encode() + b'\t\x18')
        return wait_for('<(mmcv-ckpt.*?)>')[1]
    finally:
        os.close(terminal)
        child.kill()
        child.wait()


@pytest.mark.parametrize('typed, line', [
    ('mmcv-ckpt verif', 'mmcv-ckpt verify '),
    ('mmcv-ckpt ls --js', 'mmcv-ckpt ls --json '),
    ('mmcv-ckpt inspect runs/i', 'mmcv-ckpt inspect runs/iter_8.pth '),
    ('mmcv-ckpt ls ru', 'mmcv-ckpt ls runs/'),
])
def test_zsh_completes(place, typed, line):
    if shutil.which('zsh') is None:
        pytest.skip('zsh is not installed')
    assert in_zsh(place, typed) == line


def test_a_command_is_described_in_one_line(place):
    script = (place / '_mmcv-ckpt').read_text()
    assert '"ls:list the checkpoints of a directory"' in script


def test_without_shtab_it_says_what_to_install(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, 'shtab', None)
    assert main(['completion', 'bash']) == 2
    out, err = capsys.readouterr()
    assert out == ''
    assert err == ('mmcv-ckpt: completion needs shtab, which is not '
                   "installed: pip install 'mmcv_ckpt_hooks[cli]'\n")
