"""Which rows to label next: those that the model doubts, each of another kind, none an outlier.

A row's doubt is how little its two likeliest labels differ (Joshi et al. 2009, Multi-class active
learning for image classification), by the probabilities of `classify`, in which q(y | x) and
p(y | x) both take part: where they disagree, neither label wins. Some times as many rows as wanted
are the most doubted ones. They are clustered by z, q(y | x), p(y | x) and the n-gram part of q, and
the middle row of each cluster is chosen (Citovsky et al. 2021, Batch active learning at scale).
Rows whose p(x) is among the lowest are left out.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax
from sklearn.cluster import KMeans
from sklearn.metrics import cohen_kappa_score

from seqssvae.data.encoded import EncodedRows
from seqssvae.inference.classify import mode_powers
from seqssvae.inference.combine import label_tables
from seqssvae.inference.predict import encode_table
from seqssvae.model.ssvae import SSVAE

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

MAX_ROWS = 10_000  # that are looked at; of more, a random part
DOUBTED = 3  # times as many rows as are chosen
OUTLIERS = 0.05  # share of the rows with the lowest p(x) per symbol


@dataclasses.dataclass(frozen=True)
class Suggestions:
    """Rows to label next, of n that were looked at.

    Attributes:
        seen: Numbers of the rows that were looked at, ascending, `[n]`.
        doubt: Their doubt, `[n]`: 1 if two labels are the likeliest, 0 if one is certain.
        probabilities: Probabilities of their labels, `[n, K]`.
        chosen: Which of these n are chosen, the one with the greatest doubt first.
    """

    seen: Int64
    doubt: Float64
    probabilities: Float64
    chosen: Int64

    @property
    def expected_accuracy(self) -> float:
        """The mean of each row's greatest probability."""
        return float(self.probabilities.max(1).mean())


def suggest(
    model: SSVAE,
    rows: EncodedRows,
    num: int,
    *,
    mode: str,
    weights: tuple[float, float],
    seed: int = 0,
) -> Suggestions:
    """Choose rows to label.

    Args:
        model: A model with classes.
        rows: Rows without a label, at least one.
        num: How many are chosen; fewer if there are fewer different ones.
        mode: As of `classify`.
        weights: As of `classify`.
        seed: Seed of the clusters, and of the choice of rows that are looked at.
    """
    drawn = np.sort(np.random.default_rng(seed).permutation(len(rows))[:MAX_ROWS])
    some = rows.take(drawn)
    tables = label_tables(model, some)
    a, b = mode_powers(mode, weights)
    probabilities = np.exp(log_softmax(a * tables.log_q + b * tables.log_posterior, axis=1))
    second, likeliest = np.sort(np.insert(probabilities, 0, 0.0, axis=1), axis=1)[:, -2:].T
    doubt = 1.0 - (likeliest - second)
    mean = np.mean([np.exp(table) for table in tables[:3] if table is not None], axis=0)
    z = encode_table(model, some)["loc"]
    points = np.hstack([z / z.std(0).clip(min=1e-6), np.sqrt(mean) * np.sqrt(max(z.shape[1], 1))])
    first = np.unique([some.row(row).tobytes() for row in range(len(some))], return_index=True)[1]
    usual = first[tables.log_prob[first] >= np.quantile(tables.log_prob, OUTLIERS)]
    doubted = usual[np.argsort(-doubt[usual], kind="stable")][: DOUBTED * num]
    chosen = doubted[spread(points[doubted], num, seed=seed)]
    chosen = chosen[np.argsort(-doubt[chosen], kind="stable")]
    return Suggestions(drawn, doubt, probabilities, chosen)


def agreement(first: Sequence[str], second: Sequence[str]) -> float:
    """Cohen's kappa of two labellings of the same rows; 1 if they are the same."""
    pair = list(first), list(second)
    return 1.0 if pair[0] == pair[1] else float(cohen_kappa_score(*pair))


def spread(points: Float64, num: int, *, seed: int = 0) -> Int64:
    """Of each of some clusters the row that is nearest to its centre.

    Args:
        points: `[n, D]`.
        num: Number of clusters; fewer if there are fewer different points.
        seed: Seed of the first centres.
    """
    points, first = np.unique(points, axis=0, return_index=True)
    if len(points) > num:
        clusters = KMeans(num, n_init=1, random_state=seed)
        distances = clusters.fit_transform(points)
        is_own = clusters.labels_[:, None] == np.arange(num)
        first = first[np.where(is_own, distances, np.inf).argmin(0)]
    return np.asarray(first)
