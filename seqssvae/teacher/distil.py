"""The teacher of prepared rows; and q(y | x) started from it: its n-gram part learns from it."""

import logging
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from seqssvae.data.encoded import EncodedRows
from seqssvae.data.prepare import Prepared
from seqssvae.nn.ngram_logits import NGramLogits
from seqssvae.nn.ngrams import count_ngrams
from seqssvae.nn.vectors import VectorReader
from seqssvae.progress import announced
from seqssvae.teacher.dawid_skene import weak_evidence
from seqssvae.teacher.student import fit_student
from seqssvae.teacher.teacher import Teacher, Vectors, fit_teacher

logger = logging.getLogger(__name__)

Float64 = NDArray[np.float64]


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
            A set of possible labels limits the posterior of its row; a soft label and votes
            weigh it.
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
        evidence=weak_evidence(rows, len(prepared.labels.names)),
        vectors=vectors_of(rows),
        seed=seed,
        max_seconds=max_seconds,
    )
    return teacher, rows


def vectors_of(rows: EncodedRows) -> Vectors | None:
    """What gives the vectors of rows to a teacher; None where they have none."""
    if not rows.vector_size:
        return None

    def vectors(numbers: NDArray[np.int64]) -> NDArray[np.float32]:
        found = rows.vectors(numbers)
        assert found is not None
        return found

    return vectors


def distil(
    ngrams: NGramLogits,
    prepared: Prepared,
    seed: int,
    *,
    vectors: VectorReader | None = None,
    max_labelled: int = 120_000,
    max_unlabelled: int = 20_000,
    max_seconds: float | None = None,
) -> list[Teacher]:
    """Fit a teacher to the prepared rows, and the encoder's linear part to its posteriors.

    The term of vectors is the teacher's own, exactly; that of n-grams learns from the teacher's
    classifiers of n-grams, and has their share.

    Of several columns of labels each has a teacher, and a part of the encoder's.

    Args:
        ngrams: N-gram part of the encoder, whose weights are replaced.
        prepared: As in `fit_prepared`, like the other arguments.
        seed: See there.
        vectors: Part of the encoder that reads vectors, if the rows have them.
        max_labelled: See there.
        max_unlabelled: See there.
        max_seconds: See there.

    Returns:
        The teacher, or those of the columns whose labelled rows have at least two labels.
    """
    columns = list(prepared.by_column())
    of_each = max_seconds and max_seconds / len(columns)
    teachers, learned = list[Teacher](), list[_Linear]()
    for column, part in zip(prepared.labels.columns or ("",), columns, strict=True):
        if not part.is_teachable:
            sizes = len(ngrams.weight), len(part.labels.names), prepared.vector_size
            learned.append(_Linear.nothing(*sizes))
            continue
        teacher, rows = fit_prepared(
            part,
            seed,
            max_labelled=max_labelled,
            max_unlabelled=max_unlabelled,
            max_seconds=of_each,
        )
        with announced("the model's classifier learns from the simple ones"):
            learned.append(_learn(ngrams, teacher, rows))
        teachers.append(teacher)
        _log_accuracy(teacher, f"column {column!r}: " * bool(column))
    weight, bias, of_vectors, bias_of_vectors = (
        torch.from_numpy(np.concatenate([one[place] for one in learned], -1)) for place in range(4)
    )
    # columns read the same rows, unless there are more than the limits
    idf = np.mean([one.idf for one in learned if one.idf is not None], 0)
    ngrams.assign(weight, bias, torch.from_numpy(idf))
    if vectors is not None:
        vectors.assign(of_vectors, bias_of_vectors)
    return teachers


class _Linear(NamedTuple):
    """The linear part of q(y | x, v) of a column: of n-grams, and of vectors."""

    weight: Float64
    bias: Float64
    of_vectors: Float64
    bias_of_vectors: Float64
    idf: Float64 | None = None

    @classmethod
    def nothing(cls, num_features: int, num_labels: int, size: int) -> "_Linear":
        """One that is 0."""
        weight, of_vectors = (np.zeros((num, num_labels)) for num in (num_features, size))
        return cls(weight, np.zeros(num_labels), of_vectors, np.zeros(num_labels))


def _learn(ngrams: NGramLogits, teacher: Teacher, rows: EncodedRows) -> _Linear:
    """What learns from a teacher of these rows, which come first that have a label."""
    y = rows.y[rows.y >= 0]
    counts = count_ngrams(
        rows,
        ngrams.blocks,
        num_buckets=ngrams.num_buckets,
        words=None if ngrams.words is None else ngrams.words.cpu(),
    )
    soft = (teacher.of_ngrams or teacher).posteriors[len(y) :].astype(np.float64)
    weight, bias, idf = fit_student(counts, y, soft)
    if teacher.of_vectors is None:
        nothing = _Linear.nothing(0, len(bias), rows.vector_size)
        return nothing._replace(weight=weight, bias=bias, idf=idf)
    bias = teacher.share * bias + (1 - teacher.share) * teacher.offset
    return _Linear(teacher.share * weight, bias, *teacher.of_vectors, idf)


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
