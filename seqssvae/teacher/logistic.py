"""Logistic regression with soft targets, which scikit-learn's does not take."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.sparse import csr_matrix
from scipy.special import log_softmax

Float64 = NDArray[np.float64]
CrossEntropy = Callable[[Float64, NDArray[Any], Float64], tuple[float, Float64]]


def soft_cross_entropy(
    logits: Float64, targets: Float64, row_weights: Float64
) -> tuple[float, Float64]:
    """sum_i w_i H(target_i, softmax(logits_i)), and its gradient with respect to the logits.

    Args:
        logits: `[n, K]`.
        targets: Distributions, `[n, K]`.
        row_weights: w, `[n]`.

    Returns:
        The loss in nats and the gradient, `[n, K]`.
    """
    log_probs = log_softmax(logits, axis=1)
    weights = row_weights[:, None]
    return float(-(weights * targets * log_probs).sum()), weights * (np.exp(log_probs) - targets)


def logistic_loss(
    parameters: Float64,
    features: csr_matrix | Float64,
    targets: NDArray[Any],
    row_weights: Float64,
    penalty: float,
    cross_entropy: CrossEntropy = soft_cross_entropy,
) -> tuple[float, Float64]:
    """sum_i w_i H(target_i, softmax(x_i W + b)) + penalty / 2 |W|^2, and its gradient.

    Args:
        parameters: W and below it b, `[(F + 1) K]`.
        features: `[n, F]`.
        targets: Distributions, `[n, K]`.
        row_weights: w, `[n]`.
        penalty: Strength of the penalty.
        cross_entropy: Loss of the logits, its gradient, and what `targets` are for it.

    Returns:
        The loss in nats and the gradient, `[(F + 1) K]`.
    """
    table = parameters.reshape(-1, targets.shape[1])
    weight, bias = table[:-1], table[-1]
    loss, residuals = cross_entropy(features @ weight + bias, targets, row_weights)
    gradient = np.concatenate((features.T @ residuals + penalty * weight, residuals.sum(0)[None]))
    return loss + penalty / 2 * float((weight**2).sum()), gradient.ravel()


def fit_logistic(
    features: csr_matrix | Float64,
    targets: NDArray[Any],
    row_weights: Float64,
    *,
    penalty: float,
    num_steps: int,
    cross_entropy: CrossEntropy = soft_cross_entropy,
) -> tuple[Float64, Float64]:
    """The minimum of `logistic_loss`, by L-BFGS.

    Args:
        features: Sparse or dense, `[n, F]`.
        targets: Distributions, `[n, K]`.
        row_weights: Weights of the rows, `[n]`.
        penalty: Strength of the penalty on W; b has none.
        num_steps: Maximum number of steps of L-BFGS.
        cross_entropy: As in `logistic_loss`.

    Returns:
        W `[F, K]` and b `[K]`.
    """
    num_features, num_classes = features.shape[1], targets.shape[1]
    used = np.arange(num_features)
    if isinstance(features, csr_matrix):  # a feature that no row has gets the weight 0
        used = np.flatnonzero(np.bincount(features.indices, minlength=num_features))
    result = minimize(
        logistic_loss,
        np.zeros((len(used) + 1) * num_classes),
        args=(features[:, used].astype(np.float64), targets, row_weights, penalty, cross_entropy),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": num_steps, "maxcor": 5},
    )
    table = result.x.reshape(-1, num_classes)
    weight = np.zeros((num_features, num_classes))
    weight[used] = table[:-1]
    return weight, table[-1]
