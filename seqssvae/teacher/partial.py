"""Rows with a label, with a set of possible labels, or with neither, in one table, and their EM.

A row whose class is one of a set C of the K classes has the information 1 - log |C| / log K: 1 with
a label, 0 without one. By it a row's weight in EM lies between a labelled row's 1 and the weight of
an unlabelled row; its posterior is 0 outside C (Jin and Ghahramani 2002).
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp, softmax

Bools = NDArray[np.bool_]
Float64 = NDArray[np.float64]
Floating = NDArray[np.floating]
Int64 = NDArray[np.int64]


def possible_classes(
    num_rows: int,
    labelled: Int64,
    y: Int64,
    num_classes: int,
    candidates: Mapping[int, Sequence[int]] | None = None,
) -> Bools:
    """Which classes each row may have: `[N, K]`, all of them for an unlabelled row.

    Args:
        num_rows: N.
        labelled: Rows with a label, `[n]`.
        y: Their classes, `[n]`.
        num_classes: K.
        candidates: Possible classes of other rows.
    """
    possible = np.ones((num_rows, num_classes), np.bool_)
    for row, classes in (candidates or {}).items():
        possible[row] = np.isin(np.arange(num_classes), classes)
    possible[labelled] = np.arange(num_classes) == y[:, None]
    return possible


class EMWeights:
    """The weights of rows and classes, `[N, K]`, with which EM counts.

    Args:
        possible: Which classes each row may have, `[N, K]`, at least one.
        unlabelled_weight: Weight of an unlabelled row.

    Attributes:
        first: Before the first E-step: a row's information, shared by its possible classes.
        open: Rows with more than one possible class and a weight above 0, `[m]`.
        total: The sum of the weights of these rows.
    """

    def __init__(self, possible: Bools, unlabelled_weight: float) -> None:
        size = possible.sum(1)
        information = 1 - np.log(size) / np.log(max(possible.shape[1], 2))
        row_weights = unlabelled_weight + (1 - unlabelled_weight) * information
        self.first: Float64 = possible * (information / size)[:, None]
        self.open: Int64 = np.flatnonzero((size > 1) & (row_weights > 0))
        self._possible = possible[self.open]
        self._row_weights = row_weights[self.open, None]
        self.total = float(self._row_weights.sum())

    def expect(self, scores: NDArray[np.floating]) -> NDArray[np.floating]:
        """The E-step of the open rows: weights `[m, K]` from their scores `[m, K]`, in nats."""
        posteriors = softmax(np.where(self._possible, scores, -np.inf), axis=1)
        weights: NDArray[np.floating] = self._row_weights.astype(scores.dtype) * posteriors
        return weights


def set_cross_entropy(
    logits: Floating, possible: Bools, row_weights: Floating
) -> tuple[float, Floating]:
    """-sum_i w_i log p(y_i in C_i | x_i), and its gradient with respect to the logits.

    Args:
        logits: `[n, K]`.
        possible: C, `[n, K]`, at least one class of each row.
        row_weights: w, `[n]`.

    Returns:
        The loss in nats and the gradient, `[n, K]`.
    """
    among = np.where(possible, logits, -np.inf)
    posteriors, within = softmax(logits, axis=1), softmax(among, axis=1)
    nats = row_weights * (logsumexp(logits, axis=1) - logsumexp(among, axis=1))
    return float(nats.sum(dtype=np.float64)), row_weights[:, None] * (posteriors - within)
