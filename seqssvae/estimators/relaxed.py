"""`gumbel-softmax` and `straight-through`: y relaxed to weights of the labels."""

import torch
from torch import Tensor

from seqssvae.estimators.fused import PairELBO, Pairs
from seqssvae.estimators.sampled import gumbel_like

__all__ = ["RelaxedLabels"]


class RelaxedLabels(PairELBO):
    """One decoder row with a relaxed y for each example and particle (Jang et al. 2017).

    Biased: the objective is that of another model, in which y is a mixture of labels. The bias
    falls with the temperature, and the variance grows. An observed label stays one.

    Args:
        hard: Straight-through: the decoder gets the likeliest label, its gradient goes to the
            mixture.
        temperature: Of the relaxation; set it anew at each step for a schedule.
        num_particles: S, samples of y and z.
        analytic_kl: KL(q(z|x,y) || p(z)) in closed form.
        free_bits: Nats that each dim of z counts with at least; analytic KL only.
    """

    def __init__(
        self,
        *,
        hard: bool = False,
        temperature: float = 1.0,
        num_particles: int = 1,
        analytic_kl: bool = True,
        free_bits: float = 0.0,
    ) -> None:
        super().__init__(num_particles=num_particles, analytic_kl=analytic_kl, free_bits=free_bits)
        self.hard, self.temperature = hard, temperature

    def choose(self, log_prob: Tensor, possible: Tensor) -> Pairs:
        """Every row once, its label a point of the simplex."""
        relaxed = ((log_prob + gumbel_like(log_prob)) / self.temperature).softmax(-1)  # [S, B, K]
        if self.hard:
            likeliest = torch.nn.functional.one_hot(relaxed.argmax(-1), relaxed.shape[-1])
            relaxed = likeliest + relaxed - relaxed.detach()
        rows = possible.any(-1).expand(relaxed.shape[:-1])
        particle, example = rows.nonzero(as_tuple=True)
        label = relaxed[particle, example]
        return Pairs(particle, example, label, torch.ones_like(label[:, 0]))
