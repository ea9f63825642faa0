"""Hashed n-grams against counts by plain loops."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seqssvae.data.vocabulary import BOS, EOS
from seqssvae.nn.ngrams import NGrams, count_ngrams, hash_ngrams, locate_ngrams, row_chunks
from tests.support.rows import make_rows, padded

MANY = 2**31 - 1  # buckets: as many as there are hashes


def list_ngrams(sequence: list[int], order: int, num_positions: int) -> list[tuple[Any, ...]]:
    """By plain loops: what is counted in one row."""
    padded = [BOS, *sequence]
    result: list[tuple[Any, ...]] = []
    for size in range(1, order + 1):
        for start in range(1 if size == 1 else 0, len(padded) - size + 1):
            result.append(tuple(padded[start : start + size]))
    for position, symbol in enumerate(sequence[:num_positions]):
        result.append(("start", position, symbol))
    for position, symbol in enumerate(sequence[::-1][:num_positions]):
        result.append(("end", position, symbol))
    if num_positions:
        pairs = list(zip(sequence, sequence[1:], strict=False))
        for position, pair in enumerate(pairs[: min(num_positions, 8)]):
            result.append(("pair", position, *pair))
    return result


def hash_by_hand(gram: tuple[Any, ...]) -> int:
    """The hash of what `list_ngrams` lists; saved weights are tied to it."""
    prime, base = 2**31 - 1, 1_103_515_245
    value = 0
    match gram:
        case ("start", position, symbol):
            value = (4 * position + 1) * base % prime * 1_000_003 + symbol
        case ("end", position, symbol):
            value = (4 * position + 2) * base % prime * 1_000_003 + symbol
        case ("pair", position, first, second):
            pair = (first + 1) * base % prime + second
            value = (4 * (position + 1) + 3) * base % prime * 1_000_003 + pair
        case _:
            for symbol in gram:
                value = (value * base + symbol + 1) % prime
            value += 362_437 * len(gram)
    return value % prime * 1_812_433_253 % prime


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 50_000), max_size=12), min_size=1, max_size=5),
    st.integers(1, 5),
    st.sampled_from([0, 2, 20]),
    st.sampled_from([MANY, 100]),
)
def test_buckets_are_those_of_the_ngrams_of_plain_loops(
    sequences: list[list[int]], order: int, num_positions: int, num_buckets: int
) -> None:
    x, lengths = padded(sequences)
    ((buckets, rows),) = hash_ngrams(
        x, lengths, [NGrams(order, num_positions)], num_buckets=num_buckets
    )
    assert rows.tolist() == sorted(rows.tolist())
    for row, sequence in enumerate(sequences):
        grams = list_ngrams(sequence, order, num_positions)
        expected = Counter(hash_by_hand(gram) % num_buckets for gram in grams)
        assert Counter(buckets[rows == row].tolist()) == expected


def test_no_two_ngrams_of_a_small_vocabulary_share_a_hash() -> None:
    sequences = [[a, b, c, EOS] for a in range(4, 24) for b in range(4, 24) for c in range(4, 24)]
    grams = {gram for row in sequences for gram in list_ngrams(row, 4, 4)}
    x, lengths = padded(sequences)
    ((buckets, _),) = hash_ngrams(x, lengths, [NGrams(4, 4)], num_buckets=MANY)
    assert len(grams) - 2 <= len(set(buckets.tolist())) <= len(grams)


def test_buckets_are_about_evenly_filled() -> None:
    x, lengths = padded([[a, b, EOS] for a in range(4, 104) for b in range(4, 104)])
    ((distinct, _),) = hash_ngrams(x, lengths, [NGrams(3)], num_buckets=MANY)
    per_bucket = torch.bincount(distinct.unique() % 64, minlength=64).double()
    # counts of a uniform hash have a standard deviation of about the mean's square root
    assert per_bucket.std() < 2 * per_bucket.mean().sqrt()


@pytest.mark.parametrize("num_positions", [0, 3])
def test_counts_of_a_corpus_are_those_of_its_batches(
    num_positions: int,
) -> None:
    random = np.random.default_rng(0)
    sequences = [random.integers(3, 9, size).tolist() for size in (5, 0, 1, 30, 0, 2, 17)]
    x, lengths = padded(sequences)
    block = NGrams(3, num_positions)
    ((buckets, rows),) = hash_ngrams(x, lengths, [block], num_buckets=50)
    expected = torch.zeros(len(sequences), 50)
    expected.index_put_((rows, buckets), torch.ones(len(rows)), accumulate=True)
    for chunk in (10**6, 20):  # in one piece and in many
        (counts,) = count_ngrams(make_rows(sequences), [block], num_buckets=50, chunk_size=chunk)
        assert counts.has_sorted_indices
        assert counts.dtype == np.float32
        np.testing.assert_array_equal(counts.toarray(), expected.numpy())


@pytest.mark.parametrize("num_positions", [0, 2])
def test_ngrams_of_words_are_those_of_rows_whose_symbols_are_the_words(num_positions: int) -> None:
    table = torch.zeros(9, 3, dtype=torch.int64)
    table[4:7] = torch.tensor([[70, 1, 1], [80, 2, 2], [90, 1, 2]])  # 7 and 8 are marks
    sequences = [[8, 5, 7, 7, 6, 4, EOS], [7, EOS], [], [4, 8, 6, 4]]
    both = 90 + 70 * 1_664_525 % (2**31 - 1)  # 6 with 4 after it, which is the word's second byte
    as_words = [[80, both], [], [], [70, both]]
    of_words, of_symbols = NGrams(3, num_positions, of_words=True), NGrams(3, num_positions)
    blocks = [of_symbols, of_words]
    plain, result = hash_ngrams(*padded(sequences), blocks, num_buckets=MANY, words=table)
    (expected,) = hash_ngrams(*padded(as_words), [of_symbols], num_buckets=MANY)
    assert all(map(torch.equal, result, expected))
    (beside,) = hash_ngrams(*padded(sequences), [of_symbols], num_buckets=MANY)
    assert all(map(torch.equal, plain, beside))
    (counts,) = count_ngrams(make_rows(sequences), [of_words], num_buckets=40, words=table)
    (as_counts,) = count_ngrams(make_rows(as_words), [of_symbols], num_buckets=40)
    np.testing.assert_array_equal(counts.toarray(), as_counts.toarray())


@pytest.mark.parametrize("num_positions", [0, 2])
def test_ngrams_are_where_their_symbols_are(num_positions: int) -> None:
    """Hashed again from the symbols there, each has the bucket that it was listed with."""
    sequence = [5, 7, 7, 6, 4, EOS]
    x, lengths = padded([sequence])
    block = NGrams(3, num_positions)
    ((want, _),) = hash_ngrams(x, lengths, [block], num_buckets=MANY)
    buckets, first, last = locate_ngrams(x[0, :6], block, num_buckets=MANY)
    assert torch.equal(buckets, want)
    for bucket, i, j in zip(*(part.tolist() for part in (buckets, first, last)), strict=True):
        gram: tuple[Any, ...] = tuple(sequence[i : j + 1])
        near = [gram, *([(BOS, *gram)] if i == 0 else [])]
        if len(gram) == 1:
            near += [("start", i, *gram), ("end", 5 - i, *gram)]
        elif len(gram) == 2:
            near.append(("pair", i, *gram))
        assert bucket in map(hash_by_hand, near)


def test_words_are_where_their_symbols_are() -> None:
    table = torch.zeros(9, 3, dtype=torch.int64)
    table[4:7] = torch.tensor([[70, 1, 1], [80, 2, 2], [90, 1, 2]])  # 7 and 8 are marks
    row = torch.tensor([8, 5, 7, 7, 6, 4, EOS])  # words: 5, and 6 with 4 after it
    block = NGrams(2, of_words=True)
    _, first, last = locate_ngrams(row, block, num_buckets=MANY, words=table)
    spans = list(zip(first.tolist(), last.tolist(), strict=True))
    assert spans == [(1, 1), (1, 1), (4, 5), (1, 5)]  # the second has BOS before it
    assert locate_ngrams(row[:1], block, num_buckets=MANY, words=table)[0].shape == (0,)


def test_blocks_do_not_depend_on_each_other() -> None:
    rows, blocks = make_rows([[5, 6, EOS], [], [7, 7, 8, EOS]]), (NGrams(2), NGrams(1, 3))
    together = count_ngrams(rows, blocks, num_buckets=50)
    for block, counts in zip(blocks, together, strict=True):
        (alone,) = count_ngrams(rows, [block], num_buckets=50)
        assert counts.shape == (3, 50)
        np.testing.assert_array_equal(counts.toarray(), alone.toarray())


def test_chunks_are_no_larger_than_wanted_but_for_single_rows() -> None:
    offsets = np.cumsum([0, 4, 4, 21, 1, 2, 5, 5])
    assert list(row_chunks(offsets, 8)) == [(0, 2), (2, 3), (3, 6), (6, 7)]
    assert list(row_chunks(offsets[:1], 8)) == []


def test_a_batch_without_symbols_has_no_ngrams() -> None:
    for x in (torch.zeros(0, 3, dtype=torch.int64), torch.zeros(2, 0, dtype=torch.int64)):
        lengths = torch.zeros(len(x), dtype=torch.int64)
        ((buckets, rows),) = hash_ngrams(x, lengths, [NGrams(3, 2)], num_buckets=8)
        assert buckets.shape == rows.shape == (0,)
        assert buckets.dtype == rows.dtype == torch.int64
    assert count_ngrams(make_rows([]), [NGrams(2)], num_buckets=8)[0].shape == (0, 8)
    assert count_ngrams(make_rows([[], []]), [NGrams(2)], num_buckets=8)[0].nnz == 0
