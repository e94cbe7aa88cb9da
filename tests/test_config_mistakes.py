"""The mistakes that people make in a config, and what they read then.

Each is built as mmcv builds it; the message is the whole one: what was given,
what is valid, the nearest name, and where in the config it stands.
"""
import re

import pytest
from mmcv.runner import HOOKS, CheckpointHook
from mmcv.utils import build_from_cfg
from toy import make_loader, make_runner

from mmcv_ckpt_hooks.errors import CheckpointError, ConfigError

ARGUMENTS = ('adopt_existing, by_epoch, create_symlink, file_client_args, '
             'filename_tmpl, format, interval, keep, max_keep_ckpts, meta, '
             'mirror, on_error, out_dir, resume, save_last, save_optimizer, '
             'storage_options, sync_buffer, triggers, trust_checkpoint, write')
KEYS = {
    'triggers': 'at, begin, exception, file, secs, signals',
    'keep': 'best, bytes, every, last, monitor, rule',
    'write': 'background, backlog, durability, staging',
    'mirror': 'keep, storage_options, url',
}


def built(**given):
    return build_from_cfg(dict(type='DurableCheckpointHook', **given), HOOKS)


def message(call, *args, **kwargs):
    """Return the message, without the name that begins all of them."""
    with pytest.raises(ConfigError) as caught:
        call(*args, **kwargs)
    return re.sub('^DurableCheckpointHook: ', '', str(caught.value))


# -- names -------------------------------------------------------------------

#: What was given, and what is meant by it.
NAMES = [
    # misspelt
    ('intervall', 'interval'),
    ('max_keep_ckpt', 'max_keep_ckpts'),
    ('outdir', 'out_dir'),
    ('miror', 'mirror'),
    ('on_errors', 'on_error'),
    # of mmengine
    ('save_begin', 'triggers.begin'),
    ('backend_args', 'storage_options'),
    ('rule', 'keep.rule'),
    # of Lightning
    ('every_n_train_steps', 'interval'),
    ('train_time_interval', 'triggers.secs'),
    ('save_top_k', 'keep.best'),
    ('monitor', 'keep.monitor'),
    ('mode', 'keep.rule'),
    ('dirpath', 'out_dir'),
    ('filename', 'filename_tmpl'),
    # of the Trainer of transformers
    ('save_steps', 'interval'),
    ('save_total_limit', 'max_keep_ckpts'),
    ('metric_for_best_model', 'keep.monitor'),
    ('output_dir', 'out_dir'),
    # of orbax and Composer
    ('save_interval_steps', 'interval'),
    ('max_to_keep', 'max_keep_ckpts'),
    ('keep_period', 'keep.every'),
    ('async_save', 'write.background'),
    ('num_checkpoints_to_keep', 'max_keep_ckpts'),
    # of mmcv's tools
    ('work_dir', 'out_dir'),
    ('resume_from', 'resume'),
    ('auto_resume', 'resume'),
    # beside the group that has them
    ('best', 'keep.best'),
    ('last', 'keep.last'),
    ('secs', 'triggers.secs'),
    ('signals', 'triggers.signals'),
    ('background', 'write.background'),
    ('staging', 'write.staging'),
    ('url', 'mirror.url'),
]


@pytest.mark.parametrize('given, meant', NAMES)
def test_a_wrong_name_is_answered_with_the_one_that_is_meant(given, meant):
    assert message(
        built, **{given:
                  3}) == (f'unknown argument {given}; did you mean {meant!r}? '
                          f'valid are: {ARGUMENTS}')


@pytest.mark.parametrize('given', ['compress', 'published_keys'])
def test_what_is_like_nothing_is_answered_with_all(given):
    assert message(built, **{given: 3}) == \
        f'unknown argument {given}; valid are: {ARGUMENTS}'


@pytest.mark.parametrize('group, given, meant', [
    ('triggers', 'sec', 'secs'),
    ('triggers', 'signal', 'signals'),
    ('keep', 'keep_last', 'last'),
    ('keep', 'evry', 'every'),
    ('write', 'stagin', 'staging'),
    ('mirror', 'uri', 'url'),
])
def test_in_a_group_the_whole_name_is_given(group, given, meant):
    assert message(built, **{group: {
        given: 3
    }}) == (f"unknown key {group}.{given}; did you mean '{group}.{meant}'? "
            f'valid are: {KEYS[group]}')


# -- types and values --------------------------------------------------------

VALUES = [
    (dict(interval='1000'),
     "interval must be an int, but got '1000' of type str"),
    (dict(interval=1e3), 'interval must be an int, but got 1000.0 of type '
     'float'),
    (dict(interval=True), 'interval must be an int, but got True of type '
     'bool'),
    (dict(interval=0), 'interval must be at least 1, or -1 for never, but got '
     '0'),
    (dict(max_keep_ckpts='3'),
     "max_keep_ckpts must be an int, but got '3' of type str"),
    (dict(keep=3), 'keep must be a dict, but got 3 of type int'),
    (dict(keep=dict(best='mIoU')),
     "keep.best must be an int, but got 'mIoU' of type str"),
    (dict(keep=dict(last=0)), 'keep.last=0: it must be at least 1, or -1 for '
     'all: the newest one is always kept'),
    (dict(keep=dict(bytes='20 gigs')),
     "keep.bytes='20 gigs': expected an int, or a number with a unit: '20GB', "
     "'20GiB', '500MB'"),
    (dict(keep=dict(best=2, rule='great')),
     "keep.rule='great': expected 'greater' or 'less', did you mean "
     "'greater'?"),
    (dict(keep=dict(monitor='mIoU')),
     "keep.monitor='mIoU': it says which are the best: give how many as "
     'keep.best'),
    (dict(write='async'), "write must be a dict, but got 'async' of type str"),
    (dict(write=dict(staging='async')),
     "write.staging must be one of 'auto', 'overlap', 'copy', but got "
     "'async'"),
    (dict(write=dict(durability='sync')),
     "write.durability must be one of 'fsync', 'none', but got 'sync', did "
     "you mean 'fsync'?"),
    (dict(triggers=[60]), 'triggers must be a dict, but got [60] of type '
     'list'),
    (dict(triggers=dict(secs='10min')),
     "triggers.secs must be seconds, but got '10min' of type str"),
    (dict(triggers=dict(secs=0)), 'triggers.secs must be positive, but got 0'),
    (dict(triggers=dict(at=1000)),
     'triggers.at must be a list of ints, but got 1000 of type int'),
    (dict(triggers=dict(signals=['SIGTERM'])),
     "triggers.signals must be a dict such as dict(SIGTERM='save_and_exit'), "
     "but got ['SIGTERM'] of type list"),
    (dict(triggers=dict(signals=dict(TERM='save'))),
     'unknown signal triggers.signals.TERM; did you mean '
     "'triggers.signals.SIGTERM'? valid are: SIGALRM, SIGBREAK, SIGHUP, "
     'SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGXCPU'),
    (dict(triggers=dict(signals=dict(SIGTERM='exit'))),
     "triggers.signals.SIGTERM must be one of 'save', 'save_and_exit', but "
     "got 'exit'"),
    (dict(resume=True),
     "resume must be 'auto' or a path, but got True of type bool"),
    (dict(resume='latest'),
     "resume='latest' is no file, did you mean 'auto'?"),
    (dict(format='DCP'),
     "format must be one of 'pth', 'dcp', but got 'DCP', did you mean "
     "'dcp'?"),
    (dict(format='safetensors'),
     "format must be one of 'pth', 'dcp', but got 'safetensors'"),
    (dict(on_error='Raise'),
     "on_error must be one of 'warn', 'raise', but got 'Raise', did you mean "
     "'raise'?"),
    (dict(trust_checkpoint='yes'),
     "trust_checkpoint must be True or False, but got 'yes' of type str"),
    (dict(filename_tmpl='ckpt.pth'),
     "filename_tmpl must have one placeholder {} for the number, as in "
     "'iter_{}.pth', but got 'ckpt.pth': every save would replace the one "
     'before'),
    (dict(filename_tmpl='iter_{}.pt'),
     "filename_tmpl must be a file name that ends in '.pth', but got "
     "'iter_{}.pt'"),
    (dict(file_client_args='petrel'),
     "file_client_args must be a dict, but got 'petrel' of type str"),
    (dict(mirror='s3://bucket/a'),
     "mirror must be a dict such as dict(url='s3://bucket/prefix'), but got "
     'type str'),
    (dict(mirror={}), 'mirror.url must be given: a path or URL of the second '
     'place'),
    (dict(mirror=dict(url='s3:/bucket/a')),
     "mirror.url: s3:/bucket/a is no URL: did you mean 's3://bucket/a'? A "
     "local directory of that name is given as './s3:/bucket/a'"),
    (dict(out_dir='s3:///a'),
     "out_dir: 's3:///a' names no bucket: expected 's3://', the bucket, and a "
     "prefix in it, such as 's3://bucket/a'"),
]


@pytest.mark.parametrize('given, expected', VALUES)
def test_a_wrong_value_is_told_with_what_is_valid(given, expected):
    assert message(built, **given) == expected


# -- combinations ------------------------------------------------------------

COMBINATIONS = [
    (dict(max_keep_ckpts=2, keep=dict(last=3)),
     'keep.last=3 contradicts max_keep_ckpts=2; give one of them'),
    (dict(write=dict(staging='overlap', background=False)),
     "write.staging='overlap' needs write.background=True: without it nothing "
     'is copied'),
    (dict(save_best='mIoU'),
     "save_best='mIoU': that is a setting of `evaluation`, which keeps the "
     'best one; keep=dict(best=...) of the hook keeps several; remove it'),
    (dict(sharded=True),
     "sharded=True: sharded checkpoints are format='dcp'; remove it"),
    (dict(format='dcp', out_dir='hdfs://a'),
     "format='dcp' needs a directory that all ranks see, or an object store "
     '(s3://, gs://, az://), but out_dir is hdfs://. Give one of them, or '
     "format='pth'"),
    (dict(mirror=dict(url='/a', storage_options=dict(region='x'))),
     'mirror.storage_options are of an object store or of fsspec, but '
     "mirror.url='/a' is a local path: remove them, or give the URL that they "
     'are for'),
    (dict(mirror=dict(url='/a', keep=dict(monitor='mIoU'))),
     'mirror.keep.monitor is not for the mirror: it ranks by keep.monitor of '
     'the hook. Remove it'),
]


@pytest.mark.parametrize('given, expected', COMBINATIONS)
def test_what_contradicts_is_told_with_both_sides(given, expected):
    assert message(built, **given) == expected


# -- what only the start of a run can know -----------------------------------


def started(work_dir, given, **kwargs):
    runner = make_runner(
        work_dir,
        runner=dict(type='IterBasedRunnerAmp', max_iters=2),
        hooks=[dict(type='DurableCheckpointHook', **given)],
        **kwargs)
    runner.run([make_loader()], [('train', 1)])


def test_a_metric_that_no_evaluation_gives(tmp_path):
    keep = dict(best=1, monitor='mIoU')
    assert message(started, tmp_path, dict(keep=keep)) == (
        'keep.best=1 needs scores, but no EvalHook is registered: add '
        '`evaluation` to the config (and do not train with --no-validate), or '
        'remove it')


def test_a_misspelt_metric(tmp_path):
    keep = dict(best=1, monitor='mIou')
    evaluation = dict(scores=[.5], interval=1, by_epoch=False)
    said = message(
        started,
        tmp_path,
        dict(keep=keep, interval=1, on_error='raise'),
        evaluation=evaluation)
    assert "'mIou'" in said and "did you mean 'mIoU'?" in said


def test_an_argument_of_the_stock_hook_that_it_does_not_know(tmp_path):
    stock = CheckpointHook(interval=1, intervals=2)
    runner = make_runner(
        tmp_path, hooks=[stock, dict(type='DurableCheckpointHook')])
    assert message(runner.run, [make_loader()], [('train', 1)]) == (
        "checkpoint_config has the unknown arguments ['intervals'], on which "
        "mmcv would fail at the first save: did you mean 'interval'?")


def test_a_path_that_leads_through_a_file(tmp_path):
    (tmp_path / 'file').touch()
    path = f'{tmp_path}/file/checkpoints'
    with pytest.raises(CheckpointError) as caught:
        started(tmp_path / 'run', dict(out_dir=path))
    assert f'{path}/run' in str(caught.value)


def test_a_resume_from_what_is_not_there(tmp_path):
    path = f'{tmp_path}/gone/iter_4.pth'
    with pytest.raises(CheckpointError) as caught:
        started(tmp_path / 'run', dict(resume=path))
    assert str(caught.value) == \
        f'cannot read checkpoint {path}: No such file or directory'
