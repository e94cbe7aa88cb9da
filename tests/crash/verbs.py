"""Every verb of a local directory that changes it, recorded one by one.

Started by ``test_power_loss.py`` with the recorder loaded. Arguments: the
directory that is recorded, the new one in it, the log.
"""
import os
import sys

from recording import Recorder

from mmcv_ckpt_hooks.storage.local import LocalBackend


def verbs(backend):
    """Yield a name and a call for each."""

    def put(name, content):
        return lambda: backend.put(name, lambda stream: stream.write(content))

    def point_where_no_links_are_allowed():

        def refuse(*args):
            raise PermissionError(1, 'Operation not permitted')

        links, os.symlink, os.link = (os.symlink, os.link), refuse, refuse
        try:
            backend.point('latest.pth', 'b.pth')
        finally:
            os.symlink, os.link = links

    yield 'prepare', backend.prepare
    yield 'put a new file', put('a.pth', 9000 * b'a')
    yield 'put another', put('b.pth', 5000 * b'b')
    yield 'replace', put('a.pth', 7000 * b'c')
    yield 'link', lambda: backend.link('a.pth', 'best.pth')
    yield 'replace by a link', lambda: backend.link('b.pth', 'best.pth')
    yield 'point', lambda: backend.point('latest.pth', 'a.pth')
    yield 'move the pointer', lambda: backend.point('latest.pth', 'b.pth')
    yield 'delete', lambda: backend.delete('a.pth')
    yield 'point without links', point_where_no_links_are_allowed


def main(watched, directory, log):
    recorder = Recorder()
    recorder.arm(watched, log)
    for name, call in verbs(LocalBackend(directory)):
        call()
        recorder.mark(name)


if __name__ == '__main__':
    main(*sys.argv[1:])
