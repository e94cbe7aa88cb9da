"""Who reads checkpoints today reads ours: torch, mmcv, mmsegmentation."""
import importlib.util
import pickle
import time

import mmcv
import pytest
import torch
from mmcv.runner import load_checkpoint
from mmseg_tool import BASE_CONFIG, find_tool

init_segmentor = pytest.importorskip('mmseg.apis').init_segmentor
build_segmentor = pytest.importorskip('mmseg.models').build_segmentor

pytestmark = pytest.mark.mmseg
RUNS = ('mmcv_alone', 'stock_runner', 'amp_runner', 'epoch_runner')

OURS = RUNS[1:]
each_run = pytest.mark.parametrize('name', OURS)
refused_by_default = pytest.mark.skipif(
    torch.__version__.startswith(
        ('1.', '2.0', '2.1.', '2.2', '2.3', '2.4', '2.5')),
    reason='torch.load is restricted by default since 2.6')


def config():
    return mmcv.Config.fromfile(str(BASE_CONFIG), import_custom_modules=False)


def build_model():
    return build_segmentor(config().model)


def files(run):
    """Its checkpoints, best and latest included."""
    paths = sorted(run.work_dir.glob('*.pth'))
    assert {'latest.pth'} < {path.name for path in paths}
    assert any(path.name.startswith('best_') for path in paths)
    return paths


@each_run
def test_torch_loads_every_file_by_default(runs, name):
    for path in files(runs[name]):
        checkpoint = torch.load(path)
        assert list(checkpoint) == ['meta', 'state_dict', 'optimizer',
                                    'resume_state']  # yapf: disable
        restricted = torch.load(path, weights_only=True)
        assert restricted['meta'] == checkpoint['meta']


@each_run
def test_mmcv_loads_every_file(runs, name):
    for path in files(runs[name]):
        model = build_model()
        checkpoint = load_checkpoint(
            model, str(path), map_location='cpu', strict=True)
        for key, value in model.state_dict().items():
            assert torch.equal(value, checkpoint['state_dict'][key]), key


@each_run
def test_mmseg_builds_a_segmentor_from_every_file(runs, name):
    for path in files(runs[name]):
        model = init_segmentor(config(), str(path), device='cpu')
        assert model.CLASSES == ('background', 'disk')
        assert model.PALETTE == [[0, 0, 0], [255, 0, 0]]


def test_same_keys_and_shapes_as_stock(runs):
    # of the last step before an evaluation, which changes what stock draws
    ours = torch.load(runs['stock_runner'].work_dir / 'iter_4.pth')
    stock = torch.load(
        runs['mmcv_alone'].work_dir / 'iter_4.pth', weights_only=False)
    assert set(stock) <= set(ours)
    assert list(ours['state_dict']) == list(stock['state_dict'])
    for key, value in stock['state_dict'].items():
        # the runs have one seed: they see the same data and end alike
        assert torch.equal(ours['state_dict'][key], value), key
    assert set(stock['meta']) <= set(ours['meta'])


@refused_by_default
def test_alone_the_best_checkpoint_cannot_be_loaded(runs):
    """Its score is a numpy scalar: the best model of a run, out of reach."""
    path = next(runs['mmcv_alone'].work_dir.glob('best_mIoU_*.pth'))
    with pytest.raises(pickle.UnpicklingError, match='numpy'):
        torch.load(path)
    with pytest.raises(pickle.UnpicklingError, match='numpy'):
        load_checkpoint(build_model(), str(path), map_location='cpu')
    # our best ones: test_torch_loads_every_file_by_default


def test_alone_files_miss_the_last_iteration(runs):
    """Stock's iter_12.pth says 11: a resume repeats one step."""
    alone = runs['mmcv_alone'].work_dir / 'iter_12.pth'
    meta = torch.load(alone, weights_only=False)['meta']
    assert meta['iter'] == 11
    ours = runs['stock_runner'].work_dir / 'iter_12.pth'
    assert torch.load(ours)['meta']['iter'] == 12


def test_publish_model_of_mmseg(runs, tmp_path):
    """tools/publish_model.py, unmodified, takes our best checkpoint."""
    run = runs['amp_runner']
    path = run.work_dir / run.catalog['best']['mIoU']['name']
    spec = importlib.util.spec_from_file_location(
        'publish_model', find_tool('publish_model.py'))
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    tool.process_checkpoint(str(path), str(tmp_path / 'published.pth'))
    published = renamed_by_the_tool(tmp_path)
    model = build_model()
    checkpoint = load_checkpoint(
        model, str(published), map_location='cpu', strict=True)
    assert 'optimizer' not in checkpoint


def renamed_by_the_tool(directory, timeout_secs=60):
    """The tool leaves the renaming to a process that it does not wait for."""
    deadline = time.monotonic() + timeout_secs
    while time.monotonic() < deadline:
        found = list(directory.glob('published-*.pth'))
        if found and not (directory / 'published.pth').exists():
            return found[0]
        time.sleep(0.01)
    raise AssertionError(f'not renamed: {list(directory.iterdir())}')
