"""The handlers alone: chained, restored, and deaf where they must be."""
import io
import logging
import os
import signal
import sys
from collections import OrderedDict

import pytest
import torch
from mmcv.runner import Hook
from stock import EvalHook
from torch.utils.data import DataLoader
from toy import ToyData, make_loader, make_runner, names, train

from mmcv_ckpt_hooks.signals import SignalWatch, name_of, on_stack_of

OURS = dict(type='DurableCheckpointHook')
NUMBER = signal.SIGUSR2


@pytest.fixture(autouse=True)
def same_handlers():
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2,
               signal.SIGCHLD)
    before = [signal.getsignal(number) for number in numbers]
    yield
    after = [signal.getsignal(number) for number in numbers]
    for number, handler in zip(numbers, before):
        signal.signal(number, handler)
    assert after[:-1] == before[:-1]
    # where a run was left, the death of workers is nobody's concern
    assert after[-1] in (before[-1], signal.SIG_DFL)


@pytest.fixture
def calls():
    """A handler that was there before."""
    calls = []
    outer = signal.signal(NUMBER, lambda number, frame: calls.append(number))
    yield calls
    signal.signal(NUMBER, outer)


def watch(action='save_and_exit', **kwargs):
    made = SignalWatch({'SIGUSR2': action}, print, **kwargs)
    made.install()
    return made


def send(number=NUMBER):
    os.kill(os.getpid(), number)


def test_what_was_there_before_is_called_and_put_back(calls):
    before = signal.getsignal(NUMBER)
    watching = watch()
    assert watching.watched() == dict(SIGUSR2='save_and_exit')
    send()
    assert watching.exit_signal == NUMBER and calls == [NUMBER]
    watching.restore()
    assert signal.getsignal(NUMBER) is before
    send()
    assert calls == [NUMBER, NUMBER]


class Unwritable(io.TextIOBase):
    """A stream in the middle of a line, as its own handler's frame sees it."""

    def write(self, text):
        raise RuntimeError('reentrant call')


@pytest.mark.parametrize('action, said', [
    ('save', '\nSIGUSR2: saving after this iteration\n'),
    ('save_and_exit',
     '\nSIGUSR2: saving after this iteration, then leaving\n'),
])
def test_what_it_will_do_is_said_past_python_s_streams(calls, monkeypatch,
                                                       capfd, action, said):
    monkeypatch.setattr(sys, 'stderr', Unwritable())
    watching = watch(action)
    send()
    watching.restore()
    assert capfd.readouterr().err == said


@pytest.mark.parametrize('before, promised',
                         [(signal.default_int_handler, True),
                          (lambda number, frame: None, False)])
def test_only_what_leaves_is_said_to_leave(capfd, before, promised):
    outer = signal.signal(signal.SIGINT, before)
    try:
        # of two, the first says it
        watching = [
            SignalWatch({'SIGINT': 'save_and_exit'}, print) for _ in '12'
        ]
        for one in watching:
            one.install()
        send(signal.SIGINT)
        for one in watching[::-1]:
            one.restore()
    finally:
        signal.signal(signal.SIGINT, outer)
    assert ('again leaves at once' in capfd.readouterr().err) is promised


def test_a_second_one_behind_the_line_of_the_first_leaves(monkeypatch):
    """It may come before the handler of the first has returned."""
    outer = signal.signal(signal.SIGINT, signal.default_int_handler)
    watching = SignalWatch({'SIGINT': 'save_and_exit'}, print)
    watching.install()
    write, written = os.write, []

    def write_and_press(descriptor, line):
        written.append(line)
        if len(written) == 1:
            send(signal.SIGINT)
        return write(descriptor, line)

    monkeypatch.setattr(os, 'write', write_and_press)
    try:
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)
    finally:
        watching.restore()
        signal.signal(signal.SIGINT, outer)
    assert watching.hurries
    assert b'leaving at once' in written[-1]


@pytest.mark.parametrize('stream', [None, io.StringIO()])
def test_without_a_stderr_nothing_is_said(calls, monkeypatch, stream):
    monkeypatch.setattr(sys, '__stderr__', stream)
    watching = watch()
    send()
    assert watching.exit_signal == NUMBER
    watching.restore()


def test_of_several_ranks_it_is_said_which(calls, capfd):
    watching = watch(rank=3)
    send()
    watching.restore()
    assert capfd.readouterr().err == (
        '\nrank 3: SIGUSR2: saving within two iterations, then leaving\n')


def test_of_two_that_watch_one_says_it(calls, capfd):
    watching = watch(), watch()
    send()
    assert capfd.readouterr().err.count('SIGUSR2') == 1
    watching[0].restore()
    send()
    assert capfd.readouterr().err.count('SIGUSR2') == 1
    watching[1].restore()
    inner, outer = watch('save'), watch()
    send()
    outer.restore()
    inner.restore()
    assert capfd.readouterr().err == (
        '\nSIGUSR2: saving after this iteration, then leaving\n'
        '\nSIGUSR2: saving after this iteration\n')


def test_a_request_is_taken_once(calls):
    watching = watch('save')
    send()
    assert watching.take_save() == NUMBER
    assert watching.take_save() == 0
    assert watching.exit_signal == 0
    watching.restore()


def test_a_handler_that_was_put_back_after_its_end_is_passed_over(calls):
    over, between = watch(), watch()
    over.restore()
    between.restore()  # puts the handler of the first back
    watching = watch()
    send()
    assert watching.exit_signal == NUMBER and calls == [NUMBER]
    watching.restore()


@pytest.mark.parametrize('order', [(0, 1), (1, 0)])
def test_two_that_watch_end_in_any_order(calls, order):
    """The handler of one that has ended may still be called by another's."""
    before = signal.getsignal(NUMBER)
    both = [watch(), watch()]
    send()
    assert [one.exit_signal for one in both] == [NUMBER, NUMBER]
    assert calls == [NUMBER]
    for index in order:
        both[index].restore()
    assert signal.getsignal(NUMBER) is before
    send()
    assert calls == [NUMBER, NUMBER]


@pytest.mark.parametrize('order', [(0, 1), (1, 0)])
def test_the_death_of_workers_is_passed_over_until_the_end(calls, order):
    """As torch's handler would raise in the middle of a step."""
    deaths = []

    def dies(number, frame):
        deaths.append(number)

    outer = signal.signal(signal.SIGCHLD, dies)
    both = [watch(), watch()]
    send(signal.SIGCHLD)
    assert deaths == [signal.SIGCHLD]
    send()
    send(signal.SIGCHLD)
    assert len(deaths) == 1
    both[order[0]].restore()
    send(signal.SIGCHLD)
    assert len(deaths) == 1  # the other one is still to leave
    both[order[1]].restore()
    send(signal.SIGCHLD)
    assert len(deaths) == 2
    assert signal.signal(signal.SIGCHLD, outer) is dies


def test_of_workers_that_die_behind_the_end_nobody_is_told(calls):
    """torch's handler would raise while the interpreter ends."""
    deaths = []
    outer = signal.signal(signal.SIGCHLD, lambda *_: deaths.append(1))
    watching = watch()
    send()
    watching.restore(leaving=True)
    send(signal.SIGCHLD)
    assert not deaths
    assert signal.signal(signal.SIGCHLD, outer) is signal.SIG_DFL


def test_a_handler_that_was_set_later_stays(calls):
    watching = watch()
    later = []
    signal.signal(NUMBER, lambda number, frame: later.append(number))
    watching.restore()
    send()
    assert later == [NUMBER] and calls == []


def test_what_is_ignored_stays_ignored():
    """As with nohup."""
    outer = signal.signal(NUMBER, signal.SIG_IGN)
    watching = watch()
    assert watching.watched() == {}
    send()
    assert watching.exit_signal == 0
    watching.restore()
    assert signal.signal(NUMBER, outer) is signal.SIG_IGN


def test_a_run_that_is_over_hears_nothing(calls):
    watching = watch(is_running=lambda frame: False)
    send()
    assert watching.exit_signal == 0 and calls == [NUMBER]
    assert not watching._installed
    send()
    assert calls == [NUMBER, NUMBER]


def test_a_run_after_one_that_raised_unseen_hears_its_signals(calls):
    """Else the handler of the first would end the process."""
    running = [True]
    over = watch(is_running=lambda frame: bool(running))
    running.clear()
    watching = watch()
    send()
    assert watching.exit_signal == NUMBER and calls == [NUMBER]
    assert over.exit_signal == 0 and not over._installed
    watching.restore()
    send()
    assert calls == [NUMBER, NUMBER]


@pytest.mark.parametrize('in_loader, heard', [(True, 0), (False, 1)])
def test_a_forked_worker_leaves_the_decision_to_the_main_process(
        calls, in_loader, heard):
    watching = watch(in_loader=lambda: in_loader)
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        send()
        os.write(write, bytes([len(calls), watching.exit_signal]))
        os._exit(0)
    os.waitpid(pid, 0)
    assert tuple(os.read(read, 2)) == (heard, 0)
    assert watching.exit_signal == 0
    watching.restore()
    os.close(read)
    os.close(write)


def test_a_forked_worker_still_dies_of_sigterm():
    watching = SignalWatch({'SIGTERM': 'save_and_exit'},
                           print,
                           in_loader=lambda: True)
    watching.install()
    pid = os.fork()
    if pid == 0:
        send(signal.SIGTERM)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    watching.restore()
    assert os.WTERMSIG(status) == signal.SIGTERM


def test_names():
    assert name_of(15) == 'SIGTERM'
    assert name_of(1000) == 'signal 1000'


def test_a_frame_tells_whether_a_run_goes_on():

    class Runs:

        def run(self):
            self.goes_on = on_stack_of(self)
            return self.goes_on(sys._getframe())

    runs, other = Runs(), Runs()
    assert runs.run()
    assert not runs.goes_on(sys._getframe())
    # another run of the same code is another run
    other.run()
    other.goes_on, before = runs.goes_on, other.goes_on
    assert not before(sys._getframe())
    # who is called from nowhere cannot be asked
    assert on_stack_of(object())(None)


# -- where evaluations are, in several versions ------------------------------


class Ends:
    """A test function that finds a signal after its first batch."""

    def __init__(self):
        self.batches = 0

    def __call__(self, model, loader, **kwargs):
        model.eval()
        for data in loader:
            self.batches += 1
            with torch.no_grad():
                model(data['x'])
            os.kill(os.getpid(), signal.SIGTERM)
        return []


class LikeMmseg(EvalHook):
    """mmseg's hook decides and evaluates in its own ``_do_evaluate``."""

    def _do_evaluate(self, runner):
        if not self._should_evaluate(runner):
            return
        results = self.test_fn(runner.model, self.dataloader)
        runner.log_buffer.clear()
        self.evaluate(runner, results)


class LikeARepo(EvalHook):
    """Hooks of the repos from before mmcv had one: no ``_do_evaluate``."""

    def after_train_iter(self, runner):
        if self.by_epoch or not self.every_n_iters(runner, self.interval):
            return
        runner.log_buffer.clear()
        self.evaluate(runner, self.test_fn(runner.model, self.dataloader))

    def after_train_epoch(self, runner):
        if self.by_epoch and self.every_n_epochs(runner, self.interval):
            self.evaluate(runner, self.test_fn(runner.model, self.dataloader))


@pytest.mark.parametrize('kind', [EvalHook, LikeMmseg, LikeARepo])
@pytest.mark.parametrize('by_epoch, expected', [
    (False, 'iter_3.pth'),
    (True, 'epoch_1_iter_4.pth'),
])
def test_an_evaluation_is_left_at_its_next_batch(tmp_path, kind, by_epoch,
                                                 expected):
    ends = Ends()
    runner = make_runner(
        tmp_path,
        runner=dict(type='EpochBasedRunner', max_epochs=2)
        if by_epoch else dict(type='IterBasedRunner', max_iters=8),
        hooks=[dict(OURS)])
    runner.register_hook(
        kind(
            DataLoader(ToyData(4, [0.5]), batch_size=1),
            test_fn=ends,
            interval=1 if by_epoch else 3,
            by_epoch=by_epoch),
        priority='LOW')
    with pytest.raises(SystemExit) as caught:
        runner.run([make_loader()], [('train', 1)])
    assert caught.value.code == 143
    assert ends.batches == 2  # of four: the second finds it
    assert [one for one in names(tmp_path) if one != 'latest.pth'] == \
        [expected]
    assert not runner.model._forward_pre_hooks


def test_in_an_evaluation_every_hook_saves_before_the_last_one_ends(tmp_path):
    runner = make_runner(
        tmp_path / 'run',
        runner=dict(type='IterBasedRunner', max_iters=8),
        hooks=[dict(OURS),
               dict(OURS, out_dir=str(tmp_path / 'other'))])
    runner.register_hook(
        EvalHook(
            DataLoader(ToyData(4, [0.5]), batch_size=1),
            test_fn=Ends(),
            interval=3,
            by_epoch=False),
        priority='LOW')
    with pytest.raises(SystemExit) as caught:
        runner.run([make_loader()], [('train', 1)])
    assert caught.value.code == 143
    for place in (tmp_path / 'run', tmp_path / 'other' / 'run'):
        assert names(place) == ['iter_3.pth', 'latest.pth']


def test_a_model_without_evaluation_has_no_hooks(tmp_path):

    class Looks(Hook):

        def after_train_iter(self, runner):
            assert not runner.model._forward_pre_hooks

    runner = make_runner(tmp_path, hooks=[dict(OURS), Looks()])
    runner.register_hook(
        EvalHook(
            DataLoader(ToyData(2, [0.5]), batch_size=1),
            test_fn=lambda model, loader: [],
            interval=2,
            by_epoch=False),
        priority='LOW')
    runner.run([make_loader()], [('train', 1)])
    assert not runner.model._forward_pre_hooks


def test_two_hooks_of_ours_both_save(tmp_path):

    class Sends(Hook):

        def before_train_iter(self, runner):
            if runner.iter == 2:
                os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(SystemExit):
        train(
            tmp_path / 'run',
            hooks=[
                dict(OURS),
                dict(OURS, out_dir=str(tmp_path / 'second')),
                Sends()
            ])
    for place in ('run', 'second/run'):
        assert 'iter_3.pth' in names(tmp_path / place)


def test_the_end_does_not_depend_on_a_logger(tmp_path, caplog):
    from mmcv.runner import LoggerHook
    ended = []

    class Broken(LoggerHook):

        def log(self, runner):
            raise ConnectionError('no service')

        def after_run(self, runner):
            raise ConnectionError('no service')

    class Good(LoggerHook):

        def log(self, runner):
            ended.append(OrderedDict(runner.log_buffer.output))

        def after_run(self, runner):
            ended.append('end')

    class Sends(Hook):

        def after_train_iter(self, runner):
            if runner.iter == 2:
                os.kill(os.getpid(), signal.SIGTERM)

    caplog.set_level(logging.INFO)
    runner = make_runner(tmp_path, hooks=[dict(OURS)])
    runner.register_hook(Sends(), priority='HIGH')
    runner.register_hook(Broken(interval=3, by_epoch=False), 'VERY_LOW')
    runner.register_hook(Good(interval=3, by_epoch=False), 'VERY_LOW')
    with pytest.raises(SystemExit):
        runner.run([make_loader()], [('train', 1)])
    assert 'loss' in ended[0] and ended[1] == 'end'
    assert 'Broken could not be ended (ConnectionError' in caplog.text
    assert 'training ends after 3 iterations; iter_3.pth' in caplog.text


@pytest.mark.parametrize('runner, by_epoch, interval, at, lines', [
    (dict(type='IterBasedRunnerAmp', max_iters=8), False, 5, 6, [5, 7]),
    (dict(type='IterBasedRunnerAmp', max_iters=8), False, 5, 4, [5]),
    (dict(type='EpochBasedRunnerAmp', max_epochs=2), True, 2, 4, [2, 4, 5]),
])
def test_iterations_since_the_last_line_are_logged(tmp_path, runner, by_epoch,
                                                   interval, at, lines):
    from mmcv.runner import LoggerHook
    losses, logged = [], []

    class Line(LoggerHook):

        def log(self, runner):
            logged.append((runner.iter + 1, runner.log_buffer.output['loss']))

    class Sends(Hook):

        def after_train_iter(self, runner):
            losses.append(runner.outputs['log_vars']['loss'])
            if runner.iter == at:
                os.kill(os.getpid(), signal.SIGTERM)

    built = make_runner(tmp_path, runner=runner, hooks=[dict(OURS)])
    built.register_hook(Sends(), priority='HIGH')
    # the last one may be of another interval, and clears the buffer
    for every in (100, interval):
        built.register_hook(Line(every, by_epoch=by_epoch), 'VERY_LOW')
    with pytest.raises(SystemExit):
        built.run([make_loader()], [('train', 1)])
    ends = [line for line, _ in logged]
    assert sorted(set(ends)) == lines
    assert len(losses) == lines[-1]
    if len(lines) > 1:
        # a line of each logger
        assert ends[-2:] == lines[-1:] * 2
        assert logged[-1][1] == pytest.approx(
            sum(losses[lines[-2]:]) / len(losses[lines[-2]:]))


def test_a_failed_save_does_not_keep_the_run_from_ending(
        tmp_path, monkeypatch):
    from mmcv_ckpt_hooks.errors import OutOfSpaceError
    from mmcv_ckpt_hooks.storage.local import LocalBackend

    def full(self, name, write):
        raise OutOfSpaceError('full')

    class Sends(Hook):

        def before_train_iter(self, runner):
            if runner.iter == 2:
                os.kill(os.getpid(), signal.SIGTERM)

    real = LocalBackend.put
    monkeypatch.setattr(
        LocalBackend, 'put', lambda self, name, write:
        (full if name.endswith('.pth') else real)(self, name, write))
    with pytest.raises(SystemExit) as caught:
        train(tmp_path, hooks=[dict(OURS, on_error='raise'), Sends()])
    assert caught.value.code == 143
