"""Data set and network of the demo, in the shapes that mmcv 1.x runners use.

Nothing here knows of checkpoints: they come in through the config.
"""
import numpy as np
import torch
import torch.nn.functional as F
from mmcv.utils import Registry, print_log
from nuclei_image import CLASSES, PALETTE, load_tiles
from torch import nn
from torch.utils.data import Dataset

DATASETS = Registry('dataset')
MODELS = Registry('model')


@DATASETS.register_module()
class NucleiTiles(Dataset):
    """Tiles of the nuclei image with their classes.

    Args:
        split (str): ``'train'`` or ``'val'``.
        times (int): How often the tiles are gone through in one epoch.
        augment (bool): Random flips, quarter turns, brightness and noise.
    """

    CLASSES = CLASSES
    PALETTE = PALETTE

    def __init__(self, split, times=1, augment=False):
        tiles = load_tiles(split)
        self.images = [torch.from_numpy(image[None]) for _, image, _ in tiles]
        self.labels = [
            torch.from_numpy(label.astype(np.int64)) for _, _, label in tiles
        ]
        self.times = times
        self.augment = augment

    def __len__(self):
        return len(self.images) * self.times

    def __getitem__(self, index):
        image = self.images[index % len(self.images)]
        label = self.labels[index % len(self.images)]
        if not self.augment:
            return dict(img=image, gt=label)
        turns = int(torch.randint(4, ()))
        image = torch.rot90(image, turns, (-2, -1))
        label = torch.rot90(label, turns, (-2, -1))
        if torch.rand(()) < 0.5:
            image, label = image.flip(-1), label.flip(-1)
        gain = 1 + 0.2 * (torch.rand(()) - 0.5)
        noise = 0.05 * torch.randn(image.shape)
        return dict(img=image * gain + noise, gt=label.contiguous())

    def evaluate(self, results, logger=None, metric='mIoU'):
        """Compare predictions with the classes, as mmseg's data sets do.

        Args:
            results (list): One class map of shape (H, W) a tile.
            logger (logging.Logger | str, optional): Where to print.
            metric (str): Only ``'mIoU'``.

        Returns:
            dict: ``mIoU``, ``aAcc`` and ``IoU.<class>``, each 0 to 1.
        """
        if metric != 'mIoU':
            raise KeyError(f'metric {metric!r} is not supported, use mIoU')
        counts = np.zeros((len(CLASSES), len(CLASSES)))
        for found, label in zip(results, self.labels):
            pairs = label.numpy().ravel() * len(CLASSES) + found.ravel()
            counts += np.bincount(
                pairs, minlength=counts.size).reshape(counts.shape)
        hit = np.diag(counts)
        iou = hit / (counts.sum(0) + counts.sum(1) - hit)
        scores = dict(mIoU=iou.mean(), aAcc=hit.sum() / counts.sum())
        scores.update(
            (f'IoU.{name}', iou[i]) for i, name in enumerate(CLASSES))
        scores = {name: round(float(s), 4) for name, s in scores.items()}
        print_log(f'\nvalidation on {len(results)} tiles: {scores}', logger)
        return scores


def conv(in_channels, out_channels):
    """Two 3x3 convolutions, each with batch normalisation and ReLU."""
    layers = []
    for channels in (in_channels, out_channels):
        layers += [
            nn.Conv2d(channels, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True)
        ]
    return nn.Sequential(*layers)


@MODELS.register_module()
class SmallUNet(nn.Module):
    """A U-Net of three levels for images of one channel.

    Args:
        channels (int): Channels of the first level, doubled at each next.
        num_classes (int): Number of classes.
    """

    def __init__(self, channels=12, num_classes=len(CLASSES)):
        super().__init__()
        self.down1 = conv(1, channels)
        self.down2 = conv(channels, 2 * channels)
        self.down3 = conv(2 * channels, 4 * channels)
        self.up2 = conv(6 * channels, 2 * channels)
        self.up1 = conv(3 * channels, channels)
        self.head = nn.Conv2d(channels, num_classes, 1)

    def logits(self, img):
        """Class scores of shape (N, num_classes, H, W)."""
        x1 = self.down1(img)
        x2 = self.down2(F.max_pool2d(x1, 2))
        x3 = self.down3(F.max_pool2d(x2, 2))
        x2 = self.up2(torch.cat([F.interpolate(x3, scale_factor=2), x2], 1))
        x1 = self.up1(torch.cat([F.interpolate(x2, scale_factor=2), x1], 1))
        return self.head(x1)

    def forward(self, img, gt=None, return_loss=True):
        """Loss as a dict, or predicted class maps as a list of arrays."""
        logits = self.logits(img)
        if return_loss:
            return dict(loss=F.cross_entropy(logits, gt))
        return list(logits.argmax(1).cpu().numpy())

    def train_step(self, data, optimizer=None, **kwargs):
        """One iteration; the optimizer hook does the backward pass."""
        loss = self(**data)['loss']
        return dict(
            loss=loss,
            log_vars=dict(loss=loss.item()),
            num_samples=len(data['img']))

    val_step = train_step
