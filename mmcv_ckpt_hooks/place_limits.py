"""What a place cannot do for a run, said before it trains.

Standard library only.
"""
from dataclasses import replace
from typing import Iterable, Optional

from .options import CheckpointOptions, KeepOptions
from .storage import OBJECT_STORES, is_of_fsspec, scheme_of
from .types import LATEST_NAME, StorageBackend


def followed(options: CheckpointOptions,
             place: StorageBackend) -> CheckpointOptions:
    """Return the options as far as a place lets a run follow them."""
    if place.capabilities.delete:
        return options
    return replace(options, max_keep_ckpts=-1, keep=KeepOptions())


def limits_text(options: CheckpointOptions, place: StorageBackend,
                home: StorageBackend) -> Optional[str]:
    """Say in one line what a place cannot do and what follows from that.

    Args:
        options (CheckpointOptions): Of the hook.
        place (StorageBackend): Where the checkpoints go.
        home (StorageBackend): Where the catalog is kept.

    Returns:
        str | None: None if it can do all that a run asks for.
    """
    able, said = place.capabilities, []
    if not able.delete:
        asked = options.keep_last is not None or options.keep.is_selective
        instead = 'max_keep_ckpts and keep are not followed' if asked else \
            'nothing is deleted'
        said.append(f'delete: {instead}, all checkpoints and former best ones '
                    'stay until somebody removes them')
    if not able.listing:
        said.append('list: what is there is known from the catalog in '
                    f'{home.url} or, where that is lost, from its copy there')
    if not able.point and options.create_symlink:
        said.append(f'link: there is no {LATEST_NAME}')
    return f'{place.url} cannot {"; cannot ".join(said)}' if said else None


def unused_text(options: CheckpointOptions,
                places: Iterable[Optional[str]]) -> Optional[str]:
    """Say in one line that ``storage_options`` are of no use.

    Args:
        options (CheckpointOptions): Of the hook.
        places (iterable): What a run writes to or reads from; None and empty
            ones do not count.

    Returns:
        str | None: None if one of the places takes them, or there are none.
    """
    schemes = {scheme_of(place) for place in places if place}
    if not options.storage_options or any(
            one in OBJECT_STORES or is_of_fsspec(one) for one in schemes):
        return None
    mirror = '' if options.mirror is None else \
        '; those of the mirror are mirror.storage_options'
    return 'storage_options of the hook are not used: they are for object ' \
        'stores and fsspec, and the hook has no such out_dir, nor begins ' \
        f'with a checkpoint from there{mirror}'
