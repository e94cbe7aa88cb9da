"""UperNet on ConvNeXt-T, mmcv's own mixed precision, for mmsegmentation 0.x.

The backbone is mmclassification's; ``mmcls.models`` and the plugin are both
imported by the config.
"""
_base_ = [
    '_base_/upernet.py', '_base_/ade20k_512.py', '_base_/schedule_160k.py',
    '_base_/runtime.py'
]
model = dict(
    backbone=dict(
        type='mmcls.ConvNeXt',
        arch='tiny',
        out_indices=[0, 1, 2, 3],
        drop_path_rate=0.4,
        layer_scale_init_value=1.0,
        gap_before_final_norm=False))

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
