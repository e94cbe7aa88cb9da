"""FCN with ResNet-18 on the demo's nuclei image, for mmsegmentation 0.x.

`make demo-mmseg` writes the tiles and runs mmsegmentation's own
tools/train.py, unmodified, with this config.
"""
norm_cfg = dict(type='BN', requires_grad=True)
model = dict(
    type='EncoderDecoder',
    pretrained=None,
    backbone=dict(
        type='ResNetV1c',
        depth=18,
        num_stages=4,
        out_indices=(0, 1, 2, 3),
        dilations=(1, 1, 2, 4),
        strides=(1, 2, 1, 1),
        norm_cfg=norm_cfg,
        norm_eval=False,
        style='pytorch',
        contract_dilation=True),
    decode_head=dict(
        type='FCNHead',
        in_channels=512,
        in_index=3,
        channels=64,
        num_convs=1,
        concat_input=False,
        dropout_ratio=0.1,
        num_classes=2,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(
            type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0)),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'))

img_norm_cfg = dict(
    mean=[40.0, 40.0, 40.0], std=[40.0, 40.0, 40.0], to_rgb=True)
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
        img_scale=(128, 128),
        flip=False,
        transforms=[
            dict(type='Normalize', **img_norm_cfg),
            dict(type='ImageToTensor', keys=['img']),
            dict(type='Collect', keys=['img'])
        ])
]

data_root = 'work_dirs/nuclei_tiles'
tiles = dict(
    type='CustomDataset',
    data_root=data_root,
    img_suffix='.png',
    classes=('background', 'nucleus'),
    palette=[[0, 0, 0], [120, 220, 90]])
val = dict(
    img_dir='img/val', ann_dir='ann/val', pipeline=test_pipeline, **tiles)
data = dict(
    samples_per_gpu=4,
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

optimizer = dict(type='SGD', lr=0.02, momentum=0.9, weight_decay=5e-4)
optimizer_config = dict()
lr_config = dict(policy='poly', power=0.9, min_lr=1e-4, by_epoch=False)

# The two lines that bring durable checkpoints to any config; resume='auto'
# goes on from the newest checkpoint in work_dir that verifies.
custom_imports = dict(imports=['mmcv_ckpt_hooks'], allow_failed_imports=False)
custom_hooks = [dict(type='DurableCheckpointHook', resume='auto')]

# A runner whose resume also restores scores, messages of hooks and AMP state.
# Optional: the hook works with the stock IterBasedRunner too.
runner = dict(type='IterBasedRunnerAmp', max_iters=60)
checkpoint_config = dict(by_epoch=False, interval=10, max_keep_ckpts=3)
evaluation = dict(interval=20, metric='mIoU', pre_eval=True, save_best='mIoU')

log_config = dict(
    interval=10, hooks=[dict(type='TextLoggerHook', by_epoch=False)])
log_level = 'INFO'
dist_params = dict(backend='nccl')
load_from = None
resume_from = None
workflow = [('train', 1)]
cudnn_benchmark = False
work_dir = './work_dirs/nuclei_fcn_mmseg'
