"""``mmcv-ckpt diff``: what has changed between two checkpoints."""
import argparse
import math
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Sequence

from ..errors import ConfigError, DependencyError
from ..folders.place import leads_to_folder
from ..given_path import refuse_part
from ..storage.mapped_errors import mapped_errors
from ..wording import counted
from .output import (Column, add_json, print_json, print_line, print_table,
                     status, warn)
from .place import Places, is_directory, path_of, split_path
from .remote import Access, add_access

if TYPE_CHECKING:
    from ..comparison import Change, Comparison

EXIT_DIFFERENT = 1

#: Levels of a name that make a module.
_DEPTH = 2
#: Names of each kind that are shown; --json has all.
_SHOWN_NAMES = 10
_COLUMNS = (
    Column('module'),
    Column('tensors', right=True),
    Column('changed', right=True),
    Column('largest change', right=True),
    Column('in', wraps=True),
)
_NOTHING: Dict[str, Any] = {'same': None, 'steps': [], 'fields': {}}


def add_parser(commands: Any) -> None:
    """Add the command to the program's parser."""
    parser = commands.add_parser(
        'diff',
        help='compare the tensors of two checkpoints',
        description='Tells which tensors only one of two checkpoints has, '
        'which have another type or shape, and how far the others have '
        'changed: the 2-norm of the difference, divided by that of the '
        'tensor in A; of each module the largest. Both are verified while '
        'they are read, and nothing in them is executed. Needs torch.',
        epilog='Exit code: 0, also if they differ, unless --exit-code is '
        'given; 1 one of them is damaged; 2 wrong usage, or one is missing '
        'or may not be read; 3 loading one could run code.')
    parser.add_argument('first', metavar='A', help='a checkpoint, or its URL')
    parser.add_argument('second', metavar='B', help='another one')
    parser.add_argument(
        '--optimizer',
        action='store_true',
        help='compare the state of the optimizers, too')
    parser.add_argument(
        '--depth',
        type=int,
        default=_DEPTH,
        metavar='N',
        help='so many levels of a name make a module (default: %(default)s)')
    parser.add_argument(
        '--exit-code', action='store_true', help='end with 1 if they differ')
    add_json(parser)
    add_access(parser)
    parser.set_defaults(
        run=run,
        nothing=lambda given: {
            'first': given.first,
            'second': given.second,
            **_NOTHING
        })


def run(arguments: argparse.Namespace) -> int:
    """Compare two checkpoints.

    Returns:
        int: The exit code.

    Raises:
        IntegrityError: If one is damaged.
        UnsafeCheckpointError: If loading one could run code.
        StorageError: If one cannot be read.
        ConfigError: If one is no checkpoint.
    """
    if arguments.depth < 1:
        raise ConfigError(f'--depth={arguments.depth}: it must be at least 1')
    places = Places(Access(arguments), warn)
    pair = [
        _load(places, path_of(given))
        for given in (arguments.first, arguments.second)
    ]
    fields = _compare(pair, arguments.optimizer)
    is_same = all(one.is_same for one in fields.values())
    code = EXIT_DIFFERENT if arguments.exit_code and not is_same else 0
    steps = [_steps(one) for one in pair]
    if arguments.json:
        print_json({
            'first': arguments.first,
            'second': arguments.second,
            **status(code), 'same': is_same,
            'steps': steps,
            'fields': {
                name: _content(one, arguments.depth)
                for name, one in fields.items()
            }
        })
        return code
    for label, given, step in zip('AB', (arguments.first, arguments.second),
                                  steps):
        print_line(f'{label} {given}{_steps_text(step)}')
    for name, one in fields.items():
        _print(name, one, arguments.depth)
    return code


def _load(places: Places, path: str) -> Mapping[str, Any]:
    try:
        from .. import any_format
    except ImportError as error:
        raise DependencyError(f'diff needs torch: {error}') from error
    refuse_part(path)
    with mapped_errors('cannot read', path):
        if leads_to_folder(path):
            path = path.rstrip('/')
            return any_format.load(
                places.files(path),
                split_path(path)[1], path)
        if is_directory(path):
            raise ConfigError(
                f'{path} is a directory, expected a checkpoint. "mmcv-ckpt ls '
                f'{path}" lists those in it')
        directory, name = split_path(path)
        return any_format.load(places.files(directory), name, path)


def _compare(pair: Sequence[Mapping[str, Any]],
             with_optimizer: bool) -> 'Dict[str, Comparison]':
    from .. import any_format, comparison
    names = any_format.FIELDS if with_optimizer else any_format.FIELDS[:1]
    return {
        name: comparison.compare(*[one.get(name) for one in pair])
        for name in names
    }


def _steps(content: Mapping[str, Any]) -> Dict[str, int]:
    """Return the finished iterations and epochs, where meta tells them."""
    meta = content.get('meta')
    if not isinstance(meta, dict):
        return {}
    return {
        key: meta[key]
        for key in ('iter', 'epoch') if isinstance(meta.get(key), int)
    }


# -- how it is shown -------------------------------------------------------


def _modules(changes: 'Sequence[Change]',
             depth: int) -> 'Dict[str, List[Change]]':
    """Group tensors by the first levels of their names.

    The last level is the tensor itself, and no module.
    """
    found: 'Dict[str, List[Change]]' = {}
    for one in changes:
        levels = one.name.split('.')
        module = '.'.join(levels[:min(depth, len(levels) - 1)])
        found.setdefault(module, []).append(one)
    return found


def _largest(changes: 'Sequence[Change]') -> 'Change':
    # a counter of batches has doubled, and says nothing of the weights; what
    # is not finite is what one looks for
    return max(
        changes,
        key=lambda one:
        (not one.is_count, math.isnan(one.relative), one.relative
         if not math.isnan(one.relative) else 0.))


def _content(one: 'Comparison', depth: int) -> Dict[str, Any]:
    return {
        'same':
        one.is_same,
        'only_first':
        one.only_first,
        'only_second':
        one.only_second,
        'reshaped':
        one.reshaped,
        'modules': [{
            'name': module,
            'tensors': len(changes),
            'changed': _changed(changes),
            'largest': _number(_largest(changes)),
            'in': _largest(changes).name,
        } for module, changes in _modules(one.changes, depth).items()],
        'tensors': {
            change.name: _number(change)
            for change in one.changes
        },
    }


def _number(change: 'Change') -> Any:
    """Return a change as JSON has it: no number is infinite, or NaN."""
    return change.relative if math.isfinite(change.relative) else \
        _change_text(change)


def _change_text(change: Optional['Change']) -> str:
    if change is None or change.relative == 0:
        return '-'
    if math.isnan(change.relative):
        return 'not finite'
    if math.isinf(change.relative):
        return 'from zero'
    return f'{change.relative:.2g}'


def _changed(changes: 'Sequence[Change]') -> int:
    return sum(one.relative != 0 for one in changes)


def _print(field: str, one: 'Comparison', depth: int) -> None:
    print_line('')
    if one.is_same:
        print_line(f'{field}: {counted(len(one.changes), "tensors")}, all the '
                   'same')
        return
    print_line(f'{field}: {counted(len(one.changes), "tensors")} in both, '
               f'{_changed(one.changes)} changed; {len(one.only_first)} only '
               f'in A, {len(one.only_second)} only in B; '
               f'{len(one.reshaped)} of another type or shape')
    _print_names('only in A', one.only_first)
    _print_names('only in B', one.only_second)
    _print_names('A, B', {
        name: ', '.join(both)
        for name, both in one.reshaped.items()
    })
    modules = _modules(one.changes, depth)
    rows = [[
        module or '.',
        str(len(changes)),
        str(_changed(changes)),
        _change_text(_largest(changes)),
        _largest(changes).name if _changed(changes) else ''
    ] for module, changes in modules.items()]
    if rows:
        print_line('')
        print_table(_COLUMNS, rows, [''] * len(rows))


def _print_names(what: str, names: Mapping[str, str]) -> None:
    for name in list(names)[:_SHOWN_NAMES]:
        print_line(f'{what}: {name} ({names[name]})')
    rest = len(names) - _SHOWN_NAMES
    if rest > 0:
        print_line(f'{what}: {rest} more (--json has all)')


def _steps_text(steps: Mapping[str, int]) -> str:
    said = ', '.join(f'{key} {value}' for key, value in steps.items())
    return f' ({said})' if said else ''
