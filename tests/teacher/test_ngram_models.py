"""Scores of n-gram models against a plain loop with dictionaries."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import softmax

from seqssvae.data.vocabulary import EOS
from seqssvae.teacher.ngram_models import BACKGROUND, LAST_POSITION, ClassNGrams, NGramIndex
from tests.support.rows import make_rows

Sequences = Sequence[Sequence[int]]
SIZE = 9  # of the vocabulary


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
    a: tuple[float, float],
    share: float,
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
        strength, b = a[min(size, 2) - 1], BACKGROUND[min(size, 2) - 1]
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
models = st.sampled_from(
    [(1, 1.0, False), (2, 1.0, False), (3, 0.5, False), (4, 0.0, False), (1, 1.0, True)]
)


@settings(max_examples=60, deadline=None)
@given(sequences, models, st.integers(0, 1000))
def test_leave_one_out_scores_do_not_use_a_rows_own_counts(
    rows: list[list[int]], kind: tuple[int, float, bool], seed: int
) -> None:
    order, share, by_position = kind
    weights = np.random.default_rng(seed).random((2, len(rows))).astype(np.float32)
    index = NGramIndex(make_rows(rows), vocabulary_size=SIZE, order=order, by_position=by_position)
    model = ClassNGrams(index, order=order, pseudo_counts=(3.0, 5.0), share=share)
    model.count(weights)
    result = model.leave_one_out(weights)
    for left_out, row in enumerate(rows):
        others = [other for number, other in enumerate(rows) if number != left_out]
        for y in range(2):
            expected = score_by_loops(
                list(zip(others, np.delete(weights[y], left_out).tolist(), strict=True)),
                others,
                row,
                order=order,
                a=(3.0, 5.0),
                share=share,
                by_position=by_position,
            )
            assert result[left_out, y] == pytest.approx(expected, rel=1e-4, abs=1e-4)


@settings(max_examples=40, deadline=None)
@given(sequences, sequences, models)
def test_other_rows_are_scored_with_all_counts(
    rows: list[list[int]], others: list[list[int]], kind: tuple[int, float, bool]
) -> None:
    order, share, by_position = kind
    weights = np.linspace(0, 1, 2 * len(rows), dtype=np.float32).reshape(2, -1)
    index = NGramIndex(make_rows(rows), vocabulary_size=SIZE, order=order, by_position=by_position)
    model = ClassNGrams(index, order=order, pseudo_counts=(3.0, 5.0), share=share)
    model.count(weights)
    result = model.score(make_rows(others))
    for number, row in enumerate(others):
        for y in range(2):
            weighted = list(zip(rows, weights[y].tolist(), strict=True))
            expected = score_by_loops(
                weighted,
                rows,
                row,
                order=order,
                a=(3.0, 5.0),
                share=share,
                by_position=by_position,
            )
            assert result[number, y] == pytest.approx(expected, rel=1e-4, abs=1e-4)


ROWS = [[4, 5, EOS], [4, 5, 4, 5, EOS], [6, 7, EOS], [6, 6, 7, EOS], [5, 4, EOS], [7, EOS]]
LABELLED, Y = np.array([0, 2]), np.array([0, 1])


@pytest.mark.parametrize("weight", [0.0, 0.05, 1.0])
def test_em_is_the_plain_loop_over_steps_rows_and_classes(weight: float) -> None:
    index = NGramIndex(make_rows(ROWS), vocabulary_size=SIZE, order=2)
    model = ClassNGrams(index, order=2, pseudo_counts=(3.0, 5.0), share=1.0)
    result = model.fit(LABELLED, Y, 2, unlabelled_weight=weight, num_steps=2)
    table = [[float(number == of_class) for number in range(6)] for of_class in LABELLED]
    for step in range(3):
        scores = [
            [
                score_by_loops(
                    [
                        (row, w)
                        for i, (row, w) in enumerate(zip(ROWS, table[y], strict=True))
                        if i != n
                    ],
                    [row for i, row in enumerate(ROWS) if i != n],
                    ROWS[n],
                    order=2,
                    a=(3.0, 5.0),
                    share=1.0,
                )
                for y in range(2)
            ]
            for n in range(6)
        ]
        for n in range(6):
            if n not in LABELLED and step < 2:
                total = sum(map(math.exp, scores[n]))
                for y in range(2):
                    table[y][n] = weight * math.exp(scores[n][y]) / total
    np.testing.assert_allclose(result, scores, rtol=1e-4, atol=1e-5)


def test_scores_do_not_depend_on_the_chunks() -> None:
    index = NGramIndex(make_rows(ROWS), vocabulary_size=SIZE, order=3)
    together, in_chunks = (
        ClassNGrams(index, order=3, pseudo_counts=(3.0, 5.0), share=1.0, chunk_size=chunk_size).fit(
            LABELLED, Y, 2, unlabelled_weight=1.0, num_steps=2
        )
        for chunk_size in (2**17, 6)
    )
    np.testing.assert_array_equal(together, in_chunks)


def test_unlabelled_rows_separate_symbols_without_labels() -> None:
    """4 and 8 occur together, 5 and 7 too; only 4 and 5 occur in labelled rows."""
    rows = [[4, EOS], [5, EOS], *[[4, 8, EOS]] * 20, *[[5, 7, EOS]] * 20, [8, EOS], [7, EOS]]
    index = NGramIndex(make_rows(rows), vocabulary_size=SIZE, order=1)
    model = ClassNGrams(index, order=1, pseudo_counts=(3.0, 5.0), share=1.0)
    for weight in (0.0, 1.0):
        scores = model.fit(
            np.array([0, 1]), np.array([0, 1]), 2, unlabelled_weight=weight, num_steps=5
        )
        margin = scores[-2:, 0] - scores[-2:, 1]
        assert (margin[0] > 1 and margin[1] < -1) == (weight > 0)


def test_em_ends_when_posteriors_no_longer_change(monkeypatch: pytest.MonkeyPatch) -> None:
    model = ClassNGrams(
        NGramIndex(make_rows(ROWS), vocabulary_size=SIZE, order=2),
        order=2,
        pseudo_counts=(3.0, 5.0),
        share=1.0,
    )
    counted: list[int] = []
    count = model.count

    def count_and_note(weights: NDArray[np.float32]) -> None:
        counted.append(1)
        count(weights)

    monkeypatch.setattr(model, "count", count_and_note)
    settled = model.fit(LABELLED, Y, 2, unlabelled_weight=1.0, num_steps=100)
    assert 2 < len(counted) < 50
    to_the_end = model.fit(LABELLED, Y, 2, unlabelled_weight=1.0, num_steps=100, tol=-1.0)
    np.testing.assert_allclose(softmax(settled, 1), softmax(to_the_end, 1), atol=0.02)


def test_no_rows_have_no_scores() -> None:
    model = ClassNGrams(
        NGramIndex(make_rows(ROWS), vocabulary_size=SIZE, order=2),
        order=2,
        pseudo_counts=(3.0, 5.0),
        share=1.0,
    )
    model.fit(LABELLED, Y, 3, unlabelled_weight=1.0, num_steps=1)
    assert model.score(make_rows([])).shape == (0, 3)
