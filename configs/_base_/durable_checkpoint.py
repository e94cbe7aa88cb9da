"""Durable checkpoints, and a resume from the newest: inherit this.

    _base_ = ['my_model.py', 'my_data.py', 'durable_checkpoint.py']

mmcv refuses a key that two files of ``_base_`` have. Where another one has
``custom_imports`` (mmsegmentation's UperNet-ConvNeXt) or ``custom_hooks``
(mmdetection's default_runtime.py), write both lists in your own config, ours
after theirs.
"""
custom_imports = dict(imports=['mmcv_ckpt_hooks'], allow_failed_imports=False)
custom_hooks = [dict(type='DurableCheckpointHook', resume='auto')]
