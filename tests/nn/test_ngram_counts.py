"""Counted n-grams against `collections.Counter`."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seqssvae.nn.ngram_counts import NGramCounts
from seqssvae.nn.ngram_lm import LAST_POSITION
from tests.support.rows import make_rows

V = 12

Sequences = list[list[int]]
sequences = st.lists(st.lists(st.integers(3, V - 1), max_size=8), min_size=1, max_size=6)


def count_by_hand(rows: Sequences, weights: np.ndarray, size: int) -> dict[tuple[int, ...], float]:
    """Weighted n-grams of a size; before a row stands one symbol of its own, 1."""
    counts: Counter[tuple[int, ...]] = Counter()
    for row, weight in zip(rows, weights.tolist(), strict=True):
        known = [1, *row]
        for end in range(1, len(known)):
            counts[tuple(known[max(0, end - size + 1) if size > 1 else end : end + 1])] += weight
    return dict(counts)


def spelled(index: NGramCounts, order: int) -> list[list[tuple[int, ...]]]:
    """The n-grams of each table but that of positions, symbol by symbol."""
    tables: list[list[tuple[int, ...]]] = []
    for size, keys in enumerate(index.keys[:order], 1):
        ngrams = []
        for context, symbol in ((key // V, key % V) for key in keys.tolist()):
            start: tuple[int, ...] = () if size == 1 else (1,)
            ngrams.append((*(tables[-1][context - 1] if context else start), symbol))
        tables.append(ngrams)
    return tables


@given(sequences, st.integers(1, 4))
def test_counts_equal_a_counter(rows: Sequences, order: int) -> None:
    """Of each size, weighted, and of symbols by position."""
    weights = np.random.default_rng(0).random((len(rows), 2)).astype(np.float32)
    index = NGramCounts(make_rows(rows), vocabulary_size=V, order=order)
    counts = index.count(weights).split([len(keys) for keys in index.keys])
    for size, ngrams in enumerate(spelled(index, order), 1):
        assert bool((index.keys[size - 1].diff() > 0).all())
        for y in range(2):
            want = count_by_hand(rows, weights[:, y], size)
            got = dict(zip(ngrams, counts[size - 1][:, y].tolist(), strict=True))
            assert got == pytest.approx(want, rel=1e-5)
    want_at = Counter((min(time, LAST_POSITION), s) for row in rows for time, s in enumerate(row))
    got_at = [(key // V, key % V) for key in index.keys[-1].tolist()]
    assert sorted(got_at) == sorted(want_at) == got_at


def test_late_positions_are_one() -> None:
    index = NGramCounts(make_rows([[4] * 70]), vocabulary_size=V, order=1)
    assert index.keys[-1].tolist() == [time * V + 4 for time in range(64)]
    assert index.count(np.ones((1, 1), np.float32))[-1].item() == 7


def test_of_many_the_most_frequent_are_kept() -> None:
    """And no longer n-gram has a context that was dropped."""
    rows = [[4, 5, 4, 5, 4], [4, 6], [7]]
    index = NGramCounts(make_rows(rows), vocabulary_size=V, order=2, max_ngrams=2)
    assert spelled(index, 2) == [[(4,), (5,)], [(1, 4), (4, 5)]]
    counts = index.count(np.ones((3, 1), np.float32)).flatten().tolist()
    assert counts[:4] == [4, 2, 2, 2]  # of (5, 4), too, there were two: the first is kept


def test_symbols_past_the_longest_row_are_not_read() -> None:
    """The decoder does not read them either; whole rows give the same as truncated ones."""
    rows = [[4, 5, 6, 7], [4, 8], [5, 5, 5, 5, 5]]
    cut = NGramCounts(make_rows(rows, max_length=3), vocabulary_size=V, order=3)
    short = NGramCounts(make_rows([row[:3] for row in rows]), vocabulary_size=V, order=3)
    whole = NGramCounts(make_rows(rows), vocabulary_size=V, order=3)
    assert all(map(torch.equal, cut.keys, short.keys))
    assert len(cut.keys[0]) == 4 < len(whole.keys[0])
    weights = np.random.default_rng(0).random((3, 2)).astype(np.float32)
    assert torch.equal(cut.count(weights), short.count(weights))


def test_no_rows() -> None:
    index = NGramCounts(make_rows([]), vocabulary_size=V, order=2)
    assert [len(keys) for keys in index.keys] == [0, 0, 0]
    assert index.count(np.zeros((0, 3), np.float32)).shape == (0, 3)
