"""Hashed n-grams of symbol ids: the buckets of a batch in torch, the counts of a corpus in scipy.

An n-gram's bucket is computed in integers below 2**62 (a polynomial modulo the prime 2**31 - 1),
so that it is the same on every platform, device and library.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seqssvae.data.encoded import EncodedRows
from seqssvae.data.vocabulary import BOS
from seqssvae.nn.words import Symbols, find_words, word_spans
from seqssvae.shapes import length_mask

if TYPE_CHECKING:  # slow to import, and not needed for a batch
    from scipy.sparse import csr_matrix

PRIME = 2**31 - 1
BASE = 1_103_515_245  # of the polynomial in the symbols of an n-gram
SPREAD = 1_812_433_253  # multiplies the polynomial before it is reduced to a bucket
SIZE_STEP = 362_437  # separates n-grams of different sizes
TAG_STEP = 1_000_003  # separates neighbouring symbols at different positions
FROM_START, FROM_END, PAIR_FROM_START = 1, 2, 3  # kinds of features with a position
MAX_PAIRS = 8  # positions at which pairs of symbols are counted


class NGrams(NamedTuple):
    """A block of features, normalised apart from other blocks.

    Of a row of L symbols they are its n-grams of sizes 1 to `order`, BOS before the row included: L
    of size 1 and L + 2 - n of size n > 1 (those with BOS, but not BOS alone). EOS is the row's last
    symbol, so that a truncated row has no end mark.

    Attributes:
        order: Size of the longest n-grams.
        num_positions: For this many positions from either end, adds the symbol at that position
            (EOS has position 0 from the end); for the first 8 from the start, also the pair of
            symbols there. 0 adds none.
        of_words: Use whole words in place of symbols.
    """

    order: int
    num_positions: int = 0
    of_words: bool = False


# In separate blocks, so that long n-grams, short ones and positions get the same norm.
SYMBOL_NGRAMS = (NGrams(2), NGrams(4), NGrams(1, 40))
WORD_NGRAMS = (NGrams(1, of_words=True), NGrams(2, of_words=True))


def hash_ngrams(
    x: Tensor,
    lengths: Tensor,
    blocks: Sequence[NGrams],
    *,
    num_buckets: int,
    words: Tensor | None = None,
) -> list[tuple[Tensor, Tensor]]:
    """Buckets of the n-grams of each row of a batch, for each block.

    Args:
        x: Symbol ids, int64 `[B, T]`; anything after `lengths` is ignored.
        lengths: Symbols of each row, `[B]`, from 0 to T.
        blocks: Kinds of n-grams.
        num_buckets: Number of buckets, below 2**31.
        words: Table of `words.tabulate_words`, needed for blocks of words.

    Returns:
        For each block the bucket of each n-gram and its row, both int64 `[M]`, on the device of x;
        rows ascend. A bucket that occurs twice in a row is listed twice.
    """
    within = length_mask(lengths.to(x.device), x.shape[1])  # [B, T]
    row = torch.arange(x.shape[0], device=x.device).unsqueeze(1).expand_as(x)[within]
    symbols = Symbols.from_rows(x[within], row, lengths.to(x.device))
    return list(_hash_blocks(symbols, x.shape[0], blocks, num_buckets, words))


def count_ngrams(
    rows: EncodedRows,
    blocks: Sequence[NGrams],
    *,
    num_buckets: int,
    words: Tensor | None = None,
    chunk_size: int = 4_000_000,
) -> list["csr_matrix"]:
    """Number of occurrences of each bucket in each row of a corpus, for each block.

    Args:
        rows: n rows; empty ones are allowed.
        blocks: Kinds of n-grams, at least one.
        num_buckets: Number of buckets of each block.
        words: As in `hash_ngrams`.
        chunk_size: About how many n-grams of a block are hashed at once.

    Returns:
        Counts of each block, float32 `[n, num_buckets]`, with sorted indices.
    """
    from scipy.sparse import csr_matrix, vstack

    all_symbols, offsets = rows.symbols, rows.offsets
    per_symbol = max(block.order + 3 * (block.num_positions > 0) for block in blocks)
    counts = [[csr_matrix((0, num_buckets), dtype=np.float32)] for _ in blocks]
    for first, last in row_chunks(offsets, chunk_size // per_symbol):
        ids = torch.from_numpy(all_symbols[offsets[first] : offsets[last]].astype(np.int64))
        lengths = torch.from_numpy(np.diff(offsets[first : last + 1]))
        symbols = Symbols.from_rows(
            ids, torch.arange(len(lengths)).repeat_interleave(lengths), lengths
        )
        hashed = _hash_blocks(symbols, len(lengths), blocks, num_buckets, words)
        for of_block, (buckets, row) in zip(counts, hashed, strict=True):
            ends = np.searchsorted(row.numpy(), np.arange(len(lengths) + 1))
            ones = np.ones(len(buckets), np.float32)
            chunk = csr_matrix((ones, buckets.numpy(), ends), shape=(len(lengths), num_buckets))
            chunk.sum_duplicates()
            of_block.append(chunk)
    return [vstack(of_block, format="csr") for of_block in counts]


def row_chunks(offsets: NDArray[np.int64], size: int) -> Iterator[tuple[int, int]]:
    """Cuts rows into runs, from `first` up to but not including `last`, of at most `size` symbols.

    A single row may have more.

    Args:
        offsets: Start of each row, and the end of the last one, `[n + 1]`.
        size: Number of symbols.
    """
    first = 0
    while first < len(offsets) - 1:
        last = int(np.searchsorted(offsets, offsets[first] + size, side="right")) - 1
        last = max(last, first + 1)
        yield first, last
        first = last


def locate_ngrams(
    x: Tensor, block: NGrams, *, num_buckets: int, words: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """The n-grams of one row that `hash_ngrams` hashes: where each one is.

    Args:
        x: Symbol ids, `[T]`.
        block: Kind of n-grams.
        num_buckets: As in `hash_ngrams`.
        words: As in `hash_ngrams`.

    Returns:
        Bucket, and first and last symbol of the row in it, of each n-gram, `[M]` each.
    """
    symbols = Symbols.from_rows(x, torch.zeros_like(x), torch.full_like(x[:1], len(x)))
    first = last = torch.arange(len(x), device=x.device)
    if block.of_words and words is not None:
        first, last = word_spans(symbols, words)
        symbols = find_words(symbols, 1, words)
    hashes, exists = _hash_kinds(symbols, block.order, block.num_positions)
    end, kind = exists.nonzero().unbind(1)
    sizes = x.new_tensor([*range(1, block.order + 1), 1, 1, 2])  # of the kinds in turn
    start = (end - sizes[kind] + 1).clamp(min=0)  # BOS is no symbol of the row
    return _to_buckets(hashes[exists], num_buckets), first[start], last[end]


def _hash_blocks(
    symbols: Symbols,
    num_rows: int,
    blocks: Sequence[NGrams],
    num_buckets: int,
    words: Tensor | None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """The buckets and their rows, both `[M]`, of each block in turn."""
    by_unit = {False: symbols}
    if words is not None and any(block.of_words for block in blocks):
        by_unit[True] = find_words(symbols, num_rows, words)
    for block in blocks:
        yield _hash_block(by_unit[block.of_words], block.order, num_buckets, block.num_positions)


def _hash_block(
    symbols: Symbols, order: int, num_buckets: int, num_positions: int
) -> tuple[Tensor, Tensor]:
    """Buckets and their rows, both `[M]`; the rows' symbols are without BOS."""
    hashes, exists = _hash_kinds(symbols, order, num_positions)
    row = symbols.row.unsqueeze(1).expand_as(exists)[exists]
    return _to_buckets(hashes[exists], num_buckets), row


def _hash_kinds(symbols: Symbols, order: int, num_positions: int) -> tuple[Tensor, Tensor]:
    """Hash of the n-gram of each kind that ends at each symbol, and whether there is one, `[M, _]`.

    Kinds are the sizes, then the symbol from the start and from the end, and the pair.
    """
    x, _, position, position_from_end = symbols
    ngram = x + 1  # the n-gram of one size that ends at each symbol
    kinds = [(ngram + SIZE_STEP, position >= 0)]
    for size in range(2, order + 1):
        # BOS precedes a row's first symbol; n-grams that would start before it are masked
        before = torch.where(position > 0, ngram.roll(1, 0), BOS + 1)
        ngram = (before * BASE + x + 1) % PRIME
        kinds.append((ngram + SIZE_STEP * size, position >= size - 2))
    if num_positions:
        pair = (x.roll(1, 0) + 1) * BASE % PRIME + x
        is_early_pair = (position > 0) & (position <= min(num_positions, MAX_PAIRS))
        kinds.append((_tag(position, FROM_START) + x, position < num_positions))
        kinds.append((_tag(position_from_end, FROM_END) + x, position_from_end < num_positions))
        kinds.append((_tag(position, PAIR_FROM_START) + pair, is_early_pair))
    hashes = torch.stack([hashed for hashed, _ in kinds], 1)  # [M, number of kinds]
    exists = torch.stack([mask for _, mask in kinds], 1)
    return hashes, exists


def _to_buckets(hashes: Tensor, num_buckets: int) -> Tensor:
    return hashes % PRIME * SPREAD % PRIME % num_buckets


def _tag(position: Tensor, kind: int) -> Tensor:
    """A hash of a position, to which a symbol's is added."""
    return (position * 4 + kind) * BASE % PRIME * TAG_STEP
