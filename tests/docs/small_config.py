"""What a fragment of a page is laid over: as little as a config may have."""
lr_config = dict(policy='fixed')
optimizer_config = dict()
checkpoint_config = dict(interval=1)
