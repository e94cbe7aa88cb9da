"""The program ``mmcv-ckpt``, also as ``python -m mmcv_ckpt_cli``.

To import ``mmcv_ckpt_hooks`` is to register its classes in mmcv: that takes
mmcv and torch, and seconds to import them. The commands need neither. A module
of its own, outside of the package, is what may import their rooms without
that: it has Python find the package, and does not execute its ``__init__``.
"""
import sys
from typing import Optional, Sequence

_PACKAGE = 'mmcv_ckpt_hooks'
_EXIT_INTERRUPTED = 130


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run one command; see ``mmcv_ckpt_hooks.cli``.

    For a process that is the program: one that has called it, and imports the
    package later, has no classes registered.

    Args:
        argv (Sequence[str], optional): Arguments without the program's name.
            Default: None, which means ``sys.argv[1:]``.

    Returns:
        int: The exit code.
    """
    try:
        _find_package()
        from mmcv_ckpt_hooks.cli import main as run
        return run(argv)
    except KeyboardInterrupt:
        # in the middle of an import: it is over before a command has begun
        print('mmcv-ckpt: interrupted', file=sys.stderr)
        return _EXIT_INTERRUPTED


def _find_package() -> None:
    # here: also this may be interrupted
    import importlib.util
    if _PACKAGE not in sys.modules:
        spec = importlib.util.find_spec(_PACKAGE)
        if spec is None:
            raise ModuleNotFoundError(
                f'{_PACKAGE}, which mmcv-ckpt is installed with, is not there')
        sys.modules[_PACKAGE] = importlib.util.module_from_spec(spec)


if __name__ == '__main__':
    sys.exit(main())
