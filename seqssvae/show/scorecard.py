"""Generated sequences beside held-out rows: what pictures of them show."""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqssvae.compare.score import score, write_like
from seqssvae.trained import TrainedModel

NUM_WRITTEN = 400
NUM_SYMBOLS = 20
LEAST_JUDGED = 4  # rows of each label, from which the judge learns and by which it is judged


@dataclasses.dataclass(frozen=True)
class Scorecard:
    """Sequences that were generated for the labels of held-out rows, beside these rows.

    Attributes:
        figures: The result of `seqssvae.compare.score.score`.
        lengths: Symbols of each held-out row, and of each generated sequence.
        symbols: The most frequent symbols, and their shares among all of the rows and of the
            sequences.
    """

    figures: dict[str, Any]
    lengths: tuple[list[int], list[int]]
    symbols: list[tuple[str, float, float]]


def measure_scorecard(
    model: TrainedModel, rows: Sequence[Any], y: NDArray[np.int64], seed: int = 0
) -> Scorecard | None:
    """Generate sequences and measure them.

    Args:
        model: The model.
        rows: Rows that it has not seen.
        y: Their classes, -1 for none, `[n]`.
        seed: Seed of the sequences.

    Returns:
        None for fewer than 2 rows, or a model that generates nothing. Without `LEAST_JUDGED` rows
        of each label no judge is asked.
    """
    if len(rows) < 2 or model.is_classifier:
        return None
    num_classes = len(model.labels.names)
    written, of_written = write_like(model, NUM_WRITTEN, y, {"seed": seed})
    is_judged = num_classes and np.bincount(y[y >= 0], minlength=num_classes).min() >= LEAST_JUDGED
    figures = score(
        written,
        rows,
        y=of_written,
        reference_y=y,
        num_classes=num_classes if is_judged else 0,
        seed=seed,
    )
    counts = [Counter(symbol for one in some for symbol in one) for some in (rows, written)]
    totals = [max(1, one.total()) for one in counts]
    shares = {
        symbol: (counts[0][symbol] / totals[0], counts[1][symbol] / totals[1])
        for symbol in counts[0] | counts[1]
    }
    frequent = sorted(shares, key=lambda symbol: (-sum(shares[symbol]), symbol))[:NUM_SYMBOLS]
    return Scorecard(
        figures,
        (list(map(len, rows)), list(map(len, written))),
        [(symbol, *shares[symbol]) for symbol in frequent],
    )
