"""What other programs call our arguments, and where those stand.

Standard library only.
"""
from dataclasses import fields
from typing import Dict

from .options import (CheckpointOptions, KeepOptions, MirrorOptions,
                      TriggerOptions, WriteOptions)

_GROUPS = dict(
    triggers=TriggerOptions,
    keep=KeepOptions,
    write=WriteOptions,
    mirror=MirrorOptions)

#: By what is given the argument that is meant. Source: mmengine's
#: ``CheckpointHook``, Lightning's and Keras's ``ModelCheckpoint``, the
#: ``Trainer`` of transformers, ignite's ``ModelCheckpoint``, detectron2's
#: ``PeriodicCheckpointer``, orbax, Composer, fairseq, torchtitan, timm.
MEANT: Dict[str, str] = {
    # given beside its group
    **{
        one.name: f'{name}.{one.name}'
        for name, group in _GROUPS.items()
        for one in fields(group) if one.name not in ('keep', 'storage_options')
    },
    'save_interval': 'interval',
    'save_steps': 'interval',
    'every_n_train_steps': 'interval',
    'every_n_epochs': 'interval',
    'save_interval_steps': 'interval',
    'save_interval_updates': 'interval',
    'save_freq': 'interval',
    'period': 'interval',
    'save_begin': 'triggers.begin',
    'train_time_interval': 'triggers.secs',
    'save_checkpoints_secs': 'triggers.secs',
    'save_total_limit': 'max_keep_ckpts',
    'max_to_keep': 'max_keep_ckpts',
    'keep_last': 'max_keep_ckpts',
    'num_checkpoints_to_keep': 'max_keep_ckpts',
    'keep_checkpoint_max': 'max_keep_ckpts',
    'keep_interval_updates': 'max_keep_ckpts',
    'keep_last_epochs': 'max_keep_ckpts',
    'keep_latest_k': 'max_keep_ckpts',
    'n_saved': 'max_keep_ckpts',
    'keep_period': 'keep.every',
    'save_top_k': 'keep.best',
    'keep_best': 'keep.best',
    'keep_best_checkpoints': 'keep.best',
    'save_best_only': 'keep.best',
    'checkpoint_hist': 'keep.best',
    'top_k': 'keep.best',
    'metric': 'keep.monitor',
    'key_indicator': 'keep.monitor',
    'mode': 'keep.rule',
    'best_mode': 'keep.rule',
    'greater_is_better': 'keep.rule',
    'maximize_best_checkpoint_metric': 'keep.rule',
    'metric_for_best_model': 'keep.monitor',
    'best_checkpoint_metric': 'keep.monitor',
    'score_name': 'keep.monitor',
    'dirpath': 'out_dir',
    'save_dir': 'out_dir',
    'save_folder': 'out_dir',
    'output_dir': 'out_dir',
    'work_dir': 'out_dir',
    'checkpoint_dir': 'out_dir',
    'dirname': 'out_dir',
    'folder': 'out_dir',
    'filename': 'filename_tmpl',
    'filename_prefix': 'filename_tmpl',
    'file_prefix': 'filename_tmpl',
    'filepath': 'filename_tmpl',
    'save_filename': 'filename_tmpl',
    'backend_args': 'storage_options',
    'async': 'write.background',
    'async_save': 'write.background',
    'fsync': 'write.durability',
    'async_mode': 'write.background',
    'asynchronous': 'write.background',
    'save_only_model': 'save_optimizer',
    'save_weights_only': 'save_optimizer',
    'auto_resume': 'resume',
    'resume_from': 'resume',
    'resume_from_checkpoint': 'resume',
    'ckpt_path': 'resume',
    'require_empty': 'adopt_existing',
}
#: Options of the design that this version does not have yet, and of other
#: places. A config that names one fails at start: a promise that is not kept
#: loses checkpoints.
LATER = {
    'sharded':
    "sharded checkpoints are format='dcp'",
    'save_best':
    'that is a setting of `evaluation`, which keeps the best one; '
    'keep=dict(best=...) of the hook keeps several',
}
#: What is given in a group, and stands elsewhere, or is called otherwise.
_IN_GROUP: Dict[str, Dict[str, str]] = {
    'keep': {
        'max_keep_ckpts': 'keep.last',
    },
    'mirror': {
        'out_dir': 'mirror.url',
        'path': 'mirror.url',
        'max_keep_ckpts': 'mirror.keep.last',
    },
}


def meant_in(group: str) -> Dict[str, str]:
    """Return by what is given in a group the argument that is meant.

    Args:
        group (str): Such as ``'keep'``.
    """
    # an argument of the hook stands beside the group, not in it
    own = {one.name: one.name for one in fields(CheckpointOptions)}
    of_group = {
        name: meant
        for name, meant in MEANT.items() if meant.startswith(f'{group}.')
    }
    return {**own, **of_group, **_IN_GROUP.get(group, {})}
