"""What to do about an error, for who has given a command and has no hook."""
import os

from ..errors import TRUST
from ..lease import ADVICE

_TRUST = ('"mmcv-ckpt {command}" executes nothing in a file. If you trust who '
          'made this one, have Python write its weights anew, '
          "torch.save(torch.load(FILE, weights_only=False)['state_dict'], "
          'NEW), and give it NEW')
#: What they look at is for a run: the advice for its config is right.
_LOOKING = ('ls', 'inspect', 'verify', 'report')
_MEMORY = ('Of a file or a folder on this machine less is needed: "mmcv-ckpt '
           'pull" copies one from a URL')
_LOCKED = ('Wait for the end of that run, or stop it, and give the command '
           'again')


def for_command(error: Exception, command: str) -> Exception:
    """Return an error with the advice that a command needs.

    Args:
        error (Exception): Its advice may be that for a config.
        command (str): What was given: ``'convert'``.
    """
    if isinstance(error, MemoryError):
        # Python's own says nothing
        what = str(error) or 'there is not enough memory'
        return MemoryError(f'{what}. {_MEMORY}')
    if type(error) is FileNotFoundError and error.filename is None and \
            not _has_directory():
        # so says Python where the path of the directory is asked for
        return FileNotFoundError(
            'the current directory is not there any more: go to another one')
    said = str(error)
    told = said.replace(ADVICE, _LOCKED)
    if command not in _LOOKING:
        told = told.replace(TRUST, _TRUST.format(command=command))
    if told == said:
        return error
    advised = type(error)(told)
    # whoever looks for the cause finds where it came from
    advised.__cause__ = error
    return advised


def _has_directory() -> bool:
    """Whether the current directory is still there."""
    try:
        os.getcwd()
    except FileNotFoundError:
        return False
    return True
