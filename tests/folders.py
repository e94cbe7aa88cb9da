"""Sharded checkpoints built by hand, of any number of ranks."""
import struct

import pytest
import torch

from mmcv_ckpt_hooks.folders.chunks import Chunk
from mmcv_ckpt_hooks.folders.export import (Piece, split_checkpoint,
                                            write_folder)
from mmcv_ckpt_hooks.loading import load_checkpoint
from mmcv_ckpt_hooks.storage import open_backend
from mmcv_ckpt_hooks.version import version_tuple

#: torch before 2.3 writes no sharded checkpoint.
WRITES_FOLDERS = version_tuple(torch.__version__) >= (2, 3)
NEW_TORCH = pytest.mark.skipif(not WRITES_FOLDERS, reason='needs torch >= 2.3')

#: ``fully_shard`` and the module of ``DTensor`` are public since then.
FSDP2 = pytest.mark.skipif(
    version_tuple(torch.__version__) < (2, 6),
    reason='torch < 2.6 shards with FSDP2 on a GPU only')


def cut(piece, count):
    """A piece in so many, along its first dimension; some may be empty."""
    if not piece.size:
        return [piece]
    parts, start = [], 0
    for values in torch.tensor_split(piece.values, count):
        offsets = (start, ) + (0, ) * (len(piece.size) - 1)
        parts.append(
            Piece(piece.name, piece.size, Chunk(offsets, tuple(values.shape)),
                  values, piece.place))
        start += len(values)
    return parts


def build_folder(directory,
                 checkpoint,
                 names,
                 ranks=1,
                 sharded=True,
                 card=None):
    """Write what a checkpoint file holds as a folder of so many ranks.

    Args:
        directory (Path): The folder.
        checkpoint (dict): Its content.
        names (dict): See ``split_checkpoint``.
        ranks (int): How many write. Default: 1.
        sharded (bool): Whether each has a part of every tensor; else every
            tensor is whole on one of them. Default: True.
        card (dict, optional): Default: an empty one.
    """
    pieces, rest = split_checkpoint(checkpoint, names)
    by_rank = [[] for _ in range(ranks)]
    for number, piece in enumerate(pieces):
        parts = cut(piece, ranks) if sharded else [piece]
        for rank, part in enumerate(parts):
            if part.values.numel() or not piece.values.numel():
                place = rank if len(parts) > 1 else number % ranks
                by_rank[place].append(part)
                if not piece.values.numel():
                    break
    files = open_backend(str(directory))
    files.prepare()
    write_folder(files, by_rank, rest, card or {})
    return directory


def with_another_value(content):
    """Return a file of items with one bit of a value changed."""
    name_bytes, extra_bytes = struct.unpack_from('<2H', content, 26)
    changed = bytearray(content)
    changed[30 + name_bytes + extra_bytes] ^= 1
    return bytes(changed)


def names_of(model, optimizer):
    """Names of the parameters of the only optimizer, by position."""
    by_id = {id(one): name for name, one in model.named_parameters()}
    return {
        '': [
            by_id[id(one)] for group in optimizer.param_groups
            for one in group['params']
        ]
    }


def folder_of_file(path, directory, names, **kwargs):
    """As :func:`build_folder`, of a checkpoint file."""
    with open(path, 'rb') as file:
        checkpoint = load_checkpoint(file, str(path))
    return build_folder(directory, checkpoint, names, **kwargs)
