"""Data loaders' workers at the end of a run on several ranks.

torchrun, and some schedulers, signal the whole process group of a rank, its
workers too. One rank finishes its iteration without them; several need one
more batch each, to agree on the step with which all of them leave.
"""
import signal
from types import FrameType
from typing import Any, Callable, Optional

from torch.utils.data import DataLoader

#: So long (seconds) a worker outlives SIGTERM: more than two iterations should
#: take, less than the 30 s that torchrun and schedulers give.
WORKER_SECS = 15


class Outliving:
    """A ``worker_init_fn``; spawned workers get it by pickle.

    Args:
        inner (callable, optional): That of the loader.
    """

    def __init__(self, inner: Optional[Callable[[int], None]]) -> None:
        self._inner = inner

    def __call__(self, worker: int) -> None:
        if hasattr(signal, 'alarm'):  # not on Windows
            # over the handler that torch has set in C by now
            signal.signal(signal.SIGTERM, _end_later)
        if self._inner is not None:
            self._inner(worker)


def let_workers_outlive(loader: Any) -> None:
    """Have the workers that a loader starts outlive SIGTERM a little.

    They still end with their loader, or with a killed main process, at once.
    """
    if isinstance(loader, DataLoader) and loader.num_workers and \
            not isinstance(loader.worker_init_fn, Outliving):
        loader.worker_init_fn = Outliving(loader.worker_init_fn)


def _end_later(number: int, frame: Optional[FrameType]) -> None:
    # a loader ends by a further one who does not answer
    signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(WORKER_SECS)
