# what the configs of the repos inherit
optimizer = dict(type='AdamW', lr=0.01)
lr_config = dict(policy='poly', power=1.0, min_lr=0.0, by_epoch=False)
runner = dict(type='IterBasedRunner', max_iters=9)
checkpoint_config = dict(by_epoch=False, interval=3, max_keep_ckpts=2)
evaluation = dict(interval=3, metric='mIoU', save_best='mIoU', rule='greater')
log_config = dict(
    interval=1, hooks=[dict(type='TextLoggerHook', by_epoch=False)])
workflow = [('train', 1)]
