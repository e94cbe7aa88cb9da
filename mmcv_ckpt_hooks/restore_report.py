"""What of a checkpoint came back, and what did not: one line in the log."""
from typing import Any, List, Mapping, Optional, Sequence

from .wording import counted

#: So many names of tensors are told.
_NAMES = 3
#: Fields that ``load_from`` does not look at, in the words of the log.
_BESIDE_WEIGHTS = dict(
    optimizer='optimizer', amp='AMP state', model_ema='averaged weights')
#: What stands in for a reason where a file simply lacks it.
NOT_THERE = 'not in the file'


class RestoreReport:
    """Collects what a resume restored.

    Args:
        checkpoint (dict): The one that is restored.
    """

    def __init__(self, checkpoint: Mapping[str, Any]) -> None:
        self._writer = _writer(checkpoint)
        self._restored: List[str] = []
        self._left: List[str] = []

    def note(self, what: str, restored: bool, why: str = NOT_THERE) -> None:
        """Take note of a part.

        Args:
            what (str): The part.
            restored (bool): Whether it came back.
            why (str): Why it did not. Default: it is not in the file.
        """
        if restored:
            self._restored.append(what)
        else:
            self._left.append(f'{what} ({why})')

    def note_generators(self, held: int, saved: int, now: int) -> None:
        """Take note of the generators of this run's ranks.

        Args:
            held (int): Of so many ranks the file has them; 0 if none.
            saved (int): Ranks that the file is of.
            now (int): Ranks of this run.
        """
        what, ranks = 'random generators', max(saved, now)
        if 0 < min(held, now) < ranks:
            what += f' of {min(held, now)} of {counted(ranks, "ranks")}'
        self.note(what, bool(held))

    def note_weights(self, own: Mapping[str, Any],
                     saved: Mapping[str, Any]) -> None:
        """Take note of the tensors of the model that were in the file.

        Args:
            own (dict): The model's state dict.
            saved (dict): The file's, renamed as it was loaded.
        """
        self._restored.append(weights_text(own, saved))

    def line(self, name: str) -> str:
        """Return the line for the log."""
        text = f'Restored from {name}, which {self._writer} wrote: ' + \
            (', '.join(self._restored) or 'nothing')
        if self._left:
            text += f'. Not restored: {", ".join(self._left)}'
        return text


def loaded_text(path: str, checkpoint: Mapping[str, Any],
                own: Mapping[str, Any], saved: Mapping[str, Any]) -> str:
    """Return the line for weights alone, as ``load_from`` takes them.

    Args:
        path (str): Of the file.
        checkpoint (dict): Its content; of a folder ``FolderWeights``.
        own (dict): The model's state dict.
        saved (dict): The file's, renamed as it was loaded.
    """
    text = f'Loaded from {path}, which {_writer(checkpoint)} wrote: ' + \
        weights_text(own, saved)
    # of a folder, what is large is not even read
    unread = getattr(checkpoint, 'unread', ())
    left = [
        word for name, word in _BESIDE_WEIGHTS.items()
        if checkpoint.get(name) or name in unread
    ]
    if left:
        text += f'. Left where it is: {", ".join(left)}'
        if 'meta' in checkpoint:
            text += ' (only a resume takes it)'
    return text


def nothing_fits(own: Mapping[str, Any], saved: Mapping[str, Any]) -> bool:
    """Whether a file has no tensor of a model."""
    return not any(
        name in saved and _shape(own[name]) == _shape(saved[name])
        for name in own)


def weights_text(own: Mapping[str, Any], saved: Mapping[str, Any]) -> str:
    """Say how many tensors of a model a file has, and which it has not."""
    lacking = [name for name in own if name not in saved]
    other = [
        name for name in own
        if name in saved and _shape(own[name]) != _shape(saved[name])
    ]
    spare = [name for name in saved if name not in own]
    text = f'weights ({len(own) - len(lacking) - len(other)} of ' \
        f'{counted(len(own), "tensors")} of the model'
    for what, names in (('not in the file', lacking),
                        ('of another shape', other), ('only in the file',
                                                      spare)):
        if names:
            text += f'; {what}: {_some(names)}'
    return text + ')'


def _some(names: Sequence[str]) -> str:
    more = f' and {len(names) - _NAMES} more' if len(names) > _NAMES else ''
    return ', '.join(map(str, names[:_NAMES])) + more


def _shape(value: Any) -> Any:
    # a module's extra state may be anything
    shape = getattr(value, 'shape', None)
    return None if shape is None else tuple(shape)


def _writer(checkpoint: Mapping[str, Any]) -> str:
    state = checkpoint.get('resume_state')
    if state:
        own = state.get('plugin_version') if isinstance(state, Mapping) \
            else None
        # version 0.1 did not tell its own at first
        return f'mmcv_ckpt_hooks {own}' if isinstance(own, str) else \
            'mmcv_ckpt_hooks'
    meta = checkpoint.get('meta')
    version = meta.get('mmcv_version') if isinstance(meta, Mapping) else None
    return f'mmcv {version}' if isinstance(version, str) else 'another program'


def why_not_position(loaders: Optional[Sequence[Mapping[str, Any]]],
                     saved_ranks: int, ranks: int) -> str:
    """Say why a run does not go on after its last batch; '' if it does.

    Args:
        loaders (list[dict], optional): Where this rank was in its data.
        saved_ranks (int): How many saved it.
        ranks (int): How many this run has.
    """
    if not loaders:
        return NOT_THERE
    if saved_ranks != ranks:
        return 'only its share of the pass: ' \
            f'{counted(saved_ranks, "ranks")} saved it, this run has {ranks}'
    if not any('used' in loader for loader in loaders):
        return 'a stream decides on its order itself'
    return ''
