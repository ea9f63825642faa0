import numpy as np
import pytest
from scipy.sparse import csr_matrix

from seqssvae.teacher.naive_bayes import fit_naive_bayes
from tests.support.counts import em_by_scikit_learn

COUNTS = csr_matrix(np.random.default_rng(0).poisson(0.7, (40, 12)).astype(np.float64))
LABELLED = np.array([0, 3, 6, 9, 12, 1, 2])
Y = np.array([0, 0, 0, 0, 0, 1, 2])


@pytest.mark.parametrize("learn_prior", [False, True])
@pytest.mark.parametrize("weight", [0.1, 1.0])
@pytest.mark.parametrize("num_steps", [0, 1, 5])
def test_em_is_scikit_learns_naive_bayes_with_weighted_rows(
    num_steps: int, weight: float, learn_prior: bool
) -> None:
    log_probs = fit_naive_bayes(
        COUNTS, LABELLED, Y, 3, unlabelled_weight=weight, num_steps=num_steps,
        learn_prior=learn_prior,
    )  # fmt: skip
    unlabelled = COUNTS[np.setdiff1d(np.arange(40), LABELLED)]
    expected = em_by_scikit_learn(
        COUNTS[LABELLED], Y, unlabelled, weight=weight, num_steps=num_steps,
        learn_prior=learn_prior,
    )  # fmt: skip
    np.testing.assert_allclose(log_probs.T, expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_dtype_is_that_of_the_counts(dtype: type) -> None:
    log_probs = fit_naive_bayes(
        COUNTS.astype(dtype), LABELLED, Y, 3, unlabelled_weight=0.1, num_steps=2, learn_prior=False
    )
    assert log_probs.dtype == dtype
