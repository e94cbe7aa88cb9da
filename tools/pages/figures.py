"""The figures of ``docs/benchmarks.md``, from what the benchmark has kept."""
import json
import sys

#: The results that `make` keeps, and what each is called. Others come last.
TITLES = dict(
    bench='Beside stock mmcv',
    peers='Beside other savers',
    growth='How it grows',
    gpu='On a GPU')
MISSING = ('No result is kept in this checkout: `make bench` measures, and '
           'writes one.')


def as_markdown(folder, benchmarks):
    """Describe all results of a folder, each below a heading of its own.

    Args:
        folder (Path): Of the JSON files.
        benchmarks (Path): Of the benchmark, whose tables these are.
    """
    found = sorted(folder.glob('*.json'), key=_rank)
    if not found:
        return MISSING
    report = _report(benchmarks)
    return '\n\n'.join(_section(path, report) for path in found)


def _section(path, report):
    result = json.loads(path.read_text(encoding='utf-8'))
    title = TITLES.get(path.stem, path.stem)
    head = '\n'.join([
        '| | |', '|---|---|',
        f'| command | `python benchmarks/bench.py {result["command"]}` |',
        f'| commit | {result["commit"] or "not known"} |',
        f'| date | {result["time"]} |', f'| machine | {result["machine"]} |'
    ])
    return f'## {title}\n\n{head}\n\n{report.as_markdown(result).strip()}'


def _rank(path):
    order = list(TITLES)
    return (order.index(path.stem)
            if path.stem in order else len(order)), path.stem


def _report(benchmarks):
    """The benchmark's own words; the standard library is enough for them."""
    sys.path.insert(0, str(benchmarks))
    try:
        # some are imported when they are used
        import growth  # noqa: F401
        import ranks  # noqa: F401
        import report
        import targets  # noqa: F401
        return report
    finally:
        sys.path.remove(str(benchmarks))
