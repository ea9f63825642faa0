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

from seqssvae.data.encoded import EncodedRows
from seqssvae.nn.ngrams import row_chunks
from seqssvae.teacher.partial import EMWeights

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]

BACKGROUND = (1.0, 4.0)  # pseudo-counts of q: of its first level, of the others
LAST_POSITION = 64  # this position and all later ones are one context


@dataclasses.dataclass(frozen=True)
class Level:
    """The n-grams of one size among the M symbols of a corpus; G of them differ, in C contexts.

    Attributes:
        keys: Context times V plus symbol, ascending, `[G]`.
        ngram: The n-gram that ends at each symbol, `[M]`.
        context: The context of each symbol, `[M]`, below C.
        own_ngrams: Count of the n-gram in the symbol's row, `[M]`.
        own_contexts: Count of the context in the symbol's row, `[M]`.
        ngram_context: The context of each n-gram, `[G]`.
        num_ngrams: Count of each n-gram in all rows, `[G]`.
        num_contexts: Count of each context in all rows, `[C]`.
        background: q(symbol | context) without the symbol's row, `[M]`.
    """

    keys: Int64
    ngram: Int64
    context: Int64
    own_ngrams: Float32
    own_contexts: Float32
    ngram_context: Int64
    num_ngrams: Float32
    num_contexts: Float32
    background: Float32


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
        own_keys = self.row * len(keys) + ngram
        _, own, own_counts = np.unique(own_keys, return_inverse=True, return_counts=True)
        own_ngrams = own_counts.astype(np.float32)[own]
        num_ngrams = np.bincount(ngram, minlength=len(keys)).astype(np.float32)
        num_contexts = np.bincount(context).astype(np.float32)
        a = np.float32(BACKGROUND[min(size, 2) - 1])
        seen, total = num_ngrams[ngram] - own_ngrams, num_contexts[context] - own_contexts
        return Level(
            keys=keys,
            ngram=ngram,
            context=context,
            own_ngrams=own_ngrams,
            own_contexts=own_contexts.astype(np.float32),
            ngram_context=keys // self.vocabulary_size,
            num_ngrams=num_ngrams,
            num_contexts=num_contexts,
            background=(seen + a * background) / (total + a),
        )

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
        possible: NDArray[np.bool_],
        *,
        unlabelled_weight: float,
        num_steps: int,
        tol: float = 0.002,
    ) -> Float32:
        """EM in which rows keep their labels, or one of their possible labels.

        Args:
            possible: Which classes each row may have, `[N, K]`; see `partial`.
            unlabelled_weight: Weight of a row without a label; with 0 such rows are not used.
            num_steps: Maximum number of steps of EM.
            tol: EM ends when posteriors change by less, in mean total variation.

        Returns:
            Leave-one-out scores of all rows, in nats, `[N, K]`.
        """
        em = EMWeights(possible, unlabelled_weight)
        weights = np.ascontiguousarray(em.first.T, np.float32)
        self.count(weights)
        scores = self.leave_one_out(weights)
        for _ in range(num_steps if len(em.open) else 0):
            before = weights[:, em.open]
            after = em.expect(scores[em.open]).T
            weights[:, em.open] = after
            change = np.abs(after - before).sum() / 2
            if change <= tol * em.total:
                break
            self.count(weights)
            scores = self.leave_one_out(weights)
        return scores

    def count(self, weights: Float32) -> None:
        """Count n-grams in rows with weights `[K, N]`."""
        self.num_ngrams, self.num_contexts = [], []
        for level in self.levels:
            ngrams = np.stack(
                [np.bincount(level.ngram, of_class[self.index.row]) for of_class in weights]
            )
            size = len(level.num_contexts)
            contexts = [np.bincount(level.ngram_context, of_class, size) for of_class in ngrams]
            self.num_ngrams.append(ngrams.astype(np.float32))
            self.num_contexts.append(np.stack(contexts).astype(np.float32))

    def leave_one_out(self, weights: Float32) -> Float32:
        """Scores `[N, K]` of the counted rows, each without its own counts.

        Args:
            weights: The weights with which `count` counted them, `[K, N]`.
        """
        index = self.index
        result = np.empty((index.num_rows, len(weights)), np.float32)
        for first, last in row_chunks(index.offsets, self.chunk_size // len(weights)):
            begin, end = index.offsets[first], index.offsets[last]
            weight = weights[:, index.row[begin:end]]
            ratio: Float32 | None = None
            for number, level in enumerate(self.levels):
                # rounding may leave a little less than 0
                ngrams = self.num_ngrams[number].take(level.ngram[begin:end], 1)
                ngrams -= level.own_ngrams[begin:end] * weight
                np.maximum(ngrams, 0, out=ngrams)
                contexts = self.num_contexts[number].take(level.context[begin:end], 1)
                contexts -= level.own_contexts[begin:end] * weight
                np.maximum(contexts, 0, out=contexts)
                ratio = self._ratio(number, ngrams, contexts, level.background[begin:end], ratio)
            assert ratio is not None
            sums = np.add.reduceat(np.log(ratio), index.offsets[first:last] - begin, axis=1)
            result[first:last] = sums.T
        return result

    def score(self, rows: EncodedRows) -> Float32:
        """Scores `[n, K]` of other rows, each with at least one symbol."""
        ratio: Float32 | None = None
        levels = itertools.islice(self.index.look_up(rows), len(self.levels))
        for number, (ngram, context, background) in enumerate(levels):
            ngrams = self.num_ngrams[number].take(ngram, 1) * (ngram >= 0)
            contexts = self.num_contexts[number].take(context, 1) * (context >= 0)
            ratio = self._ratio(number, ngrams, contexts, background, ratio)
        assert ratio is not None
        result: Float32 = np.add.reduceat(np.log(ratio), rows.offsets[:-1], axis=1).T
        return result

    def _ratio(
        self,
        number: int,
        ngrams: Float32,
        contexts: Float32,
        background: Float32,
        shorter: Float32 | None,
    ) -> Float32:
        """r_k from counts `[K, M]`, q `[M]` and r_{k-1}; overwrites its arguments."""
        a = np.float32(self.pseudo_counts[min(number, 1)])
        ngrams /= background
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
