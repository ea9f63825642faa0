"""Metrics of a model on some rows, without KL annealing and free bits, in nats per sequence.

The noise of each row is a function of the seed and of the row's index, so metrics do not depend on
the batches beyond rounding. Labels are compared with predictions and not read otherwise: bounds and
likelihoods are those of p(x) for labelled rows too.
"""

import dataclasses
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
from seqssvae.estimators.terms import normal_kl
from seqssvae.inference.classify import (
    common_noise,
    label_log_prob,
    label_logits,
    log_joint,
    powers_of,
    sample_log_likelihood,
)
from seqssvae.inference.decode import draw, evaluation_mode
from seqssvae.inference.tally import Tally, gather_tally
from seqssvae.model.ssvae import SSVAE, Features

Integers = npt.NDArray[np.int64]

ACTIVE_VARIANCE = 0.01  # of the posterior mean over x, for an active unit (Burda et al. 2016)
AGGREGATED_TERMS = 2**21  # densities that exist at once


@dataclasses.dataclass(frozen=True)
class Limits:
    """Sizes that bound memory; metrics depend on none but `aggregated_rows`.

    Attributes:
        least_batch: Rows of a batch at least, while there are as many.
        largest_batch: Rows of a batch at most.
        least_batches: Number of batches below which they have `least_batch` rows.
        batch_decoder_rows: Decoder rows that are enough for one batch.
        batch_symbols: Symbols of a batch at most, padding included.
        decoder_rows: Decoder rows that run at once.
        window_rows: Rows that are sorted by length at once.
        aggregated_rows: Rows from which q(z) is estimated; mutual information is at most the log.
        aggregated_terms: Densities of z that exist at once.
    """

    least_batch: int = 128
    largest_batch: int = 1024
    least_batches: int = 32
    batch_decoder_rows: int = 4096
    batch_symbols: int = 2**16
    decoder_rows: int = 1024
    window_rows: int = 2**17
    aggregated_rows: int = 512
    aggregated_terms: int = AGGREGATED_TERMS

    def batch_size(self, num_rows: int, runs_per_row: int) -> int:
        """Rows of a batch, given the rows in all and the decoder runs that each of them takes.

        Larger batches take less time per row, until the decoder has enough of them; batches of few
        rows in all would hold lengths that differ much, and leave none to other processes.
        """
        size = min(self.batch_decoder_rows // runs_per_row, num_rows // self.least_batches)
        return max(self.least_batch, min(size, self.largest_batch))


def evaluate(
    model: SSVAE,
    rows: EncodedRows,
    *,
    batch_size: int | None = None,
    num_samples: int = 16,
    seed: int = 0,
    mode: str = "q",
    weights: tuple[float, float] = (0.5, 0.5),
    limits: Limits = Limits(),  # noqa: B008 - frozen
) -> dict[str, Any]:
    """Measure a model on some rows.

    Costs `num_samples * K` runs of the decoder for each row. Processes share the batches, and each
    of them returns the metrics of all rows.

    Args:
        model: The model, evaluated in evaluation mode.
        rows: At least one row.
        batch_size: Rows that are encoded at once, fewer where they are long; 128 if None, and up to
            1024 where rows are many and samples and labels few.
        num_samples: Number of samples of z for each row and label.
        seed: Seed of the samples, 0 or more.
        mode: How rows are classified, as in `classify`.
        weights: Of "mix".
        limits: Sizes that bound memory.

    Returns:
        Plain numbers, means over rows unless noted:

        * `num_rows`, and `num_labelled`, rows with one known label;
        * over the labelled rows: `accuracy`, `log_loss`, `macro_f1` (over classes that occur or are
          predicted), `calibration_error` (expected, 15 bins); None where there are none;
        * `mode`, by which these are measured;
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
        batch_size = limits.batch_size(len(rows), num_samples * max(model.num_classes, 1))
    powers = powers_of(mode, weights)
    tally, aggregate = _measure_rows(model, rows, batch_size, num_samples, seed, limits, powers)
    information = 0.0
    if model.latent_size:
        information = mutual_information(**aggregate, max_terms=limits.aggregated_terms)
    return {
        "num_rows": tally.num_rows,
        **tally.labelled_metrics(),
        "mode": mode,
        "elbo": tally.mean("elbo"),
        "nll": tally.mean("nll"),
        "nats_per_symbol": float(tally.sums["nll"]) / int(tally.sums["symbols"]),
        "likelihood": tally.mean("likelihood"),
        "kl": tally.mean("kl"),
        "mutual_information": information,
        "active_units": int((tally.z_variance > ACTIVE_VARIANCE).sum()),
    }


def _measure_rows(
    model: SSVAE,
    rows: EncodedRows,
    batch_size: int,
    num_samples: int,
    seed: int,
    limits: Limits,
    powers: tuple[float, float],
) -> tuple[Tally, dict[str, Tensor]]:
    """The tally of all processes' rows, and the arguments of `mutual_information` for a subset."""
    subset = np.sort(np.random.default_rng(seed).permutation(len(rows))[: limits.aggregated_rows])
    tally: Tally | None = None
    parts: list[dict[str, Tensor]] = []
    positions = [subset[:0]]
    with distributed.together(), evaluation_mode(model):
        for number, indices in enumerate(_batch_indices(rows, batch_size, limits)):
            if number % distributed.size() != distributed.rank():
                continue
            batch = collate(rows, indices, num_classes=model.num_classes)
            batch = batch.to(model.prior_logits.device)
            features = model.encode(batch.x, batch.lengths, batch.whole)
            noise = _noise(seed, indices, num_samples, model.latent_size).to(features.z)
            log_q = _label_log_prob(model, features, noise)
            posterior = _posterior(model, features, log_q)
            samples = sample_log_likelihood(
                model, batch, features, noise, num_rows=limits.decoder_rows
            )
            logits = noise.new_zeros(1, 1)
            if model.num_classes:
                at_mean = common_noise(model, 0, None)
                logits = label_logits(model, batch, features, at_mean, powers)
            columns = _measure(model, batch, samples, log_q, posterior, logits.double())
            of_batch = Tally.of_rows(columns, model.num_classes)
            tally = of_batch if tally is None else tally + of_batch
            chosen = np.isin(indices, subset)
            if chosen.any():
                part = {name: value[chosen] for name, value in posterior.items()}
                parts.append(part | _aggregate_noise(seed, indices[chosen], model.latent_size))
                positions.append(np.searchsorted(subset, indices[chosen]))
    own = {name: torch.cat([part[name] for part in parts]) for name in (parts[0] if parts else ())}
    where = torch.from_numpy(np.concatenate(positions))
    return gather_tally(tally), distributed.collect(own, where, len(subset))


def _batch_indices(rows: EncodedRows, batch_size: int, limits: Limits) -> Iterator[Integers]:
    """Rows of each batch, `[B]`, of similar length and close to each other in the file."""
    for first in range(0, len(rows), limits.window_rows):
        window = rows.slice(first, first + limits.window_rows)
        for indices in evaluation_indices(window, batch_size, num_symbols=limits.batch_symbols):
            yield first + indices


def mutual_information(
    *,
    log_weight: Tensor,
    loc: Tensor,
    scale: Tensor,
    uniform: Tensor,
    noise: Tensor,
    max_terms: int = AGGREGATED_TERMS,
) -> float:
    """I_q(x; z) = E_q(x) KL(q(z | x) || q(z)) in nats, by Monte Carlo (He et al. 2019, eq. 4).

    q(z) is the mean of q(z | x) over the n rows, so the result is at most log n; one z is drawn
    from each row's q(z | x), a mixture over labels.

    Args:
        log_weight: Log weights of the J components of q(z | x), float64 `[n, J]`.
        loc: Locations of the components, float64 `[n, J, Z]`.
        scale: Scales of the components, float64 `[n, J, Z]`.
        uniform: Uniform numbers that choose a component, `[n]`.
        noise: Standard normal, `[n, Z]`.
        max_terms: Densities that exist at once.
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
    for some in row.split(max(1, max_terms // (num_rows * num_components))):
        log_density = z[some] @ scaled_loc.t() - 0.5 * z[some].square() @ precision.t() + constant
        given_x = log_density.unflatten(1, (num_rows, -1)).logsumexp(-1)  # [m, n]
        own = given_x.gather(1, some.unsqueeze(1)).squeeze(1)
        total += float((own - given_x.logsumexp(1) + math.log(num_rows)).sum())
    return total / num_rows


def _measure(
    model: SSVAE,
    batch: Batch,
    samples: tuple[Tensor, Tensor],
    log_q: Tensor,
    posterior: dict[str, Tensor],
    logits: Tensor,
) -> dict[str, npt.NDArray[Any]]:
    """Columns of `Tally.of_rows`.

    Args:
        model: The model.
        batch: The rows.
        samples: Of `sample_log_likelihood`.
        log_q: Of `_label_log_prob`.
        posterior: Of `_posterior`.
        logits: Of `label_logits`, `[B, K]`, as rows are classified; 0 without classes.
    """
    likelihoods, log_ratio = (part.double() for part in samples)  # [S, K, B], [S, K or 1, B]
    q = log_q.exp()  # [S or 1, K, B]
    prior = model.prior_logits.double() if model.num_classes else log_q.new_zeros(1)
    prior = prior.unsqueeze(1)
    divergence = torch.where(q > 0, q * (log_q - prior), 0.0).sum(1).mean(0)  # of y
    loc, scale = posterior["loc"], posterior["scale"]  # [B, J, Z]
    weight = posterior["log_weight"].exp()  # [B, J]
    likelihood = (q * likelihoods).sum(1).mean(0)
    kl = (weight * normal_kl(loc, scale).sum(-1)).sum(-1).to(likelihood)
    log_prob = logits.expand(batch.num_rows, max(model.num_classes, 1)).log_softmax(1)
    confidence, predicted = log_prob.exp().max(1)
    log_loss = -log_prob.gather(1, batch.y.clamp(min=0).unsqueeze(1)).squeeze(1)
    by_label = likelihoods.mean(0)  # [K, B]
    true = by_label.gather(0, batch.y.clamp(min=0).unsqueeze(0)).squeeze(0)
    wrong = (by_label.sum(0) - true) / max(model.num_classes - 1, 1)
    columns = {
        "elbo": likelihood - divergence - kl,
        "nll": -log_joint(model, likelihoods, log_ratio).logsumexp(0),
        "likelihood": likelihood,
        "kl": kl,
        "y_gap": true - wrong,
        "log_loss": log_loss,
        "confidence": confidence,
        "predicted": predicted,
        "y": batch.y,
        "length": batch.lengths,
        "z_mean": (weight.unsqueeze(-1) * loc).sum(1),
    }
    return {name: value.cpu().numpy() for name, value in columns.items()}


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
    mixed = model.num_classes and model.z_reads_y
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
    """Standard normal numbers `[S, B, Z]`, each row's a function of the seed and its index."""
    rows = [
        np.random.default_rng([seed, row]).standard_normal((num_samples, latent_size))
        for row in indices.tolist()
    ]
    return torch.from_numpy(np.stack(rows, 1))


def _aggregate_noise(seed: int, indices: Integers, latent_size: int) -> dict[str, Tensor]:
    """Random arguments of `mutual_information`: `uniform` `[b]` and `noise` `[b, Z]`."""
    uniform, noise = np.empty(len(indices)), np.empty((len(indices), latent_size))
    for position, row in enumerate(indices.tolist()):
        stream = np.random.default_rng([seed, row, 1])
        uniform[position], noise[position] = stream.random(), stream.standard_normal(latent_size)
    return {"uniform": torch.from_numpy(uniform), "noise": torch.from_numpy(noise)}
