"""Logistic regression with soft targets, which scikit-learn's does not take, by L-BFGS.

With a penalty on |W|^2, W is at each step a combination of the rows, X^T A. Where there are fewer
rows than features, A and X X^T A are stored in its place: the steps are the same, but their time
and memory grow with the number of rows.
"""

from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from seqssvae.teacher.sparse import Product

Floating = NDArray[np.floating]
Pairs = deque[tuple[Floating, Floating, float]]
CrossEntropy = Callable[[Any, NDArray[Any], Any], tuple[float, Any]]

MEMORY = 5  # pairs of vectors that L-BFGS stores
TOLERANCE = 1e-8  # it ends when a step lowers the loss by a smaller part of it
MOST_TRIALS = 20  # of the length of one step
MOST_LEFT, MOST_OVERSHOT = 0.9, 0.5  # of the slope along a step, where it ends
LEAST_DECREASE = 1e-4  # of what the slope promises


def normalise(logits: Floating) -> tuple[Floating, Floating]:
    """softmax of logits `[n, K]`, and log sum exp of each row, `[n]`.

    For few rows scipy's functions take many times as long, most of it for checks.
    """
    peak = logits.max(1)
    values = np.exp(logits - peak[:, None])
    total = values.sum(1)
    return values / total[:, None], peak + np.log(total)


def soft_cross_entropy(
    logits: Floating, targets: Floating, row_weights: Floating
) -> tuple[float, Floating]:
    """sum_i w_i H(target_i, softmax(logits_i)), and its gradient with respect to the logits.

    Args:
        logits: `[n, K]`.
        targets: Distributions, `[n, K]`.
        row_weights: w, `[n]`.

    Returns:
        The loss in nats and the gradient, `[n, K]`.
    """
    probs, log_total = normalise(logits)
    weights = row_weights[:, None]
    nats = (weights * targets * (log_total[:, None] - logits)).sum(dtype=np.float64)
    return float(nats), weights * (probs - targets)


class _ByFeature:
    """Vectors are W and below it b, `[F + 1, K]`."""

    def __init__(self, product: Product, transposed: Product) -> None:
        self.size, self._product, self._transposed = product.shape[1] + 1, product, transposed

    def logits(self, vector: Floating) -> Floating:
        logits: Floating = self._product(vector[:-1]) + vector[-1]
        return logits

    def gradient(self, residuals: Floating, penalty: float, vector: Floating) -> Floating:
        of_weight = self._transposed(residuals) + penalty * vector[:-1]
        return np.concatenate((of_weight, residuals.sum(0)[None]))

    def dot(self, one: Floating, other: Floating) -> float:
        return float(np.vdot(one[:-1], other[:-1]))

    def weight(self, vector: Floating) -> Floating:
        return vector[:-1]


class _ByRow:
    """Vectors are A, X X^T A and b, `[2 n + 1, K]`, where W = X^T A."""

    def __init__(self, product: Product, transposed: Product) -> None:
        self.num_rows, self._product, self._transposed = product.shape[0], product, transposed
        self.size = 2 * self.num_rows + 1

    def logits(self, vector: Floating) -> Floating:
        logits: Floating = vector[self.num_rows : -1] + vector[-1]
        return logits

    def gradient(self, residuals: Floating, penalty: float, vector: Floating) -> Floating:
        images = self._product(self._transposed(residuals))
        of_weight = np.concatenate((residuals, images)) + penalty * vector[:-1]
        return np.concatenate((of_weight, residuals.sum(0)[None]))

    def dot(self, one: Floating, other: Floating) -> float:
        return float(np.vdot(one[: self.num_rows], other[self.num_rows : -1]))

    def weight(self, vector: Floating) -> Floating:
        return self._transposed(vector[: self.num_rows])


def fit_logistic(
    features: csr_matrix | Floating,
    targets: NDArray[Any],
    row_weights: Floating,
    *,
    penalty: float,
    num_steps: int,
    cross_entropy: CrossEntropy = soft_cross_entropy,
) -> tuple[Floating, Floating]:
    """The minimum of sum_i w_i H(target_i, softmax(x_i W + b)) + penalty / 2 |W|^2, by L-BFGS.

    Args:
        features: Sparse or dense, `[n, F]`.
        targets: Distributions, `[n, K]`, or what `cross_entropy` reads in their place.
        row_weights: w, `[n]`.
        penalty: Strength of the penalty on W; b has none.
        num_steps: Maximum number of steps of L-BFGS.
        cross_entropy: Loss of the logits in nats, and its gradient.

    Returns:
        W `[F, K]` and b `[K]`, in the dtype of the features.
    """
    num_features, num_classes = features.shape[1], targets.shape[1]
    used = np.arange(num_features)
    if isinstance(features, csr_matrix):  # a feature that no row has gets the weight 0
        used = np.flatnonzero(np.bincount(features.indices, minlength=num_features))
        features = features[:, used]
        transposed = Product(features.T.tocsr())
    else:
        transposed = Product(features.T)
    kind = _ByRow if 2 * features.shape[0] < len(used) else _ByFeature
    space = kind(Product(features), transposed)
    if targets.dtype != np.bool_:
        targets = targets.astype(features.dtype)
    row_weights = row_weights.astype(features.dtype)
    vector = _minimise(
        space,
        lambda logits: cross_entropy(logits, targets, row_weights),
        np.zeros((space.size, num_classes), features.dtype),
        penalty=penalty,
        num_steps=num_steps,
    )
    weight = np.zeros((num_features, num_classes), features.dtype)
    weight[used] = space.weight(vector)
    return weight, vector[-1]


def _minimise(
    space: _ByFeature | _ByRow,
    loss: Callable[[Floating], tuple[float, Floating]],
    vector: Floating,
    *,
    penalty: float,
    num_steps: int,
) -> Floating:
    """L-BFGS from the vector 0; a step's length is found without a product, from its logits."""
    logits = space.logits(vector)
    nats, residuals = loss(logits)
    gradient = space.gradient(residuals, penalty, vector)
    total, square, length = nats, 0.0, 1 / max(1.0, _inner(space, gradient, gradient) ** 0.5)
    pairs: Pairs = deque(maxlen=MEMORY)
    for _ in range(num_steps):
        direction = _direction(space, gradient, pairs)
        change = space.logits(direction)
        first, second = space.dot(vector, direction), space.dot(direction, direction)
        slope, least, most = _inner(space, gradient, direction), 0.0, np.inf
        if not slope < 0:
            break
        for _ in range(MOST_TRIALS):  # the conditions of Wolfe
            nats, residuals = loss(logits + length * change)
            longer = square + length * (2 * first + length * second)
            value = nats + penalty / 2 * longer
            of_weight = penalty * (first + length * second)
            ratio = (float(np.vdot(residuals, change)) + of_weight) / slope
            promised = -LEAST_DECREASE * length * slope
            if ratio < -MOST_OVERSHOT or total - value < promised - TOLERANCE * abs(total):
                most, length = length, (least + length) / 2
            elif ratio > MOST_LEFT:
                least, length = length, min(2 * length, (length + most) / 2)
            else:
                break
        if not value < total:
            break
        moved = length * direction
        vector, logits, square = vector + moved, logits + length * change, longer
        before, total = total, value
        if before - total <= TOLERANCE * max(abs(before), 1.0):
            break
        previous, gradient = gradient, space.gradient(residuals, penalty, vector)
        turned = gradient - previous
        length, inner = 1.0, _inner(space, moved, turned)
        if inner > 0 and _inner(space, turned, turned) > 0:  # not rounded to 0
            pairs.append((moved, turned, inner))
    return vector


def _direction(space: _ByFeature | _ByRow, gradient: Floating, pairs: Pairs) -> Floating:
    """The two loops of L-BFGS (Nocedal and Wright 2006, algorithm 7.4)."""
    direction, shares = -gradient, []
    for moved, turned, inner in reversed(pairs):
        shares.append(_inner(space, moved, direction) / inner)
        direction -= shares[-1] * turned
    if pairs:
        _, turned, inner = pairs[-1]
        direction *= inner / _inner(space, turned, turned)
    for (moved, turned, inner), share in zip(pairs, reversed(shares), strict=True):
        direction += (share - _inner(space, turned, direction) / inner) * moved
    return direction


def _inner(space: _ByFeature | _ByRow, one: Floating, other: Floating) -> float:
    return space.dot(one, other) + float(one[-1] @ other[-1])
