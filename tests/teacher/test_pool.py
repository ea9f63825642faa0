"""Temperatures, weights, folds and class shares of a pool."""

import functools
import math

import numpy as np
import pytest
from scipy.special import log_softmax

from seqssvae.teacher.pool import Pool, assign_folds, fit_pool, reestimate_prior


def sample_logits(
    num_rows: int, num_classes: int = 3, seed: int = 0
) -> tuple[
    np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    np.ndarray[tuple[int, ...], np.dtype[np.int64]],
]:
    """Calibrated logits `[n, K]` and classes drawn from them."""
    random = np.random.default_rng(seed)
    logits = 2 * random.normal(size=(num_rows, num_classes))
    noise = random.gumbel(size=logits.shape)
    return logits, (logits + noise).argmax(1)


def test_folds_are_stratified() -> None:
    y = np.array([0] * 12 + [1] * 7 + [2] * 2 + [3])
    folds = assign_folds(y)
    assert folds[-1] == -1  # its class's only row is never held out
    assert folds[:-1].min() == 0 and folds.max() == 5
    for of_class in range(3):
        per_fold = np.bincount(folds[y == of_class], minlength=6)
        assert per_fold.max() - per_fold.min() <= 1
    assert assign_folds(np.zeros(151, np.int64)).max() == 2


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
    pool = fit_pool(
        np.stack([logits * 5, logits * 0.5]),
        y,
        usual_temperatures=np.ones(2),
        log_priors=np.zeros((2, 3)),
        seed=0,
    )
    np.testing.assert_allclose(pool.temperatures, [5.0, 0.5], rtol=0.2)
    result = pool.log_posteriors(
        [s for s, w in zip([logits * 5, logits / 2], pool.weights, strict=True) if w]
    )
    np.testing.assert_allclose(np.exp(result), np.exp(log_softmax(logits, 1)), atol=0.05)


def test_few_rows_leave_temperatures_near_the_usual_ones() -> None:
    logits, y = sample_logits(3)
    pool = fit_pool(
        100 * logits[None, :0],
        y[:0],
        usual_temperatures=np.array([7.0]),
        log_priors=np.zeros((1, 3)),
        seed=0,
    )
    assert pool.temperatures.tolist() == [7.0]
    assert pool.weights.tolist() == [1.0] and pool.sharpness == 1.0
    assert pool.bias.tolist() == [0, 0, 0]
    right = 100 * np.eye(3)[None, y]  # the likelihood is greatest at temperature 0
    pool = fit_pool(
        right, y, usual_temperatures=np.array([50.0]), log_priors=np.zeros((1, 3)), seed=0
    )
    assert 5 < pool.temperatures[0] < 50


def test_a_prior_is_added_to_scores_that_lack_it() -> None:
    logits, y = sample_logits(4000)
    log_prior = np.log([[0.9, 0.09, 0.01]])
    scores = 5 * (logits - log_prior)
    pool = fit_pool(scores[None], y, usual_temperatures=np.ones(1), log_priors=log_prior, seed=0)
    assert pool.temperatures[0] == pytest.approx(5.0, rel=0.15)
    result = pool.log_posteriors([scores])
    np.testing.assert_allclose(np.exp(result), np.exp(log_softmax(logits, 1)), atol=0.1)


def test_the_bias_corrects_a_class_that_is_predicted_too_often() -> None:
    """All rows look alike, half of them are of class 0, and none is of class 2."""
    y = np.arange(8000) % 2
    lopsided = np.log([0.8, 0.1, 0.1])
    scores = np.broadcast_to(lopsided, (1, len(y), 3))
    pool = fit_pool(scores, y, usual_temperatures=np.ones(1), log_priors=np.zeros((1, 3)), seed=0)
    result = np.exp(pool.log_posteriors([scores[0, :1]])[0])
    assert result[0] == pytest.approx(result[1], rel=0.02)
    assert pool.bias[2] == 0
    few = fit_pool(
        scores[:, :8], y[:8], usual_temperatures=np.ones(1), log_priors=np.zeros((1, 3)), seed=0
    )
    assert 0 < few.bias[1] < pool.bias[1]


def test_weights_go_to_informative_classifiers() -> None:
    logits, y = sample_logits(300)
    random = np.random.default_rng(1)
    scores = np.stack([random.normal(size=logits.shape), logits, random.normal(size=logits.shape)])
    choose = functools.partial(
        fit_pool, scores, y, usual_temperatures=np.ones(3), log_priors=np.zeros((3, 3)), seed=0
    )
    pool = choose()
    assert pool.weights[1] > 0.8
    assert pool.weights.sum() == pytest.approx(1)
    assert ((pool.weights == 0) | (pool.weights >= 0.02)).all()
    np.testing.assert_array_equal(pool.weights, choose().weights)
    halves = np.stack([logits + 2 * random.normal(size=logits.shape) for _ in range(2)])
    both = fit_pool(halves, y, usual_temperatures=np.ones(2), log_priors=np.zeros((2, 3)), seed=0)
    assert both.weights.min() > 0.2  # their errors are independent


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
    scores = np.zeros((3, 12, 2))
    y = np.arange(12) % 2
    scores[0] = 4 * np.eye(2)[y]  # the best one
    scores[1] = np.eye(2)[y]
    pool = fit_pool(
        scores,
        y,
        usual_temperatures=np.ones(3),
        log_priors=np.zeros((3, 2)),
        seed=0,
        allowed=np.array([False, True, True]),
    )
    assert pool.weights[0] == 0 and pool.weights[1] > 0.9
    none = fit_pool(
        scores[:, :0],
        y[:0],
        usual_temperatures=np.ones(3),
        log_priors=np.zeros((3, 2)),
        seed=0,
        allowed=np.array([False, True, True]),
    )
    assert none.weights.tolist() == [0, 0.5, 0.5]
