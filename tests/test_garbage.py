"""No garbage collection falls into a save, and all come afterwards."""
import gc

import pytest
from toy import make_loader, make_runner

from mmcv_ckpt_hooks import resume
from mmcv_ckpt_hooks.garbage import without_collections
from mmcv_ckpt_hooks.interrupts import Interrupts
from mmcv_ckpt_hooks.saver import Saver

HOOK = dict(type='DurableCheckpointHook', interval=2)


@pytest.fixture(autouse=True)
def collector():
    yield
    gc.enable()


def run(tmp_path, max_iters=4, **more):
    runner = make_runner(
        tmp_path,
        runner=dict(type='IterBasedRunnerAmp', max_iters=max_iters),
        hooks=[dict(HOOK, **more)])
    runner.run([make_loader()], [('train', 1)])


def test_the_collector_waits_for_the_end_of_a_save(tmp_path, monkeypatch):
    seen = []
    save, record = Saver.save, Interrupts.record

    def looking_save(*args, **kwargs):
        seen.append(gc.isenabled())
        return save(*args, **kwargs)

    def looking_record(*args, **kwargs):
        seen.append(gc.isenabled())
        return record(*args, **kwargs)

    monkeypatch.setattr(Saver, 'save', looking_save)
    monkeypatch.setattr(Interrupts, 'record', looking_record)
    run(tmp_path)
    # each boundary is recorded, once more before a save
    assert len(seen) == 8 and not any(seen)
    assert gc.isenabled()


def test_the_collector_waits_for_the_end_of_a_resume(tmp_path, monkeypatch):
    run(tmp_path)
    seen, load = [], resume.load_mapped

    def looking_load(*args, **kwargs):
        seen.append(gc.isenabled())
        return load(*args, **kwargs)

    monkeypatch.setattr(resume, 'load_mapped', looking_load)
    run(tmp_path, max_iters=6, resume='auto')
    assert seen == [False]
    assert gc.isenabled()


def test_a_collector_that_is_off_stays_off(tmp_path):
    gc.disable()
    run(tmp_path)
    assert not gc.isenabled()


def test_an_error_turns_it_on_again():

    @without_collections
    def fails():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert gc.isenabled()


def test_what_is_due_comes_behind_the_return():
    seen, kept = [], []

    @without_collections
    def allocates():
        for _ in range(1000):
            kept.append([])

    def told(phase, info):
        seen.append(phase)

    before = gc.get_threshold()
    gc.collect()
    gc.callbacks.append(told)
    gc.set_threshold(100, 1, 1)
    try:
        seen.clear()
        allocates()
        inside = len(seen)
        kept.append([[] for _ in range(10)])
        behind = len(seen)
    finally:
        gc.set_threshold(*before)
        gc.callbacks.remove(told)
    assert not inside and behind
