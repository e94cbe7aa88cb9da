"""Docstrings of the package as Markdown, for the reference.

They have the few signs of reStructuredText that OpenMMLab's have: roles such
as ``:class:`~.options.KeepOptions``` and ``::`` before a literal block.
"""
import re

import griffe

_ROLE = re.compile(r':(?:class|func|meth|mod|attr|data|exc):`(~?)([^`]+)`')
_PACKAGE = 'mmcv_ckpt_hooks'


def as_markdown(text, module):
    """Replace roles by links, and ``::`` by what Markdown has.

    Args:
        text (str): A docstring.
        module (str): Where it stands, in full.
    """

    def link(match):
        name = match[2]
        shown = name.rpartition('.')[2] if match[1] else name.lstrip('.')
        # to what is on no page it leads nowhere, and is code
        return f'<autoref optional identifier="{in_full(name, module)}">' \
               f'<code>{shown}</code></autoref>'

    text = _ROLE.sub(link, text)
    text = re.sub(r'^::\n', '', text, flags=re.MULTILINE)
    return re.sub(r'::$', ':', text, flags=re.MULTILINE)


def in_full(name, module):
    """The full name of what a role names: in its module, or the package."""
    if name.startswith('.'):
        return module.rpartition('.')[0] + name
    return f'{module if name[0].isupper() else _PACKAGE}.{name}'


class Roles(griffe.Extension):
    """Rewrites every docstring as it is read."""

    def on_object(self, *, obj, **kwargs):
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value,
                                              obj.module.path)
