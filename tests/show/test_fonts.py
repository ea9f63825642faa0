"""Labels in scripts that matplotlib's own font lacks."""

import logging
from pathlib import Path

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager

from seqssvae.show import fonts
from seqssvae.show.plots import draw_confusion, figure_to_bytes

BOXES = "no font of this machine has"


def write_font(path: Path, text: str) -> Path:
    """A font whose characters are those of a text, each a filled square."""
    names = {ord(character): f"glyph{ord(character)}" for character in text}
    pen = TTGlyphPen(None)
    for move, point in ((pen.moveTo, (0, 0)), (pen.lineTo, (0, 900)), (pen.lineTo, (900, 900))):
        move(point)
    pen.lineTo((900, 0))
    pen.closePath()
    square = pen.glyph()
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", *names.values()])
    builder.setupCharacterMap(names)
    builder.setupGlyf(dict.fromkeys([".notdef", *names.values()], square))
    builder.setupHorizontalMetrics(dict.fromkeys([".notdef", *names.values()], (1000, 0)))
    builder.setupHorizontalHeader(ascent=900, descent=-100)
    builder.setupNameTable({"familyName": "Squares", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)
    return path


def picture(labels: list[str]) -> bytes:
    return figure_to_bytes(draw_confusion(np.array([0, 1]), np.array([0, 1]), labels), "png")


def test_labels_draw_in_a_font_that_has_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where no font has them it is said, with the characters, and once only for a picture."""
    own = [one for one in font_manager.fontManager.ttflist if one.name == "DejaVu Sans"]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", own)
    with caplog.at_level(logging.WARNING):
        boxes = picture(["\u6f22\u5b57", "ab"])
    assert caplog.text.count(BOXES) == 1 and "has \u5b57\u6f22: drawn as boxes" in caplog.text
    caplog.clear()
    font_manager.fontManager.addfont(write_font(tmp_path / "squares.ttf", "\u6f22\u5b57"))
    with caplog.at_level(logging.WARNING):
        assert picture(["\u6f22\u5b57", "ab"]) != boxes
        assert picture(["ab", "cd"])
    assert caplog.text == ""


def test_a_damaged_font_has_no_characters(tmp_path: Path) -> None:
    (tmp_path / "bad.ttf").write_bytes(b"no font")
    assert fonts._characters(str(tmp_path / "bad.ttf")) == frozenset()
