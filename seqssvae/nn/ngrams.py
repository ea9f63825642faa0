"""Hashed n-grams of symbol ids: a bag of them per row, in torch for a batch or as counts in scipy.

An n-gram's bucket is computed in integers below 2**62 (a polynomial modulo the prime 2**31 - 1),
so that it is the same on every platform, device and library.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seqssvae.data.vocabulary import BOS
from seqssvae.nn.words import SymbolRows, Symbols, find_words
from seqssvae.shapes import length_mask

if TYPE_CHECKING:  # it takes long to import, and a batch does not need it
    from scipy.sparse import csr_matrix

__all__ = ["BLOCKS", "WORD_BLOCKS", "Block", "count_blocks", "hash_blocks"]

PRIME = 2**31 - 1
BASE = 1_103_515_245  # of the polynomial in the symbols of an n-gram
SPREAD = 1_812_433_253  # multiplies the polynomial before it is cut to a bucket
SIZE_STEP = 362_437  # tells sizes of n-grams apart
TAG_STEP = 1_000_003  # keeps neighbouring symbols at different places apart
FROM_START, FROM_END, PAIR_FROM_START = 1, 2, 3  # and kinds of symbols with a position
MAX_PAIRS = 8  # pairs of symbols with a position are counted at so many places
CHUNK = 4_000_000  # n-grams of a block that `count_blocks` holds at once, more or less


class Block(NamedTuple):
    """Features that are weighed among themselves.

    Of a row of L symbols they are its n-grams of sizes 1 to `order`, BOS before the row included: L
    of size 1 and L + 2 - n of size n > 1 (those that hold BOS but are not BOS alone). EOS is the
    row's last symbol, so that a cut row has no end mark.

    Attributes:
        order: The longest n-grams.
        num_positions: Adds, for as many places from either end of a row, the symbol at that place
            (EOS is place 0 from the end), and for the first 8 of them also the pair that begins
            there. 0 adds none.
        of_words: Whether whole words take the place of symbols in all that was said.
    """

    order: int
    num_positions: int = 0
    of_words: bool = False


# Apart, short n-grams are not drowned by long ones, nor either by places, and the other way round.
BLOCKS = (Block(2), Block(4), Block(1, 40))
WORD_BLOCKS = (Block(1, of_words=True), Block(2, of_words=True))


def hash_blocks(
    x: Tensor,
    lengths: Tensor,
    blocks: Sequence[Block],
    *,
    num_buckets: int,
    words: Tensor | None = None,
) -> list[tuple[Tensor, Tensor]]:
    """Buckets of the n-grams of each row of a batch, for each block.

    Args:
        x: Symbol ids, int64 `[B, T]`; what stands after `lengths` is never read.
        lengths: Symbols of each row, `[B]`, from 0 to T.
        blocks: What is read.
        num_buckets: Below 2**31.
        words: A table of `words.tabulate_words`, which blocks of words need.

    Returns:
        For each block the bucket of each n-gram and the row it stands in, both int64 `[M]`, on the
        device of x; rows ascend. A bucket that a row has twice is listed twice.

    Raises:
        ValueError: an order or a number of buckets below 1, 2**31 buckets or more, or no table.
    """
    _check(blocks, num_buckets, words)
    within = length_mask(lengths.to(x.device), x.shape[1])  # [B, T]
    row = torch.arange(x.shape[0], device=x.device).unsqueeze(1).expand_as(x)[within]
    symbols = Symbols.list(x[within], row, lengths.to(x.device))
    return list(_hash_each(symbols, x.shape[0], blocks, num_buckets, words))


def count_blocks(
    rows: SymbolRows,
    blocks: Sequence[Block],
    *,
    num_buckets: int,
    words: Tensor | None = None,
) -> "csr_matrix":
    """How often each row of a corpus holds each bucket, the blocks side by side.

    Args:
        rows: n rows of symbols, EOS at the end unless cut; may hold empty rows.
        blocks: At least one.
        num_buckets: Of each block.
        words: As in `hash_blocks`.

    Returns:
        Counts, float32 `[n, len(blocks) * num_buckets]`, with sorted indices.

    Raises:
        ValueError: as `hash_blocks`.
    """
    from scipy.sparse import csr_matrix, hstack, vstack

    _check(blocks, num_buckets, words)
    offsets, num_rows = rows.offsets, len(rows.offsets) - 1
    per_symbol = max(block.order + 3 * (block.num_positions > 0) for block in blocks)
    parts = [csr_matrix((0, num_buckets * len(blocks)), dtype=np.float32)]
    first = 0
    while first < num_rows:
        wanted_end = offsets[first] + CHUNK // per_symbol
        after = max(int(np.searchsorted(offsets, wanted_end, side="right")) - 1, first + 1)
        ids = torch.from_numpy(rows.symbols[offsets[first] : offsets[after]].astype(np.int64))
        lengths = torch.from_numpy(np.diff(offsets[first : after + 1]))
        symbols = Symbols.list(ids, torch.arange(len(lengths)).repeat_interleave(lengths), lengths)
        found = _hash_each(symbols, len(lengths), blocks, num_buckets, words)
        shape = (after - first, num_buckets)
        counts = [_add_up(buckets.numpy(), in_row.numpy(), shape) for buckets, in_row in found]
        parts.append(hstack(counts, format="csr"))
        first = after
    return vstack(parts, format="csr")


def _hash_each(
    symbols: Symbols, num_rows: int, blocks: Sequence[Block], num_buckets: int, words: Tensor | None
) -> Iterator[tuple[Tensor, Tensor]]:
    """The buckets and their rows, both `[M]`, of one block after the other."""
    read = {False: symbols}
    if words is not None and any(block.of_words for block in blocks):
        read[True] = find_words(symbols, num_rows, words)
    for block in blocks:
        yield _hash_flat(read[block.of_words], block.order, num_buckets, block.num_positions)


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


def _check(blocks: Sequence[Block], num_buckets: int, words: Tensor | None) -> None:
    if not 1 <= num_buckets < 2**31:
        raise ValueError(f"num_buckets: wanted 1 to 2**31 - 1, got {num_buckets}")
    for block in blocks:
        if block.order < 1:
            raise ValueError(f"order: wanted at least 1, got {block.order}")
        if block.num_positions < 0:
            raise ValueError(f"num_positions: wanted 0 or more, got {block.num_positions}")
        if block.of_words and words is None:
            raise ValueError("words: wanted a table for n-grams of words, got None")
