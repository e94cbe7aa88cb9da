"""What must be true of a directory after a kill or a power cut.

What was committed and what was reported is read from the recorded operations
and the log lines between them, not from our catalog.
"""
import hashlib
import os
import re

from mmcv_ckpt_hooks import find_resumable, verify_checkpoint
from mmcv_ckpt_hooks.catalog import Catalog
from mmcv_ckpt_hooks.errors import MissingCheckpointError
from mmcv_ckpt_hooks.folders.loading import load_folder
from mmcv_ckpt_hooks.history import History
from mmcv_ckpt_hooks.loading import load_checkpoint
from mmcv_ckpt_hooks.storage.local import LocalBackend

_SAVED = re.compile(r'Saved checkpoint (\S+\.(?:pth|dcp))(?: \(\w+\))?:')
_BEST = re.compile(r'Best (\S+) is (\S+) at \d+ iterations \((\S+)\)')
_REGULAR = re.compile(r'iter_(\d+)\.(?:pth|dcp)$')


class Promises:
    """What a run has committed and reported until now.

    Attributes:
        committed (str, optional): Digest of the content that was renamed to
            an ``iter_N.pth`` last; of a folder that of its manifest.
        saved (str, optional): Digest of what the log says was saved last.
        underway (list[str]): Digests of what was renamed since.
        best (tuple, optional): Metric, score and file name that the log
            reported last.
        former_best (set[str]): Names that the log has called best.
    """

    def __init__(self):
        self.committed = None
        self.saved = None
        self.underway = []
        self.best = None
        self.former_best = set()
        self._known = {None}

    def follow(self, operation, disk):
        """Look at an operation that ``disk`` has done already."""
        committed = operation.kind == 'rename' and _committed(operation.other)
        if committed:
            self.committed = _digest(disk.read(committed))
            self.underway.append(self.committed)
            self._known.add(self.committed)
        elif operation.kind == 'mark':
            saved = _SAVED.match(operation.path)
            if saved and _REGULAR.match(saved.group(1)):
                self.saved, self.underway = self.committed, []
            best = _BEST.match(operation.path)
            if best:
                self.best = (best.group(1), float(best.group(2)),
                             best.group(3))
                self.former_best.add(best.group(3))

    def resumable(self):
        """Digests of what a resume may find after a power cut."""
        return [self.saved, *self.underway]

    def unrecorded(self, directory):
        """Digests of what a killed run committed in its last moment."""
        paths = [
            os.path.join(directory, name) for name in checkpoints(directory)
            if _REGULAR.match(name)
        ]
        step_of = {
            path: int(_REGULAR.search(os.path.basename(path)).group(1))
            for path in paths
        }
        newest = max(paths, key=step_of.get, default=None)
        digest = newest and _digest_of(newest)
        if digest in self._known:
            return []
        self.underway.append(digest)
        return [digest]

    def key(self):
        return (self.saved, tuple(self.underway), self.best,
                tuple(sorted(self.former_best)))


def judge(directory, promises, resumable, pointer=True):
    """Check a work dir; return the path of the checkpoint to resume from.

    Args:
        directory (str): Work dir, which may be missing.
        promises (Promises): What it must keep.
        resumable (list): Digests of the contents of which one must be found;
            None for nothing.
        pointer (bool): Whether ``latest.pth`` is kept. Default: True.
    """
    directory = str(directory)
    for name in checkpoints(directory):
        path = os.path.join(directory, name)
        assert os.path.exists(path), f'{name} dangles'
        verify_checkpoint(path)
    found = find_resumable(directory)
    assert (found and _digest_of(found)) in resumable, \
        f'a resume finds {found}'
    if found is not None:
        if os.path.isdir(found):
            load_folder(LocalBackend(found), found)
        else:
            with open(found, 'rb') as file:
                load_checkpoint(file, found, False)
    latest = os.path.join(directory, 'latest.pth')
    if os.path.lexists(os.path.join(directory, 'latest.dcp')):
        latest = os.path.join(directory, 'latest.dcp')
    if pointer and promises.saved is not None:
        assert _digest_of(latest) in promises.resumable(), \
            f'latest.pth leads to {os.path.realpath(latest)}'
    _judge_best(directory, promises)
    History(directory).read()
    return found


def _judge_best(directory, promises):
    """The best score is known, its file is there, and no orphan is left."""
    backend = LocalBackend(directory)
    catalog = Catalog(backend, backend, lambda message: None)
    try:
        catalog.open()
    except MissingCheckpointError:
        assert promises.best is None
        return
    if promises.best is not None:
        metric, score, _ = promises.best
        known = catalog.best(metric)
        assert known is not None and known.score >= score, known
        assert os.path.exists(os.path.join(directory, known.name))
    for name in promises.former_best & set(checkpoints(directory)):
        # else nothing will ever delete it
        assert catalog.find(name).lineage == catalog.lineage, \
            f'{name} is left behind'


def _names(directory):
    return os.listdir(directory) if os.path.isdir(directory) else []


def checkpoints(directory):
    """Return the names that are listed as checkpoints, and links to them."""
    return [
        name for name in _names(directory)
        if name.endswith('.pth') or (name.endswith('.dcp') and (
            os.path.islink(os.path.join(directory, name))
            or '.metadata' in _names(os.path.join(directory, name))))
    ]


def _committed(path):
    """Return what tells the content of what a rename commits; None."""
    folder, name = os.path.split(path)
    if _REGULAR.match(name) and name.endswith('.pth'):
        return path
    if name == '.metadata' and _REGULAR.match(os.path.basename(folder)):
        return os.path.join(folder, 'manifest.json')
    return None


def _digest(content):
    return hashlib.sha256(content).hexdigest()


def _digest_of(path):
    if os.path.isdir(path):
        path = os.path.join(path, 'manifest.json')
    with open(path, 'rb') as file:
        return _digest(file.read())
