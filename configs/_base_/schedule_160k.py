"""AdamW for 160,000 iterations on a runner that resumes exactly.

``IterBasedRunnerAmp`` is the name that ConvNeXt, Swin, BEiT and UniFormer use;
here it is the plugin's.
"""
optimizer = dict(type='AdamW', lr=6e-5, betas=(0.9, 0.999), weight_decay=0.01)
optimizer_config = dict()
lr_config = dict(
    policy='poly',
    warmup='linear',
    warmup_iters=1500,
    warmup_ratio=1e-6,
    power=1.0,
    min_lr=0.0,
    by_epoch=False)
runner = dict(type='IterBasedRunnerAmp', max_iters=160000)
checkpoint_config = dict(by_epoch=False, interval=16000, max_keep_ckpts=3)
evaluation = dict(
    interval=16000, metric='mIoU', pre_eval=True, save_best='mIoU')
