"""Logistic regression with soft targets: its gradient, its minimum, and the student."""

import math

import numpy as np
import pytest
from scipy.optimize import approx_fprime
from scipy.sparse import csr_matrix, hstack
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.linear_model import LogisticRegression

from seqssvae.teacher.evidence import fit_evidence
from seqssvae.teacher.student import (
    fit_regression,
    fit_student,
    inverse_frequencies,
    regression_loss,
    sharpen,
    weigh_counts,
)


def make_counts(num_rows: int = 30, num_features: int = 8) -> csr_matrix:
    """Sparse counts; the second row and the third column are empty."""
    random = np.random.default_rng(0)
    table = random.poisson(0.7, (num_rows, num_features)).astype(np.float32)
    table[1] = table[:, 2] = 0
    return csr_matrix(table)


def make_targets(
    num_rows: int, num_classes: int = 3
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return np.random.default_rng(1).dirichlet(np.ones(num_classes), num_rows)


def test_weights_of_counts_are_scikit_learns() -> None:
    counts = make_counts()
    transformer = TfidfTransformer(sublinear_tf=True).fit(counts)
    idf = inverse_frequencies(counts)
    np.testing.assert_allclose(idf, transformer.idf_, rtol=1e-6)
    expected = transformer.transform(counts).toarray()
    weighted = weigh_counts(counts, idf)
    assert weighted.dtype == np.float32
    np.testing.assert_allclose(weighted.toarray(), expected, rtol=1e-5)
    assert weighted[1].nnz == 0


def test_blocks_of_columns_are_weighed_each_on_its_own() -> None:
    counts = make_counts()
    idf = inverse_frequencies(counts)
    halves = [weigh_counts(counts[:, part], idf[part]) for part in (slice(4), slice(4, 8))]
    found = weigh_counts(counts, idf, 2)
    np.testing.assert_allclose(found.toarray(), hstack(halves).toarray(), rtol=1e-6)


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
    loss, _ = regression_loss(parameters, features, features.T.tocsr(), targets, row_weights, 0.7)
    assert loss == pytest.approx(expected)


def test_the_gradient_is_that_of_finite_differences() -> None:
    features, targets = make_counts().astype(np.float64), make_targets(30)
    row_weights = np.random.default_rng(3).random(30)
    parameters = np.random.default_rng(2).normal(size=27)
    arguments = features, features.T.tocsr(), targets, row_weights, 0.7
    _, gradient = regression_loss(parameters, *arguments)
    numeric = approx_fprime(parameters, lambda p: regression_loss(p, *arguments)[0], 1e-7)
    np.testing.assert_allclose(gradient, numeric, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("is_dense", [False, True])
def test_the_minimum_is_scikit_learns(is_dense: bool) -> None:
    features = make_counts().astype(np.float64)
    y = np.random.default_rng(4).integers(0, 3, 30)
    row_weights = np.random.default_rng(3).random(30)
    model = LogisticRegression(C=1 / 0.3, tol=1e-8, max_iter=1000)
    model.fit(features, y, sample_weight=row_weights)
    weight, bias = fit_regression(
        features.toarray() if is_dense else features,
        np.eye(3)[y],
        row_weights,
        strength=0.3,
        num_steps=1000,
    )
    np.testing.assert_allclose(weight, model.coef_.T, atol=2e-3)
    # biases are told up to a constant
    np.testing.assert_allclose(bias - bias.mean(), model.intercept_, atol=2e-3)
    assert (weight[2] == 0).all()


def test_sharpened_probabilities_are_the_normalised_squares() -> None:
    np.testing.assert_allclose(
        sharpen(np.array([[0.5, 0.5], [0.75, 0.25]])), [[0.5, 0.5], [0.9, 0.1]]
    )


def test_a_student_learns_what_only_its_teacher_knows() -> None:
    """Features 0 and 1 stand in labelled rows, 2 and 3 only in unlabelled ones."""
    labelled = csr_matrix(np.eye(4, dtype=np.float32)[[0, 1] * 3])
    unlabelled = csr_matrix(np.eye(4, dtype=np.float32)[[2, 3] * 30])
    soft = np.array([[0.9, 0.1], [0.1, 0.9]] * 30)
    weight, bias, idf = fit_student(labelled, np.array([0, 1] * 3), unlabelled, soft, num_classes=2)
    logits = weigh_counts(csr_matrix(np.eye(4, dtype=np.float32)), idf) @ weight + bias
    assert logits.argmax(1).tolist() == [0, 1, 0, 1]


def test_a_student_is_the_mean_of_naive_bayes_and_of_regression_on_half_weighed_sharp_targets() -> (
    None
):
    counts, soft = make_counts(), make_targets(20)
    one_hot = np.eye(3)[np.random.default_rng(4).integers(0, 3, 10)]
    weight, bias, idf = fit_student(
        counts[:10],
        one_hot.argmax(1),
        counts[10:],
        soft,
        num_classes=3,
        num_blocks=2,
        strength=0.4,
        num_steps=500,
    )
    np.testing.assert_allclose(idf, inverse_frequencies(counts))
    targets = np.concatenate((one_hot, soft**2 / (soft**2).sum(1, keepdims=True)))
    row_weights = np.repeat([1.0, 0.5], [10, 20])
    features = weigh_counts(counts, idf, 2)
    by_counts = fit_evidence(
        counts,
        features,
        idf,
        posteriors=np.concatenate((one_hot, soft)),
        targets=targets,
        row_weights=row_weights,
        num_blocks=2,
    )
    by_regression = 2 * np.concatenate((weight, bias[None])) - np.concatenate(
        (by_counts[0], by_counts[1][None])
    )
    features = features.astype(np.float64)
    _, gradient = regression_loss(
        by_regression.ravel(), features, features.T.tocsr(), targets, row_weights, 0.4
    )
    assert np.abs(gradient).max() < 1e-2


def test_a_student_needs_no_unlabelled_rows() -> None:
    counts = make_counts(6)
    weight, bias, idf = fit_student(
        counts, np.array([0, 1] * 3), counts[:0], np.zeros((0, 2)), num_classes=2
    )
    assert np.isfinite(weight).all() and np.isfinite(bias).all() and np.isfinite(idf).all()


def test_a_student_refuses_what_does_not_fit_together() -> None:
    counts = make_counts(6)
    good = {"features": counts, "y": np.zeros(6, np.int64), "soft": np.ones((6, 2)) / 2}
    for wrong in (
        {"y": np.zeros(5, np.int64)},
        {"y": np.full(6, 2)},
        {"soft": np.ones((5, 2)) / 2},
        {"soft": np.ones((6, 3)) / 3},
        {"features": counts[:, :3]},
    ):
        given = good | wrong
        with pytest.raises(ValueError, match="student: wanted"):
            fit_student(counts, given["y"], given["features"], given["soft"], num_classes=2)
