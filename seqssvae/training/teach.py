"""Initialise q(y | x) from a teacher, and once more with the labels of dev rows after training."""

import logging

from seqssvae import distributed
from seqssvae.config import Config
from seqssvae.data.encoded import EncodedRows
from seqssvae.data.prepare import Prepared
from seqssvae.errors import InputError
from seqssvae.model.ssvae import SSVAE
from seqssvae.teacher.dawid_skene import fit_confusions, known_of, with_likely_labels
from seqssvae.teacher.distil import distil
from seqssvae.training.counting import Counting, is_counted
from seqssvae.training.signals import interruptible

TEACHER_SHARE = 0.5  # of `training.max_minutes`, for each cross-validation

logger = logging.getLogger(__name__)


def teach(config: Config, model: SSVAE, prepared: Prepared, *, reset: bool = True) -> bool:
    """Initialise q(y | x) from a teacher, if there is one, and freeze its n-gram part.

    Voters start from the confusion matrices that EM finds.

    Args:
        config: The settings.
        model: Its n-gram part and its head of y are overwritten, the same on every rank.
        prepared: The rows.
        reset: Whether q(y | x) starts as its n-gram part; else its head is kept.

    Returns:
        Whether there is a teacher: the settings ask for it, the model has n-gram features, and
        the labelled rows have at least two classes, or the likeliest labels of rows with a soft
        label or votes do.

    Raises:
        InputError: a classifier alone is wanted, and there is none.
    """
    _start_voters(model, prepared)
    if not _is_teachable(prepared):  # soft labels and votes alone may do
        prepared = with_likely_labels(prepared)
    is_teachable = _is_teachable(prepared)
    if not (config.training.teacher and model.ngrams is not None and is_teachable):
        if config.training.classifier_only:
            raise InputError("--classifier-only: wanted labels of at least two classes, got fewer")
        if config.training.teacher and model.num_classes > 1 and not is_teachable:
            logger.warning("no teacher: wanted rows with one label each, of at least two classes")
        return False
    model.start_from_ngrams(reset=reset)
    _distil(config, model, prepared, "the teacher was learning, --resume starts anew")
    return True


def learn_dev_labels(config: Config, model: SSVAE, prepared: Prepared, *, taught: bool) -> bool:
    """Learn the labels of dev rows, which early stopping needs no more.

    The teacher is fitted once more and takes its place below what q(y | x) learned itself; n-grams
    and classes are counted once more.

    Args:
        config: The settings.
        model: A trained model, changed in place.
        prepared: The rows.
        taught: Whether q(y | x) was initialised by a teacher.

    Returns:
        Whether they were learned; without a teacher, q(y | x) has no other way than training.
    """
    with_dev = prepared.with_dev_labels()
    if with_dev is prepared or not taught:
        return False
    logger.info("learning the labels of the held-out rows too")
    _distil(config, model, with_dev, "--resume continues from the last evaluation")
    if is_counted(config, model):
        Counting(config, model, with_dev).count()
    return True


def teacher_seconds(config: Config) -> float | None:
    """How long classifiers may be cross-validated; None without a limit."""
    limit = config.training.max_minutes
    return None if limit is None else 60 * TEACHER_SHARE * limit


def _is_teachable(prepared: Prepared) -> bool:
    return any(part.is_teachable for part in prepared.by_column())


def _start_voters(model: SSVAE, prepared: Prepared) -> None:
    """Start the confusion matrices of voters, if there are any, from those that EM finds."""
    if model.votes is None:
        return
    rows = EncodedRows.concatenate([prepared.labelled, prepared.unlabelled])
    votes = rows.evidence().votes
    assert votes is not None
    found = fit_confusions(votes, known_of(rows, model.num_classes))
    model.votes.assign(found.matrices, (votes >= 0).sum(0), found.only)


def _distil(config: Config, model: SSVAE, prepared: Prepared, message: str) -> None:
    """Fit the teacher; `message` is what a signal that interrupts it leaves behind."""
    assert model.ngrams is not None
    with distributed.writer_first():  # it takes minutes, and is the same on each rank
        if distributed.is_writer():
            with interruptible(message):
                seed, max_seconds = config.training.seed, teacher_seconds(config)
                distil(
                    model.ngrams,
                    prepared,
                    seed,
                    vectors=model.vectors,
                    max_seconds=max_seconds,
                )
    distributed.share(model.ngrams.state_dict().values())
    if model.vectors is not None:
        distributed.share(model.vectors.state_dict().values())
