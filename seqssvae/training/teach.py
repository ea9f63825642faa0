"""Start q(y | x) from a teacher before training, and teach it the labels of dev rows after it."""

import logging

import numpy as np

from seqssvae import distributed
from seqssvae.config import Config
from seqssvae.data.prepare import Prepared
from seqssvae.model.ssvae import SSVAE
from seqssvae.teacher.distil import distil

logger = logging.getLogger(__name__)


def teach(config: Config, model: SSVAE, prepared: Prepared) -> bool:
    """Start q(y | x) from a teacher, if there is one, and freeze its n-gram part.

    Args:
        config: The settings.
        model: Its n-gram part and its head of y are overwritten, the same on every rank.
        prepared: The rows.

    Returns:
        Whether q(y | x) was taught: the settings want it, the model has n-gram features, and the
        labelled rows have two classes at least.
    """
    y = prepared.labelled.y
    if not config.training.teacher or model.ngrams is None or len(np.unique(y[y >= 0])) < 2:
        return False
    model.start_from_ngrams()
    _distil(config, model, prepared)
    return True


def teach_dev_labels(config: Config, model: SSVAE, prepared: Prepared) -> bool:
    """Teach q(y | x) anew from the labels of dev rows too, which early stopping needs no longer.

    Args:
        config: The settings.
        model: As `teach` left it: no step made q(y | x) clearly better.
        prepared: The rows.

    Returns:
        Whether dev rows have labels.
    """
    everything = prepared.with_dev_labels()
    if everything is prepared:
        return False
    logger.info("its n-gram models learn again, from the labels of dev rows too")
    _distil(config, model, everything)
    return True


def _distil(config: Config, model: SSVAE, prepared: Prepared) -> None:
    assert model.ngrams is not None
    with distributed.writer_first():  # it takes minutes, and gives each rank the same
        if distributed.is_writer():
            distil(model.ngrams, prepared, config.training.seed)
    distributed.share(model.ngrams.state_dict().values())
