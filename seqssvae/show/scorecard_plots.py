"""Pictures of generated sequences beside held-out rows: lengths, symbols, labels by a judge."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from seqssvae.show.plots import COLORS, figure_of_size, shorten
from seqssvae.show.scorecard import Scorecard

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KINDS = ("held-out rows", "generated")
NUM_LABELS = 30


def draw_lengths(scorecard: Scorecard) -> "Figure":
    """How many symbols the sequences have, in shares of the rows and of what is generated."""
    figure = figure_of_size(4.5, 3.0)
    axes = figure.add_subplot()
    longest = max(map(max, scorecard.lengths))
    edges = np.arange(0, longest + 2, max(1, longest // 30)) - 0.5
    edges = np.append(edges, longest + 0.5) if edges[-1] < longest else edges
    for lengths, kind, color in zip(scorecard.lengths, KINDS, COLORS, strict=False):
        weights = np.full(len(lengths), 1 / len(lengths))
        options: Any = {"histtype": "step", "color": color, "label": kind, "linewidth": 1.5}
        axes.hist(lengths, edges.tolist(), weights=weights, **options)
    axes.set_xlabel("symbols")
    axes.set_ylabel("share of the sequences")
    axes.legend()
    return figure


def draw_symbols(scorecard: Scorecard) -> "Figure":
    """Shares of the most frequent symbols."""
    names = [shorten(symbol, 8) for symbol, *_ in scorecard.symbols]
    figure = figure_of_size(4.5, 1.0 + 0.22 * len(names))
    axes = figure.add_subplot()
    place = np.arange(len(names))
    for i, (kind, color) in enumerate(zip(KINDS, COLORS, strict=False)):
        shares = [shares[i] for _, *shares in scorecard.symbols]
        axes.barh(place + 0.4 * i - 0.2, shares, 0.4, color=color, label=kind)
    axes.set_yticks(place, [name if name.strip() else "space" for name in names])
    axes.invert_yaxis()
    axes.set_xlabel("share of all symbols")
    axes.legend()
    return figure


def draw_agreement(scorecard: Scorecard, labels: Sequence[str]) -> "Figure":
    """How often the judge finds a label in what was generated for it, for those it finds least."""
    found = zip(labels, scorecard.figures["agreement_of_classes"], strict=True)
    known = sorted([one for one in found if one[1] is not None], key=lambda one: one[1])
    known = known[:NUM_LABELS]
    figure = figure_of_size(4.5, 1.0 + 0.25 * len(known))
    axes = figure.add_subplot()
    place = range(len(known))
    axes.barh(place, [share for _, share in known], color=COLORS[1])
    axes.set_yticks(place, [shorten(name, 16) for name, _ in known])
    axes.invert_yaxis()
    axes.axvline(scorecard.figures["judge_accuracy"], color=COLORS[0], linestyle="--")
    axes.set_xlim(0, 1)
    axes.set_xlabel("share that the judge gives the label\ndashed: its accuracy on held-out rows")
    return figure
