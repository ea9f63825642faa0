"""What the pictures show of lengths, symbols and labels."""

from typing import Any

from seqssvae.show.scorecard_plots import KINDS, draw_agreement, draw_lengths, draw_symbols
from tests.support.portraits import make_scorecard


def test_pictures_show_rows_and_sequences() -> None:
    card, labels = make_scorecard(("_a", "<i>b", "c$")), ("_a", "<i>b", "c$")
    (axes,) = draw_symbols(card).axes
    assert len(axes.patches) == 2 * len(card.symbols)
    legend: Any = axes.get_legend()
    assert [text.get_text() for text in legend.get_texts()] == list(KINDS)
    names = [text.get_text() for text in axes.get_yticklabels()]
    assert names[-1] == "space" and names[1].startswith(r"\$x_1\$")
    patches: list[Any] = list(draw_agreement(card, labels).axes[0].patches)
    assert [patch.get_width() for patch in patches] == [0.5, 1.0]  # none of the first label
    patches = list(draw_lengths(card).axes[0].patches)
    ends = [patch.get_xy()[:, 0].max() for patch in patches]
    assert max(ends) >= 70 and len(patches) == 2
