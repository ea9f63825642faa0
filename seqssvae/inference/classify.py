"""Labels for sequences: by q(y | x), by Bayes' rule over the generative model, or by their mix."""

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from seqssvae.data.batches import Batch
from seqssvae.errors import InputError
from seqssvae.model.ssvae import SSVAE, Features
from seqssvae.nn.precision import evaluation_mode

MODES = ("q", "posterior", "mix")
NUM_ROWS = 1024  # decoder rows that run at once
NUM_POSITIONS = 2**16  # symbols of those rows, at most


def classify(
    model: SSVAE,
    batch: Batch,
    *,
    mode: str = "q",
    weights: tuple[float, float] = (1.0, 1.0),
    num_samples: int = 0,
    temperature: float = 1.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Probabilities of the labels of each row; the row's own label is not read.

    All rows share the noise of z, so a row's result depends on the row and on the generator's state
    but not on the batch.

    Args:
        model: The model, evaluated in evaluation mode.
        batch: The rows.
        mode: "q" is q(y | x), under "y-given-z" the mean of q(y | x, z) over samples of z.
            "posterior" is p(y | x) by Bayes' rule, p(y) p(x | y) normalised, p(x | y) from
            importance samples of z, or from p(x | y, z) p(z) / q(z | x, y) at the mean. "mix" is
            proportional to their product. Each is raised to the power of its weight.
        weights: Of q and of the posterior; see `combine.compare_modes`.
        num_samples: Number of samples of z, where it is read; 0: z at the mean of its posterior,
            which takes less time and, unless samples are many, has no less accuracy.
        temperature: The probabilities are raised to its inverse and normalised; above 1 they are
            more alike.
        generator: Generator of the samples; torch's global one when None.

    Returns:
        `[B, K]`, each row sums to 1.

    Raises:
        InputError: an unknown mode, an option out of range, or a model without classes.
    """
    mode_powers(mode, weights)
    if num_samples < 0:
        raise InputError(f"num_samples: wanted 0 or more, got {num_samples}")
    if not temperature > 0:
        raise InputError(f"temperature: wanted a number above 0, got {temperature}")
    if not model.num_classes:
        raise InputError("wanted a model with classes, got one without")
    with evaluation_mode(model):
        batch = batch.to(model.prior_logits.device)
        noise = common_noise(model, num_samples, generator)
        logits = label_logits(model, batch, noise, mode, weights)
        return (logits / temperature).softmax(-1)


def label_logits(
    model: SSVAE, batch: Batch, noise: Tensor, mode: str, weights: tuple[float, float]
) -> Tensor:
    """Logits of the labels, `[B, K]`, not normalised; what has power 0 is not computed.

    Args:
        model: A model with classes, in evaluation mode.
        batch: The rows, on the model's device; their labels are not read.
        noise: Of `common_noise`.
        mode: See `classify`.
        weights: Powers of q(y | x) and of p(y | x).
    """
    powers = mode_powers(mode, weights)
    only_y = not powers[1] and not model.y_reads_z
    features = model.encode_batch(batch, only_y=only_y)
    logits = features.y.new_zeros(())
    if powers[0]:
        logits = powers[0] * log_mean_exp(label_log_prob(model, features, noise))
    if powers[1]:
        samples = sample_log_likelihood(model, batch, features, noise)
        logits = logits + powers[1] * log_joint(model, *samples).t().log_softmax(-1)
    return logits


def mode_powers(mode: str, weights: tuple[float, float]) -> tuple[float, float]:
    """Powers of q(y | x) and of p(y | x) in a mode: these weights, or 0 where it has only one.

    Raises:
        InputError: an unknown mode.
    """
    if mode not in MODES:
        raise InputError(f"mode: wanted q, posterior or mix, got {mode}")
    return {"q": (weights[0], 0.0), "posterior": (0.0, weights[1]), "mix": weights}[mode]


def fitted_weights(summary: Mapping[str, Any], mode: str) -> tuple[float, float]:
    """The weights of q(y | x) and of the posterior in a mode, from a run's summary."""
    name, otherwise = ("mix_weights", (0.5, 0.5)) if mode == "mix" else ("powers", (1.0, 1.0))
    q, posterior = summary.get(name, otherwise)
    return float(q), float(posterior)


def common_noise(model: SSVAE, num_samples: int, generator: torch.Generator | None) -> Tensor:
    """Standard normal noise of z that all rows share, `[S, 1, Z]`; S is 1 for a model without z.

    For no samples it is zero, `[1, 1, Z]`.
    """
    if not num_samples:
        return model.prior_logits.new_zeros(1, 1, model.latent_size)
    device = "cpu" if generator is None else generator.device
    shape = (num_samples if model.latent_size else 1, 1, model.latent_size)
    noise = torch.randn(shape, generator=generator, device=device, dtype=torch.float64)
    return noise.to(model.prior_logits)


def label_log_prob(model: SSVAE, features: Features, noise: Tensor) -> Tensor:
    """Log-probabilities of q(y | x), or of q(y | x, z) at samples z under "y-given-z".

    Args:
        model: A model with classes.
        features: Features of the rows.
        noise: Standard normal, `[S, B, Z]` or `[S, 1, Z]`.

    Returns:
        `[1, B, K]`, or `[S, B, K]` under "y-given-z".
    """
    if not model.y_reads_z:
        return model.y_logits(features).unsqueeze(0)
    loc, scale = model.z_posterior(features)
    return model.y_logits(features, loc + scale * noise)


def sample_log_likelihood(
    model: SSVAE, batch: Batch, features: Features, noise: Tensor, *, num_rows: int = NUM_ROWS
) -> tuple[Tensor, Tensor]:
    """log p(x | y, z) and log p(z) - log q(z | x, y) at samples of z, for every label.

    z is drawn from q(z | x, y), or from q(z | x) where the guide's z does not depend on y.

    Args:
        model: The model.
        batch: The rows; their labels are not read.
        features: Features of the rows.
        noise: Standard normal, `[S, B, Z]` or `[S, 1, Z]`, the same for every label.
        num_rows: Decoder rows that run at once.

    Returns:
        Both in nats per sequence: `[S, K, B]`, and `[S, K, B]` or `[S, 1, B]`. K is 1 for a model
        without classes.
    """
    y = None
    if model.num_classes:
        y = torch.arange(model.num_classes, device=batch.y.device).unsqueeze(1)  # [K, 1]
    z, log_ratio = sample_z(model, features, y, noise)
    num_labels = max(model.num_classes, 1)
    shape = (len(noise), num_labels, batch.num_rows)
    z = z.expand(*shape, model.latent_size)
    log_likelihood = z.new_empty(shape)
    for samples, labels, rows in _portions(shape, batch.lengths, num_rows):
        longest = int(batch.lengths[rows].max())
        log_likelihood[samples, labels, rows] = model.log_likelihood(
            batch.x[rows, :longest],
            batch.lengths[rows],
            z[samples, labels, rows],
            None if y is None else y[labels],
        )
    return log_likelihood, log_ratio


def sample_z(
    model: SSVAE, features: Features, y: Tensor | None, noise: Tensor
) -> tuple[Tensor, Tensor]:
    """Samples of z, `[S, K or 1, B, Z]`, and log p(z) - log q(z | x, y) there, `[S, K or 1, B]`.

    Args:
        model: The model.
        features: Features of the rows.
        y: Labels, `[K, 1]`, or None.
        noise: As in `sample_log_likelihood`.
    """
    loc, scale = model.z_posterior(features, y)  # [K, B, Z] or [B, Z]
    z = loc + scale * noise.unsqueeze(1)  # [S, K or 1, B, Z]
    return z, -model.z_prior.sampled_kl(z, loc, scale, y).sum(-1)


def log_joint(model: SSVAE, log_likelihood: Tensor, log_ratio: Tensor) -> Tensor:
    """log p(x, y) by importance sampling, a lower bound in the mean (Burda et al. 2016, eq. 8).

    Args:
        model: The model.
        log_likelihood: log p(x | y, z) at samples of z, `[S, K, B]`.
        log_ratio: log p(z) - log q(z | x, y) at the same, `[S, K, B]` or `[S, 1, B]`.

    Returns:
        Nats per sequence, `[K, B]`; log p(x), `[1, B]`, for a model without classes.
    """
    log_prob = log_mean_exp(log_likelihood + log_ratio)
    if model.num_classes:
        log_prob = log_prob + model.prior_logits.to(log_prob).unsqueeze(1)
    return log_prob


def log_mean_exp(value: Tensor) -> Tensor:
    """The log of the mean of exp over the first dim: `[S, ...]` to `[...]`."""
    return value.logsumexp(0) - math.log(len(value))


def _portions(
    shape: tuple[int, int, int], lengths: Tensor, num_rows: int
) -> Iterator[tuple[slice, slice, slice]]:
    """Cut samples, labels and rows so that the decoder's batch has at most `num_rows` rows."""
    num_rows = max(1, min(num_rows, NUM_POSITIONS // max(1, int(lengths.max()))))
    sizes = []
    for size in reversed(shape):  # whole rows first, then labels, then samples
        sizes.append(min(size, num_rows))
        num_rows = max(1, num_rows // sizes[-1])
    cuts = [
        [slice(start, start + step) for start in range(0, size, step)]
        for size, step in zip(shape, reversed(sizes), strict=True)
    ]
    samples, labels, rows = cuts
    yield from itertools.product(samples, labels, rows)
