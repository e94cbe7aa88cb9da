"""Write the demo's tiles as the PNG files that mmsegmentation reads.

    python demo/prepare_tiles.py work_dirs/nuclei_tiles
"""
import argparse
from pathlib import Path

import cv2
import numpy as np
from nuclei_image import load_tiles


def write_tiles(root):
    """Write ``img/<split>/*.png`` and ``ann/<split>/*.png`` under ``root``.

    Returns:
        dict: Number of tiles by split.
    """
    counts = {}
    for split in ('train', 'val'):
        for kind in ('img', 'ann'):
            (root / kind / split).mkdir(parents=True, exist_ok=True)
        tiles = load_tiles(split)
        for name, image, label in tiles:
            grey = np.clip(image * 255, 0, 255).astype(np.uint8)
            cv2.imwrite(str(root / 'img' / split / f'{name}.png'), grey)
            cv2.imwrite(str(root / 'ann' / split / f'{name}.png'), label)
        counts[split] = len(tiles)
    return counts


def main():
    parser = argparse.ArgumentParser(description='Write the demo tiles as PNG')
    parser.add_argument('root', type=Path, help='directory to write to')
    root = parser.parse_args().root
    counts = write_tiles(root)
    print(f'{counts["train"]} tiles for training and {counts["val"]} for '
          f'validation are in {root}')


if __name__ == '__main__':
    main()
