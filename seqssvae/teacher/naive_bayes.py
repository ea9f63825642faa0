"""Multinomial naive Bayes with EM over unlabelled rows (Nigam et al. 2000).

scikit-learn's `MultinomialNB`, with which this agrees, takes no soft labels.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.special import softmax

SMOOTHING = 0.1  # added to every count


def fit_naive_bayes(
    counts: csr_matrix,
    labelled: NDArray[np.int64],
    y: NDArray[np.int64],
    num_classes: int,
    *,
    unlabelled_weight: float,
    num_steps: int,
    learn_prior: bool,
) -> NDArray[np.floating]:
    """log p(n-gram | y), `[F, K]`, in the dtype of the counts.

    Args:
        counts: Counts of n-grams, `[N, F]`.
        labelled: Rows with a label, `[n]`; their posteriors are fixed.
        y: Their classes, `[n]`.
        num_classes: K.
        unlabelled_weight: Weight of a row without a label.
        num_steps: Steps of EM; with 0 unlabelled rows are not used.
        learn_prior: Estimate p(y) in the E-step, with one row more of each class; if not, it is
            uniform.
    """
    weights = np.zeros((counts.shape[0], num_classes), counts.dtype)
    weights[labelled, y] = 1
    unlabelled = np.setdiff1d(np.arange(len(weights)), labelled)
    transposed, other_counts = counts.T.tocsr(), counts[unlabelled]
    for step in range(num_steps + 1):
        totals = transposed @ weights + weights.dtype.type(SMOOTHING)
        log_probs: NDArray[np.floating] = np.log(totals / totals.sum(0))
        if step < num_steps:
            log_prior = np.log(weights.sum(0) + 1) if learn_prior else 0
            posteriors = softmax(other_counts @ log_probs + log_prior, axis=1)
            weights[unlabelled] = unlabelled_weight * posteriors
    return log_probs
