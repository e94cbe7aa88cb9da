"""A work dir whose books and links lie: nothing outside of it is touched,
nothing of another run is deleted, and nothing waits for ever.
"""
import hashlib
import json
import os
import shutil

import pytest
from checkpoint_files import rewritten, without_crc
from doors import in_small_process
from toy import make_runner, names, train

from mmcv_ckpt_hooks import find_resumable, verify_checkpoint
from mmcv_ckpt_hooks.catalog_file import CATALOG_LIMIT_BYTES
from mmcv_ckpt_hooks.cli import main
from mmcv_ckpt_hooks.errors import CheckpointError, StorageError

AMP, STOCK = 'IterBasedRunnerAmp', 'IterBasedRunner'
BOTH = pytest.mark.parametrize('runner', [AMP, STOCK])


def go(directory, steps, runner=AMP, **options):
    """Train with a save at every second step; keep one."""
    hook = dict(
        type='DurableCheckpointHook',
        interval=2,
        max_keep_ckpts=1,
        on_error='raise')
    return train(
        directory,
        runner=dict(type=runner, max_iters=steps),
        hooks=[dict(hook, **options)],
        evaluation=dict(
            scores=[.1, .2, .3, .4],
            interval=2,
            by_epoch=False,
            save_best='mIoU'))


def tree_bytes(directory):
    """Names, links and content of everything below a directory."""
    found = {}
    for path in sorted(directory.rglob('*')):
        name = str(path.relative_to(directory))
        if path.is_symlink():
            found[name] = ('link', os.readlink(path))
        elif path.is_file():
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        else:
            found[name] = 'directory'
    return found


@pytest.fixture(scope='module')
def two_runs(tmp_path_factory):
    directory = tmp_path_factory.mktemp('two_runs')
    for name in ('victim', 'work'):
        go(directory / name, 4)
    (directory / 'victim' / 'notes.txt').write_text('mine')
    return directory


@pytest.fixture
def place(two_runs, tmp_path):
    """A run, beside it another run of the same names, and a text."""
    return shutil.copytree(two_runs, tmp_path / 'place', symlinks=True)


@pytest.fixture
def untouched(place):
    """Checks that nothing beside the work dir has changed."""
    victim = place / 'victim'
    before = tree_bytes(victim)
    yield
    assert tree_bytes(victim) == before
    assert set(os.listdir(place)) <= {'report.json', 'victim', 'work'}


def go_on(place, runner=AMP, steps=8, **options):
    """Resume in a process with little memory and time; return the step."""

    def job():
        try:
            return go(
                place / 'work', steps, runner, resume='auto',
                **options).restored.iter
        except CheckpointError as error:
            return f'{type(error).__name__}: {error}'

    return in_small_process(job, place)


# -- the catalog -------------------------------------------------------------


def edited(place, change):
    path = place / 'work' / 'checkpoints.json'
    content = json.loads(without_crc(path.read_text()))
    change(content)
    path.write_text(json.dumps(content))


def added(**values):
    """Claim another checkpoint of this run, older than its own."""

    def change(content):
        content['checkpoints'].append(
            dict(content['checkpoints'][0], iter=1, **values))

    return change


def best_is(name):

    def change(content):
        content['best']['mIoU'].update(name=name, iter=1)
        content['checkpoints'].append(
            dict(content['checkpoints'][0], name=name, trigger='best', iter=1))

    return change


def lineage_is(lineage):

    def change(content):
        content['lineage'] = lineage
        for one in content['checkpoints']:
            one['lineage'] = lineage

    return change


OUTSIDE_NAMES = [
    '../victim/iter_4.pth', '../victim/notes.txt', '/etc/hostname', '..', '.',
    '', 'a/../../victim/iter_4.pth', '..\\victim\\iter_4.pth', 'x\0.pth',
    '../victim/' + 'x' * 5000
]
CATALOGS = {
    **{
        f'a checkpoint {name[:30]!r}': added(name=name)
        for name in OUTSIDE_NAMES
    },
    **{
        f'a best {name[:30]!r}': best_is(name)
        for name in OUTSIDE_NAMES[:4]
    },
    **{
        f'a lineage {name[:30]!r}': lineage_is(name)
        for name in OUTSIDE_NAMES[:4]
    },
    'steps without end':
    added(name='iter_4.pth', generation=10**300),
    'a size without end':
    added(name='iter_1.pth', bytes=10**300),
    'scores of lists':
    lambda content: content['checkpoints'][0].update(metrics={'mIoU': [1, {}]}
                                                     ),
    'a time that is a terminal':
    lambda content: content['checkpoints'][0].update(created_at='\x1b[2J'),
    'a trigger of its own':
    lambda content: content['checkpoints'][0].update(trigger='../x'),
}


@pytest.mark.parametrize('number, name', list(enumerate(CATALOGS)))
def test_no_catalog_leads_out_of_the_directory(place, untouched, number, name):
    edited(place, CATALOGS[name])
    # the metric goes on from 0.2: each evaluation brings a new best
    assert go_on(place, adopt_existing=bool(number % 2)) == 4
    left = names(place / 'work')
    assert 'iter_8.pth' in left and 'latest.pth' in left


def test_no_catalog_is_read_without_end(place, untouched):
    path = place / 'work' / 'checkpoints.json'
    with open(path, 'wb') as file:
        file.seek(CATALOG_LIMIT_BYTES * 200)  # sparse
        file.write(b'{}')
    assert go_on(place) == 4


def test_a_file_of_another_run_does_not_become_this_runs(place, untouched):
    """By its name alone: what a file says of itself counts."""
    foreign = (place / 'victim' / 'iter_4.pth').read_bytes()
    (place / 'work' / 'iter_1.pth').write_bytes(foreign)
    edited(place, added(name='iter_1.pth', bytes=1))
    assert go_on(place) == 4
    assert (place / 'work' / 'iter_1.pth').read_bytes() == foreign


# -- what a file says of itself ---------------------------------------------


def with_card(content, **values):

    def change(name, data):
        if not name.endswith('/checkpoint_info.json'):
            return data
        return json.dumps(dict(json.loads(data), **values)).encode()

    return rewritten(content, change)


CARDS = {
    'a lineage that leads out':
    dict(lineage='../victim'),
    'an absolute lineage':
    dict(lineage='/etc/cron.d/x'),
    'a lineage that is a checkpoint':
    dict(lineage='x.pth'),
    'a lineage of control characters':
    dict(lineage='\x1b[2J\0\n\ud800'),
    'a long lineage':
    dict(lineage='x' * 100000),
    'a name that leads out':
    dict(name='../victim/iter_4.pth'),
    'an absolute name':
    dict(name='/etc/hostname'),
    'steps without end':
    dict(iter=10**1000),
    'negative steps':
    dict(iter=-5, epoch=-5),
    'a generation without end':
    dict(generation=10**1000),
    'metrics of anything':
    dict(metrics={
        'mIoU': ['x', {}],
        '../x': 'y'
    }),
    'a time of control characters':
    dict(created_at='\x1b[2J\n'),
    'no values at all':
    dict.fromkeys(('lineage', 'name', 'iter', 'epoch', 'metrics', 'trigger')),
    'a best that is none':
    dict(trigger='best', regular=False),
}


@pytest.mark.parametrize('name', CARDS)
@pytest.mark.parametrize('catalog', [True, False])
def test_no_card_leads_out_of_the_directory(place, untouched, name, catalog,
                                            capsys):
    work = place / 'work'
    if not catalog:
        (work / 'checkpoints.json').unlink()
    good = (work / 'iter_4.pth').read_bytes()
    for target in ('iter_2.pth', 'iter_6.pth'):
        # a file under another name than its own is nobody's from the start
        card = dict(dict(name=target), **CARDS[name])
        (work / target).write_bytes(with_card(good, **card))
    main(['ls', str(work)])
    assert '\x1b' not in capsys.readouterr().out
    # the run saves over both names
    told = go_on(place, steps=10)
    assert isinstance(told, int), told
    assert 'iter_10.pth' in names(work)
    verify_checkpoint(str(work / 'iter_10.pth'))
    for left in names(work):
        verify_checkpoint(str(work / left))


# -- links, pipes and devices ------------------------------------------------


def link_to(*parts):

    def make(place, path):
        os.symlink(os.path.join(str(place), 'victim', *parts), path)

    return make


def relative_link(place, path):
    os.symlink('../victim/iter_4.pth', path)


def pipe(place, path):
    os.mkfifo(path)


def zero(place, path):
    os.symlink('/dev/zero', path)


def dangling(place, path):
    os.symlink('../victim/new.pth', path)


def itself(place, path):
    os.symlink(path.name, path)


def directory(place, path):
    path.mkdir()
    (path / 'x').write_text('x')


#: Names that a run reads, writes or sweeps, and what stands there.
READ = [
    'latest.pth', 'last_checkpoint', 'checkpoints.log.jsonl', 'iter_3.pth',
    '.iter_3.pth.tmp-1-2', 'SAVE'
]
LINKS = [
    link_to('iter_4.pth'),
    link_to('notes.txt'),
    link_to(), relative_link, pipe, zero, dangling, itself
]


@pytest.mark.parametrize(
    'make',
    LINKS,
    ids='file text dir relative pipe zero dangling itself'.split())
@pytest.mark.parametrize('name', READ)
def test_no_link_leads_out_and_no_pipe_is_waited_for(place, untouched, make,
                                                     name):
    path = place / 'work' / name
    if os.path.lexists(path):
        path.unlink()
    make(place, path)
    os.utime(path, (1, 1), follow_symlinks=False)  # old enough to be swept
    assert go_on(place) == 4
    assert main(['ls', str(place / 'work')]) == 0
    assert main(['verify', str(place / 'work')]) == 0
    assert find_resumable(str(place / 'work')).endswith('iter_8.pth')


@pytest.mark.parametrize(
    'make',
    LINKS,
    ids='file text dir relative pipe zero dangling itself'.split())
def test_a_catalog_that_is_no_file_is_an_error_or_replaced(
        place, untouched, make):
    path = place / 'work' / 'checkpoints.json'
    path.unlink()
    make(place, path)
    told = go_on(place)
    assert told == 4 or 'checkpoints.json' in str(told), told
    if told == 4:
        assert not path.is_symlink()


@pytest.mark.parametrize(
    'make',
    LINKS + [directory],
    ids='file text dir relative pipe zero dangling itself directory'.split())
def test_a_name_that_a_save_needs_is_replaced_or_an_error(
        place, untouched, make):
    path = place / 'work' / 'iter_6.pth'
    make(place, path)
    told = go_on(place, steps=6)
    if make is directory:
        assert 'iter_6.pth' in str(told)
    else:
        assert told == 4
        assert not path.is_symlink()
        verify_checkpoint(str(path))


@pytest.mark.parametrize('kind', [pipe, zero])
def test_what_is_no_file_is_not_read_if_it_is_named(place, untouched, kind):
    path = place / 'work' / 'iter_3.pth'
    kind(place, path)

    def job():
        told = []
        for read in (lambda: verify_checkpoint(str(path)),
                     lambda: make_runner(place / 'work').resume(str(path)),
                     lambda: make_runner(place / 'work').load_checkpoint(
                         str(path))):
            with pytest.raises(StorageError, match='no regular file'):
                read()
            told.append(main(['verify', str(path)]))
        return told

    assert in_small_process(job, place) == [2, 2, 2]


@BOTH
def test_a_latest_pointer_to_another_run_is_not_followed(
        place, untouched, runner):
    """mmseg's tool gives ``latest.pth`` to ``resume``."""
    latest = place / 'work' / 'latest.pth'
    latest.unlink()
    os.symlink('../victim/iter_4.pth', latest)
    resumed = make_runner(place / 'work', runner=dict(type=AMP, max_iters=8))
    resumed.resume(str(latest))
    assert resumed.restored.directory == str(place / 'work')


@pytest.mark.parametrize('text', [
    '../victim/iter_4.pth', '/etc/hostname', 'x' * 100000, '\0', '', '..',
    'nothing.pth'
])
def test_no_pointer_file_leads_out(place, untouched, text, capsys):
    (place / 'work' / 'latest.pth').unlink()
    (place / 'work' / 'last_checkpoint').write_text(text)
    assert main(['ls', str(place / 'work')]) == 0
    assert text not in ('', '..') or 'latest' not in capsys.readouterr().out
    assert go_on(place) == 4


# -- messages ----------------------------------------------------------------


@BOTH
@pytest.mark.parametrize('best', [
    '../victim/iter_4.pth', '/etc/hostname', '..', 'iter_4.pth', '',
    '{victim}/best_mIoU_iter_4.pth', 'best_mIoU_iter_4.pth/..',
    '{victim}/iter_4.pth', '{victim}/notes.txt'
])
def test_no_best_in_the_messages_is_deleted_elsewhere(place, untouched, runner,
                                                      best):
    """Stock mmcv deletes what ``best_ckpt`` names at the next best."""
    import torch
    work = place / 'work'
    content = torch.load(work / 'iter_4.pth', weights_only=False)
    content['meta']['hook_msgs'] = dict(
        best_score=.1, best_ckpt=best.format(victim=place / 'victim'))
    (work / 'checkpoints.json').unlink()
    for name in names(work):
        (work / name).unlink()
    torch.save(content, work / 'iter_4.pth')
    assert go_on(place, runner) == 4
    verify_checkpoint(str(work / 'iter_4.pth'))  # nobody's: never deleted
