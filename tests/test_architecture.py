"""The pictures of docs/architecture.md, held to the code."""
import importlib.util
import re
from pathlib import Path

import pytest
import test_rooms

ROOT = Path(__file__).parent.parent
PAGE = ROOT / 'docs' / 'architecture.md'
DRAWINGS = sorted((ROOT / 'docs' / 'architecture').glob('*.dot'))
#: What is around the package.
AROUND = {'run', 'person', 'places'}
#: Everybody's; arrows to it would say nothing.
NOT_DRAWN = {'words between all'}


def rooms():
    """Modules of every room by its name, from the table of the page."""
    table = PAGE.read_text().partition('| room |')[2].partition('\n\n')[0]
    found = {}
    for line in table.splitlines()[2:]:
        name, _, modules = line.strip('| ').split(' | ')
        found[name.rstrip('/')] = modules_of(re.findall('`([^`]+)`', modules))
    return found


def modules_of(patterns):
    found = []
    for pattern in patterns:
        folder, _, rest = pattern.partition('/')
        found += [
            name for name in test_rooms.NAMES if name.startswith(f'{folder}/')
        ] if rest == '*' else [pattern]
    return found


def picture():
    """Names of the rooms that are drawn with their class; and the arrows."""
    text = (ROOT / 'docs' / 'architecture' / 'rooms.dot').read_text()
    body = re.sub('//.*', '', text).partition('{')[2]
    nodes, arrows = {}, []
    for line in body.splitlines():
        ends = re.fullmatch(r' *"?([\w ]+?)"? -> "?([\w ]+?)"?', line)
        node = re.fullmatch(r' *"?([\w ]+?)"?(?: \[(.*)\])?', line)
        if ends:
            arrows.append((ends[1], ends[2]))
        elif node and node[1] not in ('graph', 'node'):
            look = re.search(r'class=(\w+)', node[2] or '')
            nodes[node[1]] = look and look[1]
    return nodes, arrows


def test_every_module_is_in_one_room():
    listed = [name for modules in rooms().values() for name in modules]
    assert sorted(listed) == sorted(test_rooms.NAMES)


def test_every_room_is_drawn():
    nodes, arrows = picture()
    assert set(nodes) == set(rooms()) - NOT_DRAWN | AROUND
    assert {end for arrow in arrows for end in arrow} == set(nodes)


def test_an_arrow_is_an_import():
    inside, (_, arrows) = rooms(), picture()
    for asks, asked in arrows:
        if not {asks, asked} & AROUND:
            assert any(
                test_rooms.own_imports(name) & set(inside[asked])
                for name in inside[asks]), f'{asks} -> {asked}'


def test_a_room_has_the_colour_of_what_it_imports():
    inside, (nodes, _) = rooms(), picture()
    for name in set(nodes) - AROUND:
        modules = inside[name]
        needs_neither = all(
            one in test_rooms.WITHOUT_TORCH or one.startswith((
                'storage/',
                'cli/')) or one.endswith('/__init__')  # which have no code
            for one in modules)
        assert (nodes[name] == 'plain') == needs_neither, name


@pytest.mark.parametrize('path', DRAWINGS, ids=lambda path: path.stem)
def test_a_drawing_names_files_that_are_there(path):
    for name in re.findall(
            r'[\w/]+\.py',
            path.read_text().replace('tests/test_architecture.py',
                                     '').replace('tools/train.py', '')):
        assert name[:-3] in test_rooms.NAMES, name


@pytest.mark.parametrize('path', DRAWINGS, ids=lambda path: path.stem)
def test_a_drawing_is_up_to_date(path):
    spec = importlib.util.spec_from_file_location(
        'draw', str(ROOT / 'tools' / 'draw.py'))
    draw = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(draw)
    drawn = path.with_suffix('.svg').read_text(encoding='utf-8')
    assert drawn.startswith(draw.mark_of(path.read_text(encoding='utf-8'))), \
        'make drawings'
    assert f'(architecture/{path.stem}.svg)' in PAGE.read_text()
