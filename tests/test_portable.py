"""What stock mmcv puts in meta loads only with trust; ours loads anywhere."""
import collections
import collections.abc
import datetime
import enum
import io
import pathlib
import types
import uuid

import mmcv
import numpy as np
import pytest
import torch
from checkpoint_files import equal, written
from mmcv.utils import ConfigDict
from stock import WEIGHTS_ONLY

from mmcv_ckpt_hooks.loading import load_checkpoint
from mmcv_ckpt_hooks.portable import to_portable

pytestmark = pytest.mark.filterwarnings('error')

Point = collections.namedtuple('Point', 'x y')


class Colour(enum.Enum):
    RED = 'red'


class Level(enum.IntEnum):
    LOW = 1


class Name(str):
    """A text whose ``str`` is another one."""

    def __str__(self):
        return 'changed'


class Shouting:

    def __repr__(self):
        raise RuntimeError('no repr')


class Plain:

    def __repr__(self):
        return 'a plain object'


class FrozenDict(collections.abc.Mapping):
    """A mapping that can be a key."""

    def __init__(self, **items):
        self.items_given = items

    def __getitem__(self, key):
        return self.items_given[key]

    def __iter__(self):
        return iter(self.items_given)

    def __len__(self):
        return len(self.items_given)

    def __hash__(self):
        return 1


def _counter():
    return collections.Counter('aab')


REDUCED = [
    # what, reduced to
    (None, None),
    (True, True),
    (3, 3),
    (2.5, 2.5),
    (1j, 1j),
    ('text', 'text'),
    (b'\x00\xff', b'\x00\xff'),
    (np.float64(0.5), 0.5),
    (np.float32(0.5), 0.5),
    (np.float16(0.5), 0.5),
    (np.longdouble(0.5), 0.5),
    (np.complex64(1j), 1j),
    (np.clongdouble(1j), 1j),
    (np.int64(-3), -3),
    (np.uint8(3), 3),
    (np.bool_(True), True),
    (np.str_('a'), 'a'),
    (np.bytes_(b'a'), b'a'),
    (np.datetime64('2020-01-02'), '2020-01-02'),
    (np.timedelta64(3, 's'), '3 seconds'),
    (np.arange(3), [0, 1, 2]),
    (np.array(2.5), 2.5),
    (np.zeros((2, 0)), [[], []]),
    (np.array([[True], [False]]), [[True], [False]]),
    (np.zeros(2, np.longdouble), [0.0, 0.0]),
    (np.zeros(2, np.clongdouble), [0j, 0j]),
    (np.array(['a', 'bc']), ['a', 'bc']),
    (np.array([1, 'a', np.float64(2)], object), [1, 'a', 2.0]),
    (np.array(['2020-01-02'], 'M8[ns]'), ['2020-01-02T00:00:00.000000000']),
    (np.arange(6).reshape(2, 3).T, [[0, 3], [1, 4], [2, 5]]),
    (np.array([1], '>i4'), [1]),
    (np.dtype('float32'), 'float32'),
    (range(3), [0, 1, 2]),
    (collections.deque([1, 2]), [1, 2]),
    ((1, (2, [3])), (1, (2, [3]))),
    (Point(1, 2), (1, 2)),
    (torch.Size([1, 2]), (1, 2)),
    ({1, 2}, {1, 2}),
    (frozenset([1]), {1}),
    ({frozenset([2, 1])}, {(1, 2)}),
    (collections.defaultdict(list, a=[1]), dict(a=[1])),
    (_counter(), dict(a=2, b=1)),
    (types.MappingProxyType(dict(a=1)), dict(a=1)),
    (ConfigDict(a=dict(b=(1, np.int64(2)))), dict(a=dict(b=(1, 2)))),
    (mmcv.Config(dict(a=dict(b=range(2)))), dict(a=dict(b=[0, 1]))),
    (Colour.RED, 'red'),
    (Level.LOW, 1),
    (Name('kept'), 'kept'),
    (pathlib.PurePosixPath('/a/b'), '/a/b'),
    (datetime.date(2020, 1, 2), '2020-01-02'),
    (datetime.timedelta(seconds=3), '0:00:03'),
    (torch.device('cuda', 1), 'cuda:1'),
    (torch.float16, 'torch.float16'),
    (bytearray(b'a'), b'a'),
    (memoryview(b'a'), b'a'),
    ({
        np.int64(1): 'a'
    }, {
        1: 'a'
    }),
    ({
        np.float64(0.5): 'a'
    }, {
        0.5: 'a'
    }),
    ({
        Level.LOW: 'a'
    }, {
        1: 'a'
    }),
    ({
        (1, Colour.RED): 'a'
    }, {
        (1, 'red'): 'a'
    }),
    ({
        range(2): 'a'
    }, {
        (0, 1): 'a'
    }),
    ({
        frozenset(['b', 'a']): 1
    }, {
        ('a', 'b'): 1
    }),
    ({
        pathlib.PurePosixPath('x'): 1
    }, {
        'x': 1
    }),
]


@pytest.mark.parametrize('value, expected', REDUCED)
def test_a_value_in_meta_becomes_builtin_and_is_not_lost(value, expected):
    reduced, irreducible = to_portable(dict(meta=value), 'meta')
    assert equal(reduced, dict(meta=expected))
    assert irreducible == []


@pytest.mark.parametrize('value', [value for value, _ in REDUCED])
def test_a_resume_reads_every_reduced_value_back_without_trust(value):
    reduced, _ = to_portable(dict(meta=value), 'meta')
    content = written(reduced)
    assert equal(
        torch.load(io.BytesIO(content), weights_only=WEIGHTS_ONLY), reduced)
    assert equal(load_checkpoint(io.BytesIO(content), 'a.pth'), reduced)


@pytest.mark.parametrize('value', [
    value for value, _ in REDUCED
    if not isinstance(value, (types.MappingProxyType,
                              memoryview)) and 'FrozenDict' not in repr(value)
])
def test_the_callers_value_is_not_changed(value):
    before = repr(value)
    given = dict(meta=value)
    to_portable(given, 'meta')
    assert given['meta'] is value
    assert repr(value) == before


IRREDUCIBLE = [
    # what, what stands there instead, how the warning tells its type
    (Plain(), 'a plain object', 'Plain'),
    (len, '<built-in function len>', 'builtin_function_or_method'),
    (dict, "<class 'dict'>", 'type'),
    (uuid.UUID(int=0), "UUID('00000000-0000-0000-0000-000000000000')", 'UUID'),
    (np.zeros(1, [('a', 'i4')]), "array([(0,)], dtype=[('a', '<i4')])",
     "[('a', '<i4')] of numpy"),
    (b'', "b''", 'empty bytes'),
    (bytearray(), "b''", 'empty bytes'),
    (np.bytes_(b''), "b''", 'empty bytes'),
    (1 << 2001, hex(1 << 2001), 'int above 2000 bits'),
    (np.array([1 << 2001], object), [hex(1 << 2001)], 'int above 2000 bits'),
]


@pytest.mark.parametrize(
    'value, text, kind', IRREDUCIBLE, ids=range(len(IRREDUCIBLE)))
def test_what_cannot_be_reduced_is_named_with_its_place(value, text, kind):
    reduced, irreducible = to_portable(dict(a=[0, dict(b=value)]), 'meta')
    assert equal(reduced, dict(a=[0, dict(b=text)]))
    assert len(irreducible) == 1
    assert irreducible[0].startswith('meta.a[1].b')
    assert kind in irreducible[0]
    # and the file still loads
    content = io.BytesIO(written(reduced))
    assert equal(torch.load(content, weights_only=True), reduced)
    assert equal(load_checkpoint(content, 'a.pth'), reduced)


def test_an_object_that_cannot_be_shown_does_not_stop_a_save():
    reduced, irreducible = to_portable([Shouting()], 'meta')
    assert 'Shouting' in reduced[0]
    assert irreducible == ['meta[0] (Shouting)']


def test_a_megabyte_of_repr_does_not_go_into_every_checkpoint():

    class Wordy:

        def __repr__(self):
            return 'x' * (1 << 20)

    reduced, _ = to_portable(Wordy(), 'meta')
    assert len(reduced) <= 10000


def test_meta_that_contains_itself_is_saved():
    meta = dict(name='run')
    meta['self'] = meta
    meta['list'] = [meta]
    reduced, irreducible = to_portable(meta, 'meta')
    assert reduced == dict(name='run', self='...', list=['...'])
    assert irreducible == [
        'meta.self (contains itself)', 'meta.list[0] (contains itself)'
    ]


def test_the_same_list_twice_is_no_cycle():
    shared = [1]
    reduced, irreducible = to_portable(dict(a=shared, b=shared), 'meta')
    assert reduced == dict(a=[1], b=[1])
    assert irreducible == []


def test_a_tree_deeper_than_pythons_stack_is_saved():
    meta = []
    for _ in range(100000):
        meta = [meta]
    reduced, irreducible = to_portable(meta, 'meta')
    assert 'nested too deep' in irreducible[0]
    assert equal(load_checkpoint(io.BytesIO(written(reduced)), 'a'), reduced)
    # a list of 100,000 levels is freed one by one, not by recursion
    while meta:
        meta = meta.pop()


def test_the_deepest_tree_that_is_kept_loads_again():
    meta = 'bottom'
    for _ in range(100):
        meta = (meta, )
    reduced, irreducible = to_portable(meta, 'meta')
    assert irreducible == []
    content = io.BytesIO(written(reduced))
    assert equal(load_checkpoint(content, 'a.pth'), meta)


def test_two_keys_that_become_one_are_not_lost_in_silence():
    meta = {'a': 1, pathlib.PurePosixPath('a'): 2}
    _, irreducible = to_portable(meta, 'meta')
    assert irreducible == ["meta (two keys 'a')"]


def test_a_tensor_as_a_key_does_not_make_a_file_that_nobody_reads():
    key = torch.zeros(1)
    for value in ({key: 1}, {(1, key): 1}, {key}):
        reduced, irreducible = to_portable(value, 'meta')
        assert irreducible == ['meta (a key) (Tensor)']
        assert equal(
            load_checkpoint(io.BytesIO(written(reduced)), 'a'), reduced)


def test_tensors_share_memory_and_need_no_gradient():
    parameter = torch.nn.Parameter(torch.ones(2))
    reduced, _ = to_portable(dict(a=[parameter]), 'state_dict')
    tensor = reduced['a'][0]
    assert type(tensor) is torch.Tensor and not tensor.requires_grad
    assert tensor.data_ptr() == parameter.data_ptr()


def test_a_state_dict_keeps_its_order_and_versions():

    class Own(collections.OrderedDict):
        pass

    for kind in (collections.OrderedDict, Own):
        state = kind(b=1, a=2)
        state._metadata = collections.OrderedDict({'': dict(version=2)})
        reduced, _ = to_portable(state, 'state_dict')
        assert type(reduced) is collections.OrderedDict
        assert list(reduced) == ['b', 'a']
        assert equal(reduced._metadata, state._metadata)
