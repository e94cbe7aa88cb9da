"""A process that trains to pavi (the shipped fake) until it is killed.

    python pavi_worker.py JSON
"""
import json
import os
import signal
import sys

from dying import Dies
from exact import drawing_run

from mmcv_ckpt_hooks.testing import pavi


def die_in_upload(platform, call):
    """Be killed in the middle of one, which leaves half of the file."""
    enter = platform.enter

    def entered(verb, path):
        enter(verb, path)
        if f'{verb} {path}' == call:
            half = os.path.join(platform.directory, path)
            with open(half, 'wb') as file:
                file.write(b'PK\x03\x04 half of it')
            os.kill(os.getpid(), signal.SIGKILL)

    platform.enter = entered


def train(platform, work_dir, die_at=None, die_in=None, **given):
    with pavi.install(platform) as installed:
        if die_in is not None:
            die_in_upload(installed, die_in)
        drawing_run(
            work_dir, hooks=[] if die_at is None else [Dies(die_at)], **given)


if __name__ == '__main__':
    train(**json.loads(sys.argv[1]))
