"""Start q(y | x) from a teacher: the n-gram part of the encoder learns its posteriors."""

import logging

import numpy as np
import torch

from seqssvae.bags import NGramLogits
from seqssvae.ngrams import count_blocks
from seqssvae.preparation import Prepared
from seqssvae.regression import fit_student
from seqssvae.teacher import Teacher, fit_teacher

__all__ = ["distil"]

logger = logging.getLogger(__name__)

UNLABELLED_ROWS = 20_000  # that teacher and student read, at most


def distil(ngrams: NGramLogits, prepared: Prepared, seed: int) -> Teacher:
    """Fit a teacher to the prepared rows and give the encoder's n-gram part what it found.

    Args:
        ngrams: Its weights are replaced.
        prepared: The rows, of which at least one has a label; labelled dev rows are not read.
        seed: Of the rows that are read and of the teacher.

    Returns:
        The teacher.
    """
    known = (prepared.labelled.y >= 0).nonzero()[0]
    y = prepared.labelled.y[known]
    free = np.random.default_rng(seed).permutation(len(prepared.unlabelled))[:UNLABELLED_ROWS]
    sequences = [
        *prepared.sequences("labelled", known),
        *prepared.sequences("unlabelled", free),
    ]
    num_classes = len(prepared.labels.names)
    teacher = fit_teacher(sequences, np.arange(len(known)), y, num_classes=num_classes, seed=seed)
    labelled, unlabelled = (
        count_blocks(rows, ngrams.blocks, num_buckets=ngrams.num_buckets)
        for rows in (prepared.labelled.take(known), prepared.unlabelled.take(free))
    )
    student = fit_student(
        labelled,
        y,
        unlabelled,
        teacher.posteriors[len(known) :].astype(np.float64),
        num_classes=num_classes,
        num_blocks=len(ngrams.blocks),
        seed=seed,
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
