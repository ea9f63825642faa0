"""Fonts of pictures: another one of the machine where matplotlib's own lacks a character."""

import functools
import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

logger = logging.getLogger(__name__)

SHOWN = 10  # characters of a warning


def use_fallback_fonts(figure: "Figure") -> None:
    """Give the texts of a picture fonts that have their characters; warn where none has.

    Args:
        figure: Changed in place.
    """
    from matplotlib import rcParams
    from matplotlib.font_manager import FontProperties, findfont, fontManager
    from matplotlib.text import Text

    texts = [one for one in figure.findobj(Text) if isinstance(one, Text)]
    wanted = {ord(c) for one in texts for c in one.get_text() if c.isprintable()}
    missing = wanted - _characters(findfont(FontProperties()))
    families: list[str] = []
    if missing:  # reading all fonts takes a second
        for font in sorted(fontManager.ttflist, key=lambda one: (one.name, one.fname)):
            if font.name not in families and (found := missing & _characters(font.fname)):
                families.append(font.name)
                missing -= found
            if not missing:
                break
    for one in texts if families else ():
        one.set_fontfamily([*rcParams["font.family"], *families])
    if missing:
        shown = "".join(map(chr, sorted(missing)[:SHOWN])) + "..." * (len(missing) > SHOWN)
        logger.warning(
            "no font of this machine has %s: drawn as boxes; install one that has them, such as "
            "Noto Sans CJK for Chinese, Japanese and Korean, or write SVG",
            shown,
        )


@functools.cache
def _characters(path: str) -> frozenset[int]:
    """The characters of a font's file; none of one that cannot be read."""
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(FT2Font(path).get_charmap())
    except (OSError, RuntimeError):
        return frozenset()
