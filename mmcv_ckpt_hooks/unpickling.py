"""The pickle of a checkpoint to values, without executing anything from it.

A pickle is a program. Of its instructions only those run here that build
containers, numbers, text and tensors; it can call only what a
:mod:`vocabulary` has, and can set attributes of nothing but what is under
construction. Whether tensors are built, or outlines of them, is up to the
vocabulary: who looks at a file refuses what who loads it refuses.
``torch.load(weights_only=True)`` is not relied on: it could be bypassed
before torch 2.6 (CVE-2025-32434), and it refuses numpy scalars, which stock
mmcv writes.

Source: CPython Lib/pickle.py.
"""
import io
import pickle
import struct
from collections import Counter, OrderedDict, defaultdict
from contextlib import contextmanager
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple, Type

from .building import Storage, Unfinished
from .errors import TRUST, CorruptError, UnsafeCheckpointError
from .instructions import (Malformed, Refused, Unpickler, harmless,
                           refuse_instruction, refused_name, shortened)
from .unpickling_finish import Finish
from .vocabulary import Name, Vocabulary

#: ``read(key, dtype, numel)`` returns a storage's content.
ReadStorage = Callable[[str, Any, int], Any]

#: What a pickle that is read wrongly raises.
_READING_ERRORS = (pickle.UnpicklingError, EOFError, LookupError, TypeError,
                   ValueError, AttributeError, OverflowError, RuntimeError,
                   struct.error)

_DICTS = (dict, OrderedDict, Counter, defaultdict)
#: Results of calls that may be larger than the instruction that calls.
_COPIES = (bytes, bytearray, set, frozenset, dict, tuple)
_COUNTED_NAMES = ('MARK EMPTY_LIST EMPTY_DICT EMPTY_SET TUPLE1 MEMOIZE '
                  'LONG_BINPUT')


def unpickle(data: bytes,
             vocabulary: Vocabulary,
             read: ReadStorage,
             path: str,
             advice: str = TRUST) -> Any:
    """Execute a pickle that can do no harm.

    Args:
        data (bytes): The pickle.
        vocabulary (Vocabulary): What it may name.
        read (callable): See :data:`ReadStorage`; what it raises passes
            through.
        path (str): Of the file, for the messages.
        advice (str): What to do about one that asks for more. Default: that
            of a checkpoint file.

    Raises:
        CorruptError: If no program would have written it so.
        UnsafeCheckpointError: If it asks for more than this module does.
    """
    kind = _ObjectMachine if vocabulary.has_objects else _Machine
    with _execution(kind(data, vocabulary, read), path, advice) as machine:
        return Finish().value(machine.load())


def unpickle_until(data: bytes, vocabulary: Vocabulary, read: ReadStorage,
                   end: Type[Exception], path: str) -> Optional[List[Any]]:
    """Execute a pickle that builds a dict, until its first storage.

    Args:
        data (bytes): The pickle.
        vocabulary (Vocabulary): What it may name.
        read (callable): Raises ``end``.
        end (type[Exception]): See there.
        path (str): Of the file, for the messages.

    Returns:
        list | None: Names and values of the dict, in turn, as far as they
        were there; None if it builds something else, or has no storage.

    Raises:
        CorruptError: As :func:`unpickle`, of what was executed.
        UnsafeCheckpointError: As :func:`unpickle`.
    """
    with _execution(_Machine(data, vocabulary, read), path, TRUST) as machine:
        try:
            machine.load()
        except end:
            # what MARK has put away: the dict, then its items
            put_away = [*machine.metastack, machine.stack][:2]
            if len(put_away) == 2 and put_away[0] == [{}]:
                finish, items = Finish(), list(put_away[1])
                return [finish.value(one) for one in items[:2]] + items[2:]
    return None


@contextmanager
def _execution(machine: Any, path: str, advice: str) -> Iterator[Any]:
    """Say of which file an error is."""
    try:
        yield machine
    except Malformed as error:
        raise CorruptError(f'{path} is malformed: {error}') from error
    except Refused as error:
        raise UnsafeCheckpointError(
            f'{path}: its structure is undamaged, but loading it would be '
            f'refused: {error}. {advice}') from error
    except _READING_ERRORS as error:
        raise CorruptError(
            f'{path} is malformed: its pickle cannot be read '
            f'({type(error).__name__}: {str(error)[:200]})') from error
    finally:
        # an error keeps the machine, which would keep all that it has built
        machine.__dict__.clear()


def _counted(number: int) -> Callable[[Any], None]:
    execute = Unpickler.dispatch[number]

    def counted(machine: '_Machine') -> None:
        machine.count_value()
        execute(machine)

    return counted


class _Machine(Unpickler):
    """Python's unpickler with a closed list of instructions."""

    def __init__(self, data: bytes, vocabulary: Vocabulary,
                 read: ReadStorage) -> None:
        super().__init__(io.BytesIO(data))
        self._vocabulary = vocabulary
        self._read_storage = read
        self._storages: Dict[str, Storage] = {}
        self._claims: Dict[str, Tuple[Any, int]] = {}
        self._values = 0
        # a few bytes that copy the same large value again and again
        self._copies_left = 4 * len(data) + 1024

    def find_class(self, module: str, name: str) -> Any:
        found = self._vocabulary.find(module, name)
        if found is None:
            raise refused_name(module, name)
        return found

    def persistent_load(self, pid: Any) -> Storage:
        if type(pid) is not tuple or len(pid) != 5:
            raise Malformed(f'a storage is {shortened(pid)}')
        kind, storage_type, key, _, numel = pid
        if kind != 'storage' or type(storage_type) is not Name or \
                storage_type.storage_dtype is None or \
                type(key) is not str or type(numel) is not int or numel < 0:
            raise Malformed(f'a storage is {shortened(pid)}')
        claim = (storage_type.storage_dtype, numel)
        if key not in self._storages:
            self._claims[key] = claim
            self._storages[key] = Storage(self._read_storage(key, *claim))
        if claim != self._claims[key]:
            raise Malformed(f'storage {shortened(key)} is once '
                            f'{self._claims[key]}, once {claim}')
        return self._storages[key]

    def _reduce(self) -> None:
        self.count_value()
        arguments = self.stack.pop()
        function = self.stack[-1]
        if type(function) is not Name or function.call is None or \
                type(arguments) is not tuple:
            raise Refused(f'it calls {shortened(function)}')
        result = function.call(*arguments)
        if isinstance(result, _COPIES):
            self._copies_left -= len(result)
            if self._copies_left < 0:
                raise Malformed('it holds more than its own size')
        self.stack[-1] = result

    def _build(self) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, Unfinished):
            target.build(state)
        elif type(target) is OrderedDict and type(state) is dict:
            # the only attribute that a state dict has
            metadata = state.get('_metadata')
            if isinstance(metadata, dict):
                setattr(target, '_metadata', metadata)
        else:
            raise Refused(f'it sets attributes of {shortened(target)}')

    def _set_item(self) -> None:
        item, key = self.stack.pop(), self.stack.pop()
        self._put([key, item])

    def _set_items(self) -> None:
        self._put(self.pop_mark())

    def _put(self, items: List[Any]) -> None:
        target = self.stack[-1]
        if type(target) not in _DICTS or len(items) % 2:
            raise Malformed(f'it sets items of {shortened(target)}')
        for key, item in zip(items[::2], items[1::2]):
            self._vocabulary.check_key(key)
            target[key] = item

    def _append_item(self) -> None:
        item = self.stack.pop()
        self._extend([item])

    def _append_items(self) -> None:
        self._extend(self.pop_mark())

    def _extend(self, items: List[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not list:
            raise Malformed(f'it appends to {shortened(target)}')
        target.extend(items)

    def _add_items(self) -> None:
        items, target = self.pop_mark(), self.stack[-1]
        if type(target) is not set:
            raise Malformed(f'it adds to {shortened(target)}')
        for item in items:
            self._vocabulary.check_key(item)
        target.update(items)

    def _frozen_set(self) -> None:
        items = self.pop_mark()
        for item in items:
            self._vocabulary.check_key(item)
        self.append(frozenset(items))

    def _stop(self) -> None:
        if len(self.stack) != 1 or self.metastack:
            raise Malformed('it ends with more or less than one value')
        Unpickler.dispatch[pickle.STOP[0]](self)

    def count_value(self) -> None:
        """Count what takes much more memory than its instruction."""
        self._values += 1
        if self._values > self._vocabulary.values_limit:
            raise Refused('it builds more than '
                          f'{self._vocabulary.values_limit} values')

    #: What is no instruction at all is not in here.
    dispatch = {
        **dict.fromkeys(Unpickler.dispatch, refuse_instruction),
        **harmless(),
        **{
            getattr(pickle, name)[0]: _counted(getattr(pickle, name)[0])
            for name in _COUNTED_NAMES.split()
        },
        pickle.STOP[0]: _stop,
        pickle.REDUCE[0]: _reduce,
        pickle.BUILD[0]: _build,
        pickle.SETITEM[0]: _set_item,
        pickle.SETITEMS[0]: _set_items,
        pickle.APPEND[0]: _append_item,
        pickle.APPENDS[0]: _append_items,
        pickle.ADDITEMS[0]: _add_items,
        pickle.FROZENSET[0]: _frozen_set,
    }


class _ObjectMachine(_Machine):
    """Builds objects, too: those that the vocabulary has."""

    def _new_object(self) -> None:
        self.count_value()
        arguments, kind = self.stack.pop(), self.stack[-1]
        if type(kind) is not Name or kind.new is None or arguments != ():
            refuse_instruction(self)
        self.stack[-1] = kind.new()

    dispatch = {**_Machine.dispatch, pickle.NEWOBJ[0]: _new_object}
