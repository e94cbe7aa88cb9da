"""UperNet on Swin-T, for mmsegmentation 0.x."""
_base_ = [
    '_base_/upernet.py', '_base_/ade20k_512.py', '_base_/schedule_160k.py',
    '_base_/runtime.py', '_base_/durable_checkpoint.py'
]
model = dict(
    backbone=dict(
        type='SwinTransformer',
        embed_dims=96,
        depths=[2, 2, 6, 2],
        num_heads=[3, 6, 12, 24],
        window_size=7,
        drop_path_rate=0.3,
        norm_cfg=dict(type='LN', requires_grad=True)),
    test_cfg=dict(_delete_=True, mode='whole'))

# no weight decay for position embedding and layer norm
optimizer = dict(
    paramwise_cfg=dict(
        custom_keys=dict(
            absolute_pos_embed=dict(decay_mult=0.),
            relative_position_bias_table=dict(decay_mult=0.),
            norm=dict(decay_mult=0.))))
