"""The least that the hardware asks for: raw writes, pinned copies.

Standard library only, but for :func:`pinned_copy`.
"""
import mmap
import os
import statistics
import threading
import time

#: Block size in MiB, threads, whether past the page cache.
GRID = [(block, threads, direct) for block in (1, 4, 8, 32)
        for threads in (1, 2, 4) for direct in (True, False)]
SHORT_GRID = [(block, threads, direct) for block in (8, 32)
              for threads in (1, 4) for direct in (True, False)]
#: Tried from huge pages, too, in which our copy lies.
HUGE_GRID = [(block, threads, True) for block in (8, 32) for threads in (1, 2)]


def raw_write(path, nbytes, block_mib, threads, direct, huge=False):
    """Write and sync so many bytes into a new file.

    Returns:
        float | None: Seconds; None where the system lacks what is asked for.
    """
    if huge and not hasattr(mmap, 'MADV_HUGEPAGE'):
        return None
    block = mmap.mmap(
        -1,
        block_mib << 20,
        flags=(mmap.MAP_PRIVATE if huge else mmap.MAP_SHARED)
        | mmap.MAP_ANONYMOUS)
    if huge:
        try:
            block.madvise(mmap.MADV_HUGEPAGE)
        except OSError:  # the kernel has none
            return None
    block.write(os.urandom(block_mib << 20))
    view = memoryview(block)
    nbytes -= nbytes % mmap.PAGESIZE
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    try:
        file = os.open(path, flags | (os.O_DIRECT if direct else 0), 0o666)
    except OSError:
        return None

    def write(first):
        for start in range(first * len(view), nbytes, threads * len(view)):
            part = view[:min(len(view), nbytes - start)]
            while part:
                done = os.pwrite(file, part, start)
                part, start = part[done:], start + done

    others = [
        threading.Thread(target=write, args=(number, ))
        for number in range(1, threads)
    ]
    try:
        begun = time.perf_counter()
        for other in others:
            other.start()
        write(0)
        for other in others:
            other.join()
        os.fsync(file)
        return time.perf_counter() - begun
    finally:
        os.close(file)
        os.unlink(path)


def raw_writes(spec):
    """One turn over a grid of ways to write."""
    os.makedirs(spec['work_dir'], exist_ok=True)
    path = os.path.join(spec['work_dir'], 'raw')
    grid = SHORT_GRID if spec['short'] else GRID
    return dict(
        writes=[[*way, raw_write(path, spec['bytes'], *way)] for way in grid],
        huge=[[*way, raw_write(path, spec['bytes'], *way, huge=True)]
              for way in HUGE_GRID])


def raw_read(spec):
    """Read a file once, front to back, through one buffer.

    Returns:
        dict: ``opened`` (seconds), ``disk_bytes``: as for a resume.
    """
    block = memoryview(bytearray(1 << 20))
    read_before, begun = read_bytes(), time.perf_counter()
    with open(spec['path'], 'rb', buffering=0) as file:
        while file.readinto(block):
            pass
    return dict(
        opened=time.perf_counter() - begun,
        disk_bytes=read_bytes() - read_before)


def read_bytes():
    """Bytes that this process has had read from a disk."""
    with open('/proc/self/io') as file:
        lines = dict(line.split(': ') for line in file)
    return int(lines['read_bytes'])


def best_write(turns, grid='writes'):
    """The way whose median over all turns is best.

    Returns:
        tuple: Seconds, and the way in words; None if there was no way.
    """
    found = {}
    for turn in turns:
        for block, threads, direct, secs in turn.get(grid, []):
            if secs is not None:
                found.setdefault((block, threads, direct), []).append(secs)
    if not found:
        return None
    way, values = min(
        found.items(), key=lambda item: statistics.median(item[1]))
    how = 'O_DIRECT' if way[2] else 'buffered'
    return statistics.median(values), \
        f'{how}, {way[1]} threads, {way[0]} MiB blocks'


def pinned_copy(tensors, repeats=5):
    """Seconds of a copy of tensors from a GPU into pinned memory."""
    import torch
    buffers = [
        torch.empty(one.shape, dtype=one.dtype, pin_memory=True)
        for one in tensors
    ]
    found = []
    for _ in range(repeats):
        torch.cuda.synchronize()
        begun = time.perf_counter()
        for one, buffer in zip(tensors, buffers):
            buffer.copy_(one, non_blocking=True)
        torch.cuda.synchronize()
        found.append(time.perf_counter() - begun)
    return statistics.median(found)
