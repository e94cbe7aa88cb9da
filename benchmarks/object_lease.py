"""What the lock of a run costs in an object store.

    python benchmarks/object_lease.py [--rounds 20]

Starts the S3 server of the tests, and takes, renews and leaves a lease there;
requests are counted in the client. Of a server that is further away each
request takes a round trip more.
"""
import argparse
import statistics
import sys
import tempfile
import time
import uuid
from pathlib import Path

sys.path[:0] = [
    str(Path(__file__).resolve().parent.parent / 'tests'),
    str(Path(__file__).resolve().parent.parent)
]


class Counted:
    """The client, which counts what is asked."""

    def __init__(self, client):
        self._client = client
        self.asked = 0

    def __getattr__(self, name):
        found = getattr(self._client, name)
        if name not in ('get', 'put', 'head'):
            return found

        def call(*args, **kwargs):
            self.asked += 1
            return found(*args, **kwargs)

        return call


def measure(options, url):
    """Yield what was done, its requests and its seconds."""
    from mmcv_ckpt_hooks.storage.object_store import ObjectStoreBackend
    from mmcv_ckpt_hooks.stored_lock import StoredLock
    backend = ObjectStoreBackend(url, options)
    for start in ('first start', 'next start'):
        begun = time.perf_counter()
        lock = StoredLock(backend, 'checkpoints.lock', print)
        client = lock._shared._client = Counted(lock._shared._client)
        before = 0
        for what, step in ((start, lock.acquire),
                           ('renewal', lambda: lock._holding.beat()),
                           ('look of a save',
                            lambda: lock._holding._file._look()),
                           ('end', lock.release)):
            step()
            yield what, client.asked - before, time.perf_counter() - begun
            begun, before = time.perf_counter(), client.asked


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--rounds', type=int, default=20)
    rounds = parser.parse_args().rounds
    from object_server import BUCKET, object_server
    found = {}
    with tempfile.TemporaryDirectory() as directory:
        with object_server(directory) as server:
            for _ in range(rounds):
                url = f's3://{BUCKET}/{uuid.uuid4().hex}'
                for what, asked, secs in measure(server.options(), url):
                    found.setdefault((what, asked), []).append(secs * 1e3)
    for (what, asked), times in found.items():
        print(f'{what:<15}{asked} requests  {statistics.median(times):6.1f} ms'
              f' ({min(times):.1f} to {max(times):.1f})')


if __name__ == '__main__':
    main()
