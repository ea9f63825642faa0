"""Pictures of a run and of a comparison, drawn by matplotlib."""

import importlib
import io
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from seqssvae.errors import InputError
from seqssvae.inference.tally import bin_sums, reliability
from seqssvae.show.fonts import use_fallback_fonts

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from seqssvae.show.portrait import Portrait

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

# Okabe and Ito's colour-blind safe palette; with more labels the markers change
COLORS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#8a8a00", "#6a51a3")
MARKERS = "os^DvPX*"
UNLABELLED = "#8c8c8c"
LEGEND_LABELS = 24  # no legend with more labels than these
COUNTED_LABELS = 20  # no counts in the confusion matrix with more labels than these
TEXT_WIDTH = 24  # characters of a sequence in a grid
CURVES = {  # of metrics.jsonl
    "elbo": "ELBO (nats per sequence)",
    "kl": "KL of z (nats per sequence)",
    "accuracy": "accuracy, held-out labels",
    "y_gap": "cost of a wrong label (nats)",
}


def require(module: str) -> Any:
    """Import a module of an optional dependency.

    Raises:
        InputError: it is not installed; the message says how to install it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise InputError(f"wanted {package} (pip install {package}), got {error}") from error


def map_note(labels: Sequence[str], *, z_knows_y: bool) -> str:
    """What a map of z should look like, in a line; nothing without classes."""
    if not labels:
        return ""
    if z_knows_y:
        return "Clusters by label are expected: z and the label are modelled together."
    return "It should not cluster by label: z is for what the label leaves open."


def measured(metrics: Sequence[Mapping[str, Any]]) -> list[str]:
    """The metrics of `CURVES` that were measured at least once."""
    return [name for name in CURVES if any(row.get(name) is not None for row in metrics)]


def draw_curves(metrics: Sequence[Mapping[str, Any]], names: Sequence[str]) -> "Figure":
    """Training curves, by step.

    Args:
        metrics: The evaluations.
        names: The metrics to draw, of `measured(metrics)`.
    """
    columns = min(2, max(1, len(names)))
    num_rows = max(1, -(-len(names) // 2))
    figure = figure_of_size(4.4 * columns, 2.5 * num_rows)
    if not names:
        figure.text(0.5, 0.5, "no evaluations were recorded", ha="center")
    for number, name in enumerate(names, start=1):
        axes = figure.add_subplot(num_rows, columns, number)
        known = [(r["step"], r[name]) for r in metrics if r.get(name) is not None]
        axes.plot(*zip(*known, strict=True), color=COLORS[0], marker="o", markersize=3)
        axes.set_xlabel("step")
        axes.set_title(CURVES[name], fontsize="medium")
    return figure


def draw_points(
    points: Floats, y: Integers, labels: Sequence[str], *, title: str, note: str = ""
) -> "Figure":
    """A scatter plot, coloured by label.

    Args:
        points: `[n, 2]`.
        y: Their classes, -1 for rows without a label, `[n]`.
        labels: Names of the classes.
        title: Title of the picture.
        note: A line under it.
    """
    figure = figure_of_size(7.0, 5.4)
    axes = figure.add_subplot()
    handles, names = [], []
    for number in [*range(len(labels)), -1]:
        chosen = points[y == number]
        if not len(chosen):
            continue
        names.append(_plain(labels[number]) if number >= 0 else "no label")
        handles.append(
            axes.scatter(
                chosen[:, 0],
                chosen[:, 1],
                s=14,
                alpha=0.8,
                linewidths=0,
                color=COLORS[number % len(COLORS)] if number >= 0 else UNLABELLED,
                marker=MARKERS[number // len(COLORS) % len(MARKERS)] if number >= 0 else ".",
            )
        )
    if 0 < len(names) <= LEGEND_LABELS:
        axes.legend(handles, names, fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_xlabel(note, fontsize="small")
    axes.set_title(title, fontsize="medium")
    return figure


def draw_confusion(y: Integers, predicted: Integers, labels: Sequence[str]) -> "Figure":
    """The confusion matrix.

    Args:
        y: True classes, `[n]`; rows with -1 are left out.
        predicted: Predicted classes, `[n]`.
        labels: Names of the classes, K of them.
    """
    num_classes = len(labels)
    counts = np.zeros((num_classes, num_classes), dtype=np.int64)
    np.add.at(counts, (y[y >= 0], predicted[y >= 0]), 1)
    shares = counts / counts.sum(1, keepdims=True).clip(1)
    size = min(9.0, max(4.4, 1.2 + 0.42 * num_classes))
    figure = figure_of_size(size, size)
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if num_classes > COUNTED_LABELS:
        figure.colorbar(image, ax=axes, label="share of rows with the true label", shrink=0.8)
    else:
        names = [shorten(name, 12) for name in labels]
        axes.set_xticks(range(num_classes), names, rotation=45, ha="right", fontsize="small")
        axes.set_yticks(range(num_classes), names, fontsize="small")
        for (row, column), count in np.ndenumerate(counts):
            color = "white" if shares[row, column] > 0.5 else "#222222"
            axes.text(column, row, str(count), ha="center", va="center", color=color, fontsize=8)
    axes.set_xlabel("predicted label")
    axes.set_ylabel("true label")
    axes.set_title("confusion matrix: rows", fontsize="medium")
    return figure


def draw_reliability(confidence: Floats, correct: NDArray[np.bool_]) -> "Figure":
    """The reliability diagram: accuracy and number of rows, by confidence.

    Args:
        confidence: Probability of the predicted label, `[n]`, n at least 1.
        correct: Whether the prediction is right, `[n]`.
    """
    mean_confidence, accuracy, counts = reliability(bin_sums(confidence, correct))
    figure = figure_of_size(4.4, 4.4)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    above.plot([0, 1], [0, 1], color=UNLABELLED, linestyle="--", label="calibrated")
    above.plot(mean_confidence, accuracy, color=COLORS[0], marker="o", label="this model")
    above.set_title("reliability: accuracy by confidence", fontsize="medium")
    above.set_ylabel("accuracy")
    above.set_ylim(-0.02, 1.02)
    above.legend(loc="best", fontsize="small")
    below.bar(mean_confidence, counts, width=0.04, color=COLORS[0])
    below.set_ylabel("rows")
    below.set_xlabel("confidence")
    below.set_xlim(0, 1.02)
    return figure


def draw_kl(kl_nats: Floats, free_bits: float = 0.0) -> "Figure":
    """Mean KL of each dim of z, in descending order.

    Args:
        kl_nats: Nats, `[Z]`.
        free_bits: Nats of each dim that training does not penalise, marked if above 0.
    """
    order = np.argsort(-kl_nats)
    figure = figure_of_size(max(4.0, min(10.0, 1.5 + 0.35 * len(order))), 3.0)
    axes = figure.add_subplot()
    axes.bar(range(len(order)), kl_nats[order], color=COLORS[0])
    if len(order) <= 32:
        axes.set_xticks(range(len(order)), [str(dim) for dim in order])
    note = ""
    if free_bits:
        axes.axhline(free_bits, color=COLORS[5], linestyle="--")
        note = f"\ndashed: the free bits, {free_bits:g} nats that cost nothing"
    axes.set_xlabel(f"dim of z{note}")
    axes.set_ylabel("KL to the prior (nats)")
    axes.set_title("KL of each dim of z", fontsize="medium")
    return figure


def draw_transfers(
    transfers: Sequence[tuple[str, str, Sequence[str]]], labels: Sequence[str]
) -> "Figure":
    """A table of `Portrait.transfers`: rows decoded under every label."""
    shown = list(labels)[:12]
    cells = [
        [f"{shorten(sequence)} ({shorten(own, 8)})", *map(shorten, written[: len(shown)])]
        for sequence, own, written in transfers
    ]
    titles = ["row (its label)", *(shorten(name, 12) for name in shown)]
    return _grid(cells, titles, title="transfer: each row's z, decoded under every label")


def draw_walks(walks: Sequence[Sequence[str]]) -> "Figure":
    """A table of `Portrait.walks`, one interpolation per line."""
    titles = [f"{share:.2f}" for share in np.linspace(0, 1, len(walks[0]))]
    cells = [[shorten(text) for text in walk] for walk in walks]
    return _grid(cells, titles, title="interpolation: a straight line in z, from row to row")


def draw_all(portrait: "Portrait") -> dict[str, "Figure"]:
    """All pictures of a run, by name; those of classes or of z only if the model has them."""
    figures = {"curves": draw_curves(portrait.metrics, measured(portrait.metrics))}
    y, labels = portrait.y, portrait.labels
    if len(portrait.kl_nats):
        shares = " and ".join(f"{share:.0%}" for share in portrait.z_explained)
        note = map_note(labels, z_knows_y=portrait.z_knows_y)
        title = "means of q(z | x, y), "
        figures["z_tsne"] = draw_points(
            portrait.z_tsne, y, labels, title=f"{title}t-SNE", note=note
        )
        title += f"principal components ({shares} of the variance)"
        figures["z_pca"] = draw_points(portrait.z_pca, y, labels, title=title, note=note)
        figures["kl"] = draw_kl(portrait.kl_nats, portrait.free_bits)
    if labels:
        title = "log q(y | x), t-SNE"
        figures["logits_tsne"] = draw_points(portrait.logits_tsne, y, labels, title=title)
    if portrait.transfers:
        figures["transfers"] = draw_transfers(portrait.transfers, labels)
    known, predicted = y >= 0, portrait.probabilities
    if known.any():
        best = predicted[known].argmax(1)
        figures["confusion"] = draw_confusion(y[known], best, labels)
        figures["reliability"] = draw_reliability(predicted[known].max(1), best == y[known])
    if portrait.walks:
        figures["walks"] = draw_walks(portrait.walks)
    return figures


def draw_comparison(
    records: Sequence[Mapping[str, Any]], summary: Sequence[Mapping[str, Any]], ours: str = "ssvae"
) -> "Figure":
    """Accuracy of each arm by label budget, best arm on top: a dot per draw, a bar at the mean.

    Args:
        records: The results of `seqssvae.compare`, one per arm, budget and draw.
        summary: Their summary by arm and budget.
        ours: The arm to highlight.
    """
    budgets = list(dict.fromkeys(row["num_labels"] for row in summary))
    most = max(sum(row["num_labels"] == budget for row in summary) for budget in budgets)
    figure = figure_of_size(4.8 * len(budgets), 1.2 + 0.28 * most)
    for number, budget in enumerate(budgets, start=1):
        axes = figure.add_subplot(1, len(budgets), number)
        rows = [row for row in summary if row["num_labels"] == budget]
        rows.sort(key=lambda row: row["accuracy"])
        for height, row in enumerate(rows):
            color = COLORS[5] if row["arm"] == ours else COLORS[0]
            accuracies = [
                100 * record["accuracy"]
                for record in records
                if (record["num_labels"], record["arm"]) == (budget, row["arm"])
            ]
            axes.plot(
                accuracies, [height] * len(accuracies), "o", color=color, markersize=4, alpha=0.6
            )
            axes.plot(100 * row["accuracy"], height, "|", color=color, markersize=14)
        axes.set_yticks(range(len(rows)), [row["arm"] for row in rows])
        axes.set_xlabel("accuracy, %")
        axes.set_title(f"{budget} labels", fontsize="medium")
        axes.grid(axis="x", color=UNLABELLED, alpha=0.3)
    return figure


def figure_to_bytes(figure: "Figure", kind: str) -> bytes:
    """Render a picture.

    Args:
        figure: The picture.
        kind: "png" or "svg". An SVG is reproducible, keeps texts as text, and has a transparent
            background.
    """
    import matplotlib

    if kind == "png":  # the texts of an SVG are drawn by what shows it, in its fonts
        use_fallback_fonts(figure)
    buffer = io.BytesIO()
    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": "seqssvae"}
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # drawn as boxes
        keys = ("Creator", "Date", "Format", "Type") if kind == "svg" else ()
        figure.savefig(
            buffer, format=kind, dpi=150, transparent=kind == "svg",
            metadata=dict.fromkeys(keys), bbox_inches="tight",
        )  # fmt: skip
    return buffer.getvalue()


def shorten(text: str, width: int = TEXT_WIDTH) -> str:
    """Truncate a text to `width` characters, with an ellipsis, and escape it for matplotlib."""
    return _plain(text if len(text) <= width else text[: width - 1] + "\u2026")


def _plain(text: str) -> str:
    """Escape what matplotlib would parse as mathematics."""
    return text.replace("$", r"\$")


def figure_of_size(width: float, height: float) -> "Figure":
    """An empty figure, in inches, outside of pyplot's global state.

    Raises:
        InputError: matplotlib is not installed.
    """
    require("matplotlib")
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _grid(cells: Sequence[Sequence[str]], titles: Sequence[str], *, title: str) -> "Figure":
    """A table of texts; each column is as wide as its longest text."""
    lines = [list(titles), *map(list, cells)]
    widths = [2 + max(map(len, column)) for column in zip(*lines, strict=True)]
    starts = np.concatenate([[0], np.cumsum(widths)]).tolist()
    figure = figure_of_size(0.085 * starts[-1] + 0.4, 0.28 * len(lines) + 0.6)
    axes: Axes = figure.add_subplot(xlim=(0, starts[-1]), ylim=(len(lines), 0))
    axes.set_axis_off()
    axes.set_title(title, fontsize="medium", loc="left")
    axes.axhline(1, color=UNLABELLED, linewidth=0.8)
    for row, line in enumerate(lines):
        for start, text in zip(starts, line, strict=False):
            weight = "normal" if row else "bold"
            axes.text(start, row + 0.5, text, fontsize=9, va="center", weight=weight)
    return figure
