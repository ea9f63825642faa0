"""Rows with a label, with weak evidence about it, or with neither, in one table, and their EM.

Evidence e(y) of soft labels and votes multiplies a row's posterior, and is defined up to a factor;
that of a set C of possible classes is 1 inside and 0 outside it (Jin and Ghahramani 2002). A row
has the information 1 - H(e) / log K, where H is the entropy of e, normalised: 1 with a label,
1 - log |C| / log K with a set, 0 where nothing is known. By it a row's weight in EM lies between a
labelled row's 1 and the weight of an unlabelled row.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import entr, softmax

from seqssvae.teacher.logistic import normalise

Bools = NDArray[np.bool_]
Known = NDArray[np.bool_] | NDArray[np.floating]  # e, `[N, K]`, its greatest value in a row 1
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


def what_is_known(
    num_rows: int,
    num_classes: int,
    candidates: Mapping[int, Sequence[int]] | None,
    evidence: NDArray[np.float32] | None,
) -> Known:
    """e of the sets of some rows, times other evidence, `[N, K]`."""
    nobody = np.zeros(0, np.int64)
    possible = possible_classes(num_rows, nobody, nobody, num_classes, candidates)
    return possible if evidence is None else possible * evidence


def is_known(evidence: Known) -> Bools:
    """Of which rows something is known, `[N]`."""
    known: Bools = evidence.min(1) < 1
    return known


def weighed(scores: NDArray[np.floating], evidence: Known) -> NDArray[np.floating]:
    """Scores in nats plus log e, -inf for a class that is not possible."""
    with np.errstate(divide="ignore"):
        result: NDArray[np.floating] = scores + np.log(evidence, dtype=scores.dtype)
    return result


class EMWeights:
    """The weights of rows and classes, `[N, K]`, with which EM counts.

    Args:
        evidence: e, `[N, K]`.
        unlabelled_weight: Weight of an unlabelled row.

    Attributes:
        first: Before the first E-step: a row's information, shared by its classes as e.
        open: Rows with more than one possible class and a weight above 0, `[m]`.
        total: The sum of the weights of these rows.
    """

    def __init__(self, evidence: Known, unlabelled_weight: float) -> None:
        shares = evidence / evidence.sum(1, keepdims=True, dtype=np.float64)
        information = 1 - entr(shares).sum(1) / np.log(max(evidence.shape[1], 2))
        information[~is_known(evidence) & (evidence.shape[1] > 1)] = 0  # not a rounding error
        row_weights = unlabelled_weight + (1 - unlabelled_weight) * information
        self.first: Float64 = shares * information[:, None]
        self.open: Int64 = np.flatnonzero(((evidence > 0).sum(1) > 1) & (row_weights > 0))
        self._evidence = evidence[self.open]
        self._row_weights = row_weights[self.open, None]
        self.total = float(self._row_weights.sum())

    def expect(self, scores: NDArray[np.floating]) -> NDArray[np.floating]:
        """The E-step of the open rows: weights `[m, K]` from their scores `[m, K]`, in nats."""
        posteriors = softmax(weighed(scores, self._evidence), axis=1)
        weights: NDArray[np.floating] = self._row_weights.astype(scores.dtype) * posteriors
        return weights


def set_cross_entropy(
    logits: Floating, evidence: Known, row_weights: Floating
) -> tuple[float, Floating]:
    """-sum_i w_i log sum_y p(y | x_i) e_i(y), and its gradient with respect to the logits.

    Args:
        logits: `[n, K]`.
        evidence: e, `[n, K]`; of sets C it is -sum_i w_i log p(y_i in C_i | x_i).
        row_weights: w, `[n]`.

    Returns:
        The loss in nats and the gradient, `[n, K]`.
    """
    posteriors, log_total = normalise(logits)
    within, log_inside = normalise(weighed(logits, evidence))
    nats = row_weights * (log_total - log_inside)
    return float(nats.sum(dtype=np.float64)), row_weights[:, None] * (posteriors - within)
