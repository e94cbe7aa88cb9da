"""The table of the version matrix, made of what its cells have answered.

It goes into docs/versions.md, with every reason for a skip, between its two
marks.
"""
import collections
import re
import xml.etree.ElementTree

import make_env

VERSIONS = make_env.ROOT / 'docs' / 'versions.md'
BEGIN, END = '<!-- matrix: made by `make matrix` -->', '<!-- end of matrix -->'
#: What stands for a reason where a test has given none.
NO_REASON = 'NO REASON GIVEN'


def counted(report):
    """What each file of tests has come to, from pytest's XML.

    Returns:
        dict[str, dict]: Counts, seconds, and skips by their reason, by path.
    """
    files = {}
    for case in xml.etree.ElementTree.parse(str(report)).iter('testcase'):
        found = files.setdefault(
            case.get('file'),
            dict(passed=0, skipped=0, failed=0, secs=0, reasons={}))
        found['secs'] += float(case.get('time', 0))
        kinds = {child.tag: child for child in case}
        if 'failure' in kinds or 'error' in kinds:
            found['failed'] += 1
        elif 'skipped' in kinds:
            found['skipped'] += 1
            reason = reason_of(kinds['skipped'])
            found['reasons'][reason] = found['reasons'].get(reason, 0) + 1
        else:
            found['passed'] += 1
    return files


def total(result, key):
    return sum(one[key] for one in result.get('files', {}).values())


def reasons(result):
    """Skips of a cell by their reason."""
    found = collections.Counter()
    for one in result.get('files', {}).values():
        found.update(one['reasons'])
    return found


def reason_of(skip):
    """The reason, in one line; a mark without one says what it is."""
    reason = re.sub(r'\s+', ' ', skip.get('message') or '').strip()
    return NO_REASON if reason in ('', 'unconditional skip') else reason


def is_good(result):
    """Whether all is as it should be in a cell."""
    return not ('error' in result or total(result, 'failed')
                or NO_REASON in reasons(result) or result.get('differs'))


def compact_table(results):
    """Return counts by mmcv and torch, as Markdown."""
    return table(results, cell_text)


def long_table(results):
    """Return the same with times, and every reason for a skip."""
    lines = [table(results, timed_text), '', '| skipped | tests | where |']
    lines += ['|---|---|---|', *reason_rows(results)]
    return '\n'.join(lines)


def table(results, text):
    mmcv, torch = versions(results)
    rows = ['| mmcv | ' + ' | '.join(f'torch {one}' for one in torch) + ' |']
    rows.append('|---' * (len(torch) + 1) + '|')
    for row in mmcv:
        cells = [results.get(f'{row}/{column}') for column in torch]
        rows.append(f'| {row} | ' + ' | '.join(map(text, cells)) + ' |')
    return '\n'.join([*rows, '', summary(results)])


def versions(results):
    """The versions of mmcv and of torch, oldest first."""
    return [
        sorted({name.split('/')[place]
                for name in results},
               key=lambda one: tuple(map(int, one.split('.'))))
        for place in (0, 1)
    ]


def cell_text(result):
    if result is None:
        return 'not run'
    if 'error' in result:
        return result['error'].replace('|', '/')
    if not result['files']:
        return 'checkpoints only'
    text = f'{total(result, "passed")} passed, ' \
        f'{total(result, "skipped")} skipped'
    failed = total(result, 'failed')
    if failed:
        text += f', **{failed} failed**'
    if result.get('differs'):
        text += ', **files of other cells differ**'
    return text


def timed_text(result):
    text = cell_text(result)
    secs = total(result or {}, 'secs')
    return f'{text}; {secs:.0f} s' if secs else text


def summary(results):
    """One line: files of all cells in all, and when that was run."""
    good = [one for one in results.values() if 'error' not in one]
    pairs = sum(len(one.get('resumed', ())) for one in good)
    differ = sum(bool(one.get('differs')) for one in good)
    text = f'Each cell resumes the checkpoints of all: {pairs} pairs' \
        if not differ else \
        f'**{differ} of {len(good)} cells do not resume all checkpoints**'
    files = [file for one in good for file in one['files'].values()]
    commits = sorted({one['commit'] for one in files})
    days = sorted({one['day'] for one in files})
    return f'{text}. (`make matrix`, commit {", ".join(commits)}, ' \
        f'{" and ".join(days)})'


def reason_rows(results):
    """Every reason for a skip, with the cells that have it."""
    cells = collections.defaultdict(dict)
    for name, result in results.items():
        for reason, count in reasons(result).items():
            cells[reason][name] = count
    rows = []
    for reason, counts in sorted(cells.items()):
        low, high = min(counts.values()), max(counts.values())
        number = f'{high}' if low == high else f'{low} to {high}'
        reason = reason.replace('|', '/')
        rows.append(f'| {reason} | {number} | {where(counts, results)} |')
    return rows


def where(cells, results):
    """Names of cells, shorter where a version has the same in all of them."""
    if set(cells) == set(results):
        return 'all cells'
    for place, name in enumerate(('mmcv', 'torch')):
        found = {one.split('/')[place] for one in cells}
        if set(cells) == {
                one
                for one in results if one.split('/')[place] in found
        }:
            known = versions(results)[place]
            return f'{name} ' + ', '.join(one for one in known if one in found)
    return ', '.join(sorted(cells))


def write_between(path, content):
    """Put a text between the marks of a file.

    Raises:
        ValueError: If the file has none.
    """
    text = path.read_text(encoding='utf-8')
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f'{path} has no marks for the table: {BEGIN}, {END}')
    path.write_text(
        f'{before}{BEGIN}\n{content}\n{END}{after}', encoding='utf-8')


def write_table(results):
    """Put the table into the page of the versions."""
    write_between(VERSIONS, long_table(results))
