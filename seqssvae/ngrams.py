"""Hashed n-grams of symbol ids: a bag of them per row, in torch for a batch or as counts in scipy.

An n-gram's bucket is computed in integers below 2**62 (a polynomial modulo the prime 2**31 - 1),
so that it is the same on every platform, device and library.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seqssvae.shapes import length_mask
from seqssvae.vocabulary import BOS
from seqssvae.words import SymbolRows, Symbols, find_words

if TYPE_CHECKING:  # it takes long to import, and a batch does not need it
    from scipy.sparse import csr_matrix

__all__ = [
    "BLOCKS",
    "WORD_BLOCKS",
    "Block",
    "Reading",
    "count_blocks",
    "count_matrix",
    "hash_ngrams",
]

PRIME = 2**31 - 1
BASE = 1_103_515_245  # of the polynomial in the symbols of an n-gram
SPREAD = 1_812_433_253  # multiplies the polynomial before it is cut to a bucket
SIZE_STEP = 362_437  # tells sizes of n-grams apart
TAG_STEP = 1_000_003  # keeps neighbouring symbols at different places apart
FROM_START, FROM_END, PAIR_FROM_START = 1, 2, 3  # and kinds of symbols with a position
MAX_PAIRS = 8  # pairs of symbols with a position are counted at so many places
CHUNK = 4_000_000  # n-grams that `count_matrix` holds at once, more or less


class Reading(TypedDict):
    """What `hash_ngrams` reads of a row."""

    order: int
    num_positions: int
    words: Tensor | None


class Block(NamedTuple):
    """Features that are weighed among themselves: see `hash_ngrams` for the two numbers.

    Attributes:
        order: The longest n-grams.
        num_positions: Places from either end.
        of_words: N-grams of whole words, not of symbols.
    """

    order: int
    num_positions: int = 0
    of_words: bool = False

    def how(self, words: Tensor | None) -> "Reading":
        """The arguments of `hash_ngrams` that say what is read, given a table of words."""
        if self.of_words and words is None:
            raise ValueError("words: wanted a table for n-grams of words, got None")
        return {
            "order": self.order,
            "num_positions": self.num_positions,
            "words": words if self.of_words else None,
        }


# Apart, short n-grams are not drowned by long ones, nor either by places, and the other way round.
BLOCKS = (Block(2), Block(4), Block(1, 40))
WORD_BLOCKS = (Block(1, of_words=True), Block(2, of_words=True))


def hash_ngrams(
    x: Tensor,
    lengths: Tensor,
    *,
    order: int,
    num_buckets: int,
    num_positions: int = 0,
    words: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Buckets of the n-grams of sizes 1 to `order` in each row, BOS before the row included.

    A row of L symbols has L n-grams of size 1 and L + 2 - n of size n > 1 (those that hold BOS but
    are not BOS alone); EOS is the row's last symbol, so that a cut row has no end mark.

    Args:
        x: Symbol ids, int64 `[B, T]`; what stands after `lengths` is never read.
        lengths: Symbols of each row, `[B]`, from 0 to T.
        order: The longest n-grams.
        num_buckets: Below 2**31.
        num_positions: Adds, for as many places from either end of a row, the symbol at that place
            (EOS is place 0 from the end), and for the first 8 of them also the pair that begins
            there. 0 adds none.
        words: A table of `words.tabulate_words`, by which words are found; these then take the
            place of symbols in all that was said.

    Returns:
        The bucket of each n-gram and the row it stands in, both int64 `[M]`, on the device of x;
        rows ascend. A bucket that a row has twice is listed twice.

    Raises:
        ValueError: an order or a number of buckets below 1, or 2**31 buckets or more.
    """
    _check(order, num_buckets, num_positions)
    within = length_mask(lengths.to(x.device), x.shape[1])  # [B, T]
    row = torch.arange(x.shape[0], device=x.device).unsqueeze(1).expand_as(x)[within]
    symbols = Symbols.list(x[within], row, lengths.to(x.device))
    if words is not None:
        symbols = find_words(symbols, x.shape[0], words)
    return _hash_flat(symbols, order, num_buckets, num_positions)


def count_matrix(
    rows: SymbolRows,
    *,
    order: int,
    num_buckets: int,
    num_positions: int = 0,
    words: Tensor | None = None,
) -> "csr_matrix":
    """How often each row holds each bucket of `hash_ngrams`, for a whole corpus.

    Args:
        rows: n rows of symbols, EOS at the end unless cut; may hold empty rows.
        order: As in `hash_ngrams`, and so are the rest.
        num_buckets: F.
        num_positions: Places from either end.
        words: A table, for n-grams of words.

    Returns:
        Counts, float32 `[n, F]`, with sorted indices.

    Raises:
        ValueError: as `hash_ngrams`.
    """
    from scipy.sparse import csr_matrix, vstack

    _check(order, num_buckets, num_positions)
    offsets, num_rows = rows.offsets, len(rows.offsets) - 1
    symbols_per_chunk = CHUNK // (order + 3 * (num_positions > 0))
    blocks, first = [], 0
    while first < num_rows:
        wanted_end = offsets[first] + symbols_per_chunk
        after = max(int(np.searchsorted(offsets, wanted_end, side="right")) - 1, first + 1)
        ids = torch.from_numpy(rows.symbols[offsets[first] : offsets[after]].astype(np.int64))
        lengths = torch.from_numpy(np.diff(offsets[first : after + 1]))
        symbols = Symbols.list(ids, torch.arange(len(lengths)).repeat_interleave(lengths), lengths)
        if words is not None:
            symbols = find_words(symbols, len(lengths), words)
        buckets, in_row = _hash_flat(symbols, order, num_buckets, num_positions)
        blocks.append(_add_up(buckets.numpy(), in_row.numpy(), (after - first, num_buckets)))
        first = after
    return vstack([csr_matrix((0, num_buckets), dtype=np.float32), *blocks], format="csr")


def count_blocks(
    rows: SymbolRows,
    blocks: Sequence[Block],
    *,
    num_buckets: int,
    words: Tensor | None = None,
) -> "csr_matrix":
    """Counts of several blocks side by side, float32 `[n, len(blocks) * num_buckets]`.

    Args:
        rows: As in `count_matrix`.
        blocks: At least one.
        num_buckets: Of each block.
        words: A table of `words.tabulate_words`, which blocks of words need.

    Raises:
        ValueError: as `hash_ngrams`.
    """
    from scipy.sparse import hstack

    counts = [count_matrix(rows, num_buckets=num_buckets, **block.how(words)) for block in blocks]
    return hstack(counts, format="csr")


def _add_up(
    buckets: NDArray[np.int64], row: NDArray[np.int64], shape: tuple[int, int]
) -> "csr_matrix":
    """Counts `[n, F]` of buckets whose rows ascend."""
    from scipy.sparse import csr_matrix

    row_ends = np.searchsorted(row, np.arange(shape[0] + 1))
    counts = csr_matrix((np.ones(len(buckets), np.float32), buckets, row_ends), shape=shape)
    counts.sum_duplicates()
    return counts


def _hash_flat(
    symbols: Symbols, order: int, num_buckets: int, num_positions: int
) -> tuple[Tensor, Tensor]:
    """Buckets and their rows, both `[M]`; the rows' symbols are without BOS."""
    x, row, place, place_from_end = symbols
    ending = x + 1  # the n-gram of one size that ends at each symbol
    kinds = [(ending + SIZE_STEP, place >= 0)]
    for size in range(2, order + 1):
        # At a row's first place stands BOS before it; what is longer there is masked out.
        before = torch.where(place > 0, ending.roll(1, 0), BOS + 1)
        ending = (before * BASE + x + 1) % PRIME
        kinds.append((ending + SIZE_STEP * size, place >= size - 2))
    if num_positions:
        pair = (x.roll(1, 0) + 1) * BASE % PRIME + x
        is_early_pair = (place > 0) & (place <= min(num_positions, MAX_PAIRS))
        kinds.append((_tag(place, FROM_START) + x, place < num_positions))
        kinds.append((_tag(place_from_end, FROM_END) + x, place_from_end < num_positions))
        kinds.append((_tag(place, PAIR_FROM_START) + pair, is_early_pair))
    hashes = torch.stack([hashed for hashed, _ in kinds], 1)  # [M, number of kinds]
    is_there = torch.stack([there for _, there in kinds], 1)
    hashes = hashes[is_there] % PRIME
    return hashes * SPREAD % PRIME % num_buckets, row.unsqueeze(1).expand_as(is_there)[is_there]


def _tag(place: Tensor, kind: int) -> Tensor:
    """A hash of a place, to which a symbol's is added."""
    return (place * 4 + kind) * BASE % PRIME * TAG_STEP


def _check(order: int, num_buckets: int, num_positions: int) -> None:
    if order < 1:
        raise ValueError(f"order: wanted at least 1, got {order}")
    if not 1 <= num_buckets < 2**31:
        raise ValueError(f"num_buckets: wanted 1 to 2**31 - 1, got {num_buckets}")
    if num_positions < 0:
        raise ValueError(f"num_positions: wanted 0 or more, got {num_positions}")
