"""A small network on the demo's nuclei image; `make demo` runs it.

    python demo/train.py configs/nuclei_fcn.py
"""
model = dict(type='SmallUNet', channels=12, num_classes=2)

data = dict(
    samples_per_gpu=4,
    workers_per_gpu=1,
    train=dict(type='NucleiTiles', split='train', times=40, augment=True),
    val=dict(type='NucleiTiles', split='val'))

optimizer = dict(type='AdamW', lr=2e-3, weight_decay=1e-4)
optimizer_config = dict(grad_clip=dict(max_norm=5.0))
lr_config = dict(
    policy='poly',
    power=0.9,
    min_lr=1e-5,
    by_epoch=False,
    warmup='linear',
    warmup_iters=20,
    warmup_ratio=0.1)

# The two lines that bring durable checkpoints to any config; resume='auto'
# goes on from the newest checkpoint in work_dir that verifies.
custom_imports = dict(imports=['mmcv_ckpt_hooks'], allow_failed_imports=False)
custom_hooks = [dict(type='DurableCheckpointHook', resume='auto')]

# A runner whose resume also restores scores, messages of hooks and AMP state.
# Optional: the hook works with the stock IterBasedRunner too.
runner = dict(type='IterBasedRunnerAmp', max_iters=120)
checkpoint_config = dict(interval=20, max_keep_ckpts=3)
evaluation = dict(interval=40, by_epoch=False, metric='mIoU', save_best='mIoU')

log_config = dict(interval=20, hooks=[dict(type='TextLoggerHook')])
workflow = [('train', 1)]
work_dir = './work_dirs/nuclei_fcn'
