"""mmsegmentation's own tools/train.py on several ranks without a GPU.

    torchrun --nproc_per_node 2 demo/train_on_cpu_ranks.py CONFIG [...]

Further arguments are those of the tool. With a GPU for each rank no script is
needed: ``torchrun ... tools/train.py CONFIG --launcher pytorch``. Without one
mmcv and mmsegmentation refuse, in two places, and these two are replaced here
before the tool runs as it is:

- ``init_dist`` takes the rank modulo the number of GPUs, which divides by 0;
- ``build_ddp`` knows CUDA and MLU alone, and mmcv's DDP takes the data out of
  its containers only on its way to a device.
"""
import importlib.util
import runpy
import sys
from pathlib import Path

from mmcv.parallel import MMDistributedDataParallel
from mmcv.runner import dist_utils
from mmseg.apis import train
from torch import distributed as dist

#: What mmcv calls the CPU where it scatters.
CPU = [-1]


class CpuDistributedDataParallel(MMDistributedDataParallel):
    """mmcv's DDP, which unpacks the data on the CPU, too."""

    def train_step(self, *inputs, **kwargs):
        inputs, kwargs = self.scatter(inputs, kwargs, CPU)
        return super().train_step(*inputs[0], **kwargs[0])

    def val_step(self, *inputs, **kwargs):
        inputs, kwargs = self.scatter(inputs, kwargs, CPU)
        return super().val_step(*inputs[0], **kwargs[0])

    def _run_ddp_forward(self, *inputs, **kwargs):
        inputs, kwargs = self.scatter(inputs, kwargs, CPU)
        return self.module(*inputs[0], **kwargs[0])


def init_gloo(backend, **kwargs):
    """Meet the other ranks, whatever backend the config names for GPUs."""
    dist.init_process_group(backend='gloo', **kwargs)


def build_ddp(model, device, device_ids, **kwargs):
    return CpuDistributedDataParallel(model, **kwargs)


def main():
    package = Path(importlib.util.find_spec('mmseg').origin).parent
    tool = str(package / '.mim' / 'tools' / 'train.py')
    dist_utils._init_dist_pytorch = init_gloo
    train.build_ddp = build_ddp
    sys.argv = [tool, *sys.argv[1:], '--launcher', 'pytorch']
    runpy.run_path(tool, run_name='__main__')


if __name__ == '__main__':
    main()
