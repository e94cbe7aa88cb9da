"""A job on a thread that the process waits for, until told otherwise."""
import threading
from contextlib import suppress
from typing import Any, Callable, Optional

Job = Callable[[], Any]


class RunningJob:
    """A job under way, for which the process waits at its end.

    Whether the interpreter waits for a thread is settled when it starts. So
    this one's is not waited for, and beside it stands one that is.

    Args:
        job (callable): To be run.
    """

    def __init__(self, job: Job) -> None:
        self.ended = threading.Event()
        self._error: Optional[BaseException] = None
        self._is_abandoned = False
        # not an event: whoever is interrupted in it may come back to it
        self._settled = threading.Lock()
        self._settled.acquire()
        self._thread = threading.Thread(
            target=self._run,
            args=(job, ),
            name='mmcv-ckpt-writer',
            daemon=True)
        waiting = threading.Thread(
            target=self._keep_process, name='mmcv-ckpt-exit', daemon=False)
        waiting.start()
        try:
            self._thread.start()
        except BaseException:
            self.abandon()
            raise

    def join(self) -> Optional[BaseException]:
        """Wait for the end; return the error if it failed."""
        # Ctrl-C in a join makes python 3.11 take the thread for ended
        self.ended.wait()
        self._thread.join()
        return self._error

    def abandon(self) -> None:
        """Let the interpreter end without it."""
        self._is_abandoned = True
        self._settle()

    def _run(self, job: Job) -> None:
        try:
            job()
        except BaseException as error:  # the boundary where errors are kept
            self._error = error
        finally:
            del job  # it holds the staged copy
            self.ended.set()
            self._settle()

    def _keep_process(self) -> None:
        self._settled.acquire()
        if not self._is_abandoned:
            # torch aborts a process in whose end a thread of its own ends
            self._thread.join()

    def _settle(self) -> None:
        with suppress(RuntimeError):  # the other one was first
            self._settled.release()
