"""Every example under ``configs/`` trains, at a small size, and goes on.

With the unmodified tools of mmsegmentation, mmclassification and mmdetection;
what is smaller here is the model, the data and the number of iterations.
"""
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from doc_blocks import blocks_of, logged
from doc_output import missing_line
from stock import scales_on_a_cpu

import mmcv_ckpt_hooks
from mmcv_ckpt_hooks import verify_checkpoint

PACKAGE = Path(mmcv_ckpt_hooks.__file__).parent.parent
CONFIGS = PACKAGE / 'configs'
STUBS = Path(__file__).parent / 'stubs'
SIZE = 64

pytestmark = [pytest.mark.mmseg, pytest.mark.slow]

_SEGMENTATION = '''
norm = dict(mean=[60.] * 3, std=[40.] * 3, to_rgb=True)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomFlip', prob=0.5),
    dict(type='Normalize', **norm),
    dict(type='DefaultFormatBundle'),
    dict(type='Collect', keys=['img', 'gt_semantic_seg'])]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='MultiScaleFlipAug', img_scale=(64, 64), flip=False,
         transforms=[
             dict(type='Normalize', **norm),
             dict(type='ImageToTensor', keys=['img']),
             dict(type='Collect', keys=['img'])])]
tiles = dict(
    _delete_=True, type='CustomDataset', data_root='.', img_suffix='.png',
    img_dir='images/square', ann_dir='masks',
    classes=('background', 'square'), palette=[[0, 0, 0], [255, 0, 0]])
data = dict(
    samples_per_gpu=2, workers_per_gpu=1,
    train=dict(pipeline=train_pipeline, **tiles),
    val=dict(pipeline=test_pipeline, **tiles),
    test=dict(pipeline=test_pipeline, **tiles))
cudnn_benchmark = False
lr_config = dict(warmup_iters=2)
log_config = dict(interval=1)
checkpoint_config = dict(interval=2)
evaluation = dict(interval=2)
runner = dict(max_iters={steps})
'''
_HEADS = '''
    decode_head=dict(in_channels={channels}, channels=8, num_classes=2),
    auxiliary_head=dict(in_channels={third}, channels=8, num_classes=2),
    test_cfg=dict(_delete_=True, mode='whole'))
'''

SMALL = dict(
    upernet_convnext_tiny='''
model = dict(
    backbone=dict(
        arch=dict(_delete_=True, depths=[1] * 4, channels=[8, 8, 16, 16])),'''
    + _HEADS.format(channels=[8, 8, 16, 16], third=16) + _SEGMENTATION + '''
custom_imports = dict(
    imports=['mmcls.models', 'mmcv_ckpt_hooks', 'half_on_a_cpu'])
''',
    upernet_swin_tiny='''
model = dict(
    backbone=dict(embed_dims=8, depths=[1] * 4, num_heads=[1, 2, 2, 4]),''' +
    _HEADS.format(channels=[8, 16, 32, 64], third=32) + _SEGMENTATION,
    upernet_beit_base_apex='''
model = dict(
    backbone=dict(
        img_size=(64, 64), embed_dims=16, num_layers=4, num_heads=2,
        out_indices=(0, 1, 2, 3)),
    neck=dict(embed_dim=16),''' + _HEADS.format(channels=[16] * 4, third=16) +
    _SEGMENTATION + '''
optimizer = dict(paramwise_cfg=dict(num_layers=4))
''',
    fcn_r50='''
model = dict(
    backbone=dict(depth=18, base_channels=8, stem_channels=8),
    decode_head=dict(in_channels=64, channels=8, num_classes=2))
''' + _SEGMENTATION,
    resnet18_classifier='''
model = dict(
    backbone=dict(base_channels=8, stem_channels=8),
    head=dict(num_classes=2, in_channels=64, topk=(1, )))
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomFlip', flip_prob=0.5),
    dict(type='Normalize', mean=[60.] * 3, std=[40.] * 3, to_rgb=True),
    dict(type='ImageToTensor', keys=['img']),
    dict(type='ToTensor', keys=['gt_label']),
    dict(type='Collect', keys=['img', 'gt_label'])]
test_pipeline = [one for one in train_pipeline
                 if one['type'] not in ('RandomFlip', 'ToTensor', 'Collect')]
test_pipeline += [dict(type='Collect', keys=['img'])]
data = dict(
    samples_per_gpu=4, workers_per_gpu=1,
    train=dict(data_prefix='images', pipeline=train_pipeline),
    val=dict(data_prefix='images', pipeline=test_pipeline),
    test=dict(data_prefix='images', pipeline=test_pipeline))
evaluation = dict(
    metric_options=dict(topk=(1, )), save_best='accuracy_top-1')
log_config = dict(interval=1)
runner = dict(max_epochs={steps})
''',
    retinanet_r50_detector='''
model = dict(
    backbone=dict(depth=18, base_channels=8, stem_channels=8, init_cfg=None),
    neck=dict(in_channels=[8, 16, 32, 64], out_channels=8),
    bbox_head=dict(
        num_classes=1, in_channels=8, feat_channels=8, stacked_convs=1),
    test_cfg=dict(score_thr=0.))
norm = dict(mean=[60.] * 3, std=[40.] * 3, to_rgb=True)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='RandomFlip', flip_ratio=0.5),
    dict(type='Normalize', **norm),
    dict(type='DefaultFormatBundle'),
    dict(type='Collect', keys=['img', 'gt_bboxes', 'gt_labels'],
         meta_keys=('filename', 'ori_filename', 'ori_shape', 'img_shape',
                    'pad_shape', 'scale_factor', 'flip', 'flip_direction',
                    'img_norm_cfg'))]
train_pipeline[2:2] = [
    dict(type='Resize', img_scale=(64, 64), keep_ratio=True)]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='MultiScaleFlipAug', img_scale=(64, 64), flip=False,
         transforms=[
             dict(type='Resize', keep_ratio=True),
             dict(type='RandomFlip'),
             dict(type='Normalize', **norm),
             dict(type='ImageToTensor', keys=['img']),
             dict(type='Collect', keys=['img'])])]
coco = dict(
    classes=('square', ), data_root='', ann_file='boxes.json',
    img_prefix='images/square')
data = dict(
    samples_per_gpu=2, workers_per_gpu=1,
    train=dict(pipeline=train_pipeline, **coco),
    val=dict(pipeline=test_pipeline, **coco),
    test=dict(pipeline=test_pipeline, **coco))
log_config = dict(interval=1)
runner = dict(max_epochs={steps})
''')

TOOLS = dict(resnet18_classifier='mmcls', retinanet_r50_detector='mmdet')
#: fragments, and what the demo trains: by whom they are run
ELSEWHERE = dict(
    checkpoints_mirror='test_mirror.py',
    checkpoints_s3='test_s3_run.py',
    checkpoints_sharded='test_folders.py',
    nuclei_fcn='ready_configs/test_ready_configs.py',
    nuclei_fcn_mmseg='mmseg/test_mmseg_exact.py')


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """Bright squares: as masks, as boxes, and in folders by class."""
    import cv2
    root = tmp_path_factory.mktemp('data')
    generator = np.random.default_rng(0)
    images, boxes = [], []
    for folder in ('images/square', 'images/empty', 'masks'):
        (root / folder).mkdir(parents=True)
    for index in range(6):
        x, y = (int(one) for one in generator.integers(4, 24, 2))
        for name, bright in (('square', 120), ('empty', 0)):
            image = generator.normal(40, 10, (SIZE, SIZE, 3))
            image[y:y + 32, x:x + 32] += bright
            path = root / 'images' / name / f'{index}.png'
            assert cv2.imwrite(str(path), image.clip(0, 255).astype(np.uint8))
        mask = np.zeros((SIZE, SIZE), np.uint8)
        mask[y:y + 32, x:x + 32] = 1
        assert cv2.imwrite(str(root / 'masks' / f'{index}.png'), mask)
        images.append(
            dict(id=index, file_name=f'{index}.png', width=SIZE, height=SIZE))
        boxes.append(
            dict(
                id=index + 1,
                image_id=index,
                category_id=1,
                bbox=[x, y, 32, 32],
                area=1024,
                iscrowd=0))
    (root / 'boxes.json').write_text(
        json.dumps(
            dict(
                images=images,
                annotations=boxes,
                categories=[dict(id=1, name='square')])))
    return root


def package_of(config):
    """The folder of the package that the config is for."""
    package = TOOLS.get(config, 'mmseg')
    found = importlib.util.find_spec(package)
    if found is None:
        pytest.skip(f'{package} is not installed')
    return Path(found.origin).parent / '.mim'


def run_example(data, config, steps, more='', work=None):
    """Train an example at a small size; return what the tool said."""
    small = SMALL[config].replace('{steps}', str(steps)) + more
    path = data / f'{work or config}_{steps}.py'
    path.write_text(f'_base_ = [{str(CONFIGS / config) + ".py"!r}]\n{small}')
    tools = package_of(config) / 'tools'
    return run_tool(tools, path, data / (work or config), data)


def run_tool(tools, config, work, data, *options, gpus=''):
    """Train with the package's own tool; return what it said.

    ``pytest -s`` shows it.
    """
    done = subprocess.run(
        [
            sys.executable,
            str(tools / 'train.py'),
            str(config), '--work-dir',
            str(work), '--seed', '0', *options
        ],
        env={
            **os.environ, 'PYTHONPATH': f'{PACKAGE}:{STUBS}',
            'CUDA_VISIBLE_DEVICES': gpus,
            'OMP_NUM_THREADS': '1'
        },
        cwd=str(data),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        universal_newlines=True,
        timeout=300)
    print(done.stdout)
    assert done.returncode == 0, done.stdout[-6000:]
    return done.stdout


def trains_and_goes_on(work, by_epoch, run):
    """Train, go on; return what the second run said, and its last file."""
    first, last, name = (1, 2, 'epoch_{}.pth') if by_epoch else \
        (4, 6, 'iter_{}.pth')
    began, said = run(first), run(last)
    assert f'Saved checkpoint {name.format(first)}' in began
    assert f'Resumed from {work / name.format(first)}' in said
    is_as_shown(work, began + said)
    path = work / name.format(last)
    verify_checkpoint(str(path))
    return said, torch.load(str(path))


def is_as_shown(work, said):
    """Hold a run to its log in the docs, where it is one of those."""
    for shown in logged('docs/family-logs.md', __file__):
        if f'work_dirs/{work.name}/' in shown:
            assert missing_line(shown,
                                said.replace(f'{work.parent}/',
                                             'work_dirs/')) is None


def restored_line(said):
    line, = [line for line in said.splitlines() if 'Restored from' in line]
    return line


@pytest.mark.parametrize('config', [
    pytest.param(
        config,
        marks=scales_on_a_cpu if config == 'upernet_convnext_tiny' else ())
    for config in sorted(SMALL)
])
def test_an_example_trains_and_goes_on(data, config):
    said, saved = trains_and_goes_on(
        data / config, config in TOOLS,
        lambda steps: run_example(data, config, steps))
    restored = restored_line(said)
    assert 'Not restored' not in restored
    assert saved['resume_state']['world_size'] == 1
    assert list((data / config).glob('best_*.pth'))
    if config == 'upernet_beit_base_apex':
        assert 'Mixed precision: torch autocast on cpu' in said
    # mmcv's own hook, which scales as on a GPU
    scales = config == 'upernet_convnext_tiny'
    assert ('loss scale' in restored) == ('amp' in saved) == scales
    if scales:
        assert saved['amp']['scale'] > 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU')
def test_the_half_precision_of_convnext_on_a_gpu(data):
    name = 'upernet_convnext_tiny'
    small = SMALL[name].replace(", 'half_on_a_cpu'", '')
    base = str(CONFIGS / f'{name}.py')
    work = data / 'on_a_gpu'

    def run(steps):
        config = data / f'on_a_gpu_{steps}.py'
        config.write_text(f'_base_ = [{base!r}]\n' +
                          small.replace('{steps}', str(steps)))
        return run_tool(
            package_of(name) / 'tools', config, work, data, gpus='0')

    said, saved = trains_and_goes_on(work, False, run)
    assert 'loss scale' in restored_line(said)
    assert 'Not restored' not in restored_line(said)
    assert saved['amp']['scale'] > 0


def test_a_detector_trains_with_the_hook_of_the_family(data):
    """As the detection configs of Swin, ConvNeXt and UniFormer have it."""
    hook = '''
# do not use mmdet version fp16
fp16 = None
optimizer_config = dict(
    _delete_=True, type='DistOptimizerHook', update_interval=1,
    grad_clip=None, coalesce=True, bucket_size_mb=-1, use_fp16=True)
# of 1x1 features torch's gradient in bfloat16 was NaN once, on a CPU
model['neck'].update(num_outs=3)
model['bbox_head'].update(anchor_generator=dict(strides=[8, 16, 32]))
'''
    name = 'retinanet_r50_detector'
    said, _ = trains_and_goes_on(
        data / 'family', True,
        lambda steps: run_example(data, name, steps, hook, work='family'))
    assert 'Not restored' not in restored_line(said)
    assert 'Mixed precision: torch autocast on cpu' in said


def test_a_config_of_mmsegmentation_inherits_the_fragment(data):
    """As docs/families.md says it: copied beside, by a relative path."""
    copy, config = [
        one for one in blocks_of('docs/families.md')
        if 'mmseg repo' in one.scenes
    ]
    mmseg = package_of('fcn_r50')
    repo = data / 'repo'
    for folder in ('_base_', 'fcn'):
        shutil.copytree(
            str(mmseg / 'configs' / folder), str(repo / 'configs' / folder))
    subprocess.run(
        ['sh', '-ec', f'alias python={sys.executable}\n{copy.text}'],
        cwd=str(repo),
        env={
            **os.environ, 'PYTHONPATH': str(PACKAGE)
        },
        check=True)
    small = '''
model = dict(
    pretrained=None,
    backbone=dict(depth=18, base_channels=8, stem_channels=8),
    decode_head=dict(in_channels=64, channels=8, num_classes=2),
    auxiliary_head=dict(in_channels=32, channels=8, num_classes=2))
''' + _SEGMENTATION

    def run(steps):
        path = repo / config.file
        path.write_text(config.text + small.replace('{steps}', str(steps)))
        return run_tool(mmseg / 'tools', path, data / 'inherited', data)

    said, _ = trains_and_goes_on(data / 'inherited', False, run)
    # its runner is mmcv's own
    assert 'IterBasedRunner begins anew' in restored_line(said)


def test_the_demos_tool_trains_its_config(tmp_path):
    if importlib.util.find_spec('stardist') is None:
        pytest.skip('the image is in the package stardist')

    def run(steps):
        return run_tool(PACKAGE / 'demo', CONFIGS / 'nuclei_fcn.py',
                        tmp_path / 'run', tmp_path, '--cfg-options',
                        f'runner.max_iters={steps}',
                        'checkpoint_config.interval=2',
                        'evaluation.interval=4')

    said, _ = trains_and_goes_on(tmp_path / 'run', False, run)
    assert 'Not restored' not in restored_line(said)


def test_every_log_of_the_page_is_of_an_example():
    shown = logged('docs/family-logs.md', __file__)
    assert len(shown) == len(SMALL) + 1
    for name in (*SMALL, 'family'):
        assert any(f'work_dirs/{name}/' in text for text in shown)


def test_every_example_is_run_by_a_test():
    assert {path.stem for path in CONFIGS.glob('*.py')} == \
        {*SMALL, *ELSEWHERE}
    for config, test in ELSEWHERE.items():
        text = (PACKAGE / 'tests' / test).read_text()
        assert f'{config}.py' in text or f"'{config}'" in text
