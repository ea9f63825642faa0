"""Naive Bayes with EM against scikit-learn's, with a repeated row for each soft label."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from scipy.special import softmax
from sklearn.naive_bayes import MultinomialNB

from seqssvae.teacher.naive_bayes import fit_naive_bayes

COUNTS = csr_matrix(np.random.default_rng(0).poisson(0.7, (40, 12)).astype(np.float64))
LABELLED = np.array([0, 3, 6, 9, 12, 1, 2])
Y = np.array([0, 0, 0, 0, 0, 1, 2])


def test_without_steps_it_is_scikit_learns() -> None:
    model = MultinomialNB(alpha=0.1).fit(COUNTS[LABELLED], Y)
    log_probs = fit_naive_bayes(
        COUNTS, LABELLED, Y, 3, unlabelled_weight=1.0, num_steps=0, learn_prior=True
    )
    np.testing.assert_allclose(log_probs.T, model.feature_log_prob_)


@pytest.mark.parametrize("learn_prior", [False, True])
@pytest.mark.parametrize("weight", [0.1, 1.0])
def test_a_step_of_em_is_scikit_learns_with_sample_weights(
    weight: float, learn_prior: bool
) -> None:
    unlabelled = np.setdiff1d(np.arange(40), LABELLED)
    first = MultinomialNB(alpha=0.1).fit(COUNTS[LABELLED], Y)
    # p(y) of the E-step is that of the labelled rows, with one row more of each class
    log_prior = np.log([6, 2, 2]) if learn_prior else np.zeros(3)
    posteriors = softmax(COUNTS[unlabelled] @ first.feature_log_prob_.T + log_prior, axis=1)
    second = MultinomialNB(alpha=0.1).fit(
        COUNTS[np.concatenate((LABELLED, np.repeat(unlabelled, 3)))],
        np.concatenate((Y, np.tile([0, 1, 2], len(unlabelled)))),
        sample_weight=np.concatenate((np.ones(7), weight * posteriors.ravel())),
    )
    log_probs = fit_naive_bayes(
        COUNTS, LABELLED, Y, 3, unlabelled_weight=weight, num_steps=1, learn_prior=learn_prior
    )
    np.testing.assert_allclose(log_probs.T, second.feature_log_prob_)


def test_the_dtype_is_that_of_the_counts() -> None:
    for dtype in (np.float32, np.float64):
        log_probs = fit_naive_bayes(
            COUNTS.astype(dtype), LABELLED, Y, 3, unlabelled_weight=0.1, num_steps=2,
            learn_prior=False,
        )  # fmt: skip
        assert log_probs.dtype == dtype
