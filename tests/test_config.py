"""A mistake in a config is told when the hook is built, not hours later."""
import os

import pytest
import torch
from folders import NEW_TORCH
from mmcv import Config
from mmcv.runner import HOOKS
from mmcv.utils import build_from_cfg
from toy import make_runner, train

from mmcv_ckpt_hooks import DurableCheckpointHook
from mmcv_ckpt_hooks.config import CheckpointOptions, parse_options
from mmcv_ckpt_hooks.errors import CheckpointError, ConfigError
from mmcv_ckpt_hooks.version import version_tuple

MISSPELT = [
    # given, the nearest valid name that the message must offer
    (dict(intervall=4), 'interval'),
    (dict(max_keep_ckpt=4), 'max_keep_ckpts'),
    (dict(max_keep=4), 'max_keep_ckpts'),
    (dict(save_optimiser=False), 'save_optimizer'),
    (dict(outdir='x'), 'out_dir'),
    (dict(filename_template='a_{}.pth'), 'filename_tmpl'),
    (dict(create_symlinks=True), 'create_symlink'),
    (dict(on_errors='warn'), 'on_error'),
    (dict(trigger=dict(begin=1)), 'triggers'),
    (dict(resume_from='auto'), 'resume'),
    (dict(triggers=dict(sec=60)), 'secs'),
    (dict(triggers=dict(start=60)), 'at'),
    (dict(keep=dict(evry=2)), 'every'),
    (dict(write=dict(back_ground=False)), 'background'),
    (dict(write=dict(backlogs='wait')), 'backlog'),
    (dict(write=dict(stagin='copy')), 'staging'),
    (dict(triggers=dict(signal=dict(SIGTERM='save'))), 'triggers.signals'),
    (dict(keep=dict(lats=3)), 'last'),
]


@pytest.mark.parametrize('given, nearest', MISSPELT)
def test_a_misspelt_name_is_refused_with_the_nearest_one(given, nearest):
    with pytest.raises(ConfigError) as caught:
        parse_options(given)
    wrong = next(iter(given))
    value = given[wrong]
    if isinstance(value, dict) and wrong in ('triggers', 'keep', 'write'):
        wrong = f'{wrong}.{next(iter(value))}'
    assert f' {wrong}; ' in str(caught.value)
    assert nearest in str(caught.value)


KEYS = dict(secret_access_key='hush')


@pytest.mark.parametrize('given', [
    dict(storag_options=KEYS),
    dict(options=KEYS),
    dict(miror=dict(url='s3://bucket', storage_options=KEYS)),
    KEYS,
    dict(file_client_arg=KEYS),
    dict(write=KEYS),
])
def test_credentials_under_a_wrong_name_are_not_repeated(given):
    with pytest.raises(ConfigError, match='unknown') as caught:
        parse_options(given)
    assert 'hush' not in str(caught.value)


@pytest.mark.parametrize(
    'given, valid',
    [(given, near) for given, near in MISSPELT
     if next(iter(given)) not in ('resume_from', 'max_keep', 'triggers')])
def test_the_hint_names_the_one_that_was_meant(given, valid):
    group = next(iter(given))
    is_nested = group in ('triggers', 'keep', 'write')
    path = f'{group}.{valid}' if is_nested else valid
    with pytest.raises(ConfigError, match=f"did you mean '{path}'"):
        parse_options(given)


WRONG_TYPES = [
    (dict(interval='4'), 'interval', 'int'),
    (dict(interval=4.0), 'interval', 'int'),
    (dict(interval=True), 'interval', 'int'),
    (dict(by_epoch='False'), 'by_epoch', 'True, False'),
    (dict(by_epoch=0), 'by_epoch', 'True, False'),
    (dict(save_optimizer='no'), 'save_optimizer', 'True or False'),
    (dict(out_dir=3), 'out_dir', 'path'),
    (dict(max_keep_ckpts='3'), 'max_keep_ckpts', 'int'),
    (dict(meta=['a']), 'meta', 'dict'),
    (dict(file_client_args='disk'), 'file_client_args', 'dict'),
    (dict(filename_tmpl=7), 'filename_tmpl', 'str'),
    (dict(resume=True), 'resume', 'auto'),
    (dict(keep=3), 'keep', 'dict'),
    (dict(write=True), 'write', 'dict'),
    (dict(triggers=[4]), 'triggers', 'dict'),
    (dict(triggers=dict(begin='4')), 'triggers.begin', 'int'),
    (dict(triggers=dict(secs='60')), 'triggers.secs', 'seconds'),
    (dict(triggers=dict(secs=True)), 'triggers.secs', 'seconds'),
    (dict(triggers=dict(at=5)), 'triggers.at', 'list'),
    (dict(triggers=dict(at=['5'])), 'triggers.at', 'int'),
    (dict(triggers=dict(at=[2.5])), 'triggers.at', 'int'),
    (dict(triggers=dict(at=[True])), 'triggers.at', 'int'),
    (dict(triggers=dict(file=1)), 'triggers.file', 'file name'),
    (dict(triggers=dict(signals=['SIGTERM'])), 'triggers.signals', 'dict'),
    (dict(triggers=dict(exception=1)), 'triggers.exception', 'True or False'),
    (dict(keep=dict(last='2')), 'keep.last', 'int'),
    (dict(keep=dict(every=True)), 'keep.every', 'int'),
    (dict(write=dict(background='no')), 'write.background', 'True or False'),
    (dict(write=dict(staging=1)), 'write.staging', 'copy'),
    (dict(trust_checkpoint=1), 'trust_checkpoint', 'True or False'),
    (dict(on_error=False), 'on_error', 'warn'),
]


@pytest.mark.parametrize('given, name, expected', WRONG_TYPES)
def test_a_wrong_type_is_refused_and_told(given, name, expected):
    with pytest.raises(ConfigError) as caught:
        parse_options(given)
    assert name in str(caught.value)
    assert expected in str(caught.value)


WRONG_VALUES = [
    (dict(interval=0), 'interval'),
    (dict(on_error='ignore'), "'warn'"),
    (dict(on_error='rise'), "did you mean 'raise'"),
    (dict(format='dcpp'), "did you mean 'dcp'"),
    (dict(format='dcp', out_dir='hdfs://bucket/a'), 'all ranks see'),
    # what fsspec knows, also in the words of fsspec itself
    (dict(format='dcp', out_dir='sftp://host/a'), 'but out_dir is sftp://'),
    (dict(format='dcp', out_dir='memory://a'), "or format='pth'"),
    (dict(format='dcp', out_dir='webhdfs://host/a'), 'an object store (s3://'),
    (dict(format='dcp', write=dict(staging='overlap')),
     "contradicts write.staging='overlap'"),
    (dict(format='dcp',
          file_client_args=dict(backend='petrel')), 'file_client_args'),
    (dict(sharded=True), "format='dcp'"),
    (dict(write=dict(staging='overlap', background=False)),
     'needs write.background=True'),
    (dict(write=dict(staging='overlaps')), "did you mean 'overlap'"),
    (dict(write=dict(backlog='skipp')), "did you mean 'skip'"),
    (dict(write=dict(durability='sync')), "did you mean 'fsync'"),
    (dict(triggers=dict(begin=-1)), 'begin'),
    (dict(triggers=dict(secs=0)), 'secs'),
    (dict(triggers=dict(secs=-3.)), 'secs'),
    (dict(triggers=dict(secs=float('nan'))), 'secs'),
    (dict(triggers=dict(at=[0])), 'at'),
    (dict(keep=dict(every=0)), 'every'),
    (dict(resume=''), 'resume'),
    (dict(resume='Auto'), "did you mean 'auto'"),
    (dict(resume='AUTO '), "did you mean 'auto'"),
    (dict(resume='atuo'), "did you mean 'auto'"),
    (dict(resume='latest'), "did you mean 'auto'"),
    (dict(resume=' Newest'), "did you mean 'auto'"),
    (dict(triggers=dict(signals=dict(SIGTERMM='save'))),
     "did you mean 'triggers.signals.SIGTERM'"),
    # every save would replace the one before
    (dict(filename_tmpl='latest_state.pth'), 'placeholder'),
    (dict(filename_tmpl='iter_{step}.pth'), 'placeholder'),
    (dict(filename_tmpl='iter_{}_{}.pth'), 'placeholder'),
    (dict(filename_tmpl='iter_{'), 'placeholder'),
    (dict(filename_tmpl='iter_{}.pt'), '.pth'),
    (dict(filename_tmpl='iter_{}'), "ends in '.pth', but got 'iter_{}'"),
    (dict(filename_tmpl='iter_{}.dcp'), "'.dcp' is that of format='dcp'"),
    (dict(filename_tmpl='iter_{}.pt',
          format='dcp'), "ends in '.pth' or '.dcp', but got"),
    (dict(filename_tmpl='iter.dcp', format='dcp'), 'placeholder'),
    (dict(format='DCP'), "did you mean 'dcp'"),
    (dict(filename_tmpl='../iter_{}.pth'), 'file name'),
    # which would fail at every save, here or on another system
    (dict(filename_tmpl='a\\{}.pth'), 'file name'),
    (dict(filename_tmpl='a\0{}.pth'), 'file name'),
    (dict(filename_tmpl='a' * 260 + '{}.pth'), 'at most 246 bytes'),
    (dict(filename_tmpl='ü' * 120 + '{}.pth'), 'at most 246 bytes'),
    (dict(filename_tmpl='a{:0300}.pth'), 'at most 246 bytes'),
    (dict(filename_tmpl='.m.tmp-{}.pth'), 'unfinished'),
    # a trigger file is removed: it must not lead out of the work dir
    (dict(triggers=dict(file='/etc/passwd')), 'triggers.file'),
    (dict(triggers=dict(file='../SAVE')), 'triggers.file'),
    (dict(triggers=dict(file='')), 'triggers.file'),
    (dict(triggers=dict(file='latest.pth')), 'triggers.file'),
    (dict(triggers=dict(file='checkpoints.json')), 'triggers.file'),
]


@pytest.mark.parametrize('given, told', WRONG_VALUES)
def test_a_wrong_value_is_refused_and_told(given, told):
    with pytest.raises(ConfigError) as caught:
        parse_options(given)
    assert told in str(caught.value)


@pytest.mark.parametrize('given, names', [
    (dict(max_keep_ckpts=2, keep=dict(last=3)),
     ('max_keep_ckpts', 'keep.last')),
    (dict(out_dir='pavi://a/b', file_client_args=dict(backend='disk')),
     ('file_client_args', 'pavi')),
    (dict(
        storage_options=dict(region='x'),
        file_client_args=dict(backend='petrel')),
     ('file_client_args', 'storage_options')),
])
def test_a_contradiction_is_refused_and_both_sides_are_told(given, names):
    with pytest.raises(ConfigError) as caught:
        parse_options(given)
    for name in names:
        assert name in str(caught.value)


def test_a_torch_that_is_too_old_for_shards_is_named(monkeypatch):
    monkeypatch.setattr('torch.__version__', '2.2.2+cu121')
    with pytest.raises(
            ConfigError, match=r"'dcp' needs torch >= 2.3, but 2.2.2\+cu121"):
        parse_options(dict(format='dcp'))
    assert parse_options({}).format == 'pth'


def test_of_the_torch_that_is_installed_it_is_known_as_well():
    if version_tuple(torch.__version__) >= (2, 3):
        assert parse_options(dict(format='dcp')).format == 'dcp'
    else:
        with pytest.raises(ConfigError, match="'dcp' needs torch >= 2.3"):
            parse_options(dict(format='dcp'))


@pytest.mark.parametrize('given', [
    dict(write=dict(background=None)),
    dict(write=dict(staging=None)),
    dict(write=dict(backlog=None)),
    dict(triggers=dict(begin=None)),
    dict(triggers=dict(at=None)),
    dict(triggers=dict(secs=None)),
    dict(keep=dict(last=None)),
    dict(keep=dict(every=None)),
])
def test_none_in_a_group_means_the_default(given):
    assert parse_options(given) == CheckpointOptions()


def test_none_switches_the_trigger_file_off():
    options = parse_options(dict(triggers=dict(file=None)))
    assert options.triggers.file is None


DEFAULT = dict(SIGTERM='save_and_exit', SIGINT='save_and_exit', SIGUSR1='save')


@pytest.mark.parametrize('given, expected', [
    (dict(), DEFAULT),
    (dict(SIGUSR2='save'), dict(DEFAULT, SIGUSR2='save')),
    (dict(SIGTERM='save'), dict(DEFAULT, SIGTERM='save')),
    (dict(SIGINT=None), dict(SIGTERM='save_and_exit', SIGUSR1='save')),
    (None, dict()),
])
def test_signals_are_merged_over_their_defaults(given, expected):
    options = parse_options(dict(triggers=dict(signals=given)))
    assert dict(options.triggers.signals) == expected
    assert dict(parse_options({}).triggers.signals) == DEFAULT


@pytest.mark.parametrize('given, said', [
    (dict(SIGTREM='save'),
     "signals.SIGTREM; did you mean 'triggers.signals.SIGTERM'"),
    (dict(SIGKILL='save'),
     'triggers.signals.SIGKILL: no process can catch it'),
    (dict(SIGCHLD='save'), 'not sent to ask for something'),
    (dict(SIGTERM='save_exit'), "did you mean 'save_and_exit'"),
    (dict(SIGTERM=True), 'triggers.signals.SIGTERM must be one of'),
    (dict(SIGTERM=''), 'triggers.signals.SIGTERM must be one of'),
])
def test_a_signal_that_would_do_nothing_is_refused(given, said):
    with pytest.raises(ConfigError) as caught:
        parse_options(dict(triggers=dict(signals=given)))
    assert said in str(caught.value)


def test_the_exception_trigger_can_be_switched_off():
    assert parse_options({}).triggers.exception
    options = parse_options(dict(triggers=dict(exception=False)))
    assert not options.triggers.exception


def test_a_group_is_merged_over_its_defaults():
    options = parse_options(dict(triggers=dict(secs=60)))
    assert options.triggers.secs == 60
    assert options.triggers.file == 'SAVE'
    options = parse_options(dict(write=dict(backlog='skip')))
    assert options.write.background is True


def test_none_means_not_given():
    given = {name: None for name in CheckpointOptions.__dataclass_fields__}
    assert parse_options(given) == CheckpointOptions()


def test_what_mmcv_reads_from_a_file_is_accepted():
    """ConfigDict, not dict, is what the hook gets from a config file."""
    config = Config.fromstring(
        "hook = dict(type='DurableCheckpointHook', interval=4, "
        "triggers=dict(at=[3, 5]), keep=dict(last=1, every=2), "
        "meta=dict(CLASSES=('a', 'b')))", '.py')
    hook = build_from_cfg(config.hook, HOOKS)
    assert hook.options.triggers.at == (3, 5)
    assert hook.options.keep.every == 2


@pytest.mark.parametrize('count, kept', [(-1, None), (0, None), (3, 3)])
def test_how_many_are_kept_means_what_it_means_in_mmcv(count, kept):
    assert parse_options(dict(max_keep_ckpts=count)).keep_last == kept


def test_a_signal_of_another_system_is_no_mistake():
    """A config is used on several; here that signal never comes."""
    options = parse_options(dict(triggers=dict(signals=dict(SIGBREAK='save'))))
    assert dict(options.triggers.signals)['SIGBREAK'] == 'save'


def test_the_same_number_twice_is_no_contradiction():
    options = parse_options(dict(max_keep_ckpts=3, keep=dict(last=3)))
    assert options.keep_last == 3


@pytest.mark.parametrize('given, told', [
    (dict(intervall=4), "did you mean 'interval'"),
    (dict(interval='4'), "'4' of type str"),
    (dict(max_keep_ckpts=2, keep=dict(last=3)), 'contradicts'),
])
def test_mmcv_passes_the_error_on_as_it_is(given, told):
    """``build_from_cfg`` re-raises as ``type(e)(message)``."""
    with pytest.raises(ConfigError, match=told) as caught:
        build_from_cfg(dict(type='DurableCheckpointHook', **given), HOOKS)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, CheckpointError)
    # mmcv puts the name before a message that has it
    assert str(caught.value).count('DurableCheckpointHook') == 1


def test_a_path_that_looks_like_auto_is_a_path_if_it_is_there(
        tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'Auto').write_bytes(b'')
    assert parse_options(dict(resume='Auto')).resume == 'Auto'
    assert parse_options(dict(resume='a.pth')).resume == 'a.pth'


def test_auto_is_no_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'auto').mkdir()
    assert parse_options(dict(resume='auto')).resume == 'auto'


def test_a_directory_is_no_checkpoint(tmp_path):
    (tmp_path / 'iter_4.pth').touch()
    with pytest.raises(ConfigError, match='is a directory') as caught:
        parse_options(dict(resume=tmp_path))
    assert "resume='auto'" in str(caught.value)
    assert repr(str(tmp_path / 'latest.pth')) in str(caught.value)


def test_of_folders_the_pointer_is_another(tmp_path):
    os.symlink('iter_4.dcp', str(tmp_path / 'latest.dcp'))
    (tmp_path / 'iter_4.dcp').mkdir()
    with pytest.raises(ConfigError, match='is a directory') as caught:
        parse_options(dict(resume=str(tmp_path)))
    assert repr(str(tmp_path / 'latest.dcp')) in str(caught.value)
    (tmp_path / 'plain').mkdir()
    (tmp_path / 'plain' / '.metadata').touch()
    path = str(tmp_path / 'plain')
    assert parse_options(dict(resume=path)).resume == path


def test_where_no_checkpoint_is_none_is_advised(tmp_path):
    # of a run whose checkpoints are elsewhere
    os.symlink('iter_4.pth', str(tmp_path / 'latest.pth'))
    with pytest.raises(ConfigError) as caught:
        parse_options(dict(resume=tmp_path))
    assert str(caught.value).endswith('; no checkpoint is in that one')


@pytest.mark.parametrize('verb', ['resume', 'load_checkpoint'])
def test_a_directory_given_to_the_tool_is_none_either(tmp_path, verb):
    """--resume-from, --load-from."""
    first = tmp_path / 'first'
    train(
        first,
        runner=dict(type='IterBasedRunnerAmp', max_iters=2),
        hooks=[dict(type='DurableCheckpointHook', interval=2)])
    runner = make_runner(tmp_path)
    with pytest.raises(ConfigError) as caught:
        getattr(runner, verb)(str(first))
    assert str(caught.value) == (
        f'{first} is a directory, expected a checkpoint; for the newest in '
        f"it give '{first}/latest.pth'")


@NEW_TORCH
@pytest.mark.filterwarnings('ignore:torch.distributed is')
@pytest.mark.parametrize('template', ['step_{}.pth', 'step_{}.dcp'])
def test_a_folder_has_its_own_end_in_the_place_of_that_of_a_file(
        tmp_path, template):
    train(
        tmp_path,
        runner=dict(type='IterBasedRunnerAmp', max_iters=2),
        hooks=[
            dict(
                type='DurableCheckpointHook',
                interval=2,
                format='dcp',
                filename_tmpl=template)
        ])
    assert (tmp_path / 'step_2.dcp').is_dir()


def test_what_the_hint_for_a_directory_says_resumes_from_there(tmp_path):
    first, second = tmp_path / 'first', tmp_path / 'second'
    ours = dict(type='DurableCheckpointHook', interval=2)
    train(
        first,
        runner=dict(type='IterBasedRunnerAmp', max_iters=2),
        hooks=[dict(ours, create_symlink=False)])
    runner = train(
        second,
        runner=dict(type='IterBasedRunnerAmp', max_iters=4),
        hooks=[dict(ours, resume=str(first / 'latest.pth'))])
    assert runner.restored.name == 'iter_2.pth'
    assert runner.iter == 4


def test_stock_attributes_keep_their_meaning():
    """Other hooks read them on a CheckpointHook."""
    hook = DurableCheckpointHook(4, False, False, '/o', 3, False, True,
                                 dict(backend='disk'))
    assert (hook.interval, hook.by_epoch, hook.save_optimizer, hook.out_dir,
            hook.max_keep_ckpts, hook.save_last, hook.sync_buffer,
            hook.file_client_args) == (4, False, False, '/o', 3, False, True,
                                       dict(backend='disk'))


def test_keys_of_one_store_are_not_given_to_another():
    options = parse_options(
        dict(out_dir='s3://b/run', storage_options=dict(access_key_id='k')))
    assert options.access('s3://c/iter_1.pth')['storage_options']
    assert options.access('memory://c/iter_1.pth') == {}
    # of a local run they are those of what it begins with
    options = parse_options(dict(storage_options=dict(access_key_id='k')))
    assert options.access('gs://c/iter_1.pth')['storage_options']
    options = parse_options(
        dict(
            mirror=dict(url='memory://m', storage_options=dict(a='b')),
            storage_options=dict(access_key_id='k')))
    assert options.access('memory://m/run/iter_1.pth') == dict(
        storage_options=dict(a='b'))


def test_a_mirror_below_the_current_directory_is_a_second_place():
    assert parse_options(dict(mirror=dict(url='.'))).mirror.url == '.'
    with pytest.raises(ConfigError, match='second place'):
        parse_options(dict(mirror=dict(url='local://./a'), out_dir='a'))
