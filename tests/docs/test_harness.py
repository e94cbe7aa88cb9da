"""What runs the blocks can fail: each kind of mistake on a page is found."""
import pytest
from doc_blocks import BlockError, blocks_of, find, logged
from doc_output import first_difference, line_matches, missing_line
from doc_stages import Stage

from mmcv_ckpt_hooks.errors import ConfigError

PAGE = 'docs/page.md'


def block(text, language='console', *comments):
    lines = [f'<!-- {one} -->' for one in comments]
    fenced = '\n'.join([*lines, f'```{language}', text, '```'])
    one, = find(f'Words.\n\n{fenced}\n', PAGE)
    return one


@pytest.fixture
def check(tmp_path, request):
    """Run a block in an empty directory."""
    stage = Stage((), tmp_path, request)
    return lambda *given: stage.check(block(*given))


# -- what a page may hold --------------------------------------------------


def test_blocks_are_found_with_what_the_comments_say():
    text = '''# A page
<!-- in: toy work dir, s3 server -->
<!-- file: a/b.py -->
```python
a = 1
```

- in a list

  ```console
  $ true
  ```

<!-- not run: needs a GPU -->
```bash
train
```

!!! note

    ```json
    {}
    ```
'''
    found = find(text, PAGE)
    assert [(one.line, one.language, one.text)
            for one in found] == [(4, 'python', 'a = 1\n'),
                                  (10, 'console', '$ true\n'),
                                  (15, 'bash', 'train\n'),
                                  (21, 'json', '{}\n')]
    assert found[0].scenes == ('toy work dir', 's3 server')
    assert found[0].file == 'a/b.py' and found[0].not_run is None
    assert found[2].not_run == 'needs a GPU' and found[2].scenes == ()


@pytest.mark.parametrize('text, said', [
    ('Words.\n\n    $ true\n', 'page.md:3: an indented block'),
    ('!!! note\n    ```bash\n    a\n    ```\n', 'page.md:1: a fence within'),
    ('<!-- not run: no time -->\n```bash\na\n```\n', "'no time' is no reason"),
    ('<!-- int: s3 server -->\n```bash\na\n```\n', 'int: s3 server'),
])
def test_what_is_not_of_the_convention_is_refused(text, said):
    with pytest.raises(BlockError, match=said):
        find(text, PAGE)


@pytest.mark.parametrize('language', ['', 'pyhton', 'shell'])
def test_a_language_must_be_known(check, language):
    with pytest.raises(BlockError, match='language'):
        check('true', language)


def test_a_scene_must_be_known(tmp_path, request):
    with pytest.raises(BlockError, match="no scene 'toy dir'; there are"):
        Stage(('toy dir', ), tmp_path, request)


# -- commands --------------------------------------------------------------


@pytest.mark.parametrize('text', [
    '$ echo one\none',
    '$ echo one \\\n    two\none two',
    '$ seq 9\n1\n...\n9',
    '$ seq 9\n1\n...',
    '$ echo iter_4.pth: 861.3 kB in 0.047 s\niter_4.pth: 0.9 MB in 1.2 s',
    '$ ls nowhere    # exit code 2\nls: cannot access ...',
    '$ ls nowhere\nls: cannot access ...\n$ echo $?\n2',
    '$ cd /\n$ pwd\n/',
    '$ echo $PWD\n/project',
    '$ mmcv-ckpt --version\nmmcv-ckpt 0...',
])
def test_what_is_printed_as_shown_is_good(check, text):
    check(text)


@pytest.mark.parametrize('text', [
    '$ echo one\ntwo',
    '$ echo one',
    '$ true\none',
    '$ seq 9\n1\n...\n8',
    '$ echo one\none\n...',
    '$ echo 861.3 kB\n500 kB',
    '$ false',
    '$ true    # exit code 1',
    '$ ls nowhere    # exit code 1\nls: cannot access ...',
    '$ mmcv-ckpt ls --no-such-option .    # exit code 0\n...',
    'one',
    '',
    '$ exit 0\n$ echo one\none',
])
def test_what_is_not_is_found(check, text):
    with pytest.raises((AssertionError, ValueError)):
        check(text)


@pytest.mark.parametrize('expected, found, same', [
    ('time 23:21:37', 'time 01:02:03', True),
    ('on 2026-11-27', 'on 2027-01-01', True),
    ('at 127.0.0.1:8333', 'at 127.0.0.1:20001', True),
    ('mIoU 0.8785', 'mIoU 0.902', True),
    ('mIoU 0.65', 'mIoU 0.7', False),
    ('a  b', 'a     b', True),
    ('ab', 'a b', False),
    ('4 checkpoints', '5 checkpoints', False),
    ('lr: 1.000e-02', 'lr: 2.000e-02', False),
    ('23.4 kB', '25.1 kB', True),
    ('23.4 kB', '26.1 kB', False),
    ('23.4 kB', '23.4 MB', False),
    ('iter_...: saved', 'iter_12: saved', True),
    ('iter_...: saved', 'iter_12: deleted', False),
])
def test_a_line_matches_but_for_what_differs_from_run_to_run(
        expected, found, same):
    assert line_matches(expected, found) == same


def test_the_line_that_is_missing_is_told():
    assert first_difference(['a', '...', 'd'], ['a', 'b', 'c', 'd']) is None
    assert first_difference(['a', '...', 'b'], ['a', 'b']) == 'b'
    assert first_difference(['a', '...', 'x', '...', 'd'],
                            ['a', 'b', 'c', 'd']) == 'x'
    assert first_difference(['a'], ['a', 'b']) == \
        'nothing more, but there is: b'


# -- Python, scripts, the rest ---------------------------------------------

HOOK = "custom_hooks = [dict(type='DurableCheckpointHook', {})]"


@pytest.mark.parametrize('text', [
    HOOK.format("resume='auto'"),
    HOOK.format("out_dir='gs://bucket/a', interval=1000"),
    'runner = dict(type="EpochBasedRunnerAmp", max_epochs=300)\n' +
    HOOK.format('keep=dict(last=3)'),
    'import os\nassert os.listdir() == []',
])
def test_python_that_works_is_good(check, text):
    if 'gs://' in text:
        pytest.importorskip('obstore', reason='pip install obstore')
    check(text, 'python')


@pytest.mark.parametrize('text, error', [
    (HOOK.format("resum='auto'"), ConfigError),
    (HOOK.format("write=dict(staging='overlapping')"), ConfigError),
    (HOOK.replace('Durable', 'Durabel').format(''), KeyError),
    (HOOK.replace('hooks', 'hook').format(''), AssertionError),
    ('runner = dict(type="NoRunner", max_iters=2)', KeyError),
    ('import mmcv_ckpt_hook', ImportError),
    ('a = (', SyntaxError),
])
def test_python_that_does_not_is_found(check, text, error):
    with pytest.raises(Exception) as raised:
        check(text, 'python')
    assert isinstance(raised.value, error)


@pytest.mark.parametrize('text, language', [
    ('$ true', 'bash'),
    ('false\ntrue', 'bash'),
    ('true | false | true', 'sh'),
    ('pip install "mmcv_ckpt_hooks[s4]"', 'bash'),
    ('weed server -dri=weed', 'bash'),
    ('{', 'json'),
    ('$ mmcv-ckpt ls .', 'text'),
    ("hook = dict(type='A')", 'text'),
    ('import torch', 'text'),
])
def test_scripts_and_texts_that_are_not_are_found(check, text, language):
    if text.startswith('weed'):
        pytest.importorskip('obstore', reason='as the S3 server')
    with pytest.raises((AssertionError, ValueError)):
        check(text, language)


def test_what_is_written_to_a_file_is_run_by_a_later_command(check, tmp_path):
    check('echo $1', 'bash', 'file: tools/say.sh')
    check('$ bash tools/say.sh one\none')
    check('raise SystemExit(3)', 'python', 'file: leave.py')
    check('$ python leave.py    # exit code 3')
    with pytest.raises(AssertionError, match='syntax error'):
        check('if true', 'bash', 'file: tools/broken.sh')


# -- logs that other tests make --------------------------------------------


def test_a_log_is_held_to_its_page():
    printed = '''12:03 - Iter [1/4] lr: 1e-2, eta: 0, loss: 0.9727
12:03 - Iter [2/4] lr: 1e-2, eta: 0, loss: 0.9700
12:04 - Restored: weights, optimizer, loss scale'''
    shown = '[again]\nIter [2/4] lr: 1e-2, loss: 0.1234\nRestored: weights,' \
        '\n  loss scale\n'
    assert missing_line(shown, printed) is None
    for wrong in (shown.replace('2/4', '3/4'), shown.replace('scale', 'step'),
                  'Restored\nIter [1/4]'):
        assert missing_line(wrong, printed) is not None


def test_a_test_that_is_named_must_compare(check):
    with pytest.raises(AssertionError, match='does not compare it'):
        check('a log', 'text', 'logged by: tests/test_folder_ranks.py')
    page = 'docs/sharded-reading.md'
    texts = [one.text for one in blocks_of(page) if one.logged_by]
    assert texts and logged(page, 'tests/test_folder_ranks.py') == texts
