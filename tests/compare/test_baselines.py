import dataclasses
from collections.abc import Sequence
from typing import cast

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.feature_extraction.text import CountVectorizer

from seqssvae.compare.baselines import BASELINES, EM_WEIGHTS, NaiveBayes, Task, dev_score, ngrams
from seqssvae.teacher.features import Sequences
from tests.support.counts import em_by_scikit_learn

WORDS = {0: ["red", "rose", "ruby"], 1: ["blue", "sea", "sky"], 2: ["green", "leaf", "lime"]}


def sentences(y: Sequence[int], seed: int, num_others: int = 1) -> list[str]:
    """Three words of the row's class, and others of any class."""
    generator = np.random.default_rng(seed)
    every = [word for words in WORDS.values() for word in words]
    return [
        " ".join([*generator.choice(WORDS[k], 3), *generator.choice(every, num_others)]) for k in y
    ]


def make_task(num_labelled: int = 9, num_unlabelled: int = 30, num_dev: int = 9) -> Task:
    y, hidden, dev_y = (np.arange(size) % 3 for size in (num_labelled, num_unlabelled, num_dev))
    return Task(
        labelled=sentences(y.tolist(), 0),
        y=y,
        unlabelled=sentences(hidden.tolist(), 1),
        dev=sentences(dev_y.tolist(), 2),
        dev_y=dev_y,
        num_classes=3,
    )


def as_tokens(task: Task) -> Task:
    return dataclasses.replace(
        task,
        labelled=[str(s).split() for s in task.labelled],
        unlabelled=[str(s).split() for s in task.unlabelled],
        dev=[str(s).split() for s in task.dev],
    )


@pytest.mark.parametrize("of_tokens", [False, True])
@pytest.mark.parametrize("name", BASELINES)
def test_every_baseline_learns_what_is_easy(name: str, of_tokens: bool) -> None:
    y = np.arange(12) % 3
    labelled, unlabelled, dev, last = (sentences(y.tolist(), seed, 0) for seed in range(3, 7))
    task, test = Task(labelled, y, 3, unlabelled, dev, y), cast(Sequences, last)
    if of_tokens:
        task, test = as_tokens(task), [str(s).split() for s in test]
    probabilities = BASELINES[name].fit(task, 0)(test)
    assert probabilities.shape == (12, 3) and (probabilities >= 0).all()
    np.testing.assert_allclose(probabilities.sum(1), 1)
    assert probabilities.argmax(1).tolist() == y.tolist()


@pytest.mark.parametrize("name", BASELINES)
def test_rows_do_not_depend_on_each_other_or_on_test_rows(name: str) -> None:
    """Predictions of one row at a time, symbols that training never saw among them."""
    predict = BASELINES[name].fit(make_task(), 0)
    test = [*sentences([0, 1, 2, 2], 7), "unseen ördög", "x"]
    together = predict(test)
    for i, sequence in enumerate(test):
        np.testing.assert_allclose(predict([sequence]), together[i : i + 1], atol=1e-12)
    np.testing.assert_allclose(together.sum(1), 1)


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("present", [[0, 2], [1]])
def test_classes_without_a_labelled_row(name: str, present: list[int]) -> None:
    task = make_task()
    y = np.array([present[i % len(present)] for i in range(8)])
    task = dataclasses.replace(task, labelled=sentences(y.tolist(), 0), y=y)
    probabilities = BASELINES[name].fit(task, 0)(sentences([0, 1, 2], 7))
    assert probabilities.shape == (3, 3)
    np.testing.assert_allclose(probabilities.sum(1), 1)
    if name.startswith("nb-em"):
        return
    for k in present:  # rows of the classes with labels
        assert probabilities[k].argmax() == k


@pytest.mark.parametrize("name", BASELINES)
def test_nothing_unlabelled_and_nothing_held_out(name: str) -> None:
    probabilities = BASELINES[name].fit(make_task(9, 0, 0), 0)(sentences([0, 1, 2], 7))
    assert probabilities.argmax(1).tolist() == [0, 1, 2]


@pytest.mark.parametrize("name", BASELINES)
def test_the_same_seed_gives_the_same_probabilities(name: str) -> None:
    task, test = make_task(), sentences([0, 1, 2], 7)
    np.testing.assert_array_equal(
        BASELINES[name].fit(task, 3)(test), BASELINES[name].fit(task, 3)(test)
    )


def test_ngrams() -> None:
    assert ngrams("words", 2)("A  b c") == ["a", "b", "c", "a b", "b c"]
    assert ngrams("characters", 2)("Ab") == [" ", "A", "b", " ", " A", "Ab", "b "]
    for unit in ("words", "characters"):
        assert ngrams(unit, 2)(["Ab", "c d"]) == ["^", "Ab", "c d", "$", "^ Ab", "Ab c d", "c d $"]
    assert ngrams("words", 3)("one") == ["one"]


def test_dev_scores() -> None:
    table = np.array([[0.3, 0.7], [0.6, 0.4], [1.0, 0.0]])
    accuracy, log_likelihood = dev_score(table, np.array([1, 1, 0]))
    assert accuracy == pytest.approx(2 / 3)
    assert log_likelihood == pytest.approx((np.log(0.7) + np.log(0.4)) / 3)
    assert dev_score(table, np.array([1, 1, 1]))[1] > -20  # probability 0
    assert dev_score(table[:0], np.zeros(0, np.int64)) == (0.0, 0.0)


@pytest.mark.parametrize(("weight", "num_steps"), [(0.0, 10), (0.1, 1), (0.1, 10), (1.0, 10)])
def test_naive_bayes_is_scikit_learns_with_weighted_rows(weight: float, num_steps: int) -> None:
    """p(y) is uniform, whatever the numbers of labelled rows; dev rows are labelled ones."""
    task, test = make_task(4, 20, 2), sentences([0, 1, 2, 0, 1], 7)
    vectorizer = CountVectorizer(analyzer=ngrams("words", 2)).fit(task.sequences)
    known = [*task.labelled, *task.dev]
    labelled, unlabelled, other = map(vectorizer.transform, (known, task.unlabelled, test))
    log_probs = em_by_scikit_learn(
        labelled, task.all_y, unlabelled, weight=weight, num_steps=num_steps, learn_prior=False
    )
    result = NaiveBayes("words", 2, (weight,), num_steps).fit(task, 0)(test)
    np.testing.assert_allclose(result, softmax(other @ log_probs.T, axis=1), atol=1e-12)
    without = NaiveBayes("words", 2).fit(task, 0)(test)
    assert (np.abs(result - without).max() > 1e-3) == (weight > 0)


@pytest.mark.parametrize("swapped", [False, True])
def test_the_weight_of_unlabelled_rows_is_what_is_best_on_dev(swapped: bool) -> None:
    """Unlabelled rows show which words occur together; dev rows, whether that helps."""
    task = Task(
        labelled=["seed0", "seed1"],
        y=np.arange(2),
        unlabelled=["seed0 other0 test0", "seed1 other1 test1"] * 10,
        dev=["other0", "other1"],
        dev_y=np.array([1, 0]) if swapped else np.array([0, 1]),
        num_classes=2,
    )
    test = ["test0", "test1"]
    result = BASELINES["nb-em-words"].fit(task, 0)(test)
    plain = BASELINES["nb-words"].fit(task, 0)(test)
    np.testing.assert_allclose(plain, 0.5)  # no labelled row holds a test word
    if swapped:
        np.testing.assert_allclose(result, plain)  # the weight is 0
    else:
        assert (result[[0, 1], [0, 1]] > 0.8).all()


def test_every_weight_is_tried_and_the_best_on_dev_is_taken() -> None:
    """Accuracy first, then likelihood: as a plain loop over the weights chooses."""
    task, test = make_task(3, 30, 12), sentences([0, 1, 2, 1], 7)
    chosen = NaiveBayes("words", 1, EM_WEIGHTS).fit(task, 0)(test)
    train = dataclasses.replace(task, dev=(), dev_y=task.y[:0])
    scores = []
    for weight in EM_WEIGHTS:
        one = NaiveBayes("words", 1, (weight,))
        on_dev = one.fit(train, 0)(task.dev)
        likelihood = np.log(on_dev[np.arange(12), task.dev_y]).mean()
        accuracy = (on_dev.argmax(1) == task.dev_y).mean()
        scores.append((accuracy, likelihood, one.fit(task, 0)(test)))
    best = max(scores, key=lambda score: score[:2])
    np.testing.assert_array_equal(chosen, best[2])
    assert sum(np.array_equal(chosen, score[2]) for score in scores) == 1


@pytest.mark.parametrize("name", BASELINES)
def test_the_labels_of_dev_rows_are_learned_in_the_end(name: str) -> None:
    """A class that only dev rows have; nothing else could tell of it."""
    dev = sentences([2] * 6, 8, 0)
    task = dataclasses.replace(make_task(), dev=dev, dev_y=np.full(6, 2))
    is_other = task.y < 2
    labelled = [row for row, other in zip(task.labelled, is_other, strict=True) if other]
    task = dataclasses.replace(task, labelled=labelled, y=task.y[is_other])
    assert BASELINES[name].fit(task, 0)(dev).argmax(1).tolist() == [2] * 6


def test_unlabelled_rows_reach_those_that_use_them() -> None:
    task = make_task(6, 30)
    alone = dataclasses.replace(task, unlabelled=[])
    test = sentences([0, 1, 2, 0, 1, 2], 7)
    for name in ("tfidf-lr-words", "lsa-lr", "self-trained-lr", "nb-em-words"):
        difference = BASELINES[name].fit(task, 0)(test) - BASELINES[name].fit(alone, 0)(test)
        assert np.abs(difference).max() > 1e-6, name
