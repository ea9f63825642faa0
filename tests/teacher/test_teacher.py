"""The teacher on rows of a known making."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from torch.nn.functional import embedding_bag

from seqssvae.teacher import teacher as module
from seqssvae.teacher.classifiers import Classifier, FittedClassifier
from seqssvae.teacher.features import Features, Limits
from seqssvae.teacher.ngram_models import ALL
from seqssvae.teacher.partial import Known
from seqssvae.teacher.teacher import fit_teacher

Integers = NDArray[np.int64]


def make_rows(y: Integers, seed: int, num_symbols: int = 40) -> list[list[str]]:
    """Up to 9 tokens, most of them among the few that a class prefers."""
    random = np.random.default_rng(seed)
    rows = []
    for of_class in y:
        preferred = np.random.default_rng(1000 + of_class).integers(0, num_symbols, 8)
        tokens = np.where(
            random.random(9) < 0.6, random.choice(preferred, 9), random.integers(0, num_symbols, 9)
        )
        rows.append([str(token) for token in tokens[: random.integers(4, 10)]])
    return rows


def make_task(
    num_rows: int, num_classes: int, labels_per_class: int, seed: int = 0
) -> tuple[list[list[str]], Integers, Integers]:
    """Rows, which of them are labelled, and all classes."""
    y = np.random.default_rng(seed).permutation(np.arange(num_rows) % num_classes)
    labelled = np.concatenate(
        [np.flatnonzero(y == of_class)[:labels_per_class] for of_class in range(num_classes)]
    )
    return make_rows(y, seed), labelled, y


def check_posteriors(posteriors: NDArray[np.float32], shape: tuple[int, int]) -> None:
    assert posteriors.shape == shape
    assert posteriors.dtype == np.float32
    assert posteriors.min(initial=0) >= 0
    np.testing.assert_allclose(posteriors.sum(1), 1, atol=1e-5)


def test_posteriors_are_good_with_few_labels_and_better_for_the_unlabelled_rows() -> None:
    rows, labelled, y = make_task(400, 3, 5)
    other_y = np.arange(300) % 3
    others = make_rows(other_y, 7)
    fitted = fit_teacher(rows, labelled, y[labelled], num_classes=3)
    check_posteriors(fitted.posteriors, (400, 3))
    result = fitted.predict(others)
    check_posteriors(result, (300, 3))
    alone = fit_teacher([rows[row] for row in labelled], np.arange(15), y[labelled], num_classes=3)
    accuracy = (result.argmax(1) == other_y).mean()
    assert accuracy > 0.9
    assert accuracy > (alone.predict(others).argmax(1) == other_y).mean() + 0.03
    free = np.setdiff1d(np.arange(400), labelled)
    assert (fitted.posteriors[free].argmax(1) == y[free]).mean() > 0.9
    assert sum(fitted.weights.values()) == pytest.approx(1)
    assert 0.5 < fitted.held_out_accuracy <= 1


def test_the_same_seed_gives_the_same_teacher() -> None:
    rows, labelled, y = make_task(120, 2, 6)
    first, second = (fit_teacher(rows, labelled, y[labelled], num_classes=2) for _ in range(2))
    np.testing.assert_array_equal(first.posteriors, second.posteriors)
    np.testing.assert_array_equal(first.predict(rows), second.predict(rows))


def test_a_labelled_rows_posterior_does_not_use_its_label() -> None:
    """A row with a wrong label gets the class of its tokens."""
    rows, labelled, y = make_task(200, 2, 20)
    given = y[labelled].copy()
    given[3] = 1 - given[3]
    fitted = fit_teacher(rows, labelled, given, num_classes=2)
    assert fitted.posteriors[labelled[3]].argmax() == y[labelled[3]]


def test_copies_of_a_row_do_not_tell_its_label() -> None:
    """Labels are random, and every row is there six times: nothing can be learned."""
    rows = make_rows(np.zeros(60, np.int64), 3) * 6
    y = np.tile(np.random.default_rng(5).integers(0, 2, 60), 6)
    fitted = fit_teacher(rows, np.arange(360), y, num_classes=2)
    assert 0.25 < fitted.held_out_accuracy < 0.75
    sets = {row: (int(y[row]), 2) for row in range(60, 360)}  # copies that leave one other class
    fitted = fit_teacher(rows, np.arange(60), y[:60], num_classes=3, candidates=sets)
    assert fitted.held_out_accuracy < 0.75


def test_texts_are_read_as_words() -> None:
    y = np.arange(60) % 2
    rows = [" ".join(row) for row in make_rows(y, 0)]
    fitted = fit_teacher(rows, np.arange(12), y[:12], num_classes=2)
    assert (fitted.posteriors.argmax(1) == y).mean() > 0.85
    assert any("characters" in name or "long" in name for name in fitted.weights)


@pytest.mark.parametrize(
    ("labels", "num_classes"),
    [
        ([0, 0, 0, 1, 1, 1, 2], 3),  # a class with one label
        ([0, 0, 0, 2, 2, 2], 4),  # classes with none
        ([0, 1, 2], 3),  # nothing can be held out
        ([1, 1], 3),  # one class
        ([2], 3),
    ],
)
def test_labels_may_be_few(labels: list[int], num_classes: int) -> None:
    rows, _, y = make_task(50, 3, 1)
    free = {of_class: list(np.flatnonzero(y == of_class)) for of_class in range(3)}
    labelled = np.array([free[of_class].pop() for of_class in labels])
    fitted = fit_teacher(rows, labelled, np.array(labels), num_classes=num_classes)
    check_posteriors(fitted.posteriors, (50, num_classes))
    unseen = np.setdiff1d(np.arange(num_classes), labels)
    assert (fitted.posteriors[:, unseen] == 0).all()
    result = fitted.predict(rows)
    check_posteriors(result, (50, num_classes))
    hits = (result.argmax(1) == y)[np.isin(y, labels)]
    assert hits.mean() > 0.65
    assert np.isnan(fitted.held_out_accuracy) == (len(labels) == len(set(labels)))


def test_rows_may_be_empty_or_have_unknown_symbols() -> None:
    rows, labelled, y = make_task(60, 2, 5)
    rows[int(labelled[0])] = rows[-1] = []
    fitted = fit_teacher(rows, labelled, y[labelled], num_classes=2)
    check_posteriors(fitted.posteriors, (60, 2))
    check_posteriors(fitted.predict([[], ["never seen"], ["1"] * 5000]), (3, 2))
    assert fitted.predict([]).shape == (0, 2)
    nothing = fit_teacher([""] * 4, np.arange(4), np.array([0, 1, 1, 1]), num_classes=2)
    check_posteriors(nothing.posteriors, (4, 2))
    assert nothing.posteriors[0, 1] > 0.5


def test_there_may_be_many_classes() -> None:
    rows, labelled, y = make_task(150, 50, 2)
    # One label of most classes: only those of the first five can be held out.
    labelled = np.concatenate((labelled[:10], labelled[10::2]))
    fitted = fit_teacher(rows, labelled, y[labelled], num_classes=50)
    check_posteriors(fitted.posteriors, (150, 50))
    free = np.setdiff1d(np.arange(150), labelled)
    assert (fitted.posteriors[free].argmax(1) == y[free]).mean() > 0.1  # 0.02 by chance


def test_rows_beyond_the_limits_are_predicted_like_others() -> None:
    rows, labelled, y = make_task(200, 2, 10)
    limits = Limits(labels=16, rows=120, fold_rows=50)
    fitted = fit_teacher(rows, labelled, y[labelled], num_classes=2, limits=limits)
    check_posteriors(fitted.posteriors, (200, 2))
    assert (fitted.posteriors.argmax(1) == y).mean() > 0.85
    same = (np.abs(fitted.posteriors - fitted.predict(rows)) < 1e-6).all(1)
    assert same[labelled].sum() >= 4  # more labels than are used
    assert 80 <= same.sum() < 100  # the scores of the others leave out their own counts
    limits = dataclasses.replace(limits, symbols=500)
    fewer = fit_teacher(rows, labelled, y[labelled], num_classes=2, limits=limits)
    same = (np.abs(fewer.posteriors - fewer.predict(rows)) < 1e-6).all(1)
    assert same.sum() > 110


def test_predictions_do_not_depend_on_the_chunks() -> None:
    rows, labelled, y = make_task(80, 2, 8)
    fitted = fit_teacher(rows, labelled, y[labelled], num_classes=2)
    in_chunks = fitted.predict(rows, chunk_size=30)
    np.testing.assert_allclose(in_chunks, fitted.predict(rows), atol=1e-6)


def test_shares_of_the_classes_are_learned_from_the_unlabelled_rows() -> None:
    y = (np.arange(300) % 10 > 7).astype(np.int64)  # a fifth are of class 1
    labelled = np.concatenate((np.flatnonzero(y == 0)[:8], np.flatnonzero(y == 1)[:8]))
    fitted = fit_teacher(make_rows(y, 0), labelled, y[labelled], num_classes=2)
    balanced = dataclasses.replace(fitted, _shift=np.zeros(2))
    empty = fitted.predict([[]])[0], balanced.predict([[]])[0]
    assert empty[0][1] < empty[1][1] - 0.05


def test_posteriors_of_all_rows_hold_those_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, labelled, y = make_task(80, 2, 8)
    shares = np.array([1 - 1e-12, 1e-12])
    monkeypatch.setattr(module, "reestimate_prior", lambda posteriors, prior: shares)
    fitted = fit_teacher(rows, labelled, y[labelled], num_classes=2)
    assert fitted.posteriors[:, 1].max() < 0.5
    assert fitted.predict(rows)[:, 1].max() < 0.5


def test_a_label_that_rows_rule_out_is_no_longer_given() -> None:
    """Only labelled rows of class 0 have "s" and "t"; those of 150 rows are of 1, 2 or 4, not 0."""
    labels = [*["a s t"] * 6, *["b b d"] * 6, *["c e e"] * 6]
    rows = [text.split() for text in [*labels, *["s t", "t s s"] * 75, "a a s"]]
    labelled, y = np.arange(18), np.arange(18) // 6
    candidates = {row: (1, 2, 4) for row in range(18, 168)}
    without, fitted = (
        fit_teacher(rows, labelled, y, num_classes=5, candidates=known, limits=Limits(rows=120))
        for known in ({}, candidates)
    )  # some rows are beyond the limit
    for posteriors in (fitted.posteriors, without.posteriors):
        check_posteriors(posteriors, (169, 5))
    assert (fitted.posteriors[18:168][:, [0, 3]] == 0).all()
    assert (fitted.posteriors[:, 3] == 0).all()  # of which nothing is known
    others = [["s", "t", "t"], ["t", "s"]]
    assert without.predict(others)[:, 0].min() > 0.6
    assert fitted.predict(others)[:, 0].max() < 0.2
    assert fitted.predict([["a", "s"], ["b", "d"], ["c", "e"]]).argmax(1).tolist() == [0, 1, 2]
    of_sets = fitted.predict(others, evidence=np.eye(5, dtype=np.bool_)[[0, 2]])
    assert of_sets[:, [0, 2]].tolist() == [[1, 0], [0, 1]]


@dataclasses.dataclass(frozen=True)
class Oracle(Classifier):
    """Knows the class of a row with some probability."""

    name: str
    knows: float
    unlabelled_weight: float
    level: str = "main"
    has_prior: bool = False
    usual_temperature: float = 1.0

    def fit(
        self,
        features: Features,
        evidence: Known,
        num_steps: int,
        scored: NDArray[np.int64] | slice = ALL,
    ) -> FittedClassifier:
        random = np.random.default_rng(int(100 * self.knows))
        truth = np.where(random.random(len(TRUTH)) < self.knows, TRUTH, 1 - TRUTH)
        scores = 2 * np.eye(2, dtype=np.float32)[truth]
        return FittedClassifier(scores[: len(features)][scored], lambda other: scores[: len(other)])


TRUTH = np.arange(60) % 2


@pytest.mark.parametrize(("with_unlabelled", "without"), [(0.95, 0.7), (0.5, 0.9)])
def test_where_unlabelled_rows_do_not_help_they_are_not_used(
    with_unlabelled: float, without: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    classifiers = [Oracle("em", with_unlabelled, 1.0), Oracle("labels", without, 0.0)]
    monkeypatch.setattr(module, "list_classifiers", lambda *_, **__: classifiers)
    fitted = fit_teacher(
        [[str(row)] for row in range(60)], np.arange(40), TRUTH[:40], num_classes=2
    )
    helps = with_unlabelled > without
    assert fitted.unlabelled_help == helps
    assert ("em" in fitted.weights) == helps
    assert fitted.accuracy_without_unlabelled == pytest.approx(without, abs=0.15)
    best = max(with_unlabelled, without)
    assert fitted.held_out_accuracy == pytest.approx(best, abs=0.15)


def test_a_time_limit_leaves_fewer_classifiers(caplog: pytest.LogCaptureFixture) -> None:
    """One at least, which takes little time with many classes."""
    rows, labelled, y = make_task(60, 3, 6)
    fitted = fit_teacher(rows, labelled, y[labelled], num_classes=3, max_seconds=1e-9)
    check_posteriors(fitted.posteriors, (60, 3))
    assert fitted.weights == {"logistic regression on bigrams": 1.0}
    assert "the time limit left the teacher 1 of 15 classifiers to choose from" in caplog.text
    patient = fit_teacher(rows, labelled, y[labelled], num_classes=3, max_seconds=1e9)
    whole = fit_teacher(rows, labelled, y[labelled], num_classes=3)
    np.testing.assert_array_equal(patient.posteriors, whole.posteriors)


def test_the_limit_acts_where_no_row_can_be_held_out(caplog: pytest.LogCaptureFixture) -> None:
    """Each class has one label: nothing is cross-validated, and classifiers are fitted in time."""
    rows, labelled, y = make_task(60, 3, 1)
    fitted = fit_teacher(rows, labelled, y[labelled], num_classes=3, max_seconds=1e-9)
    check_posteriors(fitted.posteriors, (60, 3))
    check_posteriors(fitted.predict(rows[:4]), (4, 3))
    assert fitted.weights == {"logistic regression on bigrams": 1.0}
    assert "the time limit left the teacher 1 of 15 classifiers" in caplog.text
    assert np.isnan(fitted.held_out_accuracy)
    patient = fit_teacher(rows, labelled, y[labelled], num_classes=3, max_seconds=1e9)
    whole = fit_teacher(rows, labelled, y[labelled], num_classes=3)
    np.testing.assert_array_equal(patient.posteriors, whole.posteriors)
    assert len(whole.weights) == 15


def test_its_work_grows_no_faster_than_the_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted in the numbers that sparse products compute, for the same rows."""

    def work(num_classes: int) -> int:
        numbers = []

        def counted(*words: Any, **options: Any) -> Any:
            result = embedding_bag(*words, **options)
            numbers.append(result.numel())
            return result

        monkeypatch.setattr("seqssvae.teacher.sparse.embedding_bag", counted)
        rows, labelled, y = make_task(240, num_classes, 240 // num_classes)
        fit_teacher(rows, labelled, y[labelled], num_classes=num_classes)
        return sum(numbers)

    assert work(60) < 12 * work(6)
