"""Counts of the n-grams of a corpus, for the tables of `NGramLM`."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seqssvae.data.encoded import EncodedRows
from seqssvae.nn.ngram_lm import LAST_POSITION, MAX_NGRAMS

if TYPE_CHECKING:  # slow to import, and not needed to use a model
    from scipy.sparse import csr_matrix


class NGramCounts:
    """The tables of n-grams of a corpus; of very many of one size, the most frequent.

    Args:
        rows: n rows.
        vocabulary_size: V.
        order: Size of the longest n-grams, context included.
        max_ngrams: Number of n-grams of one size, at most.

    Attributes:
        keys: The n-grams of each table, as in `Table`.
    """

    def __init__(
        self, rows: EncodedRows, *, vocabulary_size: int, order: int, max_ngrams: int = MAX_NGRAMS
    ) -> None:
        self.keys: list[Tensor] = []
        self._of_rows: list[csr_matrix] = []  # counts [G, n] of each table
        self._rows, self._size, self._max_ngrams = rows, vocabulary_size, max_ngrams
        row = np.repeat(np.arange(len(rows)), np.diff(rows.offsets))
        position = np.arange(len(row)) - rows.offsets[row]
        is_read = position < rows.lengths[row]  # the decoder reads truncated rows
        symbols = rows.symbols[is_read].astype(np.int64)
        row, position = row[is_read], position[is_read]
        context = np.zeros(len(symbols), np.int64)
        for _ in range(order):
            ngram = self._index(context, symbols, row)
            context = np.where(position, np.roll(np.where(ngram >= 0, ngram + 1, -1), 1), 0)
        self._index(position.clip(max=LAST_POSITION), symbols, row)

    def _index(
        self, context: NDArray[np.int64], symbols: NDArray[np.int64], row: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Index the n-grams of one table; returns the one that ends at each symbol, or -1."""
        from scipy.sparse import csr_matrix

        known = np.flatnonzero(context >= 0)
        keys, inverse, counts = np.unique(
            context[known] * self._size + symbols[known], return_inverse=True, return_counts=True
        )
        kept = np.sort(np.argsort(-counts, kind="stable")[: self._max_ngrams])
        number = np.full(len(keys), -1)
        number[kept] = np.arange(len(kept))
        ngram = np.full(len(symbols), -1)
        ngram[known] = number[inverse]
        known = known[ngram[known] >= 0]
        ones = np.ones(len(known), np.float32)
        shape = (len(kept), len(self._rows))
        self.keys.append(torch.from_numpy(keys[kept]))
        self._of_rows.append(csr_matrix((ones, (ngram[known], row[known])), shape=shape))
        return ngram

    def count(self, weights: NDArray[np.float32]) -> Tensor:
        """Weighted counts `[G, K]`, the tables in turn, for weights of the rows `[n, K]`."""
        return torch.from_numpy(np.concatenate([counts @ weights for counts in self._of_rows]))
