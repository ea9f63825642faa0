"""Initialise q(y | x) from a teacher, and once more with the labels of dev rows after training."""

import logging

import numpy as np

from seqssvae import distributed
from seqssvae.config import Config
from seqssvae.data.prepare import Prepared
from seqssvae.model.ssvae import SSVAE
from seqssvae.teacher.distil import distil

logger = logging.getLogger(__name__)


def teach(config: Config, model: SSVAE, prepared: Prepared) -> bool:
    """Initialise q(y | x) from a teacher, if there is one, and freeze its n-gram part.

    Args:
        config: The settings.
        model: Its n-gram part and its head of y are overwritten, the same on every rank.
        prepared: The rows.

    Returns:
        Whether there is a teacher: the settings ask for it, the model has n-gram features, and
        the labelled rows have at least two classes.
    """
    y = prepared.labelled.y
    if not config.training.teacher or model.ngrams is None or len(np.unique(y[y >= 0])) < 2:
        return False
    model.start_from_ngrams()
    _distil(config, model, prepared)
    return True


def teach_dev_labels(config: Config, model: SSVAE, prepared: Prepared) -> bool:
    """Initialise q(y | x) again, with the labels of dev rows, which early stopping needs no more.

    Args:
        config: The settings.
        model: As `teach` left it: no step made q(y | x) clearly better.
        prepared: The rows.

    Returns:
        Whether dev rows have labels.
    """
    with_dev = prepared.with_dev_labels()
    if with_dev is prepared:
        return False
    logger.info("training the teacher again, with the labels of dev rows")
    _distil(config, model, with_dev)
    return True


def _distil(config: Config, model: SSVAE, prepared: Prepared) -> None:
    assert model.ngrams is not None
    with distributed.writer_first():  # it takes minutes, and is the same on each rank
        if distributed.is_writer():
            distil(model.ngrams, prepared, config.training.seed)
    distributed.share(model.ngrams.state_dict().values())
