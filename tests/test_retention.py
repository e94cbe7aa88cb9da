"""Which checkpoints stay: tables over the pure policies."""
import itertools

import pytest

from mmcv_ckpt_hooks.retention import (KeepAny, KeepEvery, KeepLast, KeepNames,
                                       deletable)
from mmcv_ckpt_hooks.types import CheckpointInfo


def info(text):
    """``'8'`` regular, ``'8t'`` off the grid, ``'8b'`` a best."""
    kind = text[-1] if text[-1] in 'tb' else ''
    step = int(text.rstrip('tb'))
    if kind == 'b':
        return CheckpointInfo(
            f'best_mIoU_iter_{step}.pth',
            step // 4,
            step,
            1,
            trigger='best',
            regular=False)
    return CheckpointInfo(
        f'iter_{step}.pth',
        step // 4,
        step,
        1,
        trigger='time' if kind else 'interval',
        regular=not kind)


def infos(text):
    return [info(word) for word in text.split()]


def gone(policy, text, protected=None):
    there = infos(text)
    if protected is not None:
        protected = info(protected).name
    deleted = [one.name for one in deletable(policy, there, protected)]
    return ' '.join(word for word in text.split()
                    if info(word).name in deleted)


LAST = [
    # count, there, what goes
    (1, '', ''),
    (1, '4', ''),
    (1, '4 8', '4'),
    (2, '4 8', ''),
    (2, '4 8 12', '4'),
    # gaps: a hand-deleted file, a changed interval (trap 7)
    (1, '2 4 8 10', '2 4 8'),
    (2, '1 2 3 100 200', '1 2 3'),
    # the last one is off the grid (trap 7: stock keeps one too many)
    (2, '4 8 10', '4'),
    (2, '4 8 10 12', '4 8'),
    # one off the grid is kept until the next regular one is there
    (2, '4 8 9t', ''),
    (2, '4 8 9t 10t', ''),
    (2, '4 8 9t 12', '4 9t'),
    (1, '3t', ''),
    (1, '3t 4', '3t'),
    (3, '3t 4', '3t'),
    # a best one is no regular one and never counts as such
    (1, '4 4b 8', '4 4b'),
    (2, '4 8 8b', ''),
    (1, '4 8 8b', '4'),
]


@pytest.mark.parametrize('count, there, expected', LAST)
def test_the_last_so_many_stay(count, there, expected):
    assert gone(KeepLast(count), there) == expected


def test_a_best_off_the_grid_is_not_kept_as_the_newest_regular():
    """It is kept for its score, by :class:`KeepNames`."""
    assert gone(KeepLast(1), '4 6b 8') == '4 6b'
    names = KeepNames(frozenset(['best_mIoU_iter_6.pth']))
    assert gone(KeepAny([KeepLast(1), names]), '4 6b 8') == '4'


EVERY = [
    (4, False, '2 4 6 8 10', '2 6'),
    (4, False, '2 4 6 8', '2 6'),
    (2, True, '4 8 12 16 20', '4 12'),
    # off the grid, or best: not for ever
    (4, False, '4t 8b 10', '4t 8b'),
    (7, False, '4 8', '4'),
]


@pytest.mark.parametrize('period, by_epoch, there, expected', EVERY)
def test_multiples_stay_for_ever(period, by_epoch, there, expected):
    assert gone(KeepEvery(period, by_epoch), there) == expected


def test_policies_unite():
    policy = KeepAny([KeepLast(1), KeepEvery(4, False)])
    assert gone(policy, '2 4 6 8 10 12 14') == '2 6 10'
    assert gone(KeepAny([KeepLast(1), KeepLast(None)]), '2 4 6') == ''


class KeepNothing:

    def keep(self, checkpoints):
        return set()


@pytest.mark.parametrize('there, left', [
    ('4', ''),
    ('4 8', '4'),
    ('4 8 8b', '4'),
    ('4b', ''),
    ('4 9t', '4'),
])
def test_no_policy_can_delete_the_newest(there, left):
    """INVARIANT 2: nothing goes before something newer is committed."""
    assert gone(KeepNothing(), there) == left


def test_the_file_resumed_from_stays_until_a_newer_one_is_there():
    """INVARIANT 3; the run has saved one off the grid since."""
    assert gone(KeepNothing(), '4 8 9t', protected='8') == '4'
    assert gone(KeepNothing(), '4 8 9t 12', protected='8') == '4 8 9t'


def test_nothing_there_is_no_error():
    assert deletable(KeepLast(1), [], None) == []


def test_every_small_directory_keeps_its_newest_and_as_many_as_told():
    """All sequences of up to six checkpoints, all counts."""
    kinds = ('', 't', 'b')
    for length in range(1, 7):
        for pattern in itertools.product(kinds, repeat=length):
            text = ' '.join(f'{4 * step}{kind}'
                            for step, kind in enumerate(pattern, 1))
            regular = [word for word in text.split() if word[-1].isdigit()]
            for count in (1, 2, 3):
                left = set(text.split()) - set(
                    gone(KeepLast(count), text).split())
                assert text.split()[-1] in left, (text, count)
                assert set(regular[-count:]) <= left, (text, count)
                extra = left - set(regular[-count:]) - {text.split()[-1]}
                newest = int(regular[-1]) if regular else 0
                assert all(
                    word.endswith('t') and int(word[:-1]) > newest
                    for word in extra), (text, count)
