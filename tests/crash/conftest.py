"""What the crash tests share: the processes whose forks are killed."""
import os
import queue
import threading

import pytest
from driver import Driver
from recording import why_not


@pytest.fixture(scope='session')
def recorder():
    """Skip, and say why, where no recorder can be built."""
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)


@pytest.fixture(scope='session')
def drivers(recorder, tmp_path_factory):
    """As many processes to fork from as help on this machine."""
    folder = tmp_path_factory.mktemp('drivers')
    started = [
        Driver(str(folder / f'errors-{number}'))
        for number in range(min(2,
                                os.cpu_count() or 1))
    ]
    yield started
    for driver in started:
        driver.close()


@pytest.fixture
def driver(drivers):
    return drivers[0]


@pytest.fixture
def in_parallel(drivers):
    """``in_parallel(job, items)``: call ``job(driver, item)`` for each."""

    def run(job, items):
        left, failures = queue.Queue(), []
        for item in items:
            left.put(item)

        def work(driver):
            while not failures:
                try:
                    item = left.get_nowait()
                except queue.Empty:
                    return
                try:
                    job(driver, item)
                except BaseException as error:  # raised below
                    failures.append((item, error))

        threads = [
            threading.Thread(target=work, args=(driver, ))
            for driver in drivers
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            item, error = failures[0]
            raise AssertionError(f'at {item}: {error}') from error

    return run
