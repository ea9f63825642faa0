"""`gumbel-softmax` and `straight-through`: y relaxed to weights of the labels."""

import torch
from torch import Tensor

from seqssvae.estimators.pairs import PairELBO
from seqssvae.estimators.terms import gumbel_like
from seqssvae.model.likelihood import Pairs


class RelaxedLabels(PairELBO):
    """One decoder row with a relaxed y for each example and particle (Jang et al. 2017).

    Biased: the objective is that of another model, in which y is a mixture of labels. With a lower
    temperature the bias falls and the variance grows. Observed labels are not relaxed.

    Args:
        hard: Straight-through: the decoder gets the likeliest label, its gradient goes to the
            mixture.
        temperature: Temperature of the relaxation before the first step.
        final_temperature: Temperature from step `temperature_steps` on, reached exponentially;
            `temperature` when None.
        temperature_steps: Steps of the schedule; 0 for none.
        num_particles: S, samples of y and z.
        analytic_kl: Use the closed form of KL(q(z|x,y) || p(z)).
        free_bits: Least nats that each dim of z counts with; analytic KL only.

    Example:
        >>> trained = seqssvae.load(run, "cpu")
        >>> batch = seqssvae.collate(trained.read(data), range(4), num_classes=2)
        >>> elbo = seqssvae.RelaxedLabels()
        >>> elbo.loss(trained.model.model, trained.model.guide, batch) > 0
        True
    """

    def __init__(
        self,
        *,
        hard: bool = False,
        temperature: float = 1.0,
        final_temperature: float | None = None,
        temperature_steps: int = 0,
        num_particles: int = 1,
        analytic_kl: bool = True,
        free_bits: float = 0.0,
    ) -> None:
        super().__init__(num_particles=num_particles, analytic_kl=analytic_kl, free_bits=free_bits)
        self.hard, self.temperature, self.temperature_steps = hard, temperature, temperature_steps
        self.temperatures = (temperature, final_temperature or temperature)

    def at_step(self, step: int) -> None:
        """Anneal the temperature."""
        (start, end), steps = self.temperatures, self.temperature_steps
        self.temperature = end if step >= steps else float(start * (end / start) ** (step / steps))

    def choose(self, log_prob: Tensor, possible: Tensor) -> Pairs:
        """One pair for each row and particle, its label a point of the simplex."""
        relaxed = ((log_prob + gumbel_like(log_prob)) / self.temperature).softmax(-1)  # [S, B, K]
        if self.hard:
            likeliest = torch.nn.functional.one_hot(relaxed.argmax(-1), relaxed.shape[-1])
            relaxed = likeliest + relaxed - relaxed.detach()
        rows = possible.any(-1).expand(relaxed.shape[:-1])
        return Pairs.select(rows, relaxed, torch.ones_like(relaxed[..., 0]))
