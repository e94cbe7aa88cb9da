"""The rules of the rooms: who may import what, and how large they may be."""
import ast
from pathlib import Path

import pytest

import mmcv_ckpt_hooks

PACKAGE = Path(mmcv_ckpt_hooks.__file__).parent
MODULES = sorted(PACKAGE.rglob('*.py'))
NAMES = [str(path.relative_to(PACKAGE))[:-3] for path in MODULES]

#: Rooms that face mmcv; all others must not know it.
MMCV = {
    'best', 'companions', 'compat', 'constructor', 'dist_optimizer',
    'durable_runner', 'ema', 'foreign', 'hook', 'leaving', 'logged_costs',
    'registration', 'restore', 'runners', 'state', 'state_loading',
    'stock_restore', 'storage/file_client', 'takeover'
}
#: Rooms that a machine without torch can use.
WITHOUT_TORCH = {
    'abandoning', 'apex_amp', 'argument_checks', 'backlog', 'best_scores',
    'bounded_lines', 'building', 'card', 'catalog', 'catalog_file',
    'catalog_home', 'checked_copy', 'checksums', 'config', 'counting',
    'errors', 'executor', 'flat_files/decoding', 'flat_files/header',
    'flat_files/metadata', 'flat_files/outlining', 'flat_files/verification',
    'folders/chunks', 'folders/folder', 'folders/layout', 'folders/manifest',
    'folders/metadata', 'folders/opening', 'folders/parts', 'folders/place',
    'folders/sending', 'folders/verification', 'given_path', 'glance',
    'guarded', 'held_places', 'history', 'holding', 'instructions',
    'keep_config', 'keep_text', 'kept_count', 'known_metrics', 'latest',
    'lease', 'lineage', 'mirror', 'mirror_catalog', 'mirror_history',
    'mirror_log', 'mirror_missing', 'mirror_note', 'mirror_words', 'mirroring',
    'monitors', 'movement', 'name_template', 'names_elsewhere', 'new_file',
    'options', 'outline', 'paging', 'place_limits', 'place_note', 'plan',
    'pruning', 'quick_directory', 'reconciling', 'records', 'recovery',
    'replacing', 'reporting/axes', 'reporting/clock',
    'reporting/curve_figures', 'reporting/curves', 'reporting/disk',
    'reporting/drawing', 'reporting/evaluations', 'reporting/events',
    'reporting/figures', 'reporting/groups', 'reporting/headline',
    'reporting/legends', 'reporting/logs', 'reporting/markup',
    'reporting/page', 'reporting/starts', 'reporting/steps', 'reporting/story',
    'reporting/style', 'reporting/tables', 'reporting/unclaimed',
    'reporting/values', 'reporting/wordings', 'restore_report', 'retention',
    'run_fields', 'run_lock', 'runner_arguments', 'running_job', 'scanning',
    'sending', 'sharded/limits', 'short_listing', 'signals', 'signed_file',
    'start_block', 'stored_lock', 'summary', 'tally', 'triggers', 'types',
    'unfolding', 'unpickling', 'unpickling_finish', 'verification', 'version',
    'vocabulary', 'wording', 'zip_layout', 'zip_writing'
}
#: Rooms that draw.
DRAWS = {
    'reporting/axes', 'reporting/curve_figures', 'reporting/drawing',
    'reporting/figures'
}
SDKS = {'boto3', 'fsspec', 'obstore', 'pavi', 'petrel_client', 's3fs'}


def imports(path):
    """Top-level names of the foreign packages that a module imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split('.')[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(node.module.split('.')[0])
    return found


def own_imports(name):
    """Names of our own rooms that a room imports."""
    found = set()
    for node in ast.walk(ast.parse((PACKAGE / f'{name}.py').read_text())):
        if not isinstance(node, ast.ImportFrom) or not node.level:
            continue
        begin = name.split('/')[:-node.level]
        begin += node.module.split('.') if node.module else []
        # of a package it may be a module
        found |= {'/'.join(begin)} if node.module else set()
        found |= {'/'.join(begin + [alias.name]) for alias in node.names}
    return found & set(NAMES)


@pytest.mark.parametrize('name, path', zip(NAMES, MODULES), ids=NAMES)
def test_a_room_imports_what_it_may(name, path):
    found = imports(path)
    if name not in MMCV and not name.startswith('testing/'):
        assert 'mmcv' not in found
    if name in WITHOUT_TORCH or name.startswith(('storage/', 'cli/')):
        found -= {'mmcv'} if name in MMCV else set()
        assert not found & {'torch', 'numpy', 'mmcv'}
    if not name.startswith(('storage/', 'testing/')):
        assert not found & SDKS
    # it takes a second to import, and only the report draws
    if name not in DRAWS:
        assert 'matplotlib' not in found


@pytest.mark.parametrize('name', sorted(WITHOUT_TORCH))
def test_a_room_without_torch_leads_to_no_room_with_it(name):
    left, seen = {name}, set()
    while left:
        one = left.pop()
        seen.add(one)
        left |= own_imports(one) - seen
    # storage/ has no torch either: the test above
    assert {one for one in seen if not one.startswith('storage/')} \
        <= WITHOUT_TORCH


@pytest.mark.parametrize('name, path', zip(NAMES, MODULES), ids=NAMES)
def test_a_room_stays_small_and_has_a_telling_name(name, path):
    assert len(path.read_text().splitlines()) <= 300
    assert path.stem not in ('utils', 'helpers', 'misc', 'common')


def test_names_that_look_alike_are_found_in_one_room():
    found = {
        name
        for name, path in zip(NAMES, MODULES) if 'difflib' in imports(path)
    }
    assert found == {'wording'}


@pytest.mark.parametrize('noun', [
    'size_text', 'rate_text', 'time_text', 'logged_size', 'iso_time_text',
    'Place'
])
def test_one_noun_is_one_thing(noun):
    found = [
        name for name, path in zip(NAMES, MODULES)
        for node in ast.parse(path.read_text()).body
        if isinstance(node, (ast.ClassDef,
                             ast.FunctionDef)) and node.name == noun
    ]
    assert len(found) == 1


def test_what_wraps_a_runner_and_what_ends_a_run_know_no_hook_inside():
    for name in ('phases', 'ending'):
        tree = ast.parse((PACKAGE / f'{name}.py').read_text())
        foreign = {
            node.attr
            for node in ast.walk(tree) if isinstance(node, ast.Attribute)
            and node.attr.startswith('_') and not node.attr.startswith('__')
            and getattr(node.value, 'id', '') != 'self'
        }
        assert not foreign


def test_every_public_name_is_there():
    for name in mmcv_ckpt_hooks.__all__:
        assert getattr(mmcv_ckpt_hooks, name) is not None
    with pytest.raises(AttributeError, match='no attribute'):
        mmcv_ckpt_hooks.save_checkpoints
