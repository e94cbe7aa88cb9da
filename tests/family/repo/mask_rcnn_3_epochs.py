# yapf: disable
# the end of the detection configs of Swin and UniFormer, as they stand there
_base_ = ['schedule.py']

runner = dict(_delete_=True, type='EpochBasedRunnerAmp', max_epochs=3)
checkpoint_config = dict(by_epoch=True, interval=1)
evaluation = dict(interval=1)

# do not use mmdet version fp16
fp16 = None
optimizer_config = dict(
    type="DistOptimizerHook",
    update_interval=1,
    grad_clip=None,
    coalesce=True,
    bucket_size_mb=-1,
    use_fp16=True,
)
