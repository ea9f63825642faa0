"""The teacher of prepared rows; and q(y | x) started from it: its n-gram part learns from it."""

import logging

import numpy as np
import torch
from numpy.typing import NDArray

from seqssvae.data.encoded import EncodedRows
from seqssvae.data.prepare import Prepared
from seqssvae.nn.ngram_logits import NGramLogits
from seqssvae.nn.ngrams import count_ngrams
from seqssvae.progress import announced
from seqssvae.teacher.student import fit_student
from seqssvae.teacher.teacher import Teacher, fit_teacher

logger = logging.getLogger(__name__)


def fit_prepared(
    prepared: Prepared,
    seed: int,
    *,
    max_labelled: int = 120_000,
    max_unlabelled: int = 20_000,
    max_seconds: float | None = None,
) -> tuple[Teacher, EncodedRows]:
    """Fit a teacher to prepared rows.

    Args:
        prepared: The rows, with labels of one column, at least one of them; dev rows are not read.
            A set of possible labels limits the posterior of its row.
        seed: Seed of the choice of rows and of the teacher.
        max_labelled: Rows with a label, or with a set of possible labels, that are read; of more,
            a random part, those with a label first.
        max_unlabelled: Unlabelled rows that are read; of more, a random part.
        max_seconds: As of `fit_teacher`.

    Returns:
        The teacher, and the rows that it was fitted to: those with a label come first.
    """
    known = np.flatnonzero(prepared.labelled.y >= 0)
    labelled = known[_draw(len(known), max_labelled, "labelled", seed)]
    partial = np.flatnonzero(prepared.labelled.y < 0)
    partial = partial[_draw(len(partial), max_labelled - len(labelled), "partly labelled", seed)]
    unlabelled = _draw(len(prepared.unlabelled), max_unlabelled, "unlabelled", seed)
    parts = [prepared.labelled.take(labelled), prepared.labelled.take(partial)]
    parts.append(prepared.unlabelled.take(unlabelled))
    rows = EncodedRows.concatenate(parts)
    teacher = fit_teacher(
        [sequence for part in parts for sequence in prepared.sequences(part)],
        np.arange(len(labelled)),
        rows.y[: len(labelled)],
        num_classes=len(prepared.labels.names),
        candidates=rows.candidates,
        seed=seed,
        max_seconds=max_seconds,
    )
    return teacher, rows


def distil(
    ngrams: NGramLogits,
    prepared: Prepared,
    seed: int,
    *,
    max_labelled: int = 120_000,
    max_unlabelled: int = 20_000,
    max_seconds: float | None = None,
) -> list[Teacher]:
    """Fit a teacher to the prepared rows, and the encoder's n-gram part to its posteriors.

    Of several columns of labels each has a teacher, and a part of the encoder's.

    Args:
        ngrams: N-gram part of the encoder, whose weights are replaced.
        prepared: As in `fit_prepared`, like the other arguments.
        seed: See there.
        max_labelled: See there.
        max_unlabelled: See there.
        max_seconds: See there.

    Returns:
        The teacher, or those of the columns whose labelled rows have at least two labels.
    """
    columns = list(prepared.by_column())
    of_each = max_seconds and max_seconds / len(columns)
    teachers, weights, biases, idfs = list[Teacher](), [], [], []
    for column, part in zip(prepared.labels.columns or ("",), columns, strict=True):
        if not part.is_teachable:
            weights.append(np.zeros((len(ngrams.weight), len(part.labels.names))))
            biases.append(np.zeros(len(part.labels.names)))
            continue
        teacher, rows = fit_prepared(
            part,
            seed,
            max_labelled=max_labelled,
            max_unlabelled=max_unlabelled,
            max_seconds=of_each,
        )
        y = rows.y[rows.y >= 0]
        with announced("the model's classifier learns from the simple ones"):
            counts = count_ngrams(
                rows,
                ngrams.blocks,
                num_buckets=ngrams.num_buckets,
                words=None if ngrams.words is None else ngrams.words.cpu(),
            )
            soft = teacher.posteriors[len(y) :].astype(np.float64)
            weight, bias, idf = fit_student(counts, y, soft)
        teachers.append(teacher)
        weights.append(weight)
        biases.append(bias)
        idfs.append(idf)
        _log_accuracy(teacher, f"column {column!r}: " * bool(column))
    # columns read the same rows, unless there are more than the limits
    student = np.concatenate(weights, 1), np.concatenate(biases), np.mean(idfs, 0)
    ngrams.assign(*map(torch.from_numpy, student))
    return teachers


def _log_accuracy(teacher: Teacher, where: str) -> None:
    if not np.isnan(teacher.held_out_accuracy):
        logger.info(
            "%ssimple classifiers of n-grams: accuracy %.3f by cross-validation, %.3f without "
            "unlabelled rows%s",
            where,
            teacher.held_out_accuracy,
            teacher.accuracy_without_unlabelled,
            "" if teacher.unlabelled_help else ", which do not help them",
        )


def _draw(num_rows: int, num_drawn: int, kind: str, seed: int) -> NDArray[np.int64]:
    """All rows or a random part of them, ascending."""
    if num_rows <= num_drawn:
        return np.arange(num_rows)
    logger.debug("simple classifiers read %d of %d %s rows", num_drawn, num_rows, kind)
    random = np.random.default_rng([seed, kind == "labelled"])
    return np.sort(random.choice(num_rows, num_drawn, replace=False))
