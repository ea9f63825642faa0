"""Batches made ahead, by a thread, while a GPU computes."""

import dataclasses
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from seqssvae.data.batches import Batch

Make = Callable[[int, int], Batch | None]


class Prefetcher:
    """Gives the parts of steps in their order, each made while the one before is computed with.

    A part is the same whether it was made ahead or not. On the CPU none is: the thread would take
    the time from the networks.

    Args:
        make: Makes a part, from the numbers of its step and of the part.
        num_parts: Parts of a step.
        device: Device that the batches are for; those for a GPU are in pinned memory, from which
            copies need not be waited for.
        is_ahead: Whether parts are made ahead; by default if the device is a GPU with CUDA.
    """

    def __init__(
        self, make: Make, num_parts: int, device: torch.device, *, is_ahead: bool | None = None
    ) -> None:
        self._make, self._num_parts, self._device = make, num_parts, device
        self._is_ahead = device.type == "cuda" if is_ahead is None else is_ahead
        self._thread = ThreadPoolExecutor(1, "batches", _start, (device,))
        self._next: tuple[tuple[int, int], Future[Batch | None]] | None = None

    def part(self, step: int, part: int) -> Batch | None:
        """A part of a step's batch.

        Raises:
            Exception: what `make` raised, also on the thread.
        """
        if not self._is_ahead:
            return self._make(step, part)
        if self._next is None or self._next[0] != (step, part):
            self.forget()
            self._submit(step, part)
        assert self._next is not None
        future, self._next = self._next[1], None
        batch = future.result()
        self._submit(*((step, part + 1) if part + 1 < self._num_parts else (step + 1, 0)))
        return batch

    def forget(self) -> None:
        """Wait for the thread and drop what it made: what `make` reads is about to change."""
        if self._next is not None:
            future, self._next = self._next[1], None
            if not future.cancel():
                future.exception()

    def close(self) -> None:
        """Stop the thread; a part that is asked for later is made at once."""
        self.forget()
        self._is_ahead = False
        self._thread.shutdown()

    def _submit(self, step: int, part: int) -> None:
        future = self._thread.submit(_make_ahead, self._make, step, part, self._device)
        self._next = (step, part), future


# these are no methods, so that the thread ends when nobody has the prefetcher any more


def _start(device: torch.device) -> None:
    """Let the thread use the same GPU as the process, not the first one."""
    if device.type == "cuda":
        torch.cuda.set_device(device)


def _make_ahead(make: Make, step: int, part: int, device: torch.device) -> Batch | None:
    batch = make(step, part)
    return batch if batch is None or device.type != "cuda" else pinned(batch)


def pinned(batch: Batch) -> Batch:
    """The same rows in pinned memory."""

    def pin(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(pin, value))
        return value.pin_memory() if isinstance(value, Tensor) else value

    values = {field.name: getattr(batch, field.name) for field in dataclasses.fields(batch)}
    return Batch(**{name: pin(value) for name, value in values.items()})
