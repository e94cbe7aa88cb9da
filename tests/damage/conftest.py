"""Directories of real runs, made once."""
import pytest
from real_files import NEWEST, run_directory


@pytest.fixture(scope='session')
def run_files(tmp_path_factory):
    """Files of a run by its kind, each a dict of bytes by name."""
    made = {}

    def files_of(kind):
        assert kind in NEWEST
        if kind not in made:
            made[kind] = run_directory(tmp_path_factory.mktemp('run'), kind)
        return dict(made[kind])

    return files_of
