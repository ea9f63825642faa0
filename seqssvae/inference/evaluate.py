"""Metrics of a model on some rows, without KL annealing and free bits, in nats per sequence.

The noise of each row is a function of the seed and of the row's index, so metrics do not depend on
the batches beyond rounding. Labels are compared with predictions and not read otherwise: bounds and
likelihoods are those of p(x) for labelled rows too.
"""

import dataclasses
import functools
import itertools
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from seqssvae import distributed, progress
from seqssvae.data.batches import Batch, collate, evaluation_indices
from seqssvae.data.encoded import EncodedRows
from seqssvae.errors import InputError, check_whole
from seqssvae.inference.classify import (
    common_noise,
    label_logits,
    log_joint,
    sample_log_likelihood,
)
from seqssvae.inference.conformal import label_sets
from seqssvae.inference.latent import (
    AGGREGATED_TERMS,
    all_label_log_prob,
    expected_kl,
    mutual_information,
)
from seqssvae.inference.predict import MAX_ROWS, NUM_SYMBOLS
from seqssvae.inference.tally import Tally, gather_tally
from seqssvae.model.ssvae import SSVAE, Features
from seqssvae.nn.precision import evaluation_mode
from seqssvae.shapes import wide

Integers = npt.NDArray[np.int64]

LIKELIHOOD_ROWS = 1000  # that are drawn for likelihoods, unless asked for more
NUM_SAMPLES = 4  # with which the NLL is nearer to that of 16 than its standard error
ACTIVE_VARIANCE = 0.01  # of the posterior mean over x, for an active unit (Burda et al. 2016)


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
        classified_rows: Rows that are classified at once, at most.
        classified_symbols: Symbols of these, padding included.
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
    classified_rows: int = MAX_ROWS
    classified_symbols: int = NUM_SYMBOLS
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
    likelihood_rows: int | None = None,
    seed: int = 0,
    mode: str = "q",
    weights: tuple[float, float] = (1.0, 1.0),
    class_names: Sequence[str] | None = None,
    greatest: npt.NDArray[np.float64] | None = None,
    limits: Limits = Limits(),  # noqa: B008 - frozen
) -> dict[str, Any]:
    """Measure a model on some rows.

    Labelled rows are classified, which costs what `classify` does. Likelihoods cost
    `num_samples * K` runs of the decoder for each row, so that they may be those of fewer rows, a
    random part. Processes share the batches, and each of them returns the metrics of all rows.

    Args:
        model: The model, evaluated in evaluation mode.
        rows: At least one row.
        batch_size: Rows that are encoded at once, fewer where they are long; chosen by their
            number and by that of samples and labels if None.
        num_samples: Number of samples of z for each row and label.
        likelihood_rows: Rows that likelihoods are measured on, if there are more; None: all; 0:
            none, and there are no figures of them.
        seed: Seed of the samples and of the choice of rows, 0 or more.
        mode: How rows are classified, as in `classify`.
        weights: As in `classify`.
        class_names: Names of the classes: what is measured of each is returned too.
        greatest: Of `greatest_losses`, `[K]`: the sets of labels are measured too.
        limits: Sizes that bound memory.

    Returns:
        Plain numbers:

        * `num_rows`, and `num_labelled`, rows with one known label;
        * over the labelled rows: `accuracy` and its 95 % interval by Wilson's method, from
          `accuracy_low` to `accuracy_high`; `log_loss`, `macro_f1` (over classes that occur or are
          predicted), `calibration_error` (expected, 15 bins); None where there are none;
        * `mode`, by which these are measured;
        * with `greatest`: `set_coverage`, the share of labelled rows whose set holds the true
          label, and `set_size`, the mean number of labels in it;
        * with `class_names`: `classes`, by name the `num_labelled` and `num_predicted` rows,
          `precision`, `recall` and `f1` (None: of no rows), and `confusion`, the number of rows by
          label (rows) and predicted label (columns), None for more than 300 classes;
        * `num_likelihood_rows`, those of all figures below, which are means over them unless noted,
          each with its standard error, `NAME_se` (None for a single row);
        * `elbo`: U(x) with the analytic KL; `likelihood`: E_q log p(x | y, z); `kl`:
          E_q(y|x) KL(q(z | x, y) || p(z));
        * `nll`: -log sum_y p(y) p(x | y), p(x | y) from importance samples of z (Burda et al.
          2016); `nats_per_symbol`: the same, in total over all symbols, EOS included;
        * `y_gap`: over the labelled rows among them, E_q log p(x | y, z) at the true label minus
          its mean over the wrong ones, z from q(z | x, y) of the same label; None without a wrong
          label;
        * `mutual_information`: of x and z under q, see `mutual_information`, over 512 rows at
          most; `active_units`: dims of z whose posterior mean has a variance above 0.01.

    Raises:
        InputError: no rows, or a number that is not whole or too small.
    """
    if not len(rows):
        raise InputError("wanted at least one row to evaluate, got none")
    check_whole("num_samples", num_samples, 1, sys.maxsize)
    if likelihood_rows is not None:
        check_whole("likelihood_rows", likelihood_rows, 0, sys.maxsize)
    check_whole("seed", seed, 0, sys.maxsize)
    num_samples = num_samples if model.latent_size else 1
    order = np.random.default_rng(seed).permutation(len(rows))[:likelihood_rows]
    aggregated = np.sort(order[: limits.aggregated_rows])
    num_classified = batch_size or limits.classified_rows
    runs_per_row = num_samples * max(model.num_classes, 1)
    of_figures = batch_size or limits.batch_size(len(order), runs_per_row)
    with distributed.together(), evaluation_mode(model):
        batches = functools.partial(_batches, model, rows, window_rows=limits.window_rows)
        labelled = batches(
            "rows classified", _labelled(model, rows), num_classified, limits.classified_symbols
        )
        tally = _tally_predictions(model, labelled, mode, weights, greatest)
        drawn = batches("rows measured", np.sort(order), of_figures, limits.batch_symbols)
        figures, parts, where = _tally_figures(
            model, drawn, aggregated, num_samples, seed, limits.decoder_rows
        )
    tally = gather_tally(tally + figures)
    of_labels = {
        "num_rows": len(rows),
        **tally.prediction_metrics(),
        "mode": mode,
        **({} if class_names is None else tally.class_metrics(class_names)),
        "num_likelihood_rows": len(order),
    }
    if not len(order):
        return of_labels
    parts = distributed.collect(parts, where, len(aggregated))
    information = 0.0
    if model.latent_size:
        information = mutual_information(**parts, max_terms=limits.aggregated_terms)
    return {
        **of_labels,
        **tally.figures(),
        "mutual_information": information,
        "active_units": int((tally.moments["z_mean"].variance > ACTIVE_VARIANCE).sum()),
    }


def _labelled(model: SSVAE, rows: EncodedRows) -> Integers:
    """Rows with one known label, ascending; a set of one label is one."""
    if not model.num_classes:
        return np.zeros(0, np.int64)
    single = [row for row, possible in rows.candidates.items() if len(set(possible)) == 1]
    return np.union1d(np.flatnonzero(rows.y >= 0), np.array(single, np.int64))


def _batches(
    model: SSVAE,
    rows: EncodedRows,
    what: str,
    numbers: Integers,
    batch_size: int,
    num_symbols: int,
    *,
    window_rows: int,
) -> Iterator[tuple[Integers, Batch]]:
    """This process's batches of some rows, of similar length and close to each other in the file.

    Args:
        model: Its classes and its device are those of the batches.
        rows: All rows.
        what: Name of the progress.
        numbers: Which rows, ascending.
        batch_size: Rows of a batch.
        num_symbols: Symbols of a batch.
        window_rows: Rows that are sorted by length at once.

    Yields:
        Row numbers, `[B]`, and the batch of these rows.
    """
    windows = (
        numbers[first : first + window_rows] for first in range(0, len(numbers), window_rows)
    )
    batches = (
        window[indices]
        for window in windows
        for indices in evaluation_indices(rows.take(window), batch_size, num_symbols=num_symbols)
    )
    with progress.task(what, len(numbers) / distributed.size()) as task:
        for indices in itertools.islice(batches, distributed.rank(), None, distributed.size()):
            batch = collate(rows, indices, num_classes=model.num_classes)
            yield indices, batch.to(model.prior_logits.device)
            task.advance(len(indices))


def _tally_predictions(
    model: SSVAE,
    batches: Iterable[tuple[Integers, Batch]],
    mode: str,
    weights: tuple[float, float],
    greatest: npt.NDArray[np.float64] | None,
) -> Tally:
    """The tally of labelled rows, as they are classified."""
    tally, at_mean = Tally(), common_noise(model, 0, None)
    for _, batch in batches:
        log_prob = wide(label_logits(model, batch, at_mean, mode, weights)).log_softmax(1)
        confidence, predicted = log_prob.exp().max(1)
        columns = {
            "log_loss": -log_prob.gather(1, batch.y.unsqueeze(1)).squeeze(1),
            "confidence": confidence,
            "predicted": predicted,
            "y": batch.y,
        }
        arrays = {name: value.cpu().numpy() for name, value in columns.items()}
        if greatest is not None:
            arrays["sets"] = label_sets(log_prob.exp().cpu().numpy(), greatest)
        tally += Tally.of_predictions(arrays, model.num_classes)
    return tally


def _tally_figures(
    model: SSVAE,
    batches: Iterable[tuple[Integers, Batch]],
    aggregated: Integers,
    num_samples: int,
    seed: int,
    decoder_rows: int,
) -> tuple[Tally, dict[str, Tensor], Tensor]:
    """The tally of some rows, the arguments of `mutual_information`, and the place of each row.

    The last two are of those rows that are in `aggregated`.
    """
    tally = Tally()
    parts: list[dict[str, Tensor]] = []
    positions = [aggregated[:0]]
    for indices, batch in batches:
        features = model.encode_batch(batch)
        noise = _noise(seed, indices, num_samples, model.latent_size).to(features.z)
        log_q = all_label_log_prob(model, features, noise)
        posterior = _posterior(model, features, log_q)
        samples = sample_log_likelihood(model, batch, features, noise, num_rows=decoder_rows)
        kl = expected_kl(model, features, log_q, noise).sum(-1)
        tally += Tally.of_figures(_measure(model, batch, samples, log_q, posterior, kl))
        chosen = np.isin(indices, aggregated)
        if chosen.any():
            part = {name: value[chosen] for name, value in posterior.items()}
            parts.append(part | _aggregate_noise(seed, indices[chosen], model.latent_size))
            positions.append(np.searchsorted(aggregated, indices[chosen]))
    own = {name: torch.cat([part[name] for part in parts]) for name in (parts[0] if parts else ())}
    return tally, own, torch.from_numpy(np.concatenate(positions))


def _measure(
    model: SSVAE,
    batch: Batch,
    samples: tuple[Tensor, Tensor],
    log_q: Tensor,
    posterior: dict[str, Tensor],
    kl: Tensor,
) -> dict[str, npt.NDArray[Any]]:
    """Columns of `Tally.of_figures`.

    Args:
        model: The model.
        batch: The rows.
        samples: Of `sample_log_likelihood`.
        log_q: Of `all_label_log_prob`.
        posterior: Of `_posterior`.
        kl: Of z, `[B]`.
    """
    likelihoods, log_ratio = map(wide, samples)  # [S, K, B], [S, K or 1, B]
    q = log_q.exp()  # [S or 1, K, B]
    prior = wide(model.prior_logits) if model.num_classes else log_q.new_zeros(1)
    prior = prior.unsqueeze(1)
    divergence = torch.where(q > 0, q * (log_q - prior), 0.0).sum(1).mean(0)  # of y
    likelihood = (q * likelihoods).sum(1).mean(0)
    by_label = likelihoods.mean(0)  # [K, B]
    true = by_label.gather(0, batch.y.clamp(min=0).unsqueeze(0)).squeeze(0)
    wrong = (by_label.sum(0) - true) / max(model.num_classes - 1, 1)
    columns = {
        "elbo": likelihood - divergence - kl,
        "nll": -log_joint(model, likelihoods, log_ratio).logsumexp(0),
        "likelihood": likelihood,
        "kl": kl,
        "y_gap": true - wrong,
        "has_gap": batch.is_labelled & (model.num_classes > 1),
        "length": batch.lengths,
        "z_mean": (posterior["log_weight"].exp().unsqueeze(-1) * posterior["loc"]).sum(1),
    }
    return {name: value.cpu().numpy() for name, value in columns.items()}


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
        "log_weight": log_weight.t().cpu().double(),
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
