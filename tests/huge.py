"""Which memory of this process asks for huge pages."""
import os

import pytest

_STATE = '/sys/kernel/mm/transparent_hugepage/enabled'


def _has_huge_pages():
    if not os.path.exists(_STATE):
        return False
    with open(_STATE) as file:
        return '[never]' not in file.read()


needs_huge_pages = pytest.mark.skipif(
    not _has_huge_pages(), reason='no huge pages')


def asks_for_huge_pages(address):
    """Whether the pages around an address do."""
    found = None
    with open('/proc/self/smaps') as file:
        for line in file:
            words = line.split()
            begin, dash, end = words[0].partition('-')
            if dash and not words[0].endswith(':'):
                is_it = int(begin, 16) <= address < int(end, 16)
            elif words[0] == 'VmFlags:' and is_it:
                found = words
    return found is not None and 'hg' in found
