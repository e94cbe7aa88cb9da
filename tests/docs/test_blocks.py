"""Every fenced block of every page is run: see README.md here."""
import pytest
from doc_blocks import blocks_of, pages

# the pages are written for the full stack
pytestmark = pytest.mark.mmseg

BLOCKS = [block for page in pages() for block in blocks_of(page)]


def name(block):
    return f'{block.page}:{block.line}:{block.language}'


@pytest.mark.parametrize('block', BLOCKS, ids=name)
def test_a_block_does_what_its_page_says(block, stages, request):
    if block.not_run:
        pytest.skip(f'not run: {block.not_run}')
    stages.check(block, request)


def test_only_a_handful_is_not_run():
    assert sum(bool(block.not_run) for block in BLOCKS) <= 8
