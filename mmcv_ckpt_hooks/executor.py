"""The one owner of background threads, with :mod:`running_job`."""
import threading
import weakref
from collections import deque
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import Callable, Deque, List, Optional

from .running_job import Job, JobThread, RunningJob


class BackgroundExecutor:
    """Runs one job at a time on a thread that the process waits for at exit.

    An error of a job is kept and handed back once, as it was raised, by
    :meth:`take_error` on the thread that can act.

    Thread: all methods on the training thread, but :meth:`keep`.
    """

    def __init__(self) -> None:
        self._thread: Optional[JobThread] = None
        self._errors: List[BaseException] = []

    @property
    def _job(self) -> Optional[RunningJob]:
        return None if self._thread is None else self._thread.job

    def submit(self, job: Job) -> None:
        """Start a job; waits for the one before."""
        self.wait()
        if self._thread is None:
            self._thread = JobThread()
            # a run that raised may have closed nothing
            weakref.finalize(self, self._thread.retire).atexit = False
        self._thread.submit(job)

    def run(self, job: Job) -> bool:
        """Run a job on the caller's thread, after the one under way.

        Returns:
            bool: False if it failed; the error is kept as for the others.
        """
        self.wait()
        try:
            job()
        except Exception as error:  # the boundary where errors are kept
            self._errors.append(error)
            return False
        return True

    def submit_or_run(self, job: Job) -> None:
        """As :meth:`submit`; as :meth:`run` where no thread can be started."""
        try:
            self.submit(job)
        except RuntimeError:
            self.run(job)

    def keep(self, error: Exception) -> None:
        """Keep an error that does not end its job.

        Thread: the job's.
        """
        self._errors.append(error)

    def busy(self) -> bool:
        """Whether a job is under way."""
        return self._job is not None and not self._job.ended.is_set()

    def wait(self) -> None:
        """Wait until the job under way has ended."""
        thread = self._thread
        if thread is None or thread.job is None:
            return
        error = thread.job.join()
        thread.job = None
        if error is not None:
            self._errors.append(error)

    def take_error(self) -> Optional[BaseException]:
        """Return an error of an earlier job, once; None if there is none."""
        if self._job is not None and not self.busy():
            self.wait()
        return self._errors.pop(0) if self._errors else None

    def close(self) -> None:
        """Wait for the job under way and end its thread."""
        self.wait()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.close()

    def retire(self) -> None:
        """End the thread after the job under way, which is not waited for."""
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.retire()

    def abandon(self) -> bool:
        """Let the process end without the job under way.

        Returns:
            bool: Whether there is one. As long as the process lives, it goes
            on.

        Thread: also a signal's handler.
        """
        job = self._job
        if job is None or job.ended.is_set():
            return False
        job.is_abandoned = True
        return True


class InlineExecutor(BackgroundExecutor):
    """Runs every job at once, on the caller's thread."""

    def submit(self, job: Job) -> None:
        self.run(job)


def run_together(job: Job, threads: int, stop: Callable[[], None]) -> None:
    """Run a job on several threads, and return when none of them runs it.

    Args:
        job (callable): Called once on each.
        threads (int): How many.
        stop (callable): Called when the first has failed, or all have ended:
            the others may end early.

    Raises:
        Exception: That of one that has failed.
    """
    with ThreadPoolExecutor(threads, 'mmcv-ckpt-together') as pool:
        runs = [pool.submit(job) for _ in range(threads)]
        try:
            wait(runs, return_when=FIRST_EXCEPTION)
        finally:
            stop()
    for one in runs:
        one.result()


class Follower:
    """Runs short jobs one after the other, on a thread of its own.

    An error ends it: it is raised by every later call, and what was not begun
    is left out. Where no thread can be started (the interpreter is ending:
    Python 3.12) each job is run at once. The thread never keeps the process:
    who gives the jobs waits for them.

    Args:
        limit (int): So many jobs may be left to begin; :meth:`submit` waits
            for room.

    Thread: one, at a time.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._changed = threading.Condition()
        self._jobs: Deque[Callable[[], None]] = deque()
        self._is_busy = self._is_ended = False
        self._error: Optional[BaseException] = None
        self._done = 0
        self._thread: Optional[threading.Thread] = None

    def submit(self, job: Callable[[], None]) -> None:
        """Have a job run after those before it."""
        if not self.start():
            job()
            return
        with self._changed:
            self._changed.wait_for(
                lambda: self._error or len(self._jobs) < self._limit)
            self._raise()
            self._jobs.append(job)
            self._changed.notify_all()

    def wait_for_one(self) -> None:
        """Wait until one more job has ended."""
        with self._changed:
            done = self._done
            self._changed.wait_for(lambda: self._error or self._done > done or
                                   not self._jobs and not self._is_busy)
            self._raise()

    def finish(self) -> None:
        """Wait until every job has ended."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._error or not self._jobs and not self._is_busy)
            self._raise()

    def close(self) -> None:
        """End the thread; the job under way is waited for."""
        with self._changed:
            self._is_ended = True
            self._jobs.clear()
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()

    def start(self) -> bool:
        """Start the thread, once; False where none can be started."""
        if self._thread is not None:
            return True
        thread = threading.Thread(
            target=self._run, name='mmcv-ckpt-blocks', daemon=True)
        try:
            thread.start()
        except RuntimeError:
            return False
        self._thread = thread
        return True

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._jobs or self._is_ended)
                if self._is_ended:
                    return
                job, self._is_busy = self._jobs.popleft(), True
                self._changed.notify_all()
            error: Optional[BaseException] = None
            try:
                job()
            except Exception as raised:  # handed to the thread that submits
                error = raised
            with self._changed:
                self._is_busy = False
                self._done += 1
                self._error = error
                self._is_ended = self._is_ended or error is not None
                self._changed.notify_all()


class Repeater:
    """Runs a short job again and again, on a thread of its own.

    The thread never keeps the process alive, does not exist in forked
    children, and ends by itself when the job says so.

    Args:
        job (callable): Returns whether it wants to be run again. It handles
            its errors itself.
        period_secs (float): Pause before each run.

    Thread: ``start`` once; ``stop`` on any thread, as often as wanted.
    """

    def __init__(self, job: Callable[[], bool], period_secs: float) -> None:
        self._job = job
        self._period_secs = period_secs
        self._stopped = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name='mmcv-ckpt-beat', daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, wait: bool = True) -> None:
        """Let the job not be started again.

        Args:
            wait (bool): Whether to wait until the thread has ended. False
                where it may be the thread itself that stops (garbage
                collection happens on any). Default: True.
        """
        self._stopped.set()
        if wait and self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(self._period_secs):
            if not self._job():
                return


def call_later(secs: float, call: Callable[[], None]) -> Callable[[], None]:
    """Call once, after so many seconds, on a thread of its own.

    Returns:
        callable: Keeps it from being called; on any thread.

    Thread: any; the process does not wait for it.
    """

    def once() -> bool:
        call()
        return False

    timer = Repeater(once, secs)
    timer.start()
    return lambda: timer.stop(wait=False)
