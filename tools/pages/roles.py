"""Docstrings of the package as Markdown, for the reference.

They have the few signs of reStructuredText that OpenMMLab's have: roles such
as ``:class:`~.options.KeepOptions``` and ``::`` before a literal block.
"""
import re

import griffe

_ROLE = re.compile(r':(?:class|func|meth|mod|attr|data|exc):`~?([^`]+)`')


def as_markdown(text):
    """Replace roles by code, and ``::`` by what Markdown has."""
    text = _ROLE.sub(lambda match: f'`{match[1].rpartition(".")[2]}`', text)
    text = re.sub(r'^::\n', '', text, flags=re.MULTILINE)
    return re.sub(r'::$', ':', text, flags=re.MULTILINE)


class Roles(griffe.Extension):
    """Rewrites every docstring as it is read."""

    def on_object(self, *, obj, **kwargs):
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)
