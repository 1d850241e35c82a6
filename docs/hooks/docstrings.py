"""Lets the API page show docstrings as they are meant: their roles become links or code, ``Example::`` a heading.

Docstrings name things as Sphinx does (``:class:`Scores```), which editors know too; the site is made of Markdown.
"""

import re

import griffe

_ROLE = re.compile(r":(?:class|func|meth|mod|data|attr|exc):`~?([\w.]+)`")


class Roles(griffe.Extension):
    """Rewrites the docstring of everything that is documented."""

    def on_object(self, *, obj, **_unused):
        """Rewrite one docstring; griffe calls this for each module, class, function and attribute."""
        if obj.docstring:
            text = _ROLE.sub(lambda found: _reference(obj, found[1]), obj.docstring.value)
            obj.docstring.value = re.sub(r"::$", ":", text, flags=re.MULTILINE)


def _reference(obj, name):
    """A link to what is named where the page has it, else code."""
    shown = name.lstrip(".").removeprefix("memorization_index.")
    return f'<autoref identifier="{_path(obj, name)}" optional><code>{shown}</code></autoref>'


def _path(obj, name):
    """The full name of what a docstring names as its module sees it."""
    if name.startswith("."):
        return f"memorization_index{name}"
    try:
        return obj.resolve(name)
    except griffe.NameResolutionError:
        return name
