"""Rows as a teacher's members read them: words, characters or tokens, and bags of their n-grams."""

import dataclasses
import re
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.utils.extmath import randomized_svd

from seqssvae.data.vocabulary import EOS, NUM_SPECIAL, UNK
from seqssvae.nn.ngrams import Block, count_blocks
from seqssvae.teacher.ngram_models import GramIndex
from seqssvae.teacher.student import inverse_frequencies, weigh_counts

__all__ = ["Bag", "Material", "Sequences", "Splitter", "View", "Views"]

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]
Sequences = Sequence[str] | Sequence[Sequence[str]]

WORD = re.compile(r"\w+|[^\w\s]")
WORDS_IN_A_TEXT = 3.0  # rows with fewer words in the mean are read as characters alone
ROWS_LOOKED_AT = 1000  # to see whether texts have words
MAX_SYMBOLS = 2000  # of a row that are read

NUM_BUCKETS = 2**20
NUM_POSITIONS = 40
NUM_COMPONENTS = 100  # singular vectors
ORDERS = {"pairs": 2, "long": 5, "places": 2}  # n-grams of the bags


@dataclasses.dataclass(frozen=True, eq=False)
class View:
    """Rows as ids of one kind of symbol (words, characters or tokens), each ending with EOS.

    Attributes:
        symbols: The rows one after the other, int32 `[M]`.
        offsets: Where each begins, and at last M, `[n + 1]`.
        vocabulary_size: V; ids are below it.
    """

    symbols: NDArray[np.int32]
    offsets: Integers
    vocabulary_size: int

    def take(self, rows: Integers) -> "View":
        """Some of the rows, in the order given."""
        lengths = np.diff(self.offsets)[rows]
        offsets = np.concatenate(([0], np.cumsum(lengths)))
        shift = np.repeat(self.offsets[rows] - offsets[:-1], lengths)
        return View(self.symbols[np.arange(offsets[-1]) + shift], offsets, self.vocabulary_size)


class Splitter:
    """Cuts sequences into symbols and numbers them as the rows it was made of have them.

    A text is read in lower case: as words and marks and as characters, or as characters alone if
    most rows have no space or if there are fewer than three words in the mean row. Tokens stay as
    they are. The first 2,000 symbols of a row are read.

    Args:
        sequences: Rows that say which symbols there are.

    Attributes:
        has_words: Whether texts are read as words, and as characters beside them.
    """

    def __init__(self, sequences: Sequences) -> None:
        first = [row for row in sequences[:ROWS_LOOKED_AT] if isinstance(row, str)]
        num_words = sum(len(WORD.findall(row)) for row in first)
        with_space = sum(" " in row.strip() for row in first)
        self.has_words = 2 * with_space > len(first) and num_words >= WORDS_IN_A_TEXT * len(first)
        self.main = _number_symbols(map(self._cut, sequences))
        self.characters = _number_symbols(map(_cut_characters, sequences)) if self.has_words else {}

    def views(self, sequences: Sequences) -> "Views":
        """Rows as ids, symbols that were not there before as UNK."""
        main = _encode(sequences, self._cut, self.main)
        if not self.has_words:
            return Views(main, None)
        return Views(main, _encode(sequences, _cut_characters, self.characters))

    def _cut(self, row: str | Sequence[str]) -> Sequence[str]:
        """The main symbols of a row."""
        if isinstance(row, str) and self.has_words:
            return WORD.findall(row.lower())[:MAX_SYMBOLS]
        return _cut_characters(row)


def _cut_characters(row: str | Sequence[str]) -> Sequence[str]:
    """Characters of a text; tokens as they are."""
    return (row.lower() if isinstance(row, str) else row)[:MAX_SYMBOLS]


def _number_symbols(rows: Iterable[Sequence[str]]) -> dict[str, int]:
    """An id for each symbol, in the order they come."""
    ids: dict[str, int] = {}
    for row in rows:
        for symbol in row:
            ids.setdefault(symbol, len(ids) + NUM_SPECIAL)
    return ids


def _encode(
    sequences: Sequences, cut: Callable[[str | Sequence[str]], Sequence[str]], ids: dict[str, int]
) -> View:
    """Rows as ids, EOS at the end of each."""
    rows = [[ids.get(symbol, UNK) for symbol in cut(row)] + [EOS] for row in sequences]
    lengths = [len(row) for row in rows]
    symbols = np.fromiter((id for row in rows for id in row), np.int32, sum(lengths))
    return View(symbols, np.cumsum([0, *lengths]), len(ids) + NUM_SPECIAL)


class Views:
    """The same rows as main symbols and perhaps as characters, with their bags of n-grams.

    Args:
        main: Words of a text, or characters where it has no words, or tokens.
        characters: Of a text with words.
    """

    def __init__(self, main: View, characters: View | None) -> None:
        self.by_name = {"main": main} | ({} if characters is None else {"characters": characters})
        self._counts: dict[tuple[str, str], csr_matrix] = {}

    def take(self, rows: Integers) -> "Views":
        """Some of the rows, in the order given."""
        characters = self.by_name.get("characters")
        return Views(
            self.by_name["main"].take(rows), None if characters is None else characters.take(rows)
        )

    def counts(self, view: str, bag: str) -> csr_matrix:
        """Counts of a bag's n-grams, `[n, 2**20]`; kept."""
        if (view, bag) not in self._counts:
            block = Block(ORDERS[bag], NUM_POSITIONS if bag == "places" else 0)
            self._counts[view, bag] = count_blocks(
                self.by_name[view], (block,), num_buckets=NUM_BUCKETS
            )
        return self._counts[view, bag]


class Material:
    """What the members of a pool make of the rows they are fitted to, each thing once.

    Args:
        views: N rows.
        order: Of the longest n-grams of the main symbols.
    """

    def __init__(self, views: Views, order: int) -> None:
        self.views = views
        self.orders = {"main": order, "characters": 4}
        self.num_rows = len(views.by_name["main"].offsets) - 1
        self._indices: dict[tuple[str, bool], GramIndex] = {}
        self._bags: dict[tuple[str, str], Bag] = {}

    def index(self, view: str, by_position: bool) -> GramIndex:
        """The n-gram index of a view."""
        if (view, by_position) not in self._indices:
            rows = self.views.by_name[view]
            self._indices[view, by_position] = GramIndex(
                rows,
                vocabulary_size=rows.vocabulary_size,
                order=1 if by_position else self.orders[view],
                by_position=by_position,
            )
        return self._indices[view, by_position]

    def bag(self, view: str, bag: str) -> "Bag":
        """A bag of n-grams of a view."""
        if (view, bag) not in self._bags:
            self._bags[view, bag] = Bag(self.views.counts(view, bag))
        return self._bags[view, bag]


class Bag:
    """Counts and TF-IDF of the n-grams that two rows or more have; of all, if there are none.

    Args:
        counts: `[N, 2**20]`.
    """

    def __init__(self, counts: csr_matrix) -> None:
        in_rows = np.bincount(counts.indices, minlength=counts.shape[1])
        self.columns = np.flatnonzero(in_rows >= (2 if in_rows.max(initial=0) >= 2 else 1))
        self.counts = self.select(counts)
        self.idf = inverse_frequencies(self.counts)
        self.weighted = weigh_counts(self.counts, self.idf)
        self._vectors: Floats | None = None  # [F, D]
        self._reduced: Floats | None = None

    def select(self, counts: csr_matrix) -> csr_matrix:
        """The bag's columns, `[n, F]`."""
        new = np.full(counts.shape[1], -1, np.int32)
        new[self.columns] = np.arange(len(self.columns))
        columns = new[counts.indices]
        kept = columns >= 0
        ends = np.concatenate(([0], np.cumsum(kept)))[counts.indptr]
        shape = (counts.shape[0], len(self.columns))
        return csr_matrix((counts.data[kept], columns[kept], ends), shape=shape)

    def reduced(self) -> Floats:
        """The rows in the space of singular vectors, of norm 1, `[N, D]`."""
        if self._reduced is None:
            size = min(NUM_COMPONENTS, min(self.weighted.shape) - 1)
            if size >= 1:
                _, _, right = randomized_svd(self.weighted, size, n_iter=3, random_state=0)
                self._vectors = right.T
            self._reduced = self.reduce(self.weighted)
        return self._reduced

    def reduce(self, weighted: csr_matrix) -> Floats:
        """The same of other rows, `[n, D]`."""
        projected = weighted.toarray() if self._vectors is None else weighted @ self._vectors
        norms = np.linalg.norm(projected, axis=1, keepdims=True)
        result: Floats = projected / np.maximum(norms, 1e-9)
        return result
