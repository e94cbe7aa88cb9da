"""Two real ranks that are stopped: none waits for one that is not there."""
import json
import os
import shutil
import signal

import pytest
from launching import launch
from test_signals import files, saved

BOTH = dict(evaluate_on=[0, 1])


class Ranks:
    """A training of two ranks."""

    def __init__(self, work_dir, **given):
        self.processes = launch('ranks_worker.py', work_dir, json.dumps(given))
        self.lines = [[], []]

    def until(self, word, rank):
        """Read a rank's lines up to the one that begins with a word."""
        for line in self.processes[rank].stdout:
            self.lines[rank].append(line)
            if line.startswith(word):
                return self
        raise AssertionError(f'no {word}:\n{self.text(rank)}')

    def send(self, number, rank):
        self.processes[rank].send_signal(number)
        return self

    def end(self):
        """Return the exit codes."""
        for rank, process in enumerate(self.processes):
            self.lines[rank].append(process.communicate(timeout=120)[0])
        # a rank that has failed is aborted by gloo, at times, when another
        # one goes in its last moment
        return [
            1 if process.returncode == -signal.SIGABRT else process.returncode
            for process in self.processes
        ]

    def text(self, rank):
        return ''.join(self.lines[rank])

    def texts(self):
        return '\n=====\n'.join(self.text(rank)[-4000:] for rank in range(2))

    def results(self):
        return [
            json.loads(
                self.text(rank).partition('RESULT ')[2].partition('\n')[0])
            for rank in range(2)
        ]


def generators(path):
    return len(saved(path)['resume_state']['rng'])


# -- exceptions --------------------------------------------------------------


def test_an_exception_saves_on_rank_0_without_the_others(tmp_path):
    # sync_buffer asks all ranks, who are not there
    ranks = Ranks(tmp_path, raises=[0, 1], ours=dict(sync_buffer=True))
    assert ranks.end() == [1, 1], ranks.texts()
    assert files(tmp_path) == ['iter_5.pth'], ranks.texts()
    state = saved(tmp_path / 'iter_5.pth')['resume_state']
    assert len(state['rng']) == 1
    assert state['world_size'] == 2
    assert 'the state after 5 iterations is in iter_5.pth, with the ' \
        'generators of this rank only' in ranks.text(0)
    assert 'is for rank 0 to save' in ranks.text(1)
    assert 'could not be saved' not in ranks.text(1)


@pytest.mark.parametrize('kind', ['IterBasedRunnerAmp', 'IterBasedRunner'])
def test_a_rank_that_dies_costs_the_others_nothing(tmp_path, kind):
    given = dict(norm=False, type=kind, ours=dict(sync_buffer=True))
    ranks = Ranks(tmp_path, raises=[1], **given)
    assert ranks.end() == [1, 1], ranks.texts()
    # of the broken connection, in the backward
    assert 'RuntimeError' in ranks.text(0)
    assert files(tmp_path) == ['iter_5.pth'], ranks.texts()
    whole = Ranks(tmp_path / 'whole', **given)
    assert whole.end() == [0, 0], whole.texts()
    again = Ranks(tmp_path, seed=77, **given)
    assert again.end() == [0, 0], again.texts()
    assert list(again.results()[0]['losses']) == ['6', '7', '8', '9']
    for rank in range(2):
        assert 'iter_5.pth has the generators of 1 of 2 ranks' in \
            again.text(rank)
    assert 'has the generators of' not in whole.text(0)


def test_half_a_step_of_several_ranks_is_never_saved(tmp_path):
    ranks = Ranks(tmp_path, norm=False, fails_in_step=True)
    assert ranks.end() == [1, 1], ranks.texts()
    assert files(tmp_path) == []
    assert 'the optimizer has begun a step since' in ranks.text(0)


# -- the start ---------------------------------------------------------------


@pytest.mark.parametrize('on_error, code', [('warn', 0), ('raise', 1)])
def test_what_fails_at_the_start_of_rank_0_is_known_to_all(
        tmp_path, on_error, code):
    first = Ranks(tmp_path)
    assert first.end() == [0, 0], first.texts()
    # all is trained: latest.pth is moved on at the start only
    again = Ranks(tmp_path, links=False, ours=dict(on_error=on_error))
    assert again.end() == [code, code], again.texts()
    for rank in range(2):
        assert ('OutOfSpaceError' in again.text(rank)) == bool(code)
    if code:
        assert 'failed on rank 0: OutOfSpaceError' in again.text(1)
    else:
        assert again.text(0).count('Moving latest.pth to iter_9.pth '
                                   'failed') == 1


# -- a mirror ----------------------------------------------------------------


def test_ranks_with_empty_disks_go_on_from_the_mirror(tmp_path):
    given = dict(
        own_disks=True,
        ours=dict(
            mirror=dict(url=str(tmp_path / 'second')), triggers=dict(at=[4])))
    there = tmp_path / 'second' / 'run'
    whole = Ranks(tmp_path, **given)
    assert whole.end() == [0, 0], whole.texts()
    assert files(there) == ['iter_4.pth', 'iter_9.pth'], whole.texts()
    for name in ('iter_9.pth', 'latest.pth'):
        (there / name).unlink()
    for rank in range(2):
        shutil.rmtree(tmp_path / f'node_{rank}')
    again = Ranks(tmp_path, seed=77, **given)
    assert again.end() == [0, 0], again.texts()
    for one, other in zip(whole.results(), again.results()):
        assert one['state'] == other['state']
        assert list(other['losses']) == ['5', '6', '7', '8', '9']
    # rank 0 alone saves and copies
    assert files(tmp_path / 'node_0' / 'run') == ['iter_9.pth']
    assert files(tmp_path / 'node_1' / 'run') == []
    assert files(there) == ['iter_4.pth', 'iter_9.pth']
    for ranks in (whole, again):
        assert 'Copied checkpoint iter_9.pth' in ranks.text(0)
        assert 'Copied checkpoint' not in ranks.text(1)


@pytest.mark.parametrize('rank', [0, 1])
def test_a_mirror_that_is_wrong_on_one_rank_ends_all(tmp_path, rank):
    """Its machine may lack a package, or a profile."""
    ranks = Ranks(
        tmp_path,
        wrong_mirror_on=rank,
        ours=dict(mirror=dict(url=f'{tmp_path}-second')))
    assert ranks.end() == [1, 1], ranks.texts()
    assert 'ConfigError: DurableCheckpointHook: mirror.keep.best=1 needs' in \
        ranks.text(rank)
    assert f'failed on rank {rank}: ConfigError: DurableCheck' in \
        ranks.text(1 - rank)
    assert not os.path.exists(f'{tmp_path}-second')


# -- signals during an evaluation --------------------------------------------


def evaluating(work_dir, **given):
    ranks = Ranks(work_dir, endless=True, **dict(BOTH, **given))
    return ranks.until('EVALUATES', 0).until('EVALUATES', 1)


def test_a_long_evaluation_is_left_and_nothing_is_lost(tmp_path):
    cut = evaluating(tmp_path / 'cut')
    cut.send(signal.SIGTERM, 0).send(signal.SIGTERM, 1)
    assert cut.end() == [143, 143], cut.texts()
    assert files(tmp_path / 'cut') == ['iter_4.pth'], cut.texts()
    assert generators(tmp_path / 'cut' / 'iter_4.pth') == 2
    resumed = Ranks(tmp_path / 'cut', seed=77, **BOTH)
    assert resumed.end() == [0, 0], resumed.texts()
    whole = Ranks(tmp_path / 'whole', **BOTH)
    assert whole.end() == [0, 0], whole.texts()
    for one, other, all_of_it in zip(cut.results(), resumed.results(),
                                     whole.results()):
        assert other['state'] == all_of_it['state']
        assert {**one['losses'], **other['losses']} == all_of_it['losses']
        assert list(other['losses']) == ['5', '6', '7', '8', '9']


def test_a_signal_to_one_rank_is_seen_by_all_in_an_evaluation(tmp_path):
    ranks = evaluating(tmp_path).send(signal.SIGTERM, 1)
    assert ranks.end() == [143, 143], ranks.texts()
    assert files(tmp_path) == ['iter_4.pth'], ranks.texts()
    assert generators(tmp_path / 'iter_4.pth') == 2
    assert 'SIGTERM: training ends after 4 iterations; iter_4.pth' in \
        ranks.text(0)


def test_a_request_to_save_is_answered_by_rank_0_in_an_evaluation(tmp_path):
    ranks = evaluating(tmp_path).send(signal.SIGUSR1, 0)
    ranks.until('SIGUSR1: the last finished step is saved as iter_4.pth', 0)
    assert generators(tmp_path / 'iter_4.pth') == 2
    ranks.send(signal.SIGTERM, 0).send(signal.SIGTERM, 1)
    assert ranks.end() == [143, 143], ranks.texts()
    assert ranks.text(0).count('Saved checkpoint') == 1


def test_a_dead_rank_does_not_keep_rank_0_in_an_evaluation(tmp_path):
    ranks = evaluating(tmp_path).send(signal.SIGKILL, 1)
    ranks.processes[1].wait()
    ranks.send(signal.SIGTERM, 0)
    assert ranks.end() == [143, -signal.SIGKILL], ranks.texts()
    assert files(tmp_path) == ['iter_4.pth'], ranks.texts()
    # what the dead one had told
    assert generators(tmp_path / 'iter_4.pth') == 2


def test_a_rank_that_hangs_in_its_first_batch_has_told_before(tmp_path):
    ranks = evaluating(tmp_path, hangs=1).send(signal.SIGTERM, 0)
    ranks.until('RESULT', 0)
    ranks.processes[0].wait()
    ranks.send(signal.SIGKILL, 1)
    assert ranks.end() == [143, -signal.SIGKILL], ranks.texts()
    assert generators(tmp_path / 'iter_4.pth') == 2


def test_without_rank_0_an_evaluation_is_left_at_once(tmp_path):
    ranks = evaluating(tmp_path).send(signal.SIGKILL, 0)
    ranks.processes[0].wait()
    ranks.send(signal.SIGTERM, 1)
    assert ranks.end() == [-signal.SIGKILL, 143], ranks.texts()
    assert files(tmp_path) == []


def test_an_evaluation_on_rank_0_alone_waits_for_nobody(tmp_path):
    ranks = Ranks(tmp_path, endless=True, evaluate_on=[0])
    ranks.until('EVALUATES', 0)
    ranks.send(signal.SIGTERM, 0).send(signal.SIGTERM, 1)
    assert ranks.end() == [143, 143], ranks.texts()
    assert files(tmp_path) == ['iter_4.pth'], ranks.texts()
    assert generators(tmp_path / 'iter_4.pth') == 1


def test_a_val_phase_is_left_by_all(tmp_path):
    ranks = Ranks(tmp_path, workflow=[['train', 4], ['val', 10**9]])
    ranks.until('EVALUATES', 0).until('EVALUATES', 1)
    ranks.send(signal.SIGTERM, 1)
    assert ranks.end() == [143, 143], ranks.texts()
    assert files(tmp_path) == ['iter_4.pth'], ranks.texts()
    assert generators(tmp_path / 'iter_4.pth') == 2


# -- the end -----------------------------------------------------------------


@pytest.mark.parametrize('event, codes', [('before_train_iter', [143, 143]),
                                          ('after_train_iter', [0, 143])])
def test_a_signal_to_one_rank_behind_the_last_boundary(tmp_path, event, codes):
    """Before the boundary all know of it; behind it nobody is asked."""
    ranks = Ranks(tmp_path, sends=event)
    assert ranks.end() == codes, ranks.texts()
    assert files(tmp_path) == ['iter_9.pth'], ranks.texts()
    assert 'training ends after 9 iterations' in ranks.text(1)


@pytest.mark.parametrize('type', ['IterBasedRunnerAmp', 'IterBasedRunner'])
@pytest.mark.parametrize('first, codes', [
    (1, [-signal.SIGINT, -signal.SIGINT]),
    (0, [-signal.SIGINT, 130]),
])
def test_a_second_interrupt_waits_for_no_other_rank(tmp_path, type, first,
                                                    codes):
    """Rank 0 writes for ever, and the other one waits for it."""
    ranks = Ranks(tmp_path, hangs_in_writes=True, type=type)
    ranks.until('WRITES', 0).send(signal.SIGINT, first)
    ranks.processes[first].wait(timeout=60)
    if first:
        ranks.send(signal.SIGINT, 0)
    assert ranks.end() == codes, ranks.texts()
    assert files(tmp_path) == []
