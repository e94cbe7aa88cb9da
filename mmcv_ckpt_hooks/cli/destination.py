"""Where ``mmcv-ckpt push`` copies to: as it is told, or as the run noted."""
from typing import Any, Dict, Mapping, Optional, Tuple

from ..catalog import Catalog
from ..errors import ConfigError
from ..mirror_note import NOTE_NAME, MirrorNote, read_note
from ..mirroring import MirrorPlace
from ..retention import KeepBest, KeepNames, policy_of
from ..storage import OBJECT_STORES, scheme_of
from ..storage.names import same_place, without_credentials
from ..storage.object_url import endpoint_of, parse_place
from .output import warn
from .place import Place
from .remote import Access, is_url


def destination(place: Place, given: Optional[str],
                access: Access) -> Tuple[MirrorPlace, str, str]:
    """Return where the checkpoints of a directory go; nothing is sent yet.

    Args:
        place (Place): The directory.
        given (str, optional): A path or URL. None for the one that the run
            noted.
        access (Access): How to open URLs.

    Returns:
        tuple[MirrorPlace, str, str]: The mirror; its endpoint, empty if there
        is none; both in words: what is noted may have come with the
        directory, and is not what the user has in mind.

    Raises:
        ConfigError: If there is none.
    """
    note = None if given else read_note(place.files)
    url = given or (note and note.url)
    if not url:
        raise ConfigError(f'{place.shown} notes no mirror, as a run that has '
                          'one does: give its URL')
    if same_place(url, place.files.url):
        raise ConfigError(f'{without_credentials(url)} is the directory '
                          'itself, expected another place')
    policy, budget, ranking = _keeps(note, place.catalog)
    options = access.options_of(url, _where(note)) if is_url(url) else None
    mirror = MirrorPlace(
        url,
        policy,
        warn,
        warn,
        options,
        symlink=note is None or note.create_symlink,
        budget=budget,
        ranking=lambda: ranking,
        held=lambda: place.catalog.lost_scores is not None)
    endpoint = _endpoint(url, options)
    told = f'Copying to {mirror.url}'
    if note is not None:
        told += f' (noted in {place.path(NOTE_NAME)})'
    if endpoint:
        told += f', endpoint {endpoint}'
        if note is not None and endpoint == note.endpoint:
            told += ' (noted there)'
    return mirror, endpoint, told


def _endpoint(url: str, options: Optional[Mapping[str, Any]]) -> str:
    return endpoint_of(parse_place(
        url, options)) if scheme_of(url) in OBJECT_STORES else ''


def _where(note: Optional[MirrorNote]) -> Dict[str, str]:
    found = {} if note is None else dict(
        endpoint=note.endpoint, region=note.region)
    return {name: value for name, value in found.items() if value is not None}


def _keeps(note: Optional[MirrorNote],
           catalog: Catalog) -> Tuple[Any, Optional[int], Optional[KeepBest]]:
    """Return policy, budget and ranking; without a note everything is kept."""
    if note is None:
        names = frozenset(info.name for info in catalog.owned())
        return KeepNames(names), None, None
    return (policy_of(note.last, note.every, note.by_epoch), note.bytes,
            note.ranking(catalog.auto_metric()))
