"""A picture of a comparison: each arm's accuracy at each label budget, draw by draw."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from seqssvae.show.plots import COLORS, UNLABELLED, figure_of_size

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw_comparison"]


def draw_comparison(
    records: Sequence[Mapping[str, Any]], summary: Sequence[Mapping[str, Any]], ours: str = "ssvae"
) -> "Figure":
    """Accuracy of every arm, the best on top; a dot for each draw and a bar at the mean.

    Args:
        records: The cells, of `comparison.compare`.
        summary: Of `comparison.summarise` over the same cells.
        ours: The arm that stands out.
    """
    budgets = list(dict.fromkeys(row["num_labels"] for row in summary))
    most = max(sum(row["num_labels"] == budget for row in summary) for budget in budgets)
    figure = figure_of_size(4.8 * len(budgets), 1.2 + 0.28 * most)
    for place, budget in enumerate(budgets, start=1):
        axes = figure.add_subplot(1, len(budgets), place)
        rows = [row for row in summary if row["num_labels"] == budget]
        rows.sort(key=lambda row: row["accuracy"])
        for height, row in enumerate(rows):
            color = COLORS[5] if row["arm"] == ours else COLORS[0]
            found = [
                100 * record["accuracy"]
                for record in records
                if (record["num_labels"], record["arm"]) == (budget, row["arm"])
            ]
            axes.plot(found, [height] * len(found), "o", color=color, markersize=4, alpha=0.6)
            axes.plot(100 * row["accuracy"], height, "|", color=color, markersize=14)
        axes.set_yticks(range(len(rows)), [row["arm"] for row in rows])
        axes.set_xlabel("accuracy, %")
        axes.set_title(f"{budget} labels", fontsize="medium")
        axes.grid(axis="x", color=UNLABELLED, alpha=0.3)
    return figure
