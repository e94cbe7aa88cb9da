"""What the tests of the command line share."""
import pytest
from toy import make_loader, train


@pytest.fixture
def run_dir(tmp_path):
    """Directory of a finished run.

    ``iter_2``, ``_4``, ``_6``, ``_8``, the best of them at 4, latest.pth.
    """
    directory = tmp_path / 'run'
    train(
        directory,
        loader=make_loader(32),
        checkpoint_config=dict(interval=2),
        evaluation=dict(
            scores=[.5, .7, .6, .65],
            interval=2,
            by_epoch=False,
            save_best='mIoU'),
        hooks=[dict(type='DurableCheckpointHook')])
    return directory
