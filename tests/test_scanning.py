"""What verify says of a file that is whole, but would run code."""
import collections
import io
import json
import os

import pytest
import torch
from checkpoint_files import Payload, pickled, torch_written, torch_zip
from foreign_files import stock_file

from mmcv_ckpt_hooks import allowlist, outline, scanning, verify_checkpoint
from mmcv_ckpt_hooks.cli import main
from mmcv_ckpt_hooks.compat import torch_dtypes
from mmcv_ckpt_hooks.errors import (CorruptError, IntegrityError,
                                    UnsafeCheckpointError)
from mmcv_ckpt_hooks.loading import load_checkpoint
from mmcv_ckpt_hooks.scanning import verify_loadable
from mmcv_ckpt_hooks.verification import open_archive
from mmcv_ckpt_hooks.vocabulary import Vocabulary


class Settings:
    """Harmless, but not known to us."""


def scan(content):
    return verify_loadable(io.BytesIO(content), 'a.pth')


def test_the_names_without_torch_are_those_that_load():
    loading, looking = allowlist.VOCABULARY, outline.VOCABULARY
    types = {('torch', str(one)[len('torch.'):]) for one in torch_dtypes()}
    assert set(loading.names) == set(looking.names) | types
    for module, name in dir_of('torch') | dir_of('builtins') | types:
        assert (loading.find(module, name) is None) == \
            (looking.find(module, name) is None), name


def dir_of(module):
    return {(module, name) for name in dir(__import__(module))}


@pytest.mark.parametrize('dtype', sorted(torch_dtypes(), key=str), ids=str)
def test_the_types_without_torch_have_the_same_size(dtype):
    name = str(dtype)[len('torch.'):]
    assert outline.torch_dtype(name).itemsize == \
        torch.empty(0, dtype=dtype).element_size()


@pytest.mark.parametrize('module, name', [
    ('os', 'system'),
    ('torch', 'load'),
    ('torch', 'storage.UntypedStorage'),
    ('torch', 'float32.__class__'),
    ('torch', 'int\n'),
    ('numpy', 'core.multiarray.scalar'),
    ('builtins', 'eval'),
    ('builtins', 'getattr'),
    ('__builtin__', 'exec'),
    ('', 'torch.Size'),
])
def test_other_names_are_not_allowed(module, name):
    assert outline.VOCABULARY.find(module, name) is None


@pytest.mark.parametrize('protocol', [2, 3, 4, 5])
def test_a_call_is_found_and_not_made(tmp_path, protocol):
    mark = tmp_path / 'executed'
    tree = dict(meta={}, state_dict=Payload(os.mkdir, str(mark)))
    content = torch_written(tree, pickle_protocol=protocol)
    with pytest.raises(UnsafeCheckpointError, match=r'(posix|nt|os)\.mkdir'):
        scan(content)
    assert not mark.exists()


@pytest.mark.parametrize('protocol', [2, 3, 4, 5])
def test_what_loads_is_not_refused(protocol):
    tree = dict(
        state_dict=collections.OrderedDict(a=torch.ones(2)),
        views=[torch.ones(3, dtype=torch.bfloat16)] * 2,
        parameter=torch.nn.Parameter(torch.ones(1)),
        meta={
            'set': {1, 2},
            'frozen': frozenset([3]),
            'nested': [(), (1, ), (1, 2), (1, 2, 3), (1, 2, 3, 4), b'x', 1.5],
            'range': range(3),
            'counts': collections.Counter('aab'),
            'lists': collections.defaultdict(list),
            'type': torch.float16,
        })
    content = torch_written(tree, pickle_protocol=protocol)
    load_checkpoint(io.BytesIO(content), 'a.pth')
    assert scan(content).records


def test_a_harmless_class_is_told_from_damage(tmp_path, capsys):
    path = stock_file(tmp_path, 2)
    tree = torch.load(path, weights_only=False)
    tree['meta']['own'] = Settings()
    torch.save(tree, path)
    with pytest.raises(UnsafeCheckpointError) as caught:
        verify_checkpoint(path)
    assert not isinstance(caught.value, IntegrityError)
    for part in ('is undamaged', 'test_scanning.Settings',
                 'trust_checkpoint=True'):
        assert part in str(caught.value)
    assert main(['verify', path, '--json']) == 3
    outcome, = json.loads(capsys.readouterr().out)['checked']
    assert outcome['status'] == 'unsafe'
    assert outcome['error'] == 'UnsafeCheckpointError'
    # damage counts more
    torch.save(dict(meta={}), tmp_path / 'iter_4.pth')
    os.truncate(tmp_path / 'iter_4.pth', 100)
    assert main(['verify', path, str(tmp_path / 'iter_4.pth')]) == 1
    out = capsys.readouterr().out
    assert out.count('unsafe ') and '1 damaged, 1 unsafe' in out


@pytest.mark.parametrize('extra', [
    b'cos\nsystem\n0',
    b'\x8c\x02os\x8c\x06system\x930',
    b'\x8c\x02os\x94\x8c\x06system\x9400h\x00h\x01\x930',
    b"(S'true'\nios\nsystem\n0",
    b'\x82\xf00',
    b'Ptrue\n0',
    b']]\x85R0',
    b'ccollections\nOrderedDict\n}b0',
])
def test_no_way_to_say_it_is_overlooked(extra):
    with pytest.raises(UnsafeCheckpointError):
        scan(torch_zip(b'\x80\x04' + extra + b'}.'))


@pytest.mark.parametrize('data', [
    b'', b'}', b'\xff.', b'R.', b'\x8c\x02os\x93.', b'\x85.',
    b'\x8b\xff\xff\xff\x7f1.'
])
def test_what_no_program_writes_is_malformed(data):
    with pytest.raises(CorruptError, match='is malformed'):
        scan(torch_zip(b'\x80\x04' + data))


def test_a_pickle_that_is_too_large_is_not_read(monkeypatch):
    monkeypatch.setattr(scanning, '_PICKLE_LIMIT_BYTES', 10)
    with pytest.raises(UnsafeCheckpointError, match='expected at most 10'):
        scan(torch_zip(pickled(dict(meta={}, state_dict={}))))


def test_tensors_are_told_without_torch():
    tree = dict(
        a=torch.ones(4, 4).t(),
        b=torch.nn.Parameter(torch.ones(2)),
        c=torch.ones(3, dtype=torch.complex64))
    found = outlined(torch_written(tree))
    assert {
        name: (tensor.dtype.name, tensor.shape, tensor.nbytes)
        for name, tensor in found.items()
    } == dict(
        a=('float32', (4, 4), 64),
        b=('float32', (2, ), 8),
        c=('complex64', (3, ), 24))


def outlined(content):
    with open_archive(io.BytesIO(content), 'a.pth') as archive:
        return scanning.read_outline(archive, 'a.pth')


#: Instructions each of which takes many times its own memory.
GREEDY = {
    'lists': b']' * 101,
    'dicts': b'}' * 101,
    'sets': b'\x8f' * 101,
    'marks': b'(' * 101,
    'remembered': b'N' + b'\x94' * 101,
    'remembered far': b'N' + b'r\x00\x01\x00\x00' * 101,
    'tuples': b'N' + b'\x85' * 101,
    'calls': b'ccollections\nOrderedDict\nq\x00' + b'h\x00)R' * 101,
}


@pytest.mark.parametrize('name', GREEDY)
def test_what_takes_much_memory_is_counted(monkeypatch, name):
    monkeypatch.setattr(Vocabulary, 'values_limit', 100)
    content = torch_zip(b'\x80\x04' + GREEDY[name] + b'.')
    with pytest.raises(UnsafeCheckpointError, match='more than 100 values'):
        scan(content)
    with pytest.raises(UnsafeCheckpointError, match='more than 100 values'):
        load_checkpoint(io.BytesIO(content), 'a.pth')
    # one list and one mark are counted, too
    assert scan(torch_zip(b'\x80\x04](' + b']' * 98 + b'e.'))


@pytest.mark.parametrize('data', [b'N]', b'N(', b'(N', b']](N', b''])
def test_a_pickle_ends_with_one_value(data):
    with pytest.raises(CorruptError, match='is malformed'):
        scan(torch_zip(b'\x80\x04' + data + b'.'))
    with pytest.raises(CorruptError, match='is malformed'):
        load_checkpoint(io.BytesIO(torch_zip(b'\x80\x04' + data + b'.')), 'a')
