"""Each classifier of a pool on its own."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from seqssvae.teacher.classifiers import (
    BayesClassifier,
    Classifier,
    LogisticClassifier,
    NGramClassifier,
    list_classifiers,
)
from seqssvae.teacher.features import Analyzer, Features
from seqssvae.teacher.naive_bayes import fit_naive_bayes
from seqssvae.teacher.ngram_models import ClassNGrams, NGramIndex
from seqssvae.teacher.partial import possible_classes

RANDOM = np.random.default_rng(0)
Y = np.arange(40) % 3
WORDS = ["red blue sea sky wet", "oak elm fir ash yew", "cat dog cow pig hen"]


def make_sentences(y: np.ndarray[tuple[int, ...], np.dtype[np.int64]], seed: int) -> list[str]:
    """Four words of a class and one of any, in random order."""
    random = np.random.default_rng(seed)
    rows = []
    for of_class in y:
        words = [*random.choice(WORDS[of_class].split(), 4)]
        words.append(random.choice(" ".join(WORDS).split()))
        rows.append(" ".join(random.permutation(words)))
    return rows


ANALYZER = Analyzer(make_sentences(Y, 0))
CLASSIFIERS = list_classifiers(has_words=True, long_characters=True)
LABELLED = np.arange(9)
POSSIBLE = possible_classes(40, LABELLED, Y[LABELLED], 3)


@pytest.fixture
def features() -> Features:
    return ANALYZER.encode(make_sentences(Y, 0))


@pytest.fixture
def others() -> Features:
    return ANALYZER.encode(make_sentences(Y, 1))


@pytest.mark.parametrize("classifier", CLASSIFIERS, ids=lambda classifier: classifier.name)
def test_a_classifier_learns_the_classes(
    classifier: Classifier, features: Features, others: Features
) -> None:
    fitted = classifier.fit(features, POSSIBLE, 5)
    fewer = classifier.fit(features, POSSIBLE, 0)  # no step of EM
    uses_unlabelled = classifier.unlabelled_weight > 0
    assert np.allclose(fitted.own_scores, fewer.own_scores) != uses_unlabelled
    assert fitted.own_scores.shape == (40, 3)
    result = fitted.score(others)
    assert result.shape == (40, 3)
    assert np.isfinite(result).all() and np.isfinite(fitted.own_scores).all()
    if "positions" not in classifier.name:
        assert (result.argmax(1) == Y).mean() > 0.8
        assert (fitted.own_scores[9:].argmax(1) == Y[9:]).mean() > 0.8


def test_classifiers_on_positions_learn_classes_that_differ_by_positions_alone() -> None:
    y = np.arange(60) % 2
    rows = [[*(["a", "b", "b"] if of_class else ["b", "b", "a"])] for of_class in y]
    features = Analyzer(rows).encode(rows)
    classifiers = list_classifiers(has_words=False, long_characters=False)
    for classifier in classifiers:
        if "positions" in classifier.name:
            fitted = classifier.fit(features, possible_classes(60, np.arange(4), y[:4], 2), 5)
            assert (fitted.own_scores.argmax(1) == y).all()
            assert (fitted.score(features).argmax(1) == y).all()


@pytest.mark.parametrize("level", ["main", "characters"])
def test_an_ngram_classifier_is_the_ngram_model(
    level: str, features: Features, others: Features
) -> None:
    classifier = NGramClassifier("", level, 2, (3.0, 10.0), 0.5, 0.05)
    fitted = classifier.fit(features, POSSIBLE, 4)
    size = features.vocabulary_sizes[level]
    index = NGramIndex(features.rows[level], vocabulary_size=size, order=2)
    model = ClassNGrams(index, order=2, pseudo_counts=(3.0, 10.0), share=0.5)
    expected = model.fit(POSSIBLE, unlabelled_weight=0.05, num_steps=4)
    np.testing.assert_allclose(fitted.own_scores, expected, atol=1e-4)
    np.testing.assert_allclose(fitted.score(others), model.score(others.rows[level]), atol=1e-4)


@pytest.mark.parametrize("lsa", [False, True])
def test_a_logistic_classifier_is_scikit_learns(
    lsa: bool, features: Features, others: Features
) -> None:
    classifier = LogisticClassifier("", "characters", "5-grams", lsa)
    fitted = classifier.fit(features, POSSIBLE, 0)
    matrix = features.matrix("characters", "5-grams")
    transformer, own = matrix.lsa if lsa else matrix.tfidf
    other = transformer.transform(others.counts("characters", "5-grams")[:, matrix.columns])
    model = LogisticRegression(C=10, tol=1e-6, max_iter=1000).fit(own[LABELLED], Y[LABELLED])
    for result, rows in ((fitted.own_scores, own), (fitted.score(others), other)):
        centred = result - result.mean(1, keepdims=True)
        np.testing.assert_allclose(centred, model.decision_function(rows), atol=0.02)


def test_a_bayes_classifier_is_naive_bayes(features: Features, others: Features) -> None:
    classifier = BayesClassifier("", "main", "bigrams")
    fitted = classifier.fit(features, POSSIBLE, 2)
    matrix = features.matrix("main", "bigrams")
    log_probs = fit_naive_bayes(
        matrix.counts,
        POSSIBLE,
        unlabelled_weight=0.1,
        num_steps=2,
        learn_prior=True,
    )
    counts = others.counts("main", "bigrams")[:, matrix.columns]
    np.testing.assert_allclose(fitted.own_scores, matrix.counts @ log_probs)
    np.testing.assert_allclose(fitted.score(others), counts @ log_probs)


@pytest.mark.parametrize("has_words", [False, True])
@pytest.mark.parametrize("has_long", [False, True])
def test_classifiers_differ_and_read_the_levels_there_are(has_words: bool, has_long: bool) -> None:
    classifiers = list_classifiers(has_words=has_words, long_characters=has_words and has_long)
    assert len({classifier.name for classifier in classifiers}) == len(classifiers)
    levels = {classifier.level for classifier in classifiers}
    assert levels == ({"main", "characters"} if has_words else {"main"})
    of_characters = [
        c for c in classifiers if isinstance(c, NGramClassifier) and c.level == "characters"
    ]
    assert bool(of_characters) == (has_words and has_long)
