"""``filename_tmpl``, checked: a name that fails would fail at every save."""
import os

from .errors import ConfigError
from .folders.layout import SUFFIX
from .storage.names import is_temporary

#: What file systems allow, less what a name gets when it is set aside.
_NAME_LIMIT_BYTES = 255 - len('.01234567')
#: No run is longer.
_LARGE_STEP = 10**12


def plain_template(template: str, of_folders: bool) -> str:
    """Return a template of files: a folder has ``.dcp`` in the place of that.

    Args:
        template (str): As it was given.
        of_folders (bool): Whether checkpoints are folders.

    Raises:
        ConfigError: If it gives no names, or always the same one.
    """
    is_of_folders = of_folders and template.endswith(SUFFIX)
    end = f"'.pth' or '{SUFFIX}'," if of_folders else "'.pth',"
    plain = template[:-len(SUFFIX)] + '.pth' if is_of_folders else template
    _check(template, plain, end)
    return plain


def _check(template: str, plain: str, end: str) -> None:
    try:
        # `{:.0e}` gives the same name to large steps, not to small ones
        varies = all(
            template.format(step) != template.format(step + 1)
            for step in (1, _LARGE_STEP))
    except (AttributeError, LookupError, OverflowError, TypeError, ValueError):
        varies = False
    if not varies:
        raise ConfigError(
            'DurableCheckpointHook: filename_tmpl must have one placeholder '
            f"{{}} for the number, as in 'iter_{{}}.pth', but got {template!r}"
            ': every save would replace the one before')
    # a config is used on other systems, too: a backslash separates on Windows
    if not plain.endswith('.pth') or any(one in template for one in '/\\\0'):
        raise ConfigError(
            'DurableCheckpointHook: filename_tmpl must be a file name that '
            f'ends in {end} but got {template!r}' +
            (" ('.dcp' is that of format='dcp')" if template.endswith(SUFFIX)
             and not plain.endswith('.pth') else ''))
    if is_temporary(template.format(1)):
        raise ConfigError(
            'DurableCheckpointHook: filename_tmpl must give other names than '
            f'unfinished files have, but got {template!r}')
    try:
        size = len(os.fsencode(template.format(_LARGE_STEP)))
    except UnicodeEncodeError as error:
        raise ConfigError(
            'DurableCheckpointHook: filename_tmpl must give names that a file '
            f'system can have, but got {template!r}') from error
    if size > _NAME_LIMIT_BYTES:
        raise ConfigError(
            'DurableCheckpointHook: filename_tmpl must give names of at most '
            f'{_NAME_LIMIT_BYTES} bytes, but one of {size} comes of '
            f'{template!r}')
