"""Logistic regression with soft targets: its loss, its gradient and its minimum."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import approx_fprime, minimize
from scipy.sparse import csr_matrix, vstack
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import normalize

from seqssvae.teacher.logistic import fit_logistic, soft_cross_entropy
from seqssvae.teacher.partial import set_cross_entropy
from tests.support.counts import logistic_gradient, make_counts, make_targets


def test_the_cross_entropy_is_that_of_plain_loops() -> None:
    targets, row_weights = make_targets(5), np.array([1.0, 0.5, 0.0, 2.0, 1.0])
    logits = np.random.default_rng(2).normal(size=(5, 3))
    expected = 0.0
    for row in range(5):
        total = math.log(sum(map(math.exp, logits[row])))
        expected -= row_weights[row] * sum(targets[row] * (logits[row] - total))
    assert soft_cross_entropy(logits, targets, row_weights)[0] == pytest.approx(expected)


def test_the_gradient_is_that_of_finite_differences() -> None:
    targets, row_weights = make_targets(30), np.random.default_rng(3).random(30)
    logits = np.random.default_rng(2).normal(size=(30, 3))
    _, gradient = soft_cross_entropy(logits, targets, row_weights)
    numeric = approx_fprime(
        logits.ravel(),
        lambda flat: soft_cross_entropy(flat.reshape(30, 3), targets, row_weights)[0],
        1e-7,
    )
    np.testing.assert_allclose(gradient.ravel(), numeric, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("num_features", [8, 100])
@pytest.mark.parametrize("is_dense", [False, True])
@pytest.mark.parametrize("with_sets", [False, True])
def test_the_gradient_at_the_minimum_is_zero(
    num_features: int, is_dense: bool, with_sets: bool
) -> None:
    """With more features than rows, and with fewer; a row without features among them."""
    features = make_counts(30, num_features).astype(np.float64)
    row_weights = np.random.default_rng(3).random(30)
    targets = make_targets(30)
    weight, bias = fit_logistic(
        features.toarray() if is_dense else features,
        targets > 0.3 if with_sets else targets,
        row_weights,
        penalty=0.5,
        num_steps=1000,
        cross_entropy=set_cross_entropy if with_sets else soft_cross_entropy,
    )
    logits = features @ weight + bias
    if with_sets:
        targets = softmax(np.where(targets > 0.3, logits, -np.inf), axis=1)
    gradient = logistic_gradient(weight, bias, features, targets, row_weights, 0.5)
    assert np.abs(gradient).max() < 2e-3 and np.abs(weight).max() > 0.1


@pytest.mark.parametrize(("num_features", "rate"), [(20, 10), (100, 3), (3000, 1)])
@pytest.mark.parametrize("seed", range(8))
def test_the_loss_is_as_low_as_scipy_makes_it(seed: int, num_features: int, rate: float) -> None:
    """With features that all rows share, as n-grams are; there a step may overshoot by far."""
    random = np.random.default_rng(seed)
    y = np.arange(50) // 10
    rates = rate * (random.random(num_features) * random.random((5, num_features))) ** 2
    features = normalize(np.hstack([random.poisson(rates[y]), np.full((50, 3), 3)]))
    targets, ones = np.eye(5)[y], np.ones(50)

    def loss_and_gradient(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weight, bias = flat[:-5].reshape(-1, 5), flat[-5:]
        nats, _ = soft_cross_entropy(features @ weight + bias, targets, ones)
        gradient = logistic_gradient(weight, bias, features, targets, ones, 0.1)
        return nats + 0.05 * float((weight**2).sum()), gradient.ravel()

    start = np.zeros(5 * features.shape[1] + 5)
    best = minimize(loss_and_gradient, start, jac=True, method="L-BFGS-B").fun
    fitted = fit_logistic(csr_matrix(features), targets, ones, penalty=0.1, num_steps=100)
    assert loss_and_gradient(np.concatenate(fitted, axis=None))[0] < best + 1e-3


def test_few_steps_are_the_same_whether_rows_or_features_are_fewer() -> None:
    """Features that no row has do not count; empty rows of weight 0 change nothing else."""
    features, targets = make_counts(30, 100).astype(np.float64), make_targets(60)
    empty = csr_matrix((30, 100))
    by_rows, by_features = (
        fit_logistic(rows, targets[: rows.shape[0]], weights, penalty=0.5, num_steps=4)
        for rows, weights in (
            (features, np.ones(30)),
            (vstack([features, empty], format="csr"), np.repeat([1.0, 0.0], 30)),
        )
    )
    np.testing.assert_allclose(by_rows[0], by_features[0], atol=1e-10)
    np.testing.assert_allclose(by_rows[1], by_features[1], atol=1e-10)


def test_float32_features_give_the_same_minimum() -> None:
    features, targets = make_counts(30, 100), make_targets(30)
    exact, single = (
        fit_logistic(features.astype(dtype), targets, np.ones(30), penalty=0.5, num_steps=1000)
        for dtype in (np.float64, np.float32)
    )
    assert single[0].dtype == single[1].dtype == np.float32
    np.testing.assert_allclose(exact[0], single[0], atol=2e-3)


@pytest.mark.parametrize("num_rows", [0, 3])
def test_without_features_or_rows_there_is_no_weight(num_rows: int) -> None:
    weight, bias = fit_logistic(
        csr_matrix((num_rows, 4)), make_targets(num_rows), np.ones(num_rows), penalty=1.0,
        num_steps=50,
    )  # fmt: skip
    assert not weight.any()
    shares = make_targets(num_rows).mean(0) if num_rows else np.ones(3) / 3
    np.testing.assert_allclose(softmax(bias), shares, atol=1e-3)


@pytest.mark.parametrize("is_dense", [False, True])
def test_the_minimum_is_scikit_learns(is_dense: bool) -> None:
    features = make_counts().astype(np.float64)
    y = np.random.default_rng(4).integers(0, 3, 30)
    row_weights = np.random.default_rng(3).random(30)
    model = LogisticRegression(C=1 / 0.3, tol=1e-8, max_iter=1000)
    model.fit(features, y, sample_weight=row_weights)
    weight, bias = fit_logistic(
        features.toarray() if is_dense else features,
        np.eye(3)[y],
        row_weights,
        penalty=0.3,
        num_steps=1000,
    )
    np.testing.assert_allclose(weight, model.coef_.T, atol=2e-3)
    # biases are determined up to a constant
    np.testing.assert_allclose(bias - bias.mean(), model.intercept_, atol=2e-3)
    assert (weight[2] == 0).all()
