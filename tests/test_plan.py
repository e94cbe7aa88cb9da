"""What is said before a run trains, and what happens on a full disk."""
import errno
import json
import logging
import os
import re

import pytest
import torch
from folders import NEW_TORCH, WRITES_FOLDERS
from mmcv.runner import EMAHook, Hook
from stock import takes_file_clients
from toy import QuickEvalHook, ToyModel, names, train

from mmcv_ckpt_hooks import history, plan, sizes
from mmcv_ckpt_hooks.compat import grad_scaler_types
from mmcv_ckpt_hooks.config import parse_options
from mmcv_ckpt_hooks.errors import OutOfSpaceError
from mmcv_ckpt_hooks.keep_text import mirror_text
from mmcv_ckpt_hooks.plan import Plan, measured_secs
from mmcv_ckpt_hooks.storage import local
from mmcv_ckpt_hooks.wording import logged_size

SIGNALS = dict(SIGTERM='save_and_exit', SIGUSR1='save')
OURS = dict(type='DurableCheckpointHook')


def make(steps=100, **changed):
    given = changed.pop('given', dict(interval=10))
    fields = dict(
        options=parse_options(given),
        unit='iterations',
        steps=steps,
        place='/runs/a',
        signals=SIGNALS,
        best=(),
        model_bytes=10**6,
        optimizer_bytes=2 * 10**6,
        own_bytes=0,
        free_bytes=10**9,
        save_secs=0.5,
        is_measured=True,
        took_over=None,
        resumed='this run starts anew')
    return Plan(**dict(fields, **changed))


@pytest.mark.parametrize('given, best, kept', [
    (dict(), (), 'all'),
    (dict(max_keep_ckpts=3), ('mIoU', ), 'the last 3, the best by mIoU'),
    (dict(mirror=dict(url='m', keep=dict(last=5, every=50))),
     (), 'the last 5, every 50 iterations'),
    (dict(
        max_keep_ckpts=3,
        keep=dict(best=4, monitor='mIoU'),
        mirror=dict(url='m', keep=dict(best=2, bytes='20GB'))),
     (), 'the last 1, the best 2 by mIoU, more up to 20.00 GB'),
    (dict(triggers=dict(secs=60), mirror=dict(url='m', keep=dict(best=2))),
     (), 'the last 1, by time the last 1 until that of the end, the best 2 by '
     'the first metric'),
])
def test_what_a_mirror_keeps_is_said(given, best, kept):
    options = parse_options(dict(dict(mirror=dict(url='m')), **given))
    assert mirror_text(options, 's3://b/m', 'iterations', best) == \
        f's3://b/m, which keeps {kept}'


def test_the_plan_of_a_run_has_its_mirror(tmp_path, caplog):
    for mirror in (None, dict(url=str(tmp_path / 'm'), keep=dict(last=2))):
        caplog.clear()
        train(
            tmp_path / 'run',
            runner=dict(type='IterBasedRunnerAmp', max_iters=1),
            hooks=[dict(OURS, mirror=mirror)])
        told, = [
            one.getMessage() for one in caplog.records
            if one.getMessage().startswith('Checkpoints of this run')
        ]
        line = f'  mirror  {tmp_path}/m/run, which keeps the last 2'
        assert (line in told.splitlines()) is bool(mirror)


@pytest.mark.parametrize(
    'given, best, expected',
    [
        (dict(interval=10), (), 10),
        (dict(interval=30), (), 4),
        (dict(interval=30, save_last=False), (), 3),
        (dict(interval=10, max_keep_ckpts=3), (), 3),
        (dict(interval=40, max_keep_ckpts=5), (), 3),
        (dict(interval=10, max_keep_ckpts=3), ('mIoU', ), 4),
        # 50, 90 and 100: the last of the multiples is the newest, too
        (dict(interval=10, keep=dict(last=2, every=50)), (), 3),
        (dict(interval=10, keep=dict(last=1, every=20)), (), 5),
        # 60 (and 30, 90 no): what is no multiple of the interval is not saved
        (dict(interval=20, keep=dict(last=2, every=30)), (), 3),
        # 30, 60, 90 and the end
        (dict(interval=30, keep=dict(last=1, every=30)), (), 4),
        (dict(interval=15, keep=dict(last=2, every=30)), (), 4),
        (dict(keep=dict(last=2, every=30)), (), 1),
        (dict(interval=10, keep=dict(last=9, every=10)), (), 10),
        (dict(interval=10, keep=dict(best=3)), (), 4),
        (dict(interval=10, keep=dict(best=3)), ('mIoU', ), 4),
        (dict(interval=10, keep=dict(best=2, monitor=['a', 'b'])), (), 5),
        # by time: as many again, until the next regular one
        (dict(interval=10, max_keep_ckpts=3, triggers=dict(secs=60)), (), 6),
        (dict(interval=2, max_keep_ckpts=3, triggers=dict(secs=60)), (), 4),
        (dict(max_keep_ckpts=2, save_last=False, triggers=dict(secs=1)),
         (), 2),
        (dict(interval=30, triggers=dict(secs=60)), (), 4),
        (dict(), (), 1),
        (dict(save_last=False), (), 0),
    ])
def test_how_many_will_be_there_at_the_end(given, best, expected):
    assert make(given=given, best=best).kept.count == expected


@pytest.mark.parametrize('given, best, most', [
    (dict(interval=10), (), 10),
    (dict(interval=10, max_keep_ckpts=10), (), 10),
    (dict(interval=10, max_keep_ckpts=9), (), 10),
    (dict(interval=10), ('mIoU', ), 12),
    (dict(interval=10, keep=dict(best=1)), (), 3),
    (dict(interval=10, keep=dict(bytes='6MB')), (), 3),
    (dict(), (), 1),
])
def test_where_nothing_is_deleted_none_is_written_beside_all(
        given, best, most):
    made = make(given=given, best=best)
    assert made.total_bytes == most * 3 * 10**6
    needs, = [one for one in made.text().splitlines() if ' needs ' in one]
    assert ('and the one that is being written' in needs) == \
        (made.kept.count < most)
    said, = make(given=given, best=best, free_bytes=0).warnings()[:1]
    assert ('one more is being written' in said) == (made.kept.count < most)


@pytest.mark.parametrize('keep', [
    dict(last=2, every=50),
    dict(last=1, every=6),
    dict(last=3, every=4),
    dict(last=2, every=3),
    dict(last=5),
    dict(every=10),
])
@pytest.mark.parametrize('steps, interval', [(12, 2), (13, 3), (10, 5)])
def test_so_many_are_there_as_were_counted(tmp_path, keep, steps, interval):
    """Over a real run, at its end, where they are the most."""
    given = dict(interval=interval, keep=keep)
    train(
        tmp_path,
        runner=dict(type='IterBasedRunnerAmp', max_iters=steps),
        hooks=[dict(OURS, **given)])
    assert make(given=given, steps=steps).kept.count == \
        len(names(tmp_path)) - 1


def test_a_disk_that_will_be_full_is_told_with_the_numbers():
    given = dict(interval=10, max_keep_ckpts=9)
    said, = make(
        given=given, free_bytes=20 * 10**6, own_bytes=10**6).warnings()
    for number in ('9 are kept and one more is being written, of 3.00 MB',
                   '30.00 MB', '21.00 MB', '/runs/a'):
        assert number in said
    # what this run has there is replaced
    assert not make(
        given=given, free_bytes=29 * 10**6, own_bytes=10**6).warnings()
    assert not make(free_bytes=None).warnings()


def test_a_save_that_outlasts_the_grace_is_told():
    said, = make(save_secs=31.).warnings()
    assert 'about 31 s' in said and '30 s' in said
    assert not make(save_secs=29.).warnings()
    assert not make(save_secs=31., signals=dict(SIGUSR1='save')).warnings()


@pytest.mark.parametrize('budget, is_told', [('2.9MB', True), ('3MB', False)])
def test_a_budget_below_one_checkpoint_is_told(budget, is_told):
    said = make(given=dict(interval=10, keep=dict(bytes=budget))).warnings()
    assert len(said) == is_told
    if is_told:
        assert 'keep.bytes=2.90 MB is less than one checkpoint of 3.00 MB' in \
            said[0]


@pytest.mark.parametrize('given, told', [
    (dict(interval=101, save_last=False), 'interval=101 never comes'),
    (dict(interval=60, save_last=False,
          triggers=dict(begin=80)), 'interval=60 never comes'),
    (dict(interval=10,
          triggers=dict(begin=101)), 'triggers.begin=101 is never reached'),
    (dict(interval=10, triggers=dict(at=[100, 101])),
     'triggers.at: 101 never comes: the run has 100 iterations'),
    (dict(interval=10,
          triggers=dict(at=[200, 300])), 'triggers.at: 200, 300 never come: '),
    (dict(interval=101),
     'interval=101 never comes: the run has 100 iterations, '
     'and is saved at its end only'),
    (dict(interval=100, save_last=False, triggers=dict(begin=100,
                                                       at=[100])), None),
    (dict(save_last=False), None),
])
def test_a_trigger_that_never_comes_is_told(given, told):
    said = make(given=given).warnings()
    assert [told in one for one in said] == ([] if told is None else [True])
    assert not make(given=given, steps=0).warnings()


@pytest.mark.parametrize('runner, at', [
    (dict(type='IterBasedRunnerAmp', max_iters=4), 5),
    (dict(type='EpochBasedRunnerAmp', max_epochs=2), 3),
    (dict(type='EpochBasedRunner', max_epochs=2), 3),
])
def test_a_run_says_so_before_it_trains(tmp_path, info, runner, at):
    train(
        tmp_path,
        runner=runner,
        hooks=[
            dict(
                OURS,
                interval=1,
                keep=dict(bytes='1KB'),
                triggers=dict(at=[1, at]))
        ])
    texts = [one.message for one in info.records if one.levelname == 'WARNING']
    assert any(f'triggers.at: {at} never comes' in one for one in texts)
    assert any('keep.bytes=1.0 kB is less than' in one for one in texts)


def test_the_block_names_every_trigger():
    given = dict(
        interval=10,
        max_keep_ckpts=2,
        triggers=dict(begin=20, at=[3], secs=600, file='NOW'),
        resume='auto')
    text = make(
        given=given, best=('mIoU', ), took_over='from the stock hook').text()
    for part in ('every 10 iterations from 20', 'at 3 iterations',
                 'every 600 s', 'at the end', 'on SIGUSR1;',
                 'on SIGTERM (then ends)', 'a file NOW', 'on an exception',
                 'the last 2, by time the last 2 until the next at the '
                 'interval, the best by mIoU\n', '3.00 MB each',
                 'at most 18.00 MB, for 4, 1 more for the best and the one '
                 'that is being written', '1.00 GB free', '/runs/a',
                 "resume='auto'", 'starts anew', '0.50 s', '30 s',
                 'at most 10 iterations', 'from the stock hook'):
        assert part in text


def test_where_only_the_best_are_kept_no_others_are_counted():
    text = make(
        given=dict(interval=-1, save_last=False, keep=dict(best=2)),
        best=('mIoU', )).text()
    assert ', for 2 for the best and the one that is being written' in text


def test_the_plan_does_not_count_what_nobody_can():
    text = make(given=dict(triggers=dict(secs=60))).text()
    assert '  keeps   all, by time all until that of the end, not counted ' \
        'here\n' in text
    assert '; at most 3.00 MB, for 1;' in text


def test_an_epoch_has_room_for_any_number_by_time():
    given = dict(interval=1, max_keep_ckpts=3, triggers=dict(secs=60))
    assert make(given=given, unit='epochs').kept.count == 6


@NEW_TORCH
@pytest.mark.parametrize('changed, said', [
    (dict(), "a folder for each checkpoint (format='dcp')"),
    (dict(ranks=4, writers=4),
     "a folder for each checkpoint (format='dcp'), of which each of 4 ranks "
     'writes a part, about 750.0 kB'),
    (dict(ranks=4, writers=4, optimizer_bytes=None),
     "a folder for each checkpoint (format='dcp'), of which each of 4 ranks "
     'writes a part'),
    (dict(ranks=4), "a folder for each checkpoint (format='dcp'), by rank 0 "
     'alone: every rank trains a model of its own'),
])
def test_who_writes_a_folder_is_said(changed, said):
    given = dict(interval=10, format='dcp')
    for how, write in (('copied', {}), ('written', dict(background=False))):
        rows = make(given=dict(given, write=write), **changed).text()
        assert f'  writes  {said}; {how} before training goes on, never ' \
            'beside it' in rows
    assert 'folder' not in make(ranks=4).text()


def test_of_one_there_is_no_plural():
    given = dict(interval=1, keep=dict(last=2, every=1))
    said = make(steps=1, given=given, unit='epochs', free_bytes=1, own_bytes=0)
    assert '  saves   every epoch; at the end;' in said.text()
    assert '  keeps   the last 2, every epoch\n' in said.text()
    assert 'at most 1 epoch' in said.text()
    assert '1 is kept, of 3.00 MB each' in said.warnings()[0]


def test_a_budget_and_ranks_are_in_the_plan():
    given = dict(interval=10, keep=dict(last=1, best=2, bytes='1GB'))
    said = make(given=given)
    assert 'the last 1, the best 2 by the first metric, more up to 1.0' in \
        said.text()
    assert said.total_bytes >= 10**9
    assert said.warnings()


def test_the_block_promises_nothing_that_is_switched_off():
    given = dict(
        save_last=False,
        triggers=dict(file=None, exception=False, signals=None))
    text = make(
        given=given,
        signals={},
        optimizer_bytes=None,
        free_bytes=None,
        save_secs=None).text()
    assert 'saves   nothing' in text
    assert 'not known before the first save' in text
    assert 'free' not in text and 'signal' not in text
    assert 'the first one will tell' in text


def test_the_time_of_a_save_is_the_slowest_of_the_last_five():
    events = [dict(event='save', bytes=10, durable_secs=99.)]
    events += [
        dict(event='save', bytes=10, durable_secs=secs)
        for secs in (1., 2., 4., 1., 1.)
    ]
    events += [dict(event='scores'), dict(event='save', bytes=0)]
    assert measured_secs(events, 20) == 8.
    assert measured_secs([dict(event='scores')], 20) is None


def test_rows_that_somebody_has_edited_are_left_out():
    events = [dict(event='save', bytes=10, durable_secs=1.)]
    for wrong in ('x', None, [1], -1, float('nan'), 10**400):
        events.append(dict(event='save', bytes=10, durable_secs=wrong))
        events.append(dict(event='save', bytes=wrong, durable_secs=99.))
    assert measured_secs(events, 20) == 2.


def test_a_disk_that_cannot_be_tried_is_no_error(tmp_path):
    assert plan.write_secs(str(tmp_path), 1) > 0
    assert os.listdir(str(tmp_path)) == []
    assert plan.write_secs(str(tmp_path / 'missing'), 1) is None
    assert plan.free_bytes(str(tmp_path)) > 0
    assert plan.free_bytes(str(tmp_path / 'missing')) is None


def test_sizes_are_readable():
    assert [logged_size(value) for value in (1500, 2 * 10**6, 3 * 10**9)
            ] == ['1.5 kB', '2.00 MB', '3.00 GB']


OPTIMIZERS = [
    (torch.optim.SGD, dict()),
    (torch.optim.SGD, dict(momentum=0.9)),
    (torch.optim.AdamW, dict()),
    (torch.optim.Adam, dict(amsgrad=True)),
    (torch.optim.RMSprop, dict(momentum=0.9, centered=True)),
    (torch.optim.Adadelta, dict()),
]


@pytest.mark.parametrize('kind, options', OPTIMIZERS)
def test_a_checkpoint_is_as_large_as_said_before_the_first(
        tmp_path, kind, options):
    model = ToyModel(width=20000)
    optimizer = kind(model.parameters(), lr=0.01, **options)
    expected = sizes.model_bytes(model, {}) + sizes.optimizer_bytes(optimizer)
    runner = train(
        tmp_path, model=model, optimizer=optimizer, hooks=[dict(OURS)])
    real = (tmp_path / 'iter_8.pth').stat().st_size
    assert abs(expected - real) < 0.02 * real
    # with its state there is nothing to guess
    again = sizes.model_bytes(model, {}) + \
        sizes.optimizer_bytes(runner.optimizer)
    assert abs(again - real) < 0.02 * real


def test_multiples_that_the_interval_passes_over_are_told():
    said = make(given=dict(interval=4, keep=dict(every=10))).warnings()
    assert said == [
        'keep.every=10 is no multiple of interval=4: at the interval only '
        'every 20 iterations there is one for it'
    ]
    assert not make(given=dict(interval=4, keep=dict(every=8))).warnings()


@pytest.mark.parametrize('name', ['IterBasedRunner', 'IterBasedRunnerAmp'])
def test_the_averages_of_an_ema_hook_are_counted(tmp_path, caplog, name):
    """Its buffers are there only when the runs begins."""
    with caplog.at_level('INFO'):
        train(
            tmp_path,
            runner=dict(type=name, max_iters=2),
            model=ToyModel(width=20000),
            hooks=[EMAHook(momentum=.1),
                   dict(OURS, interval=2)])
    said = re.search(r'needs +([\d.]+) MB each', caplog.text).group(1)
    real = (tmp_path / 'iter_2.pth').stat().st_size
    assert abs(float(said) * 1e6 - real) < 0.02 * real


@NEW_TORCH
@pytest.mark.parametrize('extra', [0, 60])
def test_so_is_a_folder(tmp_path, extra):
    model = ToyModel(width=2000)
    for number in range(extra):
        model.register_buffer(f'buffer_{number}', torch.zeros(2))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    expected = sizes.model_bytes(model, {}, 'dcp') + \
        sizes.optimizer_bytes(optimizer, 'dcp')
    train(
        tmp_path,
        model=model,
        optimizer=optimizer,
        hooks=[dict(OURS, format='dcp')])
    real = sum(one.stat().st_size
               for one in (tmp_path / 'iter_8.dcp').iterdir())
    assert abs(expected - real) < 0.03 * real


@pytest.mark.parametrize('form', ['pth', 'dcp'])
def test_a_resumed_run_knows_the_size_from_its_last_save(tmp_path, info, form):
    if form == 'dcp' and not WRITES_FOLDERS:
        pytest.skip('sharded checkpoints need it')
    for steps in (4, 6):
        info.clear()
        train(
            tmp_path,
            runner=dict(type='IterBasedRunnerAmp', max_iters=steps),
            hooks=[dict(OURS, interval=2, resume='auto', format=form)])
    events = map(json.loads, (tmp_path / 'checkpoints.log.jsonl').open())
    event, = [
        event for event in events if event.get('name') == f'iter_4.{form}'
    ]
    each, most = logged_size(event['bytes']), logged_size(3 * event['bytes'])
    assert f'  needs   {each} each, as iter_4.{form} is; at the end of the ' \
        f'run at most {most}, for 3; until then {each} more every 2 ' \
        'iterations; ' in info.text


@NEW_TORCH
def test_the_size_of_another_format_is_none(tmp_path, info):
    for steps, form in ((2, 'pth'), (4, 'dcp')):
        info.clear()
        train(
            tmp_path,
            runner=dict(type='IterBasedRunnerAmp', max_iters=steps),
            hooks=[dict(OURS, interval=2, resume='auto', format=form)])
    assert 'goes on from iter_2.pth' in info.text
    assert ', as iter_2.pth is' not in info.text
    assert ' each (model ' in info.text


@pytest.mark.parametrize('saved', [True, False])
def test_the_size_with_another_optimizer_is_none(tmp_path, info, saved):
    for steps, save_optimizer in ((2, saved), (4, not saved)):
        info.clear()
        train(
            tmp_path,
            model=ToyModel(4096),
            runner=dict(type='IterBasedRunnerAmp', max_iters=steps),
            hooks=[
                dict(
                    OURS,
                    interval=2,
                    resume='auto',
                    save_optimizer=save_optimizer)
            ])
    assert 'goes on from iter_2.pth' in info.text
    assert ', as iter_2.pth is' not in info.text
    assert ('optimizer 0.0 kB' in info.text) == saved


@pytest.mark.filterwarnings('ignore:the checkpoint holds the repr')
@pytest.mark.parametrize('kind', ['IterBasedRunner', 'IterBasedRunnerAmp'])
def test_meta_may_hold_a_number_that_cannot_be_written_out(tmp_path, kind):
    """``str`` of it is a ValueError since Python 3.10.7."""
    meta = dict(config='text', own=10**5000, hook_msgs=dict(own=10**5000))
    model = ToyModel()
    assert sizes.model_bytes(model, meta) == sizes.model_bytes(model, {}) + 4
    for steps in (2, 4):
        runner = train(
            tmp_path,
            runner=dict(type=kind, max_iters=steps),
            hooks=[dict(OURS, interval=2, resume='auto')],
            meta=dict(meta))
        assert runner.iter == steps
    assert names(tmp_path) == ['iter_2.pth', 'iter_4.pth', 'latest.pth']


def test_tied_weights_and_unknown_optimizers():

    class Own(torch.optim.SGD):
        pass

    model = ToyModel()
    before = sizes.model_bytes(model, None)
    model.tied = torch.nn.Linear(4, 4, bias=False)
    model.tied.weight = model.first.weight
    assert sizes.model_bytes(model, None) == before
    # has no storage; whether it can be saved, the save tells
    model.register_buffer('sparse', torch.eye(2).to_sparse())
    assert sizes.model_bytes(model, None) == before + len('sparse')
    own = Own(model.parameters(), lr=0.1)
    assert sizes.optimizer_bytes(own) is None
    assert sizes.optimizer_bytes(dict(a=own)) is None
    assert sizes.optimizer_bytes(None) == 0


@pytest.fixture
def info(caplog):
    caplog.set_level(logging.INFO)
    return caplog


def test_the_plan_is_said_once_before_training(tmp_path, info):
    train(
        tmp_path,
        checkpoint_config=dict(interval=4, max_keep_ckpts=1),
        hooks=[
            dict(OURS, resume='auto'),
            QuickEvalHook([0.5], interval=4, by_epoch=False, save_best='mIoU')
        ])
    block, = [
        record.getMessage() for record in info.records
        if 'Checkpoints of this run' in record.getMessage()
    ]
    assert 'every 4 iterations' in block
    assert '  keeps   the last 1, the best by mIoU\n' in block
    assert ', for 1, 1 more for the best and the one that is being ' \
        'written;' in block
    assert str(tmp_path) in block
    assert '  stock   CheckpointHook of checkpoint_config is replaced; what ' \
        'it was given counts here: interval=4, max_keep_ckpts=1; save_best ' \
        'of the evaluation (mIoU) is done here, too' in block
    assert 'a guess from a small write' in block
    assert 'starts anew' in block
    info.clear()
    train(
        tmp_path,
        runner=dict(type='IterBasedRunner', max_iters=12),
        hooks=[dict(OURS, resume='auto')])
    block, = [
        record.getMessage() for record in info.records
        if 'Checkpoints of this run' in record.getMessage()
    ]
    assert 'goes on from iter_8.pth' in block
    nbytes = (tmp_path / 'iter_8.pth').stat().st_size
    assert f'  needs   {logged_size(nbytes)} each, as iter_8.pth is; ' in block
    assert 'as the last ones did' in block


@takes_file_clients
def test_of_long_arguments_the_names_are_told(tmp_path, info):
    """Tools give the text of the whole config; others have credentials."""
    train(
        tmp_path,
        checkpoint_config=dict(
            interval=4,
            save_last=False,
            meta=dict(config='a long text'),
            file_client_args=dict(backend='disk')),
        hooks=[dict(OURS, interval=8)])
    assert '  stock   CheckpointHook of checkpoint_config is replaced; what ' \
        'it was given counts here: save_last=False, file_client_args, meta' \
        '\n' in info.text + '\n'


@pytest.mark.parametrize('kind, said', [
    (dict(type='IterBasedRunner', max_iters=2),
     'on IterBasedRunner a resume begins the data anew, IterBasedRunnerAmp '
     'goes on after the last batch'),
    (dict(type='EpochBasedRunner', max_epochs=1),
     'on EpochBasedRunner a resume begins the data anew, EpochBasedRunnerAmp '
     'goes on after the last batch'),
    (dict(type='IterBasedRunnerAmp', max_iters=2), None),
])
def test_what_may_surprise_is_noted(tmp_path, info, kind, said):

    class Scales(Hook):
        loss_scaler = grad_scaler_types()[0](enabled=False)

    train(tmp_path / 'a', runner=kind, hooks=[dict(OURS)])
    assert [line for line in info.text.splitlines() if '  note ' in line
            ] == ([] if said is None else [f'  note    {said}'])
    info.clear()
    train(
        tmp_path / 'b',
        runner=kind,
        hooks=[dict(OURS, save_optimizer=False),
               Scales()])
    note, = [line for line in info.text.splitlines() if '  note ' in line]
    assert note.endswith('Scales does not scale the loss here, so that no '
                         'loss scale is saved; save_optimizer=False: a '
                         'resume begins with a new optimizer')


@pytest.mark.parametrize('given, place, said', [
    (dict(), '/a', 'copied beside the next iteration where that is safe, '
     'then written in the background; synced to the disk before it counts'),
    (dict(staging='copy', backlog='skip', durability='none'), '/a',
     'copied before training goes on, then written in the background; one '
     "that comes meanwhile is skipped; not synced (durability='none'): a "
     'power cut may lose what was said to be saved'),
    (dict(staging='overlap'), 's3://b/a', 'copied beside the next iteration, '
     'then written in the background; uploaded whole before it counts'),
    (dict(background=False), '/a', 'written before training goes on; synced '
     'to the disk before it counts'),
])
def test_how_files_are_written_is_said(given, place, said):
    text = make(given=dict(interval=10, write=given), place=place).text()
    assert f'  writes  one file each, {said}\n' in text


def test_who_reads_each_file_at_once_is_said():
    text = make(waits_for='MMSegWandbHook').text()
    assert 'in the background, for which training waits, as MMSegWandbHook ' \
        'reads it at once; synced' in text


@pytest.mark.parametrize('given, said', [
    (dict(interval=10), '; at the end of the run at most 30.00 MB, for 10; '
     'until then 3.00 MB more every 10 iterations; 1.00 GB free'),
    (dict(interval=10, keep=dict(last=2, every=25)),
     '; at the end of the run at most 12.00 MB, for 3 and the one that is '
     'being written; until then 3.00 MB more every 50 iterations; '),
    (dict(interval=10, max_keep_ckpts=3),
     '; at most 12.00 MB, for 3 and the one that is being written; '),
    (dict(interval=100), '; at most 3.00 MB, for 1; '),
])
def test_how_it_grows_is_said(given, said):
    needs, = [
        one for one in make(given=given).text().splitlines()
        if one.startswith('  needs ')
    ]
    assert said in needs


def test_the_block_is_short_with_everything_in_it():
    given = dict(interval=10, mirror=dict(url='m'))
    text = make(
        given=given, mirror='m', took_over='x', notes=('y', 'z')).text()
    assert len(text.splitlines()) == 12
    assert text.endswith('  note    y; z')


@pytest.mark.parametrize('name', ['EpochBasedRunner', 'EpochBasedRunnerAmp'])
def test_iterations_of_an_epoch_runner_are_counted(tmp_path, info, name):
    train(
        tmp_path,
        runner=dict(type=name, max_epochs=3),
        hooks=[dict(OURS, interval=2, by_epoch=False)])
    there = [one for one in names(tmp_path) if one != 'latest.pth']
    assert len(there) == 6
    assert ', for 6; ' in info.text


def test_a_history_that_cannot_be_read_stops_no_run(tmp_path, info,
                                                    monkeypatch):
    """It is read by rank 0 alone: the others would wait for it."""
    train(tmp_path, hooks=[dict(OURS, interval=8)])

    def refused(path, mode, **kwargs):
        if mode == 'rb' and str(path).endswith(history.HISTORY_NAME):
            raise PermissionError(errno.EACCES, 'not allowed', path)
        return open(path, mode, **kwargs)

    monkeypatch.setattr(history, 'open', refused, raising=False)
    info.clear()
    runner = train(
        tmp_path,
        runner=dict(type='IterBasedRunnerAmp', max_iters=12),
        hooks=[dict(OURS, resume='auto')])
    assert runner.iter == 12
    assert 'Could not read the history' in info.text
    assert 'a guess from a small write' in info.text


def test_with_several_ranks_the_block_promises_less():
    text = make(ranks=2).text()
    assert 'on SIGTERM (then ends), when all 2 ranks have finished' in text
    assert 'on an exception between two steps (as rank 0 has it' in text
    assert 'nothing if two more steps, or a batch of an evaluation' in text
    assert 'repeats' not in text
    assert 'ranks' not in make().text()


@pytest.mark.parametrize('signals', [SIGNALS, {}])
def test_what_a_stock_epoch_runner_repeats_is_in_the_block(signals):
    text = make(repeats_epoch=True, signals=signals).text()
    assert 'a resume inside an epoch repeats it' in text


@pytest.mark.parametrize('kind, expected', [
    (dict(type='IterBasedRunner', max_iters=2), False),
    (dict(type='EpochBasedRunner', max_epochs=1), True),
    (dict(type='EpochBasedRunnerAmp', max_epochs=1), False),
])
def test_the_block_is_true_on_stock_runners(tmp_path, info, kind, expected):
    train(tmp_path, runner=kind, hooks=[dict(OURS)])
    assert 'on an exception between two steps' in info.text
    assert '(then ends)' in info.text
    assert ('repeats it from its first batch' in info.text) == expected


def test_what_cannot_fit_is_told_before_training(tmp_path, info, monkeypatch):
    monkeypatch.setattr(plan, 'free_bytes', lambda directory: 1000)
    train(tmp_path, hooks=[dict(OURS, interval=2)])
    assert info.text.count('will not fit') == 1


def on_small_disk(tmp_path, monkeypatch, room, keep):
    """Train where there is room for so many checkpoints."""
    fill = local.fill_file

    def small(path, *arguments):
        there = [name for name in names(tmp_path) if name != 'latest.pth']
        if '.pth' in path and len(there) >= room:
            raise OutOfSpaceError('no space left on the small disk')
        return fill(path, *arguments)

    monkeypatch.setattr(local, 'fill_file', small)
    train(tmp_path, hooks=[dict(OURS, interval=2, max_keep_ckpts=keep)])


def test_a_full_disk_is_helped_by_what_would_go_anyway(tmp_path, info,
                                                       monkeypatch):
    on_small_disk(tmp_path, monkeypatch, room=2, keep=2)
    assert set(names(tmp_path)) == {'iter_6.pth', 'iter_8.pth', 'latest.pth'}
    assert 'was not saved' not in info.text
    assert 'No space for iter_6.pth: deleted iter_2.pth' in info.text


def test_the_newest_one_never_makes_room(tmp_path, info, monkeypatch):
    """The new one may fail again: then nothing would be left."""
    on_small_disk(tmp_path, monkeypatch, room=1, keep=1)
    assert set(names(tmp_path)) == {'iter_2.pth', 'latest.pth'}
    assert 'Checkpoint iter_8.pth was not saved' in info.text


def test_nothing_goes_that_is_to_be_kept(tmp_path, info, monkeypatch):
    on_small_disk(tmp_path, monkeypatch, room=2, keep=3)
    assert set(names(tmp_path)) == {'iter_2.pth', 'iter_4.pth', 'latest.pth'}


def test_what_was_deleted_in_vain_is_named(tmp_path, info, monkeypatch):
    fill = local.fill_file

    def full(path, *arguments):
        # nor is there room for the next one, which has nothing to delete
        if '.iter_6.pth' in path or '.iter_8.pth' in path:
            raise OutOfSpaceError('no space left on the small disk')
        return fill(path, *arguments)

    monkeypatch.setattr(local, 'fill_file', full)
    train(tmp_path, hooks=[dict(OURS, interval=2, max_keep_ckpts=2)])
    assert names(tmp_path) == ['iter_4.pth', 'latest.pth']
    said = [one.getMessage() for one in info.records if 'not saved' in one.msg]
    assert said[0].endswith('What was committed before is unchanged, but '
                            'iter_2.pth was deleted to make room')
    assert said[1].endswith('What was committed before is unchanged')
