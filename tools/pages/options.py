"""The commands of ``mmcv-ckpt`` and their options, from the parser itself."""
import argparse
import html
import os


def commands_of(parser):
    """Return the parser of every command by its name, in their order."""
    action, = (
        one for one in parser._actions
        if isinstance(one, argparse._SubParsersAction))
    return action.choices


def as_markdown(parser):
    """Describe a program with commands: usage, arguments and options."""
    parts = [_prose(parser.description), _usage(parser), _epilog(parser)]
    for name, command in commands_of(parser).items():
        parts += [
            f'## {parser.prog} {name}',
            _prose(command.description),
            _usage(command)
        ]
        given = [
            one for one in command._actions
            if one.dest != 'help' and one.help != argparse.SUPPRESS
        ]
        parts.append(
            _table([one for one in given if not one.option_strings],
                   'argument'))
        parts.append(
            _table([one for one in given if one.option_strings], 'option'))
        parts.append(_epilog(command))
    return '\n\n'.join(part for part in parts if part)


def _epilog(parser):
    """Laid out in lines, or as prose; whichever the parser says."""
    text = parser.epilog or ''
    if text and issubclass(parser.formatter_class,
                           argparse.RawDescriptionHelpFormatter):
        return f'```text\n{text.strip()}\n```'
    return _prose(text)


def _usage(parser):
    """As ``--help`` says it, in lines of 88 columns."""
    before = os.environ.get('COLUMNS')
    os.environ['COLUMNS'] = '90'
    try:
        usage = parser.format_usage()
    finally:
        if before is None:
            del os.environ['COLUMNS']
        else:
            os.environ['COLUMNS'] = before
    return f'```text\n{usage.rstrip()}\n```'


def _table(actions, head):
    if not actions:
        return ''
    rows = [f'| {head} | |', '|---|---|']
    for action in actions:
        names = ', '.join(f'`{name}`'
                          for name in _spellings(action)) or f'`{action.dest}`'
        rows.append(f'| {names} | {_cell(_help(action))} |')
    return '\n'.join(rows)


def _spellings(action):
    """How an argument is written: ``--keep-last N``."""
    value = action.metavar or ('{' + ','.join(map(str, action.choices)) +
                               '}' if action.choices else action.dest.upper())
    if isinstance(value, tuple):
        value = ' '.join(value)
    if not action.option_strings:
        return [action.metavar or action.dest]
    if action.nargs == 0:
        return action.option_strings
    return [f'{name} {value}' for name in action.option_strings]


def _help(action):
    """The help with what argparse would fill in."""
    text = action.help or ''
    return text % dict(vars(action), prog='mmcv-ckpt') if '%' in text else text


def _prose(text):
    """Plain text as Markdown, in one line."""
    text = html.escape(' '.join((text or '').split()), quote=False)
    for sign in '\\`*_[':
        text = text.replace(sign, '\\' + sign)
    return text


def _cell(text):
    """Plain text in a cell of a table."""
    return _prose(text).replace('|', '\\|')
