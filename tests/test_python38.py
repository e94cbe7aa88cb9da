"""Nothing in the package is newer than Python 3.8 (``tools/python38.py``)."""
import os
import sys

import pytest

ROOT = os.path.join(os.path.dirname(__file__), '..')
#: What came later, and which of mypy's words tell that it was found.
LATER = {
    'a parenthesized with': ('''
def read() -> str:
    with (open('a') as first, open('b') as second):
        return first.read() + second.read()
''', 'Parenthesized context managers'),
    'match': ('''
def read(number: int) -> int:
    match number:
        case 1:
            return 2
    return 3
''', 'Pattern matching is only'),
    'removeprefix': ('''
def stem(name: str) -> str:
    return name.removeprefix('best_')
''', 'removeprefix'),
    'functools.cache': ('''
import functools

@functools.cache
def answer() -> int:
    return 42
''', 'cache'),
    'math.lcm': ('''
import math

STEPS = math.lcm(4, 6)
''', 'lcm'),
    'a union of dicts': ('''
from typing import Dict

def merged(a: Dict[str, int], b: Dict[str, int]) -> Dict[str, int]:
    return a | b
''', 'operand'),
    'list[int] at run time': ('''
Numbers = list[int]
''', '"list" is not subscriptable'),
    'an annotation that is evaluated': ('''
def total(numbers: dict[str, int]) -> int:
    return sum(numbers.values())
''', '"dict" is not subscriptable'),
    'zip(strict=True)': ('''
from typing import List

PAIRS = list(zip([1], [2], strict=True))
''', 'zip'),
    'a module': ('''
import zoneinfo
''', 'zoneinfo'),
}


@pytest.fixture(scope='module')
def python38():
    sys.path.insert(0, os.path.join(ROOT, 'tools'))
    try:
        import python38
    finally:
        sys.path.pop(0)
    if not python38.HOME.is_dir():
        pytest.skip('`make lint` installs the mypy that knows Python 3.8')
    return python38


def test_the_package_is_of_python_3_8(python38, capfd):
    assert python38.check(python38.CHECKED) == 0, capfd.readouterr().out


@pytest.mark.parametrize('name', LATER)
def test_what_is_newer_is_found(python38, tmp_path, capfd, name):
    source, said = LATER[name]
    path = tmp_path / 'newer.py'
    path.write_text(source)
    assert python38.check([path]) != 0
    assert said in capfd.readouterr().out


def test_what_python_3_8_has_is_not(python38, tmp_path, capfd):
    path = tmp_path / 'of_3_8.py'
    path.write_text('''
from typing import List

def half(numbers: List[int], /) -> int:
    if (count := len(numbers)) > 1:
        print(f'{count=}')
    return count // 2
''')
    assert python38.check([path]) == 0, capfd.readouterr().out
