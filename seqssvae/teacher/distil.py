"""Start q(y | x) from a teacher: the n-gram part of the encoder learns its posteriors."""

import logging

import numpy as np
import torch
from numpy.typing import NDArray

from seqssvae.data.prepare import Prepared
from seqssvae.nn.ngram_logits import NGramLogits
from seqssvae.nn.ngrams import count_blocks
from seqssvae.teacher.student import fit_student
from seqssvae.teacher.teacher import Teacher, fit_teacher

__all__ = ["distil"]

logger = logging.getLogger(__name__)

# What is read at most, so that time and memory are bounded whatever the corpus.
UNLABELLED_ROWS = 20_000
LABELLED_ROWS = 120_000


def distil(ngrams: NGramLogits, prepared: Prepared, seed: int) -> Teacher:
    """Fit a teacher to the prepared rows and give the encoder's n-gram part what it found.

    Args:
        ngrams: Its weights are replaced.
        prepared: The rows, of which at least one has a label; labelled dev rows are not read. Of
            more than 20,000 unlabelled or 120,000 labelled rows so many are drawn, and it is told.
        seed: Of the rows that are read and of the teacher.

    Returns:
        The teacher.
    """
    known = _draw((prepared.labelled.y >= 0).nonzero()[0], LABELLED_ROWS, "labelled", seed)
    free = np.random.default_rng(seed).permutation(len(prepared.unlabelled))[:UNLABELLED_ROWS]
    _tell(len(free), len(prepared.unlabelled), "unlabelled")
    rows = (prepared.labelled.take(known), prepared.unlabelled.take(free))
    sequences, y = [one for part in rows for one in prepared.sequences(part)], rows[0].y
    num_classes = len(prepared.labels.names)
    teacher = fit_teacher(sequences, np.arange(len(known)), y, num_classes=num_classes, seed=seed)
    labelled, unlabelled = (
        count_blocks(part, ngrams.blocks, num_buckets=ngrams.num_buckets, words=ngrams.words)
        for part in rows
    )
    student = fit_student(
        labelled,
        y,
        unlabelled,
        teacher.posteriors[len(known) :].astype(np.float64),
        num_classes=num_classes,
        num_blocks=len(ngrams.blocks),
    )
    ngrams.assign(*(torch.from_numpy(part) for part in student))
    logger.info(
        "q(y|x) starts from n-gram models with EM: accuracy %.3f on labels held out in turn"
        if teacher.unlabelled_help
        else "unlabelled rows do not help: q(y|x) starts from models of the labelled rows alone, "
        "accuracy %.3f on labels held out in turn",
        teacher.held_out_accuracy,
    )
    logger.info("without learning from unlabelled rows: %.3f", teacher.accuracy_without_guesses)
    return teacher


def _draw(rows: NDArray[np.int64], most: int, kind: str, seed: int) -> NDArray[np.int64]:
    """All rows, or so many of them, ascending."""
    if len(rows) <= most:
        return rows
    _tell(most, len(rows), kind)
    return np.sort(np.random.default_rng([seed, 1]).permutation(rows)[:most])


def _tell(num_read: int, num_rows: int, kind: str) -> None:
    if num_read < num_rows:
        logger.info("n-gram models read %d of %d %s rows", num_read, num_rows, kind)
