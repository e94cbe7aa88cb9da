"""The stages of the pages, one set a session."""
import pytest


@pytest.fixture(scope='session')
def stages(tmp_path_factory):
    from doc_stages import Stages
    return Stages(lambda: tmp_path_factory.mktemp('page'))
