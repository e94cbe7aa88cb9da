"""A hostile checkpoint: every way to make a pickle do something."""
import collections
import copyreg
import io
import os
import pickle
import random
import struct
import sys

import numpy as np
import pytest
import torch
from checkpoint_files import equal, record_of, torch_zip, written

from mmcv_ckpt_hooks import outline, rebuilding, unpickling
from mmcv_ckpt_hooks.allowlist import VOCABULARY
from mmcv_ckpt_hooks.errors import (CheckpointError, CorruptError,
                                    UnsafeCheckpointError)
from mmcv_ckpt_hooks.instructions import refuse_instruction
from mmcv_ckpt_hooks.loading import load_checkpoint
from mmcv_ckpt_hooks.unpickling import unpickle
from mmcv_ckpt_hooks.vocabulary import Name

pytestmark = pytest.mark.filterwarnings('error')

STORAGES = {'0': torch.arange(6.)}


def read(key, dtype, numel):
    flat = STORAGES[key]
    if flat.numel() != numel:
        raise CorruptError('wrong size')
    return flat


def run(*parts):
    """Execute a pickle that is put together of instructions."""
    pickled = b'\x80\x02' + b''.join(parts) + b'.'
    expected = outcome_of_outline(pickled)
    try:
        loaded = unpickle(pickled, VOCABULARY, read, 'a.pth')
    except CheckpointError as error:
        assert expected is type(error)
        raise
    assert expected is None
    return loaded


def outcome_of_outline(pickled):
    """The error for who only looks: the same; None if there is none."""
    try:
        unpickle(pickled, outline.VOCABULARY, look_at, 'a.pth')
    except CheckpointError as error:
        return type(error)
    return None


def look_at(key, dtype, numel):
    read(key, dtype, numel)
    return outline.Flat(key, dtype, numel)


def name(module, attribute):
    return f'c{module}\n{attribute}\n'.encode()


def value(thing):
    """Instructions that push a builtin value."""
    return pickle.dumps(thing, 2)[2:-1]


def tuple_of(*parts):
    return b'(' + b''.join(parts) + b't'


def call(module, attribute, *arguments):
    return name(module, attribute) + tuple_of(*arguments) + b'R'


def built(target, state):
    return target + state + b'b'


def storage(kind='FloatStorage', key='0', numel=6, module='torch'):
    return tuple_of(
        value('storage'), name(module, kind), value(key), value('cpu'),
        value(numel)) + b'Q'


def tensor(*arguments, function='_rebuild_tensor_v2'):
    given = [
        argument if isinstance(argument, bytes) else value(argument)
        for argument in arguments
    ]
    return call('torch._utils', function, storage(), *given)


def test_the_instructions_of_these_tests_do_what_they_say():
    loaded = run(tensor(1, (2, 2), (2, 1), False, None))
    assert equal(loaded, torch.tensor([[1., 2.], [3., 4.]]))


# -- names -----------------------------------------------------------------

DANGEROUS = [
    ('os', 'system'),
    ('posix', 'system'),
    ('nt', 'system'),
    ('subprocess', 'Popen'),
    ('builtins', 'eval'),
    ('builtins', 'exec'),
    ('builtins', 'compile'),
    ('builtins', 'getattr'),
    ('builtins', 'setattr'),
    ('builtins', '__import__'),
    ('builtins', 'open'),
    ('builtins', 'print'),
    ('builtins', 'map'),
    ('builtins', 'object'),
    ('builtins', 'type'),
    ('builtins', 'super'),
    ('__builtin__', 'eval'),
    ('__builtin__', 'apply'),
    ('__main__', 'anything'),
    ('torch', 'load'),
    ('torch', 'save'),
    ('torch', 'Tensor'),
    ('torch', 'tensor'),
    ('torch', 'os'),
    ('torch', 'onnx'),
    ('torch', '_inductor'),
    ('torch', 'FloatTensor'),
    ('torch.hub', 'load'),
    ('torch.serialization', 'load'),
    ('torch.storage', '_load_from_bytes'),
    ('torch._utils', '_rebuild_device_tensor_from_numpy'),
    ('torch._tensor', '_rebuild_from_type_v2'),
    ('torch.jit', 'load'),
    ('torch.package', 'PackageImporter'),
    ('torch._dynamo.guards', 'getattr'),
    ('torch.nn.parameter', 'Parameter'),
    ('numpy', 'load'),
    ('numpy', 'fromfile'),
    ('numpy', 'memmap'),
    ('numpy.core.multiarray', 'fromfile'),
    ('numpy.testing._private.utils', 'runstring'),
    ('collections', 'namedtuple'),
    ('collections', 'UserDict'),
    ('copyreg', '_reconstructor'),
    ('copy_reg', '_reconstructor'),
    ('functools', 'partial'),
    ('operator', 'attrgetter'),
    ('operator', 'methodcaller'),
    ('importlib', 'import_module'),
    ('runpy', 'run_path'),
    ('pickle', 'loads'),
    ('_pickle', 'loads'),
    ('marshal', 'loads'),
    ('types', 'FunctionType'),
    ('ctypes', 'CDLL'),
    ('mmcv', 'Config'),
    ('mmcv_ckpt_hooks.loading', 'load_checkpoint'),
    ('mmcv_ckpt_hooks.compat', 'trusting_load'),
    # names that are right but for something
    ('torch._utils', '_rebuild_tensor_v2.__globals__'),
    ('builtins', 'set.__class__'),
    ('collections', 'OrderedDict.fromkeys'),
    ('torch', 'float32.__class__'),
    ('torch', ''),
    ('', 'set'),
    ('builtins ', 'set'),
]


@pytest.mark.parametrize('module, attribute', DANGEROUS)
def test_a_name_that_no_weights_need_is_refused(module, attribute):
    with pytest.raises(UnsafeCheckpointError) as caught:
        run(name(module, attribute))
    assert f'{module}.{attribute}' in str(caught.value)
    assert 'a.pth' in str(caught.value)
    # the same by STACK_GLOBAL, whose names may have dots
    with pytest.raises(UnsafeCheckpointError):
        run(value(module), value(attribute), b'\x93')


def test_looking_a_name_up_imports_nothing():
    before = set(sys.modules)
    for module, attribute in DANGEROUS:
        with pytest.raises(UnsafeCheckpointError):
            run(name(module, attribute))
    assert set(sys.modules) == before


def test_a_long_name_does_not_fill_the_log():
    with pytest.raises(UnsafeCheckpointError) as caught:
        run(name('a' * 100000, 'b'))
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize('module, attribute', [(1, 'system'), ('os', 2),
                                               ((), [])])
def test_names_that_are_no_text_are_damage(module, attribute):
    with pytest.raises(CorruptError):
        run(value(module), value(attribute), b'\x93')


def test_nothing_that_can_be_named_is_a_function_of_another_package():
    for entry in VOCABULARY.names.values():
        if isinstance(entry, torch.dtype):
            continue
        assert type(entry) is Name
        if entry.call is not None:
            assert entry.call.__module__.startswith('mmcv_ckpt_hooks.')


# -- instructions ----------------------------------------------------------


def instruction(opcode, *parts):
    return b''.join(parts) + opcode


OBJECTS = [
    # NEWOBJ and NEWOBJ_EX: an allowed class, and one that is not
    instruction(b'\x81', name('collections', 'OrderedDict'), b')'),
    instruction(b'\x81', name('collections', 'Counter'), b')'),
    instruction(b'\x81', name('os', '_Environ'), b')'),
    instruction(b'\x92', name('collections', 'OrderedDict'), b')', b'}'),
    # INST and OBJ call what they name
    b'(S"true"\nios\nsystem\n',
    b'(icollections\nOrderedDict\n',
    b'(' + name('os', 'system') + value('true') + b'o',
    b'(' + name('collections', 'OrderedDict') + b'o',
    # the registry of extensions
    b'\x82\x01',
    b'\x83\x01\x00',
    b'\x84\x01\x00\x00\x00',
    # a persistent id as text
    b'Pstorage\n',
    # text: not written by any protocol that torch uses, and slow to parse
    b'I1\n',
    b'L1L\n',
    b'F1\n',
    b"S'a'\n",
    b'Va\n',
    # pickles of Python 2
    b'U\x01a',
    b'T\x01\x00\x00\x00a',
    # allocate before anything is read
    b'\x96' + struct.pack('<Q', 1 << 60),
    b'\x97',
    b'\x98',
    # DUP, and the marks of protocol 0
    value(1) + b'2',
    b'(l',
    b'(d',
    b'K\x01p0\n',
    b'K\x01p0\ng0\n',
]


@pytest.mark.parametrize('pickled', OBJECTS, ids=range(len(OBJECTS)))
def test_an_instruction_that_no_weights_need_is_refused(pickled):
    with pytest.raises(UnsafeCheckpointError):
        run(pickled)


def test_a_registered_extension_is_refused_even_if_it_was_used(monkeypatch):
    copyreg.add_extension('os', 'getcwd', 241)
    try:
        assert pickle.loads(b'\x80\x02\x82\xf1.') is os.getcwd  # cached
        with pytest.raises(UnsafeCheckpointError):
            run(b'\x82\xf1')
    finally:
        copyreg.remove_extension('os', 'getcwd', 241)


def test_every_instruction_that_runs_is_on_the_list():
    allowed = {
        opcode
        for opcode, handler in unpickling._Machine.dispatch.items()
        if handler is not refuse_instruction
    }
    calling = {'INST', 'OBJ', 'NEWOBJ', 'NEWOBJ_EX', 'EXT1', 'EXT2', 'EXT4'}
    assert not allowed & {getattr(pickle, one)[0] for one in calling}
    own = {
        opcode
        for opcode in allowed
        if unpickling._Machine.dispatch[opcode].__module__ ==
        'mmcv_ckpt_hooks.unpickling'
    }
    changing = {'REDUCE', 'BUILD', 'SETITEM', 'SETITEMS', 'APPEND', 'APPENDS'}
    assert {getattr(pickle, one)[0] for one in changing} <= own


@pytest.mark.parametrize(
    'byte',
    [byte for byte in range(256) if byte not in unpickling._Machine.dispatch])
def test_what_is_no_instruction_is_damage(byte):
    with pytest.raises(CorruptError):
        run(bytes([byte]))


def test_every_cut_of_a_pickle_is_damage():
    tree = dict(
        meta=dict(text='é' * 300, numbers=[1, 1000, 1 << 40, 1 << 90, 0.5]),
        state_dict=collections.OrderedDict(a=torch.ones(2)))
    data = record_of(written(tree), 'data.pkl')
    for length in range(len(data)):
        # a name that was cut off is another name
        with pytest.raises((CorruptError, UnsafeCheckpointError)):
            load_checkpoint(
                io.BytesIO(torch_zip(data[:length], [bytes(8)])), 'a.pth')


def test_random_instructions_do_nothing_but_fail_or_build_values():
    fragments = [
        storage(),
        tensor(0, (6, ), (1, )),
        dtype('f8', *PLAIN),
        array((1, ), dtype('f8', *PLAIN), data(bytes(8))),
        value(dict(_metadata={}))
    ]
    fragments += [value(thing) for thing in ({}, [], 'a', 3, (), None, 0.5)]
    fragments += [name(*place) for place in VOCABULARY.names]
    fragments += [bytes([one])
                  for one in b'(teusabRQ01\x85\x86\x87\x90\x91'] * 4
    fragments += [b'q\x00', b'h\x00', b'q\x01', b'h\x01', b'\x94'] * 4
    choice = random.Random(0)
    for _ in range(3000):
        count = choice.randrange(1, 25)
        try:
            run(*(choice.choice(fragments) for _ in range(count)))
        except (CorruptError, UnsafeCheckpointError) as error:
            assert 'a.pth' in str(error)


def test_every_changed_byte_of_a_pickle_is_harmless():
    # a file whose CRC-32 values were made to fit
    tree = dict(meta=dict(a=(1, 'b', [0.5])), weight=torch.ones(2))
    data = record_of(written(tree), 'data.pkl')
    for place in range(len(data)):
        for change in (1, 2, 4, 8, 16, 32, 64, 128, 255):
            damaged = bytearray(data)
            damaged[place] ^= change
            try:
                unpickle(
                    bytes(damaged), VOCABULARY, lambda *_: torch.ones(2),
                    'a.pth')
            except (CorruptError, UnsafeCheckpointError) as error:
                assert 'a.pth' in str(error)


# -- BUILD: attributes of what is not the file's ---------------------------

SHARED = [
    name('torch', 'FloatStorage'),
    name('torch._utils', '_rebuild_tensor_v2'),
    name('collections', 'Counter'),
    name('collections', 'OrderedDict'),
    name('builtins', 'set'),
    name('numpy', 'ndarray'),
    name('torch', 'float32'),
]
STATES = [
    value(dict(storage_dtype=None)),
    value((None, dict(storage_dtype=None))),
    value((None, dict(__defaults__=(1, )))),
    value((None, dict(update=1))),
    value(dict(update=1)),
    value(1),
    value(()),
]


@pytest.mark.parametrize('target', SHARED, ids=range(len(SHARED)))
@pytest.mark.parametrize('state', STATES, ids=range(len(STATES)))
def test_a_file_cannot_change_how_later_files_are_loaded(target, state):
    names = [
        entry for entry in VOCABULARY.names.values()
        if isinstance(entry, Name)
    ]
    before = [dict(vars(entry)) for entry in names]
    with pytest.raises(UnsafeCheckpointError, match='sets attributes'):
        run(built(target, state))
    assert [dict(vars(entry)) for entry in names] == before
    assert collections.Counter('a').most_common() == [('a', 1)]
    assert rebuilding.Tensors.tensor.__defaults__ == (False, None, None)
    assert equal(run(tensor(0, (6, ), (1, ))), torch.arange(6.))


INSTANCES = [
    tensor(0, (6, ), (1, )),
    call('collections', 'Counter'),
    call('collections', 'defaultdict'),
    call('torch', 'Size', value((1, ))),
    call('numpy.core.multiarray', 'scalar', call('numpy', 'dtype',
                                                 value('f8')),
         call('_codecs', 'encode', value('\0' * 8), value('latin1'))),
    value({}),
    value([]),
    value('a'),
    storage(),
]


@pytest.mark.parametrize('target', INSTANCES, ids=range(len(INSTANCES)))
@pytest.mark.parametrize(
    'state', [
        value(dict(append=1)),
        value((None, dict(append=1))),
        tuple_of(storage(), value(0), value((1 << 40, )), value((1, ))),
        value((True, 1, {})),
        value((1, 2, 3, 4, 5))
    ],
    ids=range(5))
def test_a_loaded_value_gets_no_attributes_from_the_file(target, state):
    # Tensor.__setstate__ would resize storages and set hooks
    with pytest.raises(UnsafeCheckpointError, match='sets attributes'):
        run(built(target, state))


def test_a_state_dict_gets_its_metadata_and_nothing_else():
    state = value({'_metadata': {'': dict(version=2)}, 'items': 1, 'x': 2})
    loaded = run(built(call('collections', 'OrderedDict'), state))
    assert loaded._metadata == {'': dict(version=2)}
    assert vars(loaded) == dict(_metadata={'': dict(version=2)})
    assert list(loaded.items()) == []


@pytest.mark.parametrize('state', [(), (None, dict(items=1)), 'a', 3])
def test_an_ordered_dict_takes_no_other_state(state):
    with pytest.raises(UnsafeCheckpointError, match='sets attributes'):
        run(built(call('collections', 'OrderedDict'), value(state)))


# -- calls -----------------------------------------------------------------

#: Enough to be seen; a defence that fails must not take the machine down.
MANY = 10**6

BOMBS = [
    call('builtins', 'bytearray', value(MANY)),
    call('builtins', 'bytearray', value([1])),
    call('builtins', 'bytearray', value('a'), value('rot13')),
    call('builtins', 'bytes', value(MANY)),
    call('builtins', 'set', call('builtins', 'range', value(0), value(MANY))),
    call('builtins', 'frozenset',
         call('builtins', 'range', value(0), value(MANY))),
    call('builtins', 'range', value('a')),
    call('builtins', 'range', value(0), value(1), value(0)),
    call('builtins', 'range'),
    call('builtins', 'complex', value('x' * 100), value(1)),
    call('collections', 'Counter',
         call('builtins', 'range', value(0), value(MANY))),
    call('collections', 'Counter', value('aab')),
    call('collections', 'OrderedDict', value([(1, 2)])),
    call('torch', 'Size', call('builtins', 'range', value(0), value(MANY))),
    call('torch', 'Size', value((1, -1))),
    call('torch', 'Size', value((True, ))),
    call('torch', 'device', value(3)),
    call('torch', 'device', value('nonsense')),
    call('torch', 'device', value('cpu'), value('a')),
    call('torch', 'device', value('cuda'), value(-7)),
    call('torch', 'device', value('cuda:1'), value(1)),
    call('torch', 'device', value('cuda:01')),
    call('torch', 'device', value('cuda'), value(1 << 90)),
    call('torch', 'device'),
    call('torch', 'device', value('cpu'), value(0), value(0)),
    call('torch', 'Size', value((1 << 63, ))),
    call('_codecs', 'encode', value('a'), value('rot13')),
    call('_codecs', 'encode', value('a'), value('idna')),
    call('_codecs', 'encode', value('\u1234'), value('latin1')),
    call('_codecs', 'encode', value(3)),
    call('builtins', 'set', value([[1]])),
    call('builtins', 'set', value({})),
    call('torch._utils', '_rebuild_parameter', value(1), value(True)),
]


@pytest.mark.parametrize('pickled', BOMBS, ids=range(len(BOMBS)))
def test_a_call_with_arguments_that_nobody_writes_is_damage(pickled):
    with pytest.raises(CorruptError):
        run(pickled)


@pytest.mark.parametrize(
    'pickled', [
        value(1) + b')R',
        value('os.system') + b')R',
        name('torch', 'FloatStorage') + b')R',
        name('torch', 'float32') + b')R',
        name('builtins', 'list') + b')R',
        name('builtins', 'str') + value(('a', )) + b'R',
        name('builtins', 'int') + value(('9' * 10000, )) + b'R',
        name('builtins', 'dict') + value(({}, )) + b'R',
        name('builtins', 'tuple') + value(([1], )) + b'R',
        name('collections', 'OrderedDict') + value([]) + b'R',
        name('collections', 'OrderedDict') + value(None) + b'R',
        storage() + b')R',
        tensor(0, (6, ), (1, )) + b')R',
    ],
    ids=range(13))
def test_only_what_is_on_the_list_can_be_called(pickled):
    with pytest.raises(UnsafeCheckpointError, match='calls'):
        run(pickled)


@pytest.mark.parametrize(
    'factory', [
        name('torch._utils', '_rebuild_tensor_v2'),
        name('builtins', 'bytearray'),
        name('builtins', 'range'),
        name('torch', 'FloatStorage'),
        name('collections', 'OrderedDict'),
        value(3),
    ],
    ids=range(6))
def test_a_defaultdict_calls_nothing_but_plain_types(factory):
    with pytest.raises(UnsafeCheckpointError, match='factory'):
        run(call('collections', 'defaultdict', factory))
    with pytest.raises(UnsafeCheckpointError, match='os.system'):
        run(call('collections', 'defaultdict', name('os', 'system')))


def test_a_large_value_is_not_copied_again_and_again():
    # one megabyte of text, of which each further five bytes make another
    text = value('x' * (1 << 20))[:-2] + b'q\x01'
    encode = name('_codecs', 'encode') + b'q\x02'
    copies = b'h\x02h\x01\x85R' * 100
    with pytest.raises(CorruptError, match='more than its own size'):
        run(text, encode, b'(', copies, b't')


def test_a_large_list_is_not_copied_into_sets_again_and_again():
    items = pickle.dumps(list(range(100000)), 2)
    assert items.startswith(b'\x80\x02]q\x00')
    body = items[2:-1]
    make = name('builtins', 'set') + b'q\x01'
    with pytest.raises(CorruptError, match='more than its own size'):
        run(body, make, b'(', b'h\x01h\x00\x85R' * 100, b't')


# -- containers ------------------------------------------------------------


@pytest.mark.parametrize(
    'pickled', [
        tensor(0, (6, ), (1, )) + value(0) + value(7) + b's',
        tensor(0, (6, ), (1, )) + b'(' + value(0) + value(7) + b'u',
        value([1]) + value(0) + value(7) + b's',
        value('a') + value(0) + value(7) + b's',
        value({}) + value(7) + b'a',
        value({}) + b'(' + value(7) + b'e',
        call('builtins', 'bytearray') + b'(' + value(7) + b'e',
        value([]) + b'(' + value(7) + b'\x90',
        value({}) + b'(' + value(1) + b'u',
        value({}) + value([]) + value(1) + b's',
        value({}) + tensor(0, (6, ), (1, )) + value(1) + b's',
        b'\x8f(' + value([]) + b'\x90',
        b'(' + value([]) + b'\x91',
    ],
    ids=range(13))
def test_items_go_only_into_containers_and_keys_are_plain(pickled):
    with pytest.raises(CorruptError):
        run(pickled)


#: Memo 0 is a tuple of twice the same tuple, and so on: 2 ** 60 leaves.
DOUBLED = b')q\x000' + b'h\x00h\x00\x86q\x000' * 60
#: So deep that hash() overflows the stack of a process.
DEEP = 200000


def nested_key(depth):
    return b')' + b'\x85' * depth


@pytest.mark.parametrize(
    'pickled', [
        b'}' + nested_key(DEEP) + value(1) + b's',
        b'}(' + nested_key(DEEP) + value(1) + b'u',
        b'\x8f(' + nested_key(DEEP) + b'\x90',
        b'(' + nested_key(DEEP) + b'\x91',
        call('builtins', 'set', b'](' + nested_key(DEEP) + b'e'),
        call('builtins', 'frozenset',
             nested_key(DEEP) + b'\x85'),
    ],
    ids=range(6))
def test_a_deeply_nested_key_does_not_crash_the_process(pickled):
    # hashing a tuple recurses in C without a limit
    with pytest.raises(CorruptError, match='too many parts'):
        run(pickled)


def test_a_key_of_shared_tuples_does_not_take_for_ever():
    with pytest.raises(CorruptError, match='too many parts'):
        run(DOUBLED, b'}h\x00', value(1), b's')


@pytest.mark.parametrize('one', [b'](', b'}K\x00', b'('])
def test_deep_nesting_is_damage_and_no_crash(one):
    close = {b'](': b'e', b'}K\x00': b's', b'(': b't'}[one]
    with pytest.raises(CorruptError, match='nested deeper'):
        run(one * 50000, value(1), close * 50000)


def test_nesting_that_people_use_loads():
    tree = 'leaf'
    for _ in range(100):
        tree = dict(a=[(tree, )])
    assert run(value(tree)) == tree


@pytest.mark.parametrize('pickled', [
    b'h\x07', b'j\xff\xff\xff\xff', b't', b'e', b'u', b'0', b'1', b'R', b'b',
    b's', b'a', b'Q', b'\x85', b'\x86', b'\x87', b'', b'(', b'\x94', b'\x93'
])
def test_a_stack_that_does_not_fit_is_damage(pickled):
    with pytest.raises(CorruptError):
        run(pickled)


def test_a_huge_memo_index_takes_no_memory():
    # in C the memo is an array
    assert run(value(3), b'r\xff\xff\xff\xff', b'0', b'j\xff\xff\xff\xff') == 3


def test_a_memo_may_be_overwritten_while_it_is_used():
    # a name is put where a storage was
    pickled = storage() + b'q\x050' + name('builtins', 'set') + b'q\x050' + \
        call('torch._utils', '_rebuild_tensor_v2', b'h\x05', value(0),
             value((6, )), value((1, )))
    with pytest.raises(CorruptError, match='built on'):
        run(pickled)


@pytest.mark.parametrize('pickled', [
    b'X' + struct.pack('<I', 0xffffffff) + b'a',
    b'\x8d' + struct.pack('<Q', 1 << 62) + b'a',
    b'\x8d' + struct.pack('<Q', 1 << 63) + b'a',
    b'B' + struct.pack('<I', 0xffffffff) + b'a',
    b'\x8e' + struct.pack('<Q', 1 << 62) + b'a',
    b'\x8b' + struct.pack('<i', 0x7fffffff) + b'a',
    b'\x8b' + struct.pack('<i', -1),
    b'\x95' + struct.pack('<Q', 1 << 63) + b'N',
    b'X\x01\x00\x00\x00\xff',
])
def test_a_length_that_the_pickle_does_not_have_takes_no_memory(pickled):
    with pytest.raises(CorruptError):
        run(pickled)


@pytest.mark.parametrize('leaf', [
    name('builtins', 'set'),
    name('builtins', 'int'),
    name('torch', 'FloatStorage'),
    storage(),
])
@pytest.mark.parametrize('where', ['{}', '[{}]', '({}t', '({}\x91'])
def test_a_name_or_a_storage_is_no_value(leaf, where):
    around = {
        '{}': leaf,
        '[{}]': b'](' + leaf + b'e',
        '({}t': b'(' + leaf + b't',
        '({}\x91': b'(' + leaf + b'\x91'
    }[where]
    with pytest.raises((UnsafeCheckpointError, CorruptError)):
        run(around)
    with pytest.raises(UnsafeCheckpointError):
        run(
            built(
                call('collections', 'OrderedDict'),
                b'}' + value('_metadata') + b'}' + value('a') + leaf + b'ss'))


# -- tensors ---------------------------------------------------------------

HUGE = 1 << 62
OUTSIDE = [
    # offset, size, stride
    (0, (7, ), (1, )),
    (1, (6, ), (1, )),
    (6, (1, ), (1, )),
    (7, (0, ), (1, )),
    (0, (2, 2), (5, 1)),
    (0, (2, ), (6, )),
    (-1, (1, ), (1, )),
    (0, (-1, ), (1, )),
    (0, (2, ), (-1, )),
    (HUGE, (1, ), (1, )),
    (0, (2, ), (HUGE, )),
    (0, (HUGE, ), (1, )),
    (1 << 64, (1, ), (1, )),
    (0, (1 << 64, ), (0, )),
    (0, (1 << 32, 1 << 32), (0, 0)),
    (0, (1 << 40, 1 << 40, 0), (1, 1, 1)),
    (0, (0, 1 << 70), (1, 1)),
    (0, (2, ), (1, 1)),
    (0, (2, 2), (1, )),
    (True, (1, ), (1, )),
    (0, (True, ), (1, )),
    (0, (1, ), (False, )),
    (0.0, (1, ), (1, )),
    ('0', (1, ), (1, )),
    (None, (1, ), (1, )),
    (0, [1], [1]),
    (0, '1', '1'),
    (0, 1, 1),
    (0, None, None),
    (0, ((1, ), ), ((1, ), )),
]


@pytest.mark.parametrize('arguments', OUTSIDE, ids=range(len(OUTSIDE)))
@pytest.mark.parametrize('function', ['_rebuild_tensor', '_rebuild_tensor_v2'])
def test_a_tensor_sees_no_memory_but_its_storage(arguments, function):
    with pytest.raises(CorruptError):
        run(tensor(*arguments, function=function))


def test_a_range_as_the_size_of_a_tensor_takes_no_memory():
    endless = call('builtins', 'range', value(0), value(MANY))
    with pytest.raises(CorruptError):
        run(tensor(0, endless, endless))


@pytest.mark.parametrize(
    'on', [
        value(3),
        value(None),
        name('torch', 'FloatStorage'),
        tensor(0, (6, ), (1, ))
    ],
    ids=range(4))
@pytest.mark.parametrize(
    'function',
    ['_rebuild_tensor', '_rebuild_tensor_v2', '_rebuild_tensor_v3'])
def test_a_tensor_is_built_on_a_storage_only(on, function):
    more = [] if function == '_rebuild_tensor' else [value(False), value(None)]
    if function == '_rebuild_tensor_v3':
        more.append(name('torch', 'float32'))
    with pytest.raises(CorruptError):
        run(
            call('torch._utils', function, on, value(0), value((1, )),
                 value((1, )), *more))


@pytest.mark.parametrize(
    'dtype', [
        name('torch', 'float64') + b'',
        name('torch', 'complex128'),
        value('float32'),
        value(None),
        name('builtins', 'int'),
    ],
    ids=range(5))
def test_another_type_does_not_widen_a_storage(dtype):
    # 24 bytes are three float64: six would reach beyond
    with pytest.raises(CorruptError):
        run(
            call('torch._utils', '_rebuild_tensor_v3', storage(), value(0),
                 value((6, )), value((1, )), value(False), value(None), dtype))


@pytest.mark.parametrize('metadata', [3, 'a', dict(conj=3, other=1), []])
def test_metadata_that_is_none_is_ignored(metadata):
    loaded = run(tensor(0, (6, ), (1, ), False, None, metadata))
    assert equal(loaded, torch.arange(6.))


def test_hooks_of_a_tensor_are_not_taken_over():
    hooks = b'}' + value(0) + value('hook') + b's'
    loaded = run(tensor(0, (6, ), (1, ), value(True), hooks))
    assert not loaded.requires_grad and not loaded._backward_hooks


IDS = [
    value(()),
    value('storage'),
    value(3),
    value(('storage', 1, '0', 'cpu', 6)),
    value(('storage', )),
    value([]),
    tuple_of(
        value('module'), name('torch', 'FloatStorage'), value('0'),
        value('cpu'), value(6)),
    tuple_of(
        value('storage'), name('builtins', 'set'), value('0'), value('cpu'),
        value(6)),
    tuple_of(
        value('storage'), name('torch', 'float32'), value('0'), value('cpu'),
        value(6)),
    tuple_of(
        value('storage'), name('torch', 'FloatStorage'), value(0),
        value('cpu'), value(6)),
    tuple_of(
        value('storage'), name('torch', 'FloatStorage'), value(['0']),
        value('cpu'), value(6)),
]
IDS += [
    tuple_of(
        value('storage'), name('torch', 'FloatStorage'), value('0'),
        value('cpu'), value(numel)) for numel in (-1, True, 6.0, '6', None)
]


@pytest.mark.parametrize('pid', IDS, ids=range(len(IDS)))
def test_a_wrong_persistent_id_is_damage(pid):
    with pytest.raises(CorruptError, match='a storage is'):
        run(pid, b'Q')


def test_an_endless_persistent_id_is_not_printed_in_full():
    with pytest.raises(CorruptError) as caught:
        run(DOUBLED, b'h\x00Q')
    assert len(str(caught.value)) < 2000


@pytest.mark.parametrize('key', [
    '../../../etc/passwd', '/etc/passwd', '0/../1', '', '0\0', 'a' * 10000,
    '01', ' 0', '\u0660'
])
def test_a_storage_is_a_record_of_the_file_and_nothing_else(key):
    pickled = b'\x80\x02' + storage(key=key) + b'.'
    content = torch_zip(pickled, [bytes(24), bytes(24)])
    with pytest.raises(CorruptError, match='has no record'):
        load_checkpoint(io.BytesIO(content), 'a.pth')


@pytest.mark.parametrize('numel', [0, 5, 7, 1 << 40, 1 << 62, 1 << 80])
def test_a_storage_claims_what_its_record_has(numel):
    pickled = b'\x80\x02' + storage(numel=numel) + b'.'
    content = torch_zip(pickled, [bytes(24)])
    with pytest.raises(CorruptError, match='claims'):
        load_checkpoint(io.BytesIO(content), 'a.pth')


def test_a_storage_is_not_two_types_at_once():
    pickled = b'(' + storage() + storage('IntStorage') + b't'
    with pytest.raises(CorruptError, match='once'):
        run(pickled)


# -- numpy -----------------------------------------------------------------


def dtype(code, *state):
    made = call('numpy', 'dtype', value(code), value(False), value(True))
    return built(made, value(state)) if state else made


def data(content):
    return call('_codecs', 'encode', value(content.decode('latin1')),
                value('latin1'))


def array(shape, kind, content, fortran=False):
    made = call('numpy.core.multiarray', '_reconstruct',
                name('numpy', 'ndarray'), value((0, )), data(b'b'))
    state = tuple_of(value(1), value(shape), kind, value(fortran), content)
    return built(made, state)


PLAIN = (3, '<', None, None, None, -1, -1, 0)


def test_an_array_loads():
    content = data(np.arange(6.).tobytes())
    loaded = run(array((2, 3), dtype('f8', *PLAIN), content))
    assert equal(loaded, np.arange(6.).reshape(2, 3))
    loaded.sort()  # it may be changed


ARRAYS = [
    array((7, ), dtype('f8', *PLAIN), data(bytes(48))),
    array((5, ), dtype('f8', *PLAIN), data(bytes(48))),
    array((-6, ), dtype('f8', *PLAIN), data(bytes(48))),
    array((-2, -3), dtype('f8', *PLAIN), data(bytes(48))),
    array((6.0, ), dtype('f8', *PLAIN), data(bytes(48))),
    array((1 << 40, ), dtype('f8', *PLAIN), data(b'')),
    array((1 << 62, 4), dtype('f8', *PLAIN), data(b'')),
    array((1 << 40, ), dtype('S0', *PLAIN), data(b'')),
    array((1 << 40, ), dtype('V0', *PLAIN), data(b'')),
    array((1, ) * 100, dtype('f8', *PLAIN), data(bytes(8))),
    array((1, ), dtype('S999999999'), data(bytes(8))),
    array('6', dtype('f8', *PLAIN), data(bytes(48))),
    call('numpy.core.multiarray', 'scalar', dtype('f8', *PLAIN),
         data(bytes(7))),
    call('numpy.core.multiarray', 'scalar', dtype('f8', *PLAIN),
         data(bytes(9))),
    call('numpy.core.multiarray', 'scalar', dtype('f7'), data(bytes(7))),
    built(call('numpy', 'dtype', value('f8')), value(())),
    built(call('numpy', 'dtype', value('f8')), value('<')),
    built(
        call('numpy.core.multiarray', '_reconstruct', name('numpy',
                                                           'ndarray')),
        value((1, 2))),
]


@pytest.mark.parametrize('pickled', ARRAYS, ids=range(len(ARRAYS)))
def test_an_array_whose_parts_do_not_fit_is_damage(pickled):
    with pytest.raises(CorruptError):
        run(pickled)


OBJECT_ARRAYS = [
    array((1, ), dtype('O8'), data(bytes(8))),
    array((1, ), dtype('f8', *PLAIN), value(['an object'])),
    array((1, ), value('f8'), data(bytes(8))),
    array((1, ), dtype('V8', 3, '|', None, ('a', ), dict(a=1), 8, 1, 16),
          data(bytes(8))),
    array((1, ), dtype('V8', 3, '|', (1, 2), None, None, 8, 1, 16),
          data(bytes(8))),
    call('numpy.core.multiarray', 'scalar', dtype('O8'), data(bytes(8))),
    call('numpy.core.multiarray', 'scalar', dtype('f8'), value('a')),
    call('numpy.core.multiarray', 'scalar', dtype('f8')),
    call('numpy', 'dtype', value('f8,i4')),
    call('numpy', 'dtype', value('(9,9)f8')),
    call('numpy', 'dtype', value("{'names': ['a']}")),
    call('numpy', 'dtype', value('O')),
    call('numpy', 'dtype', value('f8' * 1000)),
    call('numpy', 'dtype', value(['f8'])),
    call('numpy', 'dtype', name('builtins', 'int')),
    call('numpy.core.multiarray', '_reconstruct', name('builtins', 'set'),
         value((0, )), data(b'b')),
]


@pytest.mark.parametrize(
    'pickled', OBJECT_ARRAYS, ids=range(len(OBJECT_ARRAYS)))
def test_an_array_of_objects_is_refused(pickled):
    with pytest.raises(UnsafeCheckpointError):
        run(pickled)


def test_an_array_that_was_never_filled_is_empty():
    loaded = run(
        call('numpy.core.multiarray', '_reconstruct', name('numpy',
                                                           'ndarray')))
    assert loaded.shape == (0, )
