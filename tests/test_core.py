"""``save_checkpoint`` in the place of mmcv's: the same file, but safe."""
import collections
import copy
import enum
import errno
import os
import pathlib
import resource
import stat

import mmcv
import numpy as np
import pytest
import torch
from checkpoint_files import equal, tensor_bytes
from mmcv.parallel import MMDataParallel, MMDistributedDataParallel
from mmcv.runner import load_checkpoint as stock_load
from mmcv.runner import save_checkpoint as stock_save
from stock import WEIGHTS_ONLY
from torch import nn
from toy import ToyModel, make_runner, names

from mmcv_ckpt_hooks import core, save_checkpoint
from mmcv_ckpt_hooks.checking import verify_checkpoint
from mmcv_ckpt_hooks.errors import (CheckpointError, ConfigError,
                                    OutOfSpaceError, StorageError)
from mmcv_ckpt_hooks.loading import load_checkpoint
from mmcv_ckpt_hooks.storage import streams
from mmcv_ckpt_hooks.version import version_tuple

pytestmark = [
    pytest.mark.filterwarnings('error'),
    # MMDataParallel and numpy in torch's own code
    pytest.mark.filterwarnings('ignore:.*(pynvml|ComplexHalf).*'),
]


class Zoo(nn.Module):
    """Parameters and buffers of every kind that stock mmcv saves."""

    CLASSES = ('cell', 'background')
    PALETTE = [[0, 0, 0], [255, 255, 255]]

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Linear(4, 6, bias=False)
        self.head = nn.Linear(4, 6)
        self.head.weight = self.embed.weight  # tied
        self.norm = nn.Sequential(nn.BatchNorm2d(3), nn.SyncBatchNorm(3))
        for name, dtype in dict(
                half=torch.float16,
                brain=torch.bfloat16,
                double=torch.float64,
                byte=torch.uint8,
                char=torch.int8,
                short=torch.int16,
                integer=torch.int32,
                wide=torch.int64,
                flag=torch.bool,
                complex64=torch.complex64,
                complex128=torch.complex128).items():
            self.register_buffer(f'a_{name}', torch.arange(4).to(dtype))
        self.register_buffer('scalar', torch.tensor(2.5))
        self.register_buffer('empty', torch.empty(0, 3))
        self.register_buffer('passing', torch.ones(2), persistent=False)
        self.register_buffer('absent', None)
        self.register_buffer('turned', torch.arange(6.).reshape(2, 3).t())
        self.register_buffer(
            'last',
            torch.randn(1, 2, 3, 4).to(memory_format=torch.channels_last))
        self.register_buffer('wide_view', torch.ones(1).expand(5))
        flat = torch.arange(20.)
        self.register_buffer('left', flat[:7])
        self.register_buffer('right', flat[5:15].view(2, 5))
        self.register_parameter('nothing', None)


def ours(path):
    with open(path, 'rb') as file:
        return load_checkpoint(file, str(path))


def both_saved(tmp_path, model, optimizer=None, meta=None):
    """The same checkpoint by stock mmcv and by us, as torch loads them."""
    stock_save(model, str(tmp_path / 'stock.pth'), optimizer,
               copy.deepcopy(meta))
    save_checkpoint(model, str(tmp_path / 'ours.pth'), optimizer, meta)
    stock = torch.load(tmp_path / 'stock.pth', weights_only=False)
    if version_tuple(mmcv.__version__) < (1, 3, 13):
        # which loses the versions of the modules
        stock['state_dict']._metadata = model.state_dict()._metadata
    return stock, torch.load(tmp_path / 'ours.pth', weights_only=True)


def test_the_weights_are_stocks_bit_for_bit(tmp_path):
    stock, saved = both_saved(tmp_path, Zoo())
    expected, found = stock['state_dict'], saved['state_dict']
    assert list(found) == list(expected)
    assert type(found) is type(expected) is collections.OrderedDict
    assert equal(found._metadata, expected._metadata)
    for key in expected:
        assert found[key].dtype == expected[key].dtype, key
        assert found[key].shape == expected[key].shape, key
        assert found[key].stride() == expected[key].stride(), key
        assert tensor_bytes(found[key]) == tensor_bytes(expected[key]), key
        assert type(found[key]) is torch.Tensor and not found[key].is_cuda
    assert equal(ours(tmp_path / 'ours.pth'), saved)


def test_buffers_that_torch_would_leave_out_are_kept_as_stock_keeps_them(
        tmp_path):
    save_checkpoint(Zoo(), str(tmp_path / 'a.pth'))
    keys = ours(tmp_path / 'a.pth')['state_dict']
    assert 'passing' in keys
    assert not {'absent', 'nothing'} & set(keys)


def test_stock_mmcv_loads_the_file(tmp_path):
    saved, fresh = Zoo(), Zoo()
    for model in (saved, fresh):
        # torch cannot copy into the one and does not expect the other
        del model.wide_view, model.passing
    with torch.no_grad():
        saved.embed.weight.fill_(3)
        saved.norm[0].running_mean.fill_(4)
    save_checkpoint(saved, str(tmp_path / 'a.pth'), meta=dict(iter=5))
    checkpoint = stock_load(fresh, str(tmp_path / 'a.pth'), 'cpu', strict=True)
    assert checkpoint['meta']['iter'] == 5
    assert equal(fresh.state_dict(), saved.state_dict())


def test_tied_weights_take_their_place_once_and_stay_tied(tmp_path):
    weight = nn.Parameter(torch.zeros(1 << 18))
    model = nn.Module()
    model.first = model.second = weight
    save_checkpoint(model, str(tmp_path / 'a.pth'))
    assert os.path.getsize(tmp_path / 'a.pth') < 1.1 * (4 << 18)
    for loaded in (ours(tmp_path / 'a.pth'), torch.load(tmp_path / 'a.pth')):
        state = loaded['state_dict']
        assert state['first'].data_ptr() == state['second'].data_ptr()


def test_a_slice_of_a_large_tensor_does_not_write_all_of_it(tmp_path):
    model = nn.Module()
    model.register_buffer('part', torch.zeros(1 << 20)[3:7])
    stock, saved = both_saved(tmp_path, model)
    assert os.path.getsize(tmp_path / 'stock.pth') > 4 << 20
    assert os.path.getsize(tmp_path / 'ours.pth') < 10000
    assert equal(saved['state_dict'], stock['state_dict'])


# -- fields ----------------------------------------------------------------


def test_meta_has_version_time_classes_and_palette(tmp_path):
    save_checkpoint(Zoo(), str(tmp_path / 'a.pth'), meta=dict(iter=5, own='x'))
    checkpoint = ours(tmp_path / 'a.pth')
    assert sorted(checkpoint) == ['meta', 'state_dict']
    meta = checkpoint['meta']
    assert meta['mmcv_version'] == mmcv.__version__
    assert isinstance(meta['time'], str)
    assert meta['CLASSES'] == ('cell', 'background')
    assert meta['PALETTE'] == [[0, 0, 0], [255, 255, 255]]
    assert (meta['iter'], meta['own']) == (5, 'x')


def test_classes_of_the_config_stay_where_the_model_has_none(tmp_path):
    model = nn.Linear(1, 1)
    model.CLASSES = None
    save_checkpoint(model, str(tmp_path / 'a.pth'), meta=dict(CLASSES=('a', )))
    assert ours(tmp_path / 'a.pth')['meta']['CLASSES'] == ('a', )


def test_no_meta_is_no_error(tmp_path):
    save_checkpoint(nn.Linear(1, 1), str(tmp_path / 'a.pth'))
    assert 'mmcv_version' in ours(tmp_path / 'a.pth')['meta']


@pytest.mark.parametrize('meta', [[], 'text', 3, ('epoch', 1), mmcv.Config()])
def test_a_meta_that_is_no_dict_is_refused_before_anything_is_written(
        meta, tmp_path):
    with pytest.raises(TypeError, match='meta must be a dict or None'):
        save_checkpoint(nn.Linear(1, 1), str(tmp_path / 'a.pth'), meta=meta)
    assert os.listdir(tmp_path) == []


class Stage(enum.Enum):
    FIRST = 1


def odd_meta():
    return dict(
        hook_msgs=dict(best_score=np.float64(0.75), best_ckpt=None),
        config=mmcv.Config(dict(a=dict(b=1))),
        cfg_dict=mmcv.ConfigDict(lr=np.float32(0.5), inner=dict(c=[1])),
        gpu_ids=range(2),
        counts=collections.defaultdict(int, a=1),
        array=np.arange(3),
        stage=Stage.FIRST,
        path=pathlib.PurePosixPath('/data'),
        names={'b'},
        seed=np.int64(3),
        tensor=torch.ones(2),
        nested=[dict(a=(np.bool_(True), ))])


def test_the_callers_meta_is_not_changed(tmp_path):
    # stock adds mmcv_version and time to it, and runner.meta grows
    meta = odd_meta()
    before = {key: (id(value), repr(value)) for key, value in meta.items()}
    save_checkpoint(Zoo(), str(tmp_path / 'a.pth'), meta=meta)
    assert before == {
        key: (id(value), repr(value))
        for key, value in meta.items()
    }
    plain = dict(a=[1, dict(b=(2, 3))], c='x')
    expected = copy.deepcopy(plain)
    save_checkpoint(Zoo(), str(tmp_path / 'a.pth'), meta=plain)
    assert equal(plain, expected)


def test_what_stock_mmcv_puts_in_meta_loads_with_the_default_of_torch(
        tmp_path):
    meta = odd_meta()
    save_checkpoint(Zoo(), str(tmp_path / 'a.pth'), meta=meta)
    loaded = torch.load(tmp_path / 'a.pth', weights_only=WEIGHTS_ONLY)['meta']
    expected = dict(
        hook_msgs=dict(best_score=0.75, best_ckpt=None),
        config=dict(a=dict(b=1)),
        cfg_dict=dict(lr=0.5, inner=dict(c=[1])),
        gpu_ids=[0, 1],
        counts=dict(a=1),
        array=[0, 1, 2],
        stage=1,
        path='/data',
        names={'b'},
        seed=3,
        tensor=torch.ones(2),
        nested=[dict(a=(True, ))])
    assert equal({key: loaded[key] for key in expected}, expected)
    # stock's file of the same does not load
    stock_save(Zoo(), str(tmp_path / 'stock.pth'), meta=dict(odd_meta()))
    with pytest.raises(Exception, match='Weights only load failed'):
        torch.load(tmp_path / 'stock.pth', weights_only=True)


def test_what_cannot_be_kept_is_told_with_its_place_and_type(tmp_path):
    meta = dict(hooks=[dict(callback=odd_meta)])
    meta['itself'] = meta
    with pytest.warns(UserWarning) as caught:
        save_checkpoint(Zoo(), str(tmp_path / 'a.pth'), meta=meta)
    message = str(caught[0].message)
    assert len(caught) == 1
    assert 'meta.hooks[0].callback (function)' in message
    assert 'meta.itself.itself (contains itself)' in message
    loaded = torch.load(tmp_path / 'a.pth', weights_only=True)['meta']
    assert loaded['hooks'][0]['callback'].startswith('<function odd_meta')


def trained(kind=torch.optim.AdamW, **kwargs):
    model = ToyModel()
    # as a schedule from numpy leaves it
    optimizer = kind(model.parameters(), lr=np.float64(0.01), **kwargs)
    for _ in range(2):
        optimizer.zero_grad()
        model(torch.ones(4, 4)).sum().backward()
        optimizer.step()
    return model, optimizer


@pytest.mark.parametrize('kind, kwargs', [
    (torch.optim.AdamW, dict(amsgrad=True)),
    (torch.optim.SGD, dict(momentum=0.9, nesterov=True)),
    (torch.optim.SGD, {}),
    (torch.optim.Rprop, {}),
])
def test_the_optimizer_continues_where_it_was(kind, kwargs, tmp_path):
    model, optimizer = trained(kind, **kwargs)
    optimizer.param_groups[0]['initial_lr'] = np.float32(0.5)
    stock, saved = both_saved(tmp_path, model, optimizer)
    group = saved['optimizer']['param_groups'][0]
    assert type(group['lr']) is float and group['lr'] == 0.01
    assert type(group['initial_lr']) is float
    assert equal(saved['optimizer']['state'], stock['optimizer']['state'])
    again = kind(model.parameters(), lr=1., **kwargs)
    again.load_state_dict(saved['optimizer'])
    assert again.param_groups[0]['lr'] == 0.01
    assert equal(again.state_dict()['state'], optimizer.state_dict()['state'])


def test_several_optimizers_are_saved_by_name(tmp_path):
    first, second = trained()[1], trained(torch.optim.SGD, momentum=0.9)[1]
    stock, saved = both_saved(tmp_path, ToyModel(),
                              dict(generator=first, discriminator=second))
    assert list(saved['optimizer']) == ['generator', 'discriminator']
    for name in saved['optimizer']:
        assert equal(saved['optimizer'][name]['state'],
                     stock['optimizer'][name]['state'])


def test_the_amp_state_is_saved_where_the_apex_runners_put_it(tmp_path):
    state = dict(loss_scaler0=dict(loss_scale=1024.0, unskipped=3))
    save_checkpoint(ToyModel(), str(tmp_path / 'a.pth'), amp=state)
    assert ours(tmp_path / 'a.pth')['amp'] == state
    save_checkpoint(ToyModel(), str(tmp_path / 'a.pth'), amp=False)
    assert 'amp' not in ours(tmp_path / 'a.pth')


# -- wrappers --------------------------------------------------------------


@pytest.mark.parametrize(
    'wrap', [
        nn.DataParallel,
        MMDataParallel,
        lambda model: MMDataParallel(nn.DataParallel(model)),
        lambda model: nn.DataParallel(MMDataParallel(nn.DataParallel(model))),
    ],
    ids=['DP', 'MMDP', 'MMDP(DP)', 'DP(MMDP(DP))'])
def test_wrappers_leave_no_prefix_and_lose_no_classes(wrap, tmp_path):
    model = Zoo()
    save_checkpoint(wrap(model), str(tmp_path / 'a.pth'))
    save_checkpoint(model, str(tmp_path / 'plain.pth'))
    wrapped, plain = ours(tmp_path / 'a.pth'), ours(tmp_path / 'plain.pth')
    assert equal(wrapped['state_dict'], plain['state_dict'])
    assert wrapped['meta']['CLASSES'] == Zoo.CLASSES


def test_a_wrapper_inside_of_the_model_leaves_no_prefix(tmp_path):
    model = nn.Sequential(nn.DataParallel(nn.Linear(1, 1)), nn.Linear(1, 1))
    stock, saved = both_saved(tmp_path, model)
    assert list(saved['state_dict']) == list(stock['state_dict'])
    assert '0.weight' in saved['state_dict']


@pytest.fixture
def gloo(tmp_path):
    torch.distributed.init_process_group(
        'gloo', f'file://{tmp_path}/group', rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.filterwarnings('default')
@pytest.mark.parametrize(
    'wrap', [nn.parallel.DistributedDataParallel, MMDistributedDataParallel])
def test_a_distributed_model_saves_what_the_plain_one_would(
        wrap, gloo, tmp_path):
    model = ToyModel()
    save_checkpoint(wrap(model), str(tmp_path / 'a.pth'))
    save_checkpoint(model, str(tmp_path / 'plain.pth'))
    assert equal(
        ours(tmp_path / 'a.pth')['state_dict'],
        ours(tmp_path / 'plain.pth')['state_dict'])


# -- the file --------------------------------------------------------------


def test_it_is_a_drop_in_for_mmcvs(tmp_path):
    # positional, as mmcv's runners call it
    save_checkpoint(ToyModel(), str(tmp_path / 'a.pth'), None, dict(a=1), None)
    assert ours(tmp_path / 'a.pth')['meta']['a'] == 1
    save_checkpoint(ToyModel(), tmp_path / 'path.pth')
    assert verify_checkpoint(str(tmp_path / 'path.pth')).records > 5


def test_missing_directories_are_made_and_nothing_is_left_over(tmp_path):
    save_checkpoint(ToyModel(), str(tmp_path / 'deep' / 'er' / 'a.pth'))
    assert os.listdir(tmp_path / 'deep' / 'er') == ['a.pth']


def test_a_name_relative_to_the_current_directory_works(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_checkpoint(ToyModel(), 'a.pth')
    assert names(tmp_path) == ['a.pth']


@pytest.mark.parametrize('filename', ['', 'directory/', 'file://'])
def test_a_filename_without_a_name_is_refused(filename, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match='names no file'):
        save_checkpoint(ToyModel(), filename)


@pytest.mark.parametrize('umask, mode', [(0o022, 0o644), (0o027, 0o640),
                                         (0o002, 0o664), (0o077, 0o600)])
def test_a_group_can_read_what_it_could_read_of_stock(umask, mode, tmp_path):
    before = os.umask(umask)
    try:
        save_checkpoint(ToyModel(), str(tmp_path / 'a.pth'))
    finally:
        os.umask(before)
    assert stat.S_IMODE(os.stat(tmp_path / 'a.pth').st_mode) == mode


class Failing(streams.BlockStream):
    """A disk that fills up after some bytes."""

    room = 0

    def write(self, data):
        if self.size_bytes + len(data) > self.room:
            with streams.mapped_errors('cannot write', self._path):
                raise OSError(errno.ENOSPC, 'No space left on device')
        return super().write(data)


@pytest.mark.parametrize('room', [0, 100, 2000, 8000])
def test_a_full_disk_leaves_the_checkpoint_that_was_there(
        room, tmp_path, monkeypatch):
    path = tmp_path / 'a.pth'
    save_checkpoint(Zoo(), str(path), meta=dict(iter=1))
    before = path.read_bytes()
    assert len(before) > room
    monkeypatch.setattr(streams, 'BlockStream', Failing)
    monkeypatch.setattr(Failing, 'room', room)
    with pytest.raises(OutOfSpaceError):
        save_checkpoint(Zoo(), str(path), meta=dict(iter=2))
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ['a.pth']


def test_the_kernels_own_refusal_leaves_the_checkpoint_that_was_there(
        tmp_path):
    path = tmp_path / 'a.pth'
    model = nn.Linear(300, 300)
    save_checkpoint(model, str(path), meta=dict(iter=1))
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100000, limits[1]))
    try:
        with pytest.raises(OutOfSpaceError, match='File too large'):
            save_checkpoint(model, str(path), meta=dict(iter=2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ['a.pth']


def test_an_error_while_writing_leaves_the_checkpoint_that_was_there(
        tmp_path, monkeypatch):
    path = tmp_path / 'a.pth'
    save_checkpoint(ToyModel(), str(path))
    before = path.read_bytes()

    def broken(stream, state, info):
        stream.write(b'PK\x03\x04')
        raise RuntimeError('CUDA error')

    monkeypatch.setattr(core, 'write_checkpoint', broken)
    with pytest.raises(RuntimeError, match='CUDA error'):
        save_checkpoint(ToyModel(), str(path))
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ['a.pth']


def test_a_directory_that_is_a_file_is_told_before_training_goes_on(tmp_path):
    (tmp_path / 'work').write_text('')
    with pytest.raises(StorageError, match='work'):
        save_checkpoint(ToyModel(), str(tmp_path / 'work' / 'a.pth'))


def test_a_tensor_that_cannot_be_saved_leaves_nothing(tmp_path):
    model = nn.Module()
    model.register_buffer('sparse', torch.eye(3).to_sparse())
    with pytest.raises((TypeError, CheckpointError), match='dense'):
        save_checkpoint(model, str(tmp_path / 'a.pth'))
    assert os.listdir(tmp_path) == []


def test_a_registered_storage_of_mmcv_gets_the_same_file(tmp_path):
    save_checkpoint(
        ToyModel(),
        str(tmp_path / 'a.pth'),
        file_client_args=dict(backend='disk'))
    assert names(tmp_path) == ['a.pth']
    assert verify_checkpoint(str(tmp_path / 'a.pth')).info['format'] == 1


def test_a_file_gets_no_name_of_a_folder(tmp_path):
    with pytest.raises(ConfigError) as caught:
        save_checkpoint(ToyModel(), tmp_path / 'a.dcp')
    assert os.listdir(tmp_path) == []
    assert f'{tmp_path}/a.dcp has the name of a sharded checkpoint' in str(
        caught.value)


def test_nor_does_that_of_a_runner(tmp_path):
    runner = make_runner(tmp_path)
    with pytest.raises(ConfigError, match='iter_0.dcp has the name'):
        runner.save_checkpoint(str(tmp_path), 'iter_{}.dcp')
    assert not list(tmp_path.glob('*.dcp'))
