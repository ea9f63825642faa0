import math

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from seqssvae.teacher.naive_bayes import fit_naive_bayes
from seqssvae.teacher.partial import possible_classes
from tests.support.counts import em_by_scikit_learn

COUNTS = csr_matrix(np.random.default_rng(0).poisson(0.7, (40, 12)).astype(np.float64))
LABELLED = np.array([0, 3, 6, 9, 12, 1, 2])
Y = np.array([0, 0, 0, 0, 0, 1, 2])
POSSIBLE = possible_classes(40, LABELLED, Y, 3)


@pytest.mark.parametrize("learn_prior", [False, True])
@pytest.mark.parametrize("weight", [0.1, 1.0])
@pytest.mark.parametrize("num_steps", [0, 1, 5])
def test_em_is_scikit_learns_naive_bayes_with_weighted_rows(
    num_steps: int, weight: float, learn_prior: bool
) -> None:
    log_probs = fit_naive_bayes(
        COUNTS, POSSIBLE, unlabelled_weight=weight, num_steps=num_steps, learn_prior=learn_prior
    )
    unlabelled = COUNTS[np.setdiff1d(np.arange(40), LABELLED)]
    expected = em_by_scikit_learn(
        COUNTS[LABELLED], Y, unlabelled, weight=weight, num_steps=num_steps,
        learn_prior=learn_prior,
    )  # fmt: skip
    np.testing.assert_allclose(log_probs.T, expected)


def test_sets_of_labels_weigh_by_what_they_say_and_limit_the_posteriors() -> None:
    """By a plain loop; the first step counts a set's classes alike."""
    possible, u, classes = POSSIBLE.copy(), 0.2, range(3)
    possible[10, 0] = possible[11, 2] = False
    log_probs = fit_naive_bayes(
        COUNTS, possible, unlabelled_weight=u, num_steps=1, learn_prior=False
    )
    counts, weights = COUNTS.toarray(), np.zeros((40, 3))
    weights[LABELLED, Y] = 1
    information = 1 - math.log(2) / math.log(3)
    weights[10, [1, 2]] = weights[11, [0, 1]] = information / 2
    for step in range(2):
        sums = [sum(weights[n, y] * counts[n] for n in range(40)) + 0.1 for y in classes]
        expected = [np.log(of_class / of_class.sum()) for of_class in sums]
        for n in range(40):
            if n not in LABELLED and step == 0:
                odds = [math.exp(counts[n] @ expected[y]) * possible[n, y] for y in classes]
                weight = u + (1 - u) * information if n in (10, 11) else u
                weights[n] = weight * np.array(odds) / sum(odds)
    assert weights[10, 0] == weights[11, 2] == 0
    np.testing.assert_allclose(log_probs.T, expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_dtype_is_that_of_the_counts(dtype: type) -> None:
    log_probs = fit_naive_bayes(
        COUNTS.astype(dtype), POSSIBLE, unlabelled_weight=0.1, num_steps=2, learn_prior=False
    )
    assert log_probs.dtype == dtype
