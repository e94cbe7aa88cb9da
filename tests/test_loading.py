"""Every file that stock writes loads, and none of them executes anything."""
import collections
import io
import os
import random
import sys
import types

import numpy as np
import pytest
import torch
from checkpoint_files import (Payload, equal, record_of, rewritten,
                              torch_written, torch_zip, written)

from mmcv_ckpt_hooks import scanning
from mmcv_ckpt_hooks.errors import (TRUST, CorruptError, IntegrityError,
                                    ResumeError, StorageError, TruncatedError,
                                    UnsafeCheckpointError, UnverifiableError)
from mmcv_ckpt_hooks.loading import load_checkpoint

pytestmark = pytest.mark.filterwarnings('error')


def load(content, trust=False):
    return load_checkpoint(io.BytesIO(content), 'iter_3.pth', trust)


def full_load(content):
    return torch.load(io.BytesIO(content), weights_only=False)


def model_state():
    model = torch.nn.Sequential(
        torch.nn.Conv2d(2, 3, 1), torch.nn.BatchNorm2d(3))
    return model.state_dict()


def trained_optimizer(kind):
    model = torch.nn.Linear(2, 3)
    optimizer = kind(model.parameters(), lr=np.float64(0.1))
    model(torch.ones(2)).sum().backward()
    optimizer.step()
    return optimizer.state_dict()


def momentum(parameters, lr):
    return torch.optim.SGD(parameters, lr=lr, momentum=0.9)


def cyclic():
    tree = dict(name='a')
    tree['self'] = tree
    return tree


STOCK = {
    'state dict':
    model_state,
    'Adam':
    lambda: trained_optimizer(torch.optim.Adam),
    'SGD':
    lambda: trained_optimizer(momentum),
    'numpy scalars':
    lambda: dict(
        best_score=np.float64(0.75),
        a=np.float32(1.5),
        b=np.int64(-1),
        c=np.bool_(True),
        d=np.str_('é'),
        e=np.bytes_(b'a'),
        f=np.float16(2),
        g=np.complex128(1j),
        h=np.uint8(255),
        i=np.longdouble(0.5)),
    'empty numpy scalars':
    lambda: [np.str_(''), np.bytes_(b'')],
    'numpy arrays':
    lambda: [
        np.arange(6.).reshape(2, 3),
        np.arange(6).reshape(2, 3).T,
        np.zeros((0, 3)),
        np.array(3),
        np.array(['a', 'bc']),
        np.array([b'a']),
        np.array([True]),
        np.array([1j]),
        np.array([1, 2], '>i4'),
        np.zeros(2, np.float16),
        np.arange(10)[::-2]
    ],
    'numpy dtype':
    lambda: [np.dtype('float32'), np.dtype('U5')],
    'numpy generator':
    np.random.get_state,
    'python generator':
    random.getstate,
    'torch generator':
    torch.get_rng_state,
    'range':
    lambda: dict(gpu_ids=range(2), back=range(9, 0, -3)),
    'defaultdicts':
    lambda: [
        collections.defaultdict(list, a=[1]),
        collections.defaultdict(int, a=1),
        collections.defaultdict(float),
        collections.defaultdict(dict),
        collections.defaultdict(set),
        collections.defaultdict(str),
        collections.defaultdict(bool),
        collections.defaultdict(None, b=2)
    ],
    'Counter':
    lambda: collections.Counter('aab'),
    'OrderedDict':
    lambda: collections.OrderedDict(b=1, a=2),
    'sets':
    lambda: [{1, 2}, set(), frozenset('a'), {
        (1, 'a'): {2}
    }],
    'parameter':
    lambda: dict(a=torch.nn.Parameter(torch.ones(2))),
    'bfloat16':
    lambda: torch.arange(4).bfloat16(),
    'half':
    lambda: torch.arange(4).half(),
    'bool':
    lambda: torch.tensor([True, False]),
    'complex':
    lambda: torch.tensor([1 + 2j]),
    'lazy conjugate':
    lambda: torch.tensor([1 + 2j]).conj(),
    'lazy negative':
    lambda: torch.tensor([1 + 2j]).conj().imag,
    **{
        # torch >= 2.1, torch >= 2.3
        name: lambda name=name: torch.ones(3).to(getattr(torch, name))
        for name in ('float8_e4m3fn', 'uint16') if hasattr(torch, name)
    },
    'scalar tensor':
    lambda: torch.tensor(3.5),
    'empty tensor':
    lambda: torch.empty(0, 3),
    'transposed':
    lambda: torch.arange(6.).reshape(2, 3).t(),
    'expanded':
    lambda: torch.ones(1).expand(5),
    'sliced':
    lambda: torch.arange(9)[2:5],
    'torch.Size':
    lambda: dict(shape=torch.Size([1, 2])),
    'device':
    lambda: [torch.device('cpu'), torch.device('cuda', 1)],
    'dtype':
    lambda: [torch.float32, torch.bfloat16, torch.bool],
    'bytes':
    lambda: [b'', b'\x00\xff',
             bytearray(b''), bytearray(b'a')],
    'numbers':
    lambda: [1 << 100, -(1 << 3000), 1e300,
             float('nan'), 2j, True],
    'text':
    lambda: ['', 'é', 'x' * 300, '\ud800'],
    'tuples':
    lambda: [(), (1, ), (1, 2), (1, 2, 3), (1, 2, 3, 4), ((), )],
    'state dict with meta':
    lambda: dict(
        meta=dict(epoch=1, hook_msgs=dict(best_score=np.float64(1))),
        state_dict=model_state()),
}


def as_loaded(tree):
    """Parameters come back as tensors: what is loaded needs no gradient."""
    if isinstance(tree, dict) and type(tree.get('a')) is torch.nn.Parameter:
        return dict(a=tree['a'].detach())
    return tree


@pytest.mark.parametrize('name', STOCK)
def test_what_stock_writes_loads_without_trust(name):
    content = torch_written(STOCK[name]())
    expected = as_loaded(full_load(content))
    assert equal(load(content), expected)
    assert equal(load(content, trust=True), expected)


@pytest.mark.parametrize('name', STOCK)
@pytest.mark.parametrize('protocol', [3, 4])
def test_other_pickle_protocols_load_as_well(name, protocol):
    content = torch_written(STOCK[name](), pickle_protocol=protocol)
    assert equal(load(content), as_loaded(full_load(content)))


def test_strides_and_shared_memory_survive():
    flat = torch.arange(12.)
    tree = dict(a=flat.reshape(3, 4).t(), b=flat[2:4], c=flat)
    loaded = load(torch_written(tree))
    assert loaded['a'].stride() == (1, 4)
    loaded['c'].fill_(7)
    assert bool((loaded['a'] == 7).all()) and bool((loaded['b'] == 7).all())


def test_a_dict_that_contains_itself_loads():
    loaded = load(torch_written(cyclic()))
    assert loaded['self'] is loaded


def test_the_same_array_twice_stays_one():
    array = np.arange(3)
    loaded = load(torch_written([array, (array, ), dict(a=array)]))
    assert loaded[0] is loaded[1][0] is loaded[2]['a']


def test_one_array_inside_of_many_shared_tuples_does_not_take_for_ever():
    shared = (np.arange(3), )
    for _ in range(60):
        shared = (shared, shared)
    assert len(load(torch_written(shared))) == 2


def test_many_shared_tuples_do_not_take_for_ever():
    shared = ()
    for _ in range(60):
        shared = (shared, shared)
    assert len(load(torch_written(dict(meta=shared)))['meta']) == 2


def test_a_checkpoint_can_be_loaded_twice_from_one_open_file():
    file = io.BytesIO(written(STOCK['state dict with meta']()))
    assert equal(load_checkpoint(file, 'a'), load_checkpoint(file, 'a'))
    assert not file.closed


def test_loaded_tensors_belong_to_the_run_not_to_the_file(tmp_path):
    path = tmp_path / 'a.pth'
    path.write_bytes(written(dict(a=torch.ones(3))))
    with open(path, 'rb') as file:
        loaded = load_checkpoint(file, str(path))
    loaded['a'].add_(1)
    with open(path, 'rb') as file:
        assert load_checkpoint(file, str(path))['a'][0] == 1


# -- damaged files ---------------------------------------------------------


def test_a_flipped_weight_is_found_while_loading():
    content = bytearray(torch_written(dict(a=torch.arange(100.))))
    content[content.index(torch.arange(100.).numpy().tobytes()) + 8] ^= 1
    assert full_load(bytes(content))  # torch does not notice
    with pytest.raises(CorruptError, match='data/0'):
        load(bytes(content))


def test_a_flipped_bit_of_the_pickle_is_found_while_loading():
    content = bytearray(written(dict(meta=dict(iter=77), name='resnet')))
    content[content.index(b'resnet')] ^= 1
    with pytest.raises(CorruptError, match='data.pkl'):
        load(bytes(content))


def test_a_truncated_file_is_found_while_loading():
    content = written(dict(a=torch.ones(3)))
    with pytest.raises(TruncatedError):
        load(content[:-1])


@pytest.mark.parametrize('size', [0, 8, 11, 13, 16])
def test_a_storage_record_of_another_size_is_refused(size):
    content = rewritten(
        written(dict(a=torch.ones(3))), lambda name, data: bytes(size)
        if name.endswith('data/0') else data)
    with pytest.raises(CorruptError, match=f'its record has {size}'):
        load(content)


def test_a_missing_storage_is_refused():
    content = rewritten(
        written(dict(a=torch.ones(3))), lambda name, data: None
        if name.endswith('data/0') else data)
    with pytest.raises(CorruptError, match="storage '0' has no record"):
        load(content)


def test_a_record_beside_the_folder_is_not_taken_for_one_inside():
    # 'archive/' has as many characters as '.xxxxxx/'
    honest = written(dict(a=torch.ones(3)))
    pickled = record_of(honest, 'data.pkl')
    content = torch_zip(pickled, more=[('.xxxxxx/data/0', bytes(12))])
    with pytest.raises(CorruptError, match='has no record'):
        load(content)


@pytest.mark.parametrize('order', [b'big', b'', b'little' * 100])
def test_weights_of_another_byte_order_are_not_loaded_as_garbage(order):
    content = torch_zip(
        record_of(written(dict(a=1)), 'data.pkl'), byteorder=order)
    with pytest.raises(CorruptError, match='byte order'):
        load(content)


def test_files_of_torch_before_2_1_have_no_byte_order():
    content = rewritten(
        torch_written(dict(a=torch.ones(3))), lambda name, data: None
        if name.endswith('byteorder') else data)
    assert equal(load(content), dict(a=torch.ones(3)))


def test_a_huge_pickle_is_not_read_into_memory(monkeypatch):
    monkeypatch.setattr(scanning, '_PICKLE_LIMIT_BYTES', 100)
    content = written(dict(a='x' * 200))
    with pytest.raises(UnsafeCheckpointError, match='expected at most 100') \
            as caught:
        load(content)
    assert TRUST in str(caught.value)


def test_a_machine_without_memory_does_not_call_the_file_damaged(monkeypatch):
    content = written(dict(a=torch.ones(3)))
    empty = torch.empty

    def full(*size, **kwargs):
        if size == (3, ):
            raise RuntimeError("can't allocate memory")
        return empty(*size, **kwargs)

    monkeypatch.setattr(torch, 'empty', full)
    with pytest.raises(MemoryError, match='12 bytes'):
        load(content)


# -- trust -----------------------------------------------------------------


class Custom:

    def __init__(self):
        self.value = 3

    def __eq__(self, other):
        return type(other) is Custom and other.value == self.value


def test_a_file_with_a_class_needs_trust_and_then_loads():
    content = torch_written(dict(a=Custom(), b=torch.ones(2)))
    with pytest.raises(UnsafeCheckpointError) as caught:
        load(content)
    assert 'test_loading.Custom' in str(caught.value)
    assert 'DurableCheckpointHook trust_checkpoint=True' in str(caught.value)
    assert 'torch.load' in str(caught.value)
    assert 'iter_3.pth' in str(caught.value)
    loaded = load(content, trust=True)
    assert loaded['a'] == Custom() and equal(loaded['b'], torch.ones(2))


def test_trust_works_where_there_is_no_local_file():
    # an object store gives a stream; there is no path to open
    content = torch_written(dict(a=Custom()))
    loaded = load_checkpoint(io.BytesIO(content), 's3://bucket/a.pth', True)
    assert loaded['a'] == Custom()


def test_trusted_files_are_still_checked_for_damage():
    content = bytearray(torch_written(dict(a=Custom(), b=torch.arange(9.))))
    content[content.index(torch.arange(9.).numpy().tobytes()) + 4] ^= 1
    with pytest.raises(CorruptError, match='data/0'):
        load(bytes(content), trust=True)


def legacy(tree):
    return torch_written(tree, _use_new_zipfile_serialization=False)


def test_files_of_torch_before_1_6_load_with_trust():
    content = legacy(dict(a=torch.ones(3)))
    with pytest.raises(UnverifiableError, match='trust_checkpoint=True'):
        load(content)
    assert equal(load(content, trust=True), dict(a=torch.ones(3)))


def test_a_truncated_file_of_torch_before_1_6_is_an_integrity_error():
    content = legacy(dict(a=torch.ones(300)))
    for length in range(2, len(content), 97):
        with pytest.raises(IntegrityError):
            load(content[:length], trust=True)


def test_a_class_that_is_not_installed_here_is_told(monkeypatch):
    module = types.ModuleType('some_repo')
    module.Thing = type('Thing', (), dict(__module__='some_repo'))
    monkeypatch.setitem(sys.modules, 'some_repo', module)
    content = torch_written(dict(a=module.Thing()))
    del module.Thing
    with pytest.raises(ResumeError, match='needs code'):
        load(content, trust=True)
    monkeypatch.delitem(sys.modules, 'some_repo')
    with pytest.raises(ResumeError, match='some_repo'):
        load(content, trust=True)


@pytest.fixture
def canary(tmp_path):
    """A file that no test may find after loading."""
    path = tmp_path / 'executed'
    yield str(path)
    assert not path.exists()


@pytest.mark.parametrize('function', [os.system, os.mkdir, open, eval, exec])
@pytest.mark.parametrize('legacy_format', [False, True])
def test_a_payload_in_a_checkpoint_does_not_run(function, legacy_format,
                                                canary):
    argument = {
        os.system: f'touch {canary}',
        eval: f'open({canary!r}, "w")',
        exec: f'open({canary!r}, "w")',
    }.get(function, canary)
    arguments = (argument, 'w') if function is open else (argument, )
    write = legacy if legacy_format else torch_written
    content = write(dict(meta=Payload(function, *arguments)))
    with pytest.raises((UnsafeCheckpointError, UnverifiableError)):
        load(content)


def test_a_damaged_payload_does_not_run_with_trust_either(canary):
    content = torch_written(
        dict(a=torch.arange(9.), b=Payload(os.mkdir, canary)))
    content = bytearray(content)
    content[content.index(torch.arange(9.).numpy().tobytes())] ^= 1
    with pytest.raises(CorruptError):
        load(bytes(content), trust=True)


def test_an_error_of_the_medium_is_no_damage():

    class Gone(io.BytesIO):

        def read(self, *args):
            raise OSError(116, 'Stale file handle')

    with pytest.raises(StorageError, match='Stale'):
        load_checkpoint(Gone(written(dict(a=1))), 'a.pth')
