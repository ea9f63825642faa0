"""A step: its batch and noise are functions of (seed, step), and a bad one is undone."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seqssvae.badsteps import LastGood, find_culprits, not_finite_allowed
from seqssvae.batches import Batch
from seqssvae.config import Config
from seqssvae.estimators import RelaxedLabels, ScoreFunction, build_estimator
from seqssvae.model import SSVAE
from seqssvae.preparation import Prepared
from seqssvae.schedules import kl_weight, learning_rate, temperature
from seqssvae.streams import TwoStreams

__all__ = ["BadStep", "Stepper", "stream_weights"]


@dataclasses.dataclass(frozen=True)
class BadStep:
    """Why a step was skipped.

    Attributes:
        reason: What was not finite, and who did it, in a line.
        ids: Sequences that did it by themselves.
    """

    reason: str
    ids: tuple[str, ...] = ()


class Stepper:
    """Takes single steps.

    A step whose loss, gradient or weights hold a NaN or an infinity leaves weights, optimiser and
    baselines as they were before it; but for the optimiser's moments if its own arithmetic
    overflowed, which have then seen one (finite) gradient more.

    Args:
        config: The settings.
        model: Its weights are changed in place.
        prepared: The rows.

    Raises:
        ValueError: a weight is not finite.
    """

    def __init__(self, config: Config, model: SSVAE, prepared: Prepared) -> None:
        self.config, self.model = config, model
        self.elbo = build_estimator(config.estimator, config.objective)
        settings = config.training
        trained = [p for p in model.parameters() if p.requires_grad]
        decayed = [p for p in trained if p.dim() > 1]
        plain = [p for p in trained if p.dim() <= 1]
        groups: list[dict[str, Any]] = [
            {"params": decayed},
            {"params": plain, "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(
            groups,
            lr=settings.learning_rate,
            weight_decay=settings.weight_decay,
            fused=True,
        )
        self.streams = TwoStreams(
            prepared.labelled,
            prepared.unlabelled,
            sizes=(settings.labelled_batch_size, settings.unlabelled_batch_size),
            num_classes=model.num_classes,
            seed=settings.seed,
            mode=settings.streams,
            balanced=settings.balanced,
            w=stream_weights(config, len(prepared.labelled), len(prepared.unlabelled)),
            alpha=config.objective.alpha,
        )
        self.last_good = LastGood(model)

    def state(self) -> dict[str, Any]:
        """All that `restore` needs."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "estimator": self._memory(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state.

        Raises:
            KeyError, RuntimeError, TypeError, ValueError: it is no state of this model's training.
        """
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self._remember(state["estimator"])
        self.last_good = LastGood(self.model)

    def step(self, step: int) -> tuple[float, BadStep | None]:
        """One step of the optimiser, or none if its loss, gradient or weights are not finite.

        Returns:
            The loss in nats per row, NaN if the step was skipped; and why it was.
        """
        weight, memory = self._follow_schedules(step), self._memory()
        batch = self.streams.batch(step)
        loss, problem = self._differentiate(batch, step, weight)
        is_good = problem is None and self.last_good.is_finite()
        if is_good and batch.counts:
            # without a gradient neither momentum nor decay may move a weight
            self.optimizer.step()
            is_good = self.last_good.is_finite()
        if not is_good:
            self._remember(memory)
            return math.nan, self._undo(step, problem or "")
        self.last_good.keep()
        return loss, None

    def _follow_schedules(self, step: int) -> float:
        """Set the temperature and the learning rate of a step; returns the weight of the KL."""
        objective, settings = self.config.objective, self.config.training
        if isinstance(self.elbo, RelaxedLabels):
            self.elbo.temperature = temperature(
                step,
                start=self.config.estimator.temperature,
                end=self.config.estimator.final_temperature,
                steps=self.config.estimator.temperature_steps,
            )
        rate = learning_rate(
            step,
            start=settings.learning_rate,
            final_share=settings.final_learning_rate,
            steps=settings.num_steps,
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        return kl_weight(
            step,
            schedule=objective.kl_schedule,
            final=objective.kl_weight,
            warmup_steps=objective.kl_warmup_steps,
            cycles=objective.kl_cycles,
        )

    def _differentiate(self, batch: Batch, step: int, weight: float) -> tuple[float, str | None]:
        """Leave the clipped gradient of a batch in the weights, under the noise of a step.

        Returns:
            The loss in nats per row, and what of loss and gradient is not finite, if something is.
        """
        torch.manual_seed(_noise_seed(self.config.training.seed, step))
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        value = math.nan
        with not_finite_allowed() as refusals:
            loss = self.elbo.differentiable_loss(self.model.model, self.model.guide, batch, weight)
            loss = loss / batch.num_rows
            value = float(loss.detach())
            if math.isfinite(value) and batch.counts:
                loss.backward()
        if refusals or not math.isfinite(value):
            return value, f"the loss is {value}"
        if batch.counts:
            norm = float(
                torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.training.clip)
            )
            if not math.isfinite(norm):
                return value, f"the norm of the gradient is {norm}"
        return value, None

    def _undo(self, step: int, problem: str) -> BadStep:
        """Leave no trace of a bad step, and find out what was wrong and who did it.

        Args:
            step: Its number.
            problem: What was found in loss or gradient; "" where it is in the weights.
        """
        self.optimizer.zero_grad(set_to_none=True)
        bad_weights = self.last_good.bad_weights()
        if bad_weights:
            self.last_good.restore()
            return BadStep(f"{', '.join(bad_weights)} held numbers that are not finite")
        ids = self._culprits(step)
        self.optimizer.zero_grad(set_to_none=True)
        who = f"sequences {', '.join(ids)}" if ids else "no sequence by itself"
        return BadStep(f"{problem}, by {who}", tuple(ids))

    def _culprits(self, step: int) -> list[str]:
        """Ids of the rows of a step that spoil loss or gradient by themselves."""
        batch, ids = self.streams.batch(step), self.streams.ids(step)
        weight, memory = self._follow_schedules(step), self._memory()

        def is_bad(rows: list[int]) -> bool:
            _, problem = self._differentiate(batch.select(torch.tensor(rows)), step, weight)
            self._remember(memory)
            return problem is not None

        return list(dict.fromkeys(ids[row] for row in find_culprits(is_bad, batch.num_rows)))

    def _memory(self) -> dict[str, Tensor | None]:
        """What the estimator remembers of earlier steps."""
        return self.elbo.state() if isinstance(self.elbo, ScoreFunction) else {}

    def _remember(self, memory: Mapping[str, Tensor | None]) -> None:
        if isinstance(self.elbo, ScoreFunction):
            self.elbo.restore(memory)


def stream_weights(config: Config, num_labelled: int, num_unlabelled: int) -> tuple[float, float]:
    """w of labelled and of unlabelled rows.

    In steps with rows of both streams, few labelled rows come round many times while the others
    come once. With `objective.w_by_rows` the stream that comes round more often weighs so much
    less that L and U sum over the rows of the data, each counted alike.
    """
    w, settings = config.objective.w, config.training
    if not config.objective.w_by_rows or settings.streams != "both":
        return w, w
    if not num_labelled or not num_unlabelled:
        return w, w
    passes = settings.labelled_batch_size / num_labelled  # in a step
    ratio = passes * num_unlabelled / settings.unlabelled_batch_size
    return w / max(1.0, ratio), w * min(1.0, ratio)


def _noise_seed(seed: int, step: int) -> int:
    """A seed for the noise of one step, the same wherever the run began."""
    return int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0] >> 1)
