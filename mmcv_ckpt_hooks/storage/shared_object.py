"""A small object that is replaced only as it was seen last."""
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any, Dict, Optional

from ..errors import MissingCheckpointError, StorageError, UnsupportedError
from .names import plain_name
from .object_errors import (is_gone_place, is_unknown_request, object_errors,
                            passes)
from .object_line import ObjectLine
from .object_range import EmptyObject, read_range
from .object_url import ObjectPlace, import_client, server_of
from .retrying import Retries

#: Longest wait for one answer (seconds), unless the options say another: it is
#: about a kilobyte, and others watch how long it takes.
_ANSWER_SECS = 10.
#: More is not read: whoever wrote it is not one of us.
_LARGEST_BYTES = 1 << 16
#: Names no version that ever was; GCS counts them.
_NO_VERSION = dict(e_tag=f'"{"0" * 32}"', version='1')
_WRITE = 'cannot write'


class SharedObject:
    """As :class:`~..types.SharedFile`, by conditional requests.

    A server that takes no notice of conditions, or refuses them, is found
    out the first time; from then on the object is looked at right before it
    is replaced, as it is in a storage that has no conditions.

    Args:
        place (ObjectPlace): The prefix.
        name (str): Of the object.

    Source: Amazon S3 User Guide, "Conditional writes": of several writers
    that name the same version, or none, one succeeds.
    """

    def __init__(self, place: ObjectPlace, name: str) -> None:
        self._name = plain_name(name, place.url)
        self._url = f'{place.url}/{name}'
        self._secrets = place.secrets
        self.place = f'{server_of(place)} {self._url}'
        self.is_exclusive = True
        self._is_tried = False
        options = {
            'timeout': timedelta(seconds=_ANSWER_SECS),
            **place.client_options
        }
        self._client = import_client(place.url)
        self._line = ObjectLine(replace(place, client_options=options))
        self._retries = Retries(place.patience_secs(quick=True))
        self._version: Optional[Dict[str, str]] = None
        self._seen = b''

    def look(self) -> bytes:
        self._version, self._seen = None, b''
        # a bucket that is not there is an error, and so is a refusal
        with suppress(MissingCheckpointError):
            with self._errors('cannot read', MissingCheckpointError):
                meta, self._seen = self._line.reach(self._read)
            self._version = _version(meta)
        return self._seen

    def replace(self, content: bytes) -> bool:
        if self.is_exclusive:
            with suppress(UnsupportedError):
                return self._replace_if_seen(content)
            self.is_exclusive = False
        seen = self._seen
        if self.look() != seen:
            return self._seen == content
        self._put(content, 'overwrite')
        return True

    def _replace_if_seen(self, content: bytes) -> bool:
        mode = 'create' if self._version is None else self._version
        if mode == {}:
            raise UnsupportedError(f'{self._url} has no version')
        if not self._put(content, mode):
            # it may be ours: the first answer was lost
            return self.look() == content
        if not self._is_tried:
            # the same bytes: whoever is let in changes nothing
            self.is_exclusive = not (self._put(content, _NO_VERSION)
                                     or self._put(content, 'create'))
            self._is_tried = True
        return True

    def _read(self, store: Any) -> Any:
        try:
            meta, data = read_range(self._client, store, self._name, 0,
                                    _LARGEST_BYTES)
        except EmptyObject:
            return self._client.head(store, self._name), b''
        return meta, bytes(data)

    def _put(self, content: bytes, mode: Any) -> bool:
        """Write; False if the store says that the condition does not hold.

        Raises:
            UnsupportedError: If it knows no conditions.
        """
        foreign = self._client.exceptions

        def put(store: Any) -> Any:
            return self._client.put(
                store, self._name, content, mode=mode, use_multipart=False)

        with self._errors(_WRITE, StorageError):
            try:
                meta = self._retries.run(
                    lambda: self._line.reach(put, quick=True), passes)
            except (foreign.AlreadyExistsError, foreign.PreconditionError):
                return False
            except FileNotFoundError as error:
                # S3: what was to be replaced is gone
                if mode in ('create', 'overwrite') or is_gone_place(error):
                    raise
                return False
            except (foreign.BaseError, NotImplementedError) as error:
                if not is_unknown_request(error):
                    raise
                raise UnsupportedError(
                    f'{self._url}: the store knows no conditional '
                    'writes') from error
        self._version, self._seen = _version(meta), content
        return True

    def _errors(self, what: str, missing: Any) -> Any:
        return object_errors(what, self._url, missing, self._secrets)


def _version(meta: Any) -> Dict[str, str]:
    return {
        key: meta[key]
        for key in ('e_tag', 'version') if meta[key] is not None
    }
