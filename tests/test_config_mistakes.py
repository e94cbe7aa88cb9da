"""The mistakes that people make in a config, and what they read then.

Each is built as mmcv builds it; the message is the whole one: what was given,
what is valid, the nearest name, and where in the config it stands.
"""
import logging
import math
import re

import numpy as np
import pytest
import torch
from mmcv.runner import (HOOKS, RUNNERS, CheckpointHook, EMAHook,
                         IterBasedRunner, get_priority)
from mmcv.utils import Config, build_from_cfg, import_modules_from_strings
from stock import best_has_a_place, builds_runners
from toy import (QuickEvalHook, ToyModel, make_loader, make_logger,
                 make_runner, train)

from mmcv_ckpt_hooks.errors import CheckpointError, ConfigError
from mmcv_ckpt_hooks.run_fields import check_run

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
    ('save_filename', 'filename_tmpl'),
    ('best_mode', 'keep.rule'),
    # of Keras
    ('filepath', 'filename_tmpl'),
    ('save_best_only', 'keep.best'),
    ('save_weights_only', 'save_optimizer'),
    ('save_freq', 'interval'),
    # of ignite and detectron2
    ('dirname', 'out_dir'),
    ('n_saved', 'max_keep_ckpts'),
    ('score_name', 'keep.monitor'),
    ('require_empty', 'adopt_existing'),
    ('period', 'interval'),
    ('file_prefix', 'filename_tmpl'),
    # of fairseq, torchtitan and timm
    ('save_interval_updates', 'interval'),
    ('keep_interval_updates', 'max_keep_ckpts'),
    ('keep_best_checkpoints', 'keep.best'),
    ('best_checkpoint_metric', 'keep.monitor'),
    ('maximize_best_checkpoint_metric', 'keep.rule'),
    ('folder', 'out_dir'),
    ('keep_latest_k', 'max_keep_ckpts'),
    ('async_mode', 'write.background'),
    ('checkpoint_hist', 'keep.best'),
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


@pytest.mark.parametrize(
    'group, given, meant',
    [
        ('triggers', 'sec', 'secs'),
        ('triggers', 'signal', 'signals'),
        ('keep', 'keep_last', 'last'),
        ('keep', 'evry', 'every'),
        ('write', 'stagin', 'staging'),
        ('mirror', 'uri', 'url'),
        # of others
        ('keep', 'mode', 'rule'),
        ('keep', 'metric', 'monitor'),
        ('keep', 'max_keep_ckpts', 'last'),
        ('write', 'async', 'background'),
        ('write', 'fsync', 'durability'),
        ('mirror', 'out_dir', 'url'),
    ])
def test_in_a_group_the_whole_name_is_given(group, given, meant):
    assert message(built, **{group: {
        given: 3
    }}) == (f"unknown key {group}.{given}; did you mean '{group}.{meant}'? "
            f'valid are: {KEYS[group]}')


def test_what_stands_in_a_group_and_belongs_beside_it():
    assert message(
        built, triggers=dict(interval=3)) == (
            "unknown key triggers.interval; did you mean 'interval'? valid "
            f'are: {KEYS["triggers"]}')


@pytest.mark.parametrize('given, meant', [('signals', 'triggers.signals'),
                                          ('intervall', 'interval')])
def test_none_under_a_wrong_name_is_told_too(given, meant):
    """``signals=None`` beside `triggers` would leave all of them on."""
    assert message(built,
                   **{given:
                      None}) == (f'unknown argument {given}; did you mean '
                                 f'{meant!r}? valid are: {ARGUMENTS}')


@pytest.mark.parametrize('given', [
    './$HOME', '/data/us$er/ckpts', '/data/a$', '/data/$', 's3://b/a$b',
    'sftp://u:pa$sword@h/x', 'sftp://u:/$word@h/x', 'file://~/ckpts',
    'file://./x', 'file://work_dirs/x', 'file:///data/x', 'hdfs:///x'
])
def test_an_odd_name_of_a_place_is_taken_as_it_is(given):
    assert built(out_dir=given).out_dir == given
    built(mirror=dict(url=given))


def test_a_directory_that_is_called_as_a_variable_is_taken_if_it_is_there(
        tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for given in ('$HOME/a', f'{tmp_path}/$HOME/a', 'file://$HOME/a',
                  f'{tmp_path}/${{HOME}}-old'):
        assert 'nothing replaces' in message(built, out_dir=given)
    (tmp_path / '$HOME').mkdir()
    (tmp_path / '${HOME}-old').mkdir()
    for given in ('$HOME/a', f'{tmp_path}/$HOME/a', 'file://$HOME/a',
                  f'{tmp_path}/${{HOME}}-old'):
        assert built(out_dir=given).out_dir == given
    # what is here says nothing of a store
    said = message(built, out_dir='hdfs://$HOME/a')
    assert said.startswith("out_dir: nothing replaces $HOME of 'hdfs://$HOME")
    assert '$USER' in message(built, out_dir='$HOME/$USER')


def test_a_file_url_may_be_relative_or_begin_at_home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('HOME', str(tmp_path / 'home'))
    for given, place in (('file://~/a', 'home/a'), ('file://./b', 'b'),
                         ('file://host/c', 'host/c')):
        started(tmp_path / 'run', dict(out_dir=given))
        assert (tmp_path / place / 'run' / 'iter_2.pth').exists()


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
    (dict(interval=-3), 'interval must be at least 1, or -1 for never, but '
     'got -3'),
    (dict(by_epoch='no'),
     "by_epoch must be True, False or None, but got 'no' of type str"),
    (dict(save_last=1), 'save_last must be True or False, but got 1 of type '
     'int'),
    (dict(meta='note'), "meta must be a dict, but got 'note' of type str"),
    (dict(out_dir=3), 'out_dir must be a path or URL, but got 3 of type int'),
    (dict(keep=dict(every=0)), 'keep.every=0: it must be at least 1'),
    (dict(keep=dict(bytes=0)), 'keep.bytes=0: it must be positive'),
    (dict(keep=dict(last=True)),
     'keep.last must be an int, but got True of type bool'),
    (dict(keep=dict(best=0)), 'keep.best=0: it must be at least 1; leave it '
     'out to keep no best ones'),
    (dict(mirror=dict(url='/a', keep=dict(best=0))), 'mirror.keep.best=0: it '
     'must be at least 1; leave it out to keep no best ones'),
    (dict(mirror=dict(url='/a', keep=dict(bst=1))),
     "unknown key mirror.keep.bst; did you mean 'mirror.keep.best'? valid "
     f'are: {KEYS["keep"]}'),
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
    (dict(triggers=dict(secs=math.inf)),
     'triggers.secs must be positive, but got inf'),
    (dict(triggers=dict(secs=math.nan)),
     'triggers.secs must be positive, but got nan'),
    (dict(triggers=dict(begin=-1)), 'triggers.begin must not be negative, but '
     'got -1'),
    (dict(triggers=dict(at=['100'])), 'triggers.at must hold ints of at least '
     "1, but got '100'"),
    (dict(triggers=dict(at=[0])), 'triggers.at must hold ints of at least 1, '
     'but got 0'),
    (dict(triggers=dict(file='/tmp/SAVE')), 'triggers.file must be a plain '
     "file name that no checkpoint or catalog has, but got '/tmp/SAVE'"),
    (dict(triggers=dict(signals=dict(SIGKILL='save'))),
     'triggers.signals.SIGKILL: no process can catch it, or it is not sent to '
     'ask for something; valid are: SIGALRM, SIGHUP, SIGINT, SIGQUIT, '
     'SIGTERM, SIGUSR1, SIGUSR2, SIGXCPU'),
    (dict(write=dict(backlog='queue')),
     "write.backlog must be one of 'wait', 'skip', but got 'queue'"),
    (dict(storage_options={1: 2}),
     'the keys of storage_options must be names, but got 1 of type int'),
    (dict(storage_options='secret'),
     'storage_options must be a dict, but got type str'),
    (dict(file_client_args={1: 2}),
     'the keys of file_client_args must be names, but got 1 of type int'),
    (dict(mirror=dict(url='s3://b/a', storage_options={1: 2})),
     'the keys of mirror.storage_options must be names, but got 1 of type '
     'int'),
    (dict(mirror=dict(url=3)), "mirror.url must be a path or URL such as "
     "'s3://bucket/prefix', but got 3 of type int"),
    (dict(out_dir=' '), "out_dir must be a path or URL, but got ' ': leave it "
     'out for none'),
    (dict(mirror=dict(url=' ')), "mirror.url must be a path or URL, but got "
     "' ': leave it out for none"),
    (dict(out_dir='$SCRATCH/a'),
     "out_dir: nothing replaces $SCRATCH of '$SCRATCH/a'. A config is Python: "
     "give os.environ['SCRATCH'] + '...', or os.path.expandvars('...')"),
    (dict(mirror=dict(url='s3://b/${USER}')),
     "mirror.url: nothing replaces ${USER} of 's3://b/${USER}'. A config is "
     "Python: give os.environ['USER'] + '...', or os.path.expandvars('...')"),
    (dict(out_dir='/data/$USER-runs/a'), 'out_dir: nothing replaces $USER of '
     "'/data/$USER-runs/a'. A config is Python: give os.environ['USER'] + "
     "'...', or os.path.expandvars('...')"),
    (dict(out_dir='file://$HOME/a'), "out_dir: nothing replaces $HOME of "
     "'file://$HOME/a'. A config is Python: give os.environ['HOME'] + '...', "
     "or os.path.expandvars('...')"),
    (dict(out_dir='sftp://u:pa$sword@h/$USER'), 'out_dir: nothing replaces '
     "$USER of 'sftp://h/$USER'. A config is Python: give "
     "os.environ['USER'] + '...', or os.path.expandvars('...')"),
    (dict(out_dir='file:/data/a'), 'out_dir: file:/data/a is no URL of a '
     "place: did you mean 'file:///data/a'?"),
    (dict(out_dir='file:a'), 'out_dir: file:a is no URL of a place: did you '
     "mean 'file://a'?"),
    (dict(out_dir='FILE:///data/a'), 'out_dir: FILE:///data/a is no URL of a '
     "place: did you mean 'file:///data/a'?"),
    (dict(out_dir='file:///'), "out_dir: 'file:///' names no place: expected "
     "such as 'file:///data/checkpoints'"),
    (dict(out_dir='sftp:/u:pa$sword@h/x'), 'out_dir: sftp:... is no URL of a '
     "place: did you mean 'sftp://host/checkpoints'?"),
    (dict(mirror=dict(url='SFTP://u:pa/$sword@h/x')), 'mirror.url: '
     "SFTP://... is no URL of a place: did you mean "
     "'sftp://host/checkpoints'?"),
    (dict(out_dir='sftp://u:password@h/x\0'), 'out_dir must be a path or '
     "URL, but got 'sftp://h/x\\x00', with a null character"),
    (dict(out_dir='pavi://'), "out_dir: 'pavi://' names no place: expected "
     "such as 'pavi://project/model'"),
    (dict(mirror=dict(url='hdfs:/host/a')), 'mirror.url: hdfs:/host/a is no '
     "URL of a place: did you mean 'hdfs://host/a'?"),
    (dict(out_dir='a\0b'), "out_dir must be a path or URL, but got "
     "'a\\x00b', with a null character"),
    (dict(resume='s3://bucket'), "resume='s3://bucket' names a bucket, "
     'expected a checkpoint in it, such as '
     "'s3://bucket/prefix/iter_1000.pth'"),
    (dict(resume='torchvision://resnet18'), "resume='torchvision://resnet18' "
     'has the weights alone, and no state of a run: use load_from to take '
     'them'),
    (dict(resume='yes'), "resume='yes' is no file, did you mean 'auto'?"),
    (dict(keep=dict(best=1, rule='max')),
     "keep.rule='max': expected 'greater' or 'less', did you mean "
     "'greater'?"),
    *[(dict(triggers=dict(file=name)), 'triggers.file must be a plain file '
       f'name that no checkpoint or catalog has, but got {name!r}')
      for name in ('.', '..', 'a\0b', 'iter_4.dcp', 'last_checkpoint')],
    *[(dict(filename_tmpl=one),
       'filename_tmpl must have one placeholder {} for the number, as in '
       f"'iter_{{}}.pth', but got {one!r}: every save would replace the one "
       'before') for one in ('iter_{.step}.pth', 'iter_{[0]}.pth',
                             'iter_{:c}.pth', 'iter_{:.0e}.pth')],
    (dict(filename_tmpl='\ud800{}.pth'), 'filename_tmpl must give names that '
     "a file system can have, but got '\\ud800{}.pth'"),
    (dict(resume=''), "resume must be 'auto' or a path, but got ''"),
    (dict(triggers=dict(at=1000)),
     'triggers.at must be a list of ints, but got 1000 of type int'),
    (dict(triggers=dict(signals=['SIGTERM'])),
     "triggers.signals must be a dict such as dict(SIGTERM='save_and_exit'), "
     "but got ['SIGTERM'] of type list"),
    (dict(triggers=dict(signals=dict(TERM='save'))),
     'unknown signal triggers.signals.TERM; did you mean '
     "'triggers.signals.SIGTERM'? valid are: SIGALRM, SIGHUP, SIGINT, "
     'SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGXCPU'),
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
    (dict(write=dict(backlog='skip', background=False)),
     "write.backlog='skip' needs write.background=True: without it no save "
     'comes while another is being written'),
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


def started(work_dir, given, before=(), **kwargs):
    runner = make_runner(
        work_dir,
        runner=dict(type='IterBasedRunnerAmp', max_iters=2),
        hooks=[*before, dict(type='DurableCheckpointHook', **given)],
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
    assert str(caught.value) == f'DurableCheckpointHook: resume: cannot ' \
        f'read checkpoint {path}: No such file or directory'


def test_a_path_that_is_a_file_is_named(tmp_path):
    (tmp_path / 'file').touch()
    for given in (dict(out_dir=f'{tmp_path}/file/deeper'),
                  dict(mirror=dict(url=f'{tmp_path}/file'))):
        with pytest.raises(CheckpointError) as caught:
            started(tmp_path / 'run', given)
        assert f'({tmp_path}/file is a file): Not a directory' in \
            str(caught.value)


def test_a_resume_from_a_published_file(tmp_path, capsys):
    from mmcv_ckpt_hooks.cli import main
    started(tmp_path / 'run', dict(interval=2))
    assert main(
        ['publish', f'{tmp_path}/run/iter_2.pth',
         f'{tmp_path}/zoo/toy.pth']) == 0
    path = capsys.readouterr().out.split(': ')[0]
    with pytest.raises(CheckpointError) as caught:
        started(tmp_path / 'other', dict(resume=path))
    assert str(caught.value) == (
        f'{path} was published: it has the weights alone, and no state of a '
        'run. Use load_from to take them, or resume from the checkpoint that '
        'they are of')


@pytest.mark.parametrize('mine', ['no', True])
def test_published_in_the_meta_of_a_user_is_the_users(tmp_path, mine, capsys):
    from mmcv_ckpt_hooks.cli import main
    started(tmp_path, dict(interval=2, meta=dict(published=mine)))
    assert main(['ls', str(tmp_path)]) == 0
    assert "resume='auto' would take iter_2.pth" in capsys.readouterr().out
    started(tmp_path, dict(resume='auto'))


def test_what_publish_replaces_in_meta_is_told(tmp_path, capsys):
    from mmcv_ckpt_hooks.cli import main
    started(tmp_path / 'run', dict(interval=2, meta=dict(published='no')))
    assert main(
        ['publish', f'{tmp_path}/run/iter_2.pth',
         f'{tmp_path}/zoo/toy.pth']) == 0
    assert 'meta.published' in capsys.readouterr().out


def test_a_tool_that_resumes_before_there_are_averages(tmp_path, caplog):
    """Its --resume-from, on a stock runner; mmcv drops them silently."""
    stock = dict(type='IterBasedRunner', max_iters=4)

    def run(where, resume=None):
        runner = make_runner(
            tmp_path / where,
            runner=stock,
            hooks=[
                EMAHook(momentum=.1),
                dict(type='DurableCheckpointHook', interval=2)
            ])
        if resume is not None:
            runner.resume(str(resume), map_location='cpu')
        runner.run([make_loader()], [('train', 1)])

    run('one')
    assert 'averages' not in caplog.text
    with caplog.at_level(logging.WARNING):
        run('other', tmp_path / 'one' / 'iter_2.pth')
    assert (
        'IterBasedRunner was resumed before EMAHook had its averages '
        '(--resume-from of the tool): those in the checkpoint, if there '
        'are any, were dropped, and begin anew from its weights. To keep '
        'them give the checkpoint to DurableCheckpointHook(resume=...), '
        'or take IterBasedRunnerAmp or EpochBasedRunnerAmp') in caplog.messages


@pytest.mark.parametrize('given, expected', [
    (dict(interval=1000), 'interval=1000 never comes: the run has 2 '
     'iterations, and is saved at its end only'),
    (dict(interval=1000, save_last=False), 'interval=1000 never comes: the '
     'run has 2 iterations, and with save_last=False nothing is saved at the '
     'end either'),
    (dict(interval=1, triggers=dict(begin=100)), 'triggers.begin=100 is never '
     'reached: the run has 2 iterations, and nothing is saved by interval'),
    (dict(interval=1, triggers=dict(at=[1, 50, 60])), 'triggers.at: 50, 60 '
     'never come: the run has 2 iterations'),
    (dict(), 'DurableCheckpointHook has no interval: nothing is saved before '
     'the end but what triggers ask for'),
    (dict(save_last=False), 'DurableCheckpointHook has no interval: nothing '
     'is saved but what triggers ask for'),
    (dict(interval=1, storage_options=dict(region='x')), 'storage_options of '
     'the hook are not used: they are for object stores and fsspec, and the '
     'hook has no such out_dir, nor begins with a checkpoint from there'),
])
def test_what_will_not_happen_is_told_at_the_start(tmp_path, caplog, given,
                                                   expected):
    with caplog.at_level(logging.WARNING):
        started(tmp_path, given)
    assert expected in caplog.messages


@pytest.mark.parametrize('by_epoch, length', [(False, '2 iterations'),
                                              (True, '1 epoch')])
def test_an_evaluation_that_never_comes_is_told_where_it_ranks(
        tmp_path, caplog, by_epoch, length):
    runner = dict(type='EpochBasedRunnerAmp', max_epochs=1) if by_epoch else \
        dict(type='IterBasedRunnerAmp', max_iters=2)
    for interval in (16, 1):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            train(
                tmp_path / str(interval),
                runner=runner,
                hooks=[
                    dict(
                        type='DurableCheckpointHook',
                        interval=1,
                        keep=dict(best=1))
                ],
                evaluation=dict(
                    scores=[.5], interval=interval, by_epoch=by_epoch))
        said = 'evaluation.interval=16 never comes: the run has ' \
            f'{length}, and none of its checkpoints gets a score by which ' \
            'the best are kept'
        assert (said in caplog.messages) == (interval == 16)


@pytest.mark.parametrize('triggers', [dict(secs=60), dict(at=[1])])
def test_an_interval_that_never_comes_is_no_matter_beside_others(
        tmp_path, caplog, triggers):
    with caplog.at_level(logging.WARNING):
        started(tmp_path, dict(interval=1000, triggers=triggers))
    assert 'never comes' not in caplog.text


def test_the_resume_from_of_a_config_leads_nowhere(tmp_path):
    path = f'{tmp_path}/gone/iter_4.pth'
    runner = make_runner(tmp_path / 'run')
    with pytest.raises(CheckpointError) as caught:
        runner.resume(path)
    assert str(caught.value) == \
        f'cannot read checkpoint {path}: No such file or directory'


def test_a_metric_whose_better_side_nobody_knows(tmp_path):
    evaluation = dict(scores=[.5], interval=1, by_epoch=False)
    said = message(
        started,
        tmp_path,
        dict(keep=dict(best=1, monitor='roundness')),
        evaluation=evaluation)
    assert said == ("whether a greater or a lesser 'roundness' is better "
                    'cannot be told from its name: give keep.rule '
                    "('greater' or 'less')")


def test_two_hooks_in_one_place(tmp_path):
    hook = dict(type='DurableCheckpointHook', interval=1)
    runner = make_runner(
        tmp_path,
        runner=dict(type='IterBasedRunnerAmp', max_iters=2),
        hooks=[dict(hook), dict(hook)])
    assert message(runner.run, [make_loader()], [
        ('train', 1)
    ]) == (f'two DurableCheckpointHooks write to {tmp_path}: give one of them '
           'another out_dir, or unite their arguments in one')


def test_epochs_for_a_runner_of_iterations(tmp_path):
    assert message(started, tmp_path, dict(by_epoch=True, interval=1)) == (
        'by_epoch=True on IterBasedRunnerAmp would never save: it has no '
        'epoch events. Leave by_epoch out')


@best_has_a_place
def test_an_unknown_scheme_is_told_with_the_argument(tmp_path):
    said = message(started, tmp_path / 'run', dict(out_dir='s4://bucket/a'))
    assert said.startswith("out_dir='s4://bucket/a': s4://bucket/a/run is ")
    assert "Did you mean 's3://bucket/a/run'? " in said
    evaluation = dict(
        scores=[.5],
        interval=1,
        by_epoch=False,
        save_best='mIoU',
        out_dir='s4://bucket/a')
    said = message(started, tmp_path / 'run', {}, evaluation=evaluation)
    assert said.startswith("evaluation.out_dir='s4://bucket/a': s4://")


@best_has_a_place
def test_a_path_object_as_the_place_of_the_best(tmp_path):
    evaluation = dict(
        scores=[.5],
        interval=1,
        by_epoch=False,
        save_best='mIoU',
        out_dir=tmp_path / 'best')
    started(tmp_path / 'run', {}, evaluation=evaluation)
    assert (tmp_path / 'best' / 'run' / 'best_mIoU_iter_1.pth').exists()


@pytest.mark.parametrize('of_evaluation', ['less', None])
def test_a_rule_that_contradicts_that_of_the_evaluation(
        tmp_path, of_evaluation):
    ours, other = ('greater', 'less') if of_evaluation else ('less', 'greater')
    evaluation = dict(
        scores=[.5],
        interval=1,
        by_epoch=False,
        save_best='mIoU',
        rule=of_evaluation)
    assert message(
        started,
        tmp_path,
        dict(keep=dict(best=1, rule=ours)),
        evaluation=evaluation) == (
            f"keep.rule='{ours}' of 'mIoU' contradicts the evaluation, which "
            f"has '{other}', by evaluation.rule or by the metric's name: give "
            'evaluation.rule the same')


def test_two_evaluations_that_contradict_each_other(tmp_path):
    evaluation = dict(
        scores=[.5], interval=1, by_epoch=False, save_best='mIoU')
    assert message(
        started,
        tmp_path,
        dict(keep=dict(best=1)),
        evaluation=evaluation,
        before=[
            QuickEvalHook(rule='less', **evaluation)
        ]) == ("the evaluations contradict each other on the best 'mIoU': one "
               "has 'less', another 'greater', by evaluation.rule or by the "
               "metric's name: give both the same evaluation.rule")


@pytest.mark.parametrize('given, said', [
    (dict(save_best='mIoU'),
     "checkpoint_config has the unknown arguments ['save_best'], on which "
     'mmcv would fail at the first save: that is a setting of `evaluation`, '
     'which keeps the best one; keep=dict(best=...) of the hook keeps '
     'several'),
    (dict(by_epoch='False'),
     "checkpoint_config.by_epoch must be True, False or None, but got 'False' "
     'of type str'),
])
def test_what_stock_takes_and_cannot_mean(tmp_path, given, said):
    stock = CheckpointHook(interval=1, **given)
    runner = make_runner(
        tmp_path, hooks=[stock, dict(type='DurableCheckpointHook')])
    assert message(runner.run, [make_loader()], [('train', 1)]) == said


def test_a_resume_from_weights_with_an_empty_meta(tmp_path):
    """Converters write it so; the run would begin at iteration 1."""
    path = tmp_path / 'converted.pth'
    torch.save(dict(meta={}, state_dict=ToyModel().state_dict()), path)
    with pytest.raises(CheckpointError) as caught:
        started(tmp_path / 'run', dict(resume=str(path)))
    assert str(caught.value) == (
        f'{path} cannot be resumed from: neither its meta nor its name tells '
        'how many steps are finished. Use load_from to take only the weights')


@pytest.mark.parametrize('name', ['iter_10.pth', 'iter_10.dcp/'])
def test_the_name_tells_the_steps_also_with_a_slash_behind(name):
    check_run(dict(meta={}, state_dict={}), f'run/{name}')


# -- the optimizer hook of the family -----------------------------------------

OPTIMIZER_ARGUMENTS = ('bucket_size_mb, coalesce, grad_clip, update_interval, '
                       'use_fp16')
OPTIMIZER = [
    (dict(update_intervall=2), 'unknown argument update_intervall; did you '
     f"mean 'update_interval'? valid are: {OPTIMIZER_ARGUMENTS}"),
    (dict(fp16=True), "unknown argument fp16; did you mean 'use_fp16'? valid "
     f'are: {OPTIMIZER_ARGUMENTS}'),
    (dict(cumulative_iters=2), 'unknown argument cumulative_iters; did you '
     f"mean 'update_interval'? valid are: {OPTIMIZER_ARGUMENTS}"),
    (dict(update_interval=0), 'update_interval must be an int of at least 1, '
     'but got 0'),
    (dict(use_fp16='yes'), "use_fp16 must be True or False, but got 'yes'"),
    (dict(grad_clip=1.0), 'grad_clip must be a dict such as '
     'dict(max_norm=1.0), but got 1.0'),
    (dict(grad_clip=dict(norm_type=2)), 'grad_clip must have max_norm, but '
     "got {'norm_type': 2}"),
    (dict(grad_clip={}), 'grad_clip must have max_norm, but got {}'),
]


@pytest.mark.parametrize('given, expected', OPTIMIZER)
def test_a_wrong_optimizer_hook_is_told_when_it_is_built(given, expected):
    said = message(build_from_cfg, dict(type='DistOptimizerHook', **given),
                   HOOKS)
    assert re.sub('^DistOptimizerHook: ', '', said) == expected


def test_a_misspelt_key_of_the_clipping():
    said = message(build_from_cfg,
                   dict(type='DistOptimizerHook', grad_clip=dict(max_nrm=1)),
                   HOOKS)
    assert ("unknown key grad_clip.max_nrm; did you mean 'grad_clip.max_norm'"
            '? valid are: grad_clip.') in said


# -- the runner ---------------------------------------------------------------

RUNNER_ARGUMENTS = ('batch_processor, logger, max_epochs, max_iters, meta, '
                    'model, optimizer, sample_seeds, work_dir')
RUNNER = [
    (dict(max_iters='160000'),
     'max_iters of the runner must be a whole number '
     "of at least 1, but got '160000' of type str"),
    (dict(max_iters=1.5), 'max_iters of the runner must be a whole number of '
     'at least 1, but got 1.5 of type float'),
    (dict(max_iters=math.inf),
     'max_iters of the runner must be a whole number '
     'of at least 1, but got inf of type float'),
    (dict(max_iters=True), 'max_iters of the runner must be a whole number of '
     'at least 1, but got True of type bool'),
    (dict(max_iters=0), 'max_iters of the runner must be a whole number of at '
     'least 1, but got 0 of type int'),
    (dict(max_epochs=3), 'max_epochs=3 of the runner, which counts '
     'iterations: give max_iters in its place, or '
     "type='EpochBasedRunnerAmp'"),
    (dict(max_iters=4, sample_seed=True), 'unknown argument sample_seed of '
     "the runner; did you mean 'sample_seeds'? valid are: "
     f'{RUNNER_ARGUMENTS}'),
    (dict(max_iter=4), 'unknown argument max_iter of the runner; did you mean '
     f"'max_iters'? valid are: {RUNNER_ARGUMENTS}"),
    (dict(max_iters=4, fp16=True), 'unknown argument fp16 of the runner; '
     'mixed precision is that of optimizer_config, such as '
     "dict(type='DistOptimizerHook', use_fp16=True); valid are: "
     f'{RUNNER_ARGUMENTS}'),
    (dict(max_iters=4, sample_seeds='yes'), 'sample_seeds of the runner must '
     "be True or False, but got 'yes'"),
]


@pytest.mark.parametrize('given, expected', RUNNER)
def test_a_wrong_runner_is_told_when_it_is_built(given, expected):
    said = message(build_from_cfg, dict(type='IterBasedRunnerAmp', **given),
                   RUNNERS)
    assert re.sub('^IterBasedRunnerAmp: ', '', said) == expected


@pytest.mark.parametrize('steps', [np.int64(4), np.int32(4), 4e0])
@pytest.mark.parametrize('name, key', [('IterBasedRunner', 'max_iters'),
                                       ('EpochBasedRunner', 'max_epochs')])
def test_a_length_that_stock_counts_to_is_counted_to(tmp_path, steps, name,
                                                     key):
    """A config that computes it: ``160e3``, or what numpy gives."""
    counted = [
        train(tmp_path / kind, runner=dict(type=kind, **{key: steps}))
        for kind in (name, f'{name}Amp')
    ]
    assert counted[0].iter == counted[1].iter > 0
    assert type(getattr(counted[1], f'_{key}')) is int  # as logs have it
    assert counted[0].epoch == counted[1].epoch
    resumed = train(
        tmp_path / f'{name}Amp',
        runner=dict(type=f'{name}Amp', **{key: steps + 1}),
        hooks=[dict(type='DurableCheckpointHook', resume='auto')])
    assert resumed.iter > counted[0].iter


def test_what_a_runner_of_a_repo_takes_is_its_own_matter(tmp_path):
    from mmcv_ckpt_hooks.constructor import durable_class

    class Runner(IterBasedRunner):

        def __init__(self, *given, **more):
            self.more = more.pop('of_the_repo')
            super().__init__(*given, **more)

    made = durable_class(Runner)
    runner = made(
        ToyModel(),
        work_dir=str(tmp_path),
        logger=make_logger(),
        max_iters=2,
        of_the_repo=3)
    assert runner.more == 3
    with pytest.raises(ConfigError, match='max_iters of the runner must be'):
        made(ToyModel(), max_iters='2', of_the_repo=3)


def test_iterations_for_a_runner_of_epochs():
    said = message(build_from_cfg,
                   dict(type='EpochBasedRunnerAmp', max_iters=9), RUNNERS)
    assert re.sub('^EpochBasedRunnerAmp: ', '', said) == (
        'max_iters=9 of the runner, which counts epochs: give max_epochs in '
        "its place, or type='IterBasedRunnerAmp'")


@builds_runners
def test_a_misspelt_runner_of_our_constructor(tmp_path):
    with pytest.raises(CheckpointError) as caught:
        make_runner(
            tmp_path,
            runner=dict(
                type='IterBasedRuner',
                max_iters=2,
                constructor='DurableRunnerConstructor'))
    assert str(caught.value).startswith(
        'IterBasedRuner is not in the runner registry; did you mean '
        "'IterBasedRunner'? it has: EpochBasedRunner, ")


@pytest.mark.parametrize('registry, name', [(HOOKS, 'DurableCheckpointHok'),
                                            (RUNNERS, 'IterBasedRunerAmp')])
def test_what_mmcv_says_of_a_name_that_nothing_has_registered(registry, name):
    """Also without custom_imports: docs/config-errors.md tells the reader."""
    with pytest.raises(KeyError) as caught:
        build_from_cfg(dict(type=name), registry)
    assert f'{name} is not in the {registry.name} registry' in \
        str(caught.value)


@builds_runners
def test_a_constructor_without_a_type(tmp_path):
    runner = dict(max_iters=2, constructor='DurableRunnerConstructor')
    assert message(
        make_runner, tmp_path, runner=runner
    ) == (
        'the runner of DurableRunnerConstructor has no type: expected such as '
        "type='IterBasedRunner' beside the constructor")


def test_a_misspelt_backend_of_mmcv(tmp_path):
    said = message(started, tmp_path,
                   dict(file_client_args=dict(backend='petrell')))
    assert 'Backend petrell is not supported' in said
    assert "Did you mean 'backend=petrel'? " in said


def test_what_mmcv_says_of_other_mistakes(tmp_path):
    """As docs/config-errors.md has it."""
    with pytest.raises(ImportError) as caught:
        import_modules_from_strings(['mmcv_ckpt_hokks'],
                                    allow_failed_imports=False)
    assert str(caught.value.__context__) == \
        "No module named 'mmcv_ckpt_hokks'"
    with pytest.raises(KeyError, match='must contain the key "type"'):
        build_from_cfg(dict(interval=3), HOOKS)
    with pytest.raises(TypeError, match="cfg must be a dict, but got <class "):
        build_from_cfg([dict(type='DurableCheckpointHook')], HOOKS)
    with pytest.raises(ValueError, match='Only one of `max_epochs` or'):
        make_runner(
            tmp_path,
            runner=dict(type='EpochBasedRunnerAmp', max_epochs=1, max_iters=2))
    with pytest.raises(AssertionError, match='max_iters must be specified'):
        train(tmp_path, runner=dict(type='IterBasedRunnerAmp'))
    for name in ('one.py', 'other.py'):
        (tmp_path / name).write_text('custom_hooks = []')
    (tmp_path / 'both.py').write_text("_base_ = ['one.py', 'other.py']")
    with pytest.raises(KeyError, match='Duplicate key is not allowed among'):
        Config.fromfile(str(tmp_path / 'both.py'))
    (tmp_path / 'file').touch()
    with pytest.raises(FileExistsError, match='File exists'):
        make_runner(tmp_path / 'file')
    with pytest.raises(KeyError, match='HIHG'):
        get_priority('HIHG')
    with pytest.raises(ValueError, match='Cannot infer the rule for key'):
        QuickEvalHook([.5], save_best='roundness')
    with pytest.raises(AssertionError, match='""save_best"" should be a str'):
        QuickEvalHook([.5], save_best=True)
