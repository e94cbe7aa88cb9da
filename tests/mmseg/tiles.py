"""The images that the runs here train on."""
import cv2
import numpy as np

SIZE = 32


def write_tiles(root, seed=0):
    """Write noisy bright disks on dark ground, and their masks."""
    generator = np.random.default_rng(seed)
    for split, count in (('train', 8), ('val', 2)):
        for kind in ('img', 'ann'):
            (root / kind / split).mkdir(parents=True)
        for index in range(count):
            mask = disk(generator)
            noise = generator.normal(0, 20, (SIZE, SIZE, 3))
            image = np.clip(40 + 120 * mask[..., None] + noise, 0, 255)
            for kind, content in (('img', image), ('ann', mask)):
                path = root / kind / split / f'{index}.png'
                assert cv2.imwrite(str(path), content.astype(np.uint8))


def disk(generator):
    """A disk of random place and size, (SIZE, SIZE) of zeros and ones."""
    y, x = np.mgrid[:SIZE, :SIZE]
    center_y, center_x = generator.integers(8, 24, 2)
    radius = generator.integers(11, 15)
    return (y - center_y)**2 + (x - center_x)**2 < radius**2
