"""Workers of data loaders that are signalled with their rank."""
import os
import signal

import pytest
from torch.utils.data import DataLoader, get_worker_info
from toy import ToyData

from mmcv_ckpt_hooks.loader_workers import Outliving, let_workers_outlive


class SignalledData(ToyData):
    """Sends its worker SIGTERM, as torchrun does to the group of a rank."""

    def __init__(self, times):
        super().__init__()
        self.times = times

    def __getitem__(self, index):
        if get_worker_info() is not None and index == 4:
            for _ in range(self.times):
                os.kill(os.getpid(), signal.SIGTERM)
        return super().__getitem__(index)


def note(worker):
    os.environ['WORKER_WAS_SET_UP'] = str(worker)


def loader(times, **options):
    made = DataLoader(
        SignalledData(times), batch_size=4, num_workers=1, **options)
    let_workers_outlive(made)
    return made


@pytest.mark.parametrize('start', ['fork', 'spawn'])
def test_a_worker_outlives_the_signal_and_ends_with_its_loader(start):
    """mmcv's launchers have workers spawned."""
    assert len(list(loader(1, multiprocessing_context=start))) == 4


def test_a_second_signal_ends_it():
    with pytest.raises(RuntimeError, match='exited unexpectedly|killed by'):
        list(loader(2))


def test_it_does_not_outlive_it_for_ever():
    pid = os.fork()
    if pid == 0:
        Outliving(None)(0)
        os.kill(os.getpid(), signal.SIGTERM)
        os._exit(signal.alarm(0))
    _, status = os.waitpid(pid, 0)
    assert 0 < os.WEXITSTATUS(status) < 30


def test_what_the_loader_sets_up_is_set_up():
    made = loader(0, worker_init_fn=note)
    init = made.worker_init_fn
    let_workers_outlive(made)
    assert made.worker_init_fn is init
    before = signal.getsignal(signal.SIGTERM)
    try:
        init(7)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert os.environ.pop('WORKER_WAS_SET_UP') == '7'


def test_without_workers_nothing_is_set_up():
    made = DataLoader(ToyData())
    let_workers_outlive(made)
    assert made.worker_init_fn is None
