"""Counts of n-grams and of classes during training: each row counts for its likely labels."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from seqssvae import distributed
from seqssvae.config import Config
from seqssvae.data.batches import Indices
from seqssvae.data.encoded import EncodedRows
from seqssvae.data.prepare import Prepared
from seqssvae.inference.predict import classify_table
from seqssvae.model.build import of_combinations
from seqssvae.model.ssvae import SSVAE
from seqssvae.model.votes import evidence_table
from seqssvae.nn.ngram_counts import NGramCounts

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

MAX_SYMBOLS = 2_000_000  # that are counted
MAX_WEIGHTED = 2**25  # of them, times classes
TINY = 1e-30  # probability; all labels that are possible may have less


class Counting:
    """Counts n-grams and classes of the training rows, anew after each pass over unlabelled ones.

    A labelled row counts for its label, another one for each label with q(y | x), given what soft
    labels and votes say. So counting is the M step of an EM algorithm whose E step is q: of the
    decoder's n-grams, if it has any, and of a p(y) that is learned where a teacher initialised q:
    from random weights it is a poor judge of the classes' frequencies. Of a large corpus a random
    part is counted.

    Args:
        config: The settings.
        model: The model whose n-grams and p(y) are set.
        prepared: The rows.

    Attributes:
        interval: Steps from one count to the next.
    """

    def __init__(self, config: Config, model: SSVAE, prepared: Prepared) -> None:
        self.model, self.lm = model, model.decoder.ngrams
        self.learns_prior = learns_prior(config, model)
        self.labels, self.labelled = prepared.labels, prepared.labelled
        self.unlabelled = prepared.unlabelled
        num_classes = max(model.num_classes, 1)
        num_symbols = min(MAX_SYMBOLS, MAX_WEIGHTED // num_classes)
        self._chosen = _draw(self.unlabelled, num_symbols, config.training.seed)
        self._counted = self.unlabelled.take(self._chosen)
        if self.lm is not None:
            self.index = NGramCounts(
                EncodedRows.concatenate([self.labelled, self._counted]),
                vocabulary_size=self.lm.vocabulary_size,
                order=self.lm.order,
            )
        passes = -(-len(self._chosen) // config.training.unlabelled_batch_size)
        self.interval = max(passes, config.training.evaluate_every)
        num_rows = len(self.labelled) + len(self._chosen)
        self.weights = np.zeros((num_rows, num_classes), np.float32)

    def state(self) -> dict[str, Any]:
        """All that `restore` needs beside the model's weights."""
        return {"weights": torch.from_numpy(self.weights)}

    def restore(self, state: dict[str, Any]) -> None:
        """Set the rows' weights to those of a state."""
        self.weights = state["weights"].cpu().numpy()

    def certainty(self) -> float:
        """Mean probability of the likeliest label of the rows without one that are counted."""
        return float(self.weights[len(self.labelled) :].max(1).mean()) if len(self._chosen) else 1.0

    def count(self) -> None:
        """Count all rows, with the labels that the model gives them now."""
        with distributed.writer_first():
            if distributed.is_writer():
                self.weights = self._classify()
        distributed.share([torch.from_numpy(self.weights)])  # the same memory
        if self.lm is not None:
            self.lm.assign(self.index.keys, self.index.count(self.weights))
        if self.learns_prior:
            self.model.prior_logits.copy_(torch.from_numpy(np.log(self._class_shares())))

    def of_rows(self, rows: Indices, *, are_labelled: bool) -> Float32:
        """Weights with which rows of a stream are counted, `[B, K]`; 0 for a row that is not."""
        if are_labelled:
            return self.weights[rows]
        if not len(self._chosen):
            return np.zeros((len(rows), self.weights.shape[1]), np.float32)
        place = np.searchsorted(self._chosen, rows).clip(max=len(self._chosen) - 1)
        is_counted = self._chosen[place] == rows
        weights: Float32 = self.weights[len(self.labelled) + place] * is_counted[:, None]
        return weights

    def _class_shares(self) -> Float64:
        """Shares of the classes, `[K]`; with one row more of each label none is impossible."""
        rows = self.weights.sum(0, dtype=np.float64)
        columns = [self.labels.marginal(name, rows)[0] for name in self.labels.columns] or [rows]
        shares: Float64 = of_combinations([of_column + 1 for of_column in columns])
        shares /= shares.sum()
        return shares

    def _classify(self) -> Float32:
        """Weights of all rows, `[n, K]`."""
        weights = np.ones_like(self.weights)
        if not self.model.num_classes:
            return weights
        num_labelled = len(self.labelled)
        weights[num_labelled:] = self._posteriors(self._counted)
        weights[:num_labelled] = self.labelled.y[:, None] == np.arange(weights.shape[1])
        partial = sorted(self.labelled.candidates)
        if partial:
            table = self._posteriors(self.labelled.take(partial)).clip(min=TINY)
            for row, probabilities in zip(partial, table, strict=True):
                possible = list(self.labelled.candidates[row])
                weights[row, possible] = probabilities[possible] / probabilities[possible].sum()
        return weights

    def _posteriors(self, rows: EncodedRows) -> Float64:
        """q(y | x) e(y) of rows, normalised, `[n, K]`."""
        table = classify_table(self.model, rows)
        evidence = evidence_table(self.model.votes, rows.evidence())
        if evidence is None:
            return table
        weighted: Float64 = (table * evidence).clip(min=TINY)
        weighted /= weighted.sum(1, keepdims=True)
        return weighted


def learns_prior(config: Config, model: SSVAE) -> bool:
    """Whether p(y) is counted."""
    learns = config.model.prior == "learned" and config.training.teacher
    return learns and model.num_classes > 0


def is_counted(config: Config, model: SSVAE) -> bool:
    """Whether a model has anything that is counted."""
    return model.decoder.ngrams is not None or learns_prior(config, model)


def _draw(rows: EncodedRows, num_symbols: int, seed: int) -> Indices:
    """All rows, or a random part that has at most this number of symbols, ascending."""
    if not len(rows) or rows.lengths.sum() <= num_symbols:
        return np.arange(len(rows))
    order = np.random.default_rng([seed, 2]).permutation(len(rows))
    ends = rows.lengths[order].cumsum()
    return np.sort(order[: int(np.searchsorted(ends, num_symbols))])
