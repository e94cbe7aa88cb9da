"""Random generators: python's, numpy's, torch's and CUDA's.

What belongs to the data must not depend on what training draws, nor the other
way round: then each can be continued by itself. :class:`GeneratorStream` keeps
numbers of its own for the same global generators.
"""
import hashlib
import random
import struct
from contextlib import contextmanager
from typing import Any, Dict, Iterator, List, Mapping, Optional, Tuple

import numpy as np
import torch

_CpuState = Tuple[Any, Any, torch.Tensor]


def has_cuda() -> bool:
    """Whether this process can use CUDA: a fork of one that did cannot."""
    return torch.cuda.is_available() and not torch.cuda._is_in_bad_fork()


def capture_generators() -> Dict[str, Any]:
    """Return the state of this process's random generators.

    Returns:
        dict: ``python`` (tuple), ``numpy`` (tuple with a tensor of
        ``int64[624]``), ``torch`` (``uint8[N]``) and ``cuda`` (a list, one
        ``uint8[N]`` a device).
    """
    generator: Any = np.random.get_state()
    name, keys, position, has_gauss, gauss = generator
    return {
        'python':
        random.getstate(),
        'numpy': (name, torch.from_numpy(keys.astype(np.int64)), int(position),
                  int(has_gauss), float(gauss)),
        'torch':
        torch.get_rng_state(),
        'cuda':
        torch.cuda.get_rng_state_all() if has_cuda() else [],
    }


def restore_generators(saved: Mapping[str, Any]) -> None:
    """Set this process's random generators; missing ones are left alone."""
    if 'python' in saved:
        version, internal, gauss = saved['python']
        random.setstate((version, tuple(internal), gauss))
    if 'numpy' in saved:
        name, keys, position, has_gauss, gauss = saved['numpy']
        np.random.set_state(
            (name, keys.numpy().astype(np.uint32), position, has_gauss, gauss))
    if 'torch' in saved:
        torch.set_rng_state(saved['torch'])
    states: List[torch.Tensor] = saved.get('cuda', [])
    if states and has_cuda():
        for device in range(min(len(states), torch.cuda.device_count())):
            torch.cuda.set_rng_state(states[device], device)


@contextmanager
def preserved_generators() -> Iterator[Dict[str, Any]]:
    """Put the generators back on leaving; yields their state on entering."""
    saved = capture_generators()
    try:
        yield saved
    finally:
        restore_generators(saved)


class GeneratorStream:
    """Random numbers of its own, drawn from the global CPU generators.

    Inside the ``with`` block python's, numpy's and torch's CPU generator go on
    with this stream, outside of it with what they were. CUDA's are left alone:
    samplers and datasets do not draw from them.

    Args:
        key (bytes): The stream depends on nothing else; of :func:`mixed`.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._own: Optional[_CpuState] = None
        self._outer: Optional[_CpuState] = None

    def __enter__(self) -> 'GeneratorStream':
        self._outer = cpu_state()
        if self._own is None:
            seed_cpu(self._key)
        else:
            set_cpu_state(self._own)
        return self

    def __exit__(self, *_: Any) -> None:
        self._own = cpu_state()
        assert self._outer is not None
        set_cpu_state(self._outer)


def mixed(*words: int) -> bytes:
    """Mix integers of up to 64 bits into 20 bytes that tell them apart."""
    plain = struct.pack(f'<{len(words)}Q',
                        *(word & (1 << 64) - 1 for word in words))
    return hashlib.blake2b(plain, digest_size=20).digest()


def seed_cpu(key: bytes) -> None:
    """Seed python's, numpy's and torch's CPU generator.

    Args:
        key (bytes): 20 bytes, as :func:`mixed` returns them.
    """
    torch_seed, python_seed, numpy_seed = struct.unpack('<QQI', key)
    random.seed(python_seed)
    np.random.seed(numpy_seed)
    # not torch.manual_seed, which reseeds CUDA, too
    torch.default_generator.manual_seed(torch_seed >> 1)


def cpu_state() -> _CpuState:
    """Return the state of the three CPU generators, for this process only."""
    return random.getstate(), np.random.get_state(), torch.get_rng_state()


def set_cpu_state(state: _CpuState) -> None:
    """Set what :func:`cpu_state` returned."""
    python, numpy, cpu = state
    random.setstate(python)
    np.random.set_state(numpy)
    torch.set_rng_state(cpu)
