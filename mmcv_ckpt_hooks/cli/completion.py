"""``mmcv-ckpt completion``: what a shell completes on the TAB key."""
import argparse
from typing import Any, Dict

from ..errors import DependencyError
from .output import write

_SHELLS = ('bash', 'zsh', 'tcsh')
_EPILOG = """\
for every shell that is started from now on:
  bash  mmcv-ckpt completion bash > DIR/mmcv-ckpt
        (DIR: ~/.local/share/bash-completion/completions)
  zsh   mmcv-ckpt completion zsh > DIR/_mmcv-ckpt
        (DIR: one of $fpath, before compinit)
  tcsh  mmcv-ckpt completion tcsh > FILE
        (and "source FILE" in ~/.tcshrc)

for this one: eval "$(mmcv-ckpt completion bash)"

The script knows the commands and options of this version: write it anew after
an update. It needs the extra [cli] (shtab) here, and nothing where it is used.
"""


def add_parser(commands: Any) -> None:
    """Add the command to the program's parser."""
    parser = commands.add_parser(
        'completion',
        help='print a script with which a shell completes commands, options '
        'and paths',
        description='Prints a script for a shell.',
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        'shell', metavar='SHELL', choices=_SHELLS, help=', '.join(_SHELLS))
    parser.set_defaults(run=run, json=False)


def run(arguments: argparse.Namespace) -> int:
    """Print the script.

    Returns:
        int: 0.

    Raises:
        DependencyError: If shtab is not installed.
    """
    try:
        import shtab
    except ImportError as error:
        raise DependencyError(
            'completion needs shtab, which is not installed: pip install '
            "'mmcv_ckpt_hooks[cli]'") from error
    from .arguments import make_parser, parsers_of, summaries
    parser = make_parser()
    for one, summary in zip(parsers_of(parser).values(), summaries(parser)):
        one.description = summary  # zsh shows it beside the name
        _complete_paths(one, shtab.FILE, shtab.DIRECTORY)
    write(shtab.complete(parser, shell=arguments.shell) + '\n')
    return 0


def _complete_paths(parser: argparse.ArgumentParser, file: Dict[str, str],
                    directory: Dict[str, str]) -> None:
    """Say of each argument that is a path which ones it takes."""
    for action in parser._get_positional_actions():
        if not action.choices:
            is_directory = action.metavar == 'DIR'
            setattr(action, 'complete', directory if is_directory else file)
