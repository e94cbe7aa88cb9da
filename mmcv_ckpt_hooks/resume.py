"""The newest verified checkpoint, and a runner continued from it."""
import logging
import os
import re
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

from mmcv.runner import EpochBasedRunner
from mmcv.runner.checkpoint import load_state_dict

from . import distributed
from .amp import restore_amp
from .catalog import LATEST_NAME, Catalog, steps_in_name
from .errors import (CheckpointError, IntegrityError, MissingCheckpointError,
                     ResumeError, StorageError, UnsafeCheckpointError,
                     UnverifiableError)
from .loading import load_checkpoint
from .state import restore_generators, restore_optimizer, unwrapped
from .storage import open_backend, scheme_of, split_filename
from .types import CheckpointInfo, StorageBackend
from .verification import VerifyReport, verify_file

Log = Callable[[str], None]


@dataclass(frozen=True)
class Restored:
    """What a runner was continued from.

    Args:
        directory (str): Path or URL of the directory.
        name (str): File name.
        epoch (int): Finished epochs.
        iter (int): Finished iterations.
        lineage (str): Of the checkpoint; empty for other programs' files.
    """
    directory: str
    name: str
    epoch: int
    iter: int
    lineage: str


def verify_checkpoint(path: str) -> VerifyReport:
    """Check that a file is a complete, undamaged checkpoint.

    The zip structure, the CRC-32 of every record and, where a catalog lies
    beside the file, the digest there are checked. Nothing is unpickled.

    Args:
        path (str): A path or URL.

    Returns:
        VerifyReport: What was checked.

    Raises:
        IntegrityError: It names the defect.
        MissingCheckpointError: If there is no such file.
    """
    directory, name = split_filename(_real_path(path))
    backend = open_backend(directory)
    digest = None
    if backend.capabilities.listing:
        catalog = Catalog(backend, backend, warn=lambda message: None)
        catalog.open()
        known = catalog.find(name)
        digest = known.digest if known is not None else None
    with backend.open(name) as file:
        return verify_file(file, path, digest)


def find_resumable(dir_or_url: str) -> Optional[str]:
    """Return the newest checkpoint of a directory that verifies.

    Args:
        dir_or_url (str): A work dir, local or remote.

    Returns:
        str | None: Its path; None if there is no checkpoint at all.

    Raises:
        IntegrityError: If there are checkpoints, but none verifies.
        StorageError: If the directory cannot be read; that never means that
            it is empty.
    """
    if not scheme_of(dir_or_url) and not os.path.isdir(dir_or_url):
        return None
    backend = open_backend(dir_or_url)
    catalog = Catalog(backend, backend, warn=logging.warning)
    catalog.open()
    found = newest_verified(backend, catalog, logging.warning)
    return None if found is None else os.path.join(dir_or_url, found.name)


def newest_verified(backend: StorageBackend, catalog: Catalog,
                    log: Log) -> Optional[CheckpointInfo]:
    """Try the candidates of a place, newest first.

    Returns:
        CheckpointInfo | None: None if there is no candidate.

    Raises:
        IntegrityError: If there are some, but none verifies.
    """
    candidates = catalog.resumable()
    reasons = []
    for info in candidates:
        try:
            with backend.open(info.name) as file:
                verify_file(file, info.name, info.digest or None)
            return info
        except UnverifiableError:
            return info
        except (IntegrityError, MissingCheckpointError) as error:
            reasons.append(str(error))
            log(f'Not resuming from {info.name}: {error}')
    if reasons:
        raise IntegrityError(
            f'none of the {len(reasons)} checkpoints in {backend.url} can be '
            f'resumed from: {"; ".join(reasons)}. Move them away to start '
            'anew')
    return None


def load_verified(path: str, trust: bool, log: Log
                  ) -> Tuple[Dict[str, Any], str, str]:
    """Load the checkpoint of an explicit path.

    ``latest.pth`` means the newest that verifies in its directory; any other
    path means that file.

    Returns:
        tuple[dict, str, str]: The checkpoint, its directory and its name.

    Raises:
        IntegrityError: If it is damaged; names the newest good one.
        ResumeError: If it holds no checkpoint of a run.
    """
    directory, name = split_filename(path)
    backend = open_backend(directory)
    if name == LATEST_NAME and backend.capabilities.listing:
        catalog = Catalog(backend, backend, warn=log)
        catalog.open()
        found = newest_verified(backend, catalog, log)
        if found is not None:
            return load_from(backend, found, trust), directory, found.name
    directory, name = split_filename(_real_path(path))
    backend = open_backend(directory)
    try:
        with backend.open(name) as file:
            checkpoint = load_checkpoint(file, _local_path(backend, name),
                                         trust)
    except (IntegrityError, UnsafeCheckpointError) as error:
        raise type(error)(f'{error}{_better_one(directory, name)}') from error
    _check_fields(checkpoint, path)
    return checkpoint, directory, name


def load_weights(path: str, trust: bool) -> Dict[str, Any]:
    """Load any checkpoint of a model, also a bare state dict.

    Raises:
        ResumeError: If it holds no dict.
    """
    directory, name = split_filename(_real_path(path))
    backend = open_backend(directory)
    with backend.open(name) as file:
        content = load_checkpoint(file, _local_path(backend, name), trust)
    if not isinstance(content, dict):
        raise ResumeError(f'{path} holds a {type(content).__name__}, expected '
                          'a checkpoint or a state dict')
    return content


def load_from(backend: StorageBackend, info: CheckpointInfo,
              trust: bool) -> Dict[str, Any]:
    """Load a checkpoint that a catalog lists."""
    with backend.open(info.name) as file:
        checkpoint = load_checkpoint(file, _local_path(backend, info.name),
                                     trust)
    _check_fields(checkpoint, info.name)
    return dict(checkpoint)


def restore_runner(runner: Any,
                   checkpoint: Mapping[str, Any],
                   directory: str,
                   name: str,
                   resume_optimizer: bool = True) -> Restored:
    """Continue a runner from a checkpoint; its own meta stays.

    Order: model, optimizer, AMP, counters, best scores and hook messages,
    generators.

    Args:
        runner (BaseRunner): Built, with its hooks; not running yet.
        checkpoint (dict): On the CPU.
        directory (str): Where it came from.
        name (str): Its file name, which tells the finished steps.
        resume_optimizer (bool): Whether to load the optimizer's state.
            Default: True.

    Raises:
        ResumeError: If the optimizer does not fit.
    """
    log = runner.logger.info
    state_dict = without_prefix(checkpoint['state_dict'])
    load_state_dict(unwrapped(runner.model), state_dict, False, runner.logger)
    if resume_optimizer:
        _restore_optimizer(runner, checkpoint, name)
    restore_amp(runner.hooks, checkpoint.get('amp'), runner.logger.warning)
    epoch, finished = finished_steps(checkpoint, name,
                                     isinstance(runner, EpochBasedRunner), log)
    runner._epoch, runner._iter = epoch, finished
    runner._inner_iter = finished
    _restore_messages(runner, checkpoint['meta'], directory)
    resume_state = checkpoint.get('resume_state') or {}
    generators = resume_state.get('rng', [])
    if distributed.rank() < len(generators):
        restore_generators(generators[distributed.rank()])
    runner.logger.info(
        f'Resumed from {os.path.join(directory, name)}: {epoch} epochs and '
        f'{finished} iterations are finished')
    return Restored(directory, name, epoch, finished,
                    resume_state.get('lineage', ''))


def without_prefix(state_dict: Mapping[str, Any],
                   revise_keys: Optional[List[Tuple[str, str]]] = None
                   ) -> 'OrderedDict[str, Any]':
    """Rename keys as mmcv does; by default ``module.`` goes."""
    rules = [(r'^module\.', '')] if revise_keys is None else revise_keys
    renamed: 'OrderedDict[str, Any]' = OrderedDict()
    for key, value in state_dict.items():
        for pattern, replacement in rules:
            key = re.sub(pattern, replacement, key)
        renamed[key] = value
    renamed._metadata = getattr(  # type: ignore[attr-defined]
        state_dict, '_metadata', OrderedDict())
    return renamed


def finished_steps(checkpoint: Mapping[str, Any], name: str,
                   epoch_runner: bool, log: Log) -> Tuple[int, int]:
    """Return finished epochs and iterations, whoever wrote the file.

    Files with ``resume_state`` count finished steps. Others do not agree:
    ``iter_8.pth`` of stock mmcv has ``meta['iter'] == 7``, that of BEiT has
    8; after a resume, UniFormer writes the epoch of the file before. The file
    name counts right in all of them; without one, the step of an Adam
    optimizer tells, and then the field ``amp``, which only the apex_runner
    family writes.

    Source: mmcv v1.7.2 runner/iter_based_runner.py:221-223,
    epoch_based_runner.py:167-175.
    """
    meta = checkpoint['meta']
    epoch, finished = int(meta.get('epoch', 0)), int(meta.get('iter', 0))
    if checkpoint.get('resume_state'):
        return epoch, finished
    told = steps_in_name(name)
    if 'iter' in told and 'epoch' not in told:
        if told['iter'] != finished:
            log(f'{name} says {told["iter"]} finished iterations, its meta '
                f'{finished}: the name counts')
        # its epoch is the running one, counted from 1
        return max(epoch - 1, 0), told['iter']
    if 'epoch' in told and 'iter' not in told:
        if told['epoch'] != epoch:
            log(f'{name} says {told["epoch"]} finished epochs, its meta '
                f'{epoch}: the name counts')
            if epoch and finished % epoch == 0:
                finished = finished // epoch * told['epoch']
        return told['epoch'], finished
    if epoch_runner:
        return epoch, finished
    step = _optimizer_step(checkpoint.get('optimizer'))
    if step in (finished, finished + 1):
        return max(epoch - 1, 0), int(step)
    return max(epoch - 1, 0), finished + (0 if 'amp' in checkpoint else 1)


def _optimizer_step(optimizer: Any) -> int:
    """Steps that an Adam has made, -1 if it cannot be told."""
    states = optimizer.get('state', {}) if isinstance(optimizer, dict) else {}
    for state in states.values():
        if isinstance(state, dict) and 'step' in state:
            return int(state['step'])
    return -1


def _restore_optimizer(runner: Any, checkpoint: Mapping[str, Any],
                       name: str) -> None:
    if 'optimizer' not in checkpoint:
        if runner.optimizer is not None:
            runner.logger.warning(
                f'{name} holds no optimizer state: the optimizer starts anew')
        return
    try:
        restore_optimizer(runner.optimizer, checkpoint['optimizer'])
    except (KeyError, ValueError) as error:
        raise ResumeError(
            f'{name}: its optimizer does not fit this run '
            f'({type(error).__name__}: {error}). Start with load_from to take '
            'only the weights') from error


def _restore_messages(runner: Any, meta: Mapping[str, Any],
                      directory: str) -> None:
    """Take over best scores and the loss scale; nothing else of meta."""
    if runner.meta is None:
        runner.meta = {}
    messages = dict(meta.get('hook_msgs') or {})
    for key in ('last_ckpt', 'best_ckpt'):
        if isinstance(messages.get(key), str):
            # INVARIANT: a path in a file names a sibling; an absolute one of
            # another machine or run would have the original deleted
            messages[key] = os.path.join(directory,
                                         os.path.basename(messages[key]))
    runner.meta.setdefault('hook_msgs', {}).update(messages)
    scaler = (meta.get('fp16') or {}).get('loss_scaler')
    if scaler:
        # a disabled scaler saves {}, which an enabled one cannot load
        runner.meta.setdefault('fp16', {})['loss_scaler'] = scaler


def _check_fields(checkpoint: Any, path: str) -> None:
    if isinstance(checkpoint, dict) and isinstance(
            checkpoint.get('meta'), dict) and 'state_dict' in checkpoint:
        return
    held = list(checkpoint)[:5] if isinstance(checkpoint, dict) \
        else type(checkpoint).__name__
    raise ResumeError(
        f"{path} cannot be resumed from: expected the fields 'meta' and "
        f"'state_dict', found {held}. Use load_from to take only the weights")


def _better_one(directory: str, name: str) -> str:
    try:
        newest = find_resumable(directory)
    except (StorageError, CheckpointError):
        newest = None
    if newest is None or os.path.basename(newest) == name:
        return ''
    return f'. The newest good one there is {os.path.basename(newest)}'


def _real_path(path: str) -> str:
    """Follow ``latest.pth`` to the file whose name tells the step."""
    if scheme_of(path):
        return path
    path = os.path.expanduser(path)
    return os.path.realpath(path) if os.path.islink(path) else path


def _local_path(backend: StorageBackend, name: str) -> str:
    return os.path.join(backend.url, name)

