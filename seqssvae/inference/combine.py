"""q(y | x) and Bayes' rule combined, with weights that are fitted to held-out labels.

    log r(y | x) = a log q(y | x) + b log p(y | x) + constant

The weights have a prior (log-normal, independent) and are its posterior mean given the labels, over
a grid: with few labels they stay near the prior's, with many they are the likeliest. A row's
cross-fitted log-loss is that of the weights fitted without it.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import log_softmax, softmax

from seqssvae.data.batches import evaluation_batches
from seqssvae.data.encoded import EncodedRows
from seqssvae.inference.classify import (
    MODES,
    common_noise,
    label_log_prob,
    log_joint,
    log_mean_exp,
    sample_log_likelihood,
)
from seqssvae.inference.decode import evaluation_mode
from seqssvae.model.ssvae import SSVAE

Float64 = NDArray[np.float64]

GRID = np.linspace(np.log(1 / 64), np.log(4), 25)  # of log a and log b
PRIOR_A = (0.0, 0.5)  # mean and standard deviation of log a
PRIOR_B = (-1.0, 1.5)
PENALTY = 0.01  # nats a row that "mix" must gain over the others, which are cheaper or simpler


class Comparison(NamedTuple):
    """The ways to classify, measured on n labelled rows that training did not see.

    Attributes:
        best: The mode with the least cross-fitted log-loss.
        weights: Weights of "mix", fitted to all rows.
        accuracy: Of each mode; "mix" is cross-fitted.
        log_loss: Of each mode, in nats a row; "mix" is cross-fitted.
    """

    best: str
    weights: tuple[float, float]
    accuracy: dict[str, float]
    log_loss: dict[str, float]


def compare_modes(log_q: Float64, log_posterior: Float64, y: NDArray[np.int64]) -> Comparison:
    """Fit the weights and compare the modes.

    Args:
        log_q: log q(y | x), `[n, K]`.
        log_posterior: log p(y | x), `[n, K]`.
        y: Classes, `[n]`, n at least 1.
    """
    rows = np.arange(len(y))
    a, b = np.exp(GRID)[:, None, None, None], np.exp(GRID)[:, None, None]
    log_r = log_softmax(a * log_q + b * log_posterior, axis=-1)  # [A, B, n, K]
    fit = log_r[..., rows, y]  # [A, B, n]
    log_prior = -0.5 * (
        ((GRID[:, None] - PRIOR_A[0]) / PRIOR_A[1]) ** 2 + ((GRID - PRIOR_B[0]) / PRIOR_B[1]) ** 2
    )
    total = log_prior + fit.sum(-1)
    grid = np.stack(np.meshgrid(GRID, GRID, indexing="ij"))  # [2, A, B]

    def mean(log_weight: Float64) -> Float64:
        weights: Float64 = np.exp((grid * softmax(log_weight)).sum((1, 2)))
        return weights

    held_out = np.array([mean(total - fit[..., row]) for row in rows])  # [n, 2]
    mixed = held_out[:, :1] * log_q + held_out[:, 1:] * log_posterior
    by_mode = dict(zip(MODES, (log_q, log_posterior, mixed), strict=True))
    by_mode = {mode: log_softmax(table, axis=1) for mode, table in by_mode.items()}
    loss = {mode: float(-table[rows, y].mean()) for mode, table in by_mode.items()}
    accuracy = {mode: float((table.argmax(1) == y).mean()) for mode, table in by_mode.items()}
    a_fit, b_fit = mean(total).tolist()
    best = min(MODES, key=lambda mode: loss[mode] + PENALTY * (mode == "mix"))
    return Comparison(best, (a_fit, b_fit), accuracy, loss)


def measure_modes(
    model: SSVAE, rows: EncodedRows, *, num_samples: int, seed: int, max_rows: int = 512
) -> dict[str, Any]:
    """Accuracy and log-loss of every way to classify, and of the teacher, on labelled rows.

    Args:
        model: A model with classes, evaluated in evaluation mode.
        rows: Rows with a label that training did not see, at least one.
        num_samples: Samples of z.
        seed: Seed of the samples.
        max_rows: Rows that are read; of more, a random part.

    Returns:
        `NAME_accuracy` and `NAME_log_loss` (nats a row) for "q", "posterior", "mix" and, where the
        encoder has n-grams, "teacher"; `best_mode`, `mix_weights`, and `teacher_weight`, the ratio
        of the weights of teacher and posterior in their own product.
    """
    chosen = np.sort(np.random.default_rng(seed).permutation(len(rows))[:max_rows])
    rows = rows.take(chosen)
    tables = {name: np.zeros((len(rows), model.num_classes)) for name in ("q", "joint", "teacher")}
    with evaluation_mode(model):
        for index, cpu in evaluation_batches(rows, 256, num_classes=model.num_classes):
            batch = cpu.to(model.prior_logits.device)
            features = model.encode(batch.x, batch.lengths, batch.whole)
            noise = common_noise(model, num_samples, torch.Generator().manual_seed(seed))
            joint = log_joint(model, *sample_log_likelihood(model, batch, features, noise))
            of_batch = {
                "q": log_mean_exp(label_log_prob(model, features, noise)),
                "joint": joint.t(),
                "teacher": features.ngrams,
            }
            for name, value in of_batch.items():
                if value is not None:
                    tables[name][index] = value.double().cpu().numpy()
    y = rows.y
    log_posterior = log_softmax(tables["joint"], axis=1)
    modes = compare_modes(tables["q"], log_posterior, y)
    measured: dict[str, Any] = {"best_mode": modes.best, "mix_weights": list(modes.weights)}
    for mode in MODES:
        measured[f"{mode}_accuracy"] = modes.accuracy[mode]
        measured[f"{mode}_log_loss"] = modes.log_loss[mode]
    if model.ngrams is not None:
        teacher = log_softmax(tables["teacher"], axis=1)
        a, b = compare_modes(teacher, log_posterior, y).weights
        measured["teacher_weight"] = a / b
        measured["teacher_accuracy"] = float((teacher.argmax(1) == y).mean())
        measured["teacher_log_loss"] = float(-teacher[np.arange(len(y)), y].mean())
    return measured
