"""``mmcv-ckpt inspect``: what is in a file, told without loading it."""
import json
import os

import pytest
import torch
from checkpoint_files import Payload, torch_written

from mmcv_ckpt_hooks.cli import inside, main, plain_values


def inspected(capsys, path):
    assert main(['inspect', str(path), '--json']) == 0
    return json.loads(capsys.readouterr().out)


def written_to(path, tree):
    path.write_bytes(torch_written(tree))
    return path


def test_it_tells_what_loads(run_dir, capsys):
    path = run_dir / 'iter_4.pth'
    loaded = torch.load(path, weights_only=True)
    found = inspected(capsys, path)
    assert found['bytes'] == path.stat().st_size
    assert list(found['fields']) == list(loaded)
    for key in ('epoch', 'iter', 'time', 'hook_msgs'):
        assert found['meta'][key] == loaded['meta'][key]
    assert tuple(found['meta']['CLASSES']) == loaded['meta']['CLASSES']
    expected = {
        f'state_dict.{name}':
        (str(tensor.dtype)[len('torch.'):], list(tensor.shape),
         tensor.numel() * tensor.element_size())
        for name, tensor in loaded['state_dict'].items()
    }
    told = {
        one['name']: (one['dtype'], one['shape'], one['bytes'])
        for one in found['tensors']
    }
    assert expected.items() <= told.items()
    assert 'optimizer.state.0.exp_avg' in told
    assert not found['has_more_tensors']


def test_people_read_a_table(run_dir, capsys):
    assert main(['inspect', str(run_dir / 'iter_4.pth')]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f'{run_dir}/iter_4.pth: ')
    assert 'state_dict: OrderedDict of 9' in lines
    assert 'meta.iter: 4' in lines
    row, = [line for line in lines if 'state_dict.last.weight' in line]
    assert row.split() == [
        'state_dict.last.weight', 'float32', '2x4', '32', 'B'
    ]
    assert lines[-1].startswith('29 tensors, ')


def test_every_kind_of_value_is_told(tmp_path, capsys):
    shared = torch.ones(4, 4)
    tree = dict(
        meta=dict(
            text='a' * 1000,
            nan=float('nan'),
            huge=1 << 100,
            parts={1, 2},
            raw=b'abc',
            type=torch.float16,
            tensor=torch.ones(2, 3),
            size=torch.Size((1, 2))),
        state_dict=dict(
            a=shared,
            b=shared.t()[1:],
            c=torch.nn.Parameter(torch.ones((), dtype=torch.bfloat16)),
            d=torch.ones(3, dtype=torch.complex64)),
        epoch=3)
    found = inspected(capsys, written_to(tmp_path / 'a.pth', tree))
    assert found['meta'] == dict(
        text='a' * 1000,
        nan=None,
        huge='number of 101 bits',
        parts='set of 2',
        raw='bytes of 3',
        type='torch.float16',
        tensor='tensor of float32 2x3',
        size=[1, 2])
    assert found['fields']['epoch'] == '3'
    assert [tuple(one.values()) for one in found['tensors']] == [
        ('meta.tensor', 'float32', [2, 3], 24),
        ('state_dict.a', 'float32', [4, 4], 64),
        ('state_dict.b', 'float32', [3, 4], 48),
        ('state_dict.c', 'bfloat16', [], 2),
        ('state_dict.d', 'complex64', [3], 24),
    ]
    assert main(['inspect', str(tmp_path / 'a.pth')]) == 0
    assert f'meta.text: {"a" * 60}... (1000 characters)' in \
        capsys.readouterr().out


@pytest.mark.parametrize('tree', [[torch.ones(2)], torch.ones(2), {}, 'text'])
def test_a_file_need_not_be_of_a_run(tmp_path, capsys, tree):
    found = inspected(capsys, written_to(tmp_path / 'a.pth', tree))
    assert found['meta'] is None
    assert len(found['tensors']) == (not isinstance(tree, (dict, str)))


def test_the_values_are_not_read(run_dir, capsys):
    """A damaged weight is not seen: that is what verify is for."""
    path = run_dir / 'iter_4.pth'
    content = path.read_bytes()
    weight = torch.load(path, weights_only=True)['state_dict']['first.weight']
    start = content.index(weight.numpy().tobytes())
    with open(path, 'r+b') as file:
        file.seek(start)
        file.write(b'\xff')
    inspected(capsys, path)
    assert main(['verify', str(path)]) == 1


@pytest.mark.parametrize(
    'change', [
        lambda path: os.truncate(path, 100),
        lambda path: written_to(path, dict(a=Payload(os.mkdir, 'nowhere'))),
        lambda path: torch.save({}, path, _use_new_zipfile_serialization=False
                                ),
        lambda path: path.write_bytes(path.read_bytes().replace(
            b'archive/data/3', b'archive/data/x')),
    ],
    ids=['damaged', 'unsafe', 'old', 'without a record'])
def test_what_verify_refuses_is_refused_in_the_same_words(
        run_dir, capsys, change):
    path = run_dir / 'other' / 'iter_4.pth'
    path.parent.mkdir()
    path.write_bytes((run_dir / 'iter_4.pth').read_bytes())
    change(path)
    code = main(['verify', str(path), '--json'])
    outcome, = json.loads(capsys.readouterr().out)['checked']
    assert main(['inspect', str(path)]) == code != 0
    out, err = capsys.readouterr()
    assert not out
    assert err == f'mmcv-ckpt: {outcome["problem"]}\n'


def test_sizes_are_told_by_module(tmp_path, capsys):
    path = tmp_path / 'a.pth'
    weights = {
        'backbone.layer1.conv.weight': torch.zeros(4, 3),
        'backbone.layer2.conv.weight': torch.zeros(2),
        'head.weight': torch.zeros(5),
        'scale': torch.zeros(()),
    }
    torch.save(
        dict(state_dict=weights, optimizer=dict(state={0: torch.zeros(7)})),
        str(path))
    named = {
        one['name']: (one['tensors'], one['bytes'])
        for one in inspected(capsys, path)['modules']
    }
    assert named == {
        'state_dict.backbone': (2, 56),
        'state_dict.head': (1, 20),
        'state_dict': (1, 4),
        'optimizer': (1, 28)
    }
    assert main(['inspect', str(path), '--depth', '2']) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ['state_dict.backbone.layer1', '1', '48', 'B'] in rows
    assert main(['inspect', str(path), '--depth', '0']) == 2
    assert '--depth=0: it must be at least 1' in capsys.readouterr().err


def test_optimizer_amp_and_the_state_of_the_run_are_told(tmp_path, capsys):
    path = tmp_path / 'a.pth'
    groups = [
        dict(params=[0, 1], lr=.1, betas=(.9, .99), name='a', fused=None),
        dict(params=[2], lr=.01, betas=(.9, .99), name='b', fused=None)
    ]
    torch.save(
        dict(
            state_dict={},
            optimizer=dict(
                gan=dict(state={}, param_groups=groups), odd=3, empty={}),
            amp=dict(scale=65536., _growth_tracker=7),
            resume_state=dict(world_size=2)), str(path))
    states = inspected(capsys, path)['states']
    assert states['optimizer']['gan'][1] == dict(
        params=1, lr=.01, betas=[.9, .99], name='b', fused=None)
    assert states['amp'] == dict(scale=65536., _growth_tracker=7)
    assert main(['inspect', str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    for line in ('optimizer.gan: 2 groups of 3 tensors; lr 0.01 to 0.1, '
                 'betas [0.9, 0.99], name differs', 'amp.scale: 65536.0',
                 'resume_state.world_size: 2',
                 'optimizer.empty: 0 groups of 0 tensors'):
        assert line in lines, lines


@pytest.mark.parametrize('groups', [3, [4], {}, [dict(params=5)]])
def test_groups_that_are_none_are_told_without_an_error(
        tmp_path, capsys, groups):
    path = tmp_path / 'a.pth'
    torch.save(
        dict(state_dict={}, optimizer=dict(param_groups=groups)), str(path))
    assert main(['inspect', str(path)]) == 0
    assert 'optimizer: ' in capsys.readouterr().out


def test_wrong_usage_is_told(run_dir, capsys):
    assert main(['inspect', str(run_dir)]) == 2
    assert 'mmcv-ckpt ls' in capsys.readouterr().err
    assert main(['inspect', str(run_dir / 'none.pth')]) == 2
    assert main(['inspect', 's3://bucket/a.pth']) == 2
    capsys.readouterr()
    # the link that a run keeps
    assert inspected(capsys, run_dir / 'latest.pth')['meta']['iter'] == 8


def test_what_a_small_file_repeats_is_not_written_out(tmp_path, capsys,
                                                      monkeypatch):
    monkeypatch.setattr(plain_values, '_MAX_TEXT', 5000)
    monkeypatch.setattr(inside, '_MAX_TENSORS', 10)
    text, tensor = 'x' * 1000, torch.ones(1)
    tree = dict(meta=dict(own=[text] * 50), tensors=[tensor] * 50)
    tree['meta'].update({text + '1': {text: 1}})
    found = inspected(capsys, written_to(tmp_path / 'a.pth', tree))
    assert found['meta']['own'].count(text) == 4
    assert found['meta']['own'][-1] == 'text of 1000'
    assert found['meta'][text[:200]] == {text[:200]: 1}
    assert len(found['tensors']) == 10 and found['has_more_tensors']


def test_keys_are_told_in_full_and_apart(tmp_path, capsys):
    long = 'x' * 300
    tree = dict(
        meta={
            f'{long}1': 1,
            f'{long}2': 2,
            1: 'number',
            '1': 'text',
            '1 (2)': 'other'
        },
        state_dict={f'{long}{long}.{end}': torch.ones(1)
                    for end in 'ab'})
    tree.update({f'{long}1': 1, f'{long}2': 2})
    path = written_to(tmp_path / 'a.pth', tree)
    found = inspected(capsys, path)
    assert found['meta'] == {
        f'{long}1': 1,
        f'{long}2': 2,
        '1': 'number',
        '1 (2)': 'text',
        '1 (2) (2)': 'other'
    }
    assert list(found['fields'])[2:] == [f'{long}1', f'{long}2']
    assert [one['name'] for one in found['tensors']
            ] == [f'state_dict.{long}{long}.{end}' for end in 'ab']
    assert main(['inspect', str(path)]) == 0
    assert 'x' * 401 not in capsys.readouterr().out  # for people: less


def test_a_terminal_gets_no_escape_sequence(tmp_path, capsys):
    tree = dict(
        meta={'\x1b[2J': '\x1b[31m'}, state_dict={'\x1b': torch.ones(1)})
    assert main(['inspect', str(written_to(tmp_path / 'a.pth', tree))]) == 0
    assert '\x1b' not in capsys.readouterr().out
