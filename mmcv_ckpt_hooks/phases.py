"""The phases of a stock runner's workflow, which tell nobody that they raised.

Our runners catch what stops them in ``run``. Of others, ``train`` and ``val``
are replaced on the instance for as long as a run lasts: mmcv looks them up at
each call.
"""
import functools
from typing import Any, Callable, Dict, Tuple

_PHASES = ('train', 'val')


class Phases:
    """Tells of the exceptions that leave a phase, once each.

    Args:
        runner (BaseRunner): One that is not ours; its class may override the
            methods.
        tell (callable): Given the exception, which is raised afterwards unless
            it raises another one.
    """

    def __init__(self, runner: Any, tell: Callable[[BaseException],
                                                   None]) -> None:
        self._runner = runner
        self._tell = tell
        self._inside = False
        #: ours, and what the instance had before
        self._watched: Dict[str, Tuple[Any, Any]] = {}

    def watch(self) -> None:
        """Replace the methods, unless somebody does it already."""
        for name in _PHASES:
            inner = getattr(self._runner, name)
            if not hasattr(inner, 'tells_of_exceptions'):
                before = vars(self._runner).get(name)
                phase = self._telling(inner)
                self._watched[name] = phase, before
                setattr(self._runner, name, phase)

    def restore(self) -> None:
        """Put back what was there; what was put on top of ours stays."""
        for name, (phase, before) in self._watched.items():
            if vars(self._runner).get(name) is not phase:
                continue
            if before is None:
                delattr(self._runner, name)
            else:
                setattr(self._runner, name, before)
        self._watched = {}

    def _telling(self, inner: Callable[..., Any]) -> Callable[..., Any]:

        @functools.wraps(inner)
        def phase(*args: Any, **kwargs: Any) -> Any:
            if self._inside:  # one phase calls the other
                return inner(*args, **kwargs)
            self._inside = True
            try:
                return inner(*args, **kwargs)
            except BaseException as error:
                self._tell(error)
                raise
            finally:
                self._inside = False

        phase.tells_of_exceptions = True  # type: ignore[attr-defined]
        return phase
