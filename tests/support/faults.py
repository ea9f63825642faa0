"""Faults of disks, files and training steps."""

import os
import random
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from seqssvae.data.batches import Batch
from seqssvae.errors import InputError
from seqssvae.training.step import Stepper
from seqssvae.training.trainer import Trainer


class Full:
    """A disk that is full from the n-th call of an `os` function on."""

    def __init__(self, name: str, calls_before: int) -> None:
        self.real, self.calls_left = getattr(os, name), calls_before

    def __call__(self, *arguments: Any) -> Any:
        self.calls_left -= 1
        if self.calls_left < 0:
            raise OSError(28, "No space left on device")
        return self.real(*arguments)


def flipped_bits(path: Path, number: int, seed: int) -> Iterator[tuple[int, int]]:
    """Flip one bit after another at random positions of a file, and put it back as it was."""
    content, generator = path.read_bytes(), random.Random(seed)
    try:
        for _ in range(number if content else 0):
            byte, bit = generator.randrange(len(content)), generator.randrange(8)
            with open(path, "r+b") as file:
                file.seek(byte)
                file.write(bytes([content[byte] ^ 1 << bit]))
            yield byte, bit
            path.write_bytes(content)
    finally:
        path.write_bytes(content)


def assert_corruption_is_refused(
    folder: Path, load: Callable[[], object], *, num_flips: int
) -> int:
    """Damage each file of a sealed folder in every way; each time it must be refused by name.

    Args:
        folder: With files alone.
        load: Reads it; raises InputError.
        num_flips: Single bits to flip in each file.

    Returns:
        Number of refusals.
    """
    num_refused = 0

    def must_refuse(name: str, what: object) -> None:
        nonlocal num_refused
        with pytest.raises(InputError) as caught:
            load()
        assert name in str(caught.value), (name, what, str(caught.value))
        num_refused += 1

    load()
    paths = sorted(path for path in folder.iterdir() if path.is_file())
    assert paths
    for path in paths:
        for position in flipped_bits(path, num_flips, seed=len(path.name)):
            must_refuse(path.name, position)
        content = path.read_bytes()
        for size in {0, 1, len(content) // 2, len(content) - 1} - {len(content)}:
            os.truncate(path, size)
            must_refuse(path.name, f"cut to {size}")
            path.write_bytes(content)
        path.write_bytes(content + b" ")
        must_refuse(path.name, "a byte more")
        path.write_bytes(content)
    for first, second in zip(paths, [*paths[1:], paths[0]], strict=True):
        swap(first, second)
        with pytest.raises(InputError) as caught:
            load()
        assert first.name in str(caught.value) or second.name in str(caught.value)
        num_refused += 1
        swap(first, second)
    load()
    return num_refused


def swap(first: Path, second: Path) -> None:
    """Give each of two files the other's name."""
    aside = first.with_name("aside")
    shutil.move(first, aside)
    shutil.move(second, first)
    shutil.move(aside, second)


class Spoiled:
    """An estimator's `differentiable_loss` whose value or gradient is not finite for some rows.

    Args:
        real: Its `differentiable_loss`.
        is_bad: Whether a batch is to be spoiled.
        kind: "loss" for NaN, "infinite loss", "gradient", or "refusal" for parameters that a
            distribution refuses.
    """

    def __init__(
        self, real: Callable[..., Tensor], is_bad: Callable[[Batch], bool], kind: str
    ) -> None:
        self.real, self.is_bad, self.kind = real, is_bad, kind

    def __call__(self, model: Any, guide: Any, batch: Batch, *args: Any) -> Tensor:
        loss = self.real(model, guide, batch, *args)
        if not self.is_bad(batch):
            return loss
        match self.kind:
            case "loss":
                return loss * torch.nan
            case "infinite loss":
                return loss + torch.inf
            case "gradient":
                return loss + (loss * 0).sqrt()  # 0, with a slope of infinity times 0
        Normal(torch.tensor(torch.nan), 1.0)
        raise AssertionError("Normal took a NaN")


def spoil(
    trainer: Trainer | Stepper,
    *,
    at: Iterable[int],
    ids: Sequence[str] | None,
    kind: str = "loss",
    calls: int | None = None,
) -> dict[int, set[str]]:
    """Wrap an estimator so that it spoils some steps.

    Args:
        trainer: Its estimator is replaced.
        at: Which steps.
        ids: Sequences that spoil every batch they are in, with all others of the same symbols;
            None for all.
        kind: As of `Spoiled`.
        calls: How often it happens at most.

    Returns:
        For each step the ids of its rows that spoil it.
    """
    stepper = trainer.stepper if isinstance(trainer, Trainer) else trainer
    left = [10**9 if calls is None else calls]
    real_part, here = stepper.streams.part, [-1]
    spoiling: dict[int, set[tuple[int, ...]]] = {}
    named: dict[int, set[str]] = {}
    for step in at:
        by_id: dict[str, tuple[int, ...]] = {}
        for number in range(stepper.streams.parts):
            given = real_part(step, number)
            rows = [] if given is None else symbols(given)
            by_id |= dict(zip(stepper.streams.ids(step, number), rows, strict=True))
        spoiling[step] = {row for id, row in by_id.items() if ids is None or id in ids}
        named[step] = {id for id, row in by_id.items() if row in spoiling[step]}

    def part(step: int, number: int) -> Batch | None:
        here[0] = step
        return real_part(step, number)

    def is_bad(given: Batch) -> bool:
        found = left[0] > 0 and bool(spoiling.get(here[0], set()) & set(symbols(given)))
        left[0] -= found
        return found

    stepper.streams.part = part  # type: ignore[method-assign, assignment]
    real: Callable[..., Tensor] = stepper.elbo.differentiable_loss
    spoiled = Spoiled(real, is_bad, kind)
    stepper.elbo.differentiable_loss = spoiled  # type: ignore[method-assign, assignment]
    return named


def symbols(batch: Batch) -> list[tuple[int, ...]]:
    """The symbols of each row."""
    lengths = batch.lengths.tolist()
    return [tuple(batch.x[row, :length].tolist()) for row, length in enumerate(lengths)]
