"""Sets of labels that hold the true one of a new row with a given probability.

Split conformal prediction (Vovk et al. 2005; Sadinle et al. 2019): a set has the labels whose
log-loss is at most a quantile of the log-losses of rows that training did not learn.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from seqssvae.errors import InputError
from seqssvae.inference.classify import MODES

Bools = NDArray[np.bool_]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

COVERAGE = 0.9  # where none is asked for
MISSES = 5  # expected among the rows of a class, for it to have a quantile of its own


@dataclasses.dataclass(frozen=True, eq=False)
class HeldOut:
    """What a model said of rows that training did not learn, as it is kept with the run.

    Attributes:
        y: Classes of n rows, `[n]`.
        losses: -log of the probability of the true class of each, by mode, `[n]`.
        log_prob: log p(x) / T of these and more rows, in nats per symbol, `[m]`; none of a
            classifier alone.
    """

    y: Int64
    losses: Mapping[str, Float64]
    log_prob: Float64

    @classmethod
    def from_plain(cls, plain: Any, num_classes: int) -> Self:
        """From plain values with the names of the attributes, which are those of a run's manifest.

        Raises:
            InputError: they are missing or damaged.
        """
        wanted = "wanted a run with held-out labels, which sets and novelty are measured by"
        if not plain:
            raise InputError(
                f"{wanted}, got one without: of data.dev_fraction 0, of --from with "
                "generated rows, or of an earlier version"
            )
        try:
            y = np.array(plain["y"], np.int64)
            losses = {mode: np.array(plain["losses"][mode], np.float64) for mode in MODES}
            log_prob = np.array(plain["log_prob"], np.float64)
            is_whole = y.ndim == log_prob.ndim == 1 and bool(((y >= 0) & (y < num_classes)).all())
            is_whole &= all(of_mode.shape == y.shape for of_mode in losses.values())
        except (KeyError, OverflowError, TypeError, ValueError):
            is_whole = False
        if not is_whole:
            raise InputError(f"{wanted}, got damaged ones")
        return cls(y, losses, log_prob)

    @property
    def reference(self) -> Float64:
        """The `log_prob` that novelty is measured by.

        Raises:
            InputError: they are of a classifier alone, which has no p(x).
        """
        if not len(self.log_prob):
            raise InputError("novelty: wanted a whole model, got one of train --classifier-only")
        return self.log_prob


def greatest_losses(losses: Float64, y: Int64, *, num_classes: int, coverage: float) -> Float64:
    """The greatest log-loss of a label in a set, `[K]`; infinite where rows are too few.

    It is the quantile ceil((n + 1) coverage) / n of n held-out rows: a new row, exchangeable with
    them, has its true label in the set with a probability of `coverage` at least and of 1 / (n + 1)
    more at most. A class of which as many rows are held out that `MISSES` of them are expected
    outside of their sets has its own quantile, so that this holds within the class; the other
    classes, the rarest, share one.

    Args:
        losses: Log-losses of the rows, `[n]`; n may be 0.
        y: Their classes, `[n]`.
        num_classes: K.
        coverage: The probability, above 0 and below 1.
    """
    counts = np.bincount(y, minlength=num_classes)
    rarest, enough = np.argsort(counts, kind="stable"), MISSES / (1 - coverage)
    num_shared = int((counts < enough).sum())
    if num_shared:  # and so many more that these have enough together
        total = counts[rarest].cumsum()
        num_shared = max(num_shared, 1 + int(np.searchsorted(total, enough)))
    shared, own = rarest[:num_shared], rarest[num_shared:]
    greatest = np.zeros(num_classes)
    for classes in (shared, *own[:, None]):
        greatest[classes] = _quantile(losses[np.isin(y, classes)], coverage)
    return greatest


def _quantile(losses: Float64, coverage: float) -> float:
    rank = math.ceil(round((len(losses) + 1) * coverage, 9))  # 20 * 0.55 is a little above 11
    return float(np.sort(losses)[rank - 1]) if rank <= len(losses) else math.inf


def label_sets(probabilities: Float64, greatest: Float64) -> Bools:
    """Which labels are in the set of each row, `[n, K]`; the most probable one always is.

    Args:
        probabilities: Of every label, `[n, K]`.
        greatest: Of `greatest_losses`, `[K]`.
    """
    in_set: Bools = probabilities >= np.exp(-greatest)
    in_set[np.arange(len(in_set)), probabilities.argmax(1)] = True
    return in_set
