"""UperNet on ConvNeXt-T, mmcv's own mixed precision, for mmsegmentation 0.x.

The backbone is mmclassification's; ``mmcls.models`` and the plugin are both
imported by the config.
"""
_base_ = [
    '_base_/ade20k_512.py', '_base_/schedule_160k.py', '_base_/runtime.py'
]
norm_cfg = dict(type='SyncBN', requires_grad=True)
loss = dict(type='CrossEntropyLoss', use_sigmoid=False)
model = dict(
    type='EncoderDecoder',
    pretrained=None,
    backbone=dict(
        type='mmcls.ConvNeXt',
        arch='tiny',
        out_indices=[0, 1, 2, 3],
        drop_path_rate=0.4,
        layer_scale_init_value=1.0,
        gap_before_final_norm=False),
    decode_head=dict(
        type='UPerHead',
        in_channels=[96, 192, 384, 768],
        in_index=[0, 1, 2, 3],
        pool_scales=(1, 2, 3, 6),
        channels=512,
        dropout_ratio=0.1,
        num_classes=150,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(loss_weight=1.0, **loss)),
    auxiliary_head=dict(
        type='FCNHead',
        in_channels=384,
        in_index=2,
        channels=256,
        num_convs=1,
        concat_input=False,
        dropout_ratio=0.1,
        num_classes=150,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(loss_weight=0.4, **loss)),
    train_cfg=dict(),
    test_cfg=dict(mode='slide', crop_size=(512, 512), stride=(341, 341)))

optimizer = dict(
    lr=1e-4,
    weight_decay=0.05,
    constructor='LearningRateDecayOptimizerConstructor',
    paramwise_cfg=dict(decay_rate=0.9, decay_type='stage_wise', num_layers=6))
# mmcv's scaler; its state is in every checkpoint
optimizer_config = dict(type='Fp16OptimizerHook', loss_scale='dynamic')
# mmsegmentation looks for the key
fp16 = dict()

custom_imports = dict(
    imports=['mmcls.models', 'mmcv_ckpt_hooks'], allow_failed_imports=False)
custom_hooks = [dict(type='DurableCheckpointHook', resume='auto')]
