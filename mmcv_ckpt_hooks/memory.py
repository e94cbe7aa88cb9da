"""How much memory a staged copy may still take."""
import os
from typing import Dict, Iterator, List, Optional, Tuple


def available_memory_bytes(root: str = '/') -> Optional[int]:
    """Memory that may still be allocated, None where nothing tells.

    The smallest of the machine's available memory and what is left below the
    limits of the process's control groups and all above them (v2 and v1; the
    limit of a Slurm job is in the middle). Cached files, among them the
    checkpoints just written, count as available: the kernel drops them.

    Args:
        root (str): Where ``proc`` and ``sys`` are. Default: ``'/'``.

    Source: Linux, ``Documentation/filesystems/proc.rst``,
    ``admin-guide/cgroup-v2.rst`` and ``cgroup-v1/memory.rst``.
    """
    limits = []
    available = _kernel_numbers(os.path.join(root, 'proc/meminfo'))
    if 'MemAvailable' in available:
        limits.append(available['MemAvailable'] << 10)
    for group, limit_name, usage_name, prefix in _memory_groups(root):
        limit = _kernel_numbers(os.path.join(group, limit_name)).get('')
        usage = _kernel_numbers(os.path.join(group, usage_name)).get('')
        if limit is None or usage is None:
            continue  # no such group, or 'max'
        cached = _kernel_numbers(os.path.join(group, 'memory.stat'))
        usage -= cached.get(f'{prefix}inactive_file', 0)
        usage -= cached.get(f'{prefix}active_file', 0)
        limits.append(max(0, limit - max(0, usage)))
    return min(limits) if limits else None


def _memory_groups(root: str) -> Iterator[Tuple[str, str, str, str]]:
    """Yield directory, file of the limit, of the usage, prefix of counts."""
    top = os.path.join(root, 'sys/fs/cgroup')
    for line in _read_lines(os.path.join(root, 'proc/self/cgroup')):
        _, controllers, path = line.split(':', 2)
        names = ('memory.max', 'memory.current', '')
        mount = top
        if 'memory' in controllers.split(','):
            names = ('memory.limit_in_bytes', 'memory.usage_in_bytes',
                     'total_')
            mount = os.path.join(top, 'memory')
        elif controllers:
            continue
        parts = [part for part in path.split('/') if part]
        for depth in range(len(parts) + 1):
            yield (os.path.join(mount, *parts[:depth]), *names)


def _kernel_numbers(path: str) -> Dict[str, int]:
    """Read ``name number`` lines; a bare number has the name ``''``."""
    numbers = {}
    for line in _read_lines(path):
        words = line.replace(':', ' ').split()
        name = words[0] if len(words) > 1 else ''
        value = words[min(1, len(words) - 1)] if words else ''
        if value.isdigit():
            numbers[name] = int(value)
    return numbers


def _read_lines(path: str) -> List[str]:
    try:
        with open(path) as file:
            return file.read().splitlines()
    except OSError:
        return []  # not this kernel, or not for this user
