"""Classifiers of vectors, against scikit-learn and plain loops."""

import numpy as np
import pytest
from scipy.special import log_softmax, softmax
from sklearn.linear_model import LogisticRegression

from seqssvae.teacher.classifiers import FittedClassifier
from seqssvae.teacher.features import Analyzer, Features
from seqssvae.teacher.partial import possible_classes
from seqssvae.teacher.pool import Pool
from seqssvae.teacher.vector_models import (
    VectorLogistic,
    VectorNormals,
    list_vector_classifiers,
    split,
)

Y = np.arange(90) % 3
MISSING = np.array([4, 50])
KNOWN = np.setdiff1d(np.arange(90), MISSING)
LABELLED = np.arange(12)
POSSIBLE = possible_classes(90, LABELLED, Y[LABELLED], 3)
POSSIBLE[40] = [True, False, True]


def make_features(seed: int, spread: float = 1.0) -> Features:
    """Rows with vectors of 5 numbers around the centre of their class; two have none."""
    random = np.random.default_rng(seed)
    centres = 4 * np.random.default_rng(9).standard_normal((3, 5))
    vectors = (centres[Y] + spread * random.standard_normal((90, 5))).astype(np.float32) * 3 + 7
    vectors[MISSING] = np.nan
    return Analyzer(["a b"]).encode(["a b"] * 90, vectors)


@pytest.fixture
def features() -> Features:
    return make_features(0)


@pytest.mark.parametrize("classifier", list_vector_classifiers(), ids=lambda one: one.name)
def test_scores_are_linear_and_0_without_a_vector(
    classifier: VectorLogistic | VectorNormals, features: Features
) -> None:
    fitted, other = classifier.fit(features, POSSIBLE, 4), make_features(1)
    assert fitted.of_vectors is not None and other.vectors is not None
    scores, (weight, bias) = fitted.score(other), fitted.of_vectors
    wanted = other.vectors[KNOWN] @ weight + bias
    np.testing.assert_allclose(scores[KNOWN], wanted, atol=1e-3)
    assert not scores[MISSING].any() and scores.shape == (90, 3)
    assert (scores[KNOWN].argmax(1) == Y[KNOWN]).mean() > 0.65
    np.testing.assert_allclose(fitted.own_scores, fitted.score(features), atol=1e-4)
    some = classifier.fit(features, POSSIBLE, 4, np.array([5, 4])).own_scores
    np.testing.assert_allclose(some, fitted.own_scores[[5, 4]], atol=1e-5)


def test_regression_is_scikit_learns(features: Features) -> None:
    possible = possible_classes(90, LABELLED, Y[LABELLED], 3)
    ours = VectorLogistic("", 0.5).fit(features, possible, 0).own_scores
    rows = np.setdiff1d(LABELLED, MISSING)
    x = features.space.x
    theirs = LogisticRegression(C=2.0, tol=1e-8, max_iter=1000).fit(x[rows], Y[rows])
    np.testing.assert_allclose(softmax(ours[KNOWN], 1), theirs.predict_proba(x[KNOWN]), atol=2e-3)


@pytest.mark.parametrize("shrinkage", [0.2, 1.0])
def test_normals_are_those_of_a_loop(features: Features, shrinkage: float) -> None:
    x = features.space.x.astype(np.float64)
    covariance = (1 - shrinkage) * (x.T @ x) / len(KNOWN)
    covariance += shrinkage * np.trace(x.T @ x) / len(KNOWN) / 5 * np.eye(5)
    inverse = np.linalg.inv(covariance)
    information = 1 - np.log(POSSIBLE.sum(1)) / np.log(3)
    weights = POSSIBLE / POSSIBLE.sum(1, keepdims=True) * information[:, None]
    weights[MISSING] = 0
    for step in range(3):
        means = [(weights[:, y] @ x) / (weights[:, y].sum() + 1) for y in range(3)]
        scores = np.array(
            [[row @ inverse @ mean - 0.5 * mean @ inverse @ mean for mean in means] for row in x]
        )
        if step == 2:
            break
        for row in range(90):
            if POSSIBLE[row].sum() > 1 and row not in MISSING:
                share = softmax(np.where(POSSIBLE[row], scores[row], -np.inf))
                weights[row] = (0.3 + 0.7 * information[row]) * share
    scores[MISSING] = 0
    fitted = VectorNormals("", shrinkage, 0.3).fit(features, POSSIBLE, 2)
    np.testing.assert_allclose(fitted.own_scores, scores, atol=1e-3)


def test_unlabelled_rows_help_normals() -> None:
    features, other = make_features(0, 2.5), make_features(1, 2.5)
    possible = possible_classes(90, np.arange(6), Y[:6], 3)
    without, with_rows = (
        (VectorNormals("", 0.5, weight).fit(features, possible, 10).score(other).argmax(1) == Y)
        for weight in (0.0, 1.0)
    )
    assert with_rows.mean() > without.mean()


def test_rows_of_one_vector_and_none_at_all() -> None:
    nothing = np.full((6, 2), np.nan, np.float32)
    for vectors in (nothing, np.ones((6, 2), np.float32)):
        features = Analyzer(["a b"]).encode(["a b"] * 6, vectors)
        for classifier in list_vector_classifiers():
            scores = classifier.fit(features, POSSIBLE[:6], 2).own_scores
            assert np.isfinite(scores).all()


def test_a_pool_is_split_into_a_linear_map_and_the_others(features: Features) -> None:
    random = np.random.default_rng(3)
    members = [one.fit(features, POSSIBLE, 2) for one in list_vector_classifiers()[2:4]]
    of_words = FittedClassifier(random.standard_normal((90, 3)).astype(np.float32), lambda _: None)  # type: ignore[arg-type,return-value]
    pool = Pool(
        weights=np.array([0.3, 0.0, 0.5, 0.2]),
        temperatures=np.array([0.7, 9.0, 2.0, 3.0]),
        log_priors=random.standard_normal((4, 3)),
        sharpness=0.8,
        bias=random.standard_normal(3),
    )
    fitted = [members[0], of_words, members[1]]
    share, others, (weight, bias) = split(pool, fitted)
    assert share == pytest.approx(0.5) and others.weights.tolist() == [0, 0, 1, 0]
    assert features.vectors is not None
    linear = features.vectors[KNOWN] @ weight + bias
    of_others = others.log_posteriors([of_words.own_scores])[KNOWN]
    whole = log_softmax(linear + share * (of_others - pool.bias) + pool.bias, axis=1)
    wanted = pool.log_posteriors([one.own_scores for one in fitted])[KNOWN]
    np.testing.assert_allclose(whole, wanted, atol=1e-4)
    alone = Pool(np.ones(1), np.ones(1), np.zeros((1, 3)), 1.0, np.zeros(3))
    assert split(alone, members[:1])[0] == 0
