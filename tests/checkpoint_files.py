"""Checkpoint files built by hand, and how to compare what is in them."""
import io
import pickle
import re
import shutil
import zipfile

import numpy as np
import torch

from mmcv_ckpt_hooks.serialization import write_checkpoint
from mmcv_ckpt_hooks.staging import reference


def written(tree, info=None):
    """The bytes of a checkpoint that the package writes."""
    stream = io.BytesIO()
    write_checkpoint(stream, reference(tree), info or {})
    return stream.getvalue()


def torch_written(tree, **kwargs):
    """The bytes of a checkpoint that ``torch.save`` writes."""
    stream = io.BytesIO()
    torch.save(tree, stream, **kwargs)
    return stream.getvalue()


def stored_zip(records, compression=zipfile.ZIP_STORED):
    """A zip file of ``(name, data)`` pairs, which may repeat a name."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, 'w', compression) as archive:
        for name, data in records:
            archive.writestr(name, data)
    return stream.getvalue()


def torch_zip(pickled, storages=(), more=(), byteorder=b'little'):
    """A checkpoint with any pickle in it.

    Args:
        pickled (bytes): Content of ``data.pkl``.
        storages (list[bytes]): Content of ``data/0``, ``data/1``, ...
        more (list): Further ``(name, data)`` pairs.
    """
    records = [('archive/data.pkl', pickled), ('archive/byteorder', byteorder)]
    records += [(f'archive/data/{index}', data)
                for index, data in enumerate(storages)]
    return stored_zip(records + list(more) + [('archive/version', b'3\n')])


def rewritten(content, change):
    """A zip file with ``change(name, data)`` in the place of each record.

    None leaves a record out.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        pairs = [(name, change(name, archive.read(name)))
                 for name in archive.namelist()]
    return stored_zip([(name, data) for name, data in pairs
                       if data is not None])


def record_of(content, name):
    """Content of one record of a checkpoint."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return archive.read(f'archive/{name}')


def without_crc(text):
    """A catalog that may be edited: its checksum is left out."""
    return re.sub(r'"crc32": \d+,\s*', '', text)


def equal(one, other):
    """Whether two trees are equal in every type, shape, stride and bit."""
    if type(one) is not type(other):
        return False
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and one.shape == other.shape and \
            tensor_bytes(one) == tensor_bytes(other)
    if isinstance(one, (np.ndarray, np.generic)):
        return one.dtype == other.dtype and one.shape == other.shape and \
            one.tobytes() == other.tobytes()
    if isinstance(one, dict):
        return equal(list(one), list(other)) and \
            equal(list(one.values()), list(other.values())) and \
            equal(getattr(one, '_metadata', None),
                  getattr(other, '_metadata', None))
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(equal, one, other))
    if isinstance(one, float):
        return one == other or (one != one and other != other)
    return bool(one == other)


def tensor_bytes(tensor):
    """The values of a tensor of any type as bytes."""
    plain = tensor.detach().cpu().resolve_conj().resolve_neg()
    flat = plain.clone(memory_format=torch.contiguous_format).reshape(-1)
    # numpy lacks bfloat16 and float8
    return flat.view(torch.uint8).numpy().tobytes()


class Payload:
    """Pickles as a call of any function."""

    def __init__(self, function, *arguments):
        self.reduced = (function, arguments)

    def __reduce__(self):
        return self.reduced


def pickled(value, protocol=2):
    return pickle.dumps(value, protocol)


def moved(run_dir, *names):
    """Move checkpoints to another disk and leave links behind."""
    disk = run_dir.parent / 'disk'
    disk.mkdir(exist_ok=True)
    for name in names:
        shutil.move(str(run_dir / name), str(disk / name))
        (run_dir / name).symlink_to(disk / name)
    return disk
