"""z of a sequence: location and scale, rewriting, interpolation; its mutual information with x."""

import math

import torch
from torch import Tensor

from seqssvae.data.batches import Batch
from seqssvae.errors import InputError
from seqssvae.estimators.terms import normal_kl
from seqssvae.inference.decode import beam, draw, evaluation_mode, greedy
from seqssvae.model.ssvae import SSVAE

AGGREGATED_TERMS = 2**21  # densities that exist at once


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
        features = model.encode(batch.x, batch.lengths, batch.whole)
        if y is None and model.num_classes and model.z_reads_y:
            y = model.y_logits(features).argmax(-1)
        return model.z_posterior(features, None if y is None else y.to(batch.y.device))


def kl_per_dim(model: SSVAE, batch: Batch) -> Tensor:
    """E_q(y|x) KL(q(z_d | x, y) || N(0, 1)) of each dim d of z, in nats.

    Args:
        model: The model, evaluated in evaluation mode.
        batch: The rows; their own labels are not read.

    Returns:
        `[B, Z]`; its sum over dims is the KL that `evaluate` reports.
    """
    with evaluation_mode(model):
        batch = batch.to(model.prior_logits.device)
        features = model.encode(batch.x, batch.lengths, batch.whole)
        if not model.num_classes or not model.z_reads_y:
            return normal_kl(*model.z_posterior(features))
        y = torch.arange(model.num_classes, device=batch.y.device).unsqueeze(1)  # [K, 1]
        weight = model.y_logits(features).softmax(-1).t().unsqueeze(-1)  # [K, B, 1]
        return (weight * normal_kl(*model.z_posterior(features, y))).sum(0)


def transfer(
    model: SSVAE, batch: Batch, *, to: int, max_length: int, width: int = 1
) -> list[list[int]]:
    """Rewrite each sequence under another label: the same z, another y.

    z is the mean of q(z | x, y) at the likeliest y, not at the new one.

    Args:
        model: The model.
        batch: The rows; their own labels are not read.
        to: The new class.
        max_length: Maximum number of symbols of a path, EOS included.
        width: Width of the beam; 1 is greedy.

    Returns:
        Ids of each row, without EOS.

    Raises:
        InputError: the model has no such class, or an option is out of range.
    """
    _check_class(model, to)
    loc, _ = encode_z(model, batch)
    return _write(model, loc, to, max_length=max_length, width=width)


def interpolate(
    model: SSVAE,
    batch: Batch,
    *,
    steps: int,
    max_length: int,
    y: int | None = None,
    width: int = 1,
) -> list[list[int]]:
    """Sequences on the straight line between the z of two, under one label.

    Both ends are means of q(z | x, y) at each sequence's own likeliest y, so the ends are rewritten
    if `y` is another one.

    Args:
        model: The model.
        batch: Two rows, the two ends of the line.
        steps: Number of sequences on the line, both ends included, at least 2.
        max_length: Maximum number of symbols of a path, EOS included.
        y: The class on the whole line; the likeliest of the first row when None.
        width: Width of the beam; 1 is greedy.

    Returns:
        `steps` lists of ids, without EOS.

    Raises:
        InputError: not two rows, fewer than 2 steps, no such class, or an option is out of range.
    """
    if batch.num_rows != 2:
        raise InputError(f"wanted two sequences to interpolate between, got {batch.num_rows}")
    if steps < 2:
        raise InputError(f"steps: wanted at least 2, got {steps}")
    if y is not None:
        _check_class(model, y)
    elif model.num_classes:
        with evaluation_mode(model):
            y = int(model(batch.to(model.prior_logits.device))[0].argmax())
    (first, last), _ = encode_z(model, batch)
    share = torch.arange(steps, device=first.device).to(first) / (steps - 1)
    z = torch.lerp(first, last, share.unsqueeze(1))  # [steps, Z]
    return _write(model, z, y, max_length=max_length, width=width)


def _check_class(model: SSVAE, y: int) -> None:
    if not 0 <= y < model.num_classes:
        wanted = (
            f"0 to {model.num_classes - 1}" if model.num_classes else "none, there are no classes"
        )
        raise InputError(f"class: wanted {wanted}, got {y}")


def _write(
    model: SSVAE, z: Tensor, y: int | None, *, max_length: int, width: int
) -> list[list[int]]:
    """The likeliest sequence for each z `[N, Z]`, by greedy or beam search."""
    classes = None if y is None else torch.full((len(z),), y, device=z.device)
    if width == 1:
        return greedy(model.decoder, z, classes, max_length=max_length)
    return beam(model.decoder, z, classes, max_length=max_length, width=width).sequences


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
