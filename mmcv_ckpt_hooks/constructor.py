"""A constructor that gives a registered runner what ours have."""
import os
from typing import Any, Callable, Dict, Optional

from mmcv.runner import RUNNERS, EpochBasedRunner, IterBasedRunner

from . import foreign
from .durable_runner import DurableRunnerMixin
from .errors import CheckpointError, ConfigError
from .runners import DurableEpochMixin, DurableIterMixin
from .wording import nearest


class DurableRunnerConstructor:
    """Gives a runner of mmcv or of a repo what the Amp runners have.

    It must be an ``IterBasedRunner`` or an ``EpochBasedRunner``. What its own
    ``save_checkpoint`` and ``resume`` do beyond mmcv's is done, too.

    ``runner=dict(type='IterBasedRunner', constructor=
    'DurableRunnerConstructor', max_iters=...)`` keeps the type's name, which
    some tools compare.

    Args:
        runner_cfg (dict): Config of the runner.
        default_args (dict, optional): Default: None.
    """

    def __init__(self,
                 runner_cfg: Dict[str, Any],
                 default_args: Optional[Dict[str, Any]] = None) -> None:
        if not isinstance(runner_cfg, dict):
            raise TypeError('runner_cfg should be a dict, but got '
                            f'{type(runner_cfg)}')
        self.runner_cfg = runner_cfg
        self.default_args = default_args

    def __call__(self) -> Any:
        """Build the runner."""
        config = {**(self.default_args or {}), **self.runner_cfg}
        if 'type' not in config:
            raise ConfigError(
                'the runner of DurableRunnerConstructor has no type: expected '
                "such as type='IterBasedRunner' beside the constructor")
        runner_type = config.pop('type')
        cls = RUNNERS.get(runner_type) if isinstance(runner_type, str) \
            else runner_type
        if cls is None:
            names = [*RUNNERS.module_dict]
            near = nearest(str(runner_type), names)
            hint = f'did you mean {near!r}? ' if near else ''
            raise CheckpointError(
                f'{runner_type} is not in the runner registry; {hint}it has: '
                f'{", ".join(sorted(names))}. What a repo registers itself '
                'is there once custom_imports, or its code, has imported it')
        return durable_class(cls)(**config)


def durable_class(cls: type) -> type:
    """Return a runner class with the mixin; its name stays.

    Raises:
        CheckpointError: If it is neither iteration- nor epoch-based.
    """
    if issubclass(cls, DurableRunnerMixin):
        return cls
    if issubclass(cls, IterBasedRunner):
        mixin: type = DurableIterMixin
    elif issubclass(cls, EpochBasedRunner):
        mixin = DurableEpochMixin
    else:
        raise CheckpointError(
            f'{cls.__name__} is neither an IterBasedRunner nor an '
            'EpochBasedRunner: its counters are unknown')
    namespace: Dict[str, Any] = {'__module__': cls.__module__}
    # what they add to a checkpoint, and take from it, only they know
    if foreign.overridden(cls, 'save_checkpoint'):
        namespace['save_checkpoint'] = getattr(cls, 'save_checkpoint')
    if foreign.overridden(cls, 'resume'):
        namespace['resume'] = _resume_around(getattr(cls, 'resume'))
    return type(cls.__name__, (mixin, cls), namespace)


def _resume_around(own: Callable[..., None]) -> Callable[..., None]:

    def resume(runner: Any,
               checkpoint: str,
               resume_optimizer: bool = True,
               map_location: Any = 'default',
               **kwargs: Any) -> None:
        """As ``DurableRunnerMixin.resume``, and as the repo's runner does."""
        from .restore import restore_runner
        from .resume import load_verified

        # the repo's own keeps what it likes
        content, directory, name = load_verified(checkpoint, runner._trusts(),
                                                 runner.logger.warning)
        path = os.path.join(directory, name)
        foreign.resume_with(runner, content, path, resume_optimizer, **kwargs)
        runner.restored = restore_runner(runner, content, directory, name,
                                         resume_optimizer)

    setattr(resume, foreign.OWN, own)
    return resume
