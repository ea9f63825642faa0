"""How unlike the rows of training a sequence is."""

import numpy as np
import torch
from numpy.typing import NDArray

from seqssvae.data.batches import evaluation_batches
from seqssvae.data.encoded import EncodedRows
from seqssvae.inference.classify import log_mean_exp, sample_log_likelihood
from seqssvae.inference.decode import evaluation_mode
from seqssvae.model.ssvae import SSVAE

__all__ = ["log_prob_per_symbol", "novelty"]

BATCH_SIZE = 128


def log_prob_per_symbol(
    model: SSVAE, rows: EncodedRows, *, num_samples: int = 16, seed: int = 0
) -> NDArray[np.float64]:
    """log p(x) / T of each row, p(x) = sum_y p(y) p(x | y), in nats per symbol, EOS included.

    p(x | y) is from importance samples of z (Burda et al. 2016, eq. 8). All rows share their
    noise, so that a row's figure depends on the row and the seed alone.

    Args:
        model: The model; it is put into evaluation mode meanwhile.
        rows: Their labels are not read; each holds at least EOS.
        num_samples: Samples of z for each row and label.
        seed: Of the samples.

    Returns:
        `[n]`.
    """
    found = np.zeros(len(rows))
    shape = (num_samples if model.latent_size else 1, 1, model.latent_size)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(shape, generator=generator, dtype=torch.float64)
    with evaluation_mode(model):
        noise = noise.to(model.prior_logits)
        for indices, batch in evaluation_batches(rows, BATCH_SIZE, num_classes=model.num_classes):
            batch = batch.to(model.prior_logits.device)
            features = model.encode(batch.x, batch.lengths)
            log_likelihood, log_ratio = sample_log_likelihood(model, batch, features, noise)
            log_joint = log_mean_exp((log_likelihood + log_ratio).double())  # [K, B]
            if model.num_classes:
                log_joint = log_joint + model.prior_logits.double().unsqueeze(1)
            found[indices] = (log_joint.logsumexp(0) / batch.lengths).cpu().numpy()
    return found


def novelty(log_prob: NDArray[np.float64], reference: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 - p, p the conformal p-value of `log_prob` among held-out rows.

    p = (1 + number of held-out rows that are no likelier, symbol by symbol) / (n + 1) (Bates et al.
    2023, Testing for outliers with conformal p-values, eq. 2). For a row drawn as the held-out ones
    were, p <= a happens with probability a at most: a novelty of 0.95 or more is seen in one of
    20 ordinary rows. What is unlikely is called new, and what is likely is not: a dull sequence of
    another kind may well be likely (Nalisnick et al. 2019, Do deep generative models know what
    they don't know?).

    Args:
        log_prob: Of `log_prob_per_symbol`, `[m]`.
        reference: The same of held-out rows, `[n]`.

    Returns:
        From 0, as likely as any, to n / (n + 1), `[m]`.

    Example:
        >>> novelty(np.array([-1.0, -9.0]), np.array([-1.5, -2.0, -2.5]))
        array([0.  , 0.75])
    """
    no_likelier = np.searchsorted(np.sort(reference), log_prob, side="right")
    return np.asarray(1.0 - (1.0 + no_likelier) / (len(reference) + 1.0))
