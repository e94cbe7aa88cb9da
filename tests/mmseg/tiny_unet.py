"""A two-stage UNet on 32x32 tiles: seconds to train, no plugin.

The tests inherit from it as users inherit from mmsegmentation's configs.
``train_probe`` (stubs/) looks on; nothing else is special.
"""
norm_cfg = dict(type='BN', momentum=0.5)
model = dict(
    type='EncoderDecoder',
    pretrained=None,
    backbone=dict(
        type='UNet',
        in_channels=3,
        base_channels=8,
        num_stages=2,
        strides=(1, 1),
        enc_num_convs=(1, 1),
        dec_num_convs=(1, ),
        downsamples=(True, ),
        enc_dilations=(1, 1),
        dec_dilations=(1, ),
        norm_cfg=norm_cfg),
    decode_head=dict(
        type='FCNHead',
        in_channels=8,
        in_index=1,
        channels=8,
        num_convs=0,
        concat_input=False,
        dropout_ratio=0.1,
        num_classes=2,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss')),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'))

img_norm_cfg = dict(mean=[60.] * 3, std=[40.] * 3, to_rgb=True)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomFlip', prob=0.5),
    dict(type='Normalize', **img_norm_cfg),
    dict(type='DefaultFormatBundle'),
    dict(type='Collect', keys=['img', 'gt_semantic_seg'])
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='MultiScaleFlipAug',
        img_scale=(32, 32),
        flip=False,
        transforms=[
            dict(type='Normalize', **img_norm_cfg),
            dict(type='ImageToTensor', keys=['img']),
            dict(type='Collect', keys=['img'])
        ])
]
tiles = dict(
    type='CustomDataset',
    data_root='tiles',
    img_suffix='.png',
    classes=('background', 'disk'),
    palette=[[0, 0, 0], [255, 0, 0]])
val = dict(
    img_dir='img/val', ann_dir='ann/val', pipeline=test_pipeline, **tiles)
data = dict(
    samples_per_gpu=2,
    workers_per_gpu=1,
    train=dict(
        type='RepeatDataset',
        times=40,
        dataset=dict(
            img_dir='img/train',
            ann_dir='ann/train',
            pipeline=train_pipeline,
            **tiles)),
    val=val,
    test=val)

optimizer = dict(type='AdamW', lr=0.02)
optimizer_config = dict()
lr_config = dict(policy='poly', power=0.9, min_lr=1e-4, by_epoch=False)
runner = dict(type='IterBasedRunner', max_iters=12)
checkpoint_config = dict(by_epoch=False, interval=2)
evaluation = dict(interval=4, metric='mIoU', pre_eval=True, save_best='mIoU')
custom_imports = dict(imports=['train_probe'], allow_failed_imports=False)
custom_hooks = [dict(type='RunProbe')]

log_config = dict(
    interval=1, hooks=[dict(type='TextLoggerHook', by_epoch=False)])
log_level = 'INFO'
dist_params = dict(backend='nccl')
load_from = None
resume_from = None
workflow = [('train', 1)]
cudnn_benchmark = False
