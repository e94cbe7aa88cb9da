"""Checks mmcv and torch before anything else is imported.

They are not in ``install_requires``: pip would put ``mmcv`` over ``mmcv-full``
or fetch mmcv 2.x. Standard library only.
"""
import importlib

from .version import version_tuple

#: Versions that work, for the errors.
SUPPORTED = 'mmcv or mmcv-full >=1.3.0,<2.0.0 and torch >=1.8'


def check_environment() -> None:
    """Check that mmcv 1.x and torch are there.

    Raises:
        ImportError: If one is missing, or mmcv is 2.x (runners and hooks
            moved to mmengine there) or older than 1.3.
    """
    try:
        torch = importlib.import_module('torch')
        mmcv = importlib.import_module('mmcv')
    except ModuleNotFoundError as error:
        if error.name not in ('torch', 'mmcv'):
            raise
        raise ImportError(
            f'mmcv_ckpt_hooks works with {SUPPORTED}, but {error.name} is not '
            'installed. Install mmcv-full as its manual says for your torch '
            'and CUDA, or "pip install mmcv==1.7.2" if you need no compiled '
            'operators') from error
    if version_tuple(getattr(torch, '__version__', 'unknown')) < (1, 8):
        raise ImportError(
            f'mmcv_ckpt_hooks works with {SUPPORTED}, but torch '
            f'{getattr(torch, "__version__", "unknown")} is installed')
    # a folder named mmcv where Python is started has no version
    version = getattr(mmcv, '__version__', 'unknown')
    if not (1, 3) <= version_tuple(version) < (2, ):
        raise ImportError(
            f'mmcv_ckpt_hooks works with {SUPPORTED}, but mmcv '
            f'{version} is installed. In mmcv 2.x runners and hooks '
            'moved to mmengine, which has a CheckpointHook of its own; '
            '"pip install mmcv-full==1.7.2" gives the newest 1.x')


check_environment()
