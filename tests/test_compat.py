"""Differences between versions of mmcv and torch, each behind one function."""
import importlib
import io
import os
import subprocess
import sys
import types

import pytest
import torch
from checkpoint_files import torch_written
from mmcv import runner as mmcv_runner
from mmcv.utils import Registry
from stock import EvalHook, builds_runners

from mmcv_ckpt_hooks import compat, environment
from mmcv_ckpt_hooks.version import version_tuple

pytestmark = pytest.mark.filterwarnings('error')


def test_every_storage_class_is_the_one_that_torch_writes():
    for dtype, name in compat.STORAGE_NAMES.items():
        pickled = torch_written(torch.zeros(1, dtype=dtype))
        assert f'torch\n{name}\n'.encode() in pickled


def test_every_dtype_is_found_and_nothing_is_imported_for_it():
    before = set(sys.modules)
    found = compat.torch_dtypes()
    assert set(sys.modules) == before
    assert {torch.float32, torch.bool, torch.bfloat16} <= set(found)
    assert len(set(found)) == len(found)
    for dtype in found:
        assert getattr(torch, str(dtype)[len('torch.'):]) is dtype


def test_views_of_one_storage_have_one_pointer():
    flat = torch.zeros(10)
    assert compat.storage_pointer(flat[3:]) == compat.storage_pointer(flat)
    assert compat.storage_pointer(torch.zeros(10)) != \
        compat.storage_pointer(flat)


def test_the_storage_pointer_of_torch_1_is_the_same():

    class OldTensor:
        """A tensor without ``untyped_storage``, as before torch 2.0."""

        def __init__(self, tensor):
            self.tensor = tensor

        def storage(self):
            return self.tensor.untyped_storage()

    flat = torch.zeros(3)
    assert compat.storage_pointer(OldTensor(flat)) == \
        compat.storage_pointer(flat)


def test_lazy_conjugation_is_resolved_where_torch_has_it():
    tensor = torch.tensor([1 + 2j])
    assert compat.resolved(tensor.conj()).is_conj() is False
    assert compat.resolved(tensor.conj().imag).is_neg() is False

    class OldTensor:
        """torch < 1.10."""

    old = OldTensor()
    assert compat.resolved(old) is old


@pytest.mark.parametrize('version, expected', [
    ('1.8.0', {}),
    ('1.12.1', {}),
    ('1.13.0', dict(weights_only=False)),
    ('2.12.1+cpu', dict(weights_only=False)),
])
def test_a_trusted_file_is_unpickled_in_full_by_every_torch(
        version, expected, monkeypatch):
    calls = []

    def load(file, map_location, **kwargs):
        calls.append((file.tell(), map_location, kwargs))

    monkeypatch.setattr(compat, 'torch',
                        types.SimpleNamespace(__version__=version, load=load))
    file = io.BytesIO(b'content')
    file.seek(3)
    compat.trusting_load(file)
    assert calls == [(0, 'cpu', expected)]


def test_scalers_of_every_version_are_recognised():
    found = compat.grad_scaler_types()
    assert torch.cuda.amp.GradScaler in found
    scaler = compat.make_grad_scaler(enabled=False)
    assert isinstance(scaler, found) and not scaler.is_enabled()


def test_scalers_are_found_without_torch_amp(monkeypatch):
    old = types.SimpleNamespace(
        cuda=types.SimpleNamespace(
            amp=types.SimpleNamespace(GradScaler=dict, autocast=dict)))
    monkeypatch.setattr(compat, 'torch', old)
    assert compat.grad_scaler_types() == (dict, )
    assert compat.make_grad_scaler(True) == dict(enabled=True)
    assert compat.autocast('cuda') == dict(enabled=True)
    assert compat.autocast('cpu') == dict(enabled=False)


def test_autocast_casts_on_this_machine():
    with compat.autocast('cpu'):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == torch.bfloat16
    with compat.autocast('cpu', enabled=False):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


def test_the_method_that_saves_the_best_is_found_under_both_names():
    if hasattr(mmcv_runner, 'EvalHook'):  # mmcv >= 1.3.1
        assert compat.best_saver_name(object.__new__(EvalHook)) == '_save_ckpt'
    old = types.SimpleNamespace(save_best_checkpoint=print)
    assert compat.best_saver_name(old) == 'save_best_checkpoint'
    assert compat.best_saver_name(types.SimpleNamespace()) is None


class Thing:
    pass


def test_registering_replaces_what_a_repo_registered_before():
    registry = Registry('things')
    assert compat.register(registry, Thing) is None
    assert compat.register(registry, Thing) is None
    other = type('Thing', (), {})
    assert compat.register(registry, other) is Thing
    assert registry.get('Thing') is other


@builds_runners
def test_runner_constructors_are_optional(monkeypatch):
    # mmcv.runner itself does not export it
    from mmcv.runner import builder
    assert compat.runner_builders() is builder.RUNNER_BUILDERS
    assert 'DefaultRunnerConstructor' in compat.runner_builders()
    monkeypatch.delattr(builder, 'RUNNER_BUILDERS')
    assert compat.runner_builders() is None


# -- environment -----------------------------------------------------------


@pytest.mark.parametrize('version, expected', [
    ('1.7.2', (1, 7, 2)),
    ('1.3.0rc1', (1, 3, 0)),
    ('2.0.0rc4', (2, 0, 0)),
    ('1.7', (1, 7)),
    ('2.12.1+cu118', (2, 12, 1)),
    ('1.10.0a0+git36449ea', (1, 10, 0)),
    ('unknown', ()),
    ('', ()),
])
def test_versions_are_compared_as_numbers(version, expected):
    assert version_tuple(version) == expected


@pytest.mark.parametrize('version, works', [
    ('1.3.0', True),
    ('1.3.18', True),
    ('1.7.2', True),
    ('1.99', True),
    ('1.2.7', False),
    ('0.6.2', False),
    ('2.0.0rc1', False),
    ('2.2.0', False),
    ('unknown', False),
])
def test_only_mmcv_1_3_to_1_x_is_accepted(version, works, monkeypatch):
    import mmcv
    monkeypatch.setattr(mmcv, '__version__', version)
    if works:
        environment.check_environment()
        return
    with pytest.raises(ImportError) as caught:
        environment.check_environment()
    assert version in str(caught.value)
    assert environment.SUPPORTED in str(caught.value)


def test_a_folder_that_happens_to_be_called_mmcv_is_told(monkeypatch):
    stubs = dict(torch=torch, mmcv=types.ModuleType('mmcv'))
    monkeypatch.setattr(importlib, 'import_module', stubs.get)
    with pytest.raises(ImportError, match='mmcv unknown is installed'):
        environment.check_environment()


@pytest.mark.parametrize('version', ['1.7.1', '0.4.1', 'unknown'])
def test_a_torch_that_is_too_old_is_told(version, monkeypatch):
    monkeypatch.setattr(torch, '__version__', version)
    with pytest.raises(ImportError, match=f'torch {version} is installed'):
        environment.check_environment()


@pytest.mark.parametrize('name', ['torch', 'mmcv'])
def test_a_missing_package_is_named_with_what_works(name, monkeypatch):

    def missing(module):
        if module == name:
            raise ModuleNotFoundError(f'No module named {name}', name=name)
        return types.ModuleType(module)

    monkeypatch.setattr(importlib, 'import_module', missing)
    with pytest.raises(ImportError, match=f'but {name} is not installed'):
        environment.check_environment()


def test_a_package_that_mmcv_itself_lacks_is_not_hidden(monkeypatch):

    def missing(module):
        raise ModuleNotFoundError('No module named cv2', name='cv2')

    monkeypatch.setattr(importlib, 'import_module', missing)
    with pytest.raises(ModuleNotFoundError, match='cv2'):
        environment.check_environment()


def test_the_check_itself_needs_the_standard_library_only():
    code = ('import sys, types\n'
            'package = types.ModuleType("mmcv_ckpt_hooks")\n'
            f'package.__path__ = [{os.path.dirname(environment.__file__)!r}]\n'
            'sys.modules["mmcv_ckpt_hooks"] = package\n'
            'try:\n'
            '    import mmcv_ckpt_hooks.environment\n'
            'except ImportError as error:\n'
            '    print(error)\n')
    result = subprocess.run([sys.executable, '-S', '-I', '-c', code],
                            stdout=subprocess.PIPE,
                            check=True)
    assert b'is not installed' in result.stdout


def test_where_torch_hides_its_store_there_is_none(monkeypatch):
    from torch.distributed import distributed_c10d
    monkeypatch.delattr(distributed_c10d, '_get_default_store')
    assert compat.default_store() is None
