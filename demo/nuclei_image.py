"""The fluorescence image of cell nuclei that the ``stardist`` package ships.

512x512 pixels with 183 nuclei outlined by hand (BSD-3-Clause, from the
package's examples). It is cut into 16 tiles of 128x128: 12 for training, the
4 on the diagonal for validation, so that each row and column has one.
"""
import importlib.util
from pathlib import Path

import numpy as np
import tifffile

TILE = 128
CLASSES = ('background', 'nucleus')
PALETTE = [[0, 0, 0], [120, 220, 90]]


def image_folder():
    """Path of the images, found without importing stardist."""
    spec = importlib.util.find_spec('stardist')
    if spec is None or spec.origin is None:
        raise SystemExit('the package stardist is missing; `make demo` '
                         'installs it')
    return Path(spec.origin).parent / 'data' / 'images'


def load_tiles(split):
    """Tiles of one split.

    Args:
        split (str): ``'train'`` or ``'val'``.

    Returns:
        list[tuple]: Name; image, float32 of shape (128, 128) with values
        around 0 to 1; classes, uint8 of shape (128, 128).
    """
    image = tifffile.imread(image_folder() / 'img2d.tif').astype(np.float32)
    nuclei = tifffile.imread(image_folder() / 'mask2d.tif') > 0
    low, high = np.percentile(image, [1, 99.8])
    image = (image - low) / (high - low)
    tiles = []
    for row in range(image.shape[0] // TILE):
        for column in range(image.shape[1] // TILE):
            if (row == column) != (split == 'val'):
                continue
            area = np.s_[row * TILE:(row + 1) * TILE,
                         column * TILE:(column + 1) * TILE]
            tiles.append((f'tile_{row}_{column}', image[area],
                          nuclei[area].astype(np.uint8)))
    return tiles
