"""Config dict to frozen options: the only place where input is validated."""
import os
import re
import signal
from dataclasses import fields
from typing import Any, Dict, Mapping, Optional, Sequence, Tuple

from .argument_checks import (Types, check_choice, check_known, check_positive,
                              check_texts, check_types, check_used)
from .errors import ConfigError
from .folders.layout import is_checkpoint
from .given_path import check_place, check_resume, refuse_null
from .keep_config import plain_keep
from .name_template import plain_template
from .names_elsewhere import LATER, MEANT, meant_in
from .options import (DEFAULT_SIGNALS, CheckpointOptions, KeepOptions,
                      MirrorOptions, TriggerOptions, WriteOptions)
from .sharded.limits import check_format
from .signals import ACTIONS, SIGNALS
from .storage import OBJECT_STORES
from .storage.names import same_place, without_credentials
from .storage.near_names import refuse_near_url
from .types import POINTER_FILE


def parse_options(given: Mapping[str, Any]) -> CheckpointOptions:
    """Validate the arguments of the hook.

    Args:
        given (dict): What the user gave; None means not given.

    Raises:
        ConfigError: If a name is unknown, a type or value is wrong, or two
            contradict each other.
    """
    values = {
        name: value
        for name, value in given.items() if value is not None
    }
    # None under a wrong name says something, too: `signals=None`
    _refuse_later(given)
    for name in _PATHS & set(values):
        if isinstance(values[name], os.PathLike):
            values[name] = os.fspath(values[name])
    check_known(
        'argument',
        given, [one.name for one in fields(CheckpointOptions)],
        meant=MEANT)
    check_types(values, _TYPES)
    for name, group, types in (('triggers', TriggerOptions, _TRIGGER_TYPES),
                               ('keep', KeepOptions, _KEEP_TYPES),
                               ('write', WriteOptions, _WRITE_TYPES),
                               ('mirror', MirrorOptions, _MIRROR_TYPES)):
        if name in values:
            values[name] = _group(name, values[name], group, types)
    if 'filename_tmpl' in values:
        values['filename_tmpl'] = plain_template(values['filename_tmpl'],
                                                 values.get('format') == 'dcp')
    options = CheckpointOptions(**values)
    _check_values(options)
    _check_contradictions(options, values)
    return options


_TYPES: Types = {
    'interval': (int, 'an int'),
    'by_epoch': (bool, 'True, False or None'),
    'save_optimizer': (bool, 'True or False'),
    'out_dir': (str, 'a path or URL'),
    'max_keep_ckpts': (int, 'an int'),
    'save_last': (bool, 'True or False'),
    'sync_buffer': (bool, 'True or False'),
    'file_client_args': (Mapping, 'a dict'),
    'filename_tmpl': (str, "a str such as 'iter_{}.pth'"),
    'create_symlink': (bool, 'True or False'),
    'meta': (Mapping, 'a dict'),
    'triggers': (Mapping, 'a dict'),
    'keep': (Mapping, 'a dict'),
    'write': (Mapping, 'a dict'),
    'storage_options': (Mapping, 'a dict'),
    'mirror': (Mapping, "a dict such as dict(url='s3://bucket/prefix')"),
    'resume': (str, "'auto' or a path"),
    'trust_checkpoint': (bool, 'True or False'),
    'adopt_existing': (bool, 'True or False'),
    'on_error': (str, "'warn' or 'raise'"),
    'format': (str, "'pth' or 'dcp'"),
}
#: What may be a ``pathlib.Path``.
_PATHS = {'out_dir', 'resume'}
_TRIGGER_TYPES: Types = {
    'begin': (int, 'an int'),
    'secs': ((int, float), 'seconds'),
    'at': ((list, tuple), 'a list of ints'),
    'signals': (Mapping, "a dict such as dict(SIGTERM='save_and_exit')"),
    'file': (str, 'a file name'),
    'exception': (bool, 'True or False'),
}
_KEEP_TYPES: Types = {
    'last': (int, 'an int'),
    'best': (int, 'an int'),
    'monitor': ((str, list, tuple), 'a metric or a list of metrics'),
    'rule': ((str, list, tuple, Mapping), "'greater', 'less', a list or a "
             'dict'),
    'every': (int, 'an int'),
    'bytes': ((int, str), "an int or a size such as '20GB'"),
}
_WRITE_TYPES: Types = {
    'background': (bool, 'True or False'),
    'staging': (str, "'auto', 'overlap' or 'copy'"),
    'backlog': (str, "'wait' or 'skip'"),
    'durability': (str, "'fsync' or 'none'"),
}
_MIRROR_TYPES: Types = {
    'url': ((str, os.PathLike), "a path or URL such as 's3://bucket/prefix'"),
    'keep': (Mapping, 'a dict'),
    'storage_options': (Mapping, 'a dict'),
}
#: Keys of ``keep`` that the mirror takes from the run.
_OF_THE_RUN = ('monitor', 'rule')
_CHOICES: Mapping[str, Sequence[str]] = {
    'on_error': ('warn', 'raise'),
    'format': ('pth', 'dcp'),
    'write.staging': ('auto', 'overlap', 'copy'),
    'write.backlog': ('wait', 'skip'),
    'write.durability': ('fsync', 'none'),
}


def _group(name: str, value: Mapping[str, Any], group: type,
           types: Types) -> Any:
    names = [one.name for one in fields(group)]
    _refuse_later(value, prefix=f'{name}.')
    check_known('key', value, names, prefix=f'{name}.', meant=meant_in(name))
    check_types(value, types, prefix=f'{name}.')
    # None means the default, except that it switches a trigger off
    given: Dict[str, Any] = {
        key: item
        for key, item in value.items()
        if item is not None or key in ('file', 'signals')
    }
    if 'at' in given:
        given['at'] = tuple(given['at'])
    if 'signals' in given:
        given['signals'] = _signals(given['signals'])
    if group is KeepOptions:
        given = plain_keep(given)
    if group is MirrorOptions:
        given = _plain_mirror(given)
    return group(**given)


def _plain_mirror(given: Dict[str, Any]) -> Dict[str, Any]:
    if not given.get('url'):
        raise ConfigError('DurableCheckpointHook: mirror.url must be given: '
                          'a path or URL of the second place')
    values = {**given, 'url': os.fspath(given['url'])}
    check_used('mirror', values['url'], values.get('storage_options'))
    keep = values.get('keep')
    if keep is not None:
        for name in _OF_THE_RUN:
            if keep.get(name) is not None:
                raise ConfigError(
                    f'DurableCheckpointHook: mirror.keep.{name} is not for '
                    f'the mirror: it ranks by keep.{name} of the hook. Remove '
                    'it')
        try:
            values['keep'] = _group('keep', keep, KeepOptions, _KEEP_TYPES)
        except ConfigError as error:
            told = re.sub(r"(?<=[ '])keep\.", 'mirror.keep.', str(error))
            raise ConfigError(told) from error
    return values


def _signals(given: Optional[Mapping[str, Any]]) -> Tuple[Any, ...]:
    """Merge over the default; what is None goes."""
    if given is None:
        return ()
    # one that only other systems have is no mistake: configs move
    unknown = {name: None for name in given if name not in SIGNALS}
    here = sorted(name for name in SIGNALS if hasattr(signal, name))
    for name in unknown:
        if hasattr(signal, str(name)):
            raise ConfigError(
                f'DurableCheckpointHook: triggers.signals.{name}: no process '
                'can catch it, or it is not sent to ask for something; valid '
                f'are: {", ".join(here)}')
    check_known('signal', unknown, here, prefix='triggers.signals.')
    for name, action in given.items():
        if action is not None:
            check_choice(f'triggers.signals.{name}', action, ACTIONS)
    merged = {**dict(DEFAULT_SIGNALS), **given}
    return tuple((name, action) for name, action in merged.items() if action)


def _refuse_later(given: Mapping[str, Any], prefix: str = '') -> None:
    for name, value in given.items():
        why = LATER.get(f'{prefix}{name}')
        if why is not None:
            raise ConfigError(f'DurableCheckpointHook: {prefix}{name}='
                              f'{value!r}: {why}; remove it')


def _check_values(options: CheckpointOptions) -> None:
    for name, choices in _CHOICES.items():
        value: Any = options
        for part in name.split('.'):
            value = getattr(value, part)
        check_choice(name, value, choices)
    check_positive('triggers.secs', options.triggers.secs)
    if options.triggers.begin < 0:
        raise ConfigError('DurableCheckpointHook: triggers.begin must not be '
                          f'negative, but got {options.triggers.begin}')
    for step in options.triggers.at:
        if isinstance(step, bool) or not isinstance(step, int) or step < 1:
            raise ConfigError('DurableCheckpointHook: triggers.at must hold '
                              f'ints of at least 1, but got {step!r}')
    file = options.triggers.file
    if file is not None and (os.path.basename(file) != file or file
                             in ('', os.curdir, os.pardir, POINTER_FILE)
                             or '\0' in file or is_checkpoint(file)
                             or file.startswith('checkpoints.')):
        # it is removed: it must not lead out of the work dir, nor be ours
        raise ConfigError('DurableCheckpointHook: triggers.file must be a '
                          'plain file name that no checkpoint or catalog '
                          f'has, but got {file!r}')
    if options.interval < 1 and options.interval != -1:
        raise ConfigError('DurableCheckpointHook: interval must be at least '
                          f'1, or -1 for never, but got {options.interval}')
    for name in ('storage_options', 'file_client_args'):
        check_texts(name, getattr(options, name))
    if options.mirror is not None:
        check_texts('mirror.storage_options', options.mirror.storage_options)


def _check_contradictions(options: CheckpointOptions,
                          given: Mapping[str, Any]) -> None:
    last = options.keep.last
    if last is not None and 'max_keep_ckpts' in given and \
            last != options.max_keep_ckpts:
        raise ConfigError(
            f'DurableCheckpointHook: keep.last={last} contradicts '
            f'max_keep_ckpts={options.max_keep_ckpts}; give one of them')
    if options.write.staging == 'overlap' and not options.write.background:
        raise ConfigError(
            "DurableCheckpointHook: write.staging='overlap' needs "
            'write.background=True: without it nothing is copied')
    if options.write.backlog == 'skip' and not options.write.background:
        raise ConfigError(
            "DurableCheckpointHook: write.backlog='skip' needs "
            'write.background=True: without it no save comes while another '
            'is being written')
    if (options.out_dir or '').startswith('pavi://') and \
            options.file_client_args is not None:
        raise ConfigError(
            'DurableCheckpointHook: file_client_args must be None for a '
            f'pavi:// out_dir, but got {dict(options.file_client_args)!r}')
    if options.storage_options is not None and \
            options.file_client_args is not None:
        raise ConfigError(
            'DurableCheckpointHook: storage_options contradicts '
            'file_client_args, which has mmcv.FileClient store the '
            'checkpoints; give one of them')
    check_format(options)
    mirror = options.mirror
    if mirror is not None and options.out_dir and \
            same_place(mirror.url, options.out_dir):
        raise ConfigError(
            f'DurableCheckpointHook: mirror.url and out_dir are both '
            f'{without_credentials(mirror.url)}: a mirror is a second place, '
            'with a path of its own also on another server')
    for name, url in (('out_dir', options.out_dir),
                      ('mirror.url', None if mirror is None else mirror.url),
                      ('resume', options.resume)):
        refuse_null(name, url or '')
        refuse_near_url(url or '', OBJECT_STORES,
                        f'DurableCheckpointHook: {name}: ')
        if url and name != 'resume':  # '' is none, as for stock
            check_place(name, url)
    if options.resume is not None and options.resume != 'auto':
        check_resume(options.resume)
