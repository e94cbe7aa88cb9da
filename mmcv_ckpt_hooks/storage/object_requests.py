"""Requests about the objects of a place: names, errors, patience."""
from contextlib import suppress
from typing import Any, Callable, Mapping

from ..errors import MissingCheckpointError, StorageError
from ..wording import counted
from .names import plain_name
from .object_errors import object_errors
from .object_line import ObjectLine
from .object_range import read_range
from .object_url import ObjectPlace


class ObjectRequests:
    """What the verbs of an object store are made of.

    Args:
        place (ObjectPlace): Where the objects are.
        client (module): Of :func:`~.object_url.import_client`.
    """

    def __init__(self, place: ObjectPlace, client: Any) -> None:
        self._place = place
        self.url = place.url
        self._client = client
        self._line = ObjectLine(place)
        # what the keys of a folder begin with
        self._within = ''

    def _key(self, name: str) -> str:
        """Return the key of a file, in the place.

        Raises:
            StorageError: If its name leads out.
        """
        return self._within + plain_name(name, self.url)

    def _ask(self,
             what: str,
             call: Callable[[Any], Any],
             key: str = '',
             missing: Any = MissingCheckpointError) -> Any:
        """Return what a request gives; it is made again if it may pass."""
        with self._errors(what, key, missing):
            return self._line.reach(call)

    def _list(self) -> Any:
        """Return the objects, and the prefixes of those further below."""
        return self._ask(
            'cannot list',
            lambda store: self._client.list_with_delimiter(
                store, self._within or None),
            missing=StorageError)

    def _head(self, key: str) -> Any:
        return self._ask('cannot look for',
                         lambda store: self._client.head(store, key), key)

    def _read(self, store: Any, key: str, start: int, stop: int,
              **options: Any) -> Any:
        return read_range(self._client, store, key, start, stop, **options)

    def _has(self, key: str, mark: Mapping[str, str]) -> bool:
        """Whether an object is there that was sent with these attributes."""
        with suppress(MissingCheckpointError):
            there = self._ask(
                'cannot look for', lambda store: self._client.get(
                    store, key, options=dict(head=True)), key)
            return mark.items() <= dict(there.attributes).items()
        return False

    def _check_size(self, key: str, expected: int) -> None:
        found = self._head(key)['size']
        if found != expected:
            raise StorageError(
                f'{self._at(key)} has {counted(found, "bytes")}, expected '
                f'{expected}: does another program write there?')

    def _errors(self,
                what: str,
                key: str = '',
                missing: Any = MissingCheckpointError) -> Any:
        return object_errors(what,
                             self._at(key) if key else self.url, missing,
                             self._place.secrets)

    def _at(self, key: str) -> str:
        return f'{self._place.url}/{key}'
