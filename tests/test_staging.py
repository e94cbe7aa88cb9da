"""The copy that training cannot change, and how much memory it takes."""
import io
import os
import weakref

import pytest
import torch
from checkpoint_files import equal, written

from mmcv_ckpt_hooks import staging
from mmcv_ckpt_hooks.loading import load_checkpoint
from mmcv_ckpt_hooks.serialization import write_checkpoint
from mmcv_ckpt_hooks.staging import (StagingBuffers, available_memory_bytes,
                                     reference)

pytestmark = pytest.mark.filterwarnings('error')

gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU')


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
    copied = StagingBuffers().copy(reference(tree))
    live = {one.data_ptr() for one in reference(tree).storages}
    assert not live & {one.data_ptr() for one in copied.storages}
    optimizer.step()
    with torch.no_grad():
        model.weight.fill_(-1)
    stream = io.BytesIO()
    write_checkpoint(stream, copied, {})
    assert equal(load_checkpoint(stream, 'a.pth'), expected)


def test_the_second_save_allocates_nothing():
    buffers = StagingBuffers()
    tree = dict(a=torch.zeros(8), b=torch.zeros(4, dtype=torch.int64))
    first = buffers.copy(reference(tree))
    places = [one.data_ptr() for one in first.storages]
    tree['a'].fill_(5)
    second = buffers.copy(reference(tree))
    assert [one.data_ptr() for one in second.storages] == places
    assert bool((second.storages[0] == 5).all())
    assert buffers.nbytes == 8 * 4 + 4 * 8


def test_a_changed_state_never_takes_two_copies_of_memory(monkeypatch):
    buffers = StagingBuffers()
    buffers.copy(reference(dict(a=torch.zeros(1000), b=torch.zeros(10))))
    held = []
    empty = torch.empty

    def spy(*args, **kwargs):
        held.append(buffers.nbytes)
        return empty(*args, **kwargs)

    monkeypatch.setattr(staging.torch, 'empty', spy)
    # the first save had no optimizer state: now it comes first
    tree = dict(o=torch.zeros(7), a=torch.zeros(1000), b=torch.zeros(10))
    buffers.copy(reference(tree))
    assert held == [0, 28, 28 + 4000]
    assert buffers.nbytes == reference(tree).nbytes


def test_a_buffer_that_no_longer_fits_is_gone_before_more_is_allocated(
        monkeypatch):
    buffers = StagingBuffers()
    copied = buffers.copy(reference(dict(a=torch.zeros(1000))))
    old = weakref.ref(copied.storages[0])
    del copied
    alive = []
    empty = torch.empty

    def spy(*args, **kwargs):
        alive.append(old() is not None)
        return empty(*args, **kwargs)

    monkeypatch.setattr(staging.torch, 'empty', spy)
    buffers.copy(reference(dict(a=torch.zeros(2000))))
    assert alive == [False]


def test_a_smaller_state_gives_memory_back():
    buffers = StagingBuffers()
    buffers.copy(reference(dict(a=torch.zeros(1000), b=torch.zeros(10))))
    buffers.copy(reference(dict(a=torch.zeros(10))))
    assert buffers.nbytes == 40


def test_every_gpu_is_waited_for_not_only_the_current_one(monkeypatch):
    waited = []
    monkeypatch.setattr(torch.cuda, 'synchronize', waited.append)

    class OnGpu:
        """A flat storage that says it is on a GPU."""
        dtype, is_cuda = torch.float32, True

        def __init__(self, device):
            self.device = device

        def numel(self):
            return 2

        def element_size(self):
            return 4

    class Buffer:

        def copy_(self, flat, non_blocking):
            assert non_blocking
            return self

    monkeypatch.setattr(staging.torch, 'empty',
                        lambda *args, pin_memory, **kwargs: Buffer())
    storages = [OnGpu('cuda:0'), OnGpu('cuda:1'), OnGpu('cuda:0')]
    StagingBuffers().copy(staging.StagedState({}, storages))
    assert sorted(waited) == ['cuda:0', 'cuda:1']


@gpu
def test_tensors_on_a_gpu_are_copied_before_they_change():
    weight = torch.arange(1 << 22, device='cuda', dtype=torch.float32)
    expected = weight.cpu()
    copied = StagingBuffers().copy(reference(dict(a=weight)))
    weight.zero_()
    assert copied.storages[0].is_pinned()
    assert torch.equal(copied.storages[0], expected)


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
