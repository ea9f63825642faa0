"""Multinomial naive Bayes with EM over unlabelled rows (Nigam et al. 2000).

scikit-learn's `MultinomialNB`, with which this agrees, takes no soft labels.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from seqssvae.teacher.partial import EMWeights, Known
from seqssvae.teacher.sparse import Product

SMOOTHING = 0.1  # added to every count


def fit_naive_bayes(
    counts: csr_matrix,
    evidence: Known,
    *,
    unlabelled_weight: float,
    num_steps: int,
    learn_prior: bool,
) -> NDArray[np.floating]:
    """log p(n-gram | y), `[F, K]`, in the dtype of the counts.

    Args:
        counts: Counts of n-grams, `[N, F]`.
        evidence: What is known of the classes, `[N, K]`; see `partial`.
        unlabelled_weight: Weight of a row without a label.
        num_steps: Steps of EM; with 0 unlabelled rows are not used, and sets only once.
        learn_prior: Estimate p(y) in the E-step, with one row more of each class; if not, it is
            uniform.
    """
    em = EMWeights(evidence, unlabelled_weight)
    weights = em.first.astype(counts.dtype)
    by_ngram, by_row = Product(counts.T.tocsr()), Product(counts[em.open])
    for step in range(num_steps + 1):
        totals = by_ngram(weights) + SMOOTHING
        log_probs: NDArray[np.floating] = np.log(totals / totals.sum(0))
        if step < num_steps:
            log_prior = np.log(weights.sum(0) + 1) if learn_prior else 0
            weights[em.open] = em.expect(by_row(log_probs) + log_prior)
    return log_probs
