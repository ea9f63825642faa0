"""What the n-gram part of q(y | x) gives for the rows of training, where it is not trained."""

import copy

import numpy as np
import torch
from numpy.typing import NDArray

from seqssvae.data.batches import Indices, collate
from seqssvae.data.encoded import EncodedRows
from seqssvae.model.ssvae import SSVAE
from seqssvae.nn.ngram_logits import NGramLogits
from seqssvae.nn.vectors import VectorReader, linear_logits

MAX_NUMBERS = 2**28  # that are kept


class FixedLogits:
    """Logits of rows by a teacher's n-grams, each row's computed when it is first read.

    They are computed on the CPU, so that a GPU has no n-grams to hash.

    Args:
        model: A model whose n-gram part is not trained.
        rows: n rows.
    """

    def __init__(self, model: SSVAE, rows: EncodedRows) -> None:
        self.rows, self._model = rows, model
        # copied late: a checkpoint may fill them first
        self._parts: tuple[NGramLogits, VectorReader | None] | None = None
        self._logits = np.zeros((len(rows), model.num_classes), np.float32)
        self._is_known = np.zeros(len(rows), bool)

    @staticmethod
    def are_possible(model: SSVAE, num_rows: int) -> bool:
        """Whether a model has such an n-gram part, and the logits of its rows fit in memory."""
        if model.ngrams is None or model.ngrams.weight.requires_grad:
            return False
        return num_rows * model.num_classes <= MAX_NUMBERS

    @torch.no_grad()
    def of_rows(self, rows: Indices) -> NDArray[np.float32]:
        """Logits, `[B, K]`."""
        missing = np.unique(rows[~self._is_known[rows]])
        if len(missing):
            if self._parts is None:
                ngrams, vectors = copy.deepcopy((self._model.ngrams, self._model.vectors))
                assert ngrams is not None
                self._parts = ngrams.cpu(), None if vectors is None else vectors.cpu()
            batch = collate(self.rows, missing, num_classes=0)
            logits = linear_logits(*self._parts, batch.whole or (batch.x, batch.lengths), batch.v)
            self._logits[missing] = logits.numpy()
            self._is_known[missing] = True
        return self._logits[rows]
