"""Other ways to save the same state, as hooks of the same runner.

None of them is needed: one that cannot be imported is named in the table.
"""
import functools
import os
import time

import torch
from mmcv.runner import Hook


class PeerHook(Hook):
    """Saves as a peer does, every so many iterations.

    Args:
        name (str): One of :data:`PEERS`.
        work_dir (str): Where to.
        interval (int): Iterations between saves.
    """

    def __init__(self, name, work_dir, interval):
        self.at = []  # when each save was complete and synced
        self._peer = PEERS[name][0](self._note)
        self._work_dir = work_dir
        self._interval = interval

    def after_train_iter(self, runner):
        if not self.every_n_iters(runner, self._interval):
            return
        state = dict(
            state_dict=runner.model.state_dict(),
            optimizer=runner.optimizer.state_dict(),
            meta=dict(iter=runner.iter + 1))
        self._peer.save(
            state, os.path.join(self._work_dir, f'iter_{runner.iter + 1}'))

    def after_run(self, runner):
        self._peer.close()

    def _note(self):
        self.at.append(time.perf_counter())


def sync(path):
    """Sync a file and its directory, or a directory and all in it."""
    paths = [os.path.dirname(path), path]
    if os.path.isdir(path):
        paths += [os.path.join(path, name) for name in os.listdir(path)]
    for one in paths:
        file = os.open(one, os.O_RDONLY)
        try:
            os.fsync(file)
        finally:
            os.close(file)


class Peer:
    """Saves; calls ``note`` when the file is complete and synced."""

    def __init__(self, note):
        self.note = note

    def save(self, state, path):
        raise NotImplementedError

    def close(self):
        """Wait for what is under way."""


class TorchSave(Peer):
    """``torch.save``, and a sync that training waits for."""

    def save(self, state, path):
        torch.save(state, path + '.pth')
        sync(path + '.pth')
        self.note()


class Safetensors(Peer):
    """``safetensors.torch.save_file``, and a sync."""

    def __init__(self, note):
        super().__init__(note)
        from safetensors.torch import save_file
        self._write = save_file

    def save(self, state, path):
        tensors = dict(state['state_dict'])
        for index, values in state['optimizer']['state'].items():
            for name, value in values.items():
                tensors[f'optimizer.{index}.{name}'] = value
        self._write(tensors, path + '.safetensors')
        sync(path + '.safetensors')
        self.note()


class DistributedSave(Peer):
    """``torch.distributed.checkpoint``: one process, gloo; syncs itself."""

    def __init__(self, note, is_async):
        super().__init__(note)
        import torch.distributed as dist
        import torch.distributed.checkpoint as dcp
        self._dcp = dcp
        self._is_async = is_async
        self._future = None
        dist.init_process_group(
            'gloo', store=dist.HashStore(), rank=0, world_size=1)

    def save(self, state, path):
        if not self._is_async:
            self._dcp.save(state, checkpoint_id=path)
            self.note()
            return
        self.wait()
        self._future = self._dcp.async_save(state, checkpoint_id=path)
        self._future.add_done_callback(lambda future: self.note())

    def wait(self):
        if self._future is not None:
            self._future.result()

    def close(self):
        import torch.distributed as dist
        self.wait()
        dist.destroy_process_group()


class LightningAsync(Peer):
    """Lightning's ``AsyncCheckpointIO``; its thread also syncs the file."""

    def __init__(self, note):
        super().__init__(note)
        from lightning.pytorch.plugins.io import (AsyncCheckpointIO,
                                                  TorchCheckpointIO)

        class Synced(TorchCheckpointIO):

            def save_checkpoint(self, checkpoint, path, *args, **kwargs):
                super().save_checkpoint(checkpoint, path, *args, **kwargs)
                sync(path)
                note()

        self._io = AsyncCheckpointIO(Synced())

    def save(self, state, path):
        self._io.save_checkpoint(state, path + '.ckpt')

    def close(self):
        self._io.teardown()


#: How each is made, what the table calls it, and whether it syncs by itself.
PEERS = {
    'torch': (TorchSave, 'torch.save', False),
    'safetensors': (Safetensors, 'safetensors save_file', False),
    'dcp': (functools.partial(DistributedSave, is_async=False),
            'torch.distributed.checkpoint save', True),
    'dcp-async': (functools.partial(DistributedSave, is_async=True),
                  'torch.distributed.checkpoint async_save', True),
    'lightning': (LightningAsync, 'Lightning AsyncCheckpointIO', False),
}
