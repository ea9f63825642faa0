"""The base of estimators that weight pairs of a label and an example.

The weights of the pairs are known before the likelihood, so that value and gradient of the
softmax are taken in one pass over its logits.
"""

import abc
import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from seqssvae.data.batches import Batch
from seqssvae.estimators.terms import (
    Estimator,
    normal_kl,
    owner,
    pair_normal,
    sampled_kl,
    scaled,
    standard_normal,
)
from seqssvae.model.likelihood import weighted_sequence_log_prob
from seqssvae.model.ssvae import SSVAE, Features, auxiliary_log_prob, restrict

__all__ = ["PairELBO", "Pairs"]


@dataclasses.dataclass(frozen=True)
class Pairs:
    """P decoder rows, each a particle of z, an example and a label.

    Attributes:
        particle: `[P]`, from 0 to S - 1.
        example: `[P]`, from 0 to B - 1.
        label: Classes, int64 `[P]`; weights of classes, `[P, K]`; None without classes.
        weight: `[P]`; over the pairs of one particle and example, the weighted sum of any f(y)
            is, in the mean, the sum over y of q(y | x) f(y).
    """

    particle: Tensor
    example: Tensor
    label: Tensor | None
    weight: Tensor


class PairELBO(Estimator, abc.ABC):
    """An objective that is a weighted sum over pairs; how pairs are chosen is the subclass's.

    Args:
        num_particles: S, samples of z for each pair.
        analytic_kl: KL(q(z|x,y) || p(z)) in closed form.
        free_bits: Nats that each dim of z counts with at least; analytic KL only.
    """

    def __init__(
        self, *, num_particles: int = 1, analytic_kl: bool = True, free_bits: float = 0.0
    ) -> None:
        super().__init__(  # type: ignore[no-untyped-call]
            num_particles=num_particles, max_plate_nesting=1
        )
        self.analytic_kl, self.free_bits = analytic_kl, free_bits

    @abc.abstractmethod
    def choose(self, log_prob: Tensor, possible: Tensor) -> Pairs:
        """Choose pairs and their weights.

        Args:
            log_prob: Of q(y | x) among a row's possible labels, `[S, B, K]`.
            possible: Which labels those are, bool `[B, K]`; none for a row that does not count.
        """

    def correct(self, pairs: Pairs, values: Tensor, lengths: Tensor, features: Features) -> Tensor:
        """A term of mean 0, added to lower the variance.

        Args:
            pairs: What `choose` returned.
            values: Each pair's log p(x | y, z) - kl_weight KL, scaled by w / S, `[P]`.
            lengths: Symbols of each example, `[B]`.
            features: Of the examples.
        """
        return values.new_zeros(())

    def differentiable_loss(
        self,
        model: Callable[..., Any],
        guide: Callable[..., Any],
        batch: Batch,
        kl_weight: float = 1.0,
    ) -> Tensor:
        """As `Estimator.differentiable_loss`."""
        ssvae = owner(model, guide)
        ssvae.announce_parameters()
        features = ssvae.encode(batch.x, batch.lengths)
        shape = (self.num_particles, batch.num_rows, ssvae.latent_size)
        noise = standard_normal(shape, features.z)  # where z does not depend on y
        if not ssvae.num_classes:
            return -self._unclassified(ssvae, batch, features, noise, kl_weight)
        if ssvae.factorisation == "y-given-z":
            loc, scale = ssvae.z_posterior(features)
            z = loc + scale * noise  # [S, B, Z]
            log_prob = ssvae.y_logits(features, z)  # [S, B, K]
        else:
            z = None
            log_prob = ssvae.y_logits(features).expand(self.num_particles, -1, -1)
        restricted = restrict(log_prob, batch)
        possible = batch.possible_labels(ssvae.num_classes)
        if batch.w is not None:  # rows without weight cost nothing
            possible = possible & (batch.w > 0).unsqueeze(-1)
        pairs = self.choose(restricted, possible)
        total = self._pairs(ssvae, batch, features, pairs, (z, noise), kl_weight)
        prior_and_entropy = (restricted.exp() * (ssvae.prior_logits - restricted)).sum(-1)
        total = total + scaled(prior_and_entropy, batch).mean(0).sum()
        return -(total + auxiliary_log_prob(log_prob, batch).mean(0).sum())

    def _get_trace(self, *_: Any) -> Any:
        raise NotImplementedError("this estimator is in closed form and runs no trace")

    def _unclassified(
        self, ssvae: SSVAE, batch: Batch, features: Features, noise: Tensor, kl_weight: float
    ) -> Tensor:
        """The ELBO of the plain VAE."""
        particle, example = (
            index.reshape(-1)
            for index in torch.meshgrid(
                torch.arange(self.num_particles, device=batch.y.device),
                torch.arange(batch.num_rows, device=batch.y.device),
                indexing="ij",
            )
        )
        weight = noise.new_ones(len(example))
        pairs = Pairs(particle, example, None, weight)
        return self._pairs(ssvae, batch, features, pairs, (None, noise), kl_weight)

    def _pairs(
        self,
        ssvae: SSVAE,
        batch: Batch,
        features: Features,
        pairs: Pairs,
        samples: tuple[Tensor | None, Tensor],
        kl_weight: float,
    ) -> Tensor:
        """Weighted sum of log p(x | y, z) - kl_weight KL over the pairs; mean over particles."""
        z, noise = samples
        particle, example = pairs.particle, pairs.example
        posterior = (
            ssvae.z_posterior(features, pairs.label, example)
            if ssvae.factorisation == "z-given-y"
            else ssvae.z_posterior(features)
        )  # [P, Z], or [B, Z] where z does not depend on y
        if ssvae.factorisation == "z-given-y":
            loc, scale = posterior
            # noise of its own for every label: a sum of independent terms varies less
            chosen = loc + scale * pair_normal(particle, noise)
            kl = self._kl(chosen, loc, scale)  # [P]
        else:
            z = posterior[0] + posterior[1] * noise if z is None else z  # [S, B, Z]
            chosen = z[particle, example]
            kl = self._kl(z, *posterior)  # [S, B]
        w = (
            noise.new_ones(batch.num_rows) if batch.w is None else batch.w.to(noise.dtype)
        ) / self.num_particles
        weight = pairs.weight * w[example]
        total, log_likelihood = weighted_sequence_log_prob(
            ssvae.decoder, batch.x, batch.lengths, example, chosen, pairs.label, weight
        )
        values = log_likelihood
        if ssvae.factorisation == "z-given-y":
            total = total - kl_weight * (weight * kl).sum()
            values = values - kl_weight * kl.detach()
        else:
            total = total - kl_weight * (w * kl).sum()
        corrected: Tensor = total + self.correct(
            pairs, values * w[example], batch.lengths, features
        )
        return corrected

    def _kl(self, z: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
        if self.analytic_kl:
            return normal_kl(loc, scale, self.free_bits).expand(z.shape[:-1])
        return sampled_kl(z, loc, scale)
