"""``python -m mmcv_ckpt_hooks.cli``: as ``mmcv-ckpt``."""
import sys

from . import main

if __name__ == '__main__':
    sys.exit(main())
