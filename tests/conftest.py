"""What all tests share."""
import functools
import signal
import types
from importlib.metadata import distributions

import pytest


@pytest.fixture(autouse=True, scope='session')
def one_thread():
    """Threads of a toy model only wait for each other."""
    import torch
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def no_sleeping_runners(monkeypatch):
    """mmcv's runners sleep 1 to 2 s at every epoch transition."""
    import time

    from mmcv.runner import epoch_based_runner, iter_based_runner
    quick = types.SimpleNamespace(
        sleep=lambda seconds: None,
        time=time.time,
        monotonic=time.monotonic,
        asctime=time.asctime)
    for module in (epoch_based_runner, iter_based_runner):
        monkeypatch.setattr(module, 'time', quick)


@pytest.fixture(autouse=True)
def own_signal_handlers():
    """A run that raises on a stock runner leaves its handlers behind."""
    numbers = signal.SIGTERM, signal.SIGINT, signal.SIGUSR1
    before = [(number, signal.getsignal(number)) for number in numbers]
    yield
    for number, handler in before:
        signal.signal(number, handler)


def pytest_collection_modifyitems(session):
    """torch 2.0 warns of its own ``torch.load``; the outermost filter wins."""
    session.add_marker(
        pytest.mark.filterwarnings('ignore:TypedStorage is deprecated'))


@functools.lru_cache(maxsize=None)
def has_mmseg():
    # the folder of its tests can be imported by the same name
    return bool(list(distributions(name='mmsegmentation')))


def pytest_runtest_setup(item):
    if item.get_closest_marker('mmseg') and not has_mmseg():
        pytest.skip('mmsegmentation is not installed')


@pytest.fixture
def short_lease(monkeypatch):
    """Starts in stores wait for nothing; a dead run is watched for 3 s."""
    from mmcv_ckpt_hooks import run_lock
    monkeypatch.setattr(run_lock, 'WATCH_SECS', 3.)
    monkeypatch.setattr(run_lock, '_LOOK_SECS', .05)
    monkeypatch.setattr(run_lock, '_CONFIRM_SECS', 0.)


@pytest.fixture(scope='session')
def s3_server(tmp_path_factory):
    """A real S3 server; skips where the package of its program is missing."""
    from object_server import object_server
    with object_server(tmp_path_factory.mktemp('s3')) as server:
        yield server


@pytest.fixture
def proxy(s3_server):
    """A line to the server, which can be made a bad one."""
    from fault_proxy import FaultProxy
    with FaultProxy(s3_server.endpoint) as proxy:
        yield proxy
