"""UperNet on BEiT-B with the optimizer hook of the apex_runner family.

``optimizer_config`` stands here as in the configs of BEiT, ConvNeXt, Swin and
UniFormer. Their tools call ``apex.amp.initialize``, and the ``amp`` field of a
checkpoint is apex's; with mmsegmentation's tool torch's autocast and
GradScaler do the same, and the log says so in one line.
"""
_base_ = [
    '_base_/upernet.py', '_base_/ade20k_512.py', '_base_/schedule_160k.py',
    '_base_/runtime.py', '_base_/durable_checkpoint.py'
]
model = dict(
    backbone=dict(
        type='BEiT',
        img_size=(512, 512),
        patch_size=16,
        embed_dims=768,
        num_layers=12,
        num_heads=12,
        mlp_ratio=4,
        out_indices=(3, 5, 7, 11),
        qv_bias=True,
        drop_path_rate=0.1,
        init_values=0.1),
    neck=dict(type='Feature2Pyramid', embed_dim=768, rescales=[4, 2, 1, 0.5]),
    decode_head=dict(in_channels=[768, 768, 768, 768], channels=768),
    auxiliary_head=dict(in_channels=768))

optimizer = dict(
    lr=3e-5,
    weight_decay=0.05,
    constructor='LayerDecayOptimizerConstructor',
    paramwise_cfg=dict(num_layers=12, layer_decay_rate=0.9))

# do not use mmdet version fp16
fp16 = None
optimizer_config = dict(
    type='DistOptimizerHook',
    update_interval=1,
    grad_clip=None,
    coalesce=True,
    bucket_size_mb=-1,
    use_fp16=True)
