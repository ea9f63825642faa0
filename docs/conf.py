"""Sphinx settings; docstrings, which are Markdown with Google sections, become reStructuredText."""

import inspect
import re
from importlib.metadata import version as installed_version
from typing import Any

from pygments.lexers import JsonLexer
from sphinx.application import Sphinx

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

autosummary_generate = True
autodoc_default_options = {"members": True, "undoc-members": True}
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
napoleon_use_ivar = True
nitpick_ignore_regex = [
    ("py:.*", r"(?!seqssvae\.).*"),  # other libraries are not looked up
    ("py:class", r"seqssvae\.[\w.]+\.(Part|Result|T)"),  # type variables have no page
]

SPAN = re.compile(r"(`[^`]+`)")
SECTION = re.compile(r"(Args|Attributes|Example|Raises|Returns|Yields):$")


def convert_docstring(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Write a docstring's inline code, tables and indented formulas as reStructuredText, in place.

    Runs before napoleon, which takes the sections apart.
    """
    text = "\n".join(lines)
    if ">>>" in text:
        text, examples = text[: text.index(">>>")], text[text.index(">>>") :]
    else:
        examples = ""
    spans = SPAN.split(text)
    spans[::2] = [re.sub(r"(?<!^)([|*])(?! )|([|*])(?=\w)", r"\\\1\2", part) for part in spans[::2]]
    spans[1::2] = [f"`{' '.join(part.split())}`" for part in spans[1::2]]
    converted = (convert_blocks("".join(spans)) if what == "module" else "".join(spans)) + examples
    lines[:] = converted.split("\n")
    if what == "module":
        for constant in getattr(obj, "__all__", ()):
            value = getattr(obj, constant, None)
            if not (
                inspect.isclass(value) or inspect.isroutine(value)
            ):  # autodoc leaves out what can have no docstring
                shown = f"   :value: {value!r}" if isinstance(value, int | str | tuple) else ""
                lines += ["", f".. py:data:: {constant}", shown, ""]


def convert_blocks(text: str) -> str:
    """Tables and indented blocks of a module's docstring as literal blocks, as they stand."""
    blocks = text.split("\n\n")
    for place, block in enumerate(blocks):
        if block.startswith(("    ", "|", "\\|")):
            plain = block.replace("\\", "").replace("``", "`")
            indented = "\n".join(f"    {line}" for line in plain.split("\n"))
            blocks[place] = f"::\n\n{indented}"
    return "\n\n".join(blocks)


def skip_field(app: Sphinx, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool:
    """Leave out what has no docstring but a module's constants: fields stand under Attributes."""
    return skip or (what == "class" and not getattr(obj, "__doc__", None))


def setup(app: Sphinx) -> None:
    """Connect the two; a row of a jsonl file is coloured as JSON."""
    app.add_lexer("jsonl", JsonLexer)
    app.connect("autodoc-process-docstring", convert_docstring, priority=400)
    app.connect("autodoc-skip-member", skip_field)
