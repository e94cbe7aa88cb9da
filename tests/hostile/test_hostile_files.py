"""Hostile files, tried at every door: refused or harmless, and no payload
runs."""
import functools
import io
import os
import pickle
import struct
import types

import numpy as np
import pytest
import torch
from checkpoint_files import Payload, rewritten, torch_written
from doors import AUTO, COMMANDS, DOORS, OUTSIDE, SCANNING, try_doors
from toy import ToyModel, make_loader, make_runner, train

from mmcv_ckpt_hooks.checkpoint_fields import check_fields
from mmcv_ckpt_hooks.errors import ResumeError

NAME = 'iter_4.pth'


@pytest.fixture(scope='module')
def good(tmp_path_factory):
    """Bytes of a checkpoint from which everything resumes."""
    directory = tmp_path_factory.mktemp('good')
    train(
        directory,
        runner=dict(type='IterBasedRunnerAmp', max_iters=4),
        hooks=[dict(type='DurableCheckpointHook', interval=4)])
    return (directory / NAME).read_bytes()


def tree_of(good):
    return torch.load(io.BytesIO(good), weights_only=False)


def outcomes(tmp_path, content):
    return try_doors(tmp_path, NAME, lambda at:
                     (at / NAME).write_bytes(content))


def test_the_good_file_passes_all_doors(tmp_path, good):
    """Else a refusal below would prove nothing."""
    assert set(outcomes(tmp_path, good).values()) == {'ok'}
    again = torch_written(tree_of(good))
    (tmp_path / 'again').mkdir()
    assert set(outcomes(tmp_path / 'again', again).values()) == {'ok'}


# -- pickles that run code --------------------------------------------------


class WithState:
    """Pickles as a call and a state for it."""

    def __init__(self, function, arguments, state):
        self.parts = (function, arguments, state)

    def __reduce__(self):
        return self.parts


class Items:
    """Hands its items to what a call returns."""

    def __init__(self, function, arguments, items):
        self.parts = (function, arguments, None, None, iter(items))

    def __reduce__(self):
        return self.parts


def touch(mark):
    """Every way to make a file, as something that is pickled."""
    return {
        'os.system': Payload(os.system, f'touch {mark}'),
        'os.mkdir': Payload(os.mkdir, mark),
        'eval': Payload(eval, f'open({mark!r}, "w")'),
        'exec': Payload(exec, f'open({mark!r}, "w")'),
        'open': Payload(open, mark, 'w'),
        'partial': functools.partial(os.mkdir, mark),
        'map': Payload(list, Payload(map, os.mkdir, [mark])),
        'torch.load': Payload(torch.load, mark),
        'torch.hub': Payload(torch.hub.load, os.path.dirname(mark), 'evil'),
        'torch.save': Payload(torch.save, 1, mark),
        'numpy.save': Payload(np.save, mark, 1),
        'numpy objects': np.array([Payload(os.mkdir, mark)], dtype=object),
        'numpy.memmap': Payload(np.memmap, mark, 'uint8', 'w+', 0, (9, )),
        'setstate': WithState(ToyModel, (), dict(x=Payload(os.mkdir, mark))),
        'a module': ToyModel(),
        'a namespace': types.SimpleNamespace(x=Payload(os.mkdir, mark)),
    }


WAYS = sorted(touch('mark'))


def in_meta(tree, payload):
    tree['meta']['hook_msgs'] = dict(best_score=payload)


def as_key(tree, payload):
    tree['meta'][1] = Items(dict, (), [((1, payload), 2)])


def in_optimizer(tree, payload):
    tree['optimizer']['param_groups'][0]['lr'] = payload


def in_metadata(tree, payload):
    tree['state_dict']._metadata[''] = dict(version=payload)


def as_weight(tree, payload):
    tree['state_dict']['first.weight'] = payload


def in_generators(tree, payload):
    tree['resume_state']['rng'][0]['python'] = payload


def after_the_rest(tree, payload):
    tree['other'] = [[(payload, )]]


PLACES = [
    in_meta, as_key, in_optimizer, in_metadata, as_weight, in_generators,
    after_the_rest
]


def assert_refused(found, errors, passing=OUTSIDE):
    """Only who looks no further than the zip file lets the file pass.

    A resume that looks for a checkpoint passes over what no run can use, and
    here finds no other.
    """
    passed_over = [
        one if one == 'UnsafeCheckpointError' else 'IntegrityError'
        for one in errors
    ]
    for door in DOORS:
        expected = errors
        if door in passing:
            expected = ['ok']
        elif door in COMMANDS:
            expected = ['CheckpointError']  # the exit code
        elif door in AUTO:
            expected = passed_over
        assert found[door] in expected, (door, found)


def assert_code_is_refused(found, *errors):
    """The zip file is whole; who looks into the pickle knows."""
    assert_refused(found, ['UnsafeCheckpointError', *errors])


@pytest.mark.parametrize('number, way', list(enumerate(WAYS)), ids=WAYS)
def test_no_payload_runs(tmp_path, good, number, way):
    mark = tmp_path / 'executed'
    tree = tree_of(good)
    # each way at another place, each place in another pickle protocol
    PLACES[number % len(PLACES)](tree, touch(str(mark))[way])
    content = torch_written(tree, pickle_protocol=2 + number % 4)
    assert_code_is_refused(outcomes(tmp_path, content))
    assert not mark.exists()


@pytest.mark.parametrize('place', PLACES, ids=lambda one: one.__name__)
@pytest.mark.parametrize('protocol', [2, 4, 5])
def test_no_payload_runs_wherever_it_stands(tmp_path, good, place, protocol):
    mark = tmp_path / 'executed'
    tree = tree_of(good)
    place(tree, Payload(os.mkdir, str(mark)))
    content = torch_written(tree, pickle_protocol=protocol)
    with pytest.raises(Exception):
        torch.load(io.BytesIO(content), weights_only=True)
    assert_code_is_refused(outcomes(tmp_path, content))
    assert not mark.exists()
    # it is a payload: whoever trusts the file runs it
    torch.load(io.BytesIO(content), weights_only=False)
    assert mark.exists()


def with_pickle(good, change):
    """The good file with another ``data.pkl``."""
    return rewritten(
        good, lambda name, data: change(data)
        if name.endswith('/data.pkl') else data)


def system(mark):
    """A call of os.system, in instructions."""
    return b'cos\nsystem\nX' + struct.pack('<I', len(f'touch {mark}')) + \
        f'touch {mark}'.encode() + b'\x85R'


#: Instructions that leave one more value on the stack.
INSTRUCTIONS = {
    'GLOBAL and REDUCE':
    system,
    'STACK_GLOBAL':
    lambda mark: b'\x8c\x02os\x8c\x06system\x93' + system(mark)[len(
        b'cos\nsystem\n'):],
    'INST':
    lambda mark: b"(S'touch " + mark.encode() + b"'\nios\nsystem\n",
    'OBJ':
    lambda mark: b'(cos\nsystem\n' + system(mark)[11:-2] + b'o',
    'NEWOBJ':
    lambda mark: b'csubprocess\nPopen\n](X\x05\x00\x00\x00touchX' + struct.
    pack('<I', len(mark)) + mark.encode() + b'e\x85\x81',
    'NEWOBJ_EX':
    lambda mark: b'csubprocess\nPopen\n](X\x05\x00\x00\x00touchX' + struct.
    pack('<I', len(mark)) + mark.encode() + b'e\x85}\x92',
    'EXT1':
    lambda mark: b'\x82\xf0',
    'EXT2':
    lambda mark: b'\x83\xf0\x00',
    'EXT4':
    lambda mark: b'\x84\xf0\x00\x00\x00',
    'BUILD of a module':
    lambda mark: b'ctorch.nn\nLinear\n)\x81}b',
    'BUILD with a state':
    lambda mark: b'ccollections\nOrderedDict\n)R}X\x0c\x00\x00\x00__setstate__'
    + system(mark) + b'sb',
    'a persistent id':
    lambda mark: b'(' + system(mark) + b'tQ',
    'a storage type':
    lambda mark:
    b'(X\x07\x00\x00\x00storagecos\nsystem\nX\x01\x00\x00\x000X\x03\x00\x00'
    b'\x00cpuK\x01tQ',
    'a persistent id as text':
    lambda mark: b'Pos.system\n',
    'the result of getattr':
    lambda mark:
    b'cbuiltins\ngetattr\n(cbuiltins\n__import__\nX\x02\x00\x00\x00os\x85R'
    b'X\x06\x00\x00\x00systemtRX\x04\x00\x00\x00true\x85R',
    'BYTEARRAY8':
    lambda mark: b'\x96' + struct.pack('<Q', 1 << 40),
    'NEXT_BUFFER':
    lambda mark: b'\x97',
}


@pytest.mark.parametrize('name', INSTRUCTIONS)
def test_no_instruction_runs_code(tmp_path, good, name):
    mark = tmp_path / 'executed'
    extra = INSTRUCTIONS[name](str(mark))
    # before the checkpoint itself, which stays as it is
    content = with_pickle(good,
                          lambda data: data[:2] + extra + b'0' + data[2:])
    assert_code_is_refused(outcomes(tmp_path, content), 'CorruptError')
    assert not mark.exists()


def test_what_follows_the_end_of_a_pickle_is_not_run(tmp_path, good):
    mark = tmp_path / 'executed'
    content = with_pickle(
        good, lambda data: data + b'\x80\x02' + system(str(mark)) + b'.')
    assert set(outcomes(tmp_path, content).values()) == {'ok'}
    assert not mark.exists()


def test_config_text_is_not_executed(tmp_path, good):
    """Trap 36: mmcv executes it on a resume with other GPUs."""
    mark = tmp_path / 'executed'
    tree = tree_of(good)
    tree['meta']['config'] = f'open({str(mark)!r}, "w")\ngpu_ids = [0, 1]\n'
    content = torch_written(tree)
    assert set(outcomes(tmp_path, content).values()) == {'ok'}
    for number, name in enumerate(('EpochBasedRunnerAmp', 'EpochBasedRunner')):
        work = tmp_path / f'by_epoch_{number}'
        work.mkdir()
        (work / NAME).write_bytes(content)
        hook = dict(type='DurableCheckpointHook', resume=str(work / NAME))
        runner = train(
            work, runner=dict(type=name, max_epochs=3), hooks=[hook])
        assert runner.iter >= 4
        if name.endswith('Amp'):
            other = make_runner(work, runner=dict(type=name, max_epochs=3))
            other.resume(str(work / NAME))
            assert other.iter == 4
    assert not mark.exists()


def test_old_formats_do_not_run_either(tmp_path, good):
    mark = tmp_path / 'executed'
    tree = tree_of(good)
    in_meta(tree, Payload(os.mkdir, str(mark)))
    content = torch_written(tree, _use_new_zipfile_serialization=False)
    found = outcomes(tmp_path, content)
    assert found.pop('mmcv-ckpt ls') == 'ok'
    assert {found.pop(door) for door in COMMANDS} == {'CheckpointError'}
    # with nothing else in the directory
    assert {found.pop(door) for door in AUTO} == {'IntegrityError'}
    assert set(found.values()) == {'UnverifiableError'}
    assert not mark.exists()


def test_a_torchscript_archive_is_not_run(tmp_path):
    scripted = torch.jit.script(torch.nn.Linear(2, 2))
    stream = io.BytesIO()
    torch.jit.save(scripted, stream)
    assert 'ok' not in {
        outcome
        for door, outcome in outcomes(tmp_path, stream.getvalue()).items()
        if door not in OUTSIDE
    }


# -- bombs ------------------------------------------------------------------


def doubled(leaf=()):
    """In memory sixty tuples; for who walks through it 2 ** 60."""
    for _ in range(60):
        leaf = (leaf, leaf)
    return leaf


ENDLESS = range(10**18)


def lists(depth):
    leaf = []
    for _ in range(depth):
        leaf = [leaf]
    return leaf


def set_message(value):
    return lambda tree: tree['meta'].update(hook_msgs=dict(own=value))


def set_group(value):
    return lambda tree: tree['optimizer']['param_groups'][0].update(own=value)


def set_state(value):
    return lambda tree: tree['optimizer']['state'].update({0: value})


def set_resume_state(**values):
    return lambda tree: tree['resume_state'].update(values)


def set_rank(**values):
    return lambda tree: tree['resume_state']['data']['ranks'][0].update(values)


def set_position(**values):
    return lambda tree: tree['resume_state']['data']['ranks'][0]['loaders'][
        0].update(values)


#: Changes of a checkpoint that loads, after which no run must start.
BOMBS = {
    'a message of shared tuples':
    set_message(doubled()),
    'a message of a range':
    set_message(ENDLESS),
    'a group of shared tuples':
    set_group(doubled()),
    'a group of a range':
    set_group(ENDLESS),
    'a state of shared tuples':
    set_state(doubled()),
    'groups that are a range':
    lambda tree: tree['optimizer'].update(param_groups=range(1)),
    'parameters that are a range':
    lambda tree: tree['optimizer']['param_groups'][0].update(
        params=range(10**12)),
    'steps of a thousand digits':
    lambda tree: tree['meta'].update(iter=10**1000),
    'steps that are a megabyte':
    lambda tree: tree['meta'].update(iter=1 << (8 << 20)),
    'negative steps':
    lambda tree: tree['meta'].update(iter=-1),
    'an epoch that is text':
    lambda tree: tree['meta'].update(epoch='many'),
    'an epoch that is none':
    lambda tree: tree['meta'].update(epoch=None),
    'weights that are a list':
    lambda tree: tree.update(state_dict=[1]),
    'weights by number':
    lambda tree: tree.update(state_dict={1: 2}),
    'an optimizer that is a list':
    lambda tree: tree.update(optimizer=[1]),
    'messages that are a list':
    lambda tree: tree['meta'].update(hook_msgs=[1]),
    'a best score that is text':
    lambda tree: tree['meta'].update(hook_msgs=dict(best_score='0.9')),
    'a best score of five thousand digits':
    lambda tree: tree['meta'].update(hook_msgs=dict(best_score=10**5000)),
    'best scores':
    lambda tree: tree['meta'].update(hook_msgs=dict(best_score=torch.ones(2))),
    'a best checkpoint of five thousand digits':
    lambda tree: tree['meta'].update(hook_msgs=dict(best_ckpt=10**5000)),
    'a last checkpoint of five thousand digits':
    lambda tree: tree['meta'].update(hook_msgs=dict(last_ckpt=10**5000)),
    'fp16 that is text':
    lambda tree: tree['meta'].update(fp16='on'),
    'a state that is text':
    lambda tree: tree.update(resume_state='x'),
    'generators of a range':
    lambda tree: tree['resume_state'].update(rng=ENDLESS),
    'a python generator of another size':
    lambda tree: tree['resume_state']['rng'][0].update(
        python=(3, (1, 2), None)),
    'a torch generator of another size':
    lambda tree: tree['resume_state']['rng'][0].update(torch=torch.ones(3)),
    'amp that is a number':
    lambda tree: tree.update(amp=5),
    'a loss scaler that is text':
    lambda tree: tree['meta'].update(fp16=dict(loss_scaler='on')),
    'a step of a thousand digits':
    set_state(dict(step=10**1000)),
    'a step that is a negative tensor':
    set_state(dict(step=torch.tensor(-1.))),
    'an optimizer by name that is a number':
    lambda tree: tree.update(optimizer=dict(generator=5)),
    'data that are a number':
    set_resume_state(data=5),
    'data without ranks':
    set_resume_state(data=dict(ranks=None)),
    'data of a rank that are a number':
    set_resume_state(data=dict(ranks=[5])),
    'loaders that are a number':
    set_rank(loaders=5),
    'a loader that is a number':
    set_rank(loaders=[5]),
    'a seed that is text':
    set_rank(seed='x'),
    'a seed of too many bits':
    set_rank(seed=1 << 64),
    'a position that lacks its length':
    set_rank(loaders=[dict(used=1, epoch=0, passes=0)]),
    'samplers that are numbers':
    set_position(samplers=[5]),
    'a sampler that shuffles by text':
    set_position(samplers=[dict(seed='x')]),
    'generators of samplers that are a number':
    set_position(generators=5),
    'more used batches than any run comes to':
    set_position(used=1 << 61),
    'a generator of a sampler of another size':
    set_position(generators=[torch.ones(3, dtype=torch.uint8)]),
    'a generator of a sampler that is no json':
    set_position(generators=['x']),
    'a generator of a sampler of another kind':
    set_position(generators=['{"kind": "os", "state": []}']),
    'a generator of a sampler beyond its words':
    set_position(generators=[
        '{"kind": "RandomState", "state": ["MT19937", '
        f'{[1] * 624}, 625, 0, 0.0]}}'
    ]),
    'a numpy generator of a sampler beyond its words':
    set_position(generators=[
        '{"kind": "Generator", "state": {"bit_generator": "MT19937", '
        f'"state": {{"key": {[1] * 624}, "pos": 625}}}}}}'
    ]),
    'a numpy generator of a sampler beyond its buffer':
    set_position(generators=[
        '{"kind": "Generator", "state": {"bit_generator": "Philox", "state": '
        '{"counter": [0, 0, 0, 0], "key": [0, 0]}, "buffer": [0, 0, 0, 0], '
        '"buffer_pos": -5, "has_uint32": 0, "uinteger": 0}}'
    ]),
    'a generator of a sampler in a thousand brackets':
    set_position(generators=['[' * 100000]),
    'gradients that are a number':
    set_resume_state(gradients=5),
    'a gradient that is a number':
    set_resume_state(gradients={'last.weight': 5}),
    'hooks that are a list':
    set_resume_state(hooks=[1]),
    'a lineage that is a number':
    set_resume_state(lineage=5),
    'ranks that are a tensor':
    set_resume_state(world_size=torch.ones(3)),
}
BOMBS.update({
    f'{key} of a loader that is {value!r:.9}':
    set_position(**{key: value})
    for key in ('epoch', 'length', 'passes', 'used')
    for value in ('x', -1, None, 1 << 70)
})
BOMBS.update({
    f'a numpy generator at {position}':
    lambda tree, position=position: tree['resume_state']['rng'][0].update(
        numpy=('MT19937', torch.zeros(624, dtype=torch.int64), position, 0, 0.)
    )
    for position in (625, 10**9, -1, 1 << 70)
})
BOMBS['a numpy generator of few words'] = \
    lambda tree: tree['resume_state']['rng'][0].update(
        numpy=('MT19937', torch.zeros(3, dtype=torch.int64), 600, 0, 0.))
#: Those that are endless for who walks through them.
ENDLESS_TREES = {
    'a message of shared tuples', 'a message of a range',
    'a group of shared tuples', 'a group of a range',
    'a state of shared tuples', 'parameters that are a range',
    'generators of a range'
}
#: Those that stand in what ``load_from`` reads.
WEIGHTS = ('weights that are a list', 'weights by number')


@pytest.mark.parametrize('name', BOMBS)
def test_no_value_of_a_checkpoint_stops_the_machine(tmp_path, good, name):
    tree = tree_of(good)
    BOMBS[name](tree)
    found = outcomes(tmp_path, torch_written(tree))
    weights = found.pop('load_from')
    assert weights == 'ResumeError' if name in WEIGHTS else weights == 'ok'
    found['load_from'] = 'ResumeError'
    if name in ENDLESS_TREES:
        assert found['verify_checkpoint'] == 'CorruptError'
        found['verify_checkpoint'] = 'ResumeError'
        assert_refused(found, ['ResumeError'])
    else:
        assert_refused(found, ['ResumeError'], OUTSIDE | SCANNING)


@pytest.mark.parametrize('resume', ['auto', 'latest.pth'])
def test_a_file_with_a_wrong_value_is_passed_over(tmp_path, good, resume,
                                                  caplog):
    """As a damaged one: the step before it is there."""
    tree = tree_of(good)
    (tmp_path / NAME).write_bytes(torch_written(tree))
    tree['meta'].update(iter=6)
    set_position(used='x')(tree)
    (tmp_path / 'iter_6.pth').write_bytes(torch_written(tree))
    runner = make_runner(
        tmp_path, runner=dict(type='IterBasedRunnerAmp', max_iters=8))
    if resume == 'auto':
        runner.register_hook_from_cfg(
            dict(type='DurableCheckpointHook', interval=8, resume=resume))
        runner.run([make_loader()], [('train', 1)])
    else:
        runner.resume(str(tmp_path / resume))
    assert runner.restored.name == NAME
    assert "iter_6.pth cannot be resumed from: 'used' of a data loader is " \
        "'x', expected a number of steps" in caplog.text


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_the_state_of_a_cuda_generator_is_tried_too(good):
    tree = tree_of(good)
    tree['resume_state']['rng'][0]['cuda'] = torch.cuda.get_rng_state_all()
    check_fields(tree, NAME)
    tree['resume_state']['rng'][0]['cuda'] = [torch.ones(3).byte()]
    with pytest.raises(ResumeError, match='generator'):
        check_fields(tree, NAME)


def test_more_batches_than_a_pass_has_are_left_out_at_once(tmp_path, good):
    tree = tree_of(good)
    set_position(used=1000)(tree)
    found = outcomes(tmp_path, torch_written(tree))
    assert set(found.values()) == {'ok'}


def test_shared_parts_that_no_run_reads_are_refused_too(tmp_path, good):
    tree = tree_of(good)
    tree['meta']['own'] = doubled()
    found = outcomes(tmp_path, torch_written(tree))
    assert found.pop('load_from') == 'ok'
    found['load_from'] = 'ResumeError'
    assert_refused(found, ['ResumeError', 'CorruptError'])


PICKLE_BOMBS = {
    'deep lists':
    b']' * 50000 + b'a' * 49999,
    'deep tuples':
    b')' + b'\x85' * 100000,
    'a huge number':
    b'\x8b' + struct.pack('<i', 0x7fffffff) + b'1',
    'huge text':
    b'\x8d' + struct.pack('<Q', 1 << 60) + b'a',
    'a huge frame':
    b'\x95' + struct.pack('<Q', 1 << 60),
    'a huge array':
    pickle.dumps(np.zeros(3), 2)[2:-1].replace(b'K\x03\x85',
                                               b'J\xff\xff\xff\x7f\x85', 1),
    'ranges as sets':
    b'cbuiltins\nset\ncbuiltins\nrange\nJ\xff\xff\xff\x7f'
    b'\x85R\x85R',
    'nested lists':
    pickle.dumps(lists(400), 2)[2:-1],
    'values that nobody takes':
    b']' * (9 << 20),
    'numbers that nobody takes':
    b'N' * (9 << 20),
    'marks':
    b'(' * (9 << 20),
    'lists in a list':
    b'](' + b']' * (9 << 20) + b'e',
    'remembered numbers':
    b'N' + b'\x94' * (9 << 20),
    'a bytearray of zeros':
    b'cbuiltins\nbytearray\n\x8a\x05' + struct.pack('<Q', 1 << 38)[:5] +
    b'\x85R',
    'nothing':
    b'',
    'copies':
    b'X' + struct.pack('<I', 1 << 20) + b'x' * (1 << 20) +
    b'q\xfe0c_codecs\nencode\nq\xff0' + b'(' + b'h\xffh\xfe\x85R' * 5000 +
    b't',
}


@pytest.mark.parametrize('name', PICKLE_BOMBS)
def test_no_pickle_fills_the_memory(tmp_path, good, name):
    content = with_pickle(good,
                          lambda data: data[:2] + PICKLE_BOMBS[name] + b'.')
    found = outcomes(tmp_path, content)
    assert_refused(found, ['CorruptError', 'UnsafeCheckpointError'])


def test_numbers_that_hash_alike_are_refused(tmp_path, good):
    """A dict of them takes time by the square of their number."""
    tree = tree_of(good)
    same = (1 << 61) - 1
    tree['meta']['own'] = {same * (one + 1): 0 for one in range(3000)}
    found = outcomes(tmp_path, torch_written(tree))
    assert_refused(found, ['CorruptError'])


# -- zip files --------------------------------------------------------------


def entries(content):
    """Places of the entries of a zip directory."""
    place = content.index(b'PK\x01\x02')
    while content[place:place + 4] == b'PK\x01\x02':
        yield place
        place += 46 + sum(struct.unpack_from('<3H', content, place + 28))


def packed(content, form, offset, *values, entry=2):
    """Overwrite a field of the directory's entry."""
    changed = bytearray(content)
    place = list(entries(content))[entry]
    struct.pack_into(form, changed, place + offset, *values)
    return bytes(changed)


def with_record(good, change):
    """The good file with another ``data/0``; None leaves it out."""
    return rewritten(
        good, lambda name, data: change(data)
        if name.endswith('/data/0') else data)


#: Records whose CRC-32 is right, and which are not what the pickle says.
RECORDS = {
    'shorter': lambda data: data[:-1],
    'empty': lambda data: b'',
    'longer': lambda data: data + bytes(64),
    'missing': lambda data: None,
}


@pytest.mark.parametrize('name', RECORDS)
def test_a_record_that_is_not_its_tensor_is_refused(tmp_path, good, name):
    found = outcomes(tmp_path, with_record(good, RECORDS[name]))
    assert_refused(found, ['CorruptError'])


def test_a_tensor_beyond_its_storage_is_refused(tmp_path, good):
    size = b'K\x04K\x04\x86'
    content = with_pickle(
        good, lambda data: data.replace(size, b'K\xffK\xff\x86', 1))
    assert content != good
    assert_refused(outcomes(tmp_path, content), ['CorruptError'])


def test_another_byte_order_is_refused(tmp_path, good):
    content = rewritten(
        good, lambda name, data: b'big'
        if name.endswith('/byteorder') else data)
    assert_refused(outcomes(tmp_path, content), ['CorruptError'])


def all_claim_one_place(good):
    changed = bytearray(good)
    places = list(entries(good))
    first = good[places[2] + 42:places[2] + 46]
    for place in places[2:]:
        changed[place + 42:place + 46] = first
    return bytes(changed)


def renamed(good, old, new):
    assert len(old) == len(new)
    return good.replace(old, new)


ZIPS = {
    'a name that leads out':
    lambda good: renamed(good, b'archive/data/1', b'../../../etc/p'),
    'an absolute name':
    lambda good: renamed(good, b'archive/data/1', b'/etc/passwd///'),
    'two records of one name':
    lambda good: renamed(good, b'archive/data/1', b'archive/data/0'),
    'a record of 4 GB':
    lambda good: packed(good, '<2L', 20, 0xfffffff0, 0xfffffff0),
    'a record that is packed':
    lambda good: packed(good, '<H', 10, 8),
    'records in one place':
    all_claim_one_place,
    'a record beyond the end':
    lambda good: packed(good, '<L', 42,
                        len(good) + 5),
    'a record in the directory':
    lambda good: packed(good, '<L', 42, next(entries(good))),
    'sizes in a zip64 field that is not there':
    lambda good: packed(good, '<2L', 20, 0xffffffff, 0xffffffff),
    'more entries than there are':
    lambda good: good[:-14] + struct.pack('<2H', 65535, 65535) + good[-10:],
    'a directory that begins later':
    lambda good: good[:-6] + struct.pack('<L', len(good)) + good[-2:],
    'a comment':
    lambda good: good[:-2] + b'\x01\x00x',
    'encryption':
    lambda good: packed(good, '<H', 8, 0x0809),
}


@pytest.mark.parametrize('name', ZIPS)
def test_a_zip_file_that_torch_would_not_write_is_refused(
        tmp_path, good, name):
    found = outcomes(tmp_path, ZIPS[name](good))
    # its name and size can be told of any file
    assert found.pop('mmcv-ckpt ls') in ('ok', 'CheckpointError')
    assert 'ok' not in found.values(), found


def test_a_huge_directory_is_not_read(tmp_path):
    """A sparse file of 40 GB, most of which is its directory."""
    size = 40 << 30
    end64 = struct.pack('<4sQ2H2L4Q', b'PK\x06\x06', 44, 45, 45, 0, 0, 1 << 29,
                        1 << 29, size - 1000, 1000)
    tail = end64 + struct.pack('<4sLQL', b'PK\x06\x07', 0, size, 1) + \
        struct.pack('<4s4H2LH', b'PK\x05\x06', 0, 0, 65535, 65535, 0xffffffff,
                    1000, 0)

    def prepare(at):
        with open(at / NAME, 'wb') as file:
            file.write(b'PK\x03\x04')
            file.seek(size)
            file.write(tail)

    found = try_doors(tmp_path, NAME, prepare)
    found.pop('mmcv-ckpt ls')
    assert 'ok' not in found.values(), found
