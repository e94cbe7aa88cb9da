"""A fake of the pavi SDK, backed by a directory.

It has the calls that mmcv 1.x makes and no others. A training model is a
directory, its files are files; a file that is uploaded again is replaced.
"""
import os
import shutil
import sys
import types
from contextlib import contextmanager
from typing import Dict, Iterator, List, Optional

_MODULES = ('pavi', 'pavi.modelcloud', 'pavi.exception')


class NodeNotFoundError(Exception):
    """What ``pavi.exception`` calls a path that does not exist."""


class NodeExistsError(Exception):
    """A training model is there already (the SDK's own name is unknown)."""


class FakePavi:
    """The platform: its content, what was called, and what is to fail.

    Args:
        directory (str): Where the models are kept.

    Attributes:
        calls (list[str]): For example ``'create_file project/model/a.pth'``.
        faults (dict[str, Exception]): Error by the name of a call, raised
            at each such call until it is taken out.
    """

    def __init__(self, directory: str) -> None:
        self.directory = os.path.abspath(directory)
        self.calls: List[str] = []
        self.faults: Dict[str, Exception] = {}

    def get(self, path: str) -> '_Node':
        """``pavi.modelcloud.get``: a training model or a file of one."""
        self.enter('get', path)
        node = _Node(self, path)
        if not os.path.exists(node.local_path):
            raise NodeNotFoundError(path)
        return node

    def create_training_model(self, path: str) -> '_Node':
        """``pavi.modelcloud.Folder().create_training_model``."""
        self.enter('create_training_model', path)
        node = _Node(self, path)
        try:
            os.makedirs(node.local_path)
        except FileExistsError as error:
            raise NodeExistsError(path) from error
        return node

    def enter(self, call: str, path: str) -> None:
        """Record a call, and let it fail if a test wants that."""
        self.calls.append(f'{call} {path}')
        if call in self.faults:
            raise self.faults[call]


class _Node:
    """A training model or a file."""

    def __init__(self, platform: FakePavi, path: str) -> None:
        parts = path.strip('/').split('/')
        if not {'', '.', '..'}.isdisjoint(parts):
            raise NodeNotFoundError(path)
        self._platform = platform
        self._path = '/'.join(parts)
        self.name = parts[-1]
        self.local_path = os.path.join(platform.directory, *parts)

    def create_file(self, path: str, name: Optional[str] = None) -> '_Node':
        """Upload a local file into this model."""
        node = _Node(self._platform,
                     f'{self._path}/{name or os.path.basename(path)}')
        self._platform.enter('create_file', node._path)
        if not os.path.isdir(self.local_path):
            raise NodeNotFoundError(self._path)
        shutil.copyfile(path, node.local_path)
        return node

    def download(self, path: str) -> None:
        """Copy this file to a local path."""
        self._platform.enter('download', self._path)
        if not os.path.isfile(self.local_path):
            raise NodeNotFoundError(self._path)
        shutil.copyfile(self.local_path, path)


@contextmanager
def install(directory: str) -> Iterator[FakePavi]:
    """Put the fake into ``sys.modules`` as the package ``pavi``.

    Args:
        directory (str): Where the models are kept.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as place, install(place):
        ...     from pavi import modelcloud
        ...     model = modelcloud.Folder().create_training_model('p/m')
        ...     modelcloud.get('p/m').name
        'm'
    """
    platform = FakePavi(directory)
    before = {name: sys.modules.get(name) for name in _MODULES}
    sys.modules.update(_modules(platform))
    try:
        yield platform
    finally:
        for name, module in before.items():
            if module is None:
                sys.modules.pop(name, None)
            else:
                sys.modules[name] = module


def _modules(platform: FakePavi) -> Dict[str, types.ModuleType]:

    class Folder:
        """The root of the platform."""

        def create_training_model(self, path: str) -> _Node:
            return platform.create_training_model(path)

    package, modelcloud, exception = map(types.ModuleType, _MODULES)
    vars(package).update(
        __path__=[], modelcloud=modelcloud, exception=exception)
    vars(modelcloud).update(get=platform.get, Folder=Folder)
    vars(exception).update(
        NodeNotFoundError=NodeNotFoundError, NodeExistsError=NodeExistsError)
    return dict(zip(_MODULES, (package, modelcloud, exception)))
