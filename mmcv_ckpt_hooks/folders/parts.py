"""The pickle of ``.metadata`` to plain parts, without executing anything.

It holds objects of torch.distributed.checkpoint. In their place stand parts
that have the fields of those and nothing else; what the fields may be is
checked in :mod:`.metadata`. The names are those of torch 2.0 to 2.12.
Standard library only.
"""
from typing import Any, Callable, Dict, Optional, Tuple

from ..building import Unfinished, check_counts
from ..instructions import Malformed, Refused, shortened
from ..outline import VOCABULARY, torch_dtype
from ..unpickling import unpickle
from ..vocabulary import Name, Vocabulary

#: What to do about a folder that is not read.
TRUST_FOLDER = ('If you trust who made it, dcp_to_torch_save in '
                'torch.distributed.checkpoint.format_utils makes a file of it')
#: Dimensions of a tensor.
_MAX_DIMENSIONS = 64
#: Longest name of a tensor (characters).
_MAX_NAME = 4096


class Part(Unfinished):
    """An object of torch: its fields, as they stand in the pickle.

    Args:
        kind (str): Name of its class.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.fields: Dict[str, Any] = {}
        #: of what pickles as a tuple
        self.values: Tuple[Any, ...] = ()

    def build(self, state: Any) -> None:
        if type(state) is tuple:
            self.values = state
        elif type(state) is dict and all(type(key) is str for key in state):
            self.fields = state
        else:
            raise Malformed(f'a {self.kind} has the state {shortened(state)}')

    def finished(self) -> 'Part':
        return self

    def __repr__(self) -> str:
        return f'a {self.kind}'


class Index(Unfinished):
    """Names a tensor, or a part of one by where it begins; a key.

    What follows its hash is checked when it is built, and never changes.
    """

    def __init__(self) -> None:
        self.name = ''
        self.offsets: Optional[Tuple[int, ...]] = None

    def build(self, state: Any) -> None:
        if self.name or type(state) is not dict:
            raise Malformed(f'a MetadataIndex has the state '
                            f'{shortened(state)}')
        self.name = checked_name(state.get('fqn'))
        offsets = state.get('offset')
        if offsets is not None:
            self.offsets = checked_size(offsets, 'an offset')

    def finished(self) -> 'Index':
        return self

    def __hash__(self) -> int:
        if not self.name:
            raise Malformed('a MetadataIndex is used before it has a name')
        return hash((self.name, self.offsets))

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, Index) and \
            (self.name, self.offsets) == (other.name, other.offsets)

    def __repr__(self) -> str:
        return f'the index of {shortened(self.name)}'


def checked_name(name: Any) -> str:
    """Return the name of a tensor."""
    if type(name) is not str or not 0 < len(name) <= _MAX_NAME:
        raise Malformed(f'the name of a tensor is {shortened(name)}')
    return name


def checked_size(lengths: Any, what: str) -> Tuple[int, ...]:
    """Return lengths, one for each dimension."""
    check_counts(lengths, what)
    if len(lengths) > _MAX_DIMENSIONS:
        raise Malformed(f'{what} has {len(lengths)} dimensions')
    return tuple(lengths)


def _memory_format(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= 2:
        raise Malformed(f'a memory format is {shortened(value)}')
    return value


def _layout(name: Any) -> str:
    if name != 'torch.strided':
        raise Refused(f'it holds a tensor of layout {shortened(name)}')
    return 'torch.strided'


def _path(*parts: Any) -> str:
    # where it was written; nobody goes there
    if any(type(part) is not str for part in parts):
        raise Malformed(f'a path is {shortened(parts)}')
    return ''


_METADATA = 'torch.distributed.checkpoint.metadata'
#: Where torch < 2.3 had some of them.
_OLD_METADATA = 'torch.distributed._shard.sharded_tensor.metadata'
_FILES = 'torch.distributed.checkpoint.filesystem'
_OBJECTS = (
    (_METADATA, 'Metadata'),
    (_METADATA, 'TensorStorageMetadata'),
    (_METADATA, 'BytesStorageMetadata'),
    (_METADATA, 'ChunkStorageMetadata'),
    (_METADATA, 'TensorProperties'),
    (_OLD_METADATA, 'TensorProperties'),
    (_METADATA, 'StorageMeta'),
    (_FILES, '_StorageInfo'),
)
_CALLS: Dict[str, Callable[..., Any]] = {
    f'{_METADATA}._MEM_FORMAT_ENCODING': _memory_format,
    f'{_METADATA}.MEM_FORMAT_ENCODING': _memory_format,
    f'{_OLD_METADATA}.MEM_FORMAT_ENCODING': _memory_format,
    'torch.serialization._get_layout': _layout,
    **{
        f'{module}.{pure}{kind}Path': _path
        # Python 3.13 names the module in which they are
        for module in ('pathlib', 'pathlib._local')
        for pure in ('', 'Pure')
        for kind in ('Posix', 'Windows')
    },
}


class _FolderVocabulary(Vocabulary):
    #: those of 190,000 chunks: 400 parameters and their Adam on 120 ranks
    values_limit = 5 << 20
    has_objects = True

    def __init__(self) -> None:
        super().__init__({}, {}, _no_numpy, _no_numpy, (Index, ))
        for text, call in _CALLS.items():
            self._add(Name(text, call))
        for module, kind in _OBJECTS:
            self._add(Name(f'{module}.{kind}', new=_new_part(kind)))
        self._add(Name(f'{_METADATA}.MetadataIndex', new=Index))
        self.names['torch', 'Size'] = VOCABULARY.names['torch', 'Size']

    def find(self, module: str, name: str) -> Any:
        if module == 'torch' and name != 'Size':
            return torch_dtype(name)
        return super().find(module, name)

    def _add(self, name: Name) -> None:
        module, _, text = name.text.rpartition('.')
        self.names[module, text] = name


def _no_numpy(*arguments: Any) -> Any:
    raise Refused('it holds numpy values')


def _new_part(kind: str) -> Callable[[], Part]:
    return lambda: Part(kind)


_VOCABULARY = _FolderVocabulary()


def _no_storage(key: str, dtype: Any, numel: int) -> Any:
    raise Refused('it holds tensors')


def read_parts(data: bytes, path: str) -> Any:
    """Read the pickle of ``.metadata``.

    Args:
        data (bytes): The pickle.
        path (str): Of the file, for the messages.

    Raises:
        CorruptError: If no program would have written it so.
        UnsafeCheckpointError: If it names what could run code.
    """
    return unpickle(data, _VOCABULARY, _no_storage, path, TRUST_FOLDER)
