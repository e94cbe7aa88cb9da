"""The parser of the program: what is wrong with a command line, in two lines.

Commands are imported when they are asked for: ``ls`` and ``verify`` answer
before all others would be read.
"""
import argparse
import importlib
import itertools
import sys
from typing import Any, Dict, List, NoReturn, Optional, Sequence

from ..version import __version__
from ..wording import nearest
from .output import print_json, status

#: One file each, in the order of the overview.
COMMANDS = ('ls', 'inspect', 'verify', 'diff', 'prune', 'publish', 'convert',
            'push', 'pull', 'report', 'completion')
#: For all but the last of them; many write it before the command.
_JSON = '--json'
_EXIT_USAGE = 2
#: What others call so: git, restic, mlflow, rclone, kubectl.
_MEANT = {
    'list': 'ls',
    'dir': 'ls',
    'status': 'ls',
    'show': 'inspect',
    'cat': 'inspect',
    'info': 'inspect',
    'check': 'verify',
    'fsck': 'verify',
    'repair': 'verify --repair-catalog',
    'compare': 'diff',
    'rm': 'prune',
    'gc': 'prune',
    'clean': 'prune',
    'delete': 'prune',
    'forget': 'prune',
    'export': 'publish',
    'upload': 'push',
    'sync': 'push',
    'download': 'pull',
    'restore': 'pull',
    'fetch': 'pull',
}
_EXAMPLES = """\
examples:
  mmcv-ckpt ls work_dirs/run               what is there, what a resume takes
  mmcv-ckpt verify --all work_dirs/run     every byte against its checksum
  mmcv-ckpt prune work_dirs/run --last 3   what --yes would delete

"mmcv-ckpt COMMAND --help" tells the rest. Exit codes: 0 all well, 1 damaged,
2 wrong usage or something is missing, 3 loading could run code. --json, before
COMMAND or behind it, prints one JSON object.
"""


class UsageError(Exception):
    """A command line that is wrong.

    Args:
        problem (str): What is wrong with it.
        shown (str): That, and what is right, in two lines.
    """

    def __init__(self, problem: str, shown: str) -> None:
        super().__init__(problem)
        self.shown = shown


class Parser(argparse.ArgumentParser):
    """Tells in one line what is wrong, and in another what is right."""

    def error(self, message: str) -> NoReturn:
        """Refuse the command line.

        Raises:
            UsageError: Always.
        """
        raise UsageError(
            message, f'{self.prog}: {message}\n'
            f'usage: {self._short_usage()} ("{self.prog} --help" tells all)\n')

    def unknown(self, arguments: Sequence[str]) -> NoReturn:
        """Refuse what the program was given and does not know.

        Raises:
            UsageError: Always.
        """
        first = arguments[0]
        if not first.startswith('-'):
            self.error(f'one argument too many: {first!r}')
        option = first.partition('=')[0]
        known = sorted(self._option_string_actions)
        self.error(f'unknown option {option}{_hint(nearest(option, known))}')

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        # argparse's own words for it name all commands, and none
        if isinstance(action, argparse._SubParsersAction) and \
                value not in (action.choices or ()):
            near = _MEANT.get(value) or nearest(str(value), COMMANDS)
            self.error(f'unknown command {value!r}{_hint(near)}; there are: '
                       f'{", ".join(COMMANDS)}')
        super()._check_value(action, value)

    def _short_usage(self) -> str:
        parts = [self.prog, '[OPTION ...]']
        for action in self._get_positional_actions():
            name = action.metavar or action.dest
            many = {
                '+': f'{name} ...',
                '?': f'[{name}]',
                'A...': f'{name} ...'
            }
            parts.append(many.get(str(action.nargs), str(name)))
        return ' '.join(parts)


def _hint(near: str) -> str:
    return f' (did you mean {near}?)' if near else ''


def parse(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    """Return what was given; its ``run`` is None without a command.

    Args:
        argv (Sequence[str], optional): Arguments without the program's name.
            Default: None, which means ``sys.argv[1:]``.

    Raises:
        SystemExit: After ``--help`` (0) and on wrong usage (2).
    """
    given = _command_first(list(sys.argv[1:] if argv is None else argv))
    named = [one for one in given[:1] if one in COMMANDS]
    parser = make_parser(named or COMMANDS)
    if not given:
        parser.print_help()
        return argparse.Namespace(run=None)
    try:
        found, rest = parser.parse_known_args(given)
        if rest:
            chosen: Parser = parsers_of(parser)[found.command]
            chosen.unknown(rest)
    except UsageError as error:
        if _JSON in itertools.takewhile(lambda one: one != '--', given):
            print_json(status(_EXIT_USAGE, error))
            sys.stdout.flush()
        parser.exit(_EXIT_USAGE, error.shown)
    return found


def _command_first(given: List[str]) -> List[str]:
    """Put ``--json`` behind the command, whose option it is."""
    if given[:1] == [_JSON] and given[1:2]:
        return [given[1], _JSON, *given[2:]]
    return given


def make_parser(names: Sequence[str] = COMMANDS) -> Parser:
    """Return the parser of the program.

    Args:
        names (Sequence[str]): Of the commands that it has. Default: all.
    """
    parser = Parser(
        prog='mmcv-ckpt',
        usage='mmcv-ckpt [--version] [--json] COMMAND ...',
        description='Lists, shows, verifies, compares, prunes, publishes, '
        'converts and copies checkpoints of mmcv runs. Nothing in them is '
        'executed.',
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        '--version', action='version', version=f'mmcv-ckpt {__version__}')
    # the one of a command names the program, without the usage above
    commands = parser.add_subparsers(
        dest='command', metavar='COMMAND', required=True, prog='mmcv-ckpt')
    for name in names:
        module = importlib.import_module(f'.{name}', __package__)
        module.add_parser(commands)
    return parser


def parsers_of(parser: Parser) -> Dict[str, Any]:
    """Return the parsers of the commands by their names."""
    return dict(_commands_of(parser).choices)


def summaries(parser: Parser) -> List[str]:
    """Return what the overview says of the commands, in the same order."""
    return [str(one.help) for one in _commands_of(parser)._get_subactions()]


def _commands_of(parser: Parser) -> Any:
    return next(
        action for action in parser._actions
        if isinstance(action, argparse._SubParsersAction))
