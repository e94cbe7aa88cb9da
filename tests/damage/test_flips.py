"""Flipped bits and truncations of real checkpoints, counted.

Each is found, or loads to equal tensors and meta. ``make flips`` makes 10,000
flips and 1,000 truncations; a quarter of them is in ``make test``.
"""
import io
import os
import random
from collections import Counter

import pytest
import torch
from checkpoint_files import equal, written
from real_files import NEWEST, held

from mmcv_ckpt_hooks.catalog import CATALOG_NAME, Catalog
from mmcv_ckpt_hooks.errors import IntegrityError
from mmcv_ckpt_hooks.loading import load_checkpoint
from mmcv_ckpt_hooks.resume import newest_usable
from mmcv_ckpt_hooks.testing.memory import MemoryBackend
from mmcv_ckpt_hooks.verification import verify_file

SHARE = 1 if os.environ.get('MMCV_CKPT_ALL_FLIPS') else 4
FLIPS, TRUNCATIONS = 10000 // SHARE, 1000 // SHARE
FOUND, HARMLESS, WRONG = 'found', 'load to the same', 'wrong'
TAKEN = 'taken'  # whether it is harmless is seen by loading it


def flipped(content, place, bit):
    damaged = bytearray(content)
    damaged[place] ^= 1 << bit
    return bytes(damaged)


def damages(content, seed):
    """Yield the share of one file: seeded, over the whole file."""
    choice = random.Random(seed)
    for _ in range(FLIPS // len(NEWEST)):
        place, bit = choice.randrange(len(content)), choice.randrange(8)
        yield 'flips', flipped(content, place, bit)
    for _ in range(TRUNCATIONS // len(NEWEST)):
        yield 'truncations', content[:choice.randrange(len(content))]


def load(content):
    return load_checkpoint(io.BytesIO(content), 'a.pth')


def same(damaged, expected):
    """Whether a file that verifies loads to equal values, everywhere."""
    by_torch = torch.load(io.BytesIO(damaged), weights_only=False)
    return equal(load(damaged), expected) and equal(by_torch, expected)


def outcome_alone(damaged):
    try:
        verify_file(io.BytesIO(damaged), 'a.pth')
    except IntegrityError:
        return FOUND
    return TAKEN


def outcome_of_resume(files, name, damaged, others):
    """Damage one file of a directory; see what ``resume='auto'`` takes."""
    backend = MemoryBackend()
    backend.files = dict(files, **{name: damaged})
    told = []
    catalog = Catalog(backend, backend, told.append)
    catalog.open()
    taken = newest_usable(backend, catalog, told.append)
    if taken.name == name:
        return TAKEN
    # the reason is told, and what is taken instead is whole
    said = any(line.startswith(f'Not resuming from {name}') for line in told)
    return FOUND if said and taken.name in others else WRONG


def report(counts, capsys):
    with capsys.disabled():
        for catalog in ('without', 'with'):
            print(f'\n{catalog} the catalog:')
            for what in ('flips', 'truncations'):
                parts = [
                    counts[catalog, what, one]
                    for one in (FOUND, HARMLESS, WRONG)
                ]
                print(f'  {sum(parts)} {what}: {parts[0]} {FOUND}, {parts[1]} '
                      f'{HARMLESS}, {parts[2]} {WRONG}')


@pytest.mark.parametrize('kind', NEWEST)
def test_the_checkpoints_hold_all_that_one_may_hold(run_files, kind):
    found = held(load(run_files(kind)[NEWEST[kind]]))
    assert all(found.values()), found


def test_no_damage_goes_unnoticed(run_files, capsys):
    counts = Counter()
    for seed, kind in enumerate(NEWEST):
        files, name = with_catalog(run_files(kind)), NEWEST[kind]
        others = {one for one in files if one.endswith('.pth')} - {name}
        expected = load(files[name])
        for what, damaged in damages(files[name], seed):
            outcomes = {
                'without': outcome_alone(damaged),
                'with': outcome_of_resume(files, name, damaged, others)
            }
            if TAKEN in outcomes.values():
                found = HARMLESS if same(damaged, expected) else WRONG
            for catalog, outcome in outcomes.items():
                if outcome == TAKEN:
                    outcome = found
                counts[catalog, what, outcome] += 1
    report(counts, capsys)
    assert not any(outcome == WRONG for _, _, outcome in counts)


def with_catalog(files):
    """The files of a run with a catalog; stock mmcv writes none."""
    # the same content under a second name would hide the damage
    kept = {
        name: content
        for name, content in files.items()
        if not name.startswith(('best', 'latest'))
    }
    if CATALOG_NAME not in kept:
        backend = MemoryBackend()
        backend.files = kept
        catalog = Catalog(backend, backend, pytest.fail)
        catalog.open()
        catalog.begin(None, 0)
        catalog.adopt()
    return kept


# -- the catalog itself ------------------------------------------------------


def damaged_weights(content):
    for place in range(len(content) // 2, len(content)):
        damaged = flipped(content, place, 3)
        if outcome_alone(damaged) == FOUND:
            return damaged
    raise ValueError('nothing but padding')


def run_of_two(run_files, damaged):
    """A run's directory with a file of another run; the newest damaged."""
    files = with_catalog(run_files('ours, iterations'))
    backend = MemoryBackend()
    backend.files = files
    catalog = Catalog(backend, backend, pytest.fail)
    catalog.open()
    lineage = catalog.find('iter_8.pth').lineage
    files['iter_6.pth'] = written(
        dict(meta=dict(iter=6), state_dict={}),
        dict(name='iter_6.pth', iter=6, lineage='f' * 32))
    catalog.open()
    catalog.begin(lineage, 8)
    catalog.join_metrics(8, dict(mIoU=.6))
    if damaged:
        files['iter_8.pth'] = damaged_weights(files['iter_8.pth'])
    return files, lineage


@pytest.mark.parametrize('damaged', [False, True])
def test_no_damage_of_the_catalog_does_harm(run_files, damaged):
    """A cache: no good checkpoint is refused, no bad one is taken, and
    nothing of another run becomes this run's to delete.
    """
    files, lineage = run_of_two(run_files, damaged)
    expected = 'iter_4.pth' if damaged else 'iter_8.pth'
    catalog_bytes, counts = files[CATALOG_NAME], Counter()
    choice = random.Random(0)
    for turn in range(FLIPS // 10):
        place = choice.randrange(len(catalog_bytes))
        content = flipped(catalog_bytes, place, choice.randrange(8)) \
            if turn % 10 else catalog_bytes[:place]
        backend = MemoryBackend()
        backend.files = dict(files, **{CATALOG_NAME: content})
        told = []
        catalog = Catalog(backend, backend, told.append)
        catalog.open()
        rebuilt = any('rebuilt' in line for line in told)
        counts[rebuilt] += 1
        if not rebuilt:
            assert catalog.find('iter_8.pth').metrics == dict(mIoU=.6)
        taken = newest_usable(backend, catalog, told.append)
        assert taken.name == expected, (place, content[place:place + 20])
        catalog.begin(lineage, taken.iter)
        owned = {info.name for info in catalog.owned()}
        assert owned <= {'iter_4.pth', 'iter_8.pth'}
        # as a run that is not resumed would see the file
        verify_file(
            backend.open('iter_4.pth'), 'iter_4.pth',
            catalog.find('iter_4.pth').digest)
    # a flip in the name of the checksum's own key changes nothing else
    assert counts[True] > counts[False]
