"""Checkpoints in an object store: copy the two statements at the top.

Keys, region and endpoint come from the environment (AWS_ACCESS_KEY_ID,
AWS_SECRET_ACCESS_KEY, AWS_REGION; AWS_ENDPOINT_URL for a server other than
Amazon's) or from ~/.aws. tests/test_s3_run.py runs it.
"""
custom_imports = dict(imports=['mmcv_ckpt_hooks'], allow_failed_imports=False)
custom_hooks = [
    dict(
        type='DurableCheckpointHook',
        out_dir='s3://checkpoints/experiments',
        resume='auto')
]
checkpoint_config = dict(interval=2, max_keep_ckpts=2)
