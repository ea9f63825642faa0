"""Scores of n-gram models against a plain loop with dictionaries."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax

from seqssvae.data.vocabulary import EOS
from seqssvae.teacher.ngram_models import BACKGROUND, LAST_POSITION, ClassNGrams, NGramIndex
from seqssvae.teacher.partial import possible_classes
from tests.support.rows import make_rows

Sequences = Sequence[Sequence[int]]
SIZE = 9  # of the vocabulary
PSEUDO_COUNTS = (3.0, 5.0)


def list_ngrams(
    row: Sequence[int], size: int, by_position: bool
) -> Iterator[tuple[tuple[object, ...], int]]:
    """The context of each symbol and the symbol, "start" before the row."""
    for position, symbol in enumerate(row):
        if by_position:
            yield (min(position, LAST_POSITION),), symbol
        else:
            before = ["start", *row[:position]]
            # contexts end at the one start mark
            yield tuple(before[max(len(before) - size + 1, 0) :]) if size > 1 else (), symbol


def score_by_loops(
    rows: Sequence[tuple[Sequence[int], float]],
    background_rows: Sequences,
    row: Sequence[int],
    *,
    order: int,
    share: float = 1.0,
    by_position: bool = False,
) -> float:
    """The score of one row by weighted rows: the sum of log r over its symbols."""
    ratios = [1.0] * len(row)
    backgrounds = [1 / SIZE] * len(row)
    for size in range(1, order + 1):
        counts: defaultdict[object, float] = defaultdict(float)
        seen: Counter[object] = Counter()
        for other, weight in rows:
            for context, symbol in list_ngrams(other, size, by_position):
                counts[context, symbol] += weight
                counts[context] += weight
        for other in background_rows:
            for context, symbol in list_ngrams(other, size, by_position):
                seen[context, symbol] += 1
                seen[context] += 1
        strength, b = PSEUDO_COUNTS[min(size, 2) - 1], BACKGROUND[min(size, 2) - 1]
        for position, (context, symbol) in enumerate(list_ngrams(row, size, by_position)):
            q = (seen[context, symbol] + b * backgrounds[position]) / (seen[context] + b)
            p = counts[context, symbol] + strength * q * (1 - share + share * ratios[position])
            ratios[position] = p / (counts[context] + strength) / q
            backgrounds[position] = q
    return sum(map(math.log, ratios))


sequences = st.lists(
    st.lists(st.integers(4, SIZE - 1), max_size=7).map(lambda row: [*row, EOS]),
    min_size=2,
    max_size=6,
)
kinds: st.SearchStrategy[dict[str, Any]] = st.sampled_from(
    [
        {"order": 1},
        {"order": 2},
        {"order": 3, "share": 0.5},
        {"order": 4, "share": 0.0},
        {"order": 1, "by_position": True},
    ]
)


def make_model(
    rows: Sequences,
    *,
    order: int = 2,
    share: float = 1.0,
    by_position: bool = False,
    chunk_size: int = 2**17,
) -> ClassNGrams:
    index = NGramIndex(make_rows(rows), vocabulary_size=SIZE, order=order, by_position=by_position)
    return ClassNGrams(
        index, order=order, pseudo_counts=PSEUDO_COUNTS, share=share, chunk_size=chunk_size
    )


@settings(max_examples=60, deadline=None)
@given(sequences, kinds, st.integers(0, 1000))
def test_leave_one_out_scores_do_not_use_a_rows_own_counts(
    rows: list[list[int]], kind: dict[str, Any], seed: int
) -> None:
    weights = np.random.default_rng(seed).random((len(rows), 2)).astype(np.float32)
    model = make_model(rows, **kind)
    model.count(weights)
    result = model.leave_one_out(weights, np.ones(len(rows), np.bool_))
    for left_out, row in enumerate(rows):
        others = [other for number, other in enumerate(rows) if number != left_out]
        for y in range(2):
            weighted = list(zip(others, np.delete(weights[:, y], left_out).tolist(), strict=True))
            expected = score_by_loops(weighted, others, row, **kind)
            assert result[left_out, y] == pytest.approx(expected, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_nothing_is_left_of_a_row_whose_symbols_are_very_rare(order: int) -> None:
    """q of a symbol that no other row has is tiny, so that its rounded count over q is large."""
    size, num_rows = 10**7, 30
    rows = [[*[4 + row] * times, 40, EOS] for row, times in enumerate([1, 2, 3, 5, 7, 11] * 5)]
    index = NGramIndex(make_rows(rows), vocabulary_size=size, order=order)
    model = ClassNGrams(index, order=order, pseudo_counts=PSEUDO_COUNTS, share=1.0)
    is_needed = np.ones(num_rows, np.bool_)
    weights = np.random.default_rng(0).random((num_rows, 40)).astype(np.float32) * 0.05
    model.count(weights)
    together = model.leave_one_out(weights, is_needed)
    for row in range(num_rows):
        without = weights.copy()
        without[row] = 0
        model.count(without)
        result = model.leave_one_out(without, is_needed)[row]
        np.testing.assert_allclose(together[row], result, atol=1e-3)


@settings(max_examples=40, deadline=None)
@given(sequences, sequences | st.just([]), kinds)
def test_other_rows_are_scored_with_all_counts(
    rows: list[list[int]], others: list[list[int]], kind: dict[str, Any]
) -> None:
    weights = np.linspace(0, 1, 2 * len(rows), dtype=np.float32).reshape(2, -1).T.copy()
    model = make_model(rows, **kind)
    model.count(weights)
    result = model.score(make_rows(others))
    assert result.shape == (len(others), 2)
    for number, row in enumerate(others):
        for y in range(2):
            weighted = list(zip(rows, weights[:, y].tolist(), strict=True))
            expected = score_by_loops(weighted, rows, row, **kind)
            assert result[number, y] == pytest.approx(expected, rel=1e-4, abs=1e-4)


ROWS = [[4, 5, EOS], [4, 5, 4, 5, EOS], [6, 7, EOS], [6, 6, 7, EOS], [5, 4, EOS], [7, EOS]]
LABELLED = np.array([0, 2])
POSSIBLE = possible_classes(6, LABELLED, np.array([0, 1]), 2)


@pytest.mark.parametrize("with_set", [False, True])
@pytest.mark.parametrize("weight", [0.0, 0.05, 1.0])
def test_em_is_the_plain_loop_over_steps_rows_and_classes(weight: float, with_set: bool) -> None:
    """Row 1 may have a set of labels, of 3 classes; nothing else is known of the third."""
    num_classes, row_weights = 3 if with_set else 2, [weight] * 6
    possible = possible_classes(
        6, LABELLED, np.array([0, 1]), num_classes, {1: (1, 2)} if with_set else {}
    )
    result = make_model(ROWS).fit(possible, unlabelled_weight=weight, num_steps=2)
    table = [[float(number == of_class) for number in range(6)] for of_class in LABELLED]
    if with_set:
        information = 1 - math.log(2) / math.log(3)
        table[1][1] = information / 2
        table.append([0.0, information / 2, 0.0, 0.0, 0.0, 0.0])
        row_weights[1] = weight + (1 - weight) * information
    for step in range(3):
        scores = []
        for n, row in enumerate(ROWS):
            others = [other for i, other in enumerate(ROWS) if i != n]
            weights = ([w for i, w in enumerate(of_class) if i != n] for of_class in table)
            weighted = (list(zip(others, of_class, strict=True)) for of_class in weights)
            scores.append([score_by_loops(one, others, row, order=2) for one in weighted])
        for n in range(6):
            if n not in LABELLED and step < 2:
                odds = np.exp(scores[n]) * possible[n]
                for y in range(num_classes):
                    table[y][n] = row_weights[n] * odds[y] / odds.sum()
    np.testing.assert_allclose(result, scores, rtol=1e-4, atol=1e-5)


def test_scores_do_not_depend_on_the_chunks() -> None:
    together, in_chunks = (
        make_model(ROWS, order=3, chunk_size=chunk_size).fit(
            POSSIBLE, unlabelled_weight=1.0, num_steps=2
        )
        for chunk_size in (2**17, 6)
    )
    np.testing.assert_array_equal(together, in_chunks)


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_scores_of_some_rows_are_those_among_all(weight: float) -> None:
    """In chunks of one row, of two rows, and of all."""
    for chunk_size in (6, 20, 2**17):
        model = make_model(ROWS, order=3, chunk_size=chunk_size)
        scores = model.fit(POSSIBLE, unlabelled_weight=weight, num_steps=2)
        for rows in ([1], [5, 2], [0, 1, 2, 3, 4]):
            some = model.fit(POSSIBLE, unlabelled_weight=weight, num_steps=2, scored=np.array(rows))
            np.testing.assert_array_equal(some, scores[rows])


def test_unlabelled_rows_separate_symbols_without_labels() -> None:
    """4 and 8 occur together, 5 and 7 too; only 4 and 5 occur in labelled rows."""
    rows = [[4, EOS], [5, EOS], *[[4, 8, EOS]] * 20, *[[5, 7, EOS]] * 20, [8, EOS], [7, EOS]]
    model = make_model(rows, order=1)
    for weight in (0.0, 1.0):
        scores = model.fit(
            possible_classes(len(rows), np.arange(2), np.arange(2), 2),
            unlabelled_weight=weight,
            num_steps=5,
        )
        margin = scores[-2:, 0] - scores[-2:, 1]
        assert (margin[0] > 1 and margin[1] < -1) == (weight > 0)


def test_em_ends_when_posteriors_no_longer_change(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model(ROWS)
    count = Mock(wraps=model.count)
    monkeypatch.setattr(model, "count", count)
    settled = model.fit(POSSIBLE, unlabelled_weight=1.0, num_steps=100)
    assert 2 < count.call_count < 50
    to_the_end = model.fit(POSSIBLE, unlabelled_weight=1.0, num_steps=100, tol=-1.0)
    np.testing.assert_allclose(softmax(settled, 1), softmax(to_the_end, 1), atol=0.02)
