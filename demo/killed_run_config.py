"""The demo's network, saved often; `python demo/killed_run.py` runs it."""
_base_ = '../configs/nuclei_fcn.py'

custom_imports = dict(imports=['mmcv_ckpt_hooks', 'fails'])
custom_hooks = [
    dict(type='DurableCheckpointHook', resume='auto'),
    dict(type='Fails', at=None, priority='VERY_HIGH')
]
runner = dict(max_iters=400)
checkpoint_config = dict(interval=10, max_keep_ckpts=3)
evaluation = dict(interval=20)
log_config = dict(interval=5)
