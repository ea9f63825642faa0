"""Document-term matrices, and naive Bayes with EM by scikit-learn."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, vstack
from scipy.special import softmax
from sklearn.naive_bayes import MultinomialNB

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]


def make_counts(num_rows: int = 30, num_features: int = 8) -> csr_matrix:
    """Random counts; the second row and the third column are empty."""
    table = np.random.default_rng(0).poisson(0.7, (num_rows, num_features)).astype(np.float32)
    table[1] = table[:, 2] = 0
    return csr_matrix(table)


def make_targets(num_rows: int, num_classes: int = 3) -> Float64:
    """Random class probabilities of each row."""
    return np.random.default_rng(1).dirichlet(np.ones(num_classes), num_rows)


def logistic_gradient(
    weight: NDArray[Any],
    bias: NDArray[Any],
    features: csr_matrix,
    targets: Float64,
    row_weights: Float64,
    penalty: float,
) -> Float64:
    """Of sum_i w_i H(target_i, softmax(x_i W + b)) + penalty / 2 |W|^2: of W, and below it of b."""
    residuals = row_weights[:, None] * (softmax(features @ weight + bias, axis=1) - targets)
    return np.concatenate((features.T @ residuals + penalty * weight, residuals.sum(0)[None]))


def em_by_scikit_learn(
    labelled: csr_matrix,
    y: Int64,
    unlabelled: csr_matrix,
    *,
    weight: float,
    num_steps: int,
    learn_prior: bool,
) -> Float64:
    """log p(feature | y), `[K, F]`, with each unlabelled row K times, weighted by p(y | row).

    Args:
        labelled: Counts of the labelled rows, some of every class.
        y: Their classes.
        unlabelled: Counts of the other rows.
        weight: Weight of an unlabelled row.
        num_steps: Steps of EM.
        learn_prior: Estimate p(y), with one row more of each class.
    """
    num_classes, num_unlabelled = int(y.max()) + 1, unlabelled.shape[0]
    counts = vstack([labelled, *[unlabelled] * num_classes], format="csr")
    classes = np.concatenate((y, np.repeat(np.arange(num_classes), num_unlabelled)))
    row_weights = np.repeat([1.0, 0.0], [len(y), len(classes) - len(y)])
    for step in range(num_steps + 1):
        model = MultinomialNB(alpha=0.1).fit(counts, classes, sample_weight=row_weights)
        totals = np.bincount(classes, row_weights)
        log_prior = np.log(totals + 1) if learn_prior else 0
        if step < num_steps:
            posteriors = softmax(unlabelled @ model.feature_log_prob_.T + log_prior, axis=1)
            row_weights[len(y) :] = weight * posteriors.T.ravel()
    log_probs: Float64 = model.feature_log_prob_
    return log_probs
