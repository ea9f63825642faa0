"""Value and gradient of every estimator beside the brute-force sum over y.

For a model and a batch of the user's, in float64, with the same noise of z for all estimators.
"""

import copy
import dataclasses
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from seqssvae import progress
from seqssvae.data.batches import Batch
from seqssvae.estimators import (
    Estimator,
    FusedEnum,
    RelaxedLabels,
    ScoreFunction,
    SumAndSample,
    TraceEnum,
)
from seqssvae.estimators.terms import fixed_noise, has_closed_kl, scaled
from seqssvae.model.labels import restrict
from seqssvae.model.ssvae import SSVAE, Features
from seqssvae.model.votes import log_evidence

MAX_GAP = 2.0  # nats between the two likeliest labels of a row in q(y | x)

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class CheckRow:
    """One estimator beside the brute-force sum; nats are summed over the batch.

    Attributes:
        estimator: Its name and options.
        kind: "exact", "unbiased" or "biased".
        value: Minus the objective, mean over draws of y.
        error: `value` minus the value of the brute-force sum.
        standard_error: Standard error of `value`; 0 for an exact estimator.
        relative_gradient_error: Norm of the mean gradient's difference from the brute-force
            gradient, over the norm of the latter.
        relative_gradient_standard_error: Standard error of that norm without bias.
        seconds: Mean time of one value and gradient.
    """

    estimator: str
    kind: str
    value: float
    error: float
    standard_error: float
    relative_gradient_error: float
    relative_gradient_standard_error: float
    seconds: float

    def agrees(self) -> bool:
        """Whether errors are within rounding or 4 standard errors; True for a biased estimator."""
        if self.kind == "biased":
            return True
        tolerance = 1e-8 * max(1.0, abs(self.value)) + 4 * self.standard_error
        gradient_tolerance = 1e-8 + 4 * self.relative_gradient_standard_error
        if self.relative_gradient_error > gradient_tolerance:
            return False
        return abs(self.error) <= tolerance


def brute_force_loss(
    ssvae: SSVAE,
    batch: Batch,
    noise: Tensor,
    *,
    kl_weight: float = 1.0,
    analytic_kl: bool | None = None,
) -> Tensor:
    """Minus the objective, label by label (Kingma et al. 2014, eq. 6 to 9).

    Args:
        ssvae: A model with at least one class.
        batch: Rows with, without and with partial labels.
        noise: Noise of z, `[S, Z]`, the same for every row.
        kl_weight: Weight of the KL of z.
        analytic_kl: Use the closed form of KL(q(z|x,y) || p(z)); where there is one when None.
    """
    analytic_kl = has_closed_kl(ssvae) if analytic_kl is None else analytic_kl
    features = ssvae.encode_batch(batch)
    possible = batch.possible_labels(ssvae.num_classes)
    evidence = log_evidence(ssvae.votes, batch)
    total = noise.new_zeros(())
    for epsilon in noise:
        bounds = []
        for label in range(ssvae.num_classes):
            y = torch.full_like(batch.y, label)
            loc, scale = ssvae.z_posterior(features, y)
            z = loc + scale * epsilon
            prior = ssvae.z_prior
            kl = prior.kl(loc, scale, y) if analytic_kl else prior.sampled_kl(z, loc, scale, y)
            likelihood = ssvae.log_likelihood(batch.x, batch.lengths, z, y, counted=batch.counted)
            bounds.append(likelihood + ssvae.prior_logits[label] - kl_weight * kl.sum(-1))
        log_q = ssvae.y_logits(features, z if ssvae.y_reads_z else None)
        among = restrict(log_q, batch, evidence)
        joint = torch.stack(bounds, -1) if evidence is None else torch.stack(bounds, -1) + evidence
        terms = among.exp() * (joint - among)  # [B, K]
        total = total + scaled(terms.masked_fill(~possible, 0.0).sum(-1), batch).sum()
        total = total + ssvae.auxiliary(features, log_q, batch).sum()
    return -total / len(noise)


def check(
    ssvae: SSVAE,
    batch: Batch,
    *,
    num_draws: int = 200,
    num_particles: int = 2,
    seed: int = 0,
    temperatures: Sequence[float] = (1.0, 0.1),
    others: Mapping[str, Estimator] | None = None,
) -> list[CheckRow]:
    """Compare every estimator with the brute-force sum; see `_flattened` for a sure q(y | x).

    Args:
        ssvae: The model, of which a copy in float64 and evaluation mode is used.
        batch: A few rows; time grows with B, K and the draws.
        num_draws: Draws of y for each sampled estimator.
        num_particles: S, samples of z.
        seed: Seed of the noise and the draws.
        temperatures: Temperatures of the relaxed estimators.
        others: Estimators of your own by name, of `num_particles` too; each says its `kind`.

    Raises:
        ValueError: the model has no classes.
    """
    if not ssvae.num_classes:
        raise ValueError("wanted a model with classes, got K = 0")
    batch = batch.to(ssvae.prior_logits.device, torch.float64)
    model = _flattened(copy.deepcopy(ssvae).double().eval(), batch)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(num_particles, model.latent_size, generator=generator, dtype=torch.float64)
    noise = noise.to(batch.x.device)
    want, want_gradient = _value_and_gradient(brute_force_loss(model, batch, noise), model)
    rows = []
    with torch.random.fork_rng(), fixed_noise(noise):
        torch.manual_seed(seed)
        estimators = _estimators(model, num_particles, temperatures, others or {})
        for name, kind, elbo in progress.track(estimators, "estimators checked", len(estimators)):
            draws = 1 if kind == "exact" else num_draws
            start = time.perf_counter()
            results = []
            for _ in range(draws):
                loss = elbo.differentiable_loss(model.model, model.guide, batch)
                results.append(_value_and_gradient(loss, model))
            seconds = (time.perf_counter() - start) / draws
            value, gradient = (torch.stack(parts) for parts in zip(*results, strict=True))
            spread = gradient.var(0).sum() if draws > 1 else gradient.new_zeros(())
            norm = want_gradient.norm()
            rows.append(
                CheckRow(
                    estimator=name,
                    kind=kind,
                    value=float(value.mean()),
                    error=float(value.mean() - want),
                    standard_error=float(value.std() / draws**0.5) if draws > 1 else 0.0,
                    relative_gradient_error=float((gradient.mean(0) - want_gradient).norm() / norm),
                    relative_gradient_standard_error=float((spread / draws).sqrt() / norm),
                    seconds=seconds,
                )
            )
    return rows


@torch.no_grad()
def _flattened(model: SSVAE, batch: Batch) -> SSVAE:
    """The model with q(y | x) raised to a power at which draws of y differ, at most 1.

    Where all draws are equal, an estimator's standard error cannot know of labels too rare to be
    drawn. The power is for all estimators and the brute-force sum alike.
    """
    possible, y_logits = batch.possible_labels(model.num_classes), model.y_logits
    is_open = possible.sum(-1) > 1
    features = model.encode_batch(batch)
    log_prob = y_logits(features, model.z_posterior(features)[0]).masked_fill(~possible, -torch.inf)
    gaps = -log_prob[is_open].sort(descending=True).values.diff()[:, :1]  # [rows, 1]
    power = MAX_GAP / max([MAX_GAP, *gaps.flatten().tolist()])

    def flat(features: Features, z: Tensor | None = None) -> Tensor:
        return torch.log_softmax(power * y_logits(features, z), -1)

    if power < 1:
        logger.info(f"q(y | x) is raised to the power {power:.2g}, so that draws of y differ")
        model.y_logits = flat  # type: ignore[method-assign]
    return model


def _estimators(
    model: SSVAE,
    num_particles: int,
    temperatures: Sequence[float],
    others: Mapping[str, Estimator],
) -> list[tuple[str, str, Estimator]]:
    """Name, kind and estimator."""
    common: Any = {"num_particles": num_particles, "analytic_kl": has_closed_kl(model)}
    estimators: list[tuple[str, str, Estimator]] = [
        ("trace-enum", "exact", TraceEnum(**common)),
        ("fused-enum", "exact", FusedEnum(**common)),
    ]
    if num_particles == 1:  # its particles run in turn, all with the first particle's noise
        sequential = TraceEnum(strategy="sequential", **common)
        estimators.insert(1, ("trace-enum-sequential", "exact", sequential))
    for num_samples in (1, 2):
        name = f"sum-and-sample k=1 num_samples={num_samples}"
        elbo = SumAndSample(k=1, num_samples=num_samples, **common)
        estimators.append((name, "unbiased", elbo))
    baselines = ["none", "running-mean", "learned"]
    if num_particles > 1:
        baselines.append("leave-one-out")
    for baseline in baselines:
        score = ScoreFunction(baseline=baseline, **common)  # type: ignore[arg-type]
        estimators.append((f"score-function baseline={baseline}", "unbiased", score))
    for hard, name in ((False, "gumbel-softmax"), (True, "straight-through")):
        for temperature in temperatures:
            relaxed = RelaxedLabels(hard=hard, temperature=temperature, **common)
            estimators.append((f"{name} temperature={temperature:g}", "biased", relaxed))
    return estimators + [(name, elbo.kind, elbo) for name, elbo in others.items()]


def _value_and_gradient(loss: Tensor, model: SSVAE) -> tuple[Tensor, Tensor]:
    parameters = list(model.parameters())
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    flat = [
        torch.zeros_like(parameter).reshape(-1) if gradient is None else gradient.reshape(-1)
        for parameter, gradient in zip(parameters, gradients, strict=True)
    ]
    return loss.detach(), torch.cat(flat)
