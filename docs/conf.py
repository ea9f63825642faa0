"""Sphinx settings; docstrings, which are Markdown with Google sections, become reStructuredText."""

import contextlib
import io
import logging
import re
import tempfile
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any, get_type_hints

import pandas
from docutils import nodes
from latex2mathml.converter import convert
from pygments.lexers import JsonLexer
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator

from seqssvae.compare.wordlists import example_words
from seqssvae.config import Config, list_settings
from seqssvae.show.plots import draw_all, figure_to_bytes
from seqssvae.show.portrait import portray

GENERATED = Path(__file__).parent / "_generated"

project = "seqssvae"
author = "the seqssvae developers"
copyright = "2026, the seqssvae developers"
version = release = installed_version("seqssvae")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
]
html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["phone.css"]
html_math_renderer = "mathml"  # which browsers draw themselves, without a network
html_title = f"seqssvae {version}"
templates_path = ["_templates"]
exclude_patterns = ["_build", "_generated", "notebooks"]
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


def run_example(app: Sphinx) -> None:
    """Run the first Python block of the page `index`; keep what it logs and prints, and its map."""
    GENERATED.mkdir(exist_ok=True)
    page = (GENERATED.parent / "index.md").read_text(encoding="utf-8")
    code = re.search(r"```python\n(.*?)```", page, re.DOTALL)
    assert code is not None
    log, printed = io.StringIO(), io.StringIO()
    handler, package = logging.StreamHandler(log), logging.getLogger("seqssvae")
    package.addHandler(handler)
    package.setLevel(logging.INFO)
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        with contextlib.redirect_stdout(printed):
            exec(compile(code[1], "index.md", "exec"), {"__name__": "index"})
        package.removeHandler(handler)
        words = pandas.read_csv(example_words())
        words["id"] = [f"word {number}" for number in range(len(words))]  # to show them all
        figure = draw_all(portray(next(Path("runs").iterdir()), words))["z_tsne"]
        (GENERATED / "map.png").write_bytes(figure_to_bytes(figure, "png"))
    (GENERATED / "log.txt").write_text(log.getvalue(), encoding="utf-8")
    (GENERATED / "printed.txt").write_text(printed.getvalue(), encoding="utf-8")


def add_math(writer: HTML5Translator, node: nodes.math | nodes.math_block) -> None:
    """Write a formula as MathML."""
    display = "inline" if isinstance(node, nodes.math) else "block"
    writer.body.append(convert(node.astext(), display=display))
    raise nodes.SkipNode


def setup(app: Sphinx) -> None:
    """Connect the functions above; colour the rows of a jsonl file as JSON."""
    app.add_html_math_renderer("mathml", (add_math, None), (add_math, None))
    app.connect("builder-inited", run_example)
    app.add_lexer("jsonl", JsonLexer)
    app.connect("source-read", add_settings)
    app.connect("autodoc-process-docstring", convert_docstring, priority=400)
