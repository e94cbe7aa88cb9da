"""Sharded checkpoints: checked, resumed from, converted."""
import json
import os
import pickle
import shutil
from types import SimpleNamespace

import pytest
import torch
from checkpoint_files import equal
from folders import (NEW_TORCH, build_folder, folder_of_file, names_of,
                     with_another_value)
from mmcv import Config
from mmcv.runner import EMAHook
from toy import ToyModel, make_loader, make_runner, train

from mmcv_ckpt_hooks import find_resumable, verify_checkpoint
from mmcv_ckpt_hooks.cli import main
from mmcv_ckpt_hooks.errors import (CorruptError, IntegrityError,
                                    MissingCheckpointError, ResumeError,
                                    UnsafeCheckpointError)
from mmcv_ckpt_hooks.folders import verification
from mmcv_ckpt_hooks.folders.chunks import Chunk
from mmcv_ckpt_hooks.folders.layout import (MANIFEST_NAME, METADATA_NAME,
                                            REST_NAME)
from mmcv_ckpt_hooks.folders.loading import FolderCheckpoint
from mmcv_ckpt_hooks.folders.opening import open_folder
from mmcv_ckpt_hooks.folders.reading import FolderReader, Target
from mmcv_ckpt_hooks.storage import open_backend

dcp = pytest.importorskip('torch.distributed.checkpoint')
pytestmark = [
    NEW_TORCH,
    pytest.mark.filterwarnings('ignore:torch.distributed is')
]

HERE = os.path.dirname(os.path.abspath(__file__))
AMP = dict(type='IterBasedRunnerAmp', max_iters=8)


class Run:
    """A training of four steps, its file and folders with the same."""

    def __init__(self, directory, **kwargs):
        self.directory = directory
        self.runner = train(
            directory,
            runner=dict(AMP, max_iters=4),
            hooks=[
                dict(type='DurableCheckpointHook', interval=4),
                *kwargs.pop('hooks', ())
            ],
            **kwargs)
        self.file = directory / 'iter_4.pth'

    def folder(self, name='iter_4.dcp', **kwargs):
        return folder_of_file(
            self.file, self.directory / name,
            names_of(self.runner.model, self.runner.optimizer), **kwargs)


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    return Run(tmp_path_factory.mktemp('run'))


@pytest.fixture(scope='module')
def made(run):
    """A folder of two ranks."""
    return run.folder('made.dcp', ranks=2)


@pytest.fixture
def folder(made, tmp_path):
    """A copy that may be changed."""
    return shutil.copytree(made, tmp_path / 'iter_4.dcp')


def same_state(one, other):
    """Whether optimizers are equal, in whatever order their keys are."""
    first, second = one.state_dict(), other.state_dict()
    return equal(first['param_groups'], second['param_groups']) and \
        list(first['state']) == list(second['state']) and all(
            equal(dict(sorted(first['state'][key].items())),
                  dict(sorted(second['state'][key].items())))
            for key in first['state'])


def assert_resumed(runner, run):
    assert runner.iter == 4
    assert equal(runner.model.state_dict(), run.runner.model.state_dict())
    assert same_state(runner.optimizer, run.runner.optimizer)


# -- resume -----------------------------------------------------------------


@pytest.mark.parametrize('sharded', [True, False])
@pytest.mark.parametrize('ranks', [1, 2, 4])
def test_a_run_goes_on_from_what_any_number_of_ranks_has_saved(
        run, tmp_path, ranks, sharded):
    folder = run.folder(f'{ranks}_{sharded}.dcp', ranks=ranks, sharded=sharded)
    runner = make_runner(tmp_path, runner=AMP, seed=5)
    runner.resume(str(folder))
    assert_resumed(runner, run)


class Renamed(torch.nn.Linear):
    """A layer whose weight had another name and form when it was saved."""

    def _load_from_state_dict(self, state_dict, prefix, *args):
        old = state_dict.pop(prefix + 'kernel', None)
        if old is not None:
            state_dict[prefix + 'weight'] = old.reshape(self.weight.shape)
        super()._load_from_state_dict(state_dict, prefix, *args)


def test_a_module_takes_under_a_new_name_what_a_file_would_give(
        run, tmp_path, caplog):
    checkpoint = torch.load(str(run.file), weights_only=True)
    weights = checkpoint['state_dict']
    weights['last.kernel'] = weights.pop('last.weight').reshape(-1)
    folder = build_folder(
        tmp_path / 'iter_4.dcp',
        checkpoint,
        names_of(run.runner.model, run.runner.optimizer),
        ranks=2)
    model = ToyModel()
    model.last = Renamed(4, 2)
    runner = make_runner(tmp_path / 'new', runner=AMP, model=model, seed=5)
    runner.resume(str(folder))
    assert_resumed(runner, run)
    assert 'meta tensor' not in caplog.text


def test_a_run_ends_with_the_same_bits_as_from_the_file(run, made, tmp_path):
    ended = []
    for source in (run.file, made):
        ended.append(
            train(
                tmp_path / source.name,
                runner=AMP,
                seed=5,
                hooks=[
                    dict(
                        type='DurableCheckpointHook',
                        interval=8,
                        resume=str(source))
                ]))
    one, other = ended
    assert equal(one.model.state_dict(), other.model.state_dict())
    assert same_state(one.optimizer, other.optimizer)
    assert one.iter == other.iter == 8


def test_a_stock_runner_goes_on_from_it(made, run, tmp_path):
    runner = train(
        tmp_path,
        runner=dict(type='IterBasedRunner', max_iters=4),
        hooks=[dict(type='DurableCheckpointHook', resume=str(made))])
    assert_resumed(runner, run)


def test_weights_are_filled_in_place(made, run, tmp_path):
    runner = make_runner(tmp_path, runner=AMP, seed=5)
    before = {
        name: value.data_ptr()
        for name, value in runner.model.state_dict().items()
    }
    runner.resume(str(made))
    assert before == {
        name: value.data_ptr()
        for name, value in runner.model.state_dict().items()
    }


def test_load_from_takes_the_weights(made, run, tmp_path):
    runner = make_runner(tmp_path, runner=AMP, seed=5)
    runner.load_checkpoint(str(made) + '/')
    assert equal(runner.model.state_dict(), run.runner.model.state_dict())
    assert runner.iter == 0 and not runner.optimizer.state


def test_averaged_weights_come_when_their_hook_has_buffers(tmp_path):
    run = Run(tmp_path, hooks=[EMAHook()])
    folder = run.folder(ranks=2)
    runner = train(
        tmp_path / 'new',
        runner=dict(AMP, max_iters=4),
        seed=5,
        hooks=[
            dict(type='DurableCheckpointHook', resume=str(folder)),
            EMAHook()
        ])
    assert equal(runner.model.state_dict(), run.runner.model.state_dict())


def test_weights_that_do_not_fit_are_told_as_of_a_file(made, tmp_path, caplog):
    runner = make_runner(tmp_path, runner=AMP, model=ToyModel(width=5))
    with pytest.raises(ResumeError, match='does not fit this run'):
        runner.resume(str(made))
    runner.resume(str(made), resume_optimizer=False)
    assert 'size mismatch for first.weight' in caplog.text


def test_several_optimizers_go_on(tmp_path):
    model = ToyModel()

    def optimizers(model):
        return dict(
            one=torch.optim.AdamW(model.first.parameters(), lr=0.1),
            two=torch.optim.SGD(model.last.parameters(), lr=0.1, momentum=0.9))

    saved = optimizers(model)
    model(torch.randn(4, 4)).sum().backward()
    for one in saved.values():
        one.step()
    content = dict(
        meta=dict(epoch=0, iter=4),
        state_dict=model.state_dict(),
        optimizer={
            key: one.state_dict()
            for key, one in saved.items()
        },
        resume_state=dict(version=1))
    folder = build_folder(
        tmp_path / 'iter_4.dcp',
        content,
        dict(
            one=['first.weight', 'first.bias'],
            two=['last.weight', 'last.bias']),
        ranks=3)
    again = ToyModel()
    runner = make_runner(
        tmp_path / 'new', runner=AMP, model=again, optimizer=optimizers(again))
    runner.resume(str(folder))
    for key, one in saved.items():
        assert same_state(runner.optimizer[key], one)


@pytest.mark.parametrize('dimension', [0, 1])
def test_any_part_is_read_of_any_chunks(tmp_path, dimension):
    values = torch.arange(35.).reshape(7, 5)
    content = dict(meta={}, state_dict=dict(w=values))
    folder = build_folder(tmp_path / 'a.dcp', content, {}, ranks=3)
    reader = FolderReader(open_folder(open_backend(str(folder)), 'a.dcp'))
    length = values.shape[dimension]
    for start in range(length):
        for stop in range(start, length + 1):
            part = values.narrow(dimension, start, stop - start)
            offsets = [0, 0]
            offsets[dimension] = start
            memory = torch.full((7, 5), -1., dtype=torch.float64)
            held = memory.narrow(dimension, 0, stop - start)
            reader.fill([
                Target('state_dict.w',
                       Chunk(tuple(offsets), tuple(part.shape)), held)
            ])
            assert torch.equal(held, part.double())
            # nothing beside it
            assert (memory == -1).sum() == 35 - part.numel()


# -- what is wrong with it --------------------------------------------------


def refusal(folder, tmp_path):
    """What verify and resume say; both must, and nothing is changed."""
    with pytest.raises(IntegrityError) as verified:
        verify_checkpoint(str(folder))
    runner = make_runner(tmp_path / 'refused', runner=AMP, seed=5)
    before = {
        name: value.clone()
        for name, value in runner.model.state_dict().items()
    }
    with pytest.raises(IntegrityError):
        runner.resume(str(folder))
    assert equal(dict(runner.model.state_dict()), before)
    assert not runner.optimizer.state and runner.iter == 0
    return verified.value


@pytest.mark.parametrize(
    'name', [METADATA_NAME, MANIFEST_NAME, REST_NAME, '__1_0.distcp'])
def test_a_missing_file_is_named(folder, tmp_path, name):
    (folder / name).unlink()
    assert name in str(refusal(folder, tmp_path))


@pytest.mark.parametrize(
    'name', [METADATA_NAME, MANIFEST_NAME, REST_NAME, '__1_0.distcp'])
def test_a_file_that_was_cut_off_is_named(folder, tmp_path, name):
    content = (folder / name).read_bytes()
    for size in (0, len(content) // 2, len(content) - 1):
        (folder / name).write_bytes(content[:size])
        assert name in str(refusal(folder, tmp_path))


def flips(path, step=1):
    """Change one bit of a file after the other, some bytes apart."""
    content = path.read_bytes()
    for at in range(0, len(content), max(1, step)):
        flipped = bytearray(content)
        flipped[at] ^= 1 << at % 8
        path.write_bytes(flipped)
        yield flipped
    path.write_bytes(content)


def test_every_flip_of_the_metadata_is_found(folder):
    path = folder / METADATA_NAME
    for _ in flips(path, path.stat().st_size // 60):
        with pytest.raises(IntegrityError, match='metadata'):
            verify_checkpoint(str(folder))
    verify_checkpoint(str(folder))


@pytest.mark.parametrize('name', [REST_NAME, '__0_0.distcp'])
def test_every_flip_of_what_is_read_is_found(folder, name):
    """Between the records of an archive are bytes that nobody reads."""
    path, before, found = folder / name, all_of(folder), 0
    for _ in flips(path, path.stat().st_size // 200):
        try:
            verify_checkpoint(str(folder))
        except IntegrityError:
            found += 1
            continue
        assert equal(all_of(folder), before)
    assert found > 60


def all_of(folder):
    """Everything that a folder holds."""
    opened = open_folder(open_backend(str(folder)), str(folder))
    return FolderCheckpoint(FolderReader(opened)).plain()


def test_every_flip_of_the_manifest_is_found_or_changes_nothing(folder):
    path = folder / MANIFEST_NAME
    content = path.read_bytes()
    for flipped in flips(path):
        try:
            verify_checkpoint(str(folder))
        except IntegrityError:
            continue
        assert json.loads(flipped) == json.loads(content)


def test_a_file_of_another_step_is_found(run, made, folder, tmp_path):
    """Its own CRC-32 values are right."""
    other = Run(tmp_path / 'other', seed=9)
    its = other.folder(ranks=2)
    name = '__0_0.distcp'
    assert (its / name).stat().st_size == (folder / name).stat().st_size
    shutil.copy(its / name, folder / name)
    assert 'is that of another checkpoint' in str(refusal(folder, tmp_path))


def test_the_digest_of_the_catalog_is_that_of_the_manifest(folder):
    files = open_backend(str(folder))
    digest = open_folder(files, 'a.dcp').digest
    assert open_folder(files, 'a.dcp', digest).digest == digest
    with pytest.raises(CorruptError, match='not the checkpoint that the cat'):
        open_folder(files, 'a.dcp', 'sha256-manifest:0')


def test_a_folder_that_is_not_there_is_missing(tmp_path):
    with pytest.raises(MissingCheckpointError):
        verify_checkpoint(str(tmp_path / 'iter_4.dcp'))


# -- the command line -------------------------------------------------------


class Counted(dict):
    """Counts how often all of it is gone through."""
    rounds = 0

    def items(self):
        self.rounds += 1
        return super().items()


def test_items_are_sorted_by_file_once(made):
    folder = open_folder(open_backend(str(made)), str(made))
    items = Counted(folder.metadata.items)
    object.__setattr__(folder.metadata, 'items', items)
    for name in [*folder.metadata.files] * 3:
        found = [item for _, _, item in folder.items(name)]
        assert found == sorted(
            (one for one in items.values() if one.file == name),
            key=lambda one: one.offset)
    assert items.rounds == 1


class Measured:
    """An item that counts how often its size is asked for."""
    asked = 0

    @property
    def length(self):
        self.asked += 1
        return 100


def test_items_are_divided_into_jobs_in_one_pass(monkeypatch):
    monkeypatch.setattr(verification, '_LARGE_BYTES', 1000)
    held = [('name', None, Measured()) for _ in range(35)]
    folder = SimpleNamespace(items=lambda name: iter(held))
    check = verification._Check(folder, lambda done: None)
    jobs = [job.args[1] for job in check.jobs('__0_0.distcp')]
    assert [len(one) for one in jobs] == [10, 10, 10, 5]
    assert sum(jobs, []) == held
    assert {item.asked for _, _, item in held} == {1}


def command(capsys, *arguments):
    code = main([str(one) for one in arguments])
    out = capsys.readouterr()
    return code, out.out, out.err


def test_verify_says_what_was_checked(folder, capsys):
    code, out, _ = command(capsys, 'verify', folder)
    assert code == 0 and out.startswith('ok ') and 'records' in out
    (folder / '__1_0.distcp').unlink()
    code, out, _ = command(capsys, 'verify', folder)
    assert code == 1 and '__1_0.distcp is missing' in out


def test_inspect_shows_the_tensors(folder, capsys):
    code, out, _ = command(capsys, 'inspect', folder)
    assert code == 0
    assert 'state_dict.first.weight' in out
    assert 'optimizer.state.first.weight.exp_avg' in out
    assert 'meta.iter: 4' in out
    code, out, _ = command(capsys, 'inspect', folder, '--json')
    told = json.loads(out)
    assert dict(
        name='state_dict.first.weight',
        dtype='float32',
        shape=[4, 4],
        bytes=64) in told['tensors']
    assert told['digest'].startswith('sha256-manifest:')


# -- convert ----------------------------------------------------------------


def test_a_folder_becomes_the_file_that_it_was_made_of(run, tmp_path, capsys):
    folder = run.folder('cut.dcp', ranks=3)
    target = tmp_path / 'out.pth'
    code, out, _ = command(capsys, 'convert', folder, target)
    assert code == 0 and 'out.pth' in out
    verify_checkpoint(str(target))
    one = torch.load(str(run.file), weights_only=True)
    other = torch.load(str(target), weights_only=True)
    assert list(one) == list(other)
    for field in one:
        if field != 'optimizer':
            assert equal(one[field], other[field])
    runner = make_runner(tmp_path / 'new', runner=AMP, seed=5)
    runner.resume(str(target))
    assert_resumed(runner, run)


def test_a_file_becomes_a_folder_and_a_file_again(run, tmp_path, capsys):
    folder = tmp_path / 'iter_4.dcp'
    assert command(capsys, 'convert', run.file, folder)[0] == 0
    verify_checkpoint(str(folder))
    runner = make_runner(tmp_path / 'new', runner=AMP, seed=5)
    runner.resume(str(folder))
    assert_resumed(runner, run)
    target = tmp_path / 'again.pth'
    assert command(capsys, 'convert', folder, target)[0] == 0
    assert equal(
        torch.load(str(target), weights_only=True)['optimizer'],
        torch.load(str(run.file), weights_only=True)['optimizer'])


def test_plain_torch_reads_what_convert_writes(run, tmp_path, capsys):
    folder = tmp_path / 'iter_4.dcp'
    assert command(capsys, 'convert', run.file, folder)[0] == 0
    weights = {
        f'state_dict.{name}': torch.zeros_like(value)
        for name, value in run.runner.model.state_dict().items()
    }
    dcp.load(weights, checkpoint_id=str(folder), no_dist=True)
    for name, value in run.runner.model.state_dict().items():
        assert equal(weights[f'state_dict.{name}'], value)


def test_nothing_is_written_of_a_damaged_source(folder, tmp_path, capsys):
    path = folder / '__1_0.distcp'
    path.write_bytes(with_another_value(path.read_bytes()))
    code, _, err = command(capsys, 'convert', folder, tmp_path / 'out.pth')
    assert code == 1 and '__1_0.distcp' in err
    assert not list(tmp_path.glob('*out*'))


def test_nothing_is_replaced(folder, run, tmp_path, capsys):
    target = tmp_path / 'out.pth'
    target.write_bytes(b'mine')
    code, _, err = command(capsys, 'convert', folder, target)
    assert code == 2 and 'exists' in err and target.read_bytes() == b'mine'
    code, _, err = command(capsys, 'convert', run.file, folder)
    assert code == 2 and 'is not empty' in err
    code, _, err = command(capsys, 'convert', run.file, tmp_path / 'b.pth')
    assert code == 2 and '.dcp' in err
    code, _, err = command(capsys, 'convert', folder, tmp_path / 'b.dcp')
    assert code == 2 and '.pth' in err
    code, _, err = command(capsys, 'convert', tmp_path, tmp_path / 'b.dcp')
    assert code == 2 and 'no sharded checkpoint' in err


class Peak:
    """The most elements that were read and kept at once."""

    def __init__(self, monkeypatch):
        import weakref

        from mmcv_ckpt_hooks.folders.reading import FolderReader
        self.most, self._live = 0, weakref.WeakSet()
        read = FolderReader.tensor

        def counted(reader, name):
            value = read(reader, name)
            self._live.add(value)
            self.most = max(self.most, sum(one.numel() for one in self._live))
            return value

        monkeypatch.setattr(FolderReader, 'tensor', counted)


@pytest.mark.parametrize('end', ['pth', 'safetensors'])
def test_one_tensor_at_a_time_is_in_memory(run, tmp_path, monkeypatch, capsys,
                                           end):
    folder = run.folder(f'streamed_{end}.dcp', ranks=2)
    peak = Peak(monkeypatch)
    assert command(capsys, 'convert', folder, tmp_path / f'out.{end}')[0] == 0
    # one is read while the one before is let go
    assert 16 <= peak.most <= 32


# -- folders of torch alone -------------------------------------------------


@pytest.fixture
def plain(tmp_path):
    """What torch.distributed.checkpoint saves of a model and its optimizer."""
    model = ToyModel()
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.randn(4, 4)).sum().backward()
    optimizer.step()
    tree = dict(
        state_dict=model.state_dict(),
        optimizer=optimizer.state_dict(),
        meta=dict(iter=4, note='mine'))
    dcp.save(tree, checkpoint_id=str(tmp_path / 'plain'), no_dist=True)
    return tmp_path / 'plain', tree


def test_a_folder_of_torch_is_checked_as_far_as_it_can_be(plain, capsys):
    folder, _ = plain
    report = verify_checkpoint(str(folder))
    assert report.digest == '' and 'torch.distributed.checkpoint alone' in \
        report.note
    code, out, _ = command(capsys, 'verify', folder)
    assert code == 0 and 'it has no digests' in out
    data = folder / '__0_0.distcp'
    content = bytearray(data.read_bytes())
    found = pickle.loads((folder / METADATA_NAME).read_bytes())
    for item in found.storage_data.values():
        # inside the tensor's own record
        at = content.index(b'data/0FB', item.offset)
        flipped = bytearray(content)
        flipped[at + 100] ^= 1
        data.write_bytes(flipped)
        with pytest.raises(IntegrityError, match='__0_0.distcp'):
            verify_checkpoint(str(folder))
        break
    data.write_bytes(content[:-1])
    with pytest.raises(IntegrityError, match='cut off'):
        verify_checkpoint(str(folder))


def test_a_folder_of_torch_becomes_a_file(plain, tmp_path, capsys):
    folder, tree = plain
    target = tmp_path / 'out.pth'
    code, out, _ = command(capsys, 'convert', folder, target)
    assert code == 0 and 'torch.distributed.checkpoint alone' in out
    found = torch.load(str(target), weights_only=True)
    assert equal(dict(found['state_dict']), dict(tree['state_dict']))
    assert found['meta'] == tree['meta']
    assert equal(found['optimizer']['param_groups'],
                 tree['optimizer']['param_groups'])
    state = found['optimizer']['state']
    assert list(state) == list(tree['optimizer']['state'])
    assert equal(state[0]['exp_avg'], tree['optimizer']['state'][0]['exp_avg'])


def test_a_folder_of_torch_is_no_run_but_has_weights(plain, tmp_path):
    folder, tree = plain
    runner = make_runner(tmp_path / 'new', runner=AMP, seed=5)
    with pytest.raises(ResumeError, match='without rest.zip') as caught:
        runner.resume(str(folder))
    assert f'"mmcv-ckpt convert {folder} iter_N.pth"' in str(caught.value)
    runner.load_checkpoint(str(folder))
    assert equal(dict(runner.model.state_dict()), dict(tree['state_dict']))


@pytest.mark.parametrize('by_hook', [False, True])
def test_what_the_hint_for_a_folder_of_torch_says_resumes(
        plain, tmp_path, capsys, by_hook):
    folder, tree = plain
    file = str(tmp_path / 'iter_4.pth')
    hook = dict(type='DurableCheckpointHook', interval=100)
    runner = make_runner(
        tmp_path / 'new',
        runner=AMP,
        seed=5,
        hooks=[dict(hook, resume=str(folder))])
    with pytest.raises(ResumeError, match='without rest.zip'):
        runner.run([make_loader()], [('train', 1)])
    assert command(capsys, 'convert', folder, file)[0] == 0
    runner = make_runner(
        tmp_path / 'new',
        runner=dict(AMP, max_iters=4),
        seed=5,
        hooks=[dict(hook, resume=file if by_hook else None)])
    if not by_hook:
        runner.resume(file)
    runner.run([make_loader()], [('train', 1)])
    assert runner.iter == 4
    assert equal(dict(runner.model.state_dict()), dict(tree['state_dict']))
    state = runner.optimizer.state_dict()['state']
    assert equal(state[0]['exp_avg'], tree['optimizer']['state'][0]['exp_avg'])


def test_bare_weights_of_torch_are_taken_from_the_file_made_of_them(
        tmp_path, capsys):
    weights = ToyModel().state_dict()
    folder, file = tmp_path / 'bare', tmp_path / 'bare.pth'
    dcp.save(dict(weights), checkpoint_id=str(folder), no_dist=True)
    runner = make_runner(tmp_path / 'new', runner=AMP, seed=5)
    with pytest.raises(ResumeError, match='no tensors under') as caught:
        runner.load_checkpoint(str(folder))
    assert f'"mmcv-ckpt convert {folder} FILE.pth"' in str(caught.value)
    assert "found ['first.bias'" in str(caught.value) or \
        "found ['first.weight'" in str(caught.value)
    assert command(capsys, 'convert', folder, file)[0] == 0
    runner.load_checkpoint(str(file))
    assert equal(dict(runner.model.state_dict()), dict(weights))


class Mine:
    """Of a class that a saved tree should not have."""


def test_what_torch_pickles_beside_tensors_is_not_executed(tmp_path, capsys):
    dcp.save(
        dict(a=torch.ones(2), b=Mine()),
        checkpoint_id=str(tmp_path / 'a'),
        no_dist=True)
    with pytest.raises(UnsafeCheckpointError):
        verify_checkpoint(str(tmp_path / 'a'))
    code, _, err = command(capsys, 'convert', tmp_path / 'a',
                           tmp_path / 'out.pth')
    assert code == 3 and not (tmp_path / 'out.pth').exists()


# -- with a run that writes them --------------------------------------------


def written(directory, steps=4, **kwargs):
    return train(
        directory,
        runner=dict(AMP, max_iters=steps),
        hooks=[
            dict(
                type='DurableCheckpointHook',
                interval=2,
                format='dcp',
                resume='auto')
        ],
        **kwargs)


@pytest.fixture
def sharded(tmp_path):
    """A work dir with two folders, of steps 2 and 4."""
    written(tmp_path / 'run')
    return tmp_path / 'run'


def test_a_run_goes_on_from_its_newest_folder_with_the_same_bits(
        sharded, tmp_path):
    whole = written(tmp_path / 'whole', 8)
    resumed = written(sharded, 8, seed=5)
    assert resumed.restored.name == 'iter_4.dcp'
    assert equal(resumed.model.state_dict(), whole.model.state_dict())
    assert same_state(resumed.optimizer, whole.optimizer)


def test_the_newest_of_files_and_folders_is_taken(sharded, tmp_path):
    assert find_resumable(sharded) == str(sharded / 'iter_4.dcp')
    train(
        sharded,
        runner=dict(AMP, max_iters=6),
        hooks=[dict(type='DurableCheckpointHook', interval=2, resume='auto')])
    assert find_resumable(sharded) == str(sharded / 'iter_6.pth')
    assert written(sharded, 8, seed=5).restored.name == 'iter_6.pth'
    assert find_resumable(sharded) == str(sharded / 'iter_8.dcp')


def test_a_damaged_folder_is_passed_over(sharded, caplog):
    path = sharded / 'iter_4.dcp' / '__0_0.distcp'
    path.write_bytes(with_another_value(path.read_bytes()))
    assert find_resumable(sharded) == str(sharded / 'iter_2.dcp')
    assert written(sharded, 4, seed=5).restored.name == 'iter_2.dcp'
    assert 'Not resuming from iter_4.dcp' in caplog.text
    assert '__0_0.distcp' in caplog.text


def test_folders_without_their_metadata_are_not_started_over(sharded):
    """They only lack a small file, and the run would write over them."""
    (sharded / 'iter_4.dcp' / METADATA_NAME).unlink()
    (sharded / 'iter_2.dcp' / METADATA_NAME).rename(sharded / 'kept')
    with pytest.raises(IntegrityError, match=f'lack {METADATA_NAME}.*anew'):
        written(sharded, 8)
    (sharded / 'kept').rename(sharded / 'iter_2.dcp' / METADATA_NAME)
    assert written(sharded, 8).restored.name == 'iter_2.dcp'


def test_an_explicit_damaged_one_names_the_newest_good_one(sharded, tmp_path):
    (sharded / 'iter_4.dcp' / REST_NAME).unlink()
    runner = make_runner(tmp_path / 'new', runner=AMP, seed=5)
    with pytest.raises(IntegrityError, match='good one there is iter_2.dcp'):
        runner.resume(str(sharded / 'iter_4.dcp'))
    runner.resume(str(sharded / 'latest.dcp'))
    assert runner.restored.name == 'iter_2.dcp' and runner.iter == 2


@pytest.mark.parametrize('name, step', [('iter_2.dcp', 2), ('latest.dcp', 4)])
def test_a_path_may_end_in_a_slash(sharded, tmp_path, name, step):
    runner = train(
        tmp_path / 'new',
        runner=dict(AMP, max_iters=5),
        hooks=[
            dict(
                type='DurableCheckpointHook',
                interval=100,
                resume=f'{sharded / name}/')
        ])
    assert runner.restored.name == f'iter_{step}.dcp'
    assert runner.restored.directory == str(sharded) and runner.iter == 5


def test_the_config_that_is_shipped_runs(tmp_path):
    config = Config.fromfile(f'{HERE}/../configs/checkpoints_sharded.py')
    for steps in (4, 8):
        runner = train(
            tmp_path,
            runner=dict(AMP, max_iters=steps),
            checkpoint_config=config.checkpoint_config,
            hooks=config.custom_hooks)
    assert runner.restored.name == 'iter_4.dcp'
    assert [path.name for path in sorted(tmp_path.glob('iter_*'))
            ] == ['iter_6.dcp', 'iter_8.dcp']


def test_ls_shows_folders(sharded, capsys):
    code, out, _ = command(capsys, 'ls', sharded)
    assert code == 0
    line = [one for one in out.splitlines() if 'iter_4.dcp' in one][0]
    assert 'resume' in line and 'latest' in line and 'kB' in line
    (sharded / 'iter_4.dcp' / REST_NAME).unlink()
    code, out, _ = command(capsys, 'ls', sharded)
    line = [one for one in out.splitlines() if 'iter_4.dcp' in one][0]
    assert 'damaged' in line


def test_verify_all_checks_folders(sharded, capsys):
    code, out, _ = command(capsys, 'verify', '--all', sharded)
    assert code == 0 and '2 ok' in out


@pytest.fixture
def elsewhere():
    fsspec = pytest.importorskip('fsspec')
    yield 'memory://runs/iter_4.dcp'
    fsspec.filesystem('memory').store.clear()


def test_a_folder_elsewhere_is_read_as_one_here(run, elsewhere, tmp_path,
                                                capsys):
    assert command(capsys, 'convert', run.file, elsewhere)[0] == 0
    assert verify_checkpoint(elsewhere).digest
    code, out, _ = command(capsys, 'verify', elsewhere)
    assert code == 0 and out.startswith('ok ')
    assert command(capsys, 'inspect', elsewhere)[0] == 0
    runner = make_runner(tmp_path / 'new', runner=AMP, seed=5)
    runner.resume(elsewhere)
    assert_resumed(runner, run)
    target = tmp_path / 'out.pth'
    assert command(capsys, 'convert', elsewhere, target)[0] == 0
    verify_checkpoint(str(target))


def test_damage_elsewhere_is_found(run, elsewhere, capsys):
    import fsspec
    assert command(capsys, 'convert', run.file, elsewhere)[0] == 0
    files = fsspec.filesystem('memory')
    path = '/runs/iter_4.dcp/__0_0.distcp'
    files.pipe_file(path, with_another_value(files.cat_file(path)))
    with pytest.raises(IntegrityError, match='__0_0.distcp'):
        verify_checkpoint(elsewhere)
    files.rm_file(path)
    with pytest.raises(IntegrityError, match='__0_0.distcp is missing'):
        verify_checkpoint(elsewhere)
