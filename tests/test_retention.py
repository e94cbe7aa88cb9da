"""Which checkpoints stay: tables over the pure policies."""
import itertools
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmcv_ckpt_hooks.lineage import by_step
from mmcv_ckpt_hooks.monitors import Monitor
from mmcv_ckpt_hooks.retention import (KeepAny, KeepBest, KeepEvery, KeepLast,
                                       KeepNames, KeepWithin, bytes_of,
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
    # no more than as many of those
    (1, '3t 5t 7t', '3t 5t'),
    (2, '4 8 9t 10t 11t', '9t'),
    (2, '3t 5t 7t 7b', '3t'),
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
                assert sum(word.endswith('t') for word in left) <= count
                assert all(
                    word.endswith('t') and int(word[:-1]) > newest
                    for word in extra), (text, count)


def test_without_a_number_only_what_is_off_the_grid_goes():
    assert gone(KeepLast(None), '4 8 9t 12 14t') == '9t'
    assert gone(KeepLast(None), '3t 5t') == ''


# -- the best ----------------------------------------------------------------

MIOU = Monitor('mIoU', 'greater')
LOSS = Monitor('loss', 'less')


def scored(text, key='mIoU'):
    """``'4=.5'`` is regular with a score, ``'6b=.7'`` a best."""
    found = []
    for word in text.split():
        name, _, score = word.partition('=')
        metrics = {key: float(score)} if score else {}
        found.append(replace(info(name), metrics=metrics))
    return found


def stays(policy, there):
    kept = policy.keep(there)
    return ' '.join(
        str(one.iter) +
        ('b' if one.trigger == 'best' else 't' if not one.regular else '')
        for one in there if one.name in kept)


BEST = [
    # count, there, what is kept for its score
    (1, '', ''),
    (1, '4 8', ''),
    (1, '4=.5 8=.6', '8'),
    (1, '4=.6 8=.5', '4'),
    (2, '4=.6 8=.5 12=.7', '4 12'),
    (9, '4=.6 8=.5', '4 8'),
    # of equal scores the earlier
    (1, '4=.5 8=.5', '4'),
    (2, '4=.5 8=.7 12=.5 16=.5', '4 8'),
    # 0.0 is a score, NaN and infinity are none
    (1, '4=0.0 8=-1', '4'),
    (1, '4=nan 8=.1', '8'),
    (1, '4=inf 8=.1', '8'),
    (2, '4=nan 8=inf', ''),
    # an evaluation beside the grid; a step without a score
    (2, '4=.5 6b=.7 8 12=.6', '6b 12'),
    # steps count, not names: a second name does not take a place
    (2, '4=.5 8=.7 8b=.7 12=.6', '8 12'),
    # of a step the regular file, then one off the grid, then the best
    (1, '4 8t=.7 8b=.7', '8t'),
    (1, '4 8b=.7', '8b'),
]


@pytest.mark.parametrize('count, there, expected', BEST)
def test_the_best_so_many_steps_stay(count, there, expected):
    assert stays(KeepBest(count, (MIOU, )), scored(there)) == expected


def test_a_lesser_loss_is_better():
    there = scored('4=.5 8=.1 12=0.0', 'loss')
    assert stays(KeepBest(2, (LOSS, )), there) == '8 12'


def test_each_metric_has_its_own_best():
    there = [
        replace(one, metrics=dict(mIoU=mIoU, loss=loss))
        for one, mIoU, loss in zip(
            infos('4 8 12 16'), [.9, .5, .6, .1], [.9, .1, .3, .5])
    ]
    assert stays(KeepBest(1, (MIOU, LOSS)), there) == '4 8'
    assert stays(KeepBest(2, (MIOU, LOSS)), there) == '4 8 12'


def test_while_the_metric_is_not_known_all_that_have_scores_stay():
    assert stays(KeepBest(1, None), scored('4=.5 8 12=.6')) == '4 12'


@pytest.mark.parametrize(
    'name, metrics, expected',
    [
        ('best_mIoU_iter_8.pth', dict(mIoU=.5), True),
        ('best_mIoU_epoch_8.pth', dict(mIoU=.5), True),
        # written for another metric: it may be the best of that one
        ('best_aAcc_iter_8.pth', dict(mIoU=.5), False),
        ('best_mIoU_iter_8.pth', dict(), False),
    ])
def test_only_a_score_that_is_known_can_cost_a_best_its_place(
        name, metrics, expected):
    one = replace(info('8b'), name=name, metrics=metrics)
    assert KeepBest(1, (MIOU, )).has_rank(one) is expected


# -- a budget ----------------------------------------------------------------


def sized(text):
    """``'4:10'`` takes ten bytes."""
    found = []
    for word in text.split():
        name, _, size = word.partition(':')
        found.append(replace(info(name), bytes=int(size)))
    return found


NEWEST = KeepLast(1)
BUDGET = [
    # budget, first, there, what stays
    (30, NEWEST, '4:10 8:10 12:10 16:10', '8 12 16'),
    (29, NEWEST, '4:10 8:10 12:10 16:10', '12 16'),
    (40, NEWEST, '4:10 8:10 12:10 16:10', '4 8 12 16'),
    # never the newest
    (1, NEWEST, '4:10 8:10', '8'),
    # no gap: what is older than one that does not fit goes, too
    (25, NEWEST, '4:5 8:50 12:10 16:10', '12 16'),
    # what others keep counts first and stays even if it is too much
    (30, KeepAny([NEWEST,
                  KeepEvery(8, False)]), '8:10 12:10 16:10 20:10', '8 16 20'),
    (5, KeepAny([NEWEST,
                 KeepEvery(8, False)]), '8:10 12:10 16:10 20:10', '8 16 20'),
    (40, KeepAny([NEWEST,
                  KeepEvery(8,
                            False)]), '8:10 12:10 16:10 20:10', '8 12 16 20'),
    # neither a best one nor one off the grid is what a budget is for
    (99, NEWEST, '4b:10 6t:10 8:10 12:10', '8 12'),
    # a size that is not told counts as the largest
    (25, NEWEST, '4:-1 8:10 12:10', '8 12'),
    (30, NEWEST, '4:-1 8:10 12:10', '4 8 12'),
]


@pytest.mark.parametrize('budget, first, there, expected', BUDGET)
def test_as_many_of_the_newest_as_fit_stay(budget, first, there, expected):
    assert stays(KeepWithin(budget, first), sized(there)) == expected


def test_a_second_name_takes_no_room():
    there = sized('4:10 8:10 12:10')
    there = [replace(one, digest=f'sha:{one.iter}') for one in there]
    second = replace(
        info('8b'), bytes=10, digest='sha:8', same_as='iter_8.pth')
    there.insert(2, second)
    first = KeepAny([NEWEST, KeepNames(frozenset([second.name]))])
    assert stays(KeepWithin(30, first), there) == '4 8 8b 12'
    assert stays(KeepWithin(20, first), there) == '8 8b 12'
    assert bytes_of(there, {one.name for one in there}) == 30
    # a storage without digests: by the name whose content it shares
    there = [replace(one, digest='') for one in there]
    assert bytes_of(there, {one.name for one in there}) == 30


# -- random directories ------------------------------------------------------

SCORES = st.one_of(st.none(),
                   st.sampled_from([0.0, .25, .5,
                                    float('nan'),
                                    float('inf')]))


@st.composite
def directories(draw):
    """Checkpoints of one run: kinds, gaps, sizes and scores at random."""
    found, step = [], 0
    for _ in range(draw(st.integers(1, 12))):
        step += draw(st.integers(0, 3))
        one = info(f'{step}{draw(st.sampled_from(["", "", "t", "b"]))}')
        if one.name in {other.name for other in found}:
            continue
        metrics = {
            key: score
            for key, score in (('mIoU', draw(SCORES)), ('loss', draw(SCORES)))
            if score is not None
        }
        found.append(
            replace(one, bytes=draw(st.integers(-1, 20)), metrics=metrics))
    return sorted(found, key=by_step)


SIMPLE = st.one_of(
    st.builds(KeepLast, st.one_of(st.none(), st.integers(1, 4))),
    st.builds(KeepEvery, st.integers(1, 5), st.booleans()),
    st.builds(KeepBest, st.integers(1, 4),
              st.sampled_from([None, (MIOU, ), (LOSS, ), (MIOU, LOSS)])),
    st.builds(KeepNames,
              st.frozensets(st.sampled_from(['iter_3.pth', 'iter_4.pth']))))
UNITED = st.builds(KeepAny, st.lists(SIMPLE, max_size=3))
POLICIES = st.one_of(SIMPLE, UNITED,
                     st.builds(KeepWithin, st.integers(1, 80), UNITED))


def left(policy, there, protected=None):
    names = [one.name for one in deletable(policy, there, protected)]
    return [one for one in there if one.name not in names]


@settings(max_examples=300, deadline=None)
@given(directories(), POLICIES)
def test_the_newest_and_so_the_last_one_always_stay(there, policy):
    """INVARIANT 2."""
    assert there[-1] in left(policy, there)
    # and what is left is left the next time
    again = left(policy, there)
    assert left(policy, again) == again


@settings(max_examples=200, deadline=None)
@given(directories(), UNITED, SIMPLE)
def test_what_one_keeps_all_together_keep(there, some, more):
    kept = KeepAny([some, more]).keep(there)
    assert kept == some.keep(there) | more.keep(there)
    assert kept <= {one.name for one in there}


@settings(max_examples=300, deadline=None)
@given(directories(), UNITED, st.integers(1, 80), st.integers(0, 40))
def test_a_budget_is_kept_and_a_larger_one_keeps_no_less(
        there, first, budget, more):
    must = first.keep(there) | {
        one.name
        for one in there if one.iter == there[-1].iter
    }
    kept = KeepWithin(budget, first).keep(there)
    assert must <= kept
    assert kept == must or bytes_of(there, kept) <= budget
    assert kept <= KeepWithin(budget + more, first).keep(there)


@settings(max_examples=200, deadline=None)
@given(directories(), st.integers(1, 4))
def test_more_of_the_best_or_of_the_last_keep_no_less(there, count):
    for policy in (KeepLast, lambda k: KeepBest(k, (MIOU, LOSS))):
        assert policy(count).keep(there) <= policy(count + 1).keep(there)


@settings(max_examples=200, deadline=None)
@given(directories(), st.integers(1, 4))
def test_no_step_that_is_not_kept_is_better_than_one_that_is(there, count):
    kept = KeepBest(count, (MIOU, )).keep(there)
    by_iter = {}
    # of a step the regular file, then one off the grid, then the best
    order = ('interval', 'time', 'best')
    for one in sorted(there, key=lambda one: order.index(one.trigger)):
        goodness = MIOU.goodness(one.metrics)
        if goodness is not None:
            by_iter.setdefault(one.iter, goodness)
    best = sorted(by_iter, key=lambda step: (-by_iter[step], step))[:count]
    assert {one.iter for one in there if one.name in kept} == set(best)
    assert len(kept) == len(best)
