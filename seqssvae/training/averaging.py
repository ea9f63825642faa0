"""A running average of the weights, with which a model is evaluated and kept."""

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

WHOLE = 0.5  # at first the average is over this share of the steps


class WeightAverage:
    """The exponential average of weights over the last steps (Polyak and Juditsky 1992).

    At a rate that is worth its time, single weights are noisy: they circle around what they
    average to. The weight of the newest step is 1 / min(`num_steps`, 1 + `WHOLE` t) after t steps.

    Args:
        parameters: The weights that training changes, in place.
        num_steps: Steps over which the average is taken, about; 0: the weights themselves.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], num_steps: int) -> None:
        self.num_steps, self.step = num_steps, 0
        self._weights = [parameter.data for parameter in parameters] if num_steps else []
        self._average = [weight.clone() for weight in self._weights]

    def state(self) -> dict[str, Any]:
        """All that `restore` needs."""
        return {"step": self.step, "average": self._average}

    def restore(self, state: dict[str, Any]) -> None:
        """Set the average to that of a state."""
        self.step = state["step"]
        for mine, kept in zip(self._average, state["average"], strict=True):
            mine.copy_(kept)

    @torch.no_grad()
    def update(self) -> None:
        """Take the weights of a step into the average."""
        self.step += 1
        share = 1 / min(self.num_steps, 1 + WHOLE * self.step) if self.num_steps else 1.0
        if self._weights:
            torch._foreach_lerp_(self._average, self._weights, share)

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Inside, the weights are the average."""
        kept = [weight.clone() for weight in self._weights]
        self.assign()
        try:
            yield
        finally:
            _copy(self._weights, kept)

    def assign(self) -> None:
        """Set the weights to the average."""
        _copy(self._weights, self._average)


@torch.no_grad()
def _copy(to: list[Tensor], source: list[Tensor]) -> None:
    if to:
        torch._foreach_copy_(to, source)
