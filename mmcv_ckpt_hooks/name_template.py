"""``filename_tmpl``, checked: a name that fails would fail at every save."""
import os

from .errors import ConfigError
from .storage.names import is_temporary

#: What file systems allow, less what a name gets when it is set aside.
_NAME_LIMIT_BYTES = 255 - len('.01234567')
#: No run is longer.
_LARGE_STEP = 10**12


def check_template(template: str) -> None:
    """Refuse a template that gives no file names, or always the same one.

    Raises:
        ConfigError: If it does.
    """
    try:
        varies = template.format(1) != template.format(2)
    except (IndexError, KeyError, ValueError):
        varies = False
    if not varies:
        raise ConfigError(
            'DurableCheckpointHook: filename_tmpl must have one placeholder '
            f"{{}} for the number, as in 'iter_{{}}.pth', but got {template!r}"
            ': every save would replace the one before')
    # a config is used on other systems, too: a backslash separates on Windows
    if not template.endswith('.pth') or any(one in template
                                            for one in '/\\\0'):
        raise ConfigError(
            'DurableCheckpointHook: filename_tmpl must be a file name that '
            f"ends in '.pth', but got {template!r}")
    if is_temporary(template.format(1)):
        raise ConfigError(
            'DurableCheckpointHook: filename_tmpl must give other names than '
            f'unfinished files have, but got {template!r}')
    size = len(os.fsencode(template.format(_LARGE_STEP)))
    if size > _NAME_LIMIT_BYTES:
        raise ConfigError(
            'DurableCheckpointHook: filename_tmpl must give names of at most '
            f'{_NAME_LIMIT_BYTES} bytes, but one of {size} comes of '
            f'{template!r}')
