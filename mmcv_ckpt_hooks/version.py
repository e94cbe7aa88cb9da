"""Versions: the package's, which ``setup.py`` reads as text, and others'."""
from typing import Tuple

__version__ = '0.1.0'


def version_tuple(version: str) -> Tuple[int, ...]:
    """``'1.7.2rc1+cu118'`` to ``(1, 7, 2)``."""
    numbers = []
    for part in version.split('+')[0].split('.'):
        digits = ''
        for character in part:
            if not character.isdigit():
                break
            digits += character
        if not digits:
            break
        numbers.append(int(digits))
        if digits != part:
            break
    return tuple(numbers)
