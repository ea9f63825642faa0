"""Temperatures, weights, folds and class shares of a pool."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import log_softmax

from seqssvae.teacher.pool import (
    LEAST_SHARE,
    WEIGHT_PRIOR,
    Pool,
    assign_folds,
    fit_pool,
    reestimate_prior,
)
from tests.support.counts import Float64, Int64


def sample_logits(num_rows: int) -> tuple[Float64, Int64]:
    """Calibrated logits `[n, 3]` and classes drawn from them."""
    random = np.random.default_rng(0)
    logits = 2 * random.normal(size=(num_rows, 3))
    noise = random.gumbel(size=logits.shape)
    return logits, (logits + noise).argmax(1)


def fit(
    scores: Float64,
    y: Int64,
    *,
    usual_temperature: float = 1.0,
    log_prior: Float64 | None = None,
    allowed: NDArray[np.bool_] | None = None,
) -> Pool:
    """A pool of classifiers that share their usual temperature and class shares."""
    num_classifiers, _, num_classes = scores.shape
    log_priors = np.zeros((num_classifiers, num_classes))
    return fit_pool(
        scores, y, usual_temperatures=np.full(num_classifiers, usual_temperature),
        log_priors=log_priors if log_prior is None else log_priors + log_prior,
        allowed=allowed,
    )  # fmt: skip


def test_folds_are_stratified() -> None:
    y = np.array([0] * 12 + [1] * 7 + [2] * 2 + [3])
    folds = assign_folds(y, np.arange(len(y), dtype=np.uint64))
    assert folds[-1] == -1  # its class's only row is never held out
    assert folds[:-1].min() == 0 and folds.max() == 5
    for of_class in range(3):
        per_fold = np.bincount(folds[y == of_class], minlength=6)
        assert per_fold.max() - per_fold.min() <= 1
    assert assign_folds(np.zeros(151, np.int64), np.arange(151, dtype=np.uint64)).max() == 2


@given(
    rows=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 6)), min_size=1, max_size=40),
)
def test_equal_rows_are_in_one_fold_and_every_class_is_left(rows: list[tuple[int, int]]) -> None:
    y, sequences = np.array(rows).T
    folds = assign_folds(y, sequences.astype(np.uint64))
    for one in np.unique(sequences):
        assert len(set(folds[sequences == one])) == 1
    for fold in set(folds) - {-1}:
        assert set(y[folds != fold]) == set(y)


def test_a_class_of_copies_is_never_held_out() -> None:
    y = np.array([0, 0, 0, 1, 1, 1])
    hashes = np.array([7, 7, 7, 1, 2, 2], np.uint64)
    assert assign_folds(y, hashes).tolist() == [-1, -1, -1, 1, 2, 2]


def test_posteriors_are_the_weighted_mean_of_log_posteriors() -> None:
    pool = Pool(
        weights=np.array([0.25, 0.0, 0.75]),
        temperatures=np.array([2.0, 1.0, 4.0]),
        log_priors=np.log([[0.2, 0.8], [0.5, 0.5], [1.0, 1.0]]),
        sharpness=0.5,
        bias=np.log([1.0, 3.0]),
    )
    first, third = [1.0, 0.0], [0.0, 3.0]
    of_first = [0.2 * math.exp(0.5), 0.8]
    of_third = [1.0, math.exp(0.75)]
    expected = [
        ((a / sum(of_first)) ** 0.25 * (b / sum(of_third)) ** 0.75) ** 2
        for a, b in zip(of_first, of_third, strict=True)
    ]
    expected[1] *= 3
    result = np.exp(pool.log_posteriors([np.array([first]), np.array([third])]))
    np.testing.assert_allclose(result[0], np.array(expected) / sum(expected))


def test_temperatures_are_fitted_and_applied() -> None:
    logits, y = sample_logits(3000)
    pool = fit(np.stack([logits * 5, logits * 0.5]), y)
    np.testing.assert_allclose(pool.temperatures, [5.0, 0.5], rtol=0.2)
    result = pool.log_posteriors(
        [s for s, w in zip([logits * 5, logits / 2], pool.weights, strict=True) if w]
    )
    np.testing.assert_allclose(np.exp(result), np.exp(log_softmax(logits, 1)), atol=0.05)


def test_few_rows_leave_temperatures_near_the_usual_ones() -> None:
    logits, y = sample_logits(3)
    pool = fit(100 * logits[None, :0], y[:0], usual_temperature=7.0)
    assert pool.temperatures.tolist() == [7.0]
    assert pool.weights.tolist() == [1.0] and pool.sharpness == 1.0
    assert pool.bias.tolist() == [0, 0, 0]
    right = 100 * np.eye(3)[None, y]  # the likelihood is greatest at temperature 0
    assert 5 < fit(right, y, usual_temperature=50.0).temperatures[0] < 50


def test_a_prior_is_added_to_scores_that_lack_it() -> None:
    logits, y = sample_logits(4000)
    log_prior = np.log([0.9, 0.09, 0.01])
    scores = 5 * (logits - log_prior)
    pool = fit(scores[None], y, log_prior=log_prior)
    assert pool.temperatures[0] == pytest.approx(5.0, rel=0.15)
    result = pool.log_posteriors([scores])
    np.testing.assert_allclose(np.exp(result), np.exp(log_softmax(logits, 1)), atol=0.1)


def test_the_bias_corrects_a_class_that_is_predicted_too_often() -> None:
    """All rows look alike, half of them are of class 0, and none is of class 2."""
    y = np.arange(8000) % 2
    lopsided = np.log([0.8, 0.1, 0.1])
    scores = np.broadcast_to(lopsided, (1, len(y), 3))
    pool = fit(scores, y)
    result = np.exp(pool.log_posteriors([scores[0, :1]])[0])
    assert result[0] == pytest.approx(result[1], rel=0.02)
    assert pool.bias[2] == 0
    assert 0 < fit(scores[:, :8], y[:8]).bias[1] < pool.bias[1]


def test_weights_go_to_informative_classifiers() -> None:
    logits, y = sample_logits(300)
    random = np.random.default_rng(1)
    scores = np.stack([random.normal(size=logits.shape), logits, random.normal(size=logits.shape)])
    pool = fit(scores, y)
    assert pool.weights[1] > 0.8
    assert pool.weights.sum() == pytest.approx(1)
    assert ((pool.weights == 0) | (pool.weights >= LEAST_SHARE / 3)).all()
    np.testing.assert_array_equal(pool.weights, fit(scores, y).weights)
    halves = np.stack([logits + 2 * random.normal(size=logits.shape) for _ in range(2)])
    assert fit(halves, y).weights.min() > 0.2  # their errors are independent


@pytest.mark.parametrize("share", [0.2, 0.8])
def test_class_shares_of_unlabelled_rows_are_estimated(share: float) -> None:
    """The mean of their own shares and of those of the labelled rows."""
    random = np.random.default_rng(0)
    y = (random.random(5000) < share).astype(np.int64)
    evidence = np.where(y == 1, 2, -2) + random.normal(size=5000)  # log odds are 4 times that
    prior = np.array([0.1, 0.9])
    posteriors = np.exp(log_softmax(np.stack([-2 * evidence, 2 * evidence], 1) + np.log(prior), 1))
    result = reestimate_prior(posteriors, prior)
    assert result.sum() == pytest.approx(1)
    assert result[1] == pytest.approx((share + 0.9) / 2, abs=0.02)
    assert reestimate_prior(posteriors[:0], prior) is prior


def test_classifiers_that_are_not_allowed_get_no_weight() -> None:
    scores = np.zeros((3, 120, 2))
    y = np.arange(120) % 2
    scores[0] = 4 * np.eye(2)[y]  # the best one
    scores[1] = np.eye(2)[y]
    allowed = np.array([False, True, True])
    pool = fit(scores, y, allowed=allowed)
    assert pool.weights[0] == 0 and pool.weights[1] > 0.9
    without_rows = fit(scores[:, :0], y[:0], allowed=allowed)
    assert without_rows.weights.tolist() == [0, 0.5, 0.5]


def test_weights_are_the_likeliest_of_a_grid() -> None:
    logits, y = sample_logits(60)
    random = np.random.default_rng(3)
    scores = np.stack([logits * keep + random.normal(size=logits.shape) for keep in (0.5, 1, 2)])
    pool = fit(scores, y)
    log_posteriors = log_softmax(scores / pool.temperatures[:, None, None], axis=-1)
    best, likeliest = -math.inf, np.zeros(3)
    for first, second in itertools.product(np.arange(0.005, 1, 0.005), repeat=2):
        weights = np.array([first, second, 1 - first - second])
        if weights[2] < 0.005:
            continue
        density = WEIGHT_PRIOR / 3 * np.log(weights).sum()
        mean = sum(w * one for w, one in zip(weights, log_posteriors, strict=True))
        density += log_softmax(mean, axis=-1)[np.arange(60), y].sum()
        if density > best:
            best, likeliest = density, weights
    assert likeliest.min() > 0.02 and likeliest.max() < 0.9  # none of them decides alone
    np.testing.assert_allclose(pool.weights, likeliest, atol=0.006)


def test_few_rows_leave_weights_near_equal_ones() -> None:
    logits, y = sample_logits(300)
    scores = np.stack([logits, np.zeros_like(logits)])
    few, many = (fit(scores[:, :n], y[:n]).weights for n in (3, 300))
    assert 0.5 < few[0] < many[0]


def test_pools_of_the_same_scores_share_their_temperatures() -> None:
    logits, y = sample_logits(60)
    scores = np.stack([logits * scale for scale in (0.2, 1.0, 3.0)])
    pool, allowed = fit(scores, y), np.array([True, False, True])
    again, given = (
        fit_pool(
            scores, y, usual_temperatures=np.ones(3), log_priors=np.zeros((3, 3)),
            allowed=allowed, temperatures=temperatures,
        )
        for temperatures in (None, pool.temperatures)
    )  # fmt: skip
    assert given.temperatures.tolist() == again.temperatures.tolist()
    assert given.weights.tolist() == again.weights.tolist()
    assert given.bias.tolist() == again.bias.tolist()
