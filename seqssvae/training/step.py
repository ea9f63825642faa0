"""A step: its batch and noise are functions of (seed, step, shard), and a bad one is undone.

The batch of a step is split into shards, as many as there are ranks times `training.accumulate`. A
rank computes its shards one after another; one all-reduce sums the gradients of all ranks, after
which each does the same. So one rank with `training.accumulate = 2` computes the same as two ranks,
and can resume their run.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seqssvae import distributed
from seqssvae.config import Config
from seqssvae.data.batches import Batch, Indices
from seqssvae.data.encoded import EncodedRows
from seqssvae.data.prepare import Prepared
from seqssvae.data.streams import Columns, TwoStreams
from seqssvae.estimators import build_estimator
from seqssvae.model.ssvae import SSVAE
from seqssvae.nn.precision import autocast, products
from seqssvae.training.bad_steps import LastGood, find_bad_rows, not_finite_allowed
from seqssvae.training.counting import Counting
from seqssvae.training.fixed_logits import FixedLogits
from seqssvae.training.prefetch import Prefetcher
from seqssvae.training.schedules import kl_weight, learning_rate


@dataclasses.dataclass(frozen=True)
class BadStep:
    """Why a step was skipped.

    Attributes:
        reason: What was not finite, and because of which sequences, in a line.
        ids: Sequences that cause it by themselves.
    """

    reason: str
    ids: tuple[str, ...] = ()


class Stepper:
    """Takes single steps.

    A step whose loss, gradient or weights hold a NaN or an infinity leaves weights, optimiser and
    baselines as they were before it. If the optimiser itself overflowed, its moments keep the
    step's (finite) gradient.

    Args:
        config: The settings.
        model: Its weights are changed in place; they start as rank 0's.
        prepared: The rows.
        counting: The counts of the decoder's n-grams, if it has any, and of classes.
        numbers: Numbers of this rank, to be summed over the ranks in the all-reduce of each step.

    Attributes:
        sums: Their sums in the last step.

    Raises:
        ValueError: a weight is not finite.
    """

    def __init__(
        self,
        config: Config,
        model: SSVAE,
        prepared: Prepared,
        *,
        counting: Counting | None = None,
        numbers: Callable[[], Sequence[float]] = tuple,
    ) -> None:
        self.config, self.model, self.numbers = config, model, numbers
        self.sums: list[float] = []
        self.elbo = build_estimator(config.estimator, config.objective)
        settings = config.training
        self.trained = [p for p in model.parameters() if p.requires_grad]
        groups: list[dict[str, Any]] = [
            {"params": [p for p in self.trained if p.dim() > 1]},
            {"params": [p for p in self.trained if p.dim() <= 1], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(
            groups, lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
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
            columns=_columns(model, prepared, counting),
            rank=distributed.rank(),
            world=distributed.size(),
            parts=settings.accumulate,
        )
        device = model.prior_logits.device
        streams = self.streams
        self.batches = Prefetcher(
            lambda step, part: streams.part(step, part), settings.accumulate, device
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
        """Resume from a state.

        Raises:
            KeyError, RuntimeError, TypeError, ValueError: a state of another model.
        """
        self.batches.forget()
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        device = self.model.prior_logits.device
        memory = state["estimator"].items()
        self.elbo.restore({name: v if v is None else v.to(device) for name, v in memory})
        self.last_good = LastGood(self.model)

    def step(self, step: int) -> tuple[float, BadStep | None]:
        """One step of the optimiser, or none if its loss, gradient or weights are not finite.

        Returns:
            The loss in nats per row, NaN if the step was skipped; and why it was. It is the same
            on every rank.

        Raises:
            RankLost: another rank is gone.
        """
        weight, memory = self._follow_schedules(step), self.elbo.state()
        loss, counts, problem = self._gradients(step, weight)
        value, are_finite = math.nan, True
        if counts and not problem:
            value, norm, are_finite = self._update(loss)
            if math.isfinite(value) and not math.isfinite(norm):
                problem = f"the norm of the gradient is {norm}"
        elif not problem:  # without a gradient neither momentum nor decay may move a weight
            value = float(loss)
        if not problem and not math.isfinite(value):
            problem = f"the loss is {value}"
        if problem or not are_finite:
            self.elbo.restore(memory)
            return math.nan, self._undo(step, weight, problem)
        self.elbo.after_step(self._add)
        self.last_good.keep()
        return value, None

    def _gradients(self, step: int, weight: float) -> tuple[Tensor, bool, str]:
        """Leave the gradient of the whole batch of a step in the weights.

        Returns:
            The loss in nats per row; whether some row has a weight in it; and what is not finite on
            some rank, "" if that is not known yet.
        """
        self.optimizer.zero_grad(set_to_none=True)
        num_rows, counts = self.streams.num_rows(step), False
        loss = torch.zeros((), device=self.model.prior_logits.device)
        for part in range(self.config.training.accumulate):
            batch = self.batches.part(step, part)
            if batch is not None:
                counts |= batch.counts
                loss = loss + self._differentiate(batch, step, weight, part, num_rows)
        numbers: list[float] = [counts, *self.numbers()]
        if distributed.size() == 1:
            self.sums = numbers[1:]
            return loss, counts, ""
        is_bad = not (math.isfinite(float(loss)) and self.last_good.is_finite())
        value, some_bad, some_count, *self.sums = distributed.add_gradients(
            self.trained, (float(loss), is_bad, *numbers)
        )
        return loss.new_tensor(value), bool(some_count), f"the loss is {value}" * bool(some_bad)

    def _update(self, loss: Tensor) -> tuple[float, float, bool]:
        """Clip the gradient and take the optimiser's step, unless a number is not finite.

        The optimiser looks whether they are, on its device, so that a GPU is waited for only once.

        Returns:
            The loss, the norm of the gradient, and whether the weights are finite afterwards.
        """
        norm = torch.nn.utils.clip_grad_norm_(self.trained, self.config.training.clip)
        is_bad = ~(loss + norm + self.last_good.norm()).isfinite()
        self.optimizer.found_inf = is_bad.float()  # type: ignore[attr-defined]
        self.optimizer.step()
        fetched = torch.stack([part.to(norm) for part in (loss, norm, self.last_good.norm())])
        value, size, of_weights = fetched.tolist()
        return value, size, math.isfinite(of_weights) or self.last_good.is_finite()

    def _add(self, sums: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Sums of tensors over the ranks, which exchange them on the CPU."""
        if distributed.size() == 1:
            return dict(sums)
        added = distributed.add_named({name: value.cpu() for name, value in sums.items()})
        device = self.model.prior_logits.device
        return {name: value.to(device) for name, value in added.items()}

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
        self, batch: Batch, step: int, weight: float, part: int, num_rows: int
    ) -> Tensor:
        """Add the gradient of rows of a shard to that of the weights, with the shard's noise.

        Args:
            batch: Rows of the shard.
            step: Number of the step.
            weight: Weight of the KL.
            part: Number of the shard among those of this rank.
            num_rows: Rows by whose number the loss is divided.

        Returns:
            The loss in nats per row; NaN if a distribution refused its parameters.
        """
        torch.manual_seed(_noise_seed(self.config.training.seed, step, _shard(part)))
        self.model.train()
        device, precision = self.model.prior_logits.device, self.config.training.precision
        with not_finite_allowed() as errors, products(precision):
            with autocast(precision, device):
                loss = self.elbo.differentiable_loss(
                    self.model.model, self.model.guide, batch.to(device), weight
                )
            loss = loss / num_rows
            if batch.counts:
                loss.backward()
        return torch.full((), math.nan, device=device) if errors else loss.detach()

    def _undo(self, step: int, weight: float, problem: str) -> BadStep:
        """Undo a bad step and find its cause: a weight, or sequences of any rank."""
        self.optimizer.zero_grad(set_to_none=True)
        names = sum(distributed.gather(self.last_good.bad_weights()), [])
        if names:
            self.last_good.restore()
            return BadStep(f"values of {', '.join(dict.fromkeys(names))} are not finite")
        bad: list[tuple[int, list[str]]] = []
        for part in range(self.config.training.accumulate):
            batch, ids = self.streams.part(step, part), self.streams.ids(step, part)
            if batch is not None:
                is_bad = functools.partial(self._is_bad, batch, step, weight, part)
                rows = find_bad_rows(is_bad, batch.num_rows)
                bad.append((_shard(part), [ids[row] for row in rows]))
        self.optimizer.zero_grad(set_to_none=True)
        by_shard = sorted(sum(distributed.gather(bad), []))
        unique = tuple(dict.fromkeys(id for _, ids in by_shard for id in ids))
        cause = f"sequences {', '.join(unique)}" if unique else "no single sequence"
        return BadStep(f"{problem}, caused by {cause}", unique)

    def _is_bad(
        self, batch: Batch, step: int, weight: float, part: int, rows: Sequence[int]
    ) -> bool:
        """Whether some rows of a shard give a loss or a gradient that is not finite."""
        self.optimizer.zero_grad(set_to_none=True)
        memory = self.elbo.state()
        some = batch.select(torch.tensor(rows))
        loss = float(self._differentiate(some, step, weight, part, len(rows)))
        self.elbo.restore(memory)
        gradients = [p.grad for p in self.trained if p.grad is not None]
        norm = float(torch.nn.utils.get_total_norm(gradients))
        return not (math.isfinite(loss) and math.isfinite(norm))


def _columns(
    model: SSVAE, prepared: Prepared, counting: Counting | None
) -> tuple[Columns, Columns]:
    """Columns of batches of labelled and of unlabelled rows."""

    def of_stream(rows: EncodedRows, are_labelled: bool) -> Columns:
        fixed = FixedLogits(model, rows) if FixedLogits.are_possible(model, len(rows)) else None

        def of_rows(indices: Indices) -> dict[str, NDArray[np.float32]]:
            columns = {}
            if counting is not None and counting.lm is not None:
                columns["counted"] = counting.of_rows(indices, are_labelled=are_labelled)
            if fixed is not None:
                columns["ngram_logits"] = fixed.of_rows(indices)
            return columns

        return of_rows

    return of_stream(prepared.labelled, True), of_stream(prepared.unlabelled, False)


def stream_weights(config: Config, num_labelled: int, num_unlabelled: int) -> tuple[float, float]:
    """w of labelled and of unlabelled rows.

    In steps with rows of both streams, few labelled rows are repeated many times while the others
    are read once. With `objective.w_by_rows` the weight of the stream that is repeated more often
    is lowered, so that L and U sum over the rows of the data, each counted alike.
    """
    w, settings = config.objective.w, config.training
    by_rows = config.objective.w_by_rows and settings.streams == "both"
    if not (by_rows and num_labelled and num_unlabelled):
        return w, w
    passes = settings.labelled_batch_size / num_labelled  # in a step
    ratio = passes * num_unlabelled / settings.unlabelled_batch_size
    return w / max(1.0, ratio), w * min(1.0, ratio)


def num_shards(config: Config) -> int:
    """Number of shards of a step's batch, each with its own noise."""
    return distributed.size() * config.training.accumulate


def _shard(part: int) -> int:
    """Number of a shard among those of all ranks."""
    return distributed.rank() + part * distributed.size()


def _noise_seed(seed: int, step: int, shard: int) -> int:
    """A seed for the noise of a shard of a step, the same on every number of ranks."""
    key = [seed, step, shard] if shard else [seed, step]
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1)
