"""The page in a real browser, where there is one (apt-get install chromium).
"""
import json
import re
import shutil
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from mmcv_ckpt_hooks.cli import main
from mmcv_ckpt_hooks.reporting.style import STYLE

pytest.importorskip('matplotlib', reason='pip install matplotlib')

BROWSERS = ('chromium', 'chromium-browser', 'google-chrome')

#: A browser that hangs ends the test.
LIMIT_SECS = 60
#: A line of the pictures, and how much wider than matplotlib, which lays them
#: out with its own font, a browser may show it.
LINE, WIDER = '00:45:30 28 Nov 2026 iterations 1,000', 1.1

#: So it asks for nothing by itself.
QUIET = ('--headless', '--no-sandbox', '--disable-gpu', '--no-first-run',
         '--disable-background-networking', '--disable-component-update',
         '--disable-sync', '--disable-dev-shm-usage')

#: Added to a copy of the page without its policy, which lets nothing run.
MEASURE = """<script>
const root = document.documentElement, page = root.getBoundingClientRect();
const clipped = [];
// of two drawings of a picture one is shown
const shown = [...document.querySelectorAll('.picture svg')].filter(
  svg => svg.getBoundingClientRect().width);
const outside = shown.filter(
  svg => svg.getBoundingClientRect().right > innerWidth).length;
for (const svg of shown) {
  const all = svg.getBoundingClientRect();
  for (const text of svg.querySelectorAll('text')) {
    const box = text.getBoundingClientRect();
    if (box.left < all.left - 1 || box.right > all.right + 1 ||
        box.top < all.top - 1 || box.bottom > all.bottom + 1)
      clipped.push(text.textContent);
  }
}
const crossing = [];
for (const svg of shown) {
  const boxes = [...svg.querySelectorAll('text')].map(
    text => [text.textContent, text.getBoundingClientRect()]);
  for (const [i, [a, p]] of boxes.entries())
    for (const [b, q] of boxes.slice(i + 1))
      if (p.left < q.right - 1 && q.left < p.right - 1 &&
          p.top < q.bottom - 1 && q.top < p.bottom - 1)
        crossing.push([a, b]);
}
const line = document.createElement('span');
line.style = 'position: absolute; white-space: nowrap; font-size: 100px';
line.textContent = '%s';
document.body.append(line);
const line_width = line.getBoundingClientRect().width;
line.remove();
document.title = JSON.stringify({
  width: root.scrollWidth - root.clientWidth,
  pictures: shown.length, outside, scores: [
    ...document.querySelectorAll('.score')].map(
      one => one.getClientRects().length),
  paper: getComputedStyle(document.body).backgroundColor,
  line_width, clipped, crossing});
</script>""" % LINE


@pytest.fixture(scope='module')
def browser(tmp_path_factory):
    """Open a URL; return the document as the browser has it then."""
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip('no browser: apt-get install chromium')

    def dump(url, width=1160, dark=False):
        profile = tmp_path_factory.mktemp('profile')
        options = [
            f'--user-data-dir={profile}', f'--window-size={width},1000',
            f'--blink-settings=preferredColorScheme={int(not dark)}'
        ]
        done = subprocess.run([program, *QUIET, *options, '--dump-dom', url],
                              stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE,
                              timeout=LIMIT_SECS,
                              check=True)
        return done.stdout.decode()

    return dump


@pytest.fixture
def served():
    """Serve one page; return its URL, and all that is asked for."""
    asked, pages = [], {}

    class Handler(BaseHTTPRequestHandler):

        def do_GET(self):
            asked.append(self.path)
            body = pages.get(self.path, b'')
            self.send_response(200 if body else 404)
            self.send_header('Content-Type', 'text/html')
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments):
            pass

    server = HTTPServer(('127.0.0.1', 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f'http://127.0.0.1:{server.server_port}', pages, asked
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope='module')
def page(killed_run, tmp_path_factory):
    target = tmp_path_factory.mktemp('page') / 'page.html'
    assert main(['report', str(killed_run), '-o', str(target)]) == 0
    return target.read_text(encoding='utf-8')


def test_a_browser_asks_for_nothing_but_the_page(browser, served, killed_run,
                                                 tmp_path):
    url, pages, asked = served
    copied = tmp_path / 'run'
    shutil.copytree(killed_run, copied, symlinks=True)
    evil = f'"><img src="{url}/a.png"><script src="{url}/b.js"></script>' \
        f'<style>@import "{url}/c.css";</style><iframe src="{url}/d">' \
        f'<p style="background:url({url}/e.png)">'
    with open(copied / 'checkpoints.log.jsonl', 'a') as file:
        file.write(
            json.dumps(dict(event='scores', iter=8, metrics={evil: .5})) +
            '\n')
    target = tmp_path / 'page.html'
    assert main(['report', str(copied), '-o', str(target)]) == 0
    pages['/page.html'] = target.read_bytes()
    # what got into the page by a mistake the policy would still stop
    pages['/policy.html'] = target.read_bytes().replace(
        b'</main>',
        evil.encode() + b'</main>')
    dom = browser(f'{url}/page.html')
    assert asked == ['/page.html']
    assert '&lt;script src=' in dom and '<script' not in dom
    browser(f'{url}/policy.html')
    assert asked == ['/page.html', '/policy.html']


def measured(browser, page, tmp_path, width, dark=False):
    path = tmp_path / 'measured.html'
    path.write_text(
        re.sub('<meta http-equiv=[^>]*>', '',
               page).replace('</body>', f'{MEASURE}</body>'),
        encoding='utf-8')
    dom = browser(path.as_uri(), width, dark)
    title = re.search('<title>(.*?)</title>', dom).group(1)
    return json.loads(title.replace('&quot;', '"'))


@pytest.mark.parametrize('secs', [3, 29, 87, 600])
def test_no_label_of_a_short_run_is_cut_off(browser, tmp_path, secs):
    """Of times with seconds, the last at the very end of the axis."""
    events = [
        dict(
            event='save',
            name=f'iter_{at}.pth',
            iter=at,
            bytes=1,
            lineage='a',
            digest=f'd{at}',
            metrics={},
            blocked_secs=.1,
            durable_secs=.1,
            time=f'2026-11-28T01:{at // 60:02}:{at % 60:02}+00:00')
        for at in range(0, secs + 1, max(secs // 20, 1))
    ]
    run = tmp_path / 'run'
    run.mkdir()
    (run / 'checkpoints.log.jsonl').write_text('\n'.join(
        map(json.dumps, events)))
    target = tmp_path / 'page.html'
    assert main(['report', str(run), '-o', str(target)]) == 0
    text = target.read_text(encoding='utf-8')
    for width in (1160, 500):
        found = measured(browser, text, tmp_path, width)
        assert found['pictures'] == 3
        assert found['clipped'] == [] and found['crossing'] == []


@pytest.mark.parametrize('width, dark', [(1160, False), (500, True),
                                         (360, False)])
def test_nothing_is_clipped_or_on_top_of_another(browser, page, tmp_path,
                                                 width, dark):
    # a long flag stands beside the scores
    page = page.replace('>latest<', f'>{"x" * 60}<')
    found = measured(browser, page, tmp_path, width, dark)
    assert found['pictures'] == 5
    assert found['outside'] == 0  # nothing tells that one could scroll
    assert found['scores'] and set(found['scores']) == {1}
    assert found['width'] == 0  # the page itself never scrolls sideways
    paper = [int(one) for one in re.findall(r'\d+', found['paper'])]
    assert (max(paper) < 60) is dark
    wider = found['line_width'] / laid_out_width(LINE)
    if wider > WIDER:
        pytest.skip(f'the fonts here are {wider:.2f} times as wide as that of '
                    'matplotlib: whether texts are clipped or cross is not '
                    'tested')
    assert found['clipped'] == [] and found['crossing'] == []


def test_no_long_name_widens_the_page(browser, killed_run, tmp_path):
    run = tmp_path / 'run'
    shutil.copytree(killed_run, run, symlinks=True)
    # told under "To be known", by a path without a place to break it
    (run / 'iter_5.pth').symlink_to('/nowhere/' + 'p' * 200)
    metrics = {'m' * 300: .5}
    with open(run / 'checkpoints.log.jsonl', 'a') as file:
        file.write(
            json.dumps(dict(event='scores', iter=8, metrics=metrics)) + '\n')
    target = tmp_path / 'page.html'
    assert main(['report', str(run), '-o', str(target)]) == 0
    text = target.read_text(encoding='utf-8')
    assert 'p' * 200 in text and 'm' * 300 in text
    for width in (1160, 360):
        assert measured(browser, text, tmp_path, width)['width'] == 0


def laid_out_width(text):
    """Return the width that matplotlib takes a line for, at 100 pixels."""
    from matplotlib.textpath import TextPath
    return TextPath((0, 0), text, size=100).get_extents().width


def luminance(colour):
    parts = [int(colour[index:index + 2], 16) / 255 for index in (1, 3, 5)]
    red, green, blue = (
        one / 12.92 if one <= .03928 else ((one + .055) / 1.055)**2.4
        for one in parts)
    return .2126 * red + .7152 * green + .0722 * blue


@pytest.mark.parametrize('scheme', [0, 1], ids=['light', 'dark'])
def test_colours_can_be_told_from_the_paper(scheme):
    """WCAG 2: 4.5 for text, 3 for marks."""
    block = re.findall(r':root \{(.*?)\}', STYLE, re.DOTALL)[scheme]
    colours = dict(re.findall(r'--(\w+): (#\w{6});', block))
    paper = luminance(colours['card'])
    for name, least in dict(
            ink=7, muted=4.5, good=4.5, bad=4.5, warn=4.5, line=4.5,
            other=3).items():
        one = luminance(colours[name])
        ratio = (max(one, paper) + .05) / (min(one, paper) + .05)
        assert ratio >= least, (name, ratio)
