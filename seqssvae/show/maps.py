"""Interactive scatter plots of the latent space by plotly, for the report and the explorer."""

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from seqssvae.show.plots import COLORS, UNLABELLED, require

if TYPE_CHECKING:
    import plotly.graph_objects

MAP_CONFIG: Any = {  # of the plots: no button or link that uploads
    "displaylogo": False,
    "responsive": True,
    "scrollZoom": False,
    "plotlyServerURL": "",
    "modeBarButtons": [["toImage"], ["zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d"]],
}

SYMBOLS = ("circle", "square", "triangle-up", "diamond", "x", "cross", "star", "hexagon")
HOVER_WIDTH, HOVER_LINES = 60, 6  # characters per line, and lines, of a sequence
TEXT = "#8a8a8a"  # readable on light and on dark; style.css overrides it
NAME_WIDTH = 24  # characters of a label in the legend

AXIS: dict[str, Any] = {
    "showticklabels": False,
    "zeroline": False,
    "showgrid": False,
    "showline": True,
    "mirror": True,
    "linecolor": TEXT,
}
LAYOUT: dict[str, Any] = {
    "template": "none",
    "paper_bgcolor": "rgba(0,0,0,0)",
    "plot_bgcolor": "rgba(0,0,0,0)",
    "font": {"color": TEXT, "family": "system-ui, sans-serif", "size": 13},
    "margin": {"l": 8, "r": 8, "t": 8, "b": 8},
    "xaxis": AXIS,
    "yaxis": AXIS,
    "legend": {"orientation": "h", "yanchor": "top", "y": -0.03, "x": 0},
    "height": 460,
    "dragmode": "pan",
    "hoverlabel": {"align": "left"},
    "showlegend": True,
}


def draw_map(
    points: NDArray[np.floating],
    y: NDArray[np.int64],
    labels: Sequence[str],
    sequences: Sequence[str],
    predicted: Sequence[str],
) -> "plotly.graph_objects.Figure":
    """A scatter plot, coloured by label; hovering over a point shows its sequence.

    Args:
        points: `[n, 2]`.
        y: Their classes, -1 for rows without a label, `[n]`.
        labels: Names of the classes.
        sequences: Hover texts, n of them; never parsed as markup.
        predicted: The predicted label of each row, n of them; empty without classes.

    Raises:
        InputError: plotly is not installed.
    """
    graph = require("plotly.graph_objects")
    figure = graph.Figure()
    for number in [*range(len(labels)), -1]:
        chosen = (y == number).nonzero()[0]
        if not len(chosen):
            continue
        name = labels[number] if number >= 0 else "no label"
        figure.add_scatter(
            x=points[chosen, 0].round(3).tolist(),
            y=points[chosen, 1].round(3).tolist(),
            mode="markers",
            name=_escape(name if len(name) <= NAME_WIDTH else name[: NAME_WIDTH - 1] + "\u2026"),
            marker={
                "size": 7,
                "opacity": 0.8,
                "color": COLORS[number % len(COLORS)] if number >= 0 else UNLABELLED,
                "symbol": SYMBOLS[max(number, 0) // len(COLORS) % len(SYMBOLS)],
            },
            hovertext=[_hover(sequences[i], name, predicted[i]) for i in chosen],
            hoverinfo="text",
        )
    figure.update_layout(LAYOUT)
    return figure


def _hover(sequence: str, name: str, predicted: str) -> str:
    """The sequence, wrapped, and its labels."""
    lines = [sequence[i : i + HOVER_WIDTH] for i in range(0, len(sequence), HOVER_WIDTH)]
    if len(lines) > HOVER_LINES:
        lines = [*lines[:HOVER_LINES], "\u2026"]
    labels = f"{name}; predicted {predicted}" if predicted else name
    return "<br>".join([*map(_escape, lines), f"<i>{_escape(labels)}</i>"])


def _escape(text: str) -> str:
    """Escape the tags and entities that plotly parses in its texts."""
    return html.escape(text, quote=False)
