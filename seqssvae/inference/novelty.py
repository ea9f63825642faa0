"""Novelty: how unlikely a sequence is among held-out rows."""

import numpy as np
import torch
from numpy.typing import NDArray

from seqssvae.data.batches import evaluation_batches
from seqssvae.data.encoded import EncodedRows
from seqssvae.inference.classify import common_noise, log_joint, sample_log_likelihood
from seqssvae.model.ssvae import SSVAE
from seqssvae.nn.precision import evaluation_mode
from seqssvae.shapes import wide

BATCH_SIZE = 128


def log_joint_table(
    model: SSVAE, rows: EncodedRows, *, num_samples: int = 16, seed: int = 0
) -> NDArray[np.float64]:
    """log p(x, y) of each row and label in nats per sequence, log p(x) without classes.

    p(x | y) is estimated by importance sampling (Burda et al. 2016, eq. 8). All rows share their
    noise, so a row's value depends on the row and the seed alone.

    Args:
        model: The model, evaluated in evaluation mode.
        rows: Rows of at least one symbol, EOS; their labels are not read.
        num_samples: Number of samples of z for each row and label.
        seed: Seed of the samples.

    Returns:
        `[n, K]`, or `[n, 1]` without classes.
    """
    table = np.zeros((len(rows), max(model.num_classes, 1)))
    with evaluation_mode(model):
        noise = common_noise(model, num_samples, torch.Generator().manual_seed(seed))
        for indices, batch in evaluation_batches(rows, BATCH_SIZE, num_classes=model.num_classes):
            batch = batch.to(model.prior_logits.device)
            features = model.encode_batch(batch)
            samples = sample_log_likelihood(model, batch, features, noise)
            table[indices] = log_joint(model, *map(wide, samples)).t().cpu().numpy()
    return table


def log_prob_per_symbol(
    model: SSVAE, rows: EncodedRows, *, num_samples: int = 16, seed: int = 0
) -> NDArray[np.float64]:
    """log p(x) / T of each row, in nats per symbol, EOS included, `[n]`; see `log_joint_table`."""
    return log_prob(model, rows, num_samples=num_samples, seed=seed) / rows.lengths


def log_prob(
    model: SSVAE, rows: EncodedRows, y: int | None = None, *, num_samples: int = 16, seed: int = 0
) -> NDArray[np.float64]:
    """log p(x) of each row, or log p(x | y), in nats, `[n]`; see `log_joint_table`."""
    table = log_joint_table(model, rows, num_samples=num_samples, seed=seed)
    if y is None:
        return np.asarray(np.logaddexp.reduce(table, 1))
    return table[:, y] - float(model.prior_logits[y])


def novelty(log_prob: NDArray[np.float64], reference: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 - p, p the conformal p-value of `log_prob` among held-out rows.

    p = (1 + number of held-out rows that are no likelier, per symbol) / (n + 1) (Bates et al. 2023,
    Testing for outliers with conformal p-values, eq. 2). For a row from the distribution of the
    held-out rows, p <= a has probability a at most: one of 20 such rows has a novelty of 0.95 or
    more. Novelty measures likelihood only, and a simple sequence of another kind may be likely
    (Nalisnick et al. 2019, Do deep generative models know what they don't know?).

    Args:
        log_prob: Result of `log_prob_per_symbol`, `[m]`.
        reference: Result of `log_prob_per_symbol` for held-out rows, `[n]`.

    Returns:
        From 0, as likely as the likeliest, to n / (n + 1), `[m]`.

    Example:
        >>> novelty(np.array([-1.0, -9.0]), np.array([-1.5, -2.0, -2.5]))
        array([0.  , 0.75])
    """
    no_likelier = np.searchsorted(np.sort(reference), log_prob, side="right")
    return np.asarray(1.0 - (1.0 + no_likelier) / (len(reference) + 1.0))
