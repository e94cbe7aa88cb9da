"""Hold the package to the syntax and the library of Python 3.8, without one.

    python tools/python38.py            # the package, the program, configs
    python tools/python38.py FILE ...

torch 2.12 has no wheel for Python 3.8, so nothing here runs on it. mypy 1.14
is the last that knows what 3.8 has; a newer one checks the types (`make
type`). It is installed beside the environment that runs this, once.
"""
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PINS = ROOT / 'tools' / 'requirements' / 'python38.txt'
SETTINGS = ROOT / 'tools' / 'python38.ini'
HOME = Path(sys.prefix) / 'python38'
CHECKED = ('mmcv_ckpt_hooks', 'mmcv_ckpt_cli.py', 'setup.py', 'configs')


def install():
    """Install mypy into a folder of its own, unless it is there."""
    stamp = HOME / PINS.name
    if stamp.exists() and stamp.read_bytes() == PINS.read_bytes():
        return
    print(f'installing what knows Python 3.8 into {HOME}', flush=True)
    pip = [sys.executable, '-m', 'pip', 'install', '-q', '--upgrade']
    pip += ['--no-deps', '--target', str(HOME), '-r', str(PINS)]
    subprocess.run(pip, check=True)
    stamp.write_bytes(PINS.read_bytes())


def check(paths):
    """Check files and folders; returns mypy's exit status."""
    command = [sys.executable, '-m', 'mypy', f'--config-file={SETTINGS}']
    done = subprocess.run(
        command + [str(path) for path in paths],
        cwd=str(ROOT),
        env=dict(os.environ, PYTHONPATH=str(HOME)))
    return done.returncode


def main():
    install()
    sys.exit(check(sys.argv[1:] or CHECKED))


if __name__ == '__main__':
    main()
