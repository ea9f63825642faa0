"""Logistic regression with soft targets: its loss, its gradient and its minimum."""

import math

import numpy as np
import pytest
from scipy.optimize import approx_fprime
from sklearn.linear_model import LogisticRegression

from seqssvae.teacher.logistic import fit_logistic, logistic_loss
from tests.support.counts import make_counts, make_targets


def test_the_loss_is_that_of_plain_loops() -> None:
    features, targets = make_counts(5, 4).astype(np.float64), make_targets(5)
    row_weights = np.array([1.0, 0.5, 0.0, 2.0, 1.0])
    parameters = np.random.default_rng(2).normal(size=15)
    table = parameters.reshape(5, 3)
    expected = 0.7 / 2 * sum(float(w) ** 2 for w in table[:4].ravel())
    for row in range(5):
        logits = [
            sum(features[row, f] * table[f, y] for f in range(4)) + table[4, y] for y in range(3)
        ]
        total = math.log(sum(map(math.exp, logits)))
        expected -= row_weights[row] * sum(targets[row, y] * (logits[y] - total) for y in range(3))
    loss, _ = logistic_loss(parameters, features, targets, row_weights, 0.7)
    assert loss == pytest.approx(expected)


def test_the_gradient_is_that_of_finite_differences() -> None:
    features, targets = make_counts().astype(np.float64), make_targets(30)
    row_weights = np.random.default_rng(3).random(30)
    parameters = np.random.default_rng(2).normal(size=27)
    arguments = features, targets, row_weights, 0.7
    _, gradient = logistic_loss(parameters, *arguments)
    numeric = approx_fprime(parameters, lambda p: logistic_loss(p, *arguments)[0], 1e-7)
    np.testing.assert_allclose(gradient, numeric, rtol=1e-4, atol=1e-5)


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
