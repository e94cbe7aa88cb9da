"""Which client for object stores: rate, memory, ranged reads, packages.

    python benchmarks/object_clients.py [--mib 256] [--rounds 5]

Starts the S3 server of the tests and moves one object with every client that
can be imported (obstore, boto3, s3fs), each in a process of its own, in turn.
Memory is the growth of the peak over what the process and the data had before;
the object itself is mapped once and not counted.
"""
import argparse
import io
import json
import mmap
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata, util
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / 'tests'))

PART_BYTES = 8 << 20
PARTS = 4
RANGE_BYTES = 64 << 10
RANGES = 50


class Obstore:

    def __init__(self, options):
        import obstore
        from obstore.store import S3Store
        self.api = obstore
        self.store = S3Store(
            'checkpoints', client_options=dict(allow_http=True), **options)

    def upload(self, data):
        view = memoryview(data)
        parts = (
            view[start:start + PART_BYTES]
            for start in range(0, len(view), PART_BYTES))
        self.api.put(
            self.store,
            'object',
            parts,
            chunk_size=PART_BYTES,
            max_concurrency=PARTS)

    def download(self, target):
        view = memoryview(target)

        def fetch(start):
            part = self.read(start, min(PART_BYTES, len(view) - start))
            view[start:start + len(part)] = memoryview(part)

        with ThreadPoolExecutor(PARTS) as pool:
            list(pool.map(fetch, range(0, len(view), PART_BYTES)))

    def read(self, start, size):
        return self.api.get_range(
            self.store, 'object', start=start, length=size)

    def create(self):
        try:
            self.api.put(self.store, 'object', b'', mode='create')
        except self.api.exceptions.AlreadyExistsError:
            return 'yes'
        return 'no'


class Boto3:

    def __init__(self, options):
        import boto3
        import botocore.exceptions
        from boto3.s3.transfer import TransferConfig
        self.error = botocore.exceptions.ClientError
        self.client = boto3.client(
            's3',
            endpoint_url=options['endpoint'],
            aws_access_key_id=options['access_key_id'],
            aws_secret_access_key=options['secret_access_key'],
            region_name=options['region'])
        self.config = TransferConfig(
            multipart_chunksize=PART_BYTES, max_concurrency=PARTS)

    def upload(self, data):
        # what a stream is to it: read in parts
        self.client.upload_fileobj(
            Readable(data), 'checkpoints', 'object', Config=self.config)

    def download(self, target):
        self.client.download_fileobj(
            'checkpoints', 'object', Writable(target), Config=self.config)

    def read(self, start, size):
        return self.client.get_object(
            Bucket='checkpoints',
            Key='object',
            Range=f'bytes={start}-{start + size - 1}')['Body'].read()

    def create(self):
        try:
            self.client.put_object(
                Bucket='checkpoints', Key='object', Body=b'', IfNoneMatch='*')
        except self.error:
            return 'yes'
        return 'no'


class S3fs:

    def __init__(self, options):
        import s3fs
        self.system = s3fs.S3FileSystem(
            key=options['access_key_id'],
            secret=options['secret_access_key'],
            endpoint_url=options['endpoint'],
            client_kwargs=dict(region_name=options['region']))

    def upload(self, data):
        view = memoryview(data)
        with self.system.open(
                'checkpoints/object', 'wb',
                block_size=PARTS * PART_BYTES) as file:
            for start in range(0, len(view), PART_BYTES):
                file.write(view[start:start + PART_BYTES])

    def download(self, target):
        view = memoryview(target)
        for start in range(0, len(view), PARTS * PART_BYTES):
            starts = list(
                range(start, min(start + PARTS * PART_BYTES, len(view)),
                      PART_BYTES))
            parts = self.system.cat_ranges(
                ['checkpoints/object'] * len(starts), starts,
                [min(one + PART_BYTES, len(view)) for one in starts])
            for one, part in zip(starts, parts):
                view[one:one + len(part)] = part

    def read(self, start, size):
        return self.system.cat_file(
            'checkpoints/object', start=start, end=start + size)

    def create(self):
        try:
            self.system.pipe_file('checkpoints/object', b'', mode='create')
        except OSError:
            return 'yes'
        return 'no'


class Readable(io.RawIOBase):

    def __init__(self, data):
        self.view, self.at = memoryview(data), 0

    def readable(self):
        return True

    def readinto(self, buffer):
        part = self.view[self.at:self.at + len(buffer)]
        buffer[:len(part)] = part
        self.at += len(part)
        return len(part)


class Writable(io.RawIOBase):

    def __init__(self, target):
        self.view, self.at = memoryview(target), 0

    def writable(self):
        return True

    def seekable(self):
        return True

    def seek(self, offset, whence=0):
        self.at = offset
        return offset

    def write(self, data):
        self.view[self.at:self.at + len(data)] = data
        self.at += len(data)
        return len(data)


CLIENTS = dict(obstore=Obstore, boto3=Boto3, s3fs=S3fs)


def packages_of(name):
    """Count a package and all that pip installs for it."""
    left, seen = [name], set()
    while left:
        one = left.pop().lower().replace('_', '-')
        if one in seen:
            continue
        try:
            needs = metadata.requires(one) or []
        except metadata.PackageNotFoundError:
            continue  # of another platform or Python
        seen.add(one)
        left += [
            re.split(r'[^\w.-]', need)[0] for need in needs
            if 'extra ==' not in need
        ]
    return len(seen)


def peak_kib():
    with open('/proc/self/status') as file:
        return next(
            int(line.split()[1]) for line in file if line.startswith('VmHWM'))


def measure(name, options, nbytes):
    """Move one object up and down; in a process of its own."""
    data = mmap.mmap(-1, nbytes)
    data.write(os.urandom(1 << 20) * (nbytes >> 20))
    target = mmap.mmap(-1, nbytes)
    target.write(bytes(nbytes))
    client = CLIENTS[name](options)
    client.upload(data[:PART_BYTES])  # connections and imports
    found = {}
    new = mmap.mmap(-1, nbytes)
    for what, call in (('up', lambda: client.upload(data)),
                       ('down', lambda: client.download(target)),
                       ('down_new', lambda: client.download(new))):
        Path('/proc/self/clear_refs').write_text('5')
        before, begun = peak_kib(), time.perf_counter()
        call()
        found[f'{what}_mb_s'] = nbytes / 1e6 / (time.perf_counter() - begun)
        found[f'{what}_peak_mib'] = (peak_kib() - before) / 1024
    assert target[:] == data[:] == new[:]
    # its pages are the data themselves
    found['down_new_peak_mib'] -= nbytes / (1 << 20)
    begun = time.perf_counter()
    for index in range(RANGES):
        client.read(index * RANGE_BYTES * 3, RANGE_BYTES)
    found['range_ms'] = (time.perf_counter() - begun) / RANGES * 1000
    found['conditional'] = client.create()
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--mib', type=int, default=256)
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--one', help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        name, options = json.loads(args.one)
        print(json.dumps(measure(name, options, args.mib << 20)))
        return
    from object_server import object_server
    names = [name for name in CLIENTS if util.find_spec(name)]
    rows = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as directory, \
            object_server(directory) as server:
        for _ in range(args.rounds):
            for name in names:
                one = json.dumps([name, server.options()])
                command = [
                    sys.executable, __file__, f'--mib={args.mib}',
                    f'--one={one}'
                ]
                output = subprocess.run(
                    command, check=True, stdout=subprocess.PIPE).stdout
                rows[name].append(json.loads(output))
    print(f'{args.mib} MiB, median of {args.rounds}, {os.cpu_count()} cores')
    for name, found in rows.items():
        print(f'{name} {metadata.version(name)}: {packages_of(name)} packages')
        for key in found[0]:
            values = [one[key] for one in found]
            print(f'  {key}: ' + (values[0] if isinstance(values[0], str) else
                                  f'{statistics.median(values):.1f} '
                                  f'({min(values):.1f} to {max(values):.1f})'))


if __name__ == '__main__':
    main()
