"""z of a sequence: location and scale; its mutual information with x."""

import math

import torch
from torch import Tensor

from seqssvae.data.batches import Batch
from seqssvae.inference.classify import common_noise, label_log_prob
from seqssvae.inference.decode import draw
from seqssvae.model.ssvae import SSVAE, Features
from seqssvae.nn.precision import evaluation_mode
from seqssvae.shapes import wide

AGGREGATED_TERMS = 2**21  # densities that exist at once
KL_SAMPLES = 16  # of z, for a KL that has no closed form


def encode_z(model: SSVAE, batch: Batch, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Location and scale of q(z | x, y).

    Args:
        model: The model, evaluated in evaluation mode.
        batch: The rows; their own labels are not read.
        y: Classes, int64 `[B]`; the likeliest by q(y | x) when None. Not read where the guide's z
            does not depend on y.

    Returns:
        Both `[B, Z]`.
    """
    with evaluation_mode(model):
        batch = batch.to(model.prior_logits.device)
        features = model.encode_batch(batch)
        if y is None and model.num_classes and model.z_reads_y:
            y = model.y_logits(features).argmax(-1)
        return model.z_posterior(features, None if y is None else y.to(batch.y.device))


def relative_z(model: SSVAE, batch: Batch) -> tuple[Tensor, Tensor | None]:
    """What a rewriting under another label keeps of z, and each row's likeliest label.

    Args:
        model: The model, evaluated in evaluation mode.
        batch: The rows; their own labels are not read.

    Returns:
        The mean of z at the likeliest label in units of that label's prior, `[B, Z]`: the mean
        itself for N(0, I); and the labels, `[B]`, None without classes.
    """
    with evaluation_mode(model):
        y = model(batch.to(model.prior_logits.device)).argmax(-1) if model.num_classes else None
        return model.z_prior.standardise(*encode_z(model, batch, y), y)[0], y


def kl_per_dim(model: SSVAE, batch: Batch) -> Tensor:
    """E_q(y|x) KL(q(z_d | x, y) || p(z_d | y)) of each dim d of z, in nats.

    Args:
        model: The model, evaluated in evaluation mode.
        batch: The rows; their own labels are not read.

    Returns:
        `[B, Z]`; its sum over dims is the KL that `evaluate` reports.
    """
    with evaluation_mode(model):
        batch = batch.to(model.prior_logits.device)
        features = model.encode_batch(batch)
        # samples are read where there is no closed form
        noise = common_noise(model, KL_SAMPLES, torch.Generator().manual_seed(0))
        return expected_kl(model, features, all_label_log_prob(model, features, noise), noise)


def all_label_log_prob(model: SSVAE, features: Features, noise: Tensor) -> Tensor:
    """Log of q(y | x) or q(y | x, z), float64 `[S or 1, K, B]`; zeros `[1, 1, B]` if K is 0."""
    if not model.num_classes:
        return wide(features.z).new_zeros(1, 1, len(features.z))
    return wide(label_log_prob(model, features, noise)).transpose(1, 2)


def expected_kl(model: SSVAE, features: Features, log_q: Tensor, noise: Tensor) -> Tensor:
    """As `kl_per_dim`; `log_q` is of `all_label_log_prob`, whose noise is given too.

    In closed form, but where p(z | y) reads y and q(y | x, z) reads z.
    """
    y = None
    if model.num_classes:
        y = torch.arange(model.num_classes, device=log_q.device).unsqueeze(1)  # [K, 1]
    loc, scale = model.z_posterior(features, y)
    loc, scale = wide(loc), wide(scale)
    if model.y_reads_z and model.z_prior.reads_y:
        z = (loc + scale * noise).unsqueeze(1)  # [S, 1, B, Z]
        kl = model.z_prior.sampled_kl(z, loc, scale, y)  # [S, K, B, Z]
    else:
        kl = model.z_prior.kl(loc, scale, y)  # [K, B, Z] or [B, Z]
    return (log_q.exp().unsqueeze(-1) * kl).sum(1).mean(0)


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
