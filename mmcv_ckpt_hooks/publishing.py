"""The weights of a checkpoint, for others to use: nothing else of the run.

The name has the first digits of the file's SHA-256, as OpenMMLab's model zoos
have it: ``torch.hub.load_state_dict_from_url(url, check_hash=True)`` checks
them. Source: mmseg v0.30.0, tools/publish_model.py; torch/hub.py
(``HASH_REGEX``).
"""
import hashlib
import json
import re
from collections import OrderedDict
from dataclasses import dataclass
from typing import (IO, Any, Callable, Collection, Dict, List, Mapping,
                    Optional, Tuple, cast)

import torch

from .card import CARD_VERSION
from .converting import flat_file
from .errors import ConfigError, MissingCheckpointError, ResumeError
from .flat_files.header import SUFFIX as FLAT
from .run_fields import PUBLISHED
from .serialization import write_checkpoint
from .staging import reference
from .types import StorageBackend

#: What of ``meta`` says nothing of who trained where. The config has paths,
#: ``env_info`` the machine, ``hook_msgs`` names of files.
PUBLIC_META = ('CLASSES', 'PALETTE', 'epoch', 'iter')
_VERSION = re.compile(r'\w+_version')
#: Digits of the SHA-256 in the name.
_DIGITS = 8
_BLOCK_BYTES = 1 << 20
SUFFIXES = ('.pth', FLAT)

Write = Callable[[IO[bytes]], Any]


@dataclass(frozen=True)
class Published:
    """What was written.

    Args:
        name (str): Of the file.
        bytes (int): Its size.
        sha256 (str): Of all of it.
        tensors (int): How many it has.
        left_out (list[str]): Fields, entries of ``meta`` and averages that
            it has not.
        is_new (bool): Whether it was not there before.
    """
    name: str
    bytes: int
    sha256: str
    tensors: int
    left_out: List[str]
    is_new: bool


def publish(
        content: Mapping[str, Any],
        source: str,
        files: StorageBackend,
        name: str,
        ema: Optional[bool] = None,
        keep_meta: Collection[str] = (),
) -> Published:
    """Write the weights of a checkpoint, and what must be known of them.

    Args:
        content (dict): The fields of the checkpoint.
        source (str): It, for the messages.
        files (StorageBackend): Where to.
        name (str): ``model.pth`` becomes ``model-1a2b3c4d.pth``; or
            ``.safetensors``.
        ema (bool, optional): Whether the averages of EMAHook take the place
            of the model's own weights. Default: None, which refuses a
            checkpoint that has both.
        keep_meta (collection[str]): Entries of ``meta`` to keep besides
            :data:`PUBLIC_META` and the versions. Default: none.

    Raises:
        ConfigError: If it cannot be told which weights are meant, or the
            name tells no format.
        ResumeError: If there are no weights.
        StorageError: If it could not be written.
    """
    stem, suffix = _split(name)
    weights, left_out = _weights(content, source, ema)
    meta, scrubbed = _public(content.get('meta'), keep_meta)
    left_out = [
        *(str(key) for key in content if key not in ('state_dict', 'meta')),
        *(f'meta.{key}' for key in scrubbed), *left_out
    ]
    write = _writer(suffix, weights, meta)
    summed = _SumStream()
    write(cast(IO[bytes], summed))
    sha256 = summed.digest()
    final = f'{stem}-{sha256[:_DIGITS]}{suffix}'
    # what is there under the name may have been cut off
    is_new = _sum_of(files, final) != sha256
    if is_new:
        files.prepare()
        files.put(final, write)
    return Published(final, summed.bytes, sha256, len(weights), left_out,
                     is_new)


def _split(name: str) -> Tuple[str, str]:
    for suffix in SUFFIXES:
        if name.endswith(suffix) and name != suffix:
            # not rstrip: 'fcn_depth.pth' would become 'fcn_de'
            return name[:-len(suffix)], suffix
    raise ConfigError(f'{name} tells no format: expected a name that ends in '
                      f'{" or ".join(SUFFIXES)}')


def _weights(content: Mapping[str, Any], source: str,
             ema: Optional[bool]) -> Tuple['OrderedDict[str, Any]', List[str]]:
    """Return the weights to publish, and what is left out of them."""
    state = content.get('state_dict')
    if not isinstance(state, dict) or not state or not all(
            isinstance(name, str) and isinstance(one, torch.Tensor)
            for name, one in state.items()):
        raise ResumeError(f'{source} has no weights: expected a field '
                          "'state_dict' of tensors by name")
    # as EMAHook names them: mmcv v1.7.2, runner/hooks/ema.py:56
    averages = {
        name: f'ema_{name.replace(".", "_")}'
        for name in state if f'ema_{name.replace(".", "_")}' in state
    }
    if averages and ema is None:
        raise ConfigError(
            f'{source} has two sets of weights, those of the model and the '
            f'{len(averages)} of EMAHook (ema_*): say which, --no-ema or '
            '--ema. At the end of an epoch EMAHook swaps them: '
            'DurableCheckpointHook and best_*.pth come after that, so that '
            "the averages are the model's own (--no-ema); stock's "
            'CheckpointHook does so only if EMAHook has a priority before '
            'NORMAL. Everywhere else ema_* has the averages (--ema)')
    if ema and not averages:
        raise ConfigError(f'{source} has no averages of EMAHook (ema_*)')
    taken = set(averages.values())
    found: 'OrderedDict[str, Any]' = OrderedDict()
    copies: Dict[Any, torch.Tensor] = {}
    for name, tensor in state.items():
        if name not in taken:
            found[name] = _copied(
                state[averages[name]] if ema and name in averages else tensor,
                copies)
    metadata = getattr(state, '_metadata', None)
    if metadata is not None:
        setattr(found, '_metadata', metadata)
    what = 'weights as they were trained' if ema else 'averages of EMAHook'
    return found, [what] if averages else []


def _copied(tensor: torch.Tensor, copies: Dict[Any,
                                               torch.Tensor]) -> torch.Tensor:
    """Copy a tensor: what is in its memory beside it must not go with it.

    Args:
        tensor (Tensor): It may be a part of a larger one.
        copies (dict): Of what was copied; tied weights stay tied.
    """
    key = (tensor.data_ptr(), tensor.dtype, tuple(tensor.shape),
           tuple(tensor.stride()))
    if key not in copies:
        copies[key] = tensor.clone(memory_format=torch.contiguous_format)
    return copies[key]


def _public(meta: Any,
            keep: Collection[str]) -> Tuple[Dict[str, Any], List[str]]:
    """Return what of ``meta`` is published, and the names of the rest.

    Raises:
        ConfigError: If something that should be kept is not there.
    """
    if not isinstance(meta, dict):
        meta = {}
    missing = [key for key in keep if key not in meta]
    if missing:
        raise ConfigError(f'meta has no {missing[0]!r} to keep, it has: '
                          f'{", ".join(map(str, meta)) or "nothing"}')
    names = (*PUBLIC_META, PUBLISHED)
    public = {
        key: value
        for key, value in meta.items() if key in names or key in keep
        or isinstance(key, str) and _VERSION.fullmatch(key)
    }
    left_out = [
        str(key) for key, value in meta.items() if key not in public
        # the user's own entry of that name
        or key == PUBLISHED and value is not True
    ]
    # who resumes must not take the weights for the state of a run
    return {**public, PUBLISHED: True}, left_out


def _writer(suffix: str, weights: 'OrderedDict[str, Any]',
            meta: Mapping[str, Any]) -> Write:
    """Return what writes the file; the same bytes whenever it is called."""
    state = reference(dict(meta=dict(meta), state_dict=weights))
    if suffix == '.pth':
        return lambda stream: write_checkpoint(stream, state,
                                               {'format': CARD_VERSION})
    texts = {key: _text(value) for key, value in meta.items()}
    return flat_file(state, {'format': CARD_VERSION}, texts).write


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _sum_of(files: StorageBackend, name: str) -> str:
    """Return the SHA-256 of a file; '' if it is not there."""
    summed = _SumStream()
    try:
        with files.open(name) as file:
            for block in iter(lambda: file.read(_BLOCK_BYTES), b''):
                summed.write(block)
    except MissingCheckpointError:
        return ''
    return summed.digest()


class _SumStream:
    """Takes what is written, and keeps its size and its SHA-256."""

    def __init__(self) -> None:
        self.bytes = 0
        self._sum = hashlib.sha256()

    def write(self, data: Any) -> int:
        """Count what is written."""
        self._sum.update(data)
        self.bytes += memoryview(data).nbytes
        return memoryview(data).nbytes

    def digest(self) -> str:
        """Return the SHA-256 of all that was written."""
        return self._sum.hexdigest()
