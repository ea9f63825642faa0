"""Class-conditional n-gram models, fitted by EM with leave-one-out scores.

A row's score for a class is the sum over its symbols of log r_k(x | context, y), for n-grams of at
most k symbols, with counts c of the class, q from the counts of all rows and pseudo-counts a:

    r_k = (c(context, x, y) / q_k(x | context) + a_k (1 - share + share r_{k-1}))
          / (c(context, y) + a_k),          r_0 = 1

It is p_k(x | context, y) / q_k(x | context) of a model interpolated with q_k (1 - share + share
r_{k-1}). That prior need not sum to 1 over x, so the result is a classifier's score and not a log
density: normalisation would cancel the ratio of shorter n-grams wherever a context is rare.

In EM a row's own counts are left out of its score: with them, a model would confirm its first
posterior of the row for ever.
"""

import dataclasses
import itertools
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from seqssvae.data.encoded import EncodedRows
from seqssvae.nn.ngrams import row_chunks
from seqssvae.teacher.partial import EMWeights, Known
from seqssvae.teacher.sparse import Product, sum_rows

Float32 = NDArray[np.float32]
Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]

BACKGROUND = (1.0, 4.0)  # pseudo-counts of q: of its first level, of the others
ALL = slice(None)
MOST_NEEDED = 0.7  # of the rows of a chunk; with more, the scores of all are computed
MORE_OWN = 1 + 2**-20  # so that rounding leaves none of an n-gram of one row, divided by a tiny q
LAST_POSITION = 64  # this position and all later ones are one context


@dataclasses.dataclass(frozen=True)
class Level:
    """The n-grams of one size among the M symbols of a corpus; G of them differ, in C contexts.

    Attributes:
        keys: Context times V plus symbol, ascending, `[G]`.
        ngram: The n-gram that ends at each symbol, `[M]`.
        own_ngrams: Count of the n-gram in the symbol's row, `[M]`.
        num_ngrams: Count of each n-gram in all rows, `[G]`.
        num_contexts: Count of each context in all rows, `[C]`.
        background: q(symbol | context) without the symbol's row, `[M]`.
        count: Counts n-grams, `[G, K]`, from weights of the rows, `[N, K]`.
        context_ends: First n-gram of each context, and the end of the last one, `[C + 1]`.
        without_own: For n-grams and for contexts: two rows of a table of counts and below it of
            the weights of the corpus's rows, `[M, 2]`, and their factors, `[M, 2]`, whose sum is
            the count without the symbol's row. That of n-grams is divided by `background`.
    """

    keys: Int64
    ngram: Int64
    own_ngrams: Float32
    num_ngrams: Float32
    num_contexts: Float32
    background: Float32
    count: Product
    context_ends: Int64
    without_own: tuple[tuple[Int32, Float32], tuple[Int32, Float32]]


class NGramIndex:
    """The n-grams of a corpus, shared by all models of it.

    Args:
        rows: The corpus; each row has at least one symbol.
        vocabulary_size: V; symbols are below it.
        order: Size of the longest n-grams, context included; 1 if `by_position`.
        by_position: The context of a symbol is its position in the row, not the symbols before it.
    """

    def __init__(
        self, rows: EncodedRows, *, vocabulary_size: int, order: int, by_position: bool = False
    ) -> None:
        self.vocabulary_size = vocabulary_size
        self.by_position = by_position
        self.offsets = rows.offsets
        self.lengths = np.diff(self.offsets)
        self.num_rows = len(self.lengths)
        self.row = np.repeat(np.arange(self.num_rows), self.lengths)
        self.levels: list[Level] = []
        symbols = rows.symbols.astype(np.int64)
        position = np.arange(len(symbols)) - self.offsets[self.row]
        for size in range(1, order + 1):
            self.levels.append(self._index(symbols, position, size))

    def _index(self, symbols: Int64, position: Int64, size: int) -> Level:
        if size > 1:  # the context is the shorter n-gram before; 0 at a row's start
            before = self.levels[-1]
            context = np.where(position > 0, np.roll(before.ngram, 1) + 1, 0)
            own_contexts = np.where(position > 0, np.roll(before.own_ngrams, 1), np.float32(1))
            background = before.background
        else:
            context = np.minimum(position, LAST_POSITION) * self.by_position
            own_contexts = self.lengths[self.row].astype(np.float32)
            if self.by_position:
                own_contexts = np.where(
                    position < LAST_POSITION,
                    np.float32(1),
                    np.maximum(own_contexts - LAST_POSITION, 1),
                )
            background = np.full(len(symbols), 1 / self.vocabulary_size, np.float32)
        keys, ngram = np.unique(context * self.vocabulary_size + symbols, return_inverse=True)
        num_keys, num_contexts = len(keys), np.bincount(context).astype(np.float32)
        own_keys, own, own_counts = np.unique(
            self.row * num_keys + ngram, return_inverse=True, return_counts=True
        )
        own_counts = own_counts.astype(np.float32)
        own_ngrams, own_contexts = own_counts[own], own_contexts.astype(np.float32)
        ends = np.searchsorted(own_keys, num_keys * np.arange(self.num_rows + 1))
        of_rows = csr_matrix((own_counts, own_keys % num_keys, ends), (self.num_rows, num_keys))
        num_ngrams = np.bincount(ngram, minlength=num_keys).astype(np.float32)
        a = np.float32(BACKGROUND[min(size, 2) - 1])
        seen, total = num_ngrams[ngram] - own_ngrams, num_contexts[context] - own_contexts
        background = (seen + a * background) / (total + a)
        return Level(
            keys=keys,
            ngram=ngram,
            own_ngrams=own_ngrams,
            num_ngrams=num_ngrams,
            num_contexts=num_contexts,
            background=background,
            count=Product(of_rows.T.tocsr()),
            context_ends=np.searchsorted(
                keys, self.vocabulary_size * np.arange(len(num_contexts) + 1)
            ),
            without_own=(
                self._pairs(ngram, num_keys, 1 / background, -MORE_OWN * own_ngrams / background),
                self._pairs(context, len(num_contexts), np.ones_like(background), -own_contexts),
            ),
        )

    def _pairs(
        self, number: Int64, size: int, factor: Float32, own: Float32
    ) -> tuple[Int32, Float32]:
        """Of each symbol the entry `number` of a table of `size`, and the row below it."""
        columns = np.stack((number, size + self.row), 1).astype(np.int32)
        return columns, np.stack((factor, own), 1)

    def look_up(self, rows: EncodedRows) -> Iterator[tuple[Int64, Int64, Float32]]:
        """For other rows, level by level: n-gram, context (-1 if unseen) and q, `[M]` each."""
        symbols, offsets = rows.symbols.astype(np.int64), rows.offsets
        position = np.arange(len(symbols)) - np.repeat(offsets[:-1], np.diff(offsets))
        ngram = np.zeros(len(symbols), np.int64)
        background = np.full(len(symbols), 1 / self.vocabulary_size, np.float32)
        for number, level in enumerate(self.levels):
            if number:
                context = np.where(position > 0, np.roll(ngram, 1), -1) + 1
                context = np.where((position > 0) & (context == 0), -1, context)
            else:
                context = np.minimum(position, LAST_POSITION) * self.by_position
            context = np.where(context < len(level.num_contexts), context, -1)
            key = context * self.vocabulary_size + symbols
            ngram = np.minimum(np.searchsorted(level.keys, key), len(level.keys) - 1)
            ngram = np.where((context >= 0) & (level.keys[ngram] == key), ngram, -1)
            a = np.float32(BACKGROUND[min(number, 1)])
            seen = np.where(ngram >= 0, level.num_ngrams[ngram], np.float32(0))
            total = np.where(context >= 0, level.num_contexts[context], np.float32(0))
            background = (seen + a * background) / (total + a)
            yield ngram, context, background


class ClassNGrams:
    """A class-conditional n-gram model fitted to a corpus.

    Args:
        index: The corpus, N rows.
        order: Size of the longest n-grams, at most the levels of `index`.
        pseudo_counts: a_1 of the first level, and a_k of the others.
        share: Share of the shorter n-grams in the prior, 0 to 1.
        chunk_size: About how many numbers one step of the arithmetic holds, to fit in the cache.
    """

    def __init__(
        self,
        index: NGramIndex,
        *,
        order: int,
        pseudo_counts: tuple[float, float],
        share: float,
        chunk_size: int = 2**17,
    ) -> None:
        self.index, self.chunk_size = index, chunk_size
        self.levels = index.levels[:order]
        self.pseudo_counts = pseudo_counts
        self.share = np.float32(share)
        self.num_ngrams: list[Float32] = []
        self.num_contexts: list[Float32] = []

    def fit(
        self,
        evidence: Known,
        *,
        unlabelled_weight: float,
        num_steps: int,
        scored: Int64 | slice = ALL,
        tol: float = 0.002,
    ) -> Float32:
        """EM in which rows keep their labels, or one of their possible labels.

        Args:
            evidence: What is known of the classes, `[N, K]`; see `partial`.
            unlabelled_weight: Weight of a row without a label; with 0 such rows are not used.
            num_steps: Maximum number of steps of EM.
            scored: Rows whose scores are wanted, `[n]`.
            tol: EM ends when posteriors change by less, in mean total variation.

        Returns:
            Leave-one-out scores of these rows, in nats, `[n, K]`.
        """
        em = EMWeights(evidence, unlabelled_weight)
        weights = em.first.astype(np.float32)
        is_needed = np.zeros(len(weights), np.bool_)
        is_needed[em.open if num_steps else []] = is_needed[scored] = True
        self.count(weights)
        scores = self.leave_one_out(weights, is_needed)
        for _ in range(num_steps if len(em.open) else 0):
            after = em.expect(scores[em.open])
            change = np.abs(after - weights[em.open]).sum() / 2
            if change <= tol * em.total:
                break
            weights[em.open] = after
            self.count(weights)
            scores = self.leave_one_out(weights, is_needed)
        return scores[scored]

    def count(self, weights: Float32) -> None:
        """Count n-grams in rows with weights `[N, K]`."""
        self.num_ngrams, self.num_contexts = [], []
        for level in self.levels:
            ngrams = level.count(weights)
            self.num_ngrams.append(ngrams)
            numbers = np.arange(len(ngrams), dtype=np.int32)
            self.num_contexts.append(sum_rows(ngrams, numbers, level.context_ends))

    def leave_one_out(self, weights: Float32, is_needed: NDArray[np.bool_]) -> Float32:
        """Scores `[N, K]` of counted rows, each without its own counts.

        Args:
            weights: The weights with which `count` counted them, `[N, K]`.
            is_needed: Of which rows, `[N]`; the others' scores are of no use.
        """
        index = self.index
        result = np.zeros((index.num_rows, weights.shape[1]), np.float32)
        tables = [
            [np.concatenate((counts, weights)) for counts in of_level]
            for of_level in zip(self.num_ngrams, self.num_contexts, strict=True)
        ]
        for first, last in row_chunks(index.offsets, self.chunk_size // weights.shape[1]):
            needed = is_needed[first:last]
            if not needed.any():
                continue
            if needed.mean() > MOST_NEEDED:
                needed = np.ones_like(needed)
            symbols = slice(index.offsets[first], index.offsets[last])
            lengths = index.lengths[first:last]
            chosen = slice(None) if needed.all() else np.repeat(needed, lengths)
            ratio: Float32 | None = None
            for number, (of_level, level) in enumerate(zip(tables, self.levels, strict=True)):
                ngrams, contexts = (
                    _sum_pairs(table, columns[symbols][chosen], factors[symbols][chosen])
                    for table, (columns, factors) in zip(of_level, level.without_own, strict=True)
                )
                ratio = self._ratio(number, ngrams, contexts, ratio)
            assert ratio is not None
            result[first:last][needed] = _sum_logs(ratio, lengths[needed])
        return result

    def score(self, rows: EncodedRows) -> Float32:
        """Scores `[n, K]` of other rows, each with at least one symbol."""
        ratio: Float32 | None = None
        levels = itertools.islice(self.index.look_up(rows), len(self.levels))
        for number, (ngram, context, background) in enumerate(levels):
            ngrams = self.num_ngrams[number].take(ngram, 0)
            ngrams *= ((ngram >= 0) / background)[:, None]
            contexts = self.num_contexts[number].take(context, 0) * (context >= 0)[:, None]
            ratio = self._ratio(number, ngrams, contexts, ratio)
        assert ratio is not None
        return _sum_logs(ratio, np.diff(rows.offsets))

    def _ratio(
        self, number: int, ngrams: Float32, contexts: Float32, shorter: Float32 | None
    ) -> Float32:
        """r_k `[M, K]` from counts, those of n-grams divided by q, and r_{k-1}; all overwritten."""
        a = np.float32(self.pseudo_counts[min(number, 1)])
        # rounding may leave a little less than 0
        np.maximum(ngrams, 0, out=ngrams)
        np.maximum(contexts, 0, out=contexts)
        contexts += a
        if shorter is None:
            ngrams += a
        else:
            shorter *= a * self.share
            ngrams += shorter
            if self.share < 1:
                ngrams += a * (1 - self.share)
        ngrams /= contexts
        return ngrams


def _sum_pairs(table: Float32, columns: Int32, factors: Float32) -> Float32:
    """Weighted sums `[M, K]` of two rows of a table each: `columns` and `factors` are `[M, 2]`."""
    ends = np.arange(0, columns.size + 1, 2, dtype=np.int32)
    return sum_rows(table, columns.ravel(), ends, factors.ravel())


def _sum_logs(ratio: Float32, lengths: Int64) -> Float32:
    """Sums of the logs of the symbols' ratios `[M, K]` over each row, `[n, K]`."""
    numbers = np.arange(len(ratio), dtype=np.int32)
    return sum_rows(np.log(ratio, out=ratio), numbers, np.cumsum([0, *lengths]))
