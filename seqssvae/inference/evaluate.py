"""What a model is worth on some rows: un-annealed, in nats per sequence, whatever was trained.

The noise of each row is a function of the seed and of the row's place among the rows, so that the
figures do not depend on how the rows are batched. Labels are compared with and never read: bounds
and likelihoods are those of p(x) for labelled rows too.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from seqssvae import distributed
from seqssvae.data.batches import Batch, collate, evaluation_indices
from seqssvae.data.encoded import EncodedRows
from seqssvae.errors import InputError
from seqssvae.inference.classify import label_log_prob, log_mean_exp, sample_log_likelihood
from seqssvae.inference.decode import draw, evaluation_mode
from seqssvae.inference.tally import NUM_BINS, Tally, bin_numbers, gather_tally
from seqssvae.model.ssvae import SSVAE, Features

__all__ = ["calibration_error", "evaluate", "macro_f1", "mutual_information", "reliability"]

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

ACTIVE_VARIANCE = 0.01  # of the posterior mean over x, for an active unit (Burda et al. 2016)
AGGREGATED_ROWS = 512  # rows whose posteriors stand for q(z); no more than log 512 nats are seen
AGGREGATED_TERMS = 2**21  # densities that exist at once
WINDOW_ROWS = 2**17  # whose lengths are sorted at once
LEAST_BATCH, LARGEST_BATCH = 128, 1024  # rows that are encoded at once
NUM_BATCHES = 32  # that rows make, before batches grow
DECODER_ROWS = 4096  # that are enough for one batch
NUM_SYMBOLS = 2**16  # of a batch that is encoded, pads included


def evaluate(
    model: SSVAE,
    rows: EncodedRows,
    *,
    batch_size: int | None = None,
    num_samples: int = 16,
    seed: int = 0,
) -> dict[str, Any]:
    """Measure a model on some rows.

    Costs `num_samples * K` runs of the decoder for each row. Ranks share the batches, and all of
    them get the figures that one alone would get.

    Args:
        model: The model; it is put into evaluation mode meanwhile.
        rows: At least one.
        batch_size: Rows that are encoded at once, fewer where they are long; 128 if None, and up to
            1024 where rows are many and samples and labels few. The figures do not depend on it.
        num_samples: Samples of z for each row and label.
        seed: Of the samples, 0 or more.

    Returns:
        Plain numbers, means over rows where nothing else is said:

        * `num_rows`, and `num_labelled`, rows with one known label;
        * over the labelled rows, by q(y | x): `accuracy`, `macro_f1` (over classes that occur or
          are predicted), `calibration_error` (expected, 15 bins); None where there are none;
        * `elbo`: U(x) with the analytic KL; `likelihood`: E_q log p(x | y, z); `kl`:
          E_q(y|x) KL(q(z | x, y) || p(z));
        * `nll`: -log sum_y p(y) p(x | y), p(x | y) from importance samples of z (Burda et al.
          2016); `nats_per_symbol`: the same, in total over all symbols, EOS included;
        * `mutual_information`: of x and z under q, see `mutual_information`, over 512 rows at
          most; `active_units`: dims of z whose posterior mean has a variance above 0.01;
        * `y_gap`: over the labelled rows, E_q log p(x | y, z) at the true label minus its mean
          over the wrong ones, z from q(z | x, y) of the same label; None without a wrong label.

    Raises:
        InputError: no rows, no samples, or a negative seed.
    """
    if not len(rows):
        raise InputError("wanted at least one row to evaluate, got none")
    if num_samples < 1:
        raise InputError(f"num_samples: wanted at least 1, got {num_samples}")
    if seed < 0:
        raise InputError(f"seed: wanted 0 or more, got {seed}")
    num_samples = num_samples if model.latent_size else 1
    if batch_size is None:
        batch_size = _fitting_batch_size(len(rows), num_samples * max(model.num_classes, 1))
    tally, kept = _measure_rows(model, rows, batch_size, num_samples, seed)
    information = mutual_information(**kept) if model.latent_size else 0.0
    return {
        "num_rows": tally.num_rows,
        **tally.labelled_figures(),
        "elbo": tally.mean("elbo"),
        "nll": tally.mean("nll"),
        "nats_per_symbol": tally.total("nll") / tally.num_symbols,
        "likelihood": tally.mean("likelihood"),
        "kl": tally.mean("kl"),
        "mutual_information": information,
        "active_units": int((tally.z_variance > ACTIVE_VARIANCE).sum()),
    }


def _measure_rows(
    model: SSVAE, rows: EncodedRows, batch_size: int, num_samples: int, seed: int
) -> tuple[Tally, dict[str, Tensor]]:
    """The tally of all ranks' rows, and what `mutual_information` takes of some of them."""
    subset = np.sort(np.random.default_rng(seed).permutation(len(rows))[:AGGREGATED_ROWS])
    tally: Tally | None = None
    kept: list[dict[str, Tensor]] = []
    places = [subset[:0]]
    with distributed.together(), evaluation_mode(model):
        for number, indices in enumerate(_batch_indices(rows, batch_size)):
            if number % distributed.size() != distributed.rank():
                continue
            batch = collate(rows, indices, num_classes=model.num_classes)
            batch = batch.to(model.prior_logits.device)
            features = model.encode(batch.x, batch.lengths)
            noise = _noise(seed, indices, num_samples, model.latent_size).to(features.z)
            log_q = _label_log_prob(model, features, noise)
            posterior = _posterior(model, features, log_q)
            columns = _measure(model, batch, features, noise, log_q, posterior)
            found = Tally.of_rows(columns, model.num_classes)
            tally = found if tally is None else tally + found
            chosen = np.isin(indices, subset)
            if chosen.any():
                some = {name: value[chosen] for name, value in posterior.items()}
                kept.append(some | _aggregate_noise(seed, indices[chosen], model.latent_size))
                places.append(np.searchsorted(subset, indices[chosen]))
    own = {name: torch.cat([part[name] for part in kept]) for name in (kept[0] if kept else ())}
    where = torch.from_numpy(np.concatenate(places))
    return gather_tally(tally), distributed.collect(own, where, len(subset))


def _fitting_batch_size(num_rows: int, num_runs: int) -> int:
    """Rows of a batch, for so many rows in all, each of which the decoder reads so many times.

    Larger batches take less time for each row, until the decoder has enough of them; of few rows
    they would hold lengths that differ much, and leave nothing to other ranks.
    """
    fitting = min(DECODER_ROWS // num_runs, num_rows // NUM_BATCHES)
    return max(LEAST_BATCH, min(fitting, LARGEST_BATCH))


def _batch_indices(rows: EncodedRows, batch_size: int) -> Iterator[Integers]:
    """Which rows each batch holds, of similar length and not far from each other, `[B]`."""
    for first in range(0, len(rows), WINDOW_ROWS):
        window = rows.slice(first, first + WINDOW_ROWS)
        for indices in evaluation_indices(window, batch_size, num_symbols=NUM_SYMBOLS):
            yield first + indices


def mutual_information(
    *, log_weight: Tensor, loc: Tensor, scale: Tensor, uniform: Tensor, noise: Tensor
) -> float:
    """I_q(x; z) = E_q(x) KL(q(z | x) || q(z)) in nats, by Monte Carlo (He et al. 2019, eq. 4).

    q(z) is the mean of q(z | x) over the rows given, so that no more than log n nats are seen; one
    z is drawn from each row's q(z | x), a mixture over labels.

    Args:
        log_weight: Of the J components of q(z | x), float64 `[n, J]`.
        loc: Of the components, float64 `[n, J, Z]`.
        scale: Of the components, float64 `[n, J, Z]`.
        uniform: Chooses a component, `[n]`.
        noise: Standard normal, `[n, Z]`.
    """
    num_rows, num_components, latent_size = loc.shape
    row = torch.arange(num_rows)
    component = draw(log_weight.exp(), uniform)
    z = loc[row, component] + scale[row, component] * noise  # [n, Z]
    precision = scale.pow(-2).flatten(0, 1)  # [n J, Z]
    scaled_loc = loc.flatten(0, 1) * precision
    constant = log_weight.flatten() - scale.log().sum(-1).flatten()
    constant = constant - 0.5 * (loc.flatten(0, 1) * scaled_loc).sum(-1)  # [n J]
    constant = constant - 0.5 * latent_size * math.log(2 * math.pi)
    total = 0.0
    for some in row.split(max(1, AGGREGATED_TERMS // (num_rows * num_components))):
        log_density = z[some] @ scaled_loc.t() - 0.5 * z[some].square() @ precision.t() + constant
        given_x = log_density.unflatten(1, (num_rows, -1)).logsumexp(-1)  # [m, n]
        own = given_x.gather(1, some.unsqueeze(1)).squeeze(1)
        total += float((own - given_x.logsumexp(1) + math.log(num_rows)).sum())
    return total / num_rows


def macro_f1(y: Integers, predicted: Integers) -> float:
    """The mean of F1 over the classes that occur in either, each `[n]`."""
    scores = []
    for label in np.union1d(y, predicted):
        hits = np.sum((y == label) & (predicted == label))
        scores.append(2 * hits / (np.sum(y == label) + np.sum(predicted == label)))
    return float(np.mean(scores))


def calibration_error(confidence: Floats, correct: Bools) -> float:
    """The expected calibration error over 15 bins of equal width (Guo et al. 2017, eq. 3).

    Args:
        confidence: Probability of the predicted label, `[n]`.
        correct: Whether it was the true one, `[n]`.
    """
    gaps = np.bincount(bin_numbers(confidence), weights=correct - confidence, minlength=NUM_BINS)
    return float(np.abs(gaps).sum() / len(confidence))


def reliability(confidence: Floats, correct: Bools) -> tuple[Floats, Floats, Integers]:
    """What the reliability diagram shows, of the bins that `calibration_error` uses.

    Args:
        confidence: Probability of the predicted label, `[n]`.
        correct: Whether it was the true one, `[n]`.

    Returns:
        Mean confidence, accuracy and number of rows of each bin that holds rows, from the lowest
        confidence to the highest.
    """
    number = bin_numbers(confidence)
    counts = np.bincount(number, minlength=NUM_BINS)
    held = counts > 0
    sums = [np.bincount(number, weights=w, minlength=NUM_BINS) for w in (confidence, correct)]
    mean_confidence, accuracy = (total[held] / counts[held] for total in sums)
    return mean_confidence, accuracy, counts[held]


def _measure(
    model: SSVAE,
    batch: Batch,
    features: Features,
    noise: Tensor,
    log_q: Tensor,
    posterior: dict[str, Tensor],
) -> dict[str, npt.NDArray[Any]]:
    """Each row's figures, as `Tally` wants them; arguments as made below."""
    likelihoods, log_ratio = (
        part.double() for part in sample_log_likelihood(model, batch, features, noise)
    )  # [S, K, B], [S, K or 1, B]
    q = log_q.exp()  # [S or 1, K, B]
    prior = model.prior_logits.double() if model.num_classes else log_q.new_zeros(1)
    prior = prior.unsqueeze(1)
    divergence = torch.where(q > 0, q * (log_q - prior), 0.0).sum(1).mean(0)  # of y
    loc, scale = posterior["loc"], posterior["scale"]  # [B, J, Z]
    weight = posterior["log_weight"].exp()  # [B, J]
    component_kl = (0.5 * (loc.square() + scale.square() - 1) - scale.log()).sum(-1)
    likelihood = (q * likelihoods).sum(1).mean(0)
    kl = (weight * component_kl).sum(-1).to(likelihood)
    log_joint = log_mean_exp(likelihoods + log_ratio) + prior  # [K, B]
    confidence, predicted = q.mean(0).max(0)
    by_label = likelihoods.mean(0)  # [K, B]
    true = by_label.gather(0, batch.y.clamp(min=0).unsqueeze(0)).squeeze(0)
    wrong = (by_label.sum(0) - true) / max(model.num_classes - 1, 1)
    figures = {
        "elbo": likelihood - divergence - kl,
        "nll": -log_joint.logsumexp(0),
        "likelihood": likelihood,
        "kl": kl,
        "y_gap": true - wrong,
        "confidence": confidence,
        "predicted": predicted,
        "y": batch.y,
        "length": batch.lengths,
        "z_mean": (weight.unsqueeze(-1) * loc).sum(1),
    }
    return {name: value.cpu().numpy() for name, value in figures.items()}


def _label_log_prob(model: SSVAE, features: Features, noise: Tensor) -> Tensor:
    """Log of q(y | x) or q(y | x, z), float64 `[S or 1, K, B]`; zeros `[1, 1, B]` if K is 0."""
    if not model.num_classes:
        return noise.new_zeros(1, 1, noise.shape[1], dtype=torch.float64)
    return label_log_prob(model, features, noise).double().transpose(1, 2)


def _posterior(model: SSVAE, features: Features, log_q: Tensor) -> dict[str, Tensor]:
    """q(z | x) as a mixture of J normals, J = K if z depends on y and else 1; float64, CPU.

    Returns:
        `log_weight` `[B, J]`, `loc` and `scale` `[B, J, Z]`.
    """
    mixed = model.num_classes and model.factorisation == "z-given-y"
    y = torch.arange(model.num_classes, device=log_q.device).unsqueeze(1) if mixed else None
    loc, scale = (
        part.expand(model.num_classes if mixed else 1, *part.shape[-2:])
        for part in model.z_posterior(features, y)
    )  # [J, B, Z]
    log_weight = log_q[0] if mixed else torch.zeros_like(log_q[0, :1])  # [J, B]
    return {
        "log_weight": log_weight.t().cpu(),
        "loc": loc.transpose(0, 1).cpu().double(),
        "scale": scale.transpose(0, 1).cpu().double(),
    }


def _noise(seed: int, indices: Integers, num_samples: int, latent_size: int) -> Tensor:
    """Standard normal numbers `[S, B, Z]`, each row's a function of the seed and its place."""
    rows = [
        np.random.default_rng([seed, row]).standard_normal((num_samples, latent_size))
        for row in indices.tolist()
    ]
    return torch.from_numpy(np.stack(rows, 1))


def _aggregate_noise(seed: int, indices: Integers, latent_size: int) -> dict[str, Tensor]:
    """What `mutual_information` draws a row's z with: `uniform` `[b]` and `noise` `[b, Z]`."""
    uniform, noise = np.empty(len(indices)), np.empty((len(indices), latent_size))
    for position, row in enumerate(indices.tolist()):
        stream = np.random.default_rng([seed, row, 1])
        uniform[position], noise[position] = stream.random(), stream.standard_normal(latent_size)
    return {"uniform": torch.from_numpy(uniform), "noise": torch.from_numpy(noise)}
