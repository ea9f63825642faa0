"""`sum-and-sample` and `score-function`: some labels stand for all of them, without bias."""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from seqssvae.estimators.fused import PairELBO, Pairs
from seqssvae.model.ssvae import Features

__all__ = ["Baseline", "ScoreFunction", "SumAndSample"]

Baseline = Literal["none", "running-mean", "leave-one-out", "learned"]

DECAY = 0.95  # of what a baseline remembers, for each step


def gumbel_like(value: Tensor) -> Tensor:
    """Standard Gumbel noise of the same shape."""
    uniform = torch.rand_like(value).clamp_(min=torch.finfo(value.dtype).tiny)
    return -(-uniform.log()).clamp_(min=torch.finfo(value.dtype).tiny).log()


class SumAndSample(PairELBO):
    """The k likeliest labels summed, some of the rest sampled (Liu et al. 2019).

    One sample y of the rest has the weight q(y) / r(y), r being q among the rest. Several are
    drawn without replacement as the largest of perturbed log-probabilities, each with the weight
    q(y) / P(it lies above the first one that was left out) (Kool et al. 2019). The weights sum to 1
    in the mean; with k > 0 the value at the likeliest label is a control variate for their sum.
    Value and gradient are unbiased, and the decoder sees at most `k + num_samples` rows for each
    example and particle.

    Args:
        k: Labels that are summed; 0 to sample all.
        num_samples: Labels sampled from the rest, at least 1.
        num_particles: S, samples of z.
        analytic_kl: KL(q(z|x,y) || p(z)) in closed form.
        free_bits: Nats that each dim of z counts with at least; analytic KL only.
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
        fixed = log_prob.detach().masked_fill(~possible, -torch.inf)  # [S, B, K]
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
        chosen = possible.expand(fixed.shape).gather(-1, label) & (probability > 0)
        particle, example, slot = chosen.nonzero(as_tuple=True)
        label, probability = label[particle, example, slot], probability[particle, example, slot]
        weight = log_prob[particle, example, label].exp() / probability
        return Pairs(particle, example, label, weight)

    def correct(self, pairs: Pairs, values: Tensor, lengths: Tensor, features: Features) -> Tensor:
        """Minus the likeliest label's value times what the weights sum to beyond 1."""
        if not self.k:
            return values.new_zeros(())
        row = pairs.particle * len(lengths) + pairs.example
        _, owner, counts = row.unique_consecutive(return_inverse=True, return_counts=True)
        likeliest = values[counts.cumsum(0) - counts]  # a row's first pair
        surplus = torch.full_like(likeliest, -1.0).index_add(0, owner, pairs.weight)
        return -(likeliest * surplus).sum()

    def _sample(self, rest: Tensor) -> tuple[Tensor, Tensor]:
        """Labels drawn from log r(y), `[S, B, K]`, and how they divide q(y), `[S, B, m]` each.

        A row with nothing left gets the divisor 0.
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


class ScoreFunction(PairELBO):
    """y sampled from q(y | x), its gradient by the score function with a baseline.

    Prior and entropy of y stay in closed form; what is sampled is log p(x | y, z) and the KL of z.

    Args:
        baseline: What is subtracted from the sampled term: "none"; "running-mean", of earlier
            batches; "leave-one-out", the mean of an example's other particles, of which there
            must be some; "learned", a linear function of the length and the features of x, fitted
            to earlier batches by least squares with forgetting.
        num_particles: S, samples of y and z.
        analytic_kl: KL(q(z|x,y) || p(z)) in closed form.
        free_bits: Nats that each dim of z counts with at least; analytic KL only.

    Attributes:
        learns_at_once: The baselines learn from a batch as soon as they have seen it. Where a
            batch is computed in parts, they `learn` from what was `noted` of all parts instead.

    Raises:
        ValueError: "leave-one-out" with a single particle.
    """

    def __init__(
        self,
        *,
        baseline: Baseline = "learned",
        num_particles: int = 1,
        analytic_kl: bool = True,
        free_bits: float = 0.0,
    ) -> None:
        super().__init__(num_particles=num_particles, analytic_kl=analytic_kl, free_bits=free_bits)
        if baseline == "leave-one-out" and num_particles < 2:
            raise ValueError(f"leave-one-out: wanted at least 2 particles, got {num_particles}")
        self.baseline: Baseline = baseline
        self.learns_at_once = True
        self._noted: dict[str, Tensor] = {}
        self._mean = _Forgetful()
        self._products, self._targets = _Forgetful(), _Forgetful()

    def state(self) -> dict[str, Tensor | None]:
        """What the baselines remember; a run that goes on needs it."""
        return {name: memory.value for name, memory in self._memories().items()}

    def restore(self, state: Mapping[str, Tensor | None]) -> None:
        """Remember what `state` gave."""
        for name, memory in self._memories().items():
            memory.value = state[name]
        self._noted = {}

    def noted(self) -> dict[str, Tensor]:
        """Sums over the batches since the last call; those of parts of a batch may be added up."""
        noted, self._noted = self._noted, {}
        return noted

    def learn(self, noted: Mapping[str, Tensor]) -> None:
        """Let the baselines learn from a whole batch, of which `noted` told."""
        if "values" in noted:
            self._mean.add(noted["values"] / noted["count"])
        if "products" in noted:
            self._products.add(noted["products"])
            self._targets.add(noted["targets"])

    def _note(self, **sums: Tensor) -> None:
        for name, value in sums.items():
            known = self._noted.get(name)
            self._noted[name] = value if known is None else known + value
        if self.learns_at_once:
            self.learn(self.noted())

    def _memories(self) -> dict[str, "_Forgetful"]:
        return {"mean": self._mean, "products": self._products, "targets": self._targets}

    def choose(self, log_prob: Tensor, possible: Tensor) -> Pairs:
        """One label for each example and particle; its weight is 1 and carries the score."""
        fixed = log_prob.detach()
        label = (fixed + gumbel_like(fixed)).masked_fill(~possible, -torch.inf).argmax(-1)
        rows = possible.any(-1).expand(label.shape)
        particle, example = rows.nonzero(as_tuple=True)
        label = label[particle, example]
        chosen = log_prob[particle, example, label]
        return Pairs(particle, example, label, (chosen - chosen.detach()).exp())

    def correct(self, pairs: Pairs, values: Tensor, lengths: Tensor, features: Features) -> Tensor:
        """Minus the baseline times the score."""
        baseline = self._baseline(pairs, values, lengths, features)
        return -(baseline * (pairs.weight - pairs.weight.detach())).sum()

    def _baseline(
        self, pairs: Pairs, values: Tensor, lengths: Tensor, features: Features
    ) -> Tensor:
        """What each pair's value is compared with, `[P]`; it does not depend on that pair's y."""
        if self.baseline == "none":
            return torch.zeros_like(values)
        if self.baseline == "leave-one-out":
            sums = values.new_zeros(len(features.y)).index_add_(0, pairs.example, values)
            others: Tensor = (sums[pairs.example] - values) / (self.num_particles - 1)
            return others
        if self.baseline == "running-mean":
            expected = self._mean.value
            self._note(values=values.sum(), count=values.new_tensor(len(values)))
            return torch.zeros_like(values) if expected is None else expected.expand_as(values)
        x = torch.cat(
            [torch.ones_like(lengths).unsqueeze(1), lengths.unsqueeze(1), features.y.detach()], 1
        )[pairs.example]  # [P, 2 + F]
        baseline = torch.zeros_like(values)
        if self._products.value is not None and self._targets.value is not None:
            ridge = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
            baseline = x @ torch.linalg.solve(self._products.value + ridge, self._targets.value)
        self._note(products=x.t() @ x, targets=x.t() @ values)
        return baseline


class _Forgetful:
    """A mean over steps in which older ones count less."""

    def __init__(self) -> None:
        self.value: Tensor | None = None

    def add(self, value: Tensor) -> None:
        if self.value is None:
            self.value = value
        else:
            self.value = DECAY * self.value + (1 - DECAY) * value
