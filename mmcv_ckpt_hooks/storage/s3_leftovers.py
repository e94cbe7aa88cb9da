"""Uploads in parts that nobody will complete, on S3.

They are not listed as objects, but are paid for. Nothing tells whose they are;
what does not grow is taken for dead.
"""
import datetime
import logging
import time
import xml.etree.ElementTree as ElementTree
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from typing import (Dict, Iterator, List, Mapping, NamedTuple, Optional, Set,
                    Tuple)
from urllib.error import HTTPError

from ..folders.layout import is_folder
from .mapped_errors import storage_error
from .object_url import ObjectPlace
from .retrying import Retries
from .s3_signature import Response, S3Requests, requests_to

#: An upload to which nothing was added for so long has no writer.
IDLE_SECS = 60.
_GONE = 404
_OF_SERVER = 500


class _Upload(NamedTuple):
    key: str
    upload_id: str
    begun: datetime.datetime


class S3Leftovers:
    """Finds and aborts abandoned uploads of a prefix.

    Args:
        place (ObjectPlace): On S3.

    Thread: one at a time.
    """

    def __init__(self, place: ObjectPlace) -> None:
        self._place = place
        self._retries = Retries(place.patience_secs(quick=True))
        self._prefix = f'{place.prefix}/' if place.prefix else ''
        # seen by `sweep`, and too young to tell: by id
        self._young: Set[str] = set()
        self._look_at = 0.

    def sweep(self) -> List[str]:
        """Abort what is idle; say of which objects.

        Raises:
            StorageError: If the store does not answer. Where it refuses,
                nothing is swept, and the log says so.
        """
        requests = self._requests()
        return [] if requests is None else self._sweep(requests, None)

    def sweep_later(self) -> List[str]:
        """Look again at what was young, if there was anything."""
        if not self._young or time.monotonic() < self._look_at:
            return []
        requests = self._requests()
        return [] if requests is None else self._sweep(requests, self._young)

    def _sweep(self, requests: S3Requests, only: Optional[Set[str]]) -> \
            List[str]:
        swept: List[str] = []
        young: Set[str] = set()
        try:
            for upload, now in self._listed(requests):
                if only is None or upload.upload_id in only:
                    with _gone_meanwhile():
                        idle = now - self._last_sign(requests, upload)
                        if idle.total_seconds() < IDLE_SECS:
                            young.add(upload.upload_id)
                            continue
                        self._send(requests, 'DELETE', upload.key,
                                   dict(uploadId=upload.upload_id))
                        name = upload.key[len(self._prefix):]
                        swept.append(f'an upload of {name}')
        except OSError as error:
            told = storage_error(
                error, f'cannot sweep {self._place.url}', remote=True)
            # what it costs is space; a run does not depend on it
            logging.warning(f'Unfinished uploads are left where they are: '
                            f'{told}')
        self._young = young
        self._look_at = time.monotonic() + IDLE_SECS
        return swept

    def _listed(self, requests: S3Requests) -> \
            List[Tuple[_Upload, datetime.datetime]]:
        found = []
        query: Dict[str, str] = dict(uploads='', prefix=self._prefix)
        while True:
            root, now = self._send(requests, 'GET', query=query)
            page = root.findall('Upload')
            for one in page:
                key = one.findtext('Key', '')
                if _is_of_place(key[len(self._prefix):]):
                    found.append(
                        (_Upload(key, one.findtext('UploadId', ''),
                                 _time(one.findtext('Initiated'))), now))
            if root.findtext('IsTruncated') != 'true' or not page:
                return found
            query['key-marker'] = root.findtext('NextKeyMarker', '')
            query['upload-id-marker'] = root.findtext('NextUploadIdMarker', '')

    def _last_sign(self, requests: S3Requests,
                   upload: _Upload) -> datetime.datetime:
        """Return when something was added to an upload last."""
        query = dict(uploadId=upload.upload_id)
        last = upload.begun
        while True:
            root, _ = self._send(requests, 'GET', upload.key, query)
            last = max([last] + [
                _time(part.findtext('LastModified'))
                for part in root.iterfind('Part')
            ])
            if root.findtext('IsTruncated') != 'true':
                return last
            query['part-number-marker'] = root.findtext(
                'NextPartNumberMarker', '')

    def _send(self,
              requests: S3Requests,
              method: str,
              key: str = '',
              query: Optional[Mapping[str, str]] = None) -> \
            Tuple[ElementTree.Element, datetime.datetime]:
        """Return what is answered, and the store's time."""

        def send() -> Tuple[ElementTree.Element, datetime.datetime]:
            response = requests.send(method, key, query)
            return _parsed(response), _clock(response)

        return self._retries.run(send, _passes)

    def _requests(self) -> Optional[S3Requests]:
        return requests_to(self._place.bucket, self._place.plain)


def _is_of_place(name: str) -> bool:
    """Whether an object is not one of a directory below, which is another's.

    A folder that is a checkpoint belongs to the place.
    """
    above, _, own = name.rpartition('/')
    return not above or ('/' not in above and is_folder(above))


def _passes(error: Exception) -> bool:
    """Whether an error of a request may not come again."""
    if isinstance(error, HTTPError):
        return error.code >= _OF_SERVER
    return isinstance(error, OSError)


@contextmanager
def _gone_meanwhile() -> Iterator[None]:
    """Pass over an upload that somebody has completed or aborted."""
    try:
        yield
    except HTTPError as error:
        if error.code != _GONE:
            raise


def _parsed(response: Response) -> ElementTree.Element:
    try:
        root = ElementTree.fromstring(response.body or b'<Empty/>')
    except ElementTree.ParseError as error:
        raise OSError(f'the answer is no XML: {error}') from error
    for one in root.iter():
        one.tag = one.tag.rpartition('}')[2]  # some stores name no namespace
    return root


def _clock(response: Response) -> datetime.datetime:
    """Return the store's time: this machine's may be another."""
    try:
        return parsedate_to_datetime(response.date)
    except (TypeError, ValueError):
        return datetime.datetime.now(datetime.timezone.utc)


def _time(text: Optional[str]) -> datetime.datetime:
    try:
        return datetime.datetime.fromisoformat((text
                                                or '').replace('Z', '+00:00'))
    except ValueError:
        # nothing is known: it counts as dead
        return datetime.datetime.fromtimestamp(0, datetime.timezone.utc)
