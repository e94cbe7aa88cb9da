"""What a save costs, seen from outside of the hook that makes it.

Every event method of the hooks in question, what they register with the
optimizer, and ``prepare`` are replaced by timed ones, on the instances. The
same events without a save are subtracted, as are ordinary steps from the steps
beside which a save is written.
"""
import bisect
import functools
import logging
import statistics
import threading
import time

from mmcv.runner import Hook


class Waits:
    """The time that the training thread spends inside what is watched.

    Args:
        owner (str): Beginning of the module names whose hooks are watched.
        ready (callable): Called before a clock starts: waits for the GPU.

    Thread: calls on other threads are not timed.
    """

    def __init__(self, owner, ready):
        self.spans = []  # begin and seconds
        self._owner = owner
        self._ready = ready
        self._thread = threading.get_ident()
        self._inside = False
        self._optimizer = None

    def watch_start(self, runner):
        """Time the start of a run; before it."""
        for hook in self._hooks(runner):
            self._replace(hook, 'before_run')
            self._replace(hook, 'prepare')

    def watch(self, runner):
        """Time all other events; when all hooks have begun."""
        self._optimizer = runner.optimizer
        for hook in self._hooks(runner):
            for name in dir(hook):
                if name.startswith(('before_', 'after_')):
                    self._replace(hook, name)
        self._watch_optimizer()

    def _hooks(self, runner):
        return [
            hook for hook in runner.hooks
            if type(hook).__module__.startswith(self._owner)
        ]

    def _replace(self, hook, name):
        call = getattr(hook, name, None)
        if call is not None and not hasattr(call, 'is_timed'):
            setattr(hook, name, self._timed(call))

    def _watch_optimizer(self):
        # a save may register another one
        for when in ('pre', 'post'):
            calls = getattr(self._optimizer, f'_optimizer_step_{when}_hooks',
                            {})
            for key, call in list(calls.items()):
                called = getattr(call, 'func', call)  # of a partial
                module = getattr(called, '__module__', None) or ''
                if module.startswith(self._owner) and \
                        not hasattr(call, 'is_timed'):
                    calls[key] = self._timed(call)

    def _timed(self, call):

        @functools.wraps(call)
        def timed(*args, **kwargs):
            if self._inside or threading.get_ident() != self._thread:
                return call(*args, **kwargs)
            self._ready()
            self._inside = True
            begun = time.perf_counter()
            try:
                return call(*args, **kwargs)
            finally:
                self.spans.append((begun, time.perf_counter() - begun))
                self._inside = False
                if self._optimizer is not None:
                    self._watch_optimizer()

        timed.is_timed = True
        return timed


class Observer(Hook):
    """Watches the hooks when all have begun, and notes the last step's end."""

    def __init__(self, waits, stamps):
        self._waits = waits
        self._stamps = stamps

    def before_run(self, runner):
        self._waits.watch(runner)

    def after_train_iter(self, runner):
        if self.is_last_iter(runner):
            self._stamps.add()


class Stamps:
    """When each step began, and what had been used until then.

    Args:
        ready (callable): Waits for the GPU.
        read (callable): Any further value to note at each step.
    """

    def __init__(self, ready, read=lambda: None):
        self.begun, self.cpu, self.values = [], [], []
        self._ready = ready
        self._read = read

    def add(self):
        self._ready()
        self.begun.append(time.perf_counter())
        self.cpu.append(time.process_time())
        self.values.append(self._read())

    def steps(self):
        return [
            later - begun for begun, later in zip(self.begun, self.begun[1:])
        ]


class Commits(logging.Handler):
    """When the log said that a checkpoint is saved."""

    def __init__(self):
        super().__init__()
        self.at = []

    def emit(self, record):
        if str(record.msg).startswith('Saved checkpoint'):
            self.at.append(time.perf_counter())


class Plan:
    """Which steps a save is made beside, and which are ordinary.

    Args:
        saves (int): How many saves.
        busy (int): Steps from the one that ends with a save, until it is
            surely written.
        quiet (int): Ordinary steps after those.
    """
    warm_up = 2

    def __init__(self, saves, busy, quiet):
        self.saves, self.busy, self.quiet = saves, busy, quiet
        self.interval = busy + quiet
        self.iters = self.interval * (saves + 1) - 1

    def beside(self, save):
        """Indexes of the steps beside a save."""
        first = self.interval * (save + 1) - 1
        return range(first, first + self.busy)

    def ordinary(self):
        """Indexes of all steps beside which nothing is written."""
        first = list(range(self.warm_up, self.interval - 1))
        return first + [
            self.beside(save)[-1] + 1 + step for save in range(self.saves)
            for step in range(self.quiet)
        ]


def costs(plan, stamps, waits, commits=()):
    """Reduce what was noted to values per save.

    Returns:
        dict: Seconds. ``blocked`` is the sum of all waits, ``met`` those of
        the two steps that meet the save, ``added`` what the steps beside a
        save took more than ordinary ones, ``wall`` the same of those two.
    """
    steps = stamps.steps()
    begun = stamps.begun
    waited = [0.] * len(steps)
    for at, secs in waits.spans:
        index = bisect.bisect_right(begun, at) - 1
        if 0 <= index < len(waited):
            waited[index] += secs
    ordinary = plan.ordinary()
    step = statistics.median(steps[index] for index in ordinary)
    wait = statistics.median(waited[index] for index in ordinary)
    result = dict(
        step=step,
        event=wait,
        start=sum(secs for at, secs in waits.spans if at < begun[0]),
        end=sum(secs for at, secs in waits.spans if at >= begun[-1]),
        blocked=[],
        met=[],
        added=[],
        wall=[],
        durable=[],
        beside_step=[],
        late=0,
        cpu=sum(stamps.cpu[index + 1] - stamps.cpu[index]
                for index in ordinary) / sum(steps[index]
                                             for index in ordinary))
    for save in range(plan.saves):
        beside = plan.beside(save)
        result['blocked'].append(sum(waited[index] - wait for index in beside))
        result['met'].append(sum(waited[index] - wait for index in beside[:2]))
        result['added'].append(sum(steps[index] - step for index in beside))
        result['wall'].append(sum(steps[index] - step for index in beside[:2]))
        # saves are committed in their order
        done = commits[save] if len(commits) == plan.saves else None
        _add_written(result, beside, begun, waits, done)
    return result


def _add_written(result, beside, begun, waits, done):
    """From the event that made a save until the log said that it is saved."""
    spans = [
        span for span in waits.spans
        if begun[beside[0]] <= span[0] < begun[beside[0] + 1]
    ]
    if done is None or not spans:
        result['durable'].append(None)
        return
    trigger, _ = max(spans, key=lambda span: span[1])
    result['durable'].append(done - trigger)
    result['late'] += done > begun[beside[-1] + 1]
    result['beside_step'] += [
        begun[index + 1] - begun[index] for index in beside[1:]
        if begun[index + 1] <= done
    ]
