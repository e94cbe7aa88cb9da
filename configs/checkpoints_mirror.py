"""Checkpoints on the local disk, and a copy of each in a second place.

``url`` may be another disk, or ``s3://bucket/prefix`` (``gs://``, ``az://``)
with keys and endpoint as in checkpoints_s3.py. tests/test_mirror.py runs it.
"""
custom_imports = dict(imports=['mmcv_ckpt_hooks'], allow_failed_imports=False)
custom_hooks = [
    dict(
        type='DurableCheckpointHook',
        mirror=dict(url='second_disk/experiments', keep=dict(last=5)),
        resume='auto')
]
checkpoint_config = dict(interval=2, max_keep_ckpts=2)
