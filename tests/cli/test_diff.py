"""``mmcv-ckpt diff``: what has changed between two checkpoints."""
import json
import math
import os

import pytest
import torch
from checkpoint_files import Payload, torch_written
from folders import NEW_TORCH
from toy import ToyModel

from mmcv_ckpt_hooks import comparison, save_checkpoint
from mmcv_ckpt_hooks.cli import main


@pytest.fixture
def diff(capsys):
    """Run the command; exit code, and its JSON object or what it said."""

    def run(*arguments):
        capsys.readouterr()
        code = main(['diff', *map(str, arguments)])
        out, err = capsys.readouterr()
        return code, json.loads(out) if '--json' in arguments else out, err

    return run


@pytest.fixture
def pair(tmp_path):
    """Write two checkpoints of given fields."""

    def write(first, second):
        paths = tmp_path / 'a.pth', tmp_path / 'b.pth'
        for path, content in zip(paths, (first, second)):
            path.write_bytes(torch_written(content))
        return paths

    return write


def state(**tensors):
    return dict(state_dict={
        name.replace('__', '.'): tensor
        for name, tensor in tensors.items()
    })


def test_of_two_steps_the_module_that_changed_most_is_told(run_dir, diff):
    code, found, _ = diff(run_dir / 'iter_2.pth', run_dir / 'iter_8.pth',
                          '--depth=1', '--json')
    assert code == 0 and found['same'] is False
    assert found['steps'] == [dict(iter=2, epoch=0), dict(iter=8, epoch=1)]
    first, second = [
        torch.load(str(run_dir / name), weights_only=False)['state_dict']
        for name in ('iter_2.pth', 'iter_8.pth')
    ]
    field = found['fields']['state_dict']
    assert list(found['fields']) == ['state_dict']
    for name, change in field['tensors'].items():
        before, after = first[name].double(), second[name].double()
        expected = float((after - before).norm() / before.norm())
        if before.norm():
            assert change == pytest.approx(expected)
    modules = {one['name']: one for one in field['modules']}
    assert set(modules) == {'first', 'norm', 'last'}
    assert modules['first']['tensors'] == 2
    assert modules['first']['largest'] == max(field['tensors'][name]
                                              for name in ('first.weight',
                                                           'first.bias'))
    assert modules['first']['in'] in ('first.weight', 'first.bias')


def test_what_people_get(run_dir, diff):
    code, out, _ = diff(run_dir / 'iter_2.pth', run_dir / 'iter_8.pth')
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == f'A {run_dir}/iter_2.pth (iter 2, epoch 0)'
    assert lines[1] == f'B {run_dir}/iter_8.pth (iter 8, epoch 1)'
    assert lines[3] == ('state_dict: 9 tensors in both, 9 changed; 0 only in '
                        'A, 0 only in B; 0 of another type or shape')
    assert lines[5].split() == [
        'module', 'tensors', 'changed', 'largest', 'change', 'in'
    ]
    assert lines[6].startswith('first ')


def test_the_same_is_the_same(run_dir, diff):
    one, other = run_dir / 'iter_4.pth', run_dir / 'best_mIoU_iter_4.pth'
    code, out, _ = diff(one, other, '--exit-code', '--optimizer')
    assert code == 0
    assert 'state_dict: 9 tensors, all the same' in out
    assert 'optimizer: 18 tensors, all the same' in out


def test_the_exit_code_tells_if_it_is_asked_to(run_dir, diff):
    pair = run_dir / 'iter_2.pth', run_dir / 'iter_4.pth'
    assert diff(*pair)[0] == 0
    assert diff(*pair, '--exit-code')[0] == 1


def test_names_types_and_shapes_are_told(pair, diff):
    paths = pair(
        state(a__w=torch.ones(2, 3), a__b=torch.ones(2), old=torch.ones(())),
        state(
            a__w=torch.ones(3, 2),
            a__b=torch.ones(2).half(),
            new=torch.ones(1)))
    code, found, _ = diff(*paths, '--json')
    field = found['fields']['state_dict']
    assert field['only_first'] == {'old': 'float32 scalar'}
    assert field['only_second'] == {'new': 'float32 1'}
    assert field['reshaped'] == {
        'a.w': ['float32 2x3', 'float32 3x2'],
        'a.b': ['float32 2', 'float16 2']
    }
    assert field['modules'] == [] and found['same'] is False
    code, out, _ = diff(*paths)
    assert 'only in A: old (float32 scalar)' in out
    assert 'A, B: a.w (float32 2x3, float32 3x2)' in out


@pytest.mark.parametrize(
    'one, other, change',
    [
        (torch.zeros(2), torch.ones(2), 'from zero'),
        (torch.zeros(2), torch.zeros(2), 0),
        (torch.ones(2), torch.tensor([1, math.nan]), 'not finite'),
        (torch.tensor([1, math.nan]), torch.tensor([1, math.nan]), 0),
        (torch.tensor([1, math.inf]), torch.tensor([2, math.inf
                                                    ]), 'not finite'),
        (torch.tensor([3, 4]), torch.tensor([3, 9]), 1.),
        (torch.tensor(True), torch.tensor(False), 1.),
        (torch.tensor([3 + 4j]), torch.tensor([3 + 9j]), 1.),
        (torch.tensor([3., 4.]).bfloat16(), torch.tensor([3., 9.
                                                          ]).bfloat16(), 1.),
        (torch.empty(0), torch.empty(0), 0),
        # what float32 would not see, and what float64 would not
        (torch.tensor([2**24]), torch.tensor([2**24 + 1]), 2.**-24),
        (torch.tensor([2**53]), torch.tensor([2**53 + 1]), 2.**-53),
        (torch.tensor([-0., 1.]), torch.tensor([0., 1.]), 0),
    ],
    ids=str)
def test_every_value_can_be_compared(pair, diff, one, other, change):
    paths = pair(state(m__x=one), state(m__x=other))
    _, found, _ = diff(*paths, '--json')
    assert found['fields']['state_dict']['tensors'] == {'m.x': change}
    assert found['same'] is (change == 0)


def test_a_large_tensor_is_compared_in_parts(pair, diff, monkeypatch):
    monkeypatch.setattr(comparison, '_BLOCK', 3)
    paths = pair(
        state(m__x=torch.arange(10.).reshape(2, 5)),
        state(m__x=torch.arange(10.).reshape(2, 5) + 1))
    _, found, _ = diff(*paths, '--json')
    change = found['fields']['state_dict']['tensors']['m.x']
    assert change == pytest.approx(math.sqrt(10 / 285))


def test_what_is_not_finite_is_the_largest_change(pair, diff):
    paths = pair(
        state(m__x=torch.ones(1), m__y=torch.ones(1)),
        state(m__x=torch.tensor([math.nan]), m__y=torch.tensor([5.])))
    _, found, _ = diff(*paths, '--json')
    module, = found['fields']['state_dict']['modules']
    assert (module['in'], module['largest']) == ('m.x', 'not finite')


def test_a_counter_is_no_weight(pair, diff):
    paths = pair(
        state(m__w=torch.tensor([4.]), m__n=torch.tensor(10)),
        state(m__w=torch.tensor([5.]), m__n=torch.tensor(20)))
    _, found, _ = diff(*paths, '--json')
    module, = found['fields']['state_dict']['modules']
    assert (module['in'], module['largest']) == ('m.w', .25)
    assert module['changed'] == 2


def test_weights_without_fields_are_weights(pair, diff):
    paths = pair({'w': torch.ones(1)}, state(w=torch.ones(1)))
    assert diff(*paths, '--exit-code')[0] == 0


def test_depth_makes_modules(pair, diff):
    tensors = dict(a__b__c__w=torch.ones(1), a__b__d__w=torch.ones(1))
    paths = pair(state(**tensors), state(**tensors))
    for depth, names in ((1, ['a']), (2, ['a.b']), (3, ['a.b.c', 'a.b.d']),
                         (9, ['a.b.c', 'a.b.d'])):
        _, found, _ = diff(*paths, f'--depth={depth}', '--json')
        modules = found['fields']['state_dict']['modules']
        assert [one['name'] for one in modules] == names
    code, _, err = diff(*paths, '--depth=0')
    assert code == 2 and '--depth=0: it must be at least 1' in err


def test_what_is_damaged_is_not_compared(run_dir, diff):
    path = run_dir / 'iter_8.pth'
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    code, found, err = diff(run_dir / 'iter_2.pth', path, '--json')
    assert code == 1 and found['error'] == 'CorruptError'
    assert found['same'] is None and 'iter_8.pth' in err


def test_nothing_in_a_checkpoint_is_executed(tmp_path, run_dir, diff):
    trick = tmp_path / 'trick.pth'
    trick.write_bytes(
        torch_written(dict(a=Payload(open, str(tmp_path / 'mark'), 'w'))))
    assert diff(run_dir / 'iter_2.pth', trick)[0] == 3
    assert not (tmp_path / 'mark').exists()


def test_a_field_without_an_end_is_refused(pair, diff):
    endless = []
    endless.append(endless)
    paths = pair(dict(state_dict=endless, meta={}), state(w=torch.ones(1)))
    code, _, err = diff(*paths)
    assert code == 3 and 'contain' in err


def test_a_directory_is_no_checkpoint(run_dir, diff):
    code, _, err = diff(run_dir, run_dir / 'iter_2.pth')
    assert code == 2 and f'"mmcv-ckpt ls {run_dir}"' in err


@NEW_TORCH
@pytest.mark.filterwarnings('ignore:torch.distributed is')
def test_a_folder_is_compared_with_a_file(run_dir, diff, capsys):
    path, folder = run_dir / 'iter_4.pth', run_dir / 'again.dcp'
    assert main(['convert', str(path), str(folder)]) == 0
    code, out, _ = diff(path, f'{folder}/', '--optimizer', '--exit-code')
    assert code == 0, out
    code, found, _ = diff(run_dir / 'iter_2.pth', folder, '--json')
    assert code == 0 and found['same'] is False


@NEW_TORCH
@pytest.mark.filterwarnings('ignore:torch.distributed is')
@pytest.mark.parametrize('arguments, said', [
    (['diff', '.', '../iter_4.pth'], 'all the same'),
    (['inspect', '.'], 'meta.iter: 4'),
    (['verify', '.'], 'ok '),
    (['publish', '.', '../../zoo/toy.pth'], 'tensors of again.dcp'),
    (['convert', '.', '../again.safetensors'], 'again.safetensors: '),
])
def test_the_current_directory_may_be_a_checkpoint(run_dir, monkeypatch,
                                                   capsys, arguments, said):
    path, folder = run_dir / 'iter_4.pth', run_dir / 'again.dcp'
    assert main(['convert', str(path), str(folder)]) == 0
    before = sorted(os.listdir(folder))
    monkeypatch.chdir(folder)
    assert main(arguments) == 0
    assert said in capsys.readouterr().out
    # a note of verify is beside the checkpoint, not in it
    assert sorted(os.listdir(folder)) == before


@NEW_TORCH
@pytest.mark.filterwarnings('ignore:torch.distributed is')
def test_a_point_behind_a_link_is_what_that_leads_to(run_dir, tmp_path,
                                                     capsys):
    folder, link = run_dir / 'again.dcp', tmp_path / 'link'
    assert main(['convert', str(run_dir / 'iter_4.pth'), str(folder)]) == 0
    os.symlink(str(folder), str(link))
    for given in (link, f'{link}/.'):
        target = tmp_path / 'toy.pth'
        assert main(['publish', str(given), str(target)]) == 0
        assert 'tensors of again.dcp' in capsys.readouterr().out


@pytest.mark.parametrize('arguments, said', [
    (['ls', '..'], 'would take iter_8.pth'),
    (['verify', '..'], 'run/iter_8.pth: '),
    (['inspect', '../iter_4.pth'], 'meta.iter: 4'),
    (['pull', '..', '../copy'], 'iter_8.pth'),
])
def test_two_points_behind_a_link_are_above_what_that_leads_to(
        run_dir, tmp_path, capsys, arguments, said):
    command, *paths = arguments
    (run_dir / 'inner').mkdir()
    (tmp_path / 'other').mkdir()
    os.symlink(str(run_dir / 'inner'), str(tmp_path / 'other' / 'link'))
    link = tmp_path / 'other' / 'link'
    assert main([command, *(f'{link}/{path}' for path in paths)]) == 0
    assert said in capsys.readouterr().out
    assert os.listdir(str(tmp_path / 'other')) == ['link']
    assert (run_dir / 'copy').exists() == (command == 'pull')


def test_an_ema_is_a_difference_of_names(tmp_path, diff):
    model = ToyModel()
    save_checkpoint(model, str(tmp_path / 'plain.pth'))
    model.register_buffer('ema_first_weight', model.first.weight.detach() + 1)
    save_checkpoint(model, str(tmp_path / 'ema.pth'))
    _, found, _ = diff(tmp_path / 'plain.pth', tmp_path / 'ema.pth', '--json')
    field = found['fields']['state_dict']
    assert field['only_second'] == {'ema_first_weight': 'float32 4x4'}
