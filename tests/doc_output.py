"""Compares what a command printed with what a page says that it prints."""
import re

ELLIPSIS = '...'
#: What differs from run to run, and what stands for any other of its kind.
VARIES = (
    ('a date', r'\d{4}-\d\d-\d\d'),
    ('a time of day', r'\d\d:\d\d:\d\d'),
    ('a duration', r'\d+(?:\.\d+)? ?(?:us|ms|s|min|h)\b'),
    ('a rate', r'\d+(?:\.\d+)? (?:k|M|G)?B/s'),
    ('a port of this machine', r'127\.0\.0\.1:\d+'),
    ('a process', r'(?:pid|process) \d+'),
    ('a digest', r'\b(?=[0-9a-f]*\d)(?:[0-9a-f]{64}|[0-9a-f]{8})\b'),
    ('a measured number', r'-?\d+\.\d{3,}\b'),
)
#: Sizes are those of this version of torch: they are held with a tolerance.
SIZE = r'\d+(?:\.\d+)? (?:[kMGT]i?)?B\b'
TOLERANCE = .1
_UNITS = {
    'B': 1,
    'kB': 1e3,
    'MB': 1e6,
    'GB': 1e9,
    'TB': 1e12,
    'KiB': 2**10,
    'MiB': 2**20,
    'GiB': 2**30,
    'TiB': 2**40
}
_TOKEN = re.compile('|'.join([
    r'(?P<left_out>\.\.\.)', *(f'(?P<varies{number}>{pattern})'
                               for number, (_, pattern) in enumerate(VARIES)),
    f'(?P<size>{SIZE})', r'(?P<blank>\s+)'
]))


def line_matches(expected, found):
    """Whether a printed line is what the page says.

    ``...`` stands for any text, blanks for any number of blanks.
    """
    pattern, sizes = [], []
    end = 0
    expected = expected.rstrip()
    for token in _TOKEN.finditer(expected):
        pattern.append(re.escape(expected[end:token.start()]))
        end = token.end()
        if token.lastgroup == 'left_out':
            pattern.append('.*')
        elif token.lastgroup == 'blank':
            pattern.append(r'\s+')
        elif token.lastgroup == 'size':
            pattern.append(f'({SIZE})')
            sizes.append(token.group())
        else:
            number = int(token.lastgroup[len('varies'):])
            pattern.append(f'(?:{VARIES[number][1]})')
    pattern.append(re.escape(expected[end:]))
    match = re.fullmatch(''.join(pattern), found.rstrip())
    return match is not None and all(map(is_near, sizes, match.groups()))


def is_near(expected, found):
    """Whether two sizes are the same but for rounding and a tolerance."""
    number, unit = expected.split()
    decimals = len(number.partition('.')[2])
    value = float(number) * _UNITS[unit]
    rounding = 10**-decimals * _UNITS[unit]
    number, unit = found.split()
    return abs(float(number) * _UNITS[unit] -
               value) <= TOLERANCE * value + rounding


def first_difference(expected, found):
    """Return the line of a page that was not printed, or None.

    Args:
        expected (list[str]): Lines of the page. ``...`` alone stands for one
            line or more.
        found (list[str]): Lines that were printed.
    """
    expected, found = without_blank_end(expected), without_blank_end(found)
    parts = [[]]
    for line in expected:
        if line.strip() == ELLIPSIS:
            parts.append([])
        else:
            parts[-1].append(line)
    place = matching_from(parts[0], found, 0)
    if place is not None:
        return parts[0][place]
    place = len(parts[0])
    for number, part in enumerate(parts[1:], 2):
        # one line at least is left out
        last = number == len(parts)
        starts = [len(found) -
                  len(part)] if last else range(place + 1,
                                                len(found) - len(part) + 1)
        for start in starts:
            if start > place and matching_from(part, found, start) is None:
                place = start + len(part)
                break
        else:
            return (part or [ELLIPSIS])[0]
    if place < len(found):
        return f'nothing more, but there is: {found[place]}'
    return None


def missing_line(shortened, printed):
    """Return the first line of a shortened log that was not printed.

    A line of the log may have more before, behind and behind each comma; a
    line of the page that begins with blanks belongs to the one before, one
    in brackets is a remark.

    Args:
        shortened (str): What a page shows, in this order.
        printed (str): All that was printed.

    Returns:
        str: The line, or None.
    """
    found = iter(printed.splitlines())
    for line in shortened.replace('\n  ', ' ').splitlines():
        wanted = '...' + line.replace(', ', ', ...') + '...'
        if not line.startswith('[') and not any(
                line_matches(wanted, one) for one in found):
            return line
    return None


def matching_from(lines, found, start):
    """Index of the first line that does not match, None if all do."""
    for index, line in enumerate(lines):
        place = start + index
        if place >= len(found) or not line_matches(line, found[place]):
            return index
    return None


def without_blank_end(lines):
    lines = [line.rstrip() for line in lines]
    while lines and not lines[-1]:
        lines.pop()
    return lines
