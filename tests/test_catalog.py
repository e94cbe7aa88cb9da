"""What is committed, and what is left of it when the catalog is lost."""
import json
from dataclasses import replace

import pytest
import torch

from mmcv_ckpt_hooks.best_scores import BestScore
from mmcv_ckpt_hooks.card import card, steps_in_name
from mmcv_ckpt_hooks.catalog import CATALOG_NAME, Catalog
from mmcv_ckpt_hooks.errors import (AccessError, MissingCheckpointError,
                                    ResumeError, StorageError)
from mmcv_ckpt_hooks.history import HISTORY_NAME, History
from mmcv_ckpt_hooks.serialization import write_checkpoint
from mmcv_ckpt_hooks.staging import reference
from mmcv_ckpt_hooks.testing.faulty import Fault, FaultyBackend
from mmcv_ckpt_hooks.testing.memory import MemoryBackend
from mmcv_ckpt_hooks.types import CheckpointInfo


@pytest.fixture
def files():
    return MemoryBackend()


def opened(files, home=None):
    """A catalog, opened; what it warns of is in ``warnings``."""
    warnings = []
    catalog = Catalog(files, home or files, warnings.append)
    catalog.warnings = warnings
    catalog.open()
    return catalog


def put_file(files, info, content=0.):
    """Write a checkpoint as the saver does; return its entry."""
    state = reference(dict(state_dict=dict(x=torch.full((4, ), content))))
    digests = []
    size = files.put(
        info.name, lambda stream: digests.append(
            write_checkpoint(stream, state, card(info))))
    return replace(info, bytes=size, digest=digests[0])


def put_stock_file(files, name):

    def write(stream):
        torch.save(dict(meta=dict(iter=1), state_dict={}), stream)

    files.put(name, write)


def save(catalog, files, name, finished, **values):
    """Commit a checkpoint of the catalog's run."""
    info = CheckpointInfo(
        name,
        finished // 4,
        finished,
        0,
        created_at=f'2026-01-01T00:{finished:02d}:00+00:00',
        lineage=catalog.lineage,
        generation=catalog.generation,
        started_iter=catalog.started_iter,
        **values)
    info = put_file(files, info, float(finished))
    catalog.commit(info)
    return info


def a_run(files, *steps, lineage=None, started=0):
    catalog = opened(files)
    catalog.begin(lineage, started)
    for step in steps:
        save(catalog, files, f'iter_{step}.pth', step)
    return catalog


def step_names(infos):
    return [info.name for info in infos]


# -- names ------------------------------------------------------------------


@pytest.mark.parametrize('name, steps', [
    ('iter_1200.pth', dict(iter=1200)),
    ('epoch_3.pth', dict(epoch=3)),
    ('epoch_3_iter_1200.pth', dict(epoch=3, iter=1200)),
    ('best_mIoU_iter_80.pth', dict(iter=80)),
    ('best_bbox_mAP_epoch_3.pth', dict(epoch=3)),
    ('epoch_12-1a2b3c4d.pth', dict(epoch=12)),
    ('best_acc_iter_top-1_iter_7.pth', dict(iter=7)),
    ('latest.pth', {}),
    ('final.pth', {}),
    ('deviter_3.pth', {}),
    ('myepoch_3.pth', {}),
    ('iter_x.pth', {}),
])
def test_a_file_name_tells_its_step(name, steps):
    assert steps_in_name(name) == steps


# -- what is there ----------------------------------------------------------


def test_a_new_process_knows_what_was_committed(files):
    before = a_run(files, 4, 8)
    after = opened(files)
    assert after.checkpoints() == before.checkpoints()
    assert after.lineage == before.lineage
    assert after.warnings == []


def test_order_is_by_iterations_not_by_name_or_time(files):
    catalog = a_run(files, 100, 20, 3)
    assert step_names(catalog.checkpoints()) == [
        'iter_3.pth', 'iter_20.pth', 'iter_100.pth'
    ]


def test_a_file_deleted_by_hand_is_not_offered(files):
    a_run(files, 4, 8)
    files.delete('iter_8.pth')
    assert step_names(opened(files).resumable()) == ['iter_4.pth']


def test_a_file_copied_here_is_found(files):
    a_run(files, 4)
    put_stock_file(files, 'iter_8.pth')
    found = opened(files).find('iter_8.pth')
    assert (found.iter, found.lineage, found.regular) == (8, '', True)


def test_a_replaced_file_loses_its_old_digest_and_scores(files):
    catalog = a_run(files, 4)
    catalog.join_metrics(4, dict(mIoU=.5))
    put_stock_file(files, 'iter_4.pth')
    found = opened(files).find('iter_4.pth')
    assert (found.lineage, dict(found.metrics)) == ('', {})


def test_leftovers_and_other_files_are_no_checkpoints(files):
    a_run(files, 4)
    for name in ('log.json', 'notes.txt', 'iter_4.pth.other'):
        files.put(name, lambda stream: stream.write(b'x'))
    files.link('iter_4.pth', 'latest.pth')
    assert step_names(opened(files).checkpoints()) == ['iter_4.pth']


def test_a_damaged_file_is_listed_so_that_a_resume_can_say_why(files):
    a_run(files, 4)
    content = files.files['iter_4.pth']
    files.files['iter_4.pth'] = content[:len(content) // 2]
    found = opened(files).find('iter_4.pth')
    assert (found.iter, found.digest) == (4, '')


# -- the catalog is lost or wrong -------------------------------------------

BROKEN = {
    'empty':
    b'',
    'torn':
    b'{"version": 1, "checkpoints": [{"na',
    'not utf-8':
    b'\xff\xfe\x00',
    'a list':
    b'[]',
    'null':
    b'null',
    'a number':
    b'3',
    'no version':
    b'{}',
    'version is a text':
    b'{"version": "1"}',
    'checkpoints is null':
    b'{"version": 1, "checkpoints": null}',
    'checkpoints is a dict':
    b'{"version": 1, "checkpoints": {"a": 1}, "lineage": "x"}',
    'an entry is null':
    b'{"version": 1, "checkpoints": [null], "lineage": "x"}',
    'an entry has no name':
    b'{"version": 1, "checkpoints": [{"iter": 1}], "lineage": "x"}',
    'best is a list':
    b'{"version": 1, "checkpoints": [], "best": [1], "lineage": "x"}',
    'best lacks its score':
    b'{"version": 1, "checkpoints": [], "best": {"mIoU": {"key": "mIoU"}},'
    b' "lineage": "x"}',
    'no lineage':
    b'{"version": 1, "checkpoints": []}',
    'nested without end':
    b'[' * 100000,
    'no object':
    b'[1]',
    'a wrong checksum':
    b'{"version": 1, "checkpoints": [], "lineage": "x", "crc32": 1}',
    'a checksum of another type':
    b'{"version": 1, "checkpoints": [], "lineage": "x", "crc32": []}',
}


@pytest.mark.parametrize('content', BROKEN.values(), ids=list(BROKEN))
def test_a_broken_catalog_is_rebuilt_from_the_files(files, content):
    before = a_run(files, 4, 8)
    files.files[CATALOG_NAME] = content
    after = opened(files)
    assert after.checkpoints() == before.checkpoints()
    assert step_names(after.resumable()) == ['iter_8.pth', 'iter_4.pth']
    assert len(after.warnings) == 1
    assert 'rebuilt' in after.warnings[0]


def test_a_catalog_of_a_newer_version_is_refused_and_left_as_it_is(files):
    """Rebuilt, it would lose what only that version knows."""
    a_run(files, 4)
    newer = b'{"version": 99, "new": "shape"}'
    files.files[CATALOG_NAME] = newer
    with pytest.raises(ResumeError) as caught:
        opened(files)
    for word in ('99', 'newer', CATALOG_NAME, 'Update'):
        assert word in str(caught.value)
    assert files.files[CATALOG_NAME] == newer


@pytest.mark.parametrize('change', [
    dict(iter=None),
    dict(iter='8'),
    dict(epoch=[1]),
    dict(name=3),
    dict(metrics=None),
    dict(metrics=[1]),
    dict(lineage=None),
    dict(generation='x'),
    dict(started_iter=None),
    dict(bytes='large'),
])
def test_an_entry_with_a_wrong_type_does_not_stop_the_next_start(
        files, change):
    """Edited by hand, or written by another version."""
    a_run(files, 4, 8)
    content = json.loads(files.files[CATALOG_NAME])
    del content['crc32']
    content['checkpoints'][1].update(change)
    files.files[CATALOG_NAME] = json.dumps(content).encode()
    after = opened(files)
    assert step_names(after.resumable()) == ['iter_8.pth', 'iter_4.pth']
    after.begin(after.find('iter_8.pth').lineage, 8)
    after.join_metrics(8, dict(mIoU=.5))
    assert after.find('iter_8.pth').metrics == dict(mIoU=.5)


@pytest.mark.parametrize('change', [
    dict(score='0.5'),
    dict(score=None),
    dict(iter=None),
    dict(name=None),
])
def test_a_best_with_a_wrong_type_does_not_stop_the_next_start(files, change):
    catalog = a_run(files, 4)
    catalog.set_best(BestScore('mIoU', .5, 'greater', 'iter_4.pth', 4))
    content = json.loads(files.files[CATALOG_NAME])
    del content['crc32']
    content['best']['mIoU'].update(change)
    files.files[CATALOG_NAME] = json.dumps(content).encode()
    after = opened(files)
    after.begin(after.lineage, 4)
    best = after.best('mIoU')
    assert best is None or isinstance(best.score, float)


def edited(files, change):
    content = json.loads(files.files[CATALOG_NAME])
    del content['crc32']
    change(content)
    files.files[CATALOG_NAME] = json.dumps(content).encode()


@pytest.mark.parametrize('values', [
    dict(metrics=dict(mIoU='high')),
    dict(metrics=dict(mIoU=None)),
    dict(metrics=dict(mIoU=[1])),
    dict(metrics=dict(mIoU=True)),
    dict(metrics=dict(mIoU=10**400)),
    dict(iter=-8),
    dict(iter=10**30),
    dict(iter=True),
    dict(iter=2),
    dict(iter=12),
    dict(epoch=7),
    dict(generation=10**30),
    dict(bytes=-7),
])
def test_a_value_that_cannot_be_has_the_catalog_rebuilt(files, values):
    a_run(files, 4, 8)
    edited(files, lambda content: content['checkpoints'][1].update(values))
    warnings = []
    after = Catalog(files, files, warnings.append)
    after.open()
    newest = after.resumable()[0]
    assert (newest.name, newest.iter, newest.epoch) == ('iter_8.pth', 8, 2)
    assert newest.metrics == {}
    assert 'is rebuilt' in warnings[0]


def test_scores_may_be_edited(files):
    a_run(files, 4)
    edited(
        files, lambda content: content['checkpoints'][0].update(
            metrics=dict(mIoU=.5, aAcc=float('nan'))))
    assert opened(files).find('iter_4.pth').metrics['mIoU'] == .5


def test_a_best_score_that_is_none_is_not_believed(files):
    catalog = a_run(files, 4)
    catalog.set_best(BestScore('mIoU', .5, 'greater', 'iter_4.pth', 4))
    edited(files,
           lambda content: content['best']['mIoU'].update(score=float('nan')))
    after = opened(files)
    after.begin(after.resumable()[0].lineage, 4)
    assert after.best('mIoU') is None  # of this fake nobody has the history


def test_a_lost_catalog_is_rebuilt_without_a_warning(files):
    before = a_run(files, 4, 8)
    files.delete(CATALOG_NAME)
    after = opened(files)
    assert after.checkpoints() == before.checkpoints()
    assert after.warnings == []


def test_a_lost_catalog_beside_stock_files_does_not_lose_steps(files):
    """A run that went on from a stock checkpoint in the same directory."""
    put_stock_file(files, 'iter_4.pth')
    a_run(files, 8, 12, started=4)
    files.delete(CATALOG_NAME)
    assert step_names(opened(files).resumable())[0] == 'iter_12.pth'


def test_of_two_runs_without_a_catalog_the_last_one_goes_on(files):
    a_run(files, 16, 20)
    files.delete(CATALOG_NAME)
    other = opened(files)
    other.begin(None, 0)
    info = save(other, files, 'iter_4.pth', 4)
    put_file(files, replace(info, created_at='2027-01-01T00:00:00+00:00'))
    files.delete(CATALOG_NAME)
    assert step_names(opened(files).resumable()) == ['iter_4.pth']


def test_a_refused_catalog_is_not_taken_for_a_lost_one(files):
    """Else the lineage is lost, and with it what may be deleted."""
    a_run(files, 4)
    faulty = FaultyBackend(files, [Fault('open', AccessError('403'))])
    with pytest.raises(AccessError):
        opened(faulty)


def test_a_refused_listing_is_not_taken_for_an_empty_directory(files):
    a_run(files, 4)
    faulty = FaultyBackend(files, [Fault('list', AccessError('403'))])
    with pytest.raises(AccessError):
        opened(faulty)


def test_a_file_that_vanishes_while_it_is_looked_at_is_no_obstacle(files):
    """Another process prunes the directory."""
    a_run(files, 4, 8)
    files.delete(CATALOG_NAME)
    gone = Fault('open', MissingCheckpointError('gone'), nth=2)
    catalog = opened(FaultyBackend(files, [gone]))
    assert step_names(catalog.resumable()) == ['iter_8.pth']


def test_a_card_with_wrong_types_does_not_stop_the_start(files):
    a_run(files, 4)
    state = reference(dict(state_dict={}))
    wrong = dict(iter='12', epoch=None, lineage=3, metrics=[1], generation=2.5)
    files.put('iter_8.pth',
              lambda stream: write_checkpoint(stream, state, wrong))
    catalog = opened(files)
    assert step_names(catalog.checkpoints()) == ['iter_4.pth', 'iter_8.pth']
    catalog.begin(catalog.lineage, 4)
    assert step_names(catalog.owned()) == ['iter_4.pth']


def test_a_name_in_the_catalog_cannot_lead_out_of_the_directory(files):
    a_run(files, 4)
    content = json.loads(files.files[CATALOG_NAME])
    del content['crc32']
    content['checkpoints'].append(
        dict(content['checkpoints'][0], name='../other/iter_2.pth', iter=2))
    files.files[CATALOG_NAME] = json.dumps(content).encode()
    assert step_names(opened(files).checkpoints()) == ['iter_4.pth']


# -- who owns what ----------------------------------------------------------


def test_a_run_owns_its_files_and_no_others(files):
    a_run(files, 4, 8)
    put_stock_file(files, 'iter_2.pth')
    catalog = opened(files)
    catalog.begin(None, 0)
    assert catalog.owned() == []
    save(catalog, files, 'iter_6.pth', 6)
    assert step_names(catalog.owned()) == ['iter_6.pth']


def test_a_resumed_run_owns_what_it_wrote_before(files):
    lineage = a_run(files, 4, 8).lineage
    catalog = opened(files)
    catalog.begin(lineage, 8)
    assert catalog.generation == 1
    assert step_names(catalog.owned()) == ['iter_4.pth', 'iter_8.pth']


def test_adopted_files_are_owned(files):
    a_run(files, 4, 8)
    put_stock_file(files, 'iter_2.pth')
    catalog = opened(files)
    catalog.begin(None, 0)
    assert catalog.adopt() == 3
    assert step_names(
        catalog.owned()) == ['iter_2.pth', 'iter_4.pth', 'iter_8.pth']
    assert step_names(opened(files).owned()) == step_names(catalog.owned())


def test_weights_to_begin_with_are_not_adopted(files):
    """They would be the oldest checkpoint, and the first to go."""
    put_stock_file(files, 'iter_2.pth')
    put_stock_file(files, 'pretrained.pth')
    catalog = opened(files)
    catalog.begin(None, 0)
    assert catalog.adopt() == 1
    assert step_names(catalog.owned()) == ['iter_2.pth']


def test_adopting_does_not_throw_away_what_the_run_had(files):
    lineage = a_run(files, 4, 8).lineage
    put_stock_file(files, 'iter_2.pth')
    catalog = opened(files)
    catalog.begin(lineage, 8)
    catalog.adopt()
    assert step_names(
        catalog.owned()) == ['iter_2.pth', 'iter_4.pth', 'iter_8.pth']
    assert step_names(catalog.resumable())[0] == 'iter_8.pth'


def test_a_renamed_copy_of_a_checkpoint_belongs_to_the_user(files):
    """Who copies ``iter_4.pth`` wants it kept: retention must not take it."""
    catalog = a_run(files, 4, 8)
    files.link('iter_4.pth', 'before_the_loss_exploded.pth')
    after = opened(files)
    after.begin(catalog.lineage, 8)
    assert 'before_the_loss_exploded.pth' not in step_names(after.owned())


# -- a run that went back ---------------------------------------------------


def test_what_was_thrown_away_by_going_back_is_not_resumed_from(files):
    lineage = a_run(files, 4, 8, 12).lineage
    a_run(files, 6, lineage=lineage, started=4)
    assert step_names(
        opened(files).resumable()) == ['iter_6.pth', 'iter_4.pth']


def test_it_is_not_deleted_either(files):
    """Retention counts what the run stands on."""
    lineage = a_run(files, 4, 8, 12).lineage
    catalog = a_run(files, 6, lineage=lineage, started=4)
    assert step_names(catalog.owned()) == ['iter_4.pth', 'iter_6.pth']


def test_a_run_that_goes_straight_on_throws_nothing_away(files):
    lineage = a_run(files, 4, 8).lineage
    a_run(files, 12, lineage=lineage, started=8)
    assert step_names(opened(files).resumable()) == [
        'iter_12.pth', 'iter_8.pth', 'iter_4.pth'
    ]


def test_a_start_that_saved_nothing_throws_nothing_away(files):
    """Killed before its first save: the old files are all there is."""
    lineage = a_run(files, 4, 8, 12).lineage
    a_run(files, lineage=lineage, started=4)
    assert step_names(opened(files).resumable())[0] == 'iter_12.pth'


def test_the_regular_name_of_a_step_goes_before_best(files):
    catalog = a_run(files, 4)
    info = catalog.find('iter_4.pth')
    files.link('iter_4.pth', 'best_mIoU_iter_4.pth')
    catalog.commit(
        replace(
            info,
            name='best_mIoU_iter_4.pth',
            trigger='best',
            regular=False,
            same_as='iter_4.pth'))
    assert step_names(
        catalog.resumable()) == ['iter_4.pth', 'best_mIoU_iter_4.pth']
    assert catalog.at_iter(4).name == 'iter_4.pth'


# -- scores -----------------------------------------------------------------


def test_scores_are_joined_to_every_name_of_their_step_and_no_other(files):
    catalog = a_run(files, 4, 8)
    save(catalog, files, 'best_mIoU_iter_8.pth', 8)
    catalog.join_metrics(8, dict(mIoU=.5))
    catalog.join_metrics(8, dict(mAcc=.75))
    after = opened(files)
    assert after.find('iter_8.pth').metrics == dict(mIoU=.5, mAcc=.75)
    assert after.find('best_mIoU_iter_8.pth').metrics == dict(
        mIoU=.5, mAcc=.75)
    assert after.find('iter_4.pth').metrics == {}


def test_the_best_score_survives_a_restart(files):
    catalog = a_run(files, 4)
    best = BestScore('mIoU', 0.0, 'greater', 'iter_4.pth', 4)
    catalog.set_best(best)
    after = opened(files)
    after.begin(catalog.lineage, 4)
    assert after.best('mIoU') == best
    assert after.best_names() == {'iter_4.pth'}


def test_a_best_whose_file_is_gone_is_no_best(files):
    catalog = a_run(files, 4, 8)
    catalog.set_best(BestScore('mIoU', .9, 'greater', 'iter_8.pth', 8))
    files.delete('iter_8.pth')
    assert opened(files).best('mIoU') is None


def test_a_best_of_steps_that_were_thrown_away_is_no_best(files):
    catalog = a_run(files, 4, 8)
    catalog.set_best(BestScore('mIoU', .9, 'greater', 'iter_8.pth', 8))
    after = opened(files)
    after.begin(catalog.lineage, 4)
    assert after.best('mIoU') is None


def test_a_best_that_is_told_only_keeps_nothing(files):
    catalog = a_run(files, 4, 8)
    told = BestScore('mIoU', .9, 'greater', 'iter_4.pth', 4, ranked=True)
    catalog.set_best(told)
    after = opened(files)
    assert after.best('mIoU') is None and after.best_names() == set()
    assert after.best('mIoU', ranked=True) == told
    after.begin(catalog.lineage, 8)
    assert after.best('mIoU', ranked=True) is None


def test_the_best_of_another_run_is_not_this_runs(files):
    catalog = a_run(files, 4)
    catalog.set_best(BestScore('mIoU', .9, 'greater', 'iter_4.pth', 4))
    after = opened(files)
    after.begin(None, 0)
    assert after.best('mIoU') is None
    assert after.best_names() == set()


def test_a_lost_catalog_does_not_hand_the_best_file_to_retention(files):
    """What nobody knows to be no longer the best must not be deleted."""
    catalog = a_run(files, 4, 8)
    info = catalog.find('iter_4.pth')
    files.link('iter_4.pth', 'best_mIoU_iter_4.pth')
    catalog.commit(
        replace(
            info, name='best_mIoU_iter_4.pth', trigger='best', regular=False))
    catalog.set_best(
        BestScore('mIoU', .9, 'greater', 'best_mIoU_iter_4.pth', 4))
    files.delete(CATALOG_NAME)
    after = opened(files)
    after.begin(catalog.lineage, 8)
    names = after.best_names()
    assert 'best_mIoU_iter_4.pth' in names or \
        'best_mIoU_iter_4.pth' not in step_names(after.owned())


# -- writing ----------------------------------------------------------------


def test_the_catalog_is_replaced_in_one_step(files):
    """Never edited in place: ``put`` is the only verb that writes it."""
    faulty = FaultyBackend(files)
    catalog = opened(faulty)
    catalog.begin(None, 0)
    save(catalog, files, 'iter_4.pth', 4)
    catalog.forget('iter_4.pth')
    verbs = {call for call in faulty.calls if CATALOG_NAME in call}
    assert verbs == {f'open {CATALOG_NAME}', f'put {CATALOG_NAME}'}


def test_a_catalog_that_cannot_be_written_is_mended_by_the_next_start(files):
    """The file is committed: it must not be lost with its entry."""
    catalog = a_run(files, 4)
    faulty = FaultyBackend(files, [Fault('put', StorageError('disk'))])
    broken = Catalog(files, faulty, print)
    broken.open()
    broken.begin(catalog.lineage, 4)
    with pytest.raises(StorageError):
        save(broken, files, 'iter_8.pth', 8)
    after = opened(files)
    assert step_names(after.resumable()) == ['iter_8.pth', 'iter_4.pth']


def test_the_catalog_may_live_elsewhere(files):
    """Backends that cannot list or replace (pavi): it is in the work dir."""
    from mmcv_ckpt_hooks.types import Capabilities
    remote, home = MemoryBackend(Capabilities(stream_in=True)), files
    catalog = opened(remote, home)
    catalog.begin(None, 0)
    save(catalog, remote, 'iter_4.pth', 4)
    assert CATALOG_NAME in home.files and CATALOG_NAME not in remote.files
    assert step_names(opened(remote, home).resumable()) == ['iter_4.pth']


# -- history ----------------------------------------------------------------


def test_a_torn_line_of_a_killed_run_costs_only_itself(tmp_path):
    history = History(str(tmp_path))
    history.append('save', name='iter_4.pth')
    with open(tmp_path / HISTORY_NAME, 'ab') as file:
        file.write(b'{"event": "save", "na')
    history = History(str(tmp_path))
    history.append('save', name='iter_12.pth')
    assert [event['name']
            for event in history.read()] == ['iter_4.pth', 'iter_12.pth']


@pytest.mark.parametrize(
    'content',
    [b'', b'\n\n', b'\xff\xfe\n', b'3\n[]\n', b'[' * 100000 + b'\n'])
def test_a_broken_history_does_not_stop_a_run(tmp_path, content):
    (tmp_path / HISTORY_NAME).write_bytes(content)
    history = History(str(tmp_path))
    assert history.read() == []
    history.append('save', iter=4)
    assert history.read() == [dict(event='save', iter=4)]


def test_history_is_only_appended_to(tmp_path):
    history = History(str(tmp_path))
    history.append('save', iter=4)
    before = (tmp_path / HISTORY_NAME).read_bytes()
    history.append('scores', iter=4, metrics=dict(mIoU=.5))
    assert (tmp_path / HISTORY_NAME).read_bytes().startswith(before)


def test_no_history_is_no_error(tmp_path):
    assert History(str(tmp_path)).read() == []
