"""Runners of other repos that save or resume fields of their own.

What such a runner adds to a checkpoint only its ``save_checkpoint`` knows. It
is called with ``torch.save`` caught, so that nothing is written, and the
fields it would have saved are taken from there. In the same way its
``resume`` is called with ``torch.load`` answered by our loader, which executes
nothing.
"""
import inspect
import tempfile
import threading
from contextlib import contextmanager
from typing import Any, Callable, Dict, Iterator, List, Optional

import torch
from mmcv.runner import BaseRunner, EpochBasedRunner, IterBasedRunner

from . import distributed
from .errors import ConfigError
from .fitting import check_fit
from .mapping import detach

_STOCK = (BaseRunner, EpochBasedRunner, IterBasedRunner)
#: Fields that the save core writes itself.
_CORE_FIELDS = ('meta', 'state_dict', 'optimizer', 'amp', 'resume_state')
#: Attribute of a runner while it is asked for its fields.
_ASKED = '_asked_for_fields'
#: Attribute of a runner while its own ``resume`` is called: the checkpoint.
_GIVEN = '_given_checkpoint'
#: Attribute of a method: the repo's own, which it calls.
OWN = 'own'


def overrides(runner: Any, method: str) -> bool:
    """Whether a runner's class has its own version of a stock method."""
    return overridden(type(runner), method)


def overridden(cls: type, method: str) -> bool:
    """As :func:`overrides`, of a runner class."""
    own = getattr(cls, method)
    if getattr(own, 'saves_through_core', False):
        return False
    return all(own is not getattr(stock, method) for stock in _STOCK)


def check_runner(runner: Any) -> None:
    """Refuse a runner whose own fields could not be kept.

    Rank 0 asks, as it alone saves: many runners do nothing on the others.

    Raises:
        ConfigError: Before training, on all ranks, naming what is wrong.
    """
    failure: Optional[Exception] = None
    if distributed.rank() == 0 and overrides(runner, 'save_checkpoint'):
        try:
            _check_fields(runner)
        except ConfigError as error:
            failure = error
    failure = distributed.broadcast_object(failure)
    if failure is not None:
        raise failure


def _check_fields(runner: Any) -> None:
    parameters = inspect.signature(type(runner).save_checkpoint).parameters
    open_ended = any(one.kind is one.VAR_KEYWORD
                     for one in parameters.values())
    missing = [
        name for name in ('out_dir', 'save_optimizer', 'create_symlink')
        if name not in parameters
    ]
    if missing and not open_ended:
        raise ConfigError(
            f'{type(runner).__name__}.save_checkpoint has no parameter '
            f'{", ".join(missing)}: what it adds to a checkpoint cannot be '
            'kept. Give it the parameters of mmcv.runner.BaseRunner')
    extra_fields(runner)


def extra_fields(runner: Any) -> Dict[str, Any]:
    """Return the fields that the runner's own ``save_checkpoint`` adds.

    Returns:
        dict: By name, and ``meta`` with what it has there; empty for stock
        runners.

    Raises:
        ConfigError: If it does not save a dict with ``torch.save``.
    """
    if not overrides(runner, 'save_checkpoint') or \
            getattr(runner, _ASKED, None) is not None:
        return {}
    saved: List[Any] = []

    def catch(value: Any, *_: Any, **__: Any) -> None:
        saved.append(value)

    arguments: Dict[str, Any] = dict(
        save_optimizer=False, create_symlink=False)
    parameters = inspect.signature(type(runner).save_checkpoint).parameters
    template = parameters.get('filename_tmpl')
    if template is not None and template.default is template.empty:
        arguments['filename_tmpl'] = 'asked_{}.pth'
    setattr(runner, _ASKED, saved)
    try:
        with tempfile.TemporaryDirectory() as directory, \
                _replaced(torch, 'save', catch):
            runner.save_checkpoint(directory, **arguments)
    finally:
        setattr(runner, _ASKED, None)
    if not saved or not isinstance(saved[-1], dict):
        raise ConfigError(
            f'{type(runner).__name__}.save_checkpoint does not call '
            'torch.save with a dict: what it adds to a checkpoint cannot be '
            'kept')
    fields = {
        name: value
        for name, value in saved[-1].items() if name not in _CORE_FIELDS
    }
    meta = saved[-1].get('meta')
    if isinstance(meta, dict):
        fields['meta'] = meta
    return fields


def takes(runner: Any, checkpoint: Dict[str, Any]) -> bool:
    """Keep a checkpoint from being written that is asked for its fields.

    A subclass of our runners calls our ``save_checkpoint`` in its own.
    """
    saved = getattr(runner, _ASKED, None)
    if saved is None:
        return False
    saved.append(checkpoint)
    return True


def resume_with(runner: Any,
                checkpoint: Dict[str, Any],
                path: str,
                resume_optimizer: bool = True,
                **kwargs: Any) -> None:
    """Let the runner's own ``resume`` restore the fields it added.

    mmcv's, which it may call, executes the config text in ``meta`` and
    replaces the runner's meta (v1.7.2, runner/base_runner.py:384-396); that of
    ``IterBasedRunner`` asks for a GPU (runner/iter_based_runner.py:172).

    Args:
        runner (BaseRunner): One with a ``resume`` of its own.
        checkpoint (dict): Loaded.
        path (str): Where from.
        resume_optimizer (bool): Default: True.
        kwargs: Further arguments of its ``resume``.

    Raises:
        ResumeError: If the optimizer does not fit; nothing is changed then.
    """
    if resume_optimizer:
        check_fit(runner, checkpoint, path)
    # it may keep what it is given in any place
    detach(checkpoint)
    # INVARIANT: without the config text: nothing from a file is executed
    harmless = dict(
        checkpoint,
        meta={
            key: value
            for key, value in checkpoint['meta'].items() if key != 'config'
        })
    if not resume_optimizer:
        harmless.pop('optimizer', None)
    own = getattr(type(runner).resume, OWN, type(runner).resume)
    parameters = inspect.signature(own).parameters
    if 'map_location' in parameters or any(one.kind is one.VAR_KEYWORD
                                           for one in parameters.values()):
        kwargs['map_location'] = 'cpu'
    meta = runner.meta
    device = torch.cuda.current_device if torch.cuda.is_available() else \
        (lambda: 0)
    setattr(runner, _GIVEN, harmless)
    try:
        with _replaced(torch, 'load', lambda *_, **__: harmless), \
                _replaced(torch.cuda, 'current_device', device):
            own(runner, path, **kwargs)
    finally:
        setattr(runner, _GIVEN, None)
    runner.meta = meta


def given(runner: Any) -> Optional[Dict[str, Any]]:
    """Return what a runner's own ``resume`` is to load; None outside of it."""
    checkpoint: Optional[Dict[str, Any]] = getattr(runner, _GIVEN, None)
    return checkpoint


@contextmanager
def _replaced(module: Any, name: str,
              substitute: Callable[..., Any]) -> Iterator[None]:
    """Answer a function of torch on this thread with a substitute."""
    original = getattr(module, name)
    thread = threading.get_ident()

    def dispatch(*args: Any, **kwargs: Any) -> Any:
        if threading.get_ident() == thread:
            return substitute(*args, **kwargs)
        return original(*args, **kwargs)

    setattr(module, name, dispatch)
    try:
        yield
    finally:
        setattr(module, name, original)
