"""Scenes of the how-to pages."""
import os

import slurm_part
from doc_scenes import SCENES, scene


@scene('slurm')
def slurm(stage):
    """The scene 'mmseg repo' with a run of some seconds, and on the path
    `sbatch`, which starts a job, brings it near its time limit and waits for
    it.
    """
    SCENES['mmseg repo'](stage)
    config = stage.directory / 'configs' / 'unet.py'
    text = config.read_text()
    for short, long in (('max_iters=12', 'max_iters=120'),
                        ('by_epoch=False, interval=2',
                         'by_epoch=False, interval=10, max_keep_ckpts=3'),
                        ('dict(interval=4', 'dict(interval=60'),
                        ('interval=1, hooks', 'interval=10, hooks')):
        assert text.count(short) == 1
        text = text.replace(short, long)
    config.write_text(text)
    stage.variables['PATH'] = os.pathsep.join(
        [str(slurm_part.PROGRAMS),
         stage.environment()['PATH']])
