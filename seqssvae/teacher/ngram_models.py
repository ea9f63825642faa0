"""Class-conditional n-gram models fitted by EM in which no row is scored with its own counts.

A row's evidence for a class is the product over its symbols of r_k(x | context, y), for n-grams of
at most k symbols, with counts c of the class, counts of all rows in q and pseudo-counts a:

    r_k = (c(context, x, y) / q_k(x | context) + a_k (1 - share + share r_{k-1}))
          / (c(context, y) + a_k),          r_0 = 1

It is p_k(x | context, y) / q_k(x | context) of a model interpolated with q_k (1 - share + share
r_{k-1}). That prior need not sum to 1 over x, so that the evidence is a classifier's score and no
density: the sum would take back what shorter n-grams say wherever a context is rare.

A model that scores a row with counts the row itself has given confirms its first guess for ever, so
that EM over n-gram models goes wrong without the leaving out.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from seqssvae.nn.words import SymbolRows

__all__ = ["ClassNGrams", "GramIndex", "softmax"]

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]

BACKGROUND = (1.0, 4.0)  # pseudo-counts of q: of its first level, of the others
SETTLED = 0.002  # EM ends when guesses move by less, in the mean total variation
LAST_PLACE = 64  # places from here on are one context
CHUNK = 2**17  # numbers that one step of the arithmetic holds: they stay in the cache


@dataclasses.dataclass(frozen=True)
class Level:
    """The n-grams of one size among the M symbols of a corpus; G of them differ, in C contexts.

    Attributes:
        keys: Context times V plus symbol, ascending, `[G]`.
        gram: The n-gram that ends at each symbol, `[M]`.
        context: The one before the symbol, `[M]`, below C.
        own_grams: How often the symbol's row has the n-gram, `[M]`.
        own_contexts: How often it has the context, `[M]`.
        gram_context: The context of each n-gram, `[G]`.
        num_grams: Of all rows, `[G]`.
        num_contexts: Of all rows, `[C]`.
        background: q(symbol | context) without the symbol's row, `[M]`.
    """

    keys: Integers
    gram: Integers
    context: Integers
    own_grams: Floats
    own_contexts: Floats
    gram_context: Integers
    num_grams: Floats
    num_contexts: Floats
    background: Floats


class GramIndex:
    """The n-grams of a corpus; made once, read by all models.

    Args:
        rows: The corpus; no row is empty (EOS alone will do).
        vocabulary_size: V; symbols are below it.
        order: The longest n-grams, context included; 1 if `by_position`.
        by_position: The context of a symbol is its place in the row, not what stands before.
    """

    def __init__(
        self, rows: SymbolRows, *, vocabulary_size: int, order: int, by_position: bool = False
    ) -> None:
        self.vocabulary_size = vocabulary_size
        self.by_position = by_position
        self.starts = rows.offsets[:-1]
        self.lengths = np.diff(rows.offsets)
        self.row = np.repeat(np.arange(len(self.lengths)), self.lengths)
        self.levels: list[Level] = []
        symbols = rows.symbols.astype(np.int64)
        place = np.arange(len(symbols)) - self.starts[self.row]
        for size in range(1, order + 1):
            self.levels.append(self._index(symbols, place, size))

    @property
    def num_rows(self) -> int:
        """How many rows there are."""
        return len(self.starts)

    def _index(self, symbols: Integers, place: Integers, size: int) -> Level:
        if size > 1:  # the context is the shorter n-gram that ends before; 0 at a row's start
            before = self.levels[-1]
            context = np.where(place > 0, np.roll(before.gram, 1) + 1, 0)
            own_contexts = np.where(place > 0, np.roll(before.own_grams, 1), np.float32(1))
            background = before.background
        else:
            context = np.minimum(place, LAST_PLACE) * self.by_position
            own_contexts = self.lengths[self.row].astype(np.float32)
            if self.by_position:
                own_contexts = np.where(
                    place < LAST_PLACE, np.float32(1), np.maximum(own_contexts - LAST_PLACE, 1)
                )
            background = np.full(len(symbols), 1 / self.vocabulary_size, np.float32)
        keys, gram = np.unique(context * self.vocabulary_size + symbols, return_inverse=True)
        own_keys = self.row * len(keys) + gram
        _, own, own_counts = np.unique(own_keys, return_inverse=True, return_counts=True)
        own_grams = own_counts.astype(np.float32)[own]
        num_grams = np.bincount(gram, minlength=len(keys)).astype(np.float32)
        num_contexts = np.bincount(context).astype(np.float32)
        a = np.float32(BACKGROUND[min(size, 2) - 1])
        seen, total = num_grams[gram] - own_grams, num_contexts[context] - own_contexts
        return Level(
            keys=keys,
            gram=gram,
            context=context,
            own_grams=own_grams,
            own_contexts=own_contexts.astype(np.float32),
            gram_context=keys // self.vocabulary_size,
            num_grams=num_grams,
            num_contexts=num_contexts,
            background=(seen + a * background) / (total + a),
        )

    def look_up(self, rows: SymbolRows) -> Iterator[tuple[Integers, Integers, Floats]]:
        """For other rows, level by level: n-gram, context (-1: never seen) and q, `[M]` each."""
        symbols = rows.symbols.astype(np.int64)
        lengths = np.diff(rows.offsets)
        place = np.arange(len(symbols)) - np.repeat(rows.offsets[:-1], lengths)
        gram = np.zeros(len(symbols), np.int64)
        background = np.full(len(symbols), 1 / self.vocabulary_size, np.float32)
        for number, level in enumerate(self.levels):
            if number:
                context = np.where(place > 0, np.roll(gram, 1), -1) + 1
                context = np.where((place > 0) & (context == 0), -1, context)
            else:
                context = np.minimum(place, LAST_PLACE) * self.by_position
            context = np.where(context < len(level.num_contexts), context, -1)
            key = context * self.vocabulary_size + symbols
            gram = np.minimum(np.searchsorted(level.keys, key), len(level.keys) - 1)
            gram = np.where((context >= 0) & (level.keys[gram] == key), gram, -1)
            a = np.float32(BACKGROUND[min(number, 1)])
            seen = np.where(gram >= 0, level.num_grams[gram], np.float32(0))
            total = np.where(context >= 0, level.num_contexts[context], np.float32(0))
            background = (seen + a * background) / (total + a)
            yield gram, context, background


class ClassNGrams:
    """A class-conditional n-gram model of a corpus, with counts of its rows.

    Args:
        index: The corpus, N rows.
        order: n-grams of up to so many symbols are read, at most the levels of `index`.
        pseudo_counts: a_1, a_2 of the first level and of the others.
        share: Of the shorter n-grams in what a model is interpolated with, 0 to 1.
    """

    def __init__(
        self, index: GramIndex, *, order: int, pseudo_counts: tuple[float, float], share: float
    ) -> None:
        self.index = index
        self.levels = index.levels[:order]
        self.pseudo_counts = pseudo_counts
        self.share = np.float32(share)
        self.num_grams: list[Floats] = []
        self.num_contexts: list[Floats] = []

    def fit(
        self,
        labelled: Integers,
        y: Integers,
        num_classes: int,
        *,
        unlabelled_weight: float,
        num_steps: int,
    ) -> Floats:
        """EM with the labelled rows fixed.

        Args:
            labelled: Rows with a label, `[n]`.
            y: Their classes, `[n]`.
            num_classes: K.
            unlabelled_weight: What a row without label counts for; with 0 there is no EM.
            num_steps: Of EM, at most: it ends when guesses no longer move.

        Returns:
            Evidence of all rows, each without its own counts, in nats, `[N, K]`.
        """
        weights = np.zeros((num_classes, self.index.num_rows), np.float32)
        weights[y, labelled] = 1
        is_free = np.ones(self.index.num_rows, bool)
        is_free[labelled] = False
        self.count(weights)
        evidence = self.own_evidence(weights)
        if unlabelled_weight:
            for _ in range(num_steps):
                before = weights[:, is_free]
                weights[:, is_free] = unlabelled_weight * softmax(evidence[is_free]).T
                change = np.abs(weights[:, is_free] - before).sum() / 2
                if change <= SETTLED * unlabelled_weight * is_free.sum():
                    break
                self.count(weights)
                evidence = self.own_evidence(weights)
        return evidence

    def count(self, weights: Floats) -> None:
        """Count n-grams in rows that weigh `[K, N]`."""
        self.num_grams, self.num_contexts = [], []
        for level in self.levels:
            grams = np.stack(
                [np.bincount(level.gram, of_class[self.index.row]) for of_class in weights]
            )
            size = len(level.num_contexts)
            contexts = [np.bincount(level.gram_context, of_class, size) for of_class in grams]
            self.num_grams.append(grams.astype(np.float32))
            self.num_contexts.append(np.stack(contexts).astype(np.float32))

    def own_evidence(self, weights: Floats) -> Floats:
        """Evidence `[N, K]` of the rows that were counted with weights `[K, N]`, without those."""
        index = self.index
        result = np.empty((index.num_rows, len(weights)), np.float32)
        for first, after in _row_chunks(index.starts, index.lengths, CHUNK // len(weights)):
            begin = index.starts[first]
            end = index.starts[after - 1] + index.lengths[after - 1]
            weight = weights[:, index.row[begin:end]]
            ratio: Floats | None = None
            for number, level in enumerate(self.levels):
                # Rounding may leave a little less than nothing.
                grams = self.num_grams[number].take(level.gram[begin:end], 1)
                grams -= level.own_grams[begin:end] * weight
                np.maximum(grams, 0, out=grams)
                contexts = self.num_contexts[number].take(level.context[begin:end], 1)
                contexts -= level.own_contexts[begin:end] * weight
                np.maximum(contexts, 0, out=contexts)
                ratio = self._ratio(number, grams, contexts, level.background[begin:end], ratio)
            assert ratio is not None
            sums = np.add.reduceat(np.log(ratio), index.starts[first:after] - begin, axis=1)
            result[first:after] = sums.T
        return result

    def evidence(self, rows: SymbolRows) -> Floats:
        """Evidence `[n, K]` of other rows, none of them empty; unseen n-grams say nothing."""
        ratio: Floats | None = None
        for number, (gram, context, background) in enumerate(self.index.look_up(rows)):
            if number == len(self.levels):
                break
            grams = self.num_grams[number].take(gram, 1) * (gram >= 0)
            contexts = self.num_contexts[number].take(context, 1) * (context >= 0)
            ratio = self._ratio(number, grams, contexts, background, ratio)
        assert ratio is not None
        result: Floats = np.add.reduceat(np.log(ratio), rows.offsets[:-1], axis=1).T
        return result

    def _ratio(
        self,
        number: int,
        grams: Floats,
        contexts: Floats,
        background: Floats,
        shorter: Floats | None,
    ) -> Floats:
        """r_k from counts `[K, M]`, q `[M]` and r_{k-1}; writes to its arguments."""
        a = np.float32(self.pseudo_counts[min(number, 1)])
        grams /= background
        contexts += a
        if shorter is None:
            grams += a
        else:
            shorter *= a * self.share
            grams += shorter
            if self.share < 1:
                grams += a * (1 - self.share)
        grams /= contexts
        return grams


def softmax(logits: NDArray[np.floating], axis: int = -1) -> Floats:
    """Probabilities along an axis, float32."""
    exponentials = np.exp(logits - logits.max(axis, keepdims=True))
    result: Floats = (exponentials / exponentials.sum(axis, keepdims=True)).astype(np.float32)
    return result


def _row_chunks(starts: Integers, lengths: Integers, size: int) -> Iterator[Sequence[int]]:
    """Runs of rows, first and after last, of about `size` symbols."""
    first, ends = 0, starts + lengths
    while first < len(starts):
        after = int(np.searchsorted(ends, starts[first] + max(size, 1), side="right"))
        after = max(after, first + 1)
        yield first, after
        first = after
