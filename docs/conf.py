"""Sphinx settings; docstrings, which are Markdown with Google sections, become reStructuredText."""

import re
from importlib.metadata import version as installed_version
from typing import Any, get_type_hints

from pygments.lexers import JsonLexer
from sphinx.application import Sphinx

from seqssvae.config import Config, list_settings

project = "seqssvae"
author = "the seqssvae developers"
copyright = "2026, the seqssvae developers"
version = release = installed_version("seqssvae")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
]
html_theme = "furo"
html_title = f"seqssvae {version}"
templates_path = ["_templates"]
exclude_patterns = ["_build", "notebooks"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
napoleon_use_ivar = True
nitpick_ignore_regex = [("py:.*", r"(?!seqssvae\.\w+$).*")]  # only public names have a page

SPAN = re.compile(r"(`[^`]+`)")


def convert_docstring(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Write the inline code of a docstring as reStructuredText, in place, and escape `|` and `*`.

    Runs before napoleon, which parses the sections.
    """
    text, prompt, example = "\n".join(lines).partition(">>>")
    spans = SPAN.split(text)
    spans[::2] = [re.sub(r"(?<!^)([|*])(?! )|([|*])(?=\w)", r"\\\1\2", part) for part in spans[::2]]
    spans[1::2] = [f"`{' '.join(part.split())}`" for part in spans[1::2]]
    lines[:] = ("".join(spans) + prompt + example).split("\n")


def add_settings(app: Sphinx, page: str, source: list[str]) -> None:
    """Append a table of the settings of each section to the page `settings`, in place."""
    if page != "settings":
        return
    for name, section in get_type_hints(Config).items():
        source[0] += f"\n## {name}\n\n{section.__doc__}\n\n"
        rows = [("setting", "meaning", "values", "default"), ("---",) * 4]
        for one in list_settings():
            if one.section == name:
                rows.append((f"`{one.key}`", one.meaning, one.values, f"`{one.default}`"))
        for row in rows:
            source[0] += f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |\n"


def setup(app: Sphinx) -> None:
    """Connect the functions above; colour the rows of a jsonl file as JSON."""
    app.add_lexer("jsonl", JsonLexer)
    app.connect("source-read", add_settings)
    app.connect("autodoc-process-docstring", convert_docstring, priority=400)
