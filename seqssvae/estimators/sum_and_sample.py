"""`sum-and-sample`: the likeliest labels summed, some of the rest sampled, without bias."""

import numpy as np
import torch
from torch import Tensor

from seqssvae.estimators.pairs import PairELBO
from seqssvae.estimators.terms import gumbel_like
from seqssvae.model.likelihood import Pairs
from seqssvae.model.ssvae import Features
from seqssvae.shapes import to_device


class SumAndSample(PairELBO):
    """The k likeliest labels summed, some of the rest sampled (Liu et al. 2019).

    One sample y of the rest has the weight q(y) / r(y), where r is q among the rest. Several are
    sampled without replacement by the Gumbel top-k trick, each with the weight q(y) / P(its
    perturbed log-probability exceeds the largest one left out) (Kool et al. 2019). The weights sum
    to 1 in the mean; with k > 0 the value at the likeliest label is a control variate for their
    sum. Value and gradient are unbiased, and there are at most `k + num_samples` decoder rows for
    each example and particle.

    Args:
        k: Number of labels that are summed; 0 to sample all.
        num_samples: Number of labels that are sampled from the rest, at least 1.
        num_particles: S, samples of z.
        analytic_kl: Use the closed form of KL(q(z|x,y) || p(z)).
        free_bits: Least nats that each dim of z counts with; analytic KL only.

    Example:
        >>> trained = seqssvae.load(run, "cpu")
        >>> batch = seqssvae.collate(trained.read(data), range(4), num_classes=2)
        >>> elbo = seqssvae.SumAndSample(k=1)
        >>> elbo.loss(trained.model.model, trained.model.guide, batch) > 0
        True
    """

    def __init__(
        self,
        *,
        k: int = 1,
        num_samples: int = 1,
        num_particles: int = 1,
        analytic_kl: bool = True,
        free_bits: float = 0.0,
    ) -> None:
        super().__init__(num_particles=num_particles, analytic_kl=analytic_kl, free_bits=free_bits)
        if k < 0 or num_samples < 1:
            raise ValueError(f"wanted k >= 0 and num_samples >= 1, got {k} and {num_samples}")
        self.k, self.num_samples = k, num_samples

    def choose(self, log_prob: Tensor, possible: Tensor) -> Pairs:
        """The likeliest labels with their q(y | x), and samples of the rest."""
        excluded = to_device(~possible, log_prob.device)
        fixed = log_prob.detach().masked_fill(excluded, -torch.inf)  # [S, B, K]
        num_classes = fixed.shape[-1]
        k = min(self.k, num_classes)
        summed = fixed.topk(k, dim=-1).indices  # [S, B, k]
        labels, inclusion = [summed], [torch.ones_like(summed, dtype=fixed.dtype)]
        rest = fixed.scatter(-1, summed, -torch.inf)
        rest = rest - rest.logsumexp(-1, keepdim=True).clamp(min=-1e30)
        if k < num_classes:
            sampled, probability = self._sample(rest)
            labels.append(sampled)
            inclusion.append(probability)
        label, probability = torch.cat(labels, -1), torch.cat(inclusion, -1)
        # possible labels come first, in the summed ones and in the sampled ones
        num_possible = possible.sum(-1, keepdim=True)  # [B, 1]
        rank = torch.arange(label.shape[-1])
        chosen = (rank < num_possible).expand(label.shape)
        weight = log_prob.gather(-1, label).exp() / probability.where(probability > 0, 1.0)
        return Pairs.select(chosen, label, weight)

    def correct(self, pairs: Pairs, values: Tensor, lengths: Tensor, features: Features) -> Tensor:
        """Minus the likeliest label's value times the sum of the weights minus 1."""
        if not self.k or not len(values):
            return values.new_zeros(())
        row = pairs.host.numpy()
        is_first = np.ones(row.shape[1], bool)  # of an example: the likeliest
        is_first[1:] = (row[:, 1:] != row[:, :-1]).any(0)
        starts, group = np.flatnonzero(is_first), is_first.cumsum() - 1
        index = to_device(torch.from_numpy(np.concatenate([starts, group])), values.device)
        likeliest = values[index[: len(starts)]]
        surplus = torch.full_like(likeliest, -1.0)
        surplus = surplus.index_add(0, index[len(starts) :], pairs.weight)
        return -(likeliest * surplus).sum()

    def _sample(self, rest: Tensor) -> tuple[Tensor, Tensor]:
        """Labels sampled from log r(y), `[S, B, K]`, and divisors of q(y), `[S, B, m]` each.

        The divisor of an example without further labels is 0.
        """
        size = min(self.num_samples, rest.shape[-1])
        perturbed = rest + gumbel_like(rest)
        values, labels = perturbed.topk(min(size + 1, rest.shape[-1]), dim=-1)
        drawn, log_r = labels[..., :size], rest.gather(-1, labels[..., :size])
        if self.num_samples == 1:
            return drawn, log_r.exp()
        left_out = values[..., size:]  # the threshold; none if every label was drawn
        if left_out.shape[-1] == 0:
            left_out = torch.full_like(values[..., :1], -torch.inf)
        above = -torch.expm1(-torch.exp(log_r - left_out))
        return drawn, torch.where(log_r > -torch.inf, above, 0.0)
