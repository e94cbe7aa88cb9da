"""A thread that runs jobs, for which the process waits until told otherwise.

Starting a thread takes its starter up to 10 ms beside another that computes
in Python, so one is kept. Whether the interpreter waits for a thread is
settled when it starts; this one's is not waited for, but its job is, at exit.
"""
import atexit
import os
import queue
import threading
from typing import Any, Callable, Optional, Set

Job = Callable[[], Any]


class RunningJob:
    """A job that was given to a :class:`JobThread`.

    Args:
        job (callable): To be run.
    """

    def __init__(self, job: Job) -> None:
        self.ended = threading.Event()
        self.error: Optional[BaseException] = None
        self.is_abandoned = False
        self._job: Optional[Job] = job
        self._lock = threading.Lock()

    def run(self) -> None:
        """Run it, unless it was taken back."""
        job = self._take()
        if job is None:
            return
        try:
            job()
        except BaseException as error:  # the boundary where errors are kept
            self.error = error
        finally:
            del job  # it holds the staged copy
            self.ended.set()

    def take_back(self) -> None:
        """Let it not be run; nothing if it runs."""
        if self._take() is not None:
            self.ended.set()

    def join(self) -> Optional[BaseException]:
        """Wait for the end; return the error if it failed."""
        self.ended.wait()
        return self.error

    def _take(self) -> Optional[Job]:
        with self._lock:
            job, self._job = self._job, None
        return job


class JobThread:
    """Runs one job after the other.

    Thread: all methods on one.
    """

    def __init__(self) -> None:
        self._jobs: 'queue.SimpleQueue[Optional[RunningJob]]' = \
            queue.SimpleQueue()
        self._process = os.getpid()
        #: the last one that was given
        self.job: Optional[RunningJob] = None
        self._thread = threading.Thread(
            target=self._run, name='mmcv-ckpt-writer', daemon=True)
        self._thread.start()
        _threads.add(self)
        # once, and not when the package is imported
        atexit.unregister(_end_process)
        atexit.register(_end_process)

    def submit(self, job: Job) -> None:
        """Have a job run; the one before has ended."""
        running = RunningJob(job)
        try:
            self.job = running
            self._jobs.put(running)
        except BaseException:  # Ctrl-C: nobody would run it, or it runs
            running.take_back()
            raise

    def retire(self) -> None:
        """End after the job under way, which is not waited for.

        Thread: any.
        """
        self._jobs.put(None)

    def close(self) -> None:
        """End, after the job under way."""
        self.retire()
        self._thread.join()

    def end_process(self) -> None:
        """Wait for the job under way, unless it is abandoned."""
        # a fork has no such thread
        if self._process != os.getpid():
            return
        if self.job is not None and not self.job.is_abandoned:
            self.job.join()
        if self.job is None or self.job.ended.is_set():
            # torch aborts a process in whose end a thread of its own ends
            self.close()

    def _run(self) -> None:
        while True:
            running = self._jobs.get()
            if running is None:
                _threads.discard(self)
                return
            running.run()
            del running


_threads: Set[JobThread] = set()


def _end_process() -> None:
    for thread in list(_threads):
        thread.end_process()


def answer_within(secs: float, call: Callable[[], Any]) -> Any:
    """Return what a call returns; None if that takes longer.

    Its thread is then left to itself: what it waits for may never come.

    Args:
        secs (float): How long to wait.
        call (callable): Raises nothing.
    """
    answers = []
    thread = threading.Thread(
        target=lambda: answers.append(call()), daemon=True)
    thread.start()
    thread.join(secs)
    return answers[0] if answers else None
