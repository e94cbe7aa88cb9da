"""The directories that the blocks of a page run in."""
import contextlib
import os
import sys
from pathlib import Path
from unittest import mock

from doc_blocks import ROOT, BlockError, blocks_of
from doc_kinds import KINDS
from doc_scenes import SCENES

PROGRAMS = Path(__file__).parent / 'programs'


class Stage:
    """Where the blocks of one page with the same scenes run, in order.

    Scenes fill it: see ``doc_scenes.py``.

    Args:
        scenes (tuple[str]): Their names.
        directory (Path): An empty one.
        request (pytest.FixtureRequest): What scenes are built with.

    Raises:
        BlockError: If a scene is not known.
    """

    def __init__(self, scenes, directory, request):
        self.directory = directory
        self.request = request
        #: variables of the environment
        self.variables = {}
        #: what stands in the pages for what is here only
        self.replaced = {}
        #: where what was made for several stages was made
        self.made = []
        #: where Python finds modules, beside the package
        self.modules = []
        #: what the code of one block leaves to the next
        self.names = {'__name__': '__page__'}
        for scene in scenes:
            if scene not in SCENES:
                raise BlockError(f'no scene {scene!r}; there are '
                                 f'{", ".join(sorted(SCENES))}')
            with self.entered():
                SCENES[scene](self)

    @contextlib.contextmanager
    def entered(self):
        """Be in the directory, with the variables."""
        before = os.getcwd()
        os.chdir(self.directory)
        try:
            with mock.patch.dict(os.environ, self.variables):
                yield
        finally:
            os.chdir(before)

    def environment(self):
        """Return the variables for commands, which are in English and plain.
        """
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(('AWS_', 'AZURE_', 'GOOGLE_', 'PYTEST_'))
        }
        paths = [str(path) for path in (ROOT, *self.modules)]
        return {
            **kept, 'PATH':
            os.pathsep.join([
                str(PROGRAMS),
                str(Path(sys.executable).parent), os.environ['PATH']
            ]),
            'PYTHON':
            sys.executable,
            'REPOSITORY':
            str(ROOT),
            'PYTHONPATH':
            os.pathsep.join(paths),
            'CUDA_VISIBLE_DEVICES':
            '',
            'OMP_NUM_THREADS':
            '1',
            'COLUMNS':
            '160',
            'LC_ALL':
            'C.UTF-8',
            'NO_COLOR':
            '1',
            'TERM':
            'dumb',
            **self.variables
        }

    def here(self, text):
        """Return a text of a page with what is here in its place."""
        for written, real in self.replaced.items():
            text = text.replace(written, real)
        return text

    def there(self, text):
        """Return a text from here as a page would have it."""
        for written, real in self.replaced.items():
            text = text.replace(real, written)
        for directory in (self.directory, *self.made):
            text = text.replace(str(directory), '/project')
        return text

    def check(self, block):
        """Run one block.

        Raises:
            BlockError: If its language is not known.
        """
        where = f'{block.page}:{block.line}'
        if block.language not in KINDS:
            raise BlockError(
                f'{where}: language {block.language!r}; there are '
                f'{", ".join(sorted(KINDS))}')
        if block.file:
            path = self.directory / block.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self.here(block.text))
        KINDS[block.language](self, block)


class Stages:
    """One stage for each page and set of scenes, made when it is needed.

    Args:
        make_directory (Callable): Returns an empty one.
    """

    def __init__(self, make_directory):
        self._make_directory = make_directory
        self._stages = {}
        self._outcomes = {}

    def check(self, block, request):
        """Run a block behind those of its page with the same scenes."""
        key = block.page, block.scenes
        if key not in self._stages:
            self._stages[key] = Stage(block.scenes, self._make_directory(),
                                      request)
        for other in blocks_of(block.page):
            if other.scenes == block.scenes and not other.not_run and \
                    other.line <= block.line and other not in self._outcomes:
                self._outcomes[other] = outcome(self._stages[key], other)
        if self._outcomes[block] is not None:
            raise self._outcomes[block]


def outcome(stage, block):
    """Run a block; return what it has raised, or None."""
    try:
        stage.check(block)
    except Exception as error:  # told by the test of that block
        return error
    return None
