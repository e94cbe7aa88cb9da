"""Every difference between versions of mmcv, torch and Python.

One function or table per difference, each with the version that made it.
"""
import functools
import importlib
import warnings
from typing import IO, Any, Callable, Dict, List, Optional, Set, Tuple

import numpy as np
import torch

from .version import version_tuple

#: torch's storage class by dtype, as it stands in the pickle of a .pth file.
#: Types that came later (float8, uint16, torch 2.1+) have none and are
#: written as an untyped storage.
STORAGE_NAMES: Dict[torch.dtype, str] = {
    torch.float64: 'DoubleStorage',
    torch.float32: 'FloatStorage',
    torch.float16: 'HalfStorage',
    torch.bfloat16: 'BFloat16Storage',
    torch.int64: 'LongStorage',
    torch.int32: 'IntStorage',
    torch.int16: 'ShortStorage',
    torch.int8: 'CharStorage',
    torch.uint8: 'ByteStorage',
    torch.bool: 'BoolStorage',
    torch.complex64: 'ComplexFloatStorage',
    torch.complex128: 'ComplexDoubleStorage',
}

#: numpy types that carry the bytes of every torch type of their size.
_CARRIERS: Dict[int, Any] = {
    1: np.uint8,
    2: np.int16,
    4: np.int32,
    8: np.int64,
    16: np.complex128
}


def torch_dtypes() -> Tuple[torch.dtype, ...]:
    """Every dtype that this torch has."""
    # not getattr(torch, name): some names import whole packages
    return tuple({
        value
        for value in vars(torch).values() if isinstance(value, torch.dtype)
    })


def storage_pointer(tensor: torch.Tensor) -> int:
    """Return the address of a tensor's storage, the same for all views."""
    if hasattr(tensor, 'untyped_storage'):  # torch >= 2.0
        return int(tensor.untyped_storage().data_ptr())
    return int(tensor.storage().data_ptr())


def resolved(tensor: torch.Tensor) -> torch.Tensor:
    """Materialise lazy conjugation and negation (torch >= 1.10)."""
    for name in ('resolve_conj', 'resolve_neg'):
        if hasattr(tensor, name):
            tensor = getattr(tensor, name)()
    return tensor


def is_inference(tensor: torch.Tensor) -> bool:
    """Whether nothing counts what is written to it: torch >= 1.9 has such."""
    return hasattr(tensor, 'is_inference') and tensor.is_inference()


def is_lazy(tensor: torch.Tensor) -> bool:
    """Whether it is to be conjugated or negated yet (torch >= 1.10)."""
    return hasattr(tensor, 'is_neg') and (tensor.is_neg() or tensor.is_conj())


def tensor_over(memory: Any, dtype: torch.dtype, numel: int,
                start: int) -> torch.Tensor:
    """View a part of memory as a flat tensor, without copying it.

    Args:
        memory (buffer): Writable.
        dtype (torch.dtype): Any.
        numel (int): Its elements.
        start (int): Its first byte.
    """
    size = torch.empty(0, dtype=dtype).element_size()
    # torch.frombuffer came with torch 1.10; before, torch views only types of
    # the same size, and numpy has not all: it carries the bytes
    carrier: Any = np.frombuffer(memory, _CARRIERS[size], numel, start)
    return torch.from_numpy(carrier).view(dtype)


def dtensor_parts(tensor: Any) -> Optional[Tuple[Any, Any]]:
    """Return sizes and offsets of this rank's part of a ``DTensor``.

    None if it has none. The module is public since torch 2.5.
    """
    if tensor.device_mesh.get_coordinate() is None:
        return None
    name = 'torch.distributed.tensor._utils' if version_tuple(
        torch.__version__) >= (2, 5) else 'torch.distributed._tensor._utils'
    utils: Any = importlib.import_module(name)
    sizes, offsets = utils.compute_local_shape_and_global_offset(
        tensor.shape, tensor.device_mesh, tensor.placements)
    return sizes, offsets


def copy_all(targets: List[torch.Tensor], sources: List[torch.Tensor]) -> None:
    """Copy tensors from a GPU without waiting; on its current stream."""
    if hasattr(torch, '_foreach_copy_'):  # torch >= 2.1: no loop in Python
        if targets:
            torch._foreach_copy_(targets, sources, non_blocking=True)
        return
    for target, source in zip(targets, sources):
        target.copy_(source, non_blocking=True)


def trusting_load(file: IO[bytes]) -> Any:
    """``torch.load`` with full unpickling, for files the user trusts."""
    file.seek(0)
    if version_tuple(torch.__version__) >= (1, 13):
        return torch.load(file, map_location='cpu', weights_only=False)
    # torch < 1.13 has no such argument and always unpickles everything
    return torch.load(file, map_location='cpu')


def grad_scaler_types() -> Tuple[Any, ...]:
    """Classes of torch's loss scalers: ``torch.amp`` came with torch 2.3."""
    found = []
    for package in (getattr(torch, 'amp', None), torch.cuda.amp):
        scaler = getattr(package, 'GradScaler', None)
        if isinstance(scaler, type):
            found.append(scaler)
    return tuple(found)


def keeps_own_weights(hook: Any) -> bool:
    """Whether an optimizer hook has full weights beside a model of halves.

    mmcv's ``Fp16OptimizerHook`` up to 1.3.1, with a loss scale of its own; no
    checkpoint has them.
    """
    from mmcv.runner.fp16_utils import LossScaler
    return isinstance(getattr(hook, 'loss_scaler', None), LossScaler)


def scaler_fields(scaler: Any) -> Set[str]:
    """Return what the state of a loss scaler has; mmcv 1.3.0's has none."""
    state = getattr(scaler, 'state_dict', None)
    return set() if state is None else set(state())


def make_grad_scaler(enabled: bool) -> Any:
    """Build a loss scaler for CUDA without torch 2.4's deprecation warning."""
    amp: Any = getattr(torch, 'amp', None)
    if hasattr(amp, 'GradScaler'):  # torch >= 2.3
        return amp.GradScaler('cuda', enabled=enabled)
    return torch.cuda.amp.GradScaler(enabled=enabled)


def autocast(device_type: str, enabled: bool = True) -> Any:
    """Return an autocast context: ``torch.autocast`` came with torch 1.10."""
    if hasattr(torch, 'autocast'):
        return torch.autocast(device_type, enabled=enabled)
    return torch.cuda.amp.autocast(enabled=enabled and device_type == 'cuda')


def best_saver_name(eval_hook: Any) -> Optional[str]:
    """Name of the method by which an EvalHook saves its best checkpoint.

    mmcv's calls it ``_save_ckpt``; that which mmdet had of its own beside mmcv
    1.3.0, which has none, ``save_best_checkpoint``.
    """
    for name in ('_save_ckpt', 'save_best_checkpoint'):
        if callable(getattr(eval_hook, name, None)):
            return name
    return None


def evaluation_methods(eval_hook: Any) -> Tuple[str, ...]:
    """Names of the methods in which an EvalHook evaluates.

    mmcv's does it in ``_do_evaluate``; those of the repos beside mmcv 1.3.0,
    which has none, in their event methods.
    """
    if callable(getattr(eval_hook, '_do_evaluate', None)):
        return ('_do_evaluate', )
    return ('before_train_iter', 'before_train_epoch', 'after_train_iter',
            'after_train_epoch')


def register(registry: Any, cls: type) -> Optional[type]:
    """Register a class, in place of one that a repo registered before.

    Returns:
        type | None: The class that was replaced.
    """
    name = cls.__name__
    before = registry.module_dict.get(name)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        registry.register_module(name=name, force=True, module=cls)
    return before if before is not cls else None


def runner_builders() -> Optional[Any]:
    """Registry of runner constructors; None before mmcv 1.3.12."""
    from mmcv.runner import builder  # mmcv.runner does not export it
    return getattr(builder, 'RUNNER_BUILDERS', None)


def infer_file_client(url: str) -> Any:
    """Return the client that mmcv has for a URL; by name before 1.3.16.

    Raises:
        ValueError: If this mmcv cannot tell by the URL.
    """
    from mmcv.fileio import FileClient
    if not hasattr(FileClient, 'infer_client'):
        raise ValueError('mmcv < 1.3.16 does not choose a backend by the URL '
                         'and writes to no remote one')
    return FileClient.infer_client(uri=url)


def keeps_loaded_tensors() -> bool:
    """Whether an optimizer keeps the very tensors that it loads.

    Those that have its type and device; before torch 2.1 it copies all.
    """
    return hasattr(torch.optim.Optimizer,
                   '_process_value_according_to_param_policy')


def watches_steps(optimizer: Any) -> bool:
    """Whether torch itself tells of each step: torch >= 2.0."""
    return hasattr(optimizer, 'register_step_pre_hook')


def watch_steps(optimizer: Any, note: Callable[[], None]) -> \
        Callable[[], None]:
    """Call ``note`` before every step of an optimizer.

    Returns:
        callable: Ends it, and leaves nothing behind.
    """
    if watches_steps(optimizer):
        handle = optimizer.register_step_pre_hook(lambda *_: note())
        return lambda: handle.remove()
    # LR schedulers of torch wrap ``step`` on the instance, too
    before = vars(optimizer).get('step')
    inner = optimizer.step

    @functools.wraps(inner)
    def step(*args: Any, **kwargs: Any) -> Any:
        note()
        return inner(*args, **kwargs)

    def unwatch() -> None:
        if vars(optimizer).get('step') is not step:
            return  # wrapped again since: that one calls ours, which is true
        if before is None:
            del optimizer.step
        else:
            optimizer.step = before

    optimizer.step = step
    return unwatch


def default_store() -> Any:
    """Return the store by which torch's ranks have met; None without one.

    ``_get_default_store`` is private; torch 1.8 to 2.12 have it. Ranks that
    MPI started have no store.
    """
    from torch.distributed import distributed_c10d
    get = getattr(distributed_c10d, '_get_default_store', None)
    return None if get is None else get()
