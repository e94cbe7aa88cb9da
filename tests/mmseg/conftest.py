"""Training runs of mmsegmentation's own tool, shared by the tests here."""
import pytest
from mmseg_scenarios import Scenarios
from mmseg_tool import Tool, find_tool
from tiles import write_tiles


@pytest.fixture(scope='session')
def all_runs(tmp_path_factory):
    """All runs of the session; tests ask for ``runs``."""
    if find_tool() is None:
        pytest.skip('mmsegmentation is not installed')
    root = tmp_path_factory.mktemp('mmseg')
    write_tiles(root / 'tiles')
    scenarios = Scenarios(Tool(root))
    yield scenarios
    scenarios.close()


@pytest.fixture(scope='module')
def runs(all_runs, request):
    """The runs; those that the module names in ``RUNS`` start at once."""
    all_runs.start(*request.module.RUNS)
    return all_runs
