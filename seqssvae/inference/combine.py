"""q(y | x) and Bayes' rule combined, with weights that are fitted to held-out labels.

    log r(y | x) = a log q(y | x) + b log p(y | x) + constant

The weights are the posterior mean given the labels, over a grid, of a log-normal prior: with few
labels they are near the prior's, with many they are the likeliest. A row's cross-fitted log-loss is
that of the weights fitted without it. q(y | x) and p(y | x) alone have such a weight too, which
makes them as sure as they are right.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, softmax

from seqssvae import progress
from seqssvae.data.batches import collate, evaluation_indices
from seqssvae.data.encoded import EncodedRows
from seqssvae.inference.classify import (
    MODES,
    common_noise,
    label_log_prob,
    log_joint,
    log_mean_exp,
    sample_log_likelihood,
)
from seqssvae.inference.predict import classify_table
from seqssvae.model.ssvae import SSVAE
from seqssvae.nn.precision import evaluation_mode
from seqssvae.shapes import wide

Float64 = NDArray[np.float64]

MOST_ROWS = 5000  # of which `measure_q` keeps the log-losses
CLEARLY = 2.0  # standard errors
GRID = np.linspace(np.log(1 / 64), np.log(4), 25)  # of log a and log b
# mean and standard deviation of log a and of log b, from sets of words, DNA, names and texts; that
# of log b beside the power with which p(y | x) alone is as sure as it is right
PRIOR_A = (-0.4, 0.4)
PRIOR_B = (-0.8, 0.5)
USUAL_POWER = -0.3  # its log, where rows without labels and a teacher do not tell it


class Comparison(NamedTuple):
    """The ways to classify, measured on n labelled rows that training did not see.

    Attributes:
        best: "mix", or the mode with the least cross-fitted log-loss where that is less by more
            than two standard errors of the difference.
        weights: Weights of "mix", fitted to all rows.
        powers: Weights of q(y | x) alone and of p(y | x) alone, fitted to all rows.
        accuracy: Of each mode; "mix" is cross-fitted.
        log_loss: Of each mode, in nats a row, with a weight of 1; "mix" is cross-fitted.
        losses: Log-loss of each row by each mode, cross-fitted, `[n]`.
        q_losses: Log-loss of each row by q(y | x) with a weight of 1, `[n]`.
    """

    best: str
    weights: tuple[float, float]
    powers: tuple[float, float]
    accuracy: dict[str, float]
    log_loss: dict[str, float]
    losses: dict[str, Float64]
    q_losses: Float64


def expected_log_power(log_teacher: Float64, log_posterior: Float64) -> float:
    """Log of the power with which p(y | x) is as sure as it is right, from rows without labels.

    It is that of the least cross-entropy to a teacher, which is calibrated. A likelihood that takes
    the symbols for more independent than they are needs a power far below 1.

    Args:
        log_teacher: Its log-probabilities, `[n, K]`.
        log_posterior: log p(y | x), `[n, K]`.
    """
    tempered = log_softmax(np.exp(GRID)[:, None, None] * log_posterior, axis=-1)  # [G, n, K]
    fit = (np.exp(log_teacher) * tempered).sum((1, 2))
    return float(GRID[fit.argmax()])


def compare_modes(
    log_q: Float64,
    log_posterior: Float64,
    y: NDArray[np.int64],
    log_power: float = USUAL_POWER,
) -> Comparison:
    """Fit the weights and compare the modes.

    Args:
        log_q: log q(y | x), `[n, K]`.
        log_posterior: log p(y | x), `[n, K]`.
        y: Classes, `[n]`, n at least 1.
        log_power: Prior mean of the logarithm of the power of p(y | x) alone.
    """
    rows, powers = np.arange(len(y)), np.exp(GRID)[:, None, None]
    of_b = powers * log_posterior  # [G, n, K]

    def fit(tables: Float64) -> Float64:
        of_classes: Float64 = log_softmax(tables, axis=-1)[..., rows, y]
        return of_classes

    prior_a = -0.5 * ((GRID - PRIOR_A[0]) / PRIOR_A[1]) ** 2
    prior_p, prior_b = (
        -0.5 * ((GRID - log_power - mean) / PRIOR_B[1]) ** 2 for mean in (0.0, PRIOR_B[0])
    )
    of_both = np.stack([fit(a * log_q + of_b) for a in powers])  # [G, G, n]
    both = np.stack(np.meshgrid(GRID, GRID, indexing="ij"), -1).reshape(-1, 2)
    weights = _posterior_means(
        of_both.reshape(-1, len(y)), (prior_a[:, None] + prior_b).ravel(), both
    )
    q_power = _posterior_means(fit(powers * log_q), prior_a, GRID[:, None])
    p_power = _posterior_means(fit(of_b), prior_p, GRID[:, None])
    mixed = weights[:-1, :1] * log_q + weights[:-1, 1:] * log_posterior
    plain = dict(zip(MODES, (log_q, log_posterior, mixed), strict=True))
    fitted = plain | {"q": q_power[:-1] * log_q, "posterior": p_power[:-1] * log_posterior}
    plain_loss, loss = (
        {mode: -fit(table) for mode, table in tables.items()} for tables in (plain, fitted)
    )
    best = min(MODES, key=lambda mode: loss[mode].mean())
    gain = loss["mix"] - loss[best]
    if gain.mean() <= CLEARLY * gain.std(ddof=min(1, len(y) - 1)) / np.sqrt(len(y)):
        best = "mix"
    a_fit, b_fit = weights[-1].tolist()
    return Comparison(
        best,
        (a_fit, b_fit),
        (float(q_power[-1, 0]), float(p_power[-1, 0])),
        {mode: float((table.argmax(1) == y).mean()) for mode, table in plain.items()},
        {mode: float(of_mode.mean()) for mode, of_mode in plain_loss.items()},
        loss,
        plain_loss["q"],
    )


def _posterior_means(fit: Float64, log_prior: Float64, log_weights: Float64) -> Float64:
    """Weights fitted without each row, and to all rows in the end, `[n + 1, D]`.

    Args:
        fit: Log-probability of each row's class at each point of a grid, `[G, n]`.
        log_prior: Of each point, `[G]`, not normalised.
        log_weights: Of each point, `[G, D]`.
    """
    total = log_prior + fit.sum(1)
    of_points = softmax(np.column_stack([total[:, None] - fit, total]), axis=0)  # [G, n + 1]
    weights: Float64 = np.exp(of_points.T @ log_weights)
    return weights


class LabelTables(NamedTuple):
    """What a model says of n rows.

    Attributes:
        log_q: log q(y | x), `[n, K]`.
        log_posterior: log p(y | x), `[n, K]`.
        log_teacher: That of the n-gram part of q(y | x), `[n, K]`; None where there is none.
        log_prob: log p(x) / T, as of `log_prob_per_symbol`, `[n]`.
    """

    log_q: Float64
    log_posterior: Float64
    log_teacher: Float64 | None
    log_prob: Float64


def label_tables(model: SSVAE, rows: EncodedRows) -> LabelTables:
    """Log-probabilities of the labels of some rows, with z at its mean; their labels are not read.

    Args:
        model: A model with classes, evaluated in evaluation mode.
        rows: n rows.
    """
    log_q, log_posterior, log_teacher = np.zeros((3, len(rows), model.num_classes))
    tables = LabelTables(log_q, log_posterior, log_teacher, np.zeros(len(rows)))
    with progress.task("rows measured", len(rows)) as task, evaluation_mode(model):
        for index in evaluation_indices(rows, 256, num_symbols=2**14):
            batch = collate(rows, index, num_classes=0).to(model.prior_logits.device)
            features = model.encode_batch(batch)
            noise = common_noise(model, 0, None)
            joint = log_joint(model, *sample_log_likelihood(model, batch, features, noise))
            of_q = log_mean_exp(label_log_prob(model, features, noise))
            tables.log_prob[index] = (wide(joint).logsumexp(0).cpu() / batch.lengths).numpy()
            for table, value in zip(tables[:3], (of_q, joint.t(), features.ngrams), strict=True):
                if table is not None and value is not None:
                    table[index] = wide(value).log_softmax(-1).cpu().numpy()
            task.advance(len(index))
    return tables if model.ngrams is not None else tables._replace(log_teacher=None)


def measure_q(model: SSVAE, rows: EncodedRows, *, seed: int) -> dict[str, Any]:
    """What `measure_modes` has of q(y | x), for a model without a decoder; nothing without rows."""
    if not len(rows):
        return {}
    rows = rows.take(np.sort(np.random.default_rng(seed).permutation(len(rows))[:MOST_ROWS]))
    table = classify_table(model, rows)
    losses = -np.log(table[np.arange(len(rows)), rows.y].clip(1e-30))
    return {
        "num_mode_rows": len(rows),
        "q_accuracy": float((table.argmax(1) == rows.y).mean()),
        "held_out": {  # q is the only mode, in the place of the others too
            "y": rows.y.tolist(),
            "losses": dict.fromkeys(MODES, losses.tolist()),
            "log_prob": [],
        },
    }


def measure_modes(
    model: SSVAE,
    rows: EncodedRows,
    *,
    seed: int,
    unlabelled: EncodedRows | None = None,
    max_rows: int = 512,
) -> dict[str, Any]:
    """Compare the ways to classify, and the teacher, on labelled rows.

    Args:
        model: A model with classes, evaluated in evaluation mode.
        rows: Rows with a label that training did not see, at least one.
        seed: Seed of the choice of rows.
        unlabelled: Rows without a label that training did not see, for `expected_log_power`.
        max_rows: Rows that are read; of more, a random part.

    Returns:
        `num_mode_rows`, whose figures these are; `NAME_accuracy` and `NAME_log_loss` (nats a row)
        for "q", "posterior", "mix" and, where q has an n-gram part, that one as "teacher";
        `best_mode`, `mix_weights`, `powers` and `q_losses` of `compare_modes`; `teacher_weight`,
        the ratio of the weights of teacher and posterior in their own product; `held_out`, as of
        `HeldOut`.
    """
    rows, others = (
        some.take(np.sort(np.random.default_rng(seed).permutation(len(some))[:max_rows]))
        for some in (rows, unlabelled or rows.slice(0, 0))
    )
    y, tables = rows.y, label_tables(model, rows)
    log_power, of_others = USUAL_POWER, label_tables(model, others)
    if tables.log_teacher is not None and len(others):
        assert of_others.log_teacher is not None
        log_power = expected_log_power(of_others.log_teacher, of_others.log_posterior)
    modes = compare_modes(tables.log_q, tables.log_posterior, y, log_power)
    measured: dict[str, Any] = {"best_mode": modes.best, "mix_weights": list(modes.weights)}
    measured["powers"], measured["q_losses"] = list(modes.powers), modes.q_losses.tolist()
    measured["held_out"] = {
        "y": y.tolist(),
        "losses": {mode: of_mode.tolist() for mode, of_mode in modes.losses.items()},
        "log_prob": [*tables.log_prob.tolist(), *of_others.log_prob.tolist()],
    }
    measured["num_mode_rows"] = len(rows)
    measured |= {f"{mode}_accuracy": modes.accuracy[mode] for mode in MODES}
    measured |= {f"{mode}_log_loss": modes.log_loss[mode] for mode in MODES}
    if tables.log_teacher is not None:
        with_teacher = compare_modes(tables.log_teacher, tables.log_posterior, y, log_power)
        measured["teacher_accuracy"] = with_teacher.accuracy["q"]
        measured["teacher_log_loss"] = with_teacher.log_loss["q"]
        measured["teacher_weight"] = with_teacher.weights[0] / with_teacher.weights[1]
    return measured
