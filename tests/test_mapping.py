"""A resume maps its file, copies each tensor once, and leaves it."""
import copy
import gc
import io
import os
import subprocess
import sys
import types

import pytest
import torch
from checkpoint_files import equal, torch_written, torch_zip, written
from mmcv.runner import RUNNERS, Hook, IterBasedRunner
from mmcv.runner.optimizer import OPTIMIZERS
from test_loading import STOCK, as_loaded, full_load
from toy import ToyModel, make_logger, make_runner, train

from mmcv_ckpt_hooks import filling, mapping, records, state_loading
from mmcv_ckpt_hooks.compat import keeps_loaded_tensors
from mmcv_ckpt_hooks.errors import CorruptError, UnsafeCheckpointError
from mmcv_ckpt_hooks.loading import load_fields, load_mapped
from mmcv_ckpt_hooks.mapping import detach, map_file, release
from mmcv_ckpt_hooks.state_loading import (copied_fields, restore_model,
                                           restore_optimizer)

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith('linux'), reason='looks into /proc')

OURS = dict(type='DurableCheckpointHook', interval=4)


@pytest.fixture(autouse=True)
def no_collector():
    """What is left of a file must not wait for a garbage collection."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def mapped_files():
    with open('/proc/self/maps') as file:
        return [line for line in file if '.pth' in line]


def load_file(path, content, **kwargs):
    path.write_bytes(content)
    with open(path, 'rb') as file:
        return load_mapped(file, str(path), **kwargs)


def checkpoint(**fields):
    return dict(meta=dict(iter=1), **fields)


# -- what is loaded ---------------------------------------------------------


@pytest.mark.parametrize('name', STOCK)
@pytest.mark.parametrize('write', [torch_written, written])
def test_all_that_is_written_loads_from_the_mapped_file(tmp_path, name, write):
    value = STOCK[name]()
    try:
        content = write(dict(state_dict=value))
    except (TypeError, AttributeError):
        pytest.skip('not for a checkpoint of ours')
    expected = dict(state_dict=as_loaded(full_load(content)['state_dict']))
    loaded = load_file(tmp_path / 'a.pth', content)
    assert equal(loaded, expected)
    detach(loaded)
    assert not mapped_files()
    assert equal(loaded, expected)


def test_the_weights_lie_in_the_file_and_all_else_does_not(tmp_path):
    tree = checkpoint(
        state_dict=dict(a=torch.ones(9)),
        optimizer=dict(state={0: dict(step=torch.ones(1))}),
        ema=dict(a=[(torch.ones(9), )]))
    loaded = load_file(tmp_path / 'a.pth', written(tree))
    file, = mapping._live
    assert file.holds(loaded['state_dict']['a'])
    assert file.holds(loaded['optimizer']['state'][0]['step'])
    assert not file.holds(loaded['ema']['a'][0][0])
    assert equal(loaded, tree)
    del loaded['state_dict'], loaded['optimizer'], file
    assert not mapped_files()


def test_what_is_kept_as_it_is_does_not_lie_in_the_file(tmp_path):
    shared = torch.ones(5)
    tree = checkpoint(
        state_dict=dict(a=torch.ones(9), b=shared),
        optimizer=dict(state={0: dict(mean=torch.zeros(9), same=shared)}))
    loaded = load_file(
        tmp_path / 'a.pth', written(tree), copied=('state_dict', ))
    file, = mapping._live
    assert file.holds(loaded['state_dict']['a'])
    assert not file.holds(loaded['state_dict']['b'])
    assert not file.holds(loaded['optimizer']['state'][0]['mean'])
    assert equal(loaded, tree)
    loaded['state_dict']['b'].fill_(3)
    assert loaded['optimizer']['state'][0]['same'].sum() == 15


@pytest.mark.parametrize('where', ['state_dict', 'more'])
def test_what_is_negated_later_is_read(tmp_path, where):
    values = torch.arange(5.).to(torch.complex64)
    tree = checkpoint(
        state_dict=dict(a=torch.ones(2)), more=dict(a=torch.ones(2)))
    tree[where]['lazy'] = values.conj().imag
    content = torch_written(tree)
    loaded = load_file(tmp_path / 'a.pth', content)
    assert loaded[where]['lazy'].is_neg()
    assert equal(loaded, full_load(content))


def test_what_is_no_checkpoint_does_not_stay_in_the_file(tmp_path):
    loaded = load_file(tmp_path / 'a.pth', written([torch.ones(9)]))
    assert equal(loaded, [torch.ones(9)]) and not mapped_files()


@pytest.mark.parametrize('shift', range(1, 17))
def test_a_storage_at_an_odd_address_is_read(tmp_path, shift):
    values = torch.arange(5, dtype=torch.float64)
    content = written(checkpoint(state_dict=dict(a=values, b=values.int())))
    pickled = full_records(content)
    shifted = torch_zip(
        pickled.pop('archive/data.pkl'), [],
        [('archive/x', bytes(shift)), *sorted(pickled.items())])
    loaded = load_file(tmp_path / 'a.pth', shifted)
    assert equal(loaded['state_dict'], dict(a=values, b=values.int()))
    for one in loaded['state_dict'].values():
        assert one.data_ptr() % one.element_size() == 0


def full_records(content):
    import zipfile
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {
            name: archive.read(name)
            for name in archive.namelist() if name.startswith('archive/data')
        }


def test_writing_to_a_tensor_does_not_reach_the_file(tmp_path):
    content = written(checkpoint(state_dict=dict(a=torch.ones(5000))))
    loaded = load_file(tmp_path / 'a.pth', content)
    loaded['state_dict']['a'].zero_()
    detach(loaded)
    assert not loaded['state_dict']['a'].any()
    assert (tmp_path / 'a.pth').read_bytes() == content


def test_detached_tensors_share_what_they_shared(tmp_path):
    flat = torch.arange(12.)
    tree = checkpoint(
        state_dict=dict(a=flat.reshape(3, 4).t(), b=flat[2:4], c=flat))
    loaded = load_file(tmp_path / 'a.pth', written(tree))
    detach(loaded)
    state = loaded['state_dict']
    assert equal(state, tree['state_dict'])
    assert state['a'].stride() == (1, 4)
    state['c'].fill_(7)
    assert bool((state['a'] == 7).all()) and bool((state['b'] == 7).all())


def test_what_is_released_can_still_be_read(tmp_path):
    tree = checkpoint(state_dict=dict(a=torch.randn(9000), b=torch.randn(9)))
    loaded = load_file(tmp_path / 'a.pth', written(tree))
    release(loaded)
    assert equal(loaded, tree)


def test_releasing_one_tensor_leaves_its_neighbour(tmp_path):
    # both lie in one page
    tree = checkpoint(state_dict=dict(a=torch.ones(3000), b=torch.ones(9)))
    loaded = load_file(tmp_path / 'a.pth', written(tree))['state_dict']
    loaded['a'].zero_()
    loaded['b'].zero_()
    detach([loaded['a']])
    release([loaded['a']])
    assert not loaded['a'].any() and not loaded['b'].any()
    loaded['a'].zero_()
    detach([loaded['b']])
    assert not loaded['b'].any()


def test_a_tree_that_contains_itself_is_detached(tmp_path):
    tree = checkpoint(state_dict=dict(a=torch.ones(9)))
    tree['again'] = [tree]
    loaded = load_file(tmp_path / 'a.pth', torch_written(tree))
    detach(loaded)
    assert not mapped_files()


def test_a_file_that_cannot_be_mapped_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(mapping, 'MappedFile', lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        map_file(0)

    def refused(*_, **__):
        raise OSError(19, 'No such device')

    monkeypatch.setattr(mapping, 'MappedFile', refused)
    tree = checkpoint(state_dict=dict(a=torch.ones(9)))
    loaded = load_file(tmp_path / 'a.pth', written(tree))
    assert equal(loaded, tree) and not mapped_files()


class Counting(io.BytesIO):
    """As a file of a bucket: what is read costs time and money."""

    count = 0

    def read(self, *args):
        data = super().read(*args)
        self.count += len(data)
        return data


def test_a_file_that_is_not_local_is_read_once():
    tree = checkpoint(state_dict=dict(a=torch.ones(100000)))
    file = Counting(written(tree))
    assert equal(load_mapped(file, 'a.pth'), tree)
    assert file.count < len(file.getvalue()) + 20000


def test_damage_of_a_file_that_is_not_local_is_found():
    content = bytearray(
        written(checkpoint(optimizer=dict(a=torch.arange(99.)))))
    content[content.index(torch.arange(99.).numpy().tobytes()) + 8] ^= 1
    with pytest.raises(CorruptError, match='data/0'):
        load_mapped(io.BytesIO(content), 'a.pth')


# -- verified before it is mapped -------------------------------------------


def test_damage_is_found_before_anything_is_mapped(tmp_path, monkeypatch):
    monkeypatch.setattr(filling, 'map_file', lambda number: 1 / 0)
    content = bytearray(
        written(checkpoint(state_dict=dict(a=torch.arange(99.)))))
    content[content.index(torch.arange(99.).numpy().tobytes()) + 8] ^= 1
    with pytest.raises(CorruptError, match='data/0'):
        load_file(tmp_path / 'a.pth', bytes(content))


@pytest.mark.parametrize('copied', [(), ('state_dict', 'optimizer')])
def test_damage_of_the_optimizer_is_found(tmp_path, copied):
    content = bytearray(
        written(checkpoint(optimizer=dict(a=torch.arange(99.)))))
    content[content.index(torch.arange(99.).numpy().tobytes()) + 8] ^= 1
    with pytest.raises(CorruptError, match='data/0'):
        load_file(tmp_path / 'a.pth', bytes(content), copied=copied)


class Harmful:

    def __reduce__(self):
        return os.system, ('true', )


@pytest.mark.parametrize('trust', [False, True])
def test_a_file_that_is_damaged_and_unsafe_is_damaged(tmp_path, trust):
    """Then an older one is resumed from, as for any other damage."""
    tree = checkpoint(state_dict=dict(a=torch.arange(99.)), bad=Harmful())
    content = torch_written(tree)
    if not trust:
        with pytest.raises(UnsafeCheckpointError):
            load_file(tmp_path / 'a.pth', content)
    damaged = bytearray(content)
    damaged[content.index(torch.arange(99.).numpy().tobytes()) + 8] ^= 1
    with pytest.raises(CorruptError, match='data/0'):
        load_file(tmp_path / 'a.pth', bytes(damaged), trust=trust)
    with pytest.raises(CorruptError, match='catalog'):
        load_file(tmp_path / 'a.pth', content, trust=trust, digest='sha256:0')


def test_a_file_that_is_not_the_one_of_the_catalog_is_found(tmp_path):
    content = written(checkpoint(state_dict={}))
    with pytest.raises(CorruptError, match='catalog'):
        load_file(tmp_path / 'a.pth', content, digest='sha256-zipdir:0')


def test_the_crc_of_the_weights_is_computed_once(tmp_path, monkeypatch):
    done, plain = [], records.crc32

    def counted(block, value):
        done.append(len(block))
        return plain(block, value)

    monkeypatch.setattr(records, 'crc32', counted)
    content = written(checkpoint(state_dict=dict(a=torch.ones(100000))))
    load_file(tmp_path / 'a.pth', content)
    assert 400000 <= sum(done) < 500000


@pytest.mark.parametrize('change', [
    lambda path: os.unlink(path),
    lambda path: os.replace(path.with_name('other'), path),
])
def test_a_file_that_goes_meanwhile_is_still_loaded(tmp_path, monkeypatch,
                                                    change):
    (tmp_path / 'other').write_bytes(b'nothing')

    def map_changed(number):
        change(tmp_path / 'a.pth')
        return map_file(number)

    monkeypatch.setattr(filling, 'map_file', map_changed)
    tree = checkpoint(state_dict=dict(a=torch.randn(99)))
    assert equal(load_file(tmp_path / 'a.pth', written(tree)), tree)


@pytest.mark.parametrize('left', [0, 500, 4096, 300000])
def test_a_file_that_is_cut_off_meanwhile_is_damage(tmp_path, monkeypatch,
                                                    left):
    content = written(checkpoint(state_dict=dict(a=torch.ones(100000))))

    def map_cut(number):
        os.truncate(tmp_path / 'a.pth', left)
        return map_file(number)

    monkeypatch.setattr(filling, 'map_file', map_cut)
    with pytest.raises(CorruptError):
        load_file(tmp_path / 'a.pth', content)


# -- what a run keeps -------------------------------------------------------


class KeepingLayer(torch.nn.Linear):
    """Of a repo: takes what it is given as it is."""

    def __init__(self):
        super().__init__(2, 2)
        self.register_buffer('mean', torch.zeros(3))
        self.memory = self.more = None

    def _load_from_state_dict(self, state_dict, prefix, *args):
        super()._load_from_state_dict(state_dict, prefix, *args)
        self.mean = state_dict.get(prefix + 'mean', self.mean)
        self.memory = state_dict.get(prefix + 'weight')

    def get_extra_state(self):
        return dict(rows=torch.ones(5))

    def set_extra_state(self, state):
        self.more = types.SimpleNamespace(state=state)


class KeepingModel(ToyModel):

    def __init__(self):
        super().__init__()
        self.keeping = KeepingLayer()


@OPTIMIZERS.register_module(force=True)
class KeepingAdamW(torch.optim.AdamW):
    """Keeps what it is given where nobody looks."""

    def load_state_dict(self, state_dict):
        super().load_state_dict(copy.deepcopy(state_dict))
        self.before = types.SimpleNamespace(state=state_dict)


class KeepingHook(Hook):

    saved = None

    def state_dict(self):
        return dict(window=torch.arange(9.))

    def load_state_dict(self, state):
        self.saved = state


@RUNNERS.register_module(force=True)
class KeepingRunner(IterBasedRunner):
    """Of a repo, with a field and a ``resume`` of its own."""

    content = None

    def resume(self, checkpoint, resume_optimizer=True, map_location='cpu'):
        self.content = torch.load(checkpoint, map_location=map_location)
        self._iter = self.content['meta']['iter']


def run(directory, steps, name, **kwargs):
    kwargs.setdefault('hooks', [dict(OURS, resume='auto'), KeepingHook()])
    return train(directory, runner=dict(type=name, max_iters=steps), **kwargs)


class Looks(Hook):
    """Whether a file is mapped when the first step begins."""

    def __init__(self):
        self.found = None

    def before_train_iter(self, runner):
        if self.found is None:
            self.found = mapped_files()


KINDS = {
    'plain':
    lambda: dict(),
    'momentum':
    lambda: dict(momentum=True),
    'modules that keep':
    lambda: dict(model=KeepingModel()),
    'optimizer that keeps':
    lambda: dict(optimizer=KeepingAdamW),
    'averaged':
    lambda: dict(more=[dict(type='EMAHook')]),
    'accumulated':
    lambda: dict(
        optimizer_config=dict(type='DistOptimizerHook', update_interval=3)),
}


def kind_of_run(kind, directory, steps, name, look=None):
    options = KINDS[kind]()
    model = options.pop('model', None) or ToyModel()
    make = options.pop('optimizer', torch.optim.AdamW)
    optimizer = make(model.parameters(), lr=0.01)
    if options.pop('momentum', False):
        optimizer = torch.optim.SGD(model.parameters(), lr=.01, momentum=.9)
    hooks = [dict(OURS, resume='auto'), KeepingHook()]
    hooks += options.pop('more', []) + ([look] if look else [])
    return run(
        directory,
        steps,
        name,
        model=model,
        optimizer=optimizer,
        hooks=hooks,
        **options)


@pytest.mark.parametrize(
    'name', ['IterBasedRunnerAmp', 'IterBasedRunner', 'KeepingRunner'])
@pytest.mark.parametrize('kind', KINDS)
def test_a_run_goes_on_without_the_file(tmp_path, monkeypatch, name, kind):
    files, plain = [], map_file
    monkeypatch.setattr(filling, 'map_file',
                        lambda number: files.append(1) or plain(number))
    kind_of_run(kind, tmp_path, 4, name)
    assert not files
    look = Looks()
    runner = kind_of_run(kind, tmp_path, 8, name, look)
    assert files and runner.iter == 8
    assert look.found == []


def test_a_runner_that_resumes_by_hand_leaves_the_file(tmp_path):
    run(tmp_path, 4, 'IterBasedRunnerAmp')
    runner = make_runner(tmp_path / 'new', hooks=[KeepingHook()])
    runner.resume(str(tmp_path / 'iter_4.pth'))
    assert runner.iter == 4 and not mapped_files()
    weights = make_runner(tmp_path / 'new')
    kept = weights.load_checkpoint(str(tmp_path / 'iter_4.pth'))
    assert kept['optimizer']['state'] and not mapped_files()


def test_what_a_module_saves_beside_its_tensors_leaves_the_file(tmp_path):
    # mmcv does not save it, others do
    content = torch_written(checkpoint(state_dict=KeepingModel().state_dict()))
    loaded = load_file(tmp_path / 'a.pth', content)
    model = KeepingModel()
    restore_model(model, loaded.pop('state_dict'), make_logger())
    assert torch.equal(model.keeping.more.state['rows'], torch.ones(5))
    assert not mapped_files()


class DoublingLayer(torch.nn.Module):
    """Of a repo: changes what it is given, and keeps it."""

    def __init__(self):
        super().__init__()
        self.register_buffer('mean', torch.ones(5000))

    def _load_from_state_dict(self, state_dict, prefix, *args):
        super()._load_from_state_dict(state_dict, prefix, *args)
        self.mean = state_dict[prefix + 'mean'].mul_(2)


def test_what_a_module_changes_in_the_file_is_kept(tmp_path):
    model = torch.nn.Sequential(DoublingLayer(), torch.nn.Linear(2, 2))
    content = written(checkpoint(state_dict=model.state_dict()))
    loaded = load_file(tmp_path / 'a.pth', content)
    restore_model(model, loaded.pop('state_dict'), make_logger())
    assert bool((model[0].mean == 2).all()) and not mapped_files()
    assert not any(one._load_state_dict_pre_hooks for one in model.modules())


@pytest.mark.parametrize('keeps', [False, True])
def test_the_state_of_an_optimizer_is_read_to_where_it_stays(
        monkeypatch, keeps):
    monkeypatch.setattr(state_loading, 'keeps_loaded_tensors', lambda: keeps)
    weight = torch.nn.Parameter(torch.ones(2))
    plain, own = torch.optim.SGD([weight], .1), KeepingAdamW([weight])
    reads = ('state_dict', ) if keeps else ('state_dict', 'optimizer')
    assert copied_fields(plain) == reads
    assert copied_fields(dict(a=plain, b=plain)) == reads
    assert copied_fields(own) == ('state_dict', )
    assert copied_fields(dict(a=plain, b=own)) == ('state_dict', )
    assert copied_fields(None) == ('state_dict', 'optimizer')


def test_what_an_optimizer_keeps_of_a_mapped_file_leaves_it(tmp_path):
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([weight], .1, momentum=.9)
    weight.grad = torch.ones(2)
    optimizer.step()
    loaded = load_file(tmp_path / 'a.pth',
                       written(checkpoint(optimizer=optimizer.state_dict())))
    restore_optimizer(optimizer, loaded.pop('optimizer'))
    assert not mapped_files()
    assert bool((optimizer.state[weight]['momentum_buffer'] == 1).all())


def test_several_optimizers_leave_the_file(tmp_path):

    def made(steps):
        model = ToyModel()
        optimizer = {
            name: torch.optim.Adam(getattr(model, name).parameters())
            for name in ('first', 'last')
        }
        for one in optimizer.values():
            one.zero_grad()
        model(torch.ones(4, 4)).sum().backward()
        for one in optimizer.values():
            one.step()
        return dict(
            model=model,
            optimizer=optimizer,
            runner=dict(type='IterBasedRunnerAmp', max_iters=steps))

    make_runner(tmp_path, **made(4)).save_checkpoint(str(tmp_path))
    runner = make_runner(tmp_path / 'new', **made(8))
    runner.resume(str(tmp_path / 'iter_0.pth'))
    assert not mapped_files()


def test_the_state_is_in_memory_once(tmp_path):
    """Beside the model that waits for it; of torch >= 2.1."""
    if not keeps_loaded_tensors():
        pytest.skip('this torch copies the state of an optimizer by itself')
    code = f'''
import logging, sys
import torch
from mmcv.runner import build_runner
import mmcv_ckpt_hooks
from mmcv_ckpt_hooks import restore, resume  # imported before it is measured

def status(key):
    with open('/proc/self/status') as file:
        return next(int(line.split()[1]) << 10
                    for line in file if line.startswith(key))

def made():
    model = torch.nn.Sequential(
        *[torch.nn.Linear(1024, 1024, bias=False) for _ in range(24)])
    model.train_step = None
    return build_runner(
        dict(type='IterBasedRunnerAmp', max_iters=8),
        default_args=dict(
            model=model, optimizer=torch.optim.AdamW(model.parameters()),
            work_dir={str(tmp_path)!r}, logger=logging.getLogger('a')))

runner = made()
if sys.argv[1] == 'save':
    for parameter in runner.model.parameters():
        parameter.grad = torch.ones_like(parameter)
    runner.optimizer.step()
    runner.save_checkpoint({str(tmp_path)!r})
else:
    before = status('VmRSS')
    with open('/proc/self/clear_refs', 'w') as file:
        file.write('5')  # the peak begins here
    runner.resume({str(tmp_path / 'iter_0.pth')!r})
    print(status('VmHWM') - before)
'''
    told = [
        subprocess.run([sys.executable, '-c', code, what],
                       check=True,
                       stdout=subprocess.PIPE).stdout
        for what in ('save', 'resume')
    ]
    # two thirds of the file are the optimizer's
    size = os.path.getsize(tmp_path / 'iter_0.pth')
    assert size > 280 << 20
    assert 0.5 * size < int(told[1]) < 0.85 * size


def test_who_looks_at_the_fields_leaves_the_weights(monkeypatch):
    tree = dict(
        meta=dict(own=torch.ones(1000)),
        state_dict=dict(a=torch.ones(1000)),
        optimizer=dict(state={0: dict(step=torch.tensor(5.))}))
    content = io.BytesIO(written(tree))
    monkeypatch.setattr(torch, 'empty', torch.zeros)
    found = load_fields(content, 'a.pth')
    assert equal(found['meta'], tree['meta'])
    assert equal(found['optimizer'], tree['optimizer'])
    assert equal(found['state_dict']['a'], torch.zeros(1000))
