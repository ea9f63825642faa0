"""A step: its batch and noise are functions of (seed, step, shard), and a bad one is undone.

The batch of a step is cut into shards, as many as there are ranks times `training.accumulate`. A
rank computes its shards one after another, and adds their gradients to those of the other ranks in
one exchange, after which all ranks do the same. So two ranks do what one rank with
`training.accumulate = 2` does, which resumes what they began.
"""

import contextlib
import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from seqssvae import distributed
from seqssvae.config import Config
from seqssvae.data.batches import Batch
from seqssvae.data.prepare import Prepared
from seqssvae.data.streams import TwoStreams
from seqssvae.estimators import build_estimator
from seqssvae.model.ssvae import SSVAE
from seqssvae.training.bad_steps import LastGood, find_culprits, not_finite_allowed
from seqssvae.training.schedules import kl_weight, learning_rate


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
        model: Its weights are changed in place; they begin as rank 0's.
        prepared: The rows.
        tell: Numbers that this rank adds to every step's exchange.

    Attributes:
        heard: Their sums over the ranks, of the last step.

    Raises:
        ValueError: a weight is not finite.
    """

    def __init__(
        self,
        config: Config,
        model: SSVAE,
        prepared: Prepared,
        *,
        tell: Callable[[], Sequence[float]] = tuple,
    ) -> None:
        self.config, self.model, self.tell = config, model, tell
        self.heard: list[float] = []
        self.elbo = build_estimator(config.estimator, config.objective)
        settings = config.training
        self.trained = [p for p in model.parameters() if p.requires_grad]
        decayed = [p for p in self.trained if p.dim() > 1]
        plain = [p for p in self.trained if p.dim() <= 1]
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
            rank=distributed.rank(),
            world=distributed.size(),
            parts=settings.accumulate,
        )
        distributed.share(model.state_dict().values())
        self.last_good = LastGood(model)

    def state(self) -> dict[str, Any]:
        """All that `restore` needs."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "estimator": self.elbo.state(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state.

        Raises:
            KeyError, RuntimeError, TypeError, ValueError: it is no state of this model's training.
        """
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        device = self.model.prior_logits.device
        memory = state["estimator"].items()
        self.elbo.restore({name: v if v is None else v.to(device) for name, v in memory})
        self.last_good = LastGood(self.model)

    def step(self, step: int) -> tuple[float, BadStep | None]:
        """One step of the optimiser, or none if its loss, gradient or weights are not finite.

        Returns:
            The loss in nats per row, NaN if the step was skipped; and why it was. Every rank gets
            the same.

        Raises:
            RankLost: another rank is gone.
        """
        weight, memory = self._follow_schedules(step), self.elbo.state()
        loss, counts, problem = self._gradients(step, weight)
        is_good = problem is None
        if is_good and counts:
            # without a gradient neither momentum nor decay may move a weight
            self.optimizer.step()
            is_good = self.last_good.is_finite()
        if not is_good:
            self.elbo.restore(memory)
            return math.nan, self._undo(step, problem or "")
        self.elbo.after_step(distributed.add_named)
        self.last_good.keep()
        return loss, None

    def _gradients(self, step: int, weight: float) -> tuple[float, bool, str | None]:
        """Leave the clipped gradient of the whole batch of a step in the weights.

        Returns:
            The loss in nats per row; whether some row has a weight in it; and what of loss,
            gradient and weights is not finite, if something is, "" for the weights.
        """
        self.optimizer.zero_grad(set_to_none=True)
        num_rows, counts = self.streams.num_rows(step), False
        loss, problem = 0.0, None
        for part in range(self.config.training.accumulate):
            batch = self.streams.part(step, part)
            if batch is None:
                continue
            counts |= batch.counts
            value, problem = self._differentiate(batch, step, weight, part, num_rows)
            loss += value
            if problem is not None:
                break
        if problem is None and not self.last_good.is_finite():
            problem = ""
        told = (loss, counts, problem is not None, *self.tell())
        loss, some_count, some_bad, *self.heard = distributed.add_gradients(self.trained, told)
        if problem is None and some_bad:
            problem = f"the loss is {loss}"
        if problem is None and some_count:
            norm = float(torch.nn.utils.clip_grad_norm_(self.trained, self.config.training.clip))
            if not math.isfinite(norm):
                problem = f"the norm of the gradient is {norm}"
        return loss, bool(some_count), problem

    def _follow_schedules(self, step: int) -> float:
        """Set the temperature and the learning rate of a step; returns the weight of the KL."""
        objective, settings = self.config.objective, self.config.training
        self.elbo.at_step(step)
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

    def _differentiate(
        self, batch: Batch, step: int, weight: float, part: int = 0, num_rows: int | None = None
    ) -> tuple[float, str | None]:
        """Add the gradient of a shard's rows to the weights', under the shard's noise.

        Args:
            batch: Some of the shard's rows.
            step: Its number.
            weight: Of the KL.
            part: Which of this rank's shards it is.
            num_rows: Of the whole batch, by which the loss is divided; of these rows when None.

        Returns:
            The loss in nats per row of the whole batch, and what is wrong if it is not finite.
        """
        shard = distributed.rank() + part * distributed.size()
        torch.manual_seed(_noise_seed(self.config.training.seed, step, shard))
        self.model.train()
        batch = batch.to(self.model.prior_logits.device)
        value = math.nan
        with not_finite_allowed() as refusals:
            with self._precision():
                loss = self.elbo.differentiable_loss(
                    self.model.model, self.model.guide, batch, weight
                )
            loss = loss / (num_rows or batch.num_rows)
            value = float(loss.detach())
            if math.isfinite(value) and batch.counts:
                loss.backward()
        return value, f"the loss is {value}" if refusals or not math.isfinite(value) else None

    def _precision(self) -> contextlib.AbstractContextManager[Any]:
        if self.config.training.precision == "float32":
            return contextlib.nullcontext()
        return torch.autocast(self.model.prior_logits.device.type, torch.bfloat16)

    def _undo(self, step: int, problem: str) -> BadStep:
        """Leave no trace of a bad step, and find out what was wrong and who did it.

        Args:
            step: Its number.
            problem: What was found in loss or gradient; "" where it is in the weights.
        """
        self.optimizer.zero_grad(set_to_none=True)
        named = sum(distributed.gather(self.last_good.bad_weights()), [])
        if named:
            self.last_good.restore()
            return BadStep(f"{', '.join(dict.fromkeys(named))} held numbers that are not finite")
        ids = self._culprits(step)
        self.optimizer.zero_grad(set_to_none=True)
        who = f"sequences {', '.join(ids)}" if ids else "no sequence by itself"
        return BadStep(f"{problem}, by {who}", tuple(ids))

    def _culprits(self, step: int) -> list[str]:
        """Ids of the rows of a step that spoil loss or gradient by themselves, of any rank."""
        weight = self._follow_schedules(step)
        found: list[tuple[int, list[str]]] = []
        for part in range(self.config.training.accumulate):
            batch, ids = self.streams.part(step, part), self.streams.ids(step, part)
            if batch is not None:
                rows = find_culprits(self._spoilt(batch, step, weight, part), batch.num_rows)
                found.append(
                    (distributed.rank() + part * distributed.size(), [ids[row] for row in rows])
                )
        shards = sorted(sum(distributed.gather(found), []))
        return list(dict.fromkeys(id for _, ids in shards for id in ids))

    def _spoilt(
        self, batch: Batch, step: int, weight: float, part: int
    ) -> Callable[[list[int]], bool]:
        """Whether some rows of a shard give a loss or a gradient that is not finite."""
        memory = self.elbo.state()

        def is_bad(rows: list[int]) -> bool:
            self.optimizer.zero_grad(set_to_none=True)
            some = batch.select(torch.tensor(rows))
            _, problem = self._differentiate(some, step, weight, part)
            self.elbo.restore(memory)
            gradients = [p.grad for p in self.trained if p.grad is not None]
            norm = torch.nn.utils.get_total_norm(gradients)
            return problem is not None or not math.isfinite(float(norm))

        return is_bad


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


def num_shards(config: Config) -> int:
    """How many shards, each with its own noise, the batch of a step is cut into."""
    return distributed.size() * config.training.accumulate


def _noise_seed(seed: int, step: int, shard: int) -> int:
    """A seed for the noise of a shard of a step, the same wherever the run began."""
    key = [seed, step, shard] if shard else [seed, step]
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1)
