"""The claims of a sharded checkpoint's metadata, one by one."""
import pickle

import pytest
import torch

from mmcv_ckpt_hooks.errors import CorruptError, UnsafeCheckpointError
from mmcv_ckpt_hooks.folders import chunks as boxes
from mmcv_ckpt_hooks.folders.chunks import (Chunk, PairCounter, cover_defect,
                                            inside, overlap)
from mmcv_ckpt_hooks.folders.metadata import Item, check_places, parse_metadata

records = pytest.importorskip('torch.distributed.checkpoint.metadata')
filesystem = pytest.importorskip('torch.distributed.checkpoint.filesystem')


def metadata(**tensors):
    """Of tensors: ``name=(size, [(offsets, sizes, file, start, length)])``."""
    saved, stored = {}, {}
    for name, (size, chunks) in tensors.items():
        saved[name] = records.TensorStorageMetadata(
            records.TensorProperties(torch.float32), torch.Size(size), [
                records.ChunkStorageMetadata(
                    torch.Size(offsets), torch.Size(sizes))
                for offsets, sizes, *_ in chunks
            ])
        for offsets, _, *place in chunks:
            stored[records.MetadataIndex(
                name, offsets)] = filesystem._StorageInfo(*place)
    return records.Metadata(saved, None, stored)


def parsed(content):
    return parse_metadata(pickle.dumps(content), 'a.dcp/.metadata')


WHOLE = ((4, 2), [((0, 0), (3, 2), 'a', 0, 100), ((3, 0), (1, 2), 'b', 8, 50)])


def test_it_says_where_everything_is():
    found = parsed(metadata(w=WHOLE, s=((), [((), (), 'a', 100, 60)])))
    assert found.tensors['w'].size == (4, 2)
    assert found.tensors['w'].nbytes == 32
    assert found.tensors['w'].dtype.name == 'float32'
    assert found.files == ['a', 'b']
    assert list(found.items_of('w')) == [
        (Chunk((0, 0), (3, 2)), Item('a', 0, 100)),
        (Chunk((3, 0), (1, 2)), Item('b', 8, 50)),
    ]
    check_places(found, dict(a=160, b=58), 'a.dcp')


@pytest.mark.parametrize('file', ['../a', '/a', 'a/b', '..', '.', '', 'a\0'])
def test_a_path_does_not_lead_out_of_the_folder(file):
    content = metadata(s=((), [((), (), file, 0, 60)]))
    with pytest.raises(CorruptError, match='not the name of a file in the'):
        parsed(content)


def test_a_chunk_has_as_many_bytes_as_it_claims():
    with pytest.raises(CorruptError, match=r'chunk of size \(4, 4\) in 63'):
        parsed(metadata(w=((4, 4), [((0, 0), (4, 4), 'a', 0, 63)])))


def test_an_item_lies_within_its_file():
    found = parsed(metadata(w=WHOLE))
    with pytest.raises(CorruptError, match="'w' lies at 8 to 58: it was cut"):
        check_places(found, dict(a=100, b=57), 'a.dcp')
    with pytest.raises(CorruptError, match='b is missing, which .metadata'):
        check_places(found, dict(a=100), 'a.dcp')


def test_two_items_do_not_lie_across_each_other():
    found = parsed(
        metadata(
            s=((), [((), (), 'a', 0, 60)]), t=((), [((), (), 'a', 59, 60)])))
    with pytest.raises(CorruptError, match="'t' lies across another item"):
        check_places(found, dict(a=200), 'a.dcp')


def test_what_an_extension_has_packed_is_refused():
    content = metadata(s=((), [((), (), 'a', 0, 60)]))
    next(iter(content.storage_data.values())).transform_descriptors = ['zstd']
    with pytest.raises(UnsafeCheckpointError, match='packed by an extension'):
        parsed(content)


DEFECTS = {
    'gap': ((4, ), [((0, ), (1, )), ((2, ), (2, ))], 'hold 3 of 4 elements'),
    'overlap': ((4, ), [((0, ), (3, )), ((2, ), (2, ))], 'overlap'),
    'overlap_and_gap': ((4, ), [((0, ), (2, )), ((1, ), (2, ))], 'overlap'),
    'in_two_dimensions': ((2, 2), [((0, 0), (2, 1)), ((1, 0), (1, 1)),
                                   ((0, 1), (1, 1))], 'overlap'),
    'beyond': ((4, ), [((0, ), (5, ))], 'reaches beyond'),
    'moved': ((4, ), [((1, ), (4, ))], 'reaches beyond'),
    'dimensions': ((4, ), [((0, 0), (4, 1))], 'has not the 1 dimension of it'),
    'nothing': ((4, ), [], 'hold 0 of 4'),
}


@pytest.mark.parametrize('name', sorted(DEFECTS))
def test_chunks_that_make_up_no_tensor(name):
    size, chunks, expected = DEFECTS[name]
    found = cover_defect(size, [Chunk(*one) for one in chunks], PairCounter())
    assert expected in found


COVERS = {
    'rows': ((5, 2), [((0, 0), (2, 2)), ((2, 0), (3, 2))]),
    'columns': ((2, 4), [((0, 0), (2, 1)), ((0, 1), (2, 3))]),
    'both': ((2, 2), [((0, 0), (1, 1)), ((0, 1), (1, 1)), ((1, 0), (1, 2))]),
    'scalar': ((), [((), ())]),
    'empty': ((0, 3), [((0, 0), (0, 3))]),
    'an_empty_part': ((2, ), [((0, ), (2, )), ((2, ), (0, ))]),
}


@pytest.mark.parametrize('name', sorted(COVERS))
def test_chunks_that_do(name):
    size, chunks = COVERS[name]
    assert not cover_defect(size, [Chunk(*one)
                                   for one in chunks], PairCounter())


def test_the_same_chunk_may_be_told_once_a_rank():
    content = metadata(w=WHOLE)
    chunks = content.state_dict_metadata['w'].chunks
    chunks.append(chunks[0])
    assert parsed(content) == parsed(metadata(w=WHOLE))


def test_chunks_are_not_compared_for_ever(monkeypatch):
    """Each begins before all that came before it end."""
    monkeypatch.setattr(boxes, 'PAIRS_LIMIT', 100)
    count = 50
    chunks = [((index, index), (count - index, 1), 'a', index, 1000)
              for index in range(count)]
    with pytest.raises(CorruptError, match='more ways than can be looked at'):
        parsed(metadata(w=((count, count), chunks)))
    # along one dimension there are few
    rows = [((index, 0), (1, 2), 'a', index, 1000) for index in range(count)]
    parsed(metadata(w=((count, 2), rows)))


def test_a_part_is_found_in_both():
    one, other = Chunk((0, 2), (3, 4)), Chunk((2, 0), (5, 4))
    common = overlap(one, other)
    assert common == Chunk((2, 2), (1, 2)) == overlap(other, one)
    assert inside(common, one) == (slice(2, 3), slice(0, 2))
    assert inside(common, other) == (slice(0, 1), slice(2, 4))
    assert overlap(one, Chunk((3, 0), (1, 9))) is None
    assert overlap(Chunk((), ()), Chunk((), ())) == Chunk((), ())


@pytest.mark.parametrize('dtype', ['float16', 'bfloat16', 'int64', 'bool'])
def test_every_type_has_its_bytes(dtype):
    content = metadata(s=((3, ), [((0, ), (3, ), 'a', 0, 60)]))
    content.state_dict_metadata['s'].properties.dtype = getattr(torch, dtype)
    size = torch.empty(3, dtype=getattr(torch, dtype)).element_size()
    assert parsed(content).tensors['s'].nbytes == 3 * size
