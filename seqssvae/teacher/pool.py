"""A pool of classifiers, weighed by what they said of labelled rows that they had not seen.

Each member's scores are divided by a temperature; the pool is a weighted mean of log posteriors,
its weights chosen greedily (Caruana et al. 2004) on bootstrap samples of the labelled rows. The
mean is calibrated by a temperature and a bias before the classes' shares are estimated from
unlabelled rows (Alexandari et al. 2020).
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

__all__ = ["Pool", "assign_folds", "fit_pool", "log_softmax", "reestimate_prior"]

Doubles = NDArray[np.float64]
Integers = NDArray[np.int64]

FEW_LABELS, FOLDS_OF_FEW, FOLDS = 150, 6, 3
TEMPERATURES = np.exp(np.linspace(-1.5, 5, 40))
TEMPERATURE_DEVIATION = 1.0  # of log temperatures from the usual ones
NUM_BAGS, NUM_PICKS = 15, 8
LEAST_WEIGHT = 0.02  # of a member that stays in the pool
BIAS_DEVIATION = 0.5  # of what calibration adds to log posteriors
PRIOR_PULL = 1.0  # of the labelled rows' class shares, beside the unlabelled rows' 1
PRIOR_STEPS = 30


@dataclasses.dataclass(frozen=True, eq=False)
class Pool:
    """How members' scores become posteriors.

    Attributes:
        weights: Of the members, `[J]`; 0 for those left out, sum 1.
        temperatures: What their scores are divided by, `[J]`.
        log_priors: Added to their scores after that, `[J, K]`.
        sharpness: The pool's mean of log posteriors is divided by it.
        bias: Then added, `[K]`.
    """

    weights: Doubles
    temperatures: Doubles
    log_priors: Doubles
    sharpness: float
    bias: Doubles

    def log_posteriors(self, scores: Sequence[NDArray[np.floating]]) -> Doubles:
        """log p(y | x) in nats, `[n, K]`, from scores `[n, K]` of the members with a weight."""
        used = np.flatnonzero(self.weights)
        total = np.zeros(scores[0].shape)
        for member, of_member in zip(used, scores, strict=True):
            logits = of_member / self.temperatures[member] + self.log_priors[member]
            total += self.weights[member] * log_softmax(logits)
        return log_softmax(total / self.sharpness + self.bias)


def assign_folds(y: Integers) -> Integers:
    """The fold in which each labelled row is held out, `[n]`, -1 for a class's only row.

    Six folds for up to 150 rows, three for more; each has about the same share of each class.
    """
    num_folds = FOLDS_OF_FEW if len(y) <= FEW_LABELS else FOLDS
    folds = np.full(len(y), -1)
    for of_class in np.unique(y):
        rows = np.flatnonzero(y == of_class)
        if len(rows) > 1:
            folds[rows] = (np.arange(len(rows)) + of_class) % num_folds
    return folds


def fit_pool(
    scores: NDArray[np.floating],
    y: Integers,
    *,
    usual_temperatures: Doubles,
    log_priors: Doubles,
    seed: int,
    allowed: NDArray[np.bool_] | None = None,
) -> Pool:
    """Temperatures and weights from the scores of held-out rows.

    Args:
        scores: Of J members for n rows, none of which they were fitted to, `[J, n, K]`.
        y: The rows' classes, `[n]`; with n = 0 all members weigh the same.
        usual_temperatures: Of the members, `[J]`; few rows move them little.
        log_priors: Added to each member's scores after the temperature, `[J, K]`.
        seed: Of the bootstrap samples.
        allowed: Members that may get a weight, `[J]`; all when None.
    """
    num_members, num_rows = scores.shape[:2]
    allowed = np.ones(num_members, np.bool_) if allowed is None else allowed
    if not num_rows:
        no_bias = np.zeros(log_priors.shape[1])
        return Pool(allowed / allowed.sum(), usual_temperatures, log_priors, 1.0, no_bias)
    temperatures = np.array(
        [
            _choose_temperature(*of_member, y)
            for of_member in zip(scores, log_priors, usual_temperatures, strict=True)
        ]
    )
    log_posteriors = log_softmax(scores / temperatures[:, None, None] + log_priors[:, None])
    weights = np.zeros(num_members)
    weights[allowed] = _choose_weights(log_posteriors[allowed], y, np.random.default_rng(seed))
    mean = np.tensordot(weights, log_posteriors, 1)
    sharpness = _choose_temperature(mean, np.zeros(mean.shape[1]), 1.0, y)
    bias = _choose_bias(mean / sharpness, y)
    return Pool(weights, temperatures, log_priors, sharpness, bias)


def _choose_temperature(
    scores: NDArray[np.floating], log_prior: Doubles, usual: float, y: Integers
) -> float:
    """The temperature with the greatest posterior, given rows `[n, K]` and the usual one."""
    rows = np.arange(len(y))
    losses = [
        -log_softmax(scores / temperature + log_prior)[rows, y].sum()
        + (np.log(temperature / usual) / TEMPERATURE_DEVIATION) ** 2 / 2
        for temperature in TEMPERATURES
    ]
    return float(TEMPERATURES[np.argmin(losses)])


def _choose_bias(logits: Doubles, y: Integers) -> Doubles:
    """What makes rows `[n, K]` likeliest when it is added, under a normal prior, `[K]`.

    0 for classes of which there is no row: that none was held out does not say that they are rare.
    """
    present, y = np.unique(y, return_inverse=True)
    seen, counts = logits[:, present], np.bincount(y)

    def loss(bias: Doubles) -> tuple[float, Doubles]:
        log_posteriors = log_softmax(seen + bias)
        scaled = bias / BIAS_DEVIATION**2
        nats = -log_posteriors[np.arange(len(y)), y].sum() + (bias * scaled).sum() / 2
        return float(nats), np.exp(log_posteriors).sum(0) - counts + scaled

    result = np.zeros(logits.shape[1])
    result[present] = minimize(loss, np.zeros(len(present)), jac=True, method="L-BFGS-B").x
    return result


def _choose_weights(log_posteriors: Doubles, y: Integers, random: np.random.Generator) -> Doubles:
    """Weights `[J]`: how often each is picked, greedily, on bootstrap samples of n rows."""
    num_members, num_rows, num_classes = log_posteriors.shape
    rows = np.arange(num_rows)
    picks = np.zeros(num_members)
    for _ in range(NUM_BAGS):
        times = np.bincount(random.integers(0, num_rows, num_rows), minlength=num_rows)
        total = np.zeros((num_rows, num_classes))
        for pick in range(1, NUM_PICKS + 1):
            likelihoods = log_softmax((total + log_posteriors) / pick)[:, rows, y] @ times
            best = int(np.argmax(likelihoods))
            total += log_posteriors[best]
            picks[best] += 1
    weights: Doubles = picks / picks.sum()
    weights[weights < LEAST_WEIGHT] = 0
    weights /= weights.sum()
    return weights


def reestimate_prior(posteriors: NDArray[np.floating], prior: Doubles) -> Doubles:
    """Shares of the classes among unlabelled rows, by EM (Saerens et al. 2002), `[K]`.

    Args:
        posteriors: p(y | x) of the unlabelled rows under `prior`, `[n, K]`; n may be 0.
        prior: Shares among the labelled rows, none of them 0, `[K]`; the result is pulled to them
            as by as many rows.
    """
    if not len(posteriors):
        return prior
    shares = prior
    for _ in range(PRIOR_STEPS):
        shifted = posteriors * (shares / prior)
        shifted /= shifted.sum(1, keepdims=True)
        shares = (shifted.mean(0) + PRIOR_PULL * prior) / (1 + PRIOR_PULL)
    return shares


def log_softmax(logits: NDArray[np.floating]) -> Doubles:
    """Log probabilities along the last axis, nats."""
    shifted = logits - logits.max(-1, keepdims=True)
    result: Doubles = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return result
