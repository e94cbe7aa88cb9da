"""safetensors files: written, read by others, and hostile ones."""
import io
import json
import math
import random
from collections import OrderedDict

import numpy as np
import pytest
import torch
from checkpoint_files import equal

from mmcv_ckpt_hooks.converting import flat_file
from mmcv_ckpt_hooks.errors import (CheckpointError, ConfigError, CorruptError,
                                    IntegrityError, ResumeError,
                                    TruncatedError)
from mmcv_ckpt_hooks.flat_files.header import BITS, header_bytes, read_header
from mmcv_ckpt_hooks.flat_files.metadata import own_of
from mmcv_ckpt_hooks.flat_files.outlining import outlined
from mmcv_ckpt_hooks.flat_files.reading import read_flat
from mmcv_ckpt_hooks.flat_files.verification import verify_flat
from mmcv_ckpt_hooks.staging import reference


def flat(tree, card=None):
    stream = io.BytesIO()
    flat_file(reference(tree), card or {}).write(stream)
    return stream.getvalue()


def back(tree):
    return read_flat(io.BytesIO(flat(tree)), 'a.safetensors').fields


def crafted(entries, data=b'', texts=None, header=None):
    """A file with any header."""
    content = dict(entries)
    if texts is not None:
        content['__metadata__'] = texts
    header = json.dumps(content).encode() if header is None else header
    return len(header).to_bytes(8, 'little') + header + data


def entry(start, stop, dtype='U8', shape=None):
    return dict(
        dtype=dtype,
        shape=[stop - start] if shape is None else shape,
        data_offsets=[start, stop])


# -- what comes back ----------------------------------------------------------

DTYPES = [
    'float64', 'float32', 'float16', 'bfloat16', 'int64', 'int32', 'int16',
    'int8', 'uint8', 'bool', 'complex64', 'float8_e4m3fn', 'float8_e5m2',
    'uint16', 'uint32', 'uint64'
]


@pytest.mark.parametrize('name', DTYPES)
@pytest.mark.parametrize('shape', [(), (0, ), (3, 0, 2), (5, ), (2, 3)])
def test_every_type_and_shape_comes_back_bit_by_bit(name, shape):
    dtype = getattr(torch, name, None)
    if dtype is None:
        pytest.skip(f'torch {torch.__version__} has no {name}')
    numel = math.prod(shape)
    size = torch.empty(0, dtype=dtype).element_size()
    raw = torch.randint(0, 2, (numel * size, ), dtype=torch.uint8)
    value = raw.view(dtype).reshape(shape)
    found = back(dict(state_dict=dict(a=value)))['state_dict']['a']
    assert found.dtype is dtype and found.shape == value.shape
    assert torch.equal(found.reshape(-1).view(torch.uint8), raw)


@pytest.mark.parametrize('name', DTYPES)
def test_the_library_reads_every_type(name):
    library = pytest.importorskip('safetensors.torch')
    dtype = getattr(torch, name, None)
    if dtype is None:
        pytest.skip(f'torch {torch.__version__} has no {name}')
    raw = torch.randint(0, 2, (24, ), dtype=torch.uint8)
    found = library.load(flat(dict(state_dict={'a.b': raw.view(dtype)})))
    assert [*found] == ['a.b'] and found['a.b'].dtype is dtype
    assert torch.equal(found['a.b'].view(torch.uint8), raw)


def test_what_is_no_tensor_comes_back_with_its_types():
    tree = {
        'text': 'a "b" \u2028 \udc80 $',
        'numbers': [1, -2**70, 1.5, -0.0, math.inf, -math.inf, True, None],
        'nested': ({1, 2}, frozenset([3]), (), [[]], {}),
        'bytes': [b'\0\xff', bytearray(b'a'), 1 + 2j],
        'keys': {
            1: 'int',
            (2, 'b'): 'tuple',
            None: 'none',
            False: 'bool'
        },
        '$': {
            '$': 'tensor'
        },
        'ordered': OrderedDict(b=1, a=2),
        'range': range(3, 9, 2),
        'torch': [torch.float16, torch.Size([2, 3])],
        'random': random.Random(3).getstate(),
    }
    found = back(tree)
    assert repr(found) == repr(tree)
    assert math.isnan(back([math.nan])[0])


def test_values_of_numpy_come_back():
    tree = [
        np.float64(.25),
        np.arange(6).reshape(2, 3),
        np.array('ab'),
        np.zeros(0, np.float32),
        np.zeros((0, 3), np.int16),
        np.zeros((2, 0), 'U3'),
        np.str_(''),
        np.bytes_(b''),
        np.datetime64('2026-11-28T01:02', 'ns'),
        np.array([3, 4], 'm8[25s]'),
        np.bool_(True),
        np.complex64(1 + 2j),
        np.longdouble(.5),
    ]
    for one, other in zip(back(tree), tree):
        assert type(one) is type(other) and one.dtype == other.dtype
        assert np.array_equal(one, other) and one.shape == other.shape
    report = verify_flat(io.BytesIO(flat(tree)), 'a.safetensors')
    assert report.records == 0 and report.note == ''


def test_the_versions_of_modules_come_back():
    state = torch.nn.Sequential(torch.nn.BatchNorm1d(2)).state_dict()
    found = back(dict(state_dict=state))['state_dict']
    assert type(found) is OrderedDict and [*found] == [*state]
    assert found._metadata == state._metadata


def test_tied_weights_are_tied_again_and_others_read_both():
    library = pytest.importorskip('safetensors.torch')
    weight = torch.arange(4.)
    tree = dict(state_dict=dict(b=weight, a=weight.view(4)))
    plain = library.load(flat(tree))
    assert torch.equal(plain['a'], weight) and torch.equal(plain['b'], weight)
    found = back(tree)['state_dict']
    assert found['a'].data_ptr() == found['b'].data_ptr()


def test_parts_of_one_memory_are_counted_and_come_back_apart():
    memory = torch.arange(10.)
    tree = dict(
        state_dict=dict(
            a=memory[:6], b=memory[4:], c=memory.view(2, 5).t(),
            d=memory[1:3]))
    assert flat_file(reference(tree), {}).parted == 3
    assert equal(back(tree), tree)
    apart = dict(state_dict=dict(a=memory[:5], b=memory[5:]))
    assert flat_file(reference(apart), {}).parted == 0


def test_a_name_that_is_taken_gets_a_number():
    tree = {
        'state_dict': {
            'optimizer.x': torch.zeros(1),
            '__metadata__': torch.ones(1),
            1: torch.ones(2),
            '1': torch.ones(3),
            'a\udc80': torch.ones(4),
        },
        'optimizer': {
            'x': torch.full((1, ), 7.)
        }
    }
    library = pytest.importorskip('safetensors.torch')
    assert sorted(library.load(flat(tree))) == [
        '1', '1~2', '__metadata__~2', 'a\\udc80', 'optimizer.x',
        'optimizer.x~2'
    ]
    assert equal(back(tree), tree)


def test_the_same_checkpoint_has_the_same_bytes():
    tree = dict(state_dict=dict(b=torch.ones(3), a=torch.ones(1).half()))
    assert flat(tree) == flat(tree)


def test_every_tensor_is_aligned():
    data = flat(
        dict(
            state_dict=dict(
                a=torch.ones(3, dtype=torch.uint8),
                b=torch.ones(3).double(),
                c=torch.ones(3).half(),
                d=torch.ones(3))))
    header = read_header(io.BytesIO(data), 'a')
    assert header.begin % 8 == 0
    assert {name: one.start for name, one in header.entries.items()} == \
        dict(b=0, d=24, c=36, a=42)


def test_others_find_the_weights_and_what_transformers_asks_for():
    safetensors = pytest.importorskip('safetensors')
    data = flat(dict(state_dict=dict(a=torch.ones(2)), meta=dict(iter=4)))
    header = read_header(io.BytesIO(data), 'a')
    assert header.texts['format'] == 'pt'
    assert safetensors.deserialize(data)[0][0] == 'a'


@pytest.mark.parametrize('tree, said', [
    (dict(a=torch.ones(1, dtype=torch.complex128)),
     'safetensors cannot hold a of type torch.complex128: convert to .pth'),
    (dict(meta=dict(a=object())),
     'meta.a is of the type builtins.object, which a safetensors file'),
])
def test_what_it_cannot_hold_is_said(tree, said):
    with pytest.raises(ConfigError) as caught:
        flat(tree)
    assert said in str(caught.value)


def test_what_is_nested_too_deep_is_said():
    tree = []
    for _ in range(150):
        tree = [tree]
    with pytest.raises(ConfigError, match='nested more than 100 deep'):
        flat(tree)


def test_more_values_than_a_reader_takes_are_not_written(monkeypatch):
    from mmcv_ckpt_hooks.flat_files import writing
    tree = dict(meta=[1] * 200)
    flat(tree)
    for name, limit in (('VALUES_LIMIT', 100), ('LIMIT_BYTES', 100)):
        with monkeypatch.context() as patch:
            patch.setattr(writing, name, limit)
            with pytest.raises(ConfigError, match='Convert to .pth or .dcp'):
                flat(tree)


# -- files of others ----------------------------------------------------------


def test_a_file_of_the_library_is_weights(tmp_path):
    library = pytest.importorskip('safetensors.torch')
    weights = dict(b=torch.ones(3), a=torch.ones(2).bfloat16())
    path = tmp_path / 'a.safetensors'
    library.save_file(weights, str(path), dict(note='mine'))
    with open(str(path), 'rb') as file:
        found = read_flat(file, str(path))
    assert equal(dict(found.fields['state_dict']), weights)
    assert found.fields['meta'] == dict(safetensors=dict(note='mine'))
    assert 'it has no checksums' in found.note and found.digest == ''


def test_one_that_is_not_aligned_is_read():
    header = json.dumps(dict(a=entry(0, 8, 'F32', [2]))).encode()
    header += b' ' * (3 - len(header) % 8)
    value = torch.tensor([1., 2.])
    data = crafted({}, value.numpy().tobytes(), header=header)
    found = read_flat(io.BytesIO(data), 'a').fields['state_dict']['a']
    assert torch.equal(found, value)


HOSTILE = [
    (b'', TruncatedError, 'has 0 bytes, expected at least 8'),
    ((1 << 40).to_bytes(8, 'little') + b'{}', CorruptError,
     'claims 1099511627776 bytes, expected at most 100000000'),
    ((90 << 20).to_bytes(8, 'little') + b'{}', TruncatedError,
     'claims 94371840 bytes, but the file has 10'),
    (crafted({}, header=b'\xff{}'), CorruptError, 'it is no JSON'),
    (crafted({}, header=b'[1]'), CorruptError, 'it is [1], expected an obj'),
    (crafted({}, header=b'[' * 200000), CorruptError, 'it is no JSON'),
    (crafted({}, header=b'{"a":1,"a":2}'), CorruptError, 'stands twice'),
    (crafted({}, header=b'{"a":[' + b'[],' * (5 << 20) + b'0]}'), CorruptError,
     'asks for 10485762 values, expected at most 8388608'),
    (crafted({'a': 3}), CorruptError, "its tensor 'a' is 3"),
    (crafted({'a': entry(0, 4, 'Q8')}, bytes(4)), CorruptError,
     "has the type 'Q8', known are: BF16, BOOL"),
    (crafted({'a': entry(0, 4, shape=[-4])},
             bytes(4)), CorruptError, 'has the shape [-4]'),
    (crafted({'a': entry(0, 4, shape=[True] * 4)},
             bytes(4)), CorruptError, 'has the shape'),
    (crafted({'a': entry(0, 4, shape=[1 << 62] * 99)},
             bytes(4)), CorruptError, 'has the shape'),
    (crafted({'a': entry(0, 4, 'F32', [1 << 62, 4])}, bytes(4)), CorruptError,
     'and shape [4611686018427387904, 4] has 4 bytes'),
    (crafted({'a': dict(entry(0, 4), data_offsets=[4, 0])},
             bytes(4)), CorruptError, 'has -4 bytes'),
    (crafted({
        'a': entry(0, 4),
        'b': entry(2, 6)
    }, bytes(6)), CorruptError, "its tensors 'a' and 'b' overlap"),
    (crafted({
        'a': entry(0, 4),
        'b': entry(6, 8)
    }, bytes(8)), CorruptError, '2 bytes before its tensor'),
    (crafted({'a': entry(0, 4)},
             bytes(3)), TruncatedError, 'has 3 bytes of tensors, expected 4'),
    (crafted({'a': entry(0, 4)},
             bytes(5)), CorruptError, '1 byte at its end belong to no tensor'),
    (crafted({}, texts={'a': 1}), CorruptError, '__metadata__ is'),
]


@pytest.mark.parametrize(
    'data, kind, said', HOSTILE, ids=[said for *_, said in HOSTILE])
@pytest.mark.parametrize('read', [read_flat, verify_flat])
def test_a_hostile_header_is_refused_in_words(data, kind, said, read):
    with pytest.raises(IntegrityError) as caught:
        read(io.BytesIO(data), 'a.safetensors')
    assert type(caught.value) is kind
    assert 'a.safetensors' in str(caught.value) and said in str(caught.value)


def own(tree, **changed):
    values = {**dict(version=1, card={}, crc32={}, tree=tree), **changed}
    return crafted({}, texts={'mmcv_ckpt_hooks': json.dumps(values)})


@pytest.mark.parametrize('tree', [
    {'$': 'eval', 'text': '1'},
    {'$': ['list']},
    {'$': 'tensor', 'name': 'gone'},
    {'$': 'tensor'},
    {'$': 'dict', 'items': [[[1], 2]]},
    {'$': 'dict', 'items': [[(1 << 61) - 1, 2]]},
    {'$': 'dict', 'items': 3},
    {'$': 'set', 'items': [{'$': 'bytearray', 'base64': ''}]},
    {'$': 'Size', 'items': ['a']},
    {'$': 'range', 'items': [1, 2, 0]},
    {'$': 'float', 'hex': 'zz'},
    {'$': 'bytes', 'base64': '!'},
    {'$': 'dtype', 'text': 'torch.nn'},
    {'$': 'device', 'text': 'moon'},
    {'$': 'numpy', 'dtype': '|O8', 'shape': [1], 'base64': 'AAAAAAAAAAA='},
    {'$': 'numpy', 'dtype': '<i4,<i4', 'shape': [1], 'base64': 'AAAAAAAAAAA='},
    {'$': 'numpy', 'dtype': '<f8', 'shape': [2], 'base64': 'AAAAAAAAAAA='},
    {'$': 'numpy', 'dtype': '<f8', 'shape': None, 'base64': ''},
    {'$': 'numpy', 'dtype': '<f7', 'shape': None, 'base64': 'AAAAAAAAAA=='},
    {'$': 'numpy', 'dtype': '<f8', 'shape': [-1], 'base64': 'AAAAAAAAAAA='},
    {'$': 'numpy', 'dtype': '<f8', 'shape': 1, 'base64': 'AAAAAAAAAAA='},
    {'$': 'numpy', 'dtype': '<U0', 'shape': [1 << 60], 'base64': ''},
    {'$': 'numpy', 'dtype': '<M8[foo]', 'shape': None,
     'base64': 'AAAAAAAAAAA='},
])  # yapf: disable
@pytest.mark.parametrize('read', [read_flat, verify_flat])
def test_a_hostile_tree_is_refused_in_words(tree, read):
    with pytest.raises(CorruptError, match='are malformed: ') as caught:
        read(io.BytesIO(own(tree)), 'a.safetensors')
    assert "a.safetensors: its metadata 'mmcv_ckpt_hooks'" in \
        str(caught.value)


def test_a_tree_nested_without_end_is_refused():
    for depth in (300, 100000):
        text = json.dumps(dict(version=1, card={}, crc32={}, tree=0))
        text = text.replace('"tree": 0', f'"tree": {"[" * depth}{"]" * depth}')
        data = crafted({}, texts={'mmcv_ckpt_hooks': text})
        with pytest.raises(CheckpointError, match='malformed'):
            read_flat(io.BytesIO(data), 'a')


@pytest.mark.parametrize('changed, said', [
    (dict(version=2), 'is of version 2'),
    (dict(version='1'), 'malformed'),
    (dict(card=1), 'malformed'),
    (dict(crc32={'a': '0'}), 'it has not the checksums of its tensors'),
])
def test_metadata_that_are_not_ours_are_refused(changed, said):
    with pytest.raises(CorruptError, match=said):
        read_flat(io.BytesIO(own({}, **changed)), 'a')


@pytest.mark.parametrize('read', [read_flat, verify_flat])
def test_every_flipped_byte_of_a_tensor_is_found(read):
    data = flat(dict(state_dict=dict(a=torch.arange(3.))))
    begin = read_header(io.BytesIO(data), 'a').begin
    for at in range(begin, len(data)):
        broken = bytearray(data)
        broken[at] ^= 1
        with pytest.raises(CorruptError, match="tensor 'a' is damaged"):
            read(io.BytesIO(bytes(broken)), 'a')


@pytest.mark.parametrize('read', [read_flat, verify_flat])
def test_one_that_was_cut_off_is_refused_everywhere(read):
    data = flat(dict(state_dict=dict(a=torch.arange(3.))))
    for size in range(len(data)):
        with pytest.raises(IntegrityError):
            read(io.BytesIO(data[:size]), 'a')


@pytest.mark.parametrize('told', ['F4', 'F6_E2M3'])
def test_a_type_that_this_torch_lacks_is_no_damage(told):
    nbytes = BITS[told]
    data = crafted({'w': entry(0, nbytes, told, [8])}, bytes(nbytes))
    with pytest.raises(ResumeError) as caught:
        read_flat(io.BytesIO(data), 'a.safetensors')
    assert str(caught.value).startswith(
        f"a.safetensors: tensor 'w' is of the type {told}, which torch "
        f'{torch.__version__} does not have. The file is not damaged')
    assert verify_flat(io.BytesIO(data), 'a').bytes == len(data)


def test_what_no_reader_takes_is_not_written():
    with pytest.raises(ConfigError, match='Convert to .pth or .dcp'):
        flat(dict(meta={(1 << 61) - 1: 'a key that hashes slowly'}))


def test_what_describes_takes_what_builds():
    """Both readers of a tree agree on a real one."""
    tree = dict(
        state_dict=OrderedDict(a=torch.ones(2, 3)),
        meta=dict(
            size=torch.Size([2, 3]),
            kind=torch.bfloat16,
            where=torch.device('cuda:1'),
            keys={
                torch.float16: 1,
                np.float64(2): 2,
                (1, 2): 3
            }))
    data = flat(tree)
    header = read_header(io.BytesIO(data), 'a')
    found = outlined(header, own_of(header, 'a'), 'a')
    assert equal(back(tree)['meta'], tree['meta'])
    assert found['meta']['size'] == (2, 3)
    assert repr(found['meta']['kind']) == 'torch.bfloat16'
    assert repr(found['meta']['where']) == 'cuda:1'
    assert len(found['meta']['keys']) == 3
    one = found['state_dict']['a']
    assert (one.dtype.name, one.shape, one.nbytes) == ('float32', (2, 3), 24)


def test_an_empty_file_of_tensors_is_one():
    data = header_bytes({}, {})
    assert read_flat(io.BytesIO(data), 'a').fields['state_dict'] == {}
