"""Sequences in colours for what they say of their label: `explain` for the report and explorer."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seqssvae.data.encoded import EncodedRows
from seqssvae.inference.explain import explain_rows
from seqssvae.trained import TrainedModel

NUM_EXAMPLES = 3  # mistakes, and as many others
MAX_SHOWN = 300  # symbols of a sequence


class Reasons(NamedTuple):
    """What of a sequence speaks for its label and against another.

    Attributes:
        line: The labels, and the difference of their log-probabilities.
        symbols: Text, share in nats and background of each symbol.
    """

    line: str
    symbols: list[tuple[str, float, str]]


def colour(found: Mapping[str, Any], between: str = "") -> Reasons:
    """A row of `explain`: green for the share of a symbol in the decision, or red.

    Args:
        found: The row.
        between: What is written after each symbol.
    """
    most = max(abs(one["share"]) for one in found["symbols"]) or 1.0
    symbols = []
    for one in found["symbols"][:MAX_SHOWN]:
        hue = "0, 150, 70" if one["share"] > 0 else "220, 40, 40"
        background = f"rgba({hue}, {abs(one['share']) / most * 0.6:.2f})"
        symbols.append((one["text"] + between, one["share"], background))
    num_left = len(found["symbols"]) - MAX_SHOWN
    more = f" {num_left} more symbols are not shown." if num_left > 0 else ""
    line = (
        f"Green speaks for {found['label']}, red for {found['against']}: "
        f"{found['difference']:+.2f} nats in all, {found['rest']:+.2f} of them from no "
        f"symbol.{more}"
    )
    return Reasons(line, symbols)


def example_reasons(
    trained: TrainedModel, rows: EncodedRows, probabilities: NDArray[np.float64]
) -> list[Reasons]:
    """The surest mistakes, against the true label, and the first other rows.

    Args:
        trained: The model.
        rows: The rows, n of them.
        probabilities: Of every label, `[n, K]`.
    """
    if probabilities.shape[1] < 2:
        return []
    y, best = rows.y, probabilities.argmax(1)
    is_wrong = (y >= 0) & (y != best)
    wrong = np.flatnonzero(is_wrong)
    wrong = wrong[np.argsort(-probabilities.max(1)[wrong], kind="stable")][:NUM_EXAMPLES]
    between = " " * (trained.vocabulary.kind == "tokens")
    found = []
    for row in [*wrong.tolist(), *np.flatnonzero(~is_wrong)[:NUM_EXAMPLES].tolist()]:
        given: Sequence[int | None] = (int(best[row]), int(y[row]) if is_wrong[row] else None)
        (one,) = explain_rows(
            trained.model,
            rows.take(np.array([row])),
            probabilities[row : row + 1],
            trained.labels.names,
            given,
            vocabulary=trained.vocabulary,
            mode=trained.default_mode,
            weights=trained.weights(),
        )
        found.append(colour(one, between))
    return found
