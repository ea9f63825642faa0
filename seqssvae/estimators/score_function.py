"""`score-function`: y sampled, its gradient by the score function with a baseline."""

from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor

from seqssvae.errors import InputError
from seqssvae.estimators.pairs import PairELBO
from seqssvae.estimators.terms import gumbel_like
from seqssvae.model.likelihood import Pairs
from seqssvae.model.ssvae import Features
from seqssvae.shapes import to_device

Baseline = Literal["none", "running-mean", "leave-one-out", "learned"]

DECAY = 0.95  # of a baseline's moving averages, for each step


class ScoreFunction(PairELBO):
    """y sampled from q(y | x), its gradient by the score function with a baseline.

    Prior and entropy of y are in closed form; log p(x | y, z) and the KL of z are sampled.

    The baselines learn from each batch when its loss is computed. After a call of `at_step` they
    learn from all batches of a step together, in `after_step`.

    Args:
        baseline: Term that is subtracted from the sampled one: "none"; "running-mean", of earlier
            batches; "leave-one-out", the mean of an example's other particles, at least one;
            "learned", a linear function of the length and the features of x, fitted to earlier
            batches by recursive least squares with a forgetting factor.
        num_particles: S, samples of y and z.
        analytic_kl: Use the closed form of KL(q(z|x,y) || p(z)).
        free_bits: Least nats that each dim of z counts with; analytic KL only.

    Raises:
        InputError: "leave-one-out" with a single particle.

    Example:
        >>> trained = seqssvae.load(run, "cpu")
        >>> batch = seqssvae.collate(trained.read(data), range(4), num_classes=2)
        >>> elbo = seqssvae.ScoreFunction(baseline="none")
        >>> elbo.loss(trained.model.model, trained.model.guide, batch) > 0
        True
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
            raise InputError(
                "estimator.baseline leave-one-out: wanted at least 2 particles, "
                f"got {num_particles}"
            )
        self.baseline: Baseline = baseline
        self._waits = False  # for `after_step`
        self._sums: dict[str, Tensor] = {}  # of the batches since `at_step`
        self._averages = {name: _MovingAverage() for name in ("mean", "products", "targets")}

    def at_step(self, step: int) -> None:
        """Let the baselines learn at the end of the step."""
        self._waits, self._sums = True, {}

    def after_step(self, add: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
        """Let the baselines learn from all batches of the step."""
        sums, self._sums = add(self._sums), {}
        if "values" in sums:
            sums["mean"] = sums.pop("values") / sums.pop("count")
        for name, value in sums.items():
            self._averages[name].add(value)

    def state(self) -> dict[str, Tensor | None]:
        """The moving averages of the baselines."""
        return {name: average.value for name, average in self._averages.items()}

    def restore(self, state: Mapping[str, Tensor | None]) -> None:
        """Set the state to one that `state` returned."""
        for name, average in self._averages.items():
            average.value = state[name]
        self._sums = {}

    def _learn(self, **sums: Tensor) -> None:
        for name, value in sums.items():
            self._sums[name] = self._sums[name] + value if name in self._sums else value
        if not self._waits:
            self.after_step(dict)

    def choose(self, log_prob: Tensor, possible: Tensor) -> Pairs:
        """One label for each example and particle; its weight is 1 and carries the score."""
        fixed = log_prob.detach()
        excluded = to_device(~possible, fixed.device)
        label = (fixed + gumbel_like(fixed)).masked_fill(excluded, -torch.inf).argmax(-1)
        chosen = log_prob.gather(-1, label.unsqueeze(-1)).squeeze(-1)  # [S, B]
        weight = (chosen - chosen.detach()).exp()
        return Pairs.select(possible.any(-1).expand(label.shape), label, weight)

    def correct(self, pairs: Pairs, values: Tensor, lengths: Tensor, features: Features) -> Tensor:
        """Minus the baseline times the score."""
        baseline = self._baseline(pairs, values, lengths, features)
        return -(baseline * (pairs.weight - pairs.weight.detach())).sum()

    def _baseline(
        self, pairs: Pairs, values: Tensor, lengths: Tensor, features: Features
    ) -> Tensor:
        """Baseline of each pair's value, `[P]`, which does not depend on that pair's y."""
        if self.baseline == "none":
            return torch.zeros_like(values)
        if self.baseline == "leave-one-out":
            sums = values.new_zeros(len(features.y)).index_add_(0, pairs.example, values)
            others: Tensor = (sums[pairs.example] - values) / (self.num_particles - 1)
            return others
        if self.baseline == "running-mean":
            expected = self._averages["mean"].value
            self._learn(values=values.sum(), count=values.new_full((), len(values)))
            return torch.zeros_like(values) if expected is None else expected.expand_as(values)
        length = to_device(lengths, values.device).unsqueeze(1)
        x = torch.cat([torch.ones_like(length), length, features.y.detach()], 1)
        x = x.to(values.dtype)[pairs.example]  # [P, 2 + F]
        baseline = torch.zeros_like(values)
        products, targets = (self._averages[name].value for name in ("products", "targets"))
        with torch.autocast(values.device.type, enabled=False):  # sums of squares
            if products is not None and targets is not None:
                ridge = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
                # solve would fetch from a GPU whether it is exact
                baseline = x @ torch.linalg.solve_ex(products + ridge, targets).result
            self._learn(products=x.t() @ x, targets=x.t() @ values)
        return baseline


class _MovingAverage:
    """An exponential moving average over steps."""

    def __init__(self) -> None:
        self.value: Tensor | None = None

    def add(self, value: Tensor) -> None:
        if self.value is None:
            self.value = value
        else:
            self.value = DECAY * self.value + (1 - DECAY) * value
