"""The page itself: safe to open, whatever a work dir has; the same again."""
import json
import os
import re
import shutil
import sys
import zlib
from html.parser import HTMLParser

import pytest

from mmcv_ckpt_hooks.cli import main

pytest.importorskip('matplotlib', reason='pip install matplotlib')

HOSTILE = '</title></svg><script>alert(1)</script>"\'><img src=http://x/ ' \
    'onerror=x>$\\frac{$_{\u202e\x1b[31m\x00\ud800&lt;--><!--'
#: Elements without an end.
VOID = {'meta'}


class Reader(HTMLParser):
    """Elements, and that each is closed in turn."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.words = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return ' '.join(' '.join(self.words).split())


def page_of(directory, tmp_path, name='page.html'):
    target = tmp_path / name
    assert main(['report', str(directory), '-o', str(target)]) == 0
    return target.read_text(encoding='utf-8')


def check_safe(text):
    """Nothing is loaded, run or sent, by what the page has."""
    reader = Reader(text)
    names = {tag for tag, _ in reader.elements}
    assert names <= {
        'html', 'head', 'meta', 'title', 'style', 'body', 'main', 'h1', 'h2',
        'h3', 'p', 'div', 'dl', 'dt', 'dd', 'section', 'ul', 'li', 'table',
        'thead', 'tbody', 'tr', 'th', 'td', 'span', 'footer', 'svg', 'g',
        'path', 'defs', 'clippath', 'rect', 'use', 'text', 'circle'
    }
    for tag, attributes in reader.elements:
        for key, value in attributes.items():
            assert not key.startswith('on')
            assert key not in ('src', 'action', 'srcset', 'data')
            if key.endswith('href'):
                assert value.startswith('#')
            if 'url(' in (value or ''):
                assert re.search(r'url\(#', value)
    policy, = [
        attributes['content'] for tag, attributes in reader.elements
        if attributes.get('http-equiv') == 'Content-Security-Policy'
    ]
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'")
    assert '@import' not in text and 'url(http' not in text
    identities = [
        attributes['id'] for _, attributes in reader.elements
        if 'id' in attributes
    ]
    assert len(identities) == len(set(identities))
    return reader


def test_the_page_says_what_there_is(killed_run, tmp_path):
    reader = check_safe(page_of(killed_run, tmp_path))
    for said in ('3 checkpoints', 'mIoU 0.7', "resume='auto' takes iter_8.pth",
                 'training came to iteration 8 of 8',
                 '3 starts: 1 finished, 1 killed, 1 left on a signal',
                 '1 iteration done again', 'left on SIGTERM',
                 'All times are UTC', 'Took over'):
        assert said in reader.text
    headings = [tag for tag, _ in reader.elements if tag in ('h1', 'h2')]
    assert headings.count('h2') == 7


def test_marks_say_which_save_they_are(killed_run, tmp_path):
    reader = Reader(page_of(killed_run, tmp_path))
    assert re.search(
        r'iter_7.pth \(signal\), 7 iterations, [\d.]+ kB, '
        r'training waited [\d.]+ ms, durable after ', reader.text)
    assert 'best: best_mIoU_iter_4.pth: 0.7 at 4 iterations' in reader.text


def test_the_same_run_gives_the_same_bytes(killed_run, tmp_path):
    assert page_of(killed_run, tmp_path, 'a.html') == \
        page_of(killed_run, tmp_path, 'b.html')


def test_colours_are_those_of_the_page(killed_run, tmp_path):
    text = page_of(killed_run, tmp_path)
    drawn = ''.join(re.findall(r'<svg.*?</svg>', text, re.DOTALL))
    assert 'var(--line)' in drawn
    # but for none, no colour stands in a drawing
    assert not re.findall(r'(?:fill|stroke): #\w+', drawn)
    assert 'prefers-color-scheme: dark' in text


def hostile_copy(directory, tmp_path):
    """Have words of an attacker wherever a file has words."""
    copied = tmp_path / ('run' + HOSTILE.replace('/', '').replace(
        '\x00', '').replace('\ud800', ''))
    shutil.copytree(directory, copied, symlinks=True)
    path = copied / 'checkpoints.log.jsonl'
    lines = [json.loads(line) for line in path.open()]
    for line in lines:
        for key in ('name', 'lineage', 'trigger', 'key'):
            if key in line:
                line[key] = line[key] + HOSTILE
        if 'metrics' in line:
            line['metrics'][HOSTILE] = .5
    path.write_text('\n'.join(map(json.dumps, lines)))
    log = sorted(copied.glob('2*.log'))[0]
    with open(log, 'a') as file:
        file.write('2026-11-28 00:00:00,000 - toy - ERROR - ' +
                   HOSTILE.encode('utf-8', 'replace').decode() + '\n')
    return copied


def test_words_of_a_stranger_are_words(killed_run, tmp_path):
    text = page_of(hostile_copy(killed_run, tmp_path), tmp_path)
    reader = check_safe(text)
    assert '<script' not in text
    assert '<script>alert(1)</script>' in reader.text
    for one in '\x00\x1b\u202e\ud800':
        assert one not in text
    assert '\\u202e' in reader.text


WRONG = [
    None, -1, 1 << 62, 1 << 80, 1e12, -1e12, 1e99, -1e99, -1e300, 1e300,
    float('nan'),
    float('inf'), '', 'x', [], {}, True, '0001-01-01T00:00:00+00:00',
    '9999-12-31T23:59:59+00:00'
]


def test_values_that_cannot_be_are_left_out(killed_run, tmp_path, capfd):
    copied = tmp_path / 'run'
    shutil.copytree(killed_run, copied, symlinks=True)
    path = copied / 'checkpoints.log.jsonl'
    lines = [json.loads(line) for line in path.open()]
    wronged = [{
        **line, key: wrong
    } for wrong in WRONG for line in lines for key in line if key != 'event']
    path.write_text('\n'.join(map(json.dumps, lines + wronged)))
    log, = sorted(copied.glob('*.log.json'))[:1]
    logged = [json.loads(line) for line in log.open()]
    log.write_text('\n'.join(
        json.dumps({
            **line, key: wrong
        }) for wrong in WRONG for line in logged for key in line))
    check_safe(page_of(copied, tmp_path))
    assert 'Warning' not in capfd.readouterr().err


@pytest.mark.parametrize('key, wrong',
                         [('time', one)
                          for one in WRONG] + [('iter', 1 << 62),
                                               ('epoch', 1 << 62),
                                               ('loss', 1e99),
                                               ('loss', float('nan'))])
def test_no_line_of_a_log_costs_the_page(killed_run, tmp_path, key, wrong):
    """Of a run that may have no saves by which its clock is known."""
    log, = sorted(killed_run.glob('*.log.json'))[:1]
    lines = [json.loads(line) for line in log.open()]
    lines[2][key] = wrong
    (tmp_path / log.name).write_text('\n'.join(map(json.dumps, lines)))
    check_safe(page_of(tmp_path, tmp_path))


@pytest.mark.parametrize('key, wrong', [
    ('bytes', -1),
    ('bytes', -(1 << 62)),
    ('bytes', 1 << 62),
    ('iter', 1 << 62),
    ('epoch', 1 << 62),
    ('generation', 1 << 62),
    ('started_iter', 1 << 62),
    ('created_at', '0001-01-01T00:00:00+00:00'),
    ('created_at', '9999-12-31T23:59:59+00:00'),
    ('metrics', {
        '': .5,
        'mIoU': 1e300
    }),
])
def test_no_entry_of_a_catalog_costs_the_page(killed_run, tmp_path, key,
                                              wrong):
    copied = tmp_path / 'run'
    shutil.copytree(killed_run, copied, symlinks=True)
    path = copied / 'checkpoints.json'
    content = json.loads(path.read_text())
    content['checkpoints'][0][key] = wrong
    # who edits it can have its checksum right as well
    del content['crc32']
    text = json.dumps(content, indent=1, sort_keys=True).encode()
    path.write_text(json.dumps({**content, 'crc32': zlib.crc32(text)}))
    check_safe(page_of(copied, tmp_path))


def test_ten_thousand_metrics_and_one_without_a_name(killed_run, tmp_path):
    copied = tmp_path / 'run'
    shutil.copytree(killed_run, copied, symlinks=True)
    metrics = {'': .5, **{f'class{number}': .5 for number in range(10_000)}}
    with open(copied / 'checkpoints.log.jsonl', 'a') as file:
        event = dict(event='scores', iter=8, metrics=metrics)
        file.write(json.dumps(event) + '\n')
    text = page_of(copied, tmp_path)
    check_safe(text)
    assert len(text) < 400_000


def test_a_clock_that_was_wrong_costs_no_page(killed_run, tmp_path):
    copied = tmp_path / 'run'
    shutil.copytree(killed_run, copied, symlinks=True)
    path = copied / 'checkpoints.log.jsonl'
    lines = [json.loads(line) for line in path.open()]
    lines += [{
        **lines[0], 'time': time
    } for time in ('0001-01-01T00:00:00+00:00', '9999-12-31T23:59:59+00:00',
                   '2026-11-28T00:00:00', 'yesterday',
                   '2000-01-01T00:00:00+00:00')]
    path.write_text('\n'.join(map(json.dumps, lines)))
    check_safe(page_of(copied, tmp_path))


def test_a_directory_without_checkpoints_has_a_page(tmp_path):
    empty = tmp_path / 'empty'
    empty.mkdir()
    reader = check_safe(page_of(empty, tmp_path))
    assert 'No checkpoints' in reader.text
    assert 'would start anew' in reader.text


def test_damage_is_told(killed_run, tmp_path):
    copied = tmp_path / 'run'
    shutil.copytree(killed_run, copied, symlinks=True)
    os.truncate(copied / 'iter_8.pth', 100)
    reader = check_safe(page_of(copied, tmp_path))
    assert "resume='auto' takes iter_6.pth" in reader.text
    assert 'the newest that can be used iter_8.pth: iter_8.pth' in reader.text


def long_history(path, saves):
    """As many saves as a run makes in months, with their deletions."""
    with open(path, 'w') as file:
        for number in range(1, saves + 1):
            day, second = divmod(number * 60, 86400)
            at = f'2026-{1 + day // 28:02}-{1 + day % 28:02}T' \
                f'{second // 3600:02}:{second // 60 % 60:02}:00+00:00'
            file.write(
                json.dumps(
                    dict(
                        event='save',
                        name=f'iter_{number * 10}.pth',
                        iter=number * 10,
                        epoch=0,
                        digest=f'd{number}',
                        lineage='a',
                        generation=number // 3000,
                        started_iter=number // 3000 * 30000,
                        trigger='interval',
                        bytes=10**9,
                        blocked_secs=.01 + number % 7 / 1000,
                        durable_secs=1 + number % 5,
                        deleted=[f'iter_{number * 10 - 30}.pth'],
                        time=at)) + '\n')


def test_a_long_history_is_a_small_page(tmp_path):
    long_history(tmp_path / 'checkpoints.log.jsonl', 10000)
    text = page_of(tmp_path, tmp_path)
    check_safe(text)
    assert len(text) < 400_000


def test_several_runs_are_told_apart(killed_run, epoch_run, tmp_path, capsys):
    together = tmp_path / 'both'
    shutil.copytree(killed_run, together, symlinks=True)
    shutil.copy(epoch_run / 'epoch_2.pth', together)
    lines = (epoch_run / 'checkpoints.log.jsonl').read_text()
    with open(together / 'checkpoints.log.jsonl', 'a') as file:
        file.write(lines)
    reader = check_safe(page_of(together, tmp_path))
    assert 'another run' in reader.text
    capsys.readouterr()
    main(['report', str(together), '--json'])
    content = json.loads(capsys.readouterr().out)
    assert len({one['lineage'] for one in content['starts']}) == 2


def test_without_matplotlib_it_says_what_to_install(killed_run, tmp_path,
                                                    monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, 'matplotlib', None)
    target = tmp_path / 'page.html'
    assert main(['report', str(killed_run), '-o', str(target)]) == 2
    assert "pip install 'mmcv_ckpt_hooks[report]'" in capsys.readouterr().err
    assert not target.exists()
    # the data need none
    assert main(['report', str(killed_run), '--json']) == 0


def test_a_matplotlibrc_of_the_user_changes_nothing(killed_run, tmp_path,
                                                    monkeypatch):
    import matplotlib
    before = page_of(killed_run, tmp_path, 'a.html')
    monkeypatch.setitem(matplotlib.rcParams, 'axes.facecolor', 'red')
    monkeypatch.setitem(matplotlib.rcParams, 'lines.linestyle', '--')
    monkeypatch.setitem(matplotlib.rcParams, 'timezone', 'Asia/Kolkata')
    monkeypatch.setitem(matplotlib.rcParams, 'font.size', 30.)
    assert page_of(killed_run, tmp_path, 'b.html') == before
    assert matplotlib.rcParams['font.size'] == 30.


def test_a_damaged_checkpoint_has_the_costs_of_its_save(
        killed_run, tmp_path, capsys):
    copied = tmp_path / 'run'
    shutil.copytree(killed_run, copied, symlinks=True)
    os.truncate(copied / 'iter_8.pth', 100)
    main(['report', str(copied), '--json'])
    saves = json.loads(capsys.readouterr().out)['saves']
    assert [one['iter'] for one in saves] == [2, 4, 6, 7, 8]
    assert all(one['blocked_secs'] is not None for one in saves)


def test_all_languages_are_shown_whatever_the_encoding(killed_run, tmp_path):
    copied = tmp_path / 'Zellkerne größer'
    shutil.copytree(killed_run, copied, symlinks=True)
    with open(copied / 'checkpoints.log.jsonl', 'a') as file:
        event = dict(event='scores', iter=8, metrics={'平均': .5})
        file.write(json.dumps(event) + '\n')
    text = page_of(copied, tmp_path)
    assert text.isascii()
    assert '平均' in Reader(text).words
    assert 'Zellkerne größer' in Reader(text).text


#: By what a key says, how its mark is drawn: what stands in the picture.
MARKS = {
    'saved, and kept': 'id="timeline-kept"',
    'saved, deleted since': 'id="timeline-gone"',
    'killed, or ended unrecorded': 'id="timeline-killed"',
    'left on a signal': 'id="timeline-signal"',
    'finished': 'id="timeline-finished"',
    'at a save, before what it replaces goes': 'var(--warn)',
    'its checkpoint is kept': 'id="metric0-held"',
    'the best': 'id="metric0-best"',
    'given up, or of another run': 'var(--other)',
}


def keys_and_marks(text, title):
    """Return the keys of a section, and its drawings."""
    part = text[text.index(f'<h2>{title}</h2>'):]
    part = part[:part.index('</section>')]
    keys = part[part.index('<ul class="keys">'):part.index('</ul>')]
    return re.findall('</svg> ([^<]*)</li>', keys), part[part.index('</ul>'):]


def test_keys_are_those_of_marks_that_are_drawn(killed_run, epoch_run,
                                                tmp_path):
    said = {}
    for run in (killed_run, epoch_run):
        text = page_of(run, tmp_path)
        for title in ('Steps over time', 'Bytes on the disk',
                      'Scores and loss'):
            keys, drawn = keys_and_marks(text, title)
            for key in keys:
                if key in MARKS:
                    mark = re.search(
                        MARKS[key].replace('(', r'\(').replace(')', r'\)'),
                        drawn)
                    assert mark, key
            said[run, title] = keys
    assert said[killed_run, 'Scores and loss'] == [
        'of the run', 'its checkpoint is kept', 'the best'
    ]
    assert said[epoch_run, 'Scores and loss'] == ['of the run']
    # nothing was replaced
    assert said[epoch_run, 'Bytes on the disk'] == ['checkpoints']
    assert said[killed_run, 'Bytes on the disk'] == [
        'checkpoints', 'at a save, before what it replaces goes'
    ]
    assert 'killed, or ended unrecorded' in said[killed_run, 'Steps over time']
    assert said[epoch_run, 'Steps over time'] == [
        'training', 'saved, and kept', 'finished'
    ]


def test_no_line_ends_in_a_score(killed_run, tmp_path):
    text = page_of(killed_run, tmp_path)
    assert '<span class="score">mIoU 0.65</span>' in text
    assert '.score { white-space: nowrap; }' in text
