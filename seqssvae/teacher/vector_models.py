"""Classifiers of vectors, whose scores are linear: v W + b, so that q(y | x, v) can have them.

Two kinds: logistic regression, and normal distributions with a common covariance, whose means are
estimated by EM over unlabelled rows too. Vectors are centred and scaled as a whole, so that their
mean square length is 1. A row without a vector has the scores 0.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve

from seqssvae.teacher.classifiers import Classifier, FittedClassifier, regress
from seqssvae.teacher.features import Features, VectorSpace
from seqssvae.teacher.ngram_models import ALL
from seqssvae.teacher.partial import EMWeights, Known, is_known
from seqssvae.teacher.pool import Pool

Float64 = NDArray[np.float64]
Floating = NDArray[np.floating]
Int64 = NDArray[np.int64]

LEVEL = "vectors"
EXTRA = 1.0  # rows at the mean of all that each class has more


@dataclasses.dataclass(frozen=True)
class VectorLogistic(Classifier):
    """Logistic regression."""

    name: str
    penalty: float
    level: str = LEVEL
    has_prior: bool = True
    usual_temperature: float = 1.0
    unlabelled_weight: float = 0.0

    def fit(  # noqa: D102
        self,
        features: Features,
        evidence: Known,
        num_steps: int,
        scored: Int64 | slice = ALL,
    ) -> FittedClassifier:
        space = features.space
        rows = np.flatnonzero(is_known(evidence) & space.is_known)
        weight, bias = regress(space.x[rows].astype(np.float64), evidence[rows], self.penalty)
        return fitted(space, weight, bias, scored)


@dataclasses.dataclass(frozen=True)
class VectorNormals(Classifier):
    """A normal distribution for each class, with EM; linear discriminant analysis without it.

    The common covariance is that of all rows, with those outside the diagonal lowered: a part of it
    is replaced by a multiple of the identity.
    """

    name: str
    shrinkage: float
    unlabelled_weight: float
    level: str = LEVEL
    has_prior: bool = False
    usual_temperature: float = 2.0

    def fit(  # noqa: D102
        self,
        features: Features,
        evidence: Known,
        num_steps: int,
        scored: Int64 | slice = ALL,
    ) -> FittedClassifier:
        space = features.space
        em, x = EMWeights(evidence, self.unlabelled_weight), space.x
        weights = (em.first * space.is_known[:, None]).astype(np.float32)
        steps = num_steps if self.unlabelled_weight else 0
        for step in range(steps + 1):
            means = (x.T @ weights).astype(np.float64) / (weights.sum(0) + EXTRA)  # [D, K]
            weight = cho_solve(space.factor(self.shrinkage), means)
            bias = -0.5 * (means * weight).sum(0)
            if step < steps:
                expected = em.expect(x[em.open] @ weight.astype(np.float32) + bias)
                weights[em.open] = expected * space.is_known[em.open, None]
        return fitted(space, weight, bias, scored)


def fitted(
    space: VectorSpace, weight: Floating, bias: Floating, scored: Int64 | slice
) -> FittedClassifier:
    """The classifier of scores x W + b, of centred and scaled x.

    Args:
        space: The rows.
        weight: W, `[D, K]`.
        bias: b, `[K]`.
        scored: Of which scores are wanted.
    """
    of_vectors: tuple[Float64, Float64] = (
        np.asarray(weight / space.scale, np.float64),
        np.asarray(bias - space.mean @ weight / space.scale, np.float64),
    )

    def score(other: Features) -> NDArray[np.float32]:
        assert other.vectors is not None
        x, is_known = space.standardise(other.vectors)
        return ((x @ weight + bias) * is_known[:, None]).astype(np.float32)

    own = (space.x[scored] @ weight + bias) * space.is_known[scored, None]
    return FittedClassifier(own.astype(np.float32), score, of_vectors)


def list_vector_classifiers() -> Sequence[Classifier]:
    """Those of a pool; their penalties and covariances are chosen by its weights."""
    return [
        *(VectorLogistic(f"logistic regression on vectors, {a}", a) for a in (10.0, 1.0, 0.1)),
        *(
            VectorNormals(f"normals of vectors, {shrinkage}, EM {weight}", shrinkage, weight)
            for shrinkage, weight in ((1.0, 0.0), (0.5, 0.1), (0.5, 1.0), (0.2, 0.3), (0.2, 1.0))
        ),
    ]


def split(
    pool: Pool, members: Sequence[FittedClassifier]
) -> tuple[float, Pool, tuple[Float64, Float64]]:
    """A pool without its classifiers of vectors, and these as one linear map.

    Args:
        pool: The pool.
        members: Those of its classifiers that have a weight.

    Returns:
        The share of the others in the weights; the pool of them, if it is not 0; and W `[D, K]` and
        b `[K]`, so that, up to a constant of each row, log p(y | x, v) is
        v W + b + share * (log p of that pool - bias) + bias.
    """
    numbers, weights = np.flatnonzero(pool.weights), pool.weights.copy()
    weight, bias = np.zeros(()), np.zeros(pool.log_priors.shape[1])
    for number, member in zip(numbers, members, strict=True):
        if member.of_vectors is not None:
            part, weights[number] = weights[number] / pool.sharpness, 0
            of_one = [part / pool.temperatures[number] * one for one in member.of_vectors]
            weight, bias = weight + of_one[0], bias + of_one[1] + part * pool.log_priors[number]
    share = float(weights.sum())
    return share, dataclasses.replace(pool, weights=weights / (share or 1)), (weight, bias)
