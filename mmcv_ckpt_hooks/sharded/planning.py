"""Which rank writes which tensor, planned by torch.distributed.checkpoint.

Its planner alone is used, and the classes of its metadata; who writes, and
when it counts, is ours. torch >= 2.3.
"""
import hashlib
import pickle
from dataclasses import dataclass, replace
from typing import Any, Dict, List, Sequence, Tuple

import torch
from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
from torch.distributed.checkpoint.filesystem import _StorageInfo

from ..folders.layout import part_name
from .shards import Path, Shards

#: The same on all versions of Python; a reader without torch knows it.
_PROTOCOL = 4
#: First byte and length of an item in its file.
Span = Tuple[int, int]


@dataclass(frozen=True)
class Plan:
    """What every rank writes, the same on all ranks.

    Args:
        items (list[list]): Of each rank what it writes, in its order.
        metadata (Metadata): Of all tensors.
    """
    items: List[List[Any]]
    metadata: Any

    def mark(self, rank: int) -> str:
        """Return what tells one rank's part from that of another plan."""
        names = [(one.index.fqn, tuple(one.index.offset or ()))
                 for one in self.items[rank]]
        return hashlib.sha256(repr(names).encode()).hexdigest()

    def metadata_bytes(self, spans: Sequence[Sequence[Span]]) -> bytes:
        """Return the content of ``.metadata``.

        Args:
            spans (Sequence): Of each rank where its items lie.
        """
        stored: Dict[Any, Any] = {}
        for rank, (items, places) in enumerate(zip(self.items, spans)):
            for item, (offset, length) in zip(items, places):
                stored[item.index] = _StorageInfo(
                    part_name(rank), offset, length)
        return pickle.dumps(
            replace(self.metadata, storage_data=stored), protocol=_PROTOCOL)


class Planner:
    """Plans one save.

    Args:
        shards (Shards): What this rank has.
        is_first (bool): Whether it is rank 0, or saves alone.
    """

    def __init__(self, shards: Shards, is_first: bool) -> None:
        self._paths = dict(shards.paths)
        self._planner = DefaultSavePlanner(flatten_state_dict=False)
        self._planner.set_up_planner(
            state_dict=dict(shards.tensors), is_coordinator=is_first)

    def local(self) -> Any:
        """Return what this rank could write; a record that can be pickled."""
        return replace(
            self._planner.create_local_plan(), planner_data=self._paths)

    def united(self, plans: List[Any]) -> Plan:
        """Return what each is to write: a replicated tensor one of them.

        Args:
            plans (list): Of all ranks, by rank.
        """
        final, metadata = self._planner.create_global_plan(plans)
        paths: Dict[str, Path] = {}
        for plan in plans:
            paths.update(plan.planner_data)
        return Plan([one.items for one in final],
                    replace(metadata, planner_data=paths))

    def tensors(self, items: Sequence[Any]) -> List[torch.Tensor]:
        """Return the live tensors of items, whose parts lie on this rank."""
        found: List[Any] = [self._planner.resolve_data(one) for one in items]
        return [one.detach() for one in found]
