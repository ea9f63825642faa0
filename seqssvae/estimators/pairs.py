"""The base of estimators that weight pairs of a label and an example.

The weights are known before the likelihood, so value and gradient of the softmax are computed in
one pass over its logits.
"""

import abc
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from seqssvae.data.batches import Batch
from seqssvae.estimators.terms import (
    Estimator,
    check_kl,
    owner,
    pair_normal,
    scaled,
    standard_normal,
)
from seqssvae.model.labels import restrict
from seqssvae.model.likelihood import ExpandedBatch, Pairs
from seqssvae.model.prior import NormalPrior
from seqssvae.model.ssvae import SSVAE, Features
from seqssvae.model.votes import log_evidence


class PairELBO(Estimator, abc.ABC):
    """An objective that is a weighted sum over pairs, which a subclass chooses.

    Args:
        num_particles: S, samples of z for each pair.
        analytic_kl: Use the closed form of KL(q(z|x,y) || p(z)).
        free_bits: Least nats that each dim of z counts with; analytic KL only.
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
            log_prob: log q(y | x) among a row's possible labels, `[S, B, K]`.
            possible: Whether a label is possible, bool `[B, K]`, on the CPU; False in a row of
                weight 0.
        """

    def correct(self, pairs: Pairs, values: Tensor, lengths: Tensor, features: Features) -> Tensor:
        """A term of mean 0, added to lower the variance.

        Args:
            pairs: Of `choose`.
            values: Each pair's log p(x | y, z) - kl_weight KL, scaled by w / S, `[P]`.
            lengths: Number of symbols of each example, `[B]`, on the CPU.
            features: Features of the examples.
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
        check_kl(ssvae, self.analytic_kl)
        ssvae.announce_parameters()
        features = ssvae.encode_batch(batch)
        shape = (self.num_particles, batch.num_rows, ssvae.latent_size)
        noise = standard_normal(shape, features.z)  # used where z does not depend on y
        z = None
        if not ssvae.num_classes:
            every = torch.ones(shape[:2], dtype=torch.bool)
            pairs = Pairs.select(every, None, noise.new_ones(shape[:2]))
            return -self._weighted_sum(ssvae, batch, features, pairs, (z, noise), kl_weight)
        if ssvae.y_reads_z:
            loc, scale = ssvae.z_posterior(features)
            z = loc + scale * noise  # [S, B, Z]
            log_prob = ssvae.y_logits(features, z)  # [S, B, K]
        else:
            log_prob = ssvae.y_logits(features).expand(self.num_particles, -1, -1)
        evidence = log_evidence(ssvae.votes, batch)
        restricted = restrict(log_prob, batch, evidence)
        host = batch.host
        possible = host.possible_labels(ssvae.num_classes)
        if host.w is not None:  # rows of weight 0 have no pairs
            possible = possible & (host.w > 0).unsqueeze(-1)
        pairs = self.choose(restricted, possible)
        total = self._weighted_sum(ssvae, batch, features, pairs, (z, noise), kl_weight)
        prior = ssvae.prior_logits if evidence is None else ssvae.prior_logits + evidence
        prior_and_entropy = (restricted.exp() * (prior - restricted)).sum(-1)
        total = total + scaled(prior_and_entropy, batch).mean(0).sum()
        return -(total + ssvae.auxiliary(features, log_prob, batch).mean(0).sum())

    def _weighted_sum(
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
        w = noise.new_ones(batch.num_rows) if batch.w is None else batch.w.to(noise.dtype)
        w = w / self.num_particles
        pair_w = w[pairs.example]
        weight = pairs.weight * pair_w
        if ssvae.z_reads_y:
            loc, scale = ssvae.z_posterior(features, pairs.label, pairs.example)  # [P, Z]
            # noise of its own for every label: a sum of independent terms varies less
            chosen = loc + scale * pair_normal(pairs.particle, noise)
        else:
            loc, scale = ssvae.z_posterior(features)  # [B, Z]
            z = loc + scale * noise if z is None else z  # [S, B, Z]
            chosen = pairs.gather(z)
        if ssvae.z_reads_y or ssvae.z_prior.reads_y:  # the KL depends on y
            if not ssvae.z_reads_y:
                loc, scale = loc[pairs.example], scale[pairs.example]
            kl = self._kl(ssvae.z_prior, chosen, loc, scale, pairs.label)  # [P]
            weighted_kl, pair_kl = (weight * kl).sum(), kl.detach()
        else:
            assert z is not None
            kl = self._kl(ssvae.z_prior, z, loc, scale)  # [S, B]
            weighted_kl, pair_kl = (w * kl).sum(), noise.new_zeros(())
        expanded = ExpandedBatch(
            ssvae.decoder,
            batch.x,
            batch.lengths,
            pairs.host[1],
            chosen,
            pairs.label,
            counted=batch.counted,
        )
        total, log_likelihood = expanded.weighted_log_prob(weight)
        values = (log_likelihood - kl_weight * pair_kl) * pair_w
        total = total - kl_weight * weighted_kl
        corrected: Tensor = total + self.correct(pairs, values, batch.lengths, features)
        return corrected

    def _kl(
        self, prior: NormalPrior, z: Tensor, loc: Tensor, scale: Tensor, y: Tensor | None = None
    ) -> Tensor:
        if self.analytic_kl:
            kl = prior.kl(loc, scale, y, free_bits=self.free_bits)
            return kl.sum(-1).expand(z.shape[:-1])
        return prior.sampled_kl(z, loc, scale, y).sum(-1)
