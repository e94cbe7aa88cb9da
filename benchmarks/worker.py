"""One measurement in a process of its own: ``worker.py SPEC RESULT``.

``SPEC`` and the file ``RESULT`` are JSON; parts.py writes the one and reads
the other. ``worker.py --serve`` forks for each spec on its input.
"""
import compileall
import ctypes
import json
import os
import platform
import resource
import statistics
import sys
import time
import traceback
import warnings

warnings.filterwarnings('ignore', message='On January 1, 2023, MMCV')
if os.environ.get('BENCH_WITHOUT_ISAL'):
    sys.modules['isal'] = None  # its import fails


def ready_on(device):
    """What waits for the steps on a device.

    Not for all of the device: a copy on a stream of its own goes on.
    """
    import torch
    if device == 'cpu':
        return lambda: None
    return lambda: torch.cuda.current_stream().synchronize()


def rss_bytes():
    """Memory that the process has now."""
    with open('/proc/self/statm') as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def peak_bytes():
    """The most memory that the process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def return_freed_memory():
    """Have malloc give every freed tensor back to the system at once.

    It keeps some, and how much differs by hundreds of MB from run to run.

    Source: mallopt(3), M_MMAP_THRESHOLD.
    """
    mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
    if mallopt is not None:
        mallopt(-3, 1 << 20)


def probe(spec):
    """Versions, and which ways of staging this version accepts."""
    import mmcv
    import torch

    import mmcv_ckpt_hooks
    from mmcv_ckpt_hooks import ConfigError, DurableCheckpointHook
    from mmcv_ckpt_hooks.checksums import crc32
    stagings = []
    for name in ('copy', 'overlap'):
        try:
            DurableCheckpointHook(interval=1, write=dict(staging=name))
        except ConfigError:
            continue
        stagings.append(name)
    gpu = spec['device'] != 'cpu' and torch.cuda.get_device_name()
    return dict(
        stagings=stagings,
        torch=torch.__version__,
        mmcv=mmcv.__version__,
        mmcv_ckpt_hooks=mmcv_ckpt_hooks.__version__,
        python=platform.python_version(),
        crc32=crc32.__module__,
        gpu=gpu or None)


def train(spec):
    """Train with saves, or without, and time both from outside."""
    import workload
    from peers import PeerHook
    from timing import Commits, Observer, Plan, Stamps, Waits, costs
    if spec.get('returns_memory'):
        return_freed_memory()
    ready = ready_on(spec['device'])
    stamps = Stamps(ready, rss_bytes)
    model, optimizer = workload.make_state(
        spec['layers'],
        spec['device'],
        width=spec.get('width', workload.WIDTH),
        idle_secs=spec.get('idle_secs', 0.),
        on_step=stamps.add)
    plan = Plan(spec['saves'], spec['busy'], spec['quiet'])
    iters, profile = plan.iters, None
    if spec.get('profile'):
        # one more save, which no time is taken of
        iters, profile = iters + plan.interval, CopyProfile(plan.iters)
        model.on_step = lambda: profile.add(stamps)
    runner = workload.make_runner(
        _with_interval(spec, plan.interval), model, optimizer, iters)
    waits = Waits(spec['owner'], ready)
    peer = None
    if 'peer' in spec:
        peer = PeerHook(spec['peer'], spec['work_dir'], plan.interval)
        runner.register_hook(peer)
    runner.register_hook(Observer(waits, stamps), priority='LOWEST')
    commits = Commits()
    runner.logger.addHandler(commits)
    waits.watch_start(runner)
    loader = workload.make_loader(spec['batch'],
                                  spec.get('width', workload.WIDTH))
    runner.run([loader], [('train', 1)])
    done = peer.at if peer else commits.at
    result = costs(plan, stamps, waits, done[:plan.saves])
    result['copying'] = profile.secs() if profile else None
    result['rss'] = [
        stamps.values[plan.beside(save)[-1] + 1] for save in range(plan.saves)
    ]
    result['peak'] = peak_bytes()
    result['history'] = _history(spec['work_dir'])
    if spec.get('pinned'):
        result['pinned'] = _pinned(model, optimizer)
    return result


class CopyProfile:
    """How long the GPU copies into pinned memory, from one step on.

    Args:
        step (int): Index of the step.
    """

    def __init__(self, step):
        from torch import profiler
        self._step = step
        self._profiler = None
        cuda = profiler.ProfilerActivity.CUDA
        if cuda in profiler.supported_activities():
            self._profiler = profiler.profile(activities=[cuda])

    def add(self, stamps):
        if self._profiler and len(stamps.begun) == self._step:
            self._profiler.start()
        stamps.add()

    def secs(self):
        """Seconds of all copies; None where none was seen."""
        if not self._profiler:
            return None
        self._profiler.stop()
        return sum(one.time_range.elapsed_us()
                   for one in self._profiler.events() if 'DtoH' in one.name
                   and 'Pinned' in one.name) / 1e6 or None


def _with_interval(spec, interval):
    """The configs of a spec; the hook in it saves so often."""
    spec = dict(spec)
    for name in ('hook', 'checkpoint_config'):
        if spec.get(name):
            spec[name] = {'interval': interval, **spec[name]}
    return spec


def _history(work_dir):
    """Seconds until durable as the hook itself has counted them."""
    path = os.path.join(work_dir, 'checkpoints.log.jsonl')
    if not os.path.exists(path):
        return []
    with open(path) as file:
        events = [json.loads(line) for line in file]
    return [one['durable_secs'] for one in events if one['event'] == 'save']


def _pinned(model, optimizer):
    from floors import pinned_copy
    tensors = [one.detach() for one in model.parameters()]
    for state in optimizer.state.values():
        tensors += [state['exp_avg'], state['exp_avg_sq']]
    return pinned_copy(tensors)


def resume(spec):
    """Open a checkpoint and train on: until the first step has begun."""
    import workload
    from floors import read_bytes
    from timing import Observer, Stamps, Waits

    import mmcv_ckpt_hooks

    # as where it is installed, whatever PYTHONDONTWRITEBYTECODE says
    compileall.compile_dir(os.path.dirname(mmcv_ckpt_hooks.__file__), quiet=2)
    stamps = Stamps(ready_on(spec['device']))
    model, optimizer = workload.make_state(
        spec['layers'], spec['device'], on_step=stamps.add)
    runner = workload.make_runner(spec, model, optimizer, spec['max_iters'])
    runner.register_hook(
        Observer(Waits('none', lambda: None), stamps), priority='LOWEST')
    read_before = read_bytes()
    begun = time.perf_counter()
    if spec.get('path'):
        runner.resume(spec['path'], map_location=spec['device'])
    runner.run([workload.make_loader(spec['batch'])], [('train', 1)])
    steps = stamps.steps()
    if len(steps) > 5:
        raise SystemExit(f'{len(steps)} steps: the run was not resumed')
    return dict(
        opened=stamps.begun[0] - begun,
        stepped=stamps.begun[1] - begun - statistics.median(steps[1:]),
        disk_bytes=read_bytes() - read_before,
        peak=peak_bytes())


def function(spec):
    """The two ``save_checkpoint``, in turns, while nothing else runs."""
    import workload
    from mmcv.runner import save_checkpoint as stock

    from mmcv_ckpt_hooks import save_checkpoint as ours
    model, optimizer = workload.make_state(spec['layers'], spec['device'])
    os.makedirs(spec['work_dir'], exist_ok=True)
    found = dict(stock=[], ours=[])
    for turn in range(spec['saves'] + 1):
        for name, save in (('stock', stock), ('ours', ours)):
            path = os.path.join(spec['work_dir'], f'{name}.pth')
            begun = time.perf_counter()
            save(model, path, optimizer)
            if turn:  # the first one warms up
                found[name].append(time.perf_counter() - begun)
    return found


def raw(spec):
    from floors import raw_writes
    return raw_writes(spec)


def read(spec):
    from floors import raw_read
    return raw_read(spec)


def plain(spec):
    from objects import plain
    return plain(spec)


def ranks(spec):
    from ranks import ranks
    return ranks(spec)


def objects(spec):
    from objects import objects
    return objects(spec)


KINDS = dict(
    probe=probe,
    train=train,
    resume=resume,
    read=read,
    function=function,
    raw=raw,
    plain=plain,
    objects=objects,
    ranks=ranks)


def answer(spec, path):
    """Run one measurement in this process."""
    if spec.get('cores') and hasattr(os, 'sched_setaffinity'):
        mine = sorted(os.sched_getaffinity(0))[:spec['cores']]
        os.sched_setaffinity(0, mine)
    if spec.get('threads'):
        import torch
        torch.set_num_threads(spec['threads'])
    result = KINDS[spec['kind']](spec)
    with open(path, 'w') as file:
        json.dump(result, file)


def serve():
    """Fork a process for each line of the input; say how it ended.

    What takes seconds to import is there already; no thread is, and no
    memory of a model.
    """
    import mmcv.runner  # noqa: F401
    import torch  # noqa: F401

    import mmcv_ckpt_hooks  # noqa: F401
    for line in sys.stdin:
        spec, path, errors = json.loads(line)
        child = os.fork()
        if not child:
            _answer_and_exit(spec, path, errors)
        print(os.waitpid(child, 0)[1], flush=True)


def _answer_and_exit(spec, path, errors):
    status = 1
    try:
        file = os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        os.dup2(file, 1)
        os.dup2(file, 2)
        answer(spec, path)
        status = 0
    except Exception:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(status)


if __name__ == '__main__':
    if sys.argv[1] == '--serve':
        serve()
    else:
        answer(json.loads(sys.argv[1]), sys.argv[2])
