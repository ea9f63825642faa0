"""Which rows to label next: those that the model doubts, each of another kind, none an outlier.

A row's doubt is the entropy of the mean of q(y | x), p(y | x) and the n-gram part of q: their own
doubts and their disagreement (Jensen-Shannon divergence). Rows are clustered by z and by that mean,
weighted by doubt (CLUE, Prabhu et al. 2021, Active domain adaptation via clustering
uncertainty-weighted embeddings). Of the half of each cluster's weight that is nearest to its centre
the row with the greatest doubt is chosen, so that many rows like it learn from its label. Rows
whose p(x) is among the lowest are left out.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import entr, log_softmax
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
TINY = 1e-12  # a weight
OUTLIERS = 0.05  # share of the rows with the lowest p(x) per symbol


@dataclasses.dataclass(frozen=True)
class Suggestions:
    """Rows to label next, of n that were looked at.

    Attributes:
        seen: Numbers of the rows that were looked at, ascending, `[n]`.
        doubt: Their doubt in nats, `[n]`.
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
    members = [np.exp(table) for table in tables[:3] if table is not None]
    mean = np.mean(members, axis=0)
    doubt = entr(mean).sum(1)
    density = tables.log_prob
    z = encode_table(model, some)["loc"]
    points = np.hstack([z / z.std(0).clip(min=1e-6), np.sqrt(mean) * np.sqrt(max(z.shape[1], 1))])
    first = np.unique([some.row(row).tobytes() for row in range(len(some))], return_index=True)[1]
    usual = first[density[first] >= np.quantile(density, OUTLIERS)]
    chosen = spread(points[usual], doubt[usual], num, seed=seed)
    chosen = usual[chosen]
    chosen = chosen[np.argsort(-doubt[chosen], kind="stable")]
    return Suggestions(drawn, doubt, probabilities, chosen)


def agreement(first: Sequence[str], second: Sequence[str]) -> float:
    """Cohen's kappa of two labellings of the same rows; 1 if they are the same."""
    pair = list(first), list(second)
    return 1.0 if pair[0] == pair[1] else float(cohen_kappa_score(*pair))


def spread(points: Float64, weights: Float64, num: int, *, seed: int = 0) -> Int64:
    """One row of each weighted cluster: near to its centre, and of a great weight.

    Args:
        points: `[n, D]`.
        weights: `[n]`, at least 0.
        num: Number of clusters.
        seed: Seed of the first centres.
    """
    points, first, group = np.unique(points, axis=0, return_index=True, return_inverse=True)
    if len(points) <= num:
        return np.asarray(first)
    sums = np.bincount(group.ravel(), weights) + TINY  # equal rows are one
    means = KMeans(num, n_init=1, random_state=seed).fit(points, sample_weight=sums)
    distance = means.transform(points).min(1)  # [n]
    chosen = []
    for cluster in np.unique(means.labels_):
        own = np.flatnonzero(means.labels_ == cluster)
        own = own[distance[own].argsort(kind="stable")]
        sum_within = sums[own].cumsum()
        near = own[: 1 + int(np.searchsorted(sum_within, sum_within[-1] / 2))]
        chosen.append(near[weights[first[near]].argmax()])
    return np.asarray(first[chosen])
