"""A logarithmic opinion pool of classifiers, fitted to their scores of held-out labelled rows.

Each classifier's scores are divided by a temperature; the pool is a weighted mean of log
posteriors, with the weights of greatest likelihood under a prior that prefers equal ones. The mean
is calibrated by a temperature and a bias, before the shares of the classes are estimated from
unlabelled rows (Alexandari et al. 2020).
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from seqssvae.teacher.logistic import soft_cross_entropy

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

FEW_LABELS, FOLDS_OF_FEW, FOLDS = 150, 6, 3
TEMPERATURES = np.exp(np.linspace(-1.5, 5, 40))
TEMPERATURE_DEVIATION = 1.0  # standard deviation of log temperatures around the usual ones
WEIGHT_PRIOR = 1.0  # rows that the prior of the weights is worth
LEAST_SHARE = 0.2  # classifiers with less than this part of an equal weight are dropped
BIAS_DEVIATION = 0.5  # standard deviation of the bias
PRIOR_WEIGHT = 1.0  # of the labelled rows' class shares, beside the unlabelled rows' 1
PRIOR_STEPS = 30


@dataclasses.dataclass(frozen=True, eq=False)
class Pool:
    """Computes posteriors from the scores of J classifiers.

    Attributes:
        weights: Weights of the classifiers, `[J]`; 0 for those dropped, sum 1.
        temperatures: Divisors of their scores, `[J]`.
        log_priors: Added to their scores after the division, `[J, K]`.
        sharpness: Divisor of the mean of log posteriors.
        bias: Added after that division, `[K]`.
    """

    weights: Float64
    temperatures: Float64
    log_priors: Float64
    sharpness: float
    bias: Float64

    def log_posteriors(self, scores: Sequence[NDArray[np.floating]]) -> Float64:
        """log p(y | x) in nats, `[n, K]`, from scores `[n, K]` of the classifiers with a weight."""
        total = np.zeros(scores[0].shape)
        for number, of_one in zip(np.flatnonzero(self.weights), scores, strict=True):
            logits = of_one / self.temperatures[number] + self.log_priors[number]
            total += self.weights[number] * log_softmax(logits, axis=-1)
        result: Float64 = log_softmax(total / self.sharpness + self.bias, axis=-1)
        return result


def assign_folds(y: Int64, hashes: NDArray[np.uint64]) -> Int64:
    """The fold in which each labelled row is held out, `[n]`, -1 for a class's only row.

    Six folds for up to 150 rows, three for more; each has about the same share of each class. Rows
    with equal hashes are in one fold, that of the first of them.
    """
    num_folds = FOLDS_OF_FEW if len(y) <= FEW_LABELS else FOLDS
    folds = np.full(len(y), -1)
    _, first, group = np.unique(hashes, return_index=True, return_inverse=True)
    is_first = np.isin(np.arange(len(y)), first)
    for of_class in np.unique(y):
        rows = np.flatnonzero((y == of_class) & is_first)
        if len(rows) > 1:
            folds[rows] = (np.arange(len(rows)) + of_class) % num_folds
    folds = folds[first][group]
    for of_class in np.unique(y):
        if len(np.unique(folds[y == of_class])) == 1:  # it would have no row beside this fold
            folds[np.isin(group, group[y == of_class])] = -1
    return folds


def fit_pool(
    scores: NDArray[np.floating],
    y: Int64,
    *,
    usual_temperatures: Float64,
    log_priors: Float64,
    allowed: NDArray[np.bool_] | None = None,
    temperatures: Float64 | None = None,
) -> Pool:
    """Fit temperatures, weights and calibration to the scores of held-out rows.

    Args:
        scores: Scores by J classifiers of n rows that they were not fitted to, `[J, n, K]`.
        y: Classes of the rows, `[n]`; with n = 0 all classifiers get the same weight.
        usual_temperatures: Prior means of the temperatures, `[J]`.
        log_priors: Added to the scores after the division by the temperature, `[J, K]`.
        allowed: Classifiers that may get a weight, `[J]`; all when None.
        temperatures: Those of another pool of the same scores, `[J]`, or None.
    """
    num_classifiers, num_rows = scores.shape[:2]
    allowed = np.ones(num_classifiers, np.bool_) if allowed is None else allowed
    if not num_rows:
        no_bias = np.zeros(log_priors.shape[1])
        return Pool(allowed / allowed.sum(), usual_temperatures, log_priors, 1.0, no_bias)
    if temperatures is None:
        of_each = zip(scores, log_priors, usual_temperatures, strict=True)
        temperatures = np.array([_choose_temperature(*of_one, y) for of_one in of_each])
    log_posteriors = log_softmax(
        scores[allowed] / temperatures[allowed, None, None] + log_priors[allowed, None], axis=-1
    )
    weights = np.zeros(num_classifiers)
    weights[allowed] = _choose_weights(log_posteriors, y)
    mean = np.tensordot(weights[allowed], log_posteriors, 1)
    sharpness = _choose_temperature(mean, np.zeros(mean.shape[1]), 1.0, y)
    bias = _choose_bias(mean / sharpness, y)
    return Pool(weights, temperatures, log_priors, sharpness, bias)


def _choose_temperature(
    scores: NDArray[np.floating], log_prior: Float64, usual: float, y: Int64
) -> float:
    """The temperature with the greatest posterior density, from scores `[n, K]`."""
    losses = [
        -_log_probs(scores / temperature + log_prior, y).sum()
        + (np.log(temperature / usual) / TEMPERATURE_DEVIATION) ** 2 / 2
        for temperature in TEMPERATURES
    ]
    return float(TEMPERATURES[np.argmin(losses)])


def _log_probs(logits: Float64, y: Int64) -> Float64:
    """log softmax(logits) at y, `[n]`, from logits `[n, K]`."""
    peak = logits.max(1)
    exponentials = np.exp((logits - peak[:, None]).astype(np.float32))
    result: Float64 = (
        logits[np.arange(len(y)), y] - peak - np.log(exponentials.sum(1, dtype=np.float64))
    )
    return result


def _choose_bias(logits: Float64, y: Int64) -> Float64:
    """The bias with the greatest posterior density under a normal prior, from logits `[n, K]`.

    0 for classes without a row: that none was held out does not mean that they are rare.
    """
    present, y = np.unique(y, return_inverse=True)
    seen, one_hot, ones = logits[:, present], np.eye(len(present))[y], np.ones(len(y))

    def loss(bias: Float64) -> tuple[float, Float64]:
        nats, residuals = soft_cross_entropy(seen + bias, one_hot, ones)
        scaled = bias / BIAS_DEVIATION**2
        return nats + float(bias @ scaled) / 2, residuals.sum(0) + scaled

    result = np.zeros(logits.shape[1])
    result[present] = minimize(loss, np.zeros(len(present)), jac=True, method="L-BFGS-B").x
    return result


def _choose_weights(log_posteriors: Float64, y: Int64) -> Float64:
    """Weights `[J]`, sum 1, with the greatest posterior density, from log posteriors `[J, n, K]`.

    Their prior is a Dirichlet distribution around equal weights; small ones are 0.
    """
    num_classifiers, num_rows, num_classes = log_posteriors.shape
    one_hot, ones = np.eye(num_classes)[y], np.ones(num_rows)

    def loss(logits: Float64) -> tuple[float, Float64]:
        weights = softmax(logits)
        mean = np.tensordot(weights, log_posteriors, 1)
        nats, residuals = soft_cross_entropy(mean, one_hot, ones)
        slopes = np.tensordot(log_posteriors, residuals, 2)
        gradient = weights * (slopes - weights @ slopes)
        gradient += WEIGHT_PRIOR * (weights - 1 / num_classifiers)
        return nats - WEIGHT_PRIOR * float(log_softmax(logits).mean()), gradient

    weights: Float64 = softmax(
        minimize(loss, np.zeros(num_classifiers), jac=True, method="L-BFGS-B").x
    )
    weights[weights < LEAST_SHARE / num_classifiers] = 0
    weights /= weights.sum()
    return weights


def reestimate_prior(posteriors: NDArray[np.floating], prior: Float64) -> Float64:
    """Shares of the classes among unlabelled rows, by EM (Saerens et al. 2002), `[K]`.

    Args:
        posteriors: p(y | x) of the unlabelled rows under `prior`, `[n, K]`; n may be 0.
        prior: Shares among the labelled rows, none of them 0, `[K]`; the result is a mean of these
            and of the unlabelled rows' shares.
    """
    if not len(posteriors):
        return prior
    shares = prior
    for _ in range(PRIOR_STEPS):
        shifted = posteriors * (shares / prior)
        shifted /= shifted.sum(1, keepdims=True)
        shares = (shifted.mean(0) + PRIOR_WEIGHT * prior) / (1 + PRIOR_WEIGHT)
    return shares


def accuracy(log_posteriors: Float64, y: Int64) -> float:
    """Accuracy on the rows that were held out, NaN if none were."""
    is_held_out = np.isfinite(log_posteriors[:, 0])
    if not is_held_out.any():
        return float("nan")
    return float((log_posteriors.argmax(1) == y)[is_held_out].mean())
