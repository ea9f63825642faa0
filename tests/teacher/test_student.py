"""The student: its regression, its naive Bayes classifier, and the weights of the blocks."""

import math

import numpy as np
import pytest
from scipy.sparse import csr_matrix, hstack
from sklearn.feature_extraction.text import TfidfTransformer

from seqssvae.teacher import student as module
from seqssvae.teacher.student import fit_student, sharpen
from tests.support.counts import Float64, logistic_gradient, make_counts, make_targets


def fit_by_counts(
    counts: list[csr_matrix], posteriors: Float64
) -> tuple[Float64, Float64, Float64]:
    """W and b of the naive Bayes classifier, and the logits of the rows."""
    tfidf = [TfidfTransformer(sublinear_tf=True).fit(block) for block in counts]
    features = [one.transform(block) for one, block in zip(tfidf, counts, strict=True)]
    idf = [one.idf_[:, None] for one in tfidf]
    row_weights = np.ones(len(posteriors))
    weight, bias = module._fit_naive_bayes(
        counts, features, idf, posteriors, posteriors, row_weights
    )
    return weight, bias, hstack(features) @ weight + bias


def make_informative(num_rows: int = 200) -> tuple[list[csr_matrix], Float64]:
    """Two blocks: three in four rows have the feature of their class, and each has its own."""
    y = np.random.default_rng(0).integers(0, 2, num_rows)
    informative = np.zeros((num_rows, num_rows), np.float32)
    informative[np.arange(num_rows), y] = 1
    informative[::4] = 0
    informative[::4, 2] = 1
    own = np.eye(num_rows, dtype=np.float32)
    return [csr_matrix(informative), csr_matrix(own)], np.eye(2)[y]


def test_scores_of_ngrams_are_those_of_plain_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    table = random.poisson(0.8, (20, 6)).astype(np.float32)
    table[:, 4] = 0
    posteriors = random.dirichlet(np.ones(3), 20)
    monkeypatch.setattr(module, "_fit_scales", lambda *_: (np.array([2.0, 0.5]), np.zeros(3)))
    blocks = [csr_matrix(table[:, :3]), csr_matrix(table[:, 3:])]
    weight, _, _ = fit_by_counts(blocks, posteriors)
    idf = TfidfTransformer().fit(csr_matrix(table)).idf_
    for feature in range(6):
        block = slice(3) if feature < 3 else slice(3, 6)
        mass = [float((table[:, block].sum(1) * posteriors[:, y]).sum()) + 1 for y in range(3)]
        for y in range(3):
            share = mass[y] / sum(mass)
            count = float((table[:, feature] * posteriors[:, y]).sum())
            total = float(table[:, feature].sum())
            score = math.log((count + 2 * share) / (total + 2)) - math.log(share)
            scale = 2.0 if feature < 3 else 0.5
            assert weight[feature, y] == pytest.approx(scale * score / idf[feature], abs=1e-6)
    assert np.abs(weight[4]).max() < 1e-12  # no row has it: its score is 0


def test_a_block_that_only_identifies_its_own_rows_gets_no_weight() -> None:
    counts, posteriors = make_informative()
    weight, _, logits = fit_by_counts(counts, posteriors)
    half = len(weight) // 2
    assert (weight[[0, 1], [0, 1]] - weight[[0, 1], [1, 0]]).min() > 4  # nats times idf
    assert np.abs(weight[half:]).max() < 0.05 * np.abs(weight[:2]).max()
    informative = np.arange(len(posteriors)) % 4 > 0
    assert (logits.argmax(1) == posteriors.argmax(1))[informative].all()


def test_scales_and_bias_are_at_the_minimum() -> None:
    random = np.random.default_rng(1)
    scores, targets = random.normal(size=(3, 50, 4)), random.dirichlet(np.ones(4), 50)
    scores[0] += np.log(targets)
    row_weights = random.random(50)

    def loss(scales: Float64, bias: Float64) -> float:
        logits = np.tensordot(scales, scores, 1) + bias
        log_probs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
        penalty = module.BLOCK_PENALTY / 2 * ((scales**2).sum() + (bias**2).sum())
        return float(penalty - (row_weights[:, None] * targets * log_probs).sum())

    scales, bias = module._fit_scales(scores, targets, row_weights)
    assert scales.min() >= 0 and scales[0] > 0.2
    best = loss(scales, bias)
    for _ in range(50):
        near = np.maximum(scales + 0.05 * random.normal(size=3), 0)
        assert loss(near, bias + 0.05 * random.normal(size=4)) > best


@pytest.mark.parametrize("num_rows", [1, 2, 5])
def test_there_may_be_few_rows_and_a_class_without_any(num_rows: int) -> None:
    counts = np.eye(6, dtype=np.float32)[:num_rows]
    posteriors = np.eye(3)[np.arange(num_rows) % 2]
    blocks = [csr_matrix(counts[:, :3]), csr_matrix(counts[:, 3:])]
    weight, bias, logits = fit_by_counts(blocks, posteriors)
    assert np.isfinite(weight).all() and np.isfinite(bias).all()
    assert logits[:, 2].max() <= logits.max()


def test_sharpened_probabilities_are_the_normalised_squares() -> None:
    np.testing.assert_allclose(
        sharpen(np.array([[0.5, 0.5], [0.75, 0.25]])), [[0.5, 0.5], [0.9, 0.1]]
    )


def test_a_student_learns_soft_labels() -> None:
    """Features 0 and 1 occur in labelled rows, 2 and 3 only in unlabelled ones."""
    counts = csr_matrix(np.eye(4, dtype=np.float32)[[0, 1] * 3 + [2, 3] * 30])
    soft = np.array([[0.9, 0.1], [0.1, 0.9]] * 30)
    weight, bias, idf = fit_student([counts], np.array([0, 1] * 3), soft)
    assert idf.shape == (4,)
    assert (weight + bias).argmax(1).tolist() == [0, 1, 0, 1]  # a row of one feature has norm 1


def test_a_student_is_the_mean_of_naive_bayes_and_of_regression_on_sharp_targets() -> None:
    table, soft = make_counts().toarray(), make_targets(20)
    counts = [csr_matrix(table[:, :4]), csr_matrix(table[:, 4:])]
    one_hot = np.eye(3)[np.random.default_rng(4).integers(0, 3, 10)]
    weight, bias, idf = fit_student(counts, one_hot.argmax(1), soft, penalty=0.4, num_steps=500)
    tfidf = [TfidfTransformer(sublinear_tf=True).fit(block) for block in counts]
    np.testing.assert_allclose(idf, np.concatenate([one.idf_ for one in tfidf]))
    targets = np.concatenate((one_hot, soft**2 / (soft**2).sum(1, keepdims=True)))
    row_weights = np.repeat([1.0, 0.5], [10, 20])
    features = [one.transform(block) for one, block in zip(tfidf, counts, strict=True)]
    by_counts = module._fit_naive_bayes(
        counts,
        features,
        [one.idf_[:, None] for one in tfidf],
        np.concatenate((one_hot, soft)),
        targets,
        row_weights,
    )
    by_regression = 2 * np.concatenate((weight, bias[None])) - np.concatenate(
        (by_counts[0], by_counts[1][None])
    )
    gradient = logistic_gradient(
        by_regression[:-1],
        by_regression[-1],
        hstack(features, format="csr").astype(np.float64),
        targets,
        row_weights,
        0.4,
    )
    assert np.abs(gradient).max() < 1e-2


def test_a_student_needs_no_unlabelled_rows() -> None:
    student = fit_student([make_counts(6)], np.array([0, 1] * 3), np.zeros((0, 2)))
    assert all(np.isfinite(part).all() for part in student)
