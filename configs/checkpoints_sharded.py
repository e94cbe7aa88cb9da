"""Checkpoints that all ranks write, each its part: torch >= 2.3.

Each is a folder, iter_N.dcp, in the work dir, which all ranks must see. Any
number of ranks goes on from it. tests/test_folders.py runs it.
"""
custom_imports = dict(imports=['mmcv_ckpt_hooks'], allow_failed_imports=False)
custom_hooks = [
    dict(type='DurableCheckpointHook', format='dcp', resume='auto')
]
checkpoint_config = dict(interval=2, max_keep_ckpts=2)
