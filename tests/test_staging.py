"""The copy that training cannot change, and how much memory it takes."""
import ctypes
import errno
import gc
import io
import mmap
import os
import threading
import weakref

import pytest
import torch
from checkpoint_files import equal, written

from mmcv_ckpt_hooks import copying, image
from mmcv_ckpt_hooks import pending as pending_module
from mmcv_ckpt_hooks import staging
from mmcv_ckpt_hooks.copying import StagingBuffer
from mmcv_ckpt_hooks.loading import load_checkpoint
from mmcv_ckpt_hooks.memory import available_memory_bytes
from mmcv_ckpt_hooks.serialization import write_checkpoint
from mmcv_ckpt_hooks.staging import Splitter, reference

pytestmark = pytest.mark.filterwarnings('error')

gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU')

#: mmap(2) of Linux
MAP_FIXED = 0x10


def round_trip(tree):
    return load_checkpoint(io.BytesIO(written(tree)), 'a.pth')


def test_tied_weights_are_stored_once():
    weight = torch.arange(6.).reshape(2, 3)
    state = reference(dict(encoder=weight, decoder=[weight, weight.t()]))
    assert len(state.storages) == 1
    assert state.nbytes == 6 * 4
    loaded = round_trip(dict(encoder=weight, decoder=[weight, weight.t()]))
    loaded['encoder'].fill_(7)
    assert bool((loaded['decoder'][1] == 7).all())


def test_a_slice_of_a_huge_tensor_does_not_fill_the_disk():
    huge = torch.zeros(1 << 20)
    huge[5:9] = torch.arange(4.)
    state = reference(dict(part=huge[5:9]))
    assert state.nbytes == 4 * 4
    assert equal(round_trip(dict(part=huge[5:9])), dict(part=torch.arange(4.)))


def test_slices_of_one_tensor_stay_slices_of_one_tensor():
    flat = torch.arange(10.)
    tree = dict(first=flat[2:5], second=flat[4:8].view(2, 2))
    state = reference(tree)
    assert [one.numel() for one in state.storages] == [6]
    loaded = round_trip(tree)
    assert equal(loaded, tree)
    loaded['first'][2] = -1
    assert loaded['second'][0, 0] == -1


def test_a_slice_before_the_ones_already_seen_is_not_lost():
    flat = torch.arange(10.)
    tree = dict(first=flat[4:8], second=flat[2:5])
    assert [one.numel() for one in reference(tree).storages] == [6]
    assert equal(round_trip(tree), tree)


def test_an_expanded_tensor_is_not_blown_up():
    tree = dict(
        a=torch.ones(1).expand(1 << 20), b=torch.ones(3, 1).expand(3, 9))
    assert reference(tree).nbytes == 4 + 12
    loaded = round_trip(tree)
    assert loaded['a'].shape == (1 << 20, ) and loaded['a'].stride() == (0, )
    assert equal(loaded['b'], tree['b'])


@pytest.mark.parametrize('tensor', [
    torch.arange(6.).reshape(2, 3).t(),
    torch.arange(24.).reshape(2, 3, 4).permute(2, 0, 1),
    torch.arange(24.).reshape(1, 2, 3,
                              4).to(memory_format=torch.channels_last),
    torch.arange(10)[1::3],
    torch.arange(10)[3:3],
    torch.tensor(4.),
    torch.empty(0),
    torch.empty(0, 3, dtype=torch.bool),
    torch.empty(0).as_strided((0, ), (1, ), 7),
    torch.arange(6.).reshape(2, 3)[:, :0],
])
def test_shape_and_strides_of_odd_tensors_are_kept(tensor):
    loaded = round_trip(dict(a=tensor))['a']
    assert equal(loaded, tensor)
    assert loaded.stride() == tensor.stride()


def test_empty_tensors_take_nothing_wherever_they_lie():
    flat = torch.arange(1000.)
    tree = dict(a=flat[900:900], b=torch.empty(0), c=flat[:1])
    assert reference(tree).nbytes == 4
    assert equal(round_trip(tree), tree)


def test_a_lazily_conjugated_tensor_is_saved_with_its_values():
    tensor = torch.tensor([1 + 2j, 3 - 4j])
    tree = dict(a=tensor, b=tensor.conj(), c=tensor.conj().imag)
    assert equal(round_trip(tree), tree)


def test_the_same_bytes_as_another_type_are_no_shared_storage():
    flat = torch.arange(4, dtype=torch.int32)
    tree = dict(a=flat, b=flat.view(torch.float32))
    assert len(reference(tree).storages) == 2
    assert equal(round_trip(tree), tree)


@pytest.mark.parametrize('tensor', [
    torch.eye(3).to_sparse(),
    torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8),
])
@pytest.mark.filterwarnings('ignore')
def test_a_tensor_that_cannot_be_saved_is_refused_with_its_shape(tensor):
    with pytest.raises(TypeError, match=r'convert it to a dense one'):
        reference(dict(a=tensor))


def test_referring_copies_nothing():
    weight = torch.zeros(4)
    state = reference(dict(a=weight))
    assert state.storages[0].data_ptr() == weight.data_ptr()


def test_a_step_after_the_save_is_not_in_the_checkpoint():
    model = torch.nn.Linear(3, 3)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(3)).sum().backward()
    optimizer.step()
    tree = dict(
        model=dict(model.state_dict()), optimizer=optimizer.state_dict())
    expected = round_trip(tree)
    copied = StagingBuffer().copy(reference(tree))
    live = {one.data_ptr() for one in reference(tree).storages}
    assert not live & {one.data_ptr() for one in copied.storages}
    optimizer.step()
    with torch.no_grad():
        model.weight.fill_(-1)
    stream = io.BytesIO()
    write_checkpoint(stream, copied, {})
    assert equal(load_checkpoint(stream, 'a.pth'), expected)


def test_the_second_save_allocates_nothing():
    buffer = StagingBuffer()
    tree = dict(a=torch.zeros(8), b=torch.zeros(4, dtype=torch.int64))
    first = buffer.copy(reference(tree))
    places = [one.data_ptr() for one in first.storages]
    tree['a'].fill_(5)
    second = buffer.copy(reference(tree))
    assert [one.data_ptr() for one in second.storages] == places
    assert bool((second.storages[0] == 5).all())
    assert buffer.nbytes == second.layout().end


class Image(copying.FileImage):
    """Tells which images there are."""
    alive = weakref.WeakSet()
    made = []

    def __init__(self, nbytes):
        super().__init__(nbytes)
        Image.made.append((nbytes, len(Image.alive)))
        Image.alive.add(self)


@pytest.fixture
def images(monkeypatch):
    monkeypatch.setattr(copying, 'FileImage', Image)
    Image.made = []
    return Image.made


def test_a_changed_state_never_takes_two_copies_of_memory(images):
    buffer = StagingBuffer()
    buffer.copy(reference(dict(a=torch.zeros(1000))))
    buffer.copy(reference(dict(a=torch.zeros(2000000), b=torch.zeros(10))))
    assert [others for _, others in images] == [0, 0]
    tree = dict(o=torch.zeros(4), a=torch.zeros(2000000), b=torch.zeros(10))
    copied = buffer.copy(reference(tree))
    assert buffer.nbytes == copied.layout().end == images[-1][0]


def test_a_smaller_state_gives_memory_back():
    buffer = StagingBuffer()
    buffer.copy(reference(dict(a=torch.zeros(1000000))))
    buffer.copy(reference(dict(a=torch.zeros(10))))
    assert buffer.nbytes < 1000


def test_a_state_that_changes_by_a_little_keeps_its_memory(images):
    buffer = StagingBuffer()
    buffer.copy(reference(dict(a=torch.arange(1000), b=torch.arange(9))))
    tree = dict(a=torch.arange(8), b=torch.arange(1000))
    copied = buffer.copy(reference(tree))
    assert len(images) == 1
    assert equal(loaded(copied), tree)


def loaded(state):
    stream = io.BytesIO()
    write_checkpoint(stream, state, {})
    return load_checkpoint(stream, 'a.pth')


@pytest.mark.parametrize(
    'tree', [
        {},
        dict(a=torch.empty(0)),
        dict(a=torch.arange(7, dtype=torch.uint8), b=torch.ones(3).bool()),
        dict(
            a=torch.arange(3).bfloat16(),
            b=torch.ones(2, dtype=torch.complex64)),
        {
            str(index): torch.full((index, ), index)
            for index in range(200)
        },
        dict(
            a=torch.arange(3 << 20),
            b=torch.arange(1.),
            c=torch.arange(1 << 20)),
    ],
    ids=['none', 'empty', 'bytes', 'types', 'many', 'large'])
def test_the_image_of_a_file_is_the_file(tree):
    """What is written from the image is what is written from the tensors."""
    copied = StagingBuffer().copy(reference(tree))
    stream = io.BytesIO()
    digest = write_checkpoint(stream, copied, dict(iter=1))
    assert stream.getvalue() == written(tree, dict(iter=1))
    assert digest == write_checkpoint(io.BytesIO(), reference(tree),
                                      dict(iter=1))


@pytest.mark.skipif(not hasattr(os, 'fork'), reason='no fork')
def test_a_forked_data_loader_worker_does_not_have_the_copy():
    buffer = StagingBuffer()
    copied = buffer.copy(reference(dict(a=torch.ones(1 << 20))))
    address = copied.storages[0].data_ptr()
    pid = os.fork()
    if not pid:
        with open('/proc/self/maps') as file:
            ranges = [line.split()[0].split('-') for line in file]
        os._exit(
            any(
                int(begin, 16) <= address < int(end, 16)
                for begin, end in ranges))
    assert os.waitpid(pid, 0)[1] == 0


@pytest.mark.skipif(not hasattr(os, 'fork'), reason='no fork')
def test_a_forked_data_loader_worker_unmaps_nothing_of_its_own():
    """Where the copy lies, a child that collects it has something else."""
    buffer = StagingBuffer()
    buffer.copy(reference(dict(a=torch.ones(1 << 20))))
    address, nbytes = buffer._image.address, buffer.nbytes
    pid = os.fork()
    if not pid:
        libc = ctypes.CDLL(None)
        libc.mmap.restype = ctypes.c_void_p
        made = libc.mmap(
            ctypes.c_void_p(address), ctypes.c_size_t(nbytes),
            mmap.PROT_READ | mmap.PROT_WRITE,
            mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_FIXED, -1,
            ctypes.c_long(0))
        del buffer
        gc.collect()
        # the process ends here by SIGSEGV if that is gone
        ctypes.memset(made, 1, nbytes)
        os._exit(made != address)
    assert os.waitpid(pid, 0)[1] == 0


def has_huge_pages():
    path = '/sys/kernel/mm/transparent_hugepage/enabled'
    return os.path.exists(path) and '[never]' not in open(path).read()


@pytest.mark.skipif(not has_huge_pages(), reason='no huge pages')
def test_the_copy_lies_in_huge_pages():
    buffer = StagingBuffer()
    address = buffer.copy(reference(
        dict(a=torch.ones(1 << 20)))).storages[0].data_ptr()
    found = None
    with open('/proc/self/smaps') as file:
        for line in file:
            words = line.split()
            begin, dash, end = words[0].partition('-')
            if dash and not words[0].endswith(':'):
                is_it = int(begin, 16) <= address < int(end, 16)
            elif words[0] == 'VmFlags:' and is_it:
                found = words
    assert found and 'hg' in found


def test_a_kernel_without_huge_pages_gives_others(monkeypatch):

    class Memory(image.mmap.mmap):

        def madvise(self, advice, *args):
            if advice == image.mmap.MADV_HUGEPAGE:
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
            super().madvise(advice, *args)

    monkeypatch.setattr(image.mmap, 'mmap', Memory)
    monkeypatch.setattr(image.mmap, 'MADV_HUGEPAGE', 14, raising=False)
    copied = StagingBuffer().copy(reference(dict(a=torch.ones(1 << 20))))
    assert copied.storages[0].sum() == 1 << 20


def test_memory_that_was_reserved_is_what_the_save_uses(images):
    tree = dict(a=torch.ones(1 << 20), b=torch.arange(3))
    buffer = StagingBuffer()
    buffer.reserve((4 << 20) + 5000, pinned=False)
    copied = buffer.copy(reference(tree))
    assert len(images) == 1
    assert equal(loaded(copied), tree)


# -- the copy that is finished later ----------------------------------------


def later_of(*tensors):
    return {one.untyped_storage().data_ptr(): one for one in tensors}


def test_only_what_may_be_is_copied_later():
    now, later = torch.ones(3), torch.ones(1 << 21)
    copied = StagingBuffer().copy(
        reference(dict(now=now, later=later)), later_of(later))
    pending = copied.pending
    now.zero_()
    later.data.fill_(2)
    pending.finish()
    assert sorted(map(torch.sum, copied.storages)) == [3, later.sum()]
    # and that is noticed
    assert pending.is_torn


def test_whoever_needs_the_copy_finishes_it():
    later = torch.arange(1 << 21)
    expected = later.clone()
    copied = StagingBuffer().copy(reference(dict(a=later)), later_of(later))
    pending = copied.pending
    pending.hold_back()
    later.zero_()
    pending.finish()
    assert equal(loaded(copied), dict(a=expected))


@pytest.mark.timeout(60, method='thread')
def test_a_copy_that_another_thread_has_begun_is_waited_for(monkeypatch):
    later = torch.arange(1 << 21)
    expected = later.clone()
    copied = StagingBuffer().copy(reference(dict(a=later)), later_of(later))
    pending = copied.pending
    begun, go_on = threading.Event(), threading.Event()
    memmove = pending_module.ctypes.memmove

    def slow(*args):
        if threading.current_thread() is writer:
            begun.set()
            assert go_on.wait(60)
        memmove(*args)

    monkeypatch.setattr(pending_module.ctypes, 'memmove', slow)
    writer = threading.Thread(target=pending.finish)
    writer.start()
    assert begun.wait(60)
    wait = pending._changed.wait

    def waits():
        # all but the piece of the writer is copied: now it goes on
        go_on.set()
        return wait()

    pending._changed.wait = waits
    pending.hold_back()
    later.zero_()
    go_on.set()
    writer.join(60)
    assert equal(loaded(copied), dict(a=expected))
    assert pending.held_secs > 0


@pytest.mark.timeout(60, method='thread')
def test_an_interrupted_copy_is_made_by_who_comes_next(monkeypatch):
    later = torch.arange(1 << 21)
    copied = StagingBuffer().copy(reference(dict(a=later)), later_of(later))
    memmove = pending_module.ctypes.memmove

    def interrupted(*args):
        monkeypatch.setattr(pending_module.ctypes, 'memmove', memmove)
        raise KeyboardInterrupt

    monkeypatch.setattr(pending_module.ctypes, 'memmove', interrupted)
    with pytest.raises(KeyboardInterrupt):
        copied.pending.hold_back()
    copied.pending.hold_back()
    assert equal(loaded(copied), dict(a=later))


def test_an_interrupt_before_the_copy_leaves_all_of_it_to_do(monkeypatch):
    later = torch.arange(1 << 21)
    copied = StagingBuffer().copy(reference(dict(a=later)), later_of(later))
    cut = pending_module._pieces_of

    def interrupted(*args):
        monkeypatch.setattr(pending_module, '_pieces_of', cut)
        cut(*args)
        raise KeyboardInterrupt

    monkeypatch.setattr(pending_module, '_pieces_of', interrupted)
    with pytest.raises(KeyboardInterrupt):
        copied.pending.hold_back()
    assert equal(loaded(copied), dict(a=later))


class BrokenEvent:

    def synchronize(self):
        raise RuntimeError('CUDA error: device-side assert triggered')


def test_a_broken_gpu_leaves_no_thread_and_no_piece():
    later = torch.arange(1 << 21)
    pending = StagingBuffer().copy(reference(dict(a=later)),
                                   later_of(later)).pending
    pending._events = dict(cuda=BrokenEvent())
    with pytest.raises(RuntimeError, match='device-side'):
        with pending_module.copied_ahead(pending):
            pass
    assert not pending._left
    names = [one.name for one in threading.enumerate()]
    assert 'mmcv-ckpt-blocks' not in names


class Event:
    """Of copies that a GPU has finished when somebody has waited."""

    def synchronize(self):
        pass


def test_a_copy_is_not_settled_before_the_gpu_is_done():
    """The steps of Adam are on the CPU, and copied long before."""
    step, weight = torch.ones(1), torch.ones(9)
    pending = StagingBuffer().copy(
        reference(dict(a=step)), later_of(step, weight)).pending
    pending._events = dict(cuda=Event())
    pending.run_ahead()
    weight.add_(1)  # what the GPU still reads
    pending.finish()
    assert pending.is_torn


@pytest.mark.skipif(not hasattr(torch.Tensor, 'is_inference'), reason='old')
def test_what_nobody_counts_is_copied_all_the_same():
    with torch.inference_mode():
        later = torch.arange(9)
    copied = StagingBuffer().copy(reference(dict(a=later)), later_of(later))
    assert equal(loaded(copied), dict(a=later))


def test_a_finished_copy_holds_no_live_tensor():
    later = torch.ones(9)
    pending = StagingBuffer().copy(reference(dict(a=later)),
                                   later_of(later)).pending
    alive = weakref.ref(later)
    pending.finish()
    del later
    assert alive() is None


def test_every_gpu_is_waited_for_not_only_the_current_one(monkeypatch):
    waited = []
    monkeypatch.setattr(torch.cuda, 'synchronize', waited.append)
    gpus = copying._Gpus({})
    gpus._copies = {'cuda:0': None, 'cuda:1': None}
    gpus.wait()
    assert sorted(waited) == ['cuda:0', 'cuda:1']


@gpu
def test_tensors_on_a_gpu_are_copied_before_they_change():
    weight = torch.arange(1 << 22, device='cuda', dtype=torch.float32)
    expected = weight.cpu()
    copied = StagingBuffer().copy(reference(dict(a=weight)))
    weight.zero_()
    assert copied.storages[0].is_pinned()
    assert torch.equal(copied.storages[0], expected)


@gpu
def test_a_gpu_changes_nothing_before_its_copy_is_made():
    weight = torch.arange(1 << 26, device='cuda', dtype=torch.float32)
    statistics = torch.ones(5, device='cuda')
    expected = weight.cpu()
    buffer = StagingBuffer()
    tree = dict(a=weight, b=statistics)
    for _ in range(3):
        copied = buffer.copy(reference(tree), later_of(weight))
        pending = copied.pending
        statistics.add_(1)
        pending.hold_back()
        weight.add_(1)
        pending.finish()
        assert torch.equal(copied.storages[0], expected)
        expected += 1
    assert copied.storages[1].tolist() == [3.] * 5


def make_files(root, files):
    for name, content in files.items():
        path = os.path.join(root, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, 'w') as file:
            file.write(content)


MEMINFO = {'proc/meminfo': 'MemTotal: 1000 kB\nMemAvailable:  900 kB\n'}
MEMORY = [
    # what the kernel says, what is available
    ({}, None),
    (MEMINFO, 900 << 10),
    ({
        **MEMINFO, 'proc/self/cgroup': '0::/\n',
        'sys/fs/cgroup/memory.max': '500000\n',
        'sys/fs/cgroup/memory.current': '200000\n'
    }, 300000),
    # no limit
    ({
        **MEMINFO, 'proc/self/cgroup': '0::/\n',
        'sys/fs/cgroup/memory.max': 'max\n',
        'sys/fs/cgroup/memory.current': '200000\n'
    }, 900 << 10),
    # a job's limit is above its step's group, as Slurm makes them
    ({
        **MEMINFO, 'proc/self/cgroup': '0::/slurm/job_1/step_0\n',
        'sys/fs/cgroup/slurm/job_1/memory.max': '500000\n',
        'sys/fs/cgroup/slurm/job_1/memory.current': '100000\n',
        'sys/fs/cgroup/slurm/job_1/step_0/memory.max': 'max\n',
        'sys/fs/cgroup/slurm/job_1/step_0/memory.current': '90000\n'
    }, 400000),
    # version 1, beside other controllers
    ({
        **MEMINFO, 'proc/self/cgroup':
        '5:cpu,cpuacct:/a\n4:memory:/docker/x\n1:name=systemd:/a\n',
        'sys/fs/cgroup/memory/memory.limit_in_bytes':
        '500000\n',
        'sys/fs/cgroup/memory/memory.usage_in_bytes':
        '450000\n',
        'sys/fs/cgroup/memory/memory.stat':
        'cache 400000\ntotal_inactive_file 300000\ntotal_active_file 50000\n'
    }, 400000),
    # a full group
    ({
        'proc/self/cgroup': '0::/\n',
        'sys/fs/cgroup/memory.max': '500000\n',
        'sys/fs/cgroup/memory.current': '600000\n'
    }, 0),
    # counts that do not fit together
    ({
        'proc/self/cgroup': '0::/\n',
        'sys/fs/cgroup/memory.max': '500000\n',
        'sys/fs/cgroup/memory.current': '1000\n',
        'sys/fs/cgroup/memory.stat': 'inactive_file 9000\n'
    }, 500000),
]


@pytest.mark.parametrize('files, expected', MEMORY)
def test_the_limit_of_every_control_group_counts(tmp_path, files, expected):
    make_files(tmp_path, files)
    assert available_memory_bytes(str(tmp_path)) == expected


def test_checkpoints_in_the_page_cache_do_not_end_background_saves(tmp_path):
    # a container that has written 400 kB of files has not lost that memory
    make_files(
        tmp_path, {
            'proc/self/cgroup':
            '0::/\n',
            'sys/fs/cgroup/memory.max':
            '500000\n',
            'sys/fs/cgroup/memory.current':
            '490000\n',
            'sys/fs/cgroup/memory.stat':
            'anon 90000\ninactive_file 300000\nactive_file 100000\n'
        })
    assert available_memory_bytes(str(tmp_path)) == 410000


def test_this_machine_tells_its_memory():
    available = available_memory_bytes()
    assert available is None or available > 1 << 20


# -- what is known from the checkpoint before -------------------------------

CHANGES = {
    'values': lambda one: one.add_(1),
    'transposed': lambda one: one.t_(),
    'other_memory': lambda one: one.set_(torch.full((2, 3, 3), 7.)[1]),
    'part_of_other_memory': lambda one: one.set_(torch.eye(9)[3:6, 3:6]),
    'other_type': lambda one: setattr(one, 'data', one.data.double()),
    'other_shape': lambda one: one.resize_(9),
    'same_address': lambda one: one.set_(one.untyped_storage(), 0, (3, 3),
                                         (0, 1)),
    'as_it_was': lambda one: None,
}


@pytest.mark.parametrize('name', CHANGES)
def test_what_is_known_of_a_tensor_is_used_only_where_it_holds(name):
    splitter = Splitter()
    one = torch.arange(9.).reshape(3, 3)
    tree = dict(one=one, part=one[1:], other=torch.ones(2))
    assert equal(loaded(splitter.split(tree)), tree)
    CHANGES[name](one)
    for _ in range(2):
        tree = dict(new=torch.zeros(3), one=one, other=tree['other'])
        assert equal(loaded(splitter.split(tree)), tree)


def test_what_is_known_keeps_no_tensor_alive():
    splitter = Splitter()
    one = torch.ones(3)
    splitter.split(dict(one=one))
    alive = weakref.ref(one)
    del one
    assert alive() is None


def test_a_known_tensor_is_not_looked_at_again(monkeypatch):
    splitter = Splitter()
    tree = dict(one=torch.ones(3), conjugated=torch.ones(2).cfloat().conj())
    splitter.split(tree)
    plain, seen = staging._plain, []
    monkeypatch.setattr(staging, '_plain', lambda one:
                        (seen.append(one), plain(one))[1])
    assert equal(loaded(splitter.split(tree)), tree)
    # its values are computed anew
    assert len(seen) == 1 and seen[0] is tree['conjugated']


def test_a_known_tensor_that_is_conjugated_is_saved_so():
    splitter = Splitter()
    tree = dict(one=torch.tensor([1 + 2j, 3 - 1j]))
    splitter.split(tree)
    tree['one'].data = tree['one'].data.conj()
    expected = tree['one'].resolve_conj()
    assert equal(loaded(splitter.split(tree)), dict(one=expected))
    tree['one'].data = tree['one'].imag
    assert equal(loaded(splitter.split(tree)), dict(one=expected.imag.clone()))
