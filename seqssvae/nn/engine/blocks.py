"""A loop over time in blocks of packed rows, which threads share out.

Each block runs through all of its times before the next, so that what a step reads and writes stays
in a core's cache.
"""

import bisect
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from seqssvae.nn.engine.kernels import Kernels, kernels_for
from seqssvae.nn.engine.threads import balanced, num_workers, share_out

__all__ = ["Block", "Gradients", "Inputs", "Plan"]

BLOCK_ELEMENTS = 2**16  # of the hidden states of a block at one time
FEWEST_ROWS = 16  # of a block
SMALL = 2**22  # products of two numbers, in a loop that one thread does

Result = TypeVar("Result")


class Inputs(NamedTuple):
    """What the gates get without the recurrence; see `cells.lstm`.

    Attributes:
        projected: `[D, S, G]`, contiguous.
        position: `[D, M]`; None where each position has its own.
        context: `[D, N, G]`, contiguous, or None.
    """

    projected: Tensor
    position: Tensor | None
    context: Tensor | None


class Block(NamedTuple):
    """Rows of one direction, and where their symbols lie.

    Attributes:
        direction: Which one.
        rows: Which packed rows.
        own: Their positions in memory that holds block after block.
        times: Their packed positions at each time.
        sizes: Rows of the block that still hold a symbol at each time.
    """

    direction: int
    rows: slice
    own: slice
    times: list[slice]
    sizes: list[int]

    def split(self, *values: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """The values at each time, from values of all the block's positions, `[M', ...]` each."""
        return zip(*(value.split(self.sizes) for value in values), strict=True)

    def of_rows(self, value: Tensor) -> Tensor:
        """The block's part of a value of each row, `[D, N, ...]`."""
        return value[self.direction, self.rows]

    def context_of(self, inputs: Inputs) -> Tensor | None:
        """The context of the block's rows, `[N', G]`, if there is one."""
        return None if inputs.context is None else self.of_rows(inputs.context)

    def previous(self, states: Sequence[Tensor], initial: Tensor) -> list[Tensor]:
        """Views of the state before each time, from those at each time."""
        if not self.sizes:
            return []
        before = [initial[self.direction, self.rows], *states[:-1]]
        return [state[:size] for state, size in zip(before, self.sizes, strict=True)]

    def at_times(self, values: Tensor) -> list[Tensor]:
        """The same of packed values, `[D, M, ...]`."""
        here = values[self.direction]
        return [here[time] for time in self.times]

    def gather(self, inputs: Inputs, target: Tensor) -> None:
        """Put what the gates get without the recurrence into `target`, `[M', G]`."""
        source, context = inputs.projected[self.direction], self.context_of(inputs)
        for (part,), place in zip(self.split(target), self._places(inputs), strict=True):
            if isinstance(place, slice):
                part.copy_(source[place])
            else:
                torch.index_select(source, 0, place, out=part)
            if context is not None:
                part += context[: len(part)]

    def scatter(self, gradient: Tensor, inputs: Inputs, sums: Inputs) -> None:
        """Add the gradient of the gates, `[M', G]`, to that of the inputs."""
        target, context = sums.projected[self.direction], self.context_of(sums)
        for (part,), place in zip(self.split(gradient), self._places(inputs), strict=True):
            if isinstance(place, slice):
                target[place] = part
            else:
                target.index_add_(0, place, part)
            if context is not None:
                context[: len(part)] += part

    def _places(self, inputs: Inputs) -> Sequence[slice | Tensor]:
        """Which projected inputs the positions read, at each time."""
        return self.times if inputs.position is None else self.at_times(inputs.position)


class Gradients(NamedTuple):
    """Sums over blocks, of one worker or of all.

    Attributes:
        inputs: For the inputs; their `position` has none.
        parameters: For the recurrent weights, and more that a cell has.
    """

    inputs: Inputs
    parameters: tuple[Tensor, ...]

    @classmethod
    def zeros(cls, inputs: Inputs, *parameters: Tensor) -> "Gradients":
        """Nothing summed yet."""
        context = None if inputs.context is None else torch.zeros_like(inputs.context)
        sums = Inputs(torch.zeros_like(inputs.projected), None, context)
        return cls(sums, tuple(map(torch.zeros_like, parameters)))

    @classmethod
    def empty(cls, inputs: Inputs, *parameters: Tensor) -> "Gradients":
        """What a kernel fills; the context's it adds to."""
        context = None if inputs.context is None else torch.zeros_like(inputs.context)
        sums = Inputs(torch.empty_like(inputs.projected), None, context)
        return cls(sums, tuple(map(torch.empty_like, parameters)))

    @classmethod
    def total(cls, parts: "list[Gradients]") -> "Gradients":
        """The sum over workers, in memory of the first."""
        first = parts[0]
        for part in parts[1:]:
            first.inputs.projected.add_(part.inputs.projected)
            if first.inputs.context is not None and part.inputs.context is not None:
                first.inputs.context.add_(part.inputs.context)
            for total, term in zip(first.parameters, part.parameters, strict=True):
                total.add_(term)
        return first


class Plan(NamedTuple):
    """How a loop runs.

    Attributes:
        blocks: All rows, in blocks.
        workers: Threads that share them out.
        kernels: What runs the loop; None for torch's operations.
    """

    blocks: list[Block]
    workers: int
    kernels: Kernels | None

    @classmethod
    def make(cls, sizes: tuple[int, ...], hidden: Tensor, *others: Tensor | None) -> "Plan":
        """A plan for first states `[D, N, H]` and other tensors of the loop."""
        num_directions, _, size = hidden.shape
        if not sum(sizes):
            return cls([], 1, None)
        is_small = num_directions * sum(sizes) * size * size < SMALL
        workers = 1 if is_small else num_workers(hidden.device)
        kernels = kernels_for(hidden, *(other for other in others if other is not None))
        return cls(_blocks(sizes, hidden, workers), workers, kernels)

    @property
    def lengths(self) -> list[int]:
        """Positions of each block."""
        return [block.own.stop - block.own.start for block in self.blocks]

    def share_out(self, work: Callable[[list[Block]], Result]) -> list[Result]:
        """Do work on all blocks; see `threads.share_out`."""
        return share_out(work, self.blocks, self.lengths, self.workers)

    def numbers(self, inputs: Inputs, hidden: Tensor) -> Tensor:
        """What `kernels.c` reads of a plan, int64.

        Workers, H, D, S, N, M, the longest block's positions, the number of blocks and of their
        times; where each worker's blocks begin and the last one's end; of each block its
        direction, first row, first own position, positions, times, and where these begin; rows at
        each of a block's times; the packed position where those begin.
        """
        shares = balanced(self.lengths, self.workers)
        blocks = [self.blocks[index] for share in shares for index in share]
        ends = itertools.accumulate(map(len, shares), initial=0)
        begins = itertools.accumulate((len(block.sizes) for block in blocks), initial=0)
        num_directions, num_rows, size = hidden.shape
        num_times = sum(len(block.sizes) for block in blocks)
        num_positions = sum(self.lengths) // num_directions
        words = [
            len(shares), size, num_directions, inputs.projected.shape[1], num_rows, num_positions,
            max(self.lengths, default=0), len(blocks), num_times, *ends,
        ]  # fmt: skip
        for block, begin in zip(blocks, begins, strict=False):
            own = block.own
            words += [block.direction, block.rows.start, own.start, own.stop - own.start]
            words += [len(block.sizes), begin]
        for block in blocks:
            words += block.sizes
        for block in blocks:
            words += [time.start for time in block.times]
        return torch.tensor(words)


def _blocks(sizes: tuple[int, ...], like: Tensor, workers: int) -> list[Block]:
    """All rows in blocks, for hidden states `like`, `[D, N, H]`; one a direction off the CPU."""
    starts, cuts = list(itertools.accumulate(sizes, initial=0)), _cuts(sizes, like, workers)
    found, end = [], 0
    for direction in range(len(like)):
        for first, last in itertools.pairwise(cuts):
            active = [min(size, last) - first for size in sizes if size > first]
            times = [
                slice(start + first, start + first + here)
                for start, here in zip(starts, active, strict=False)
            ]
            own = slice(end, end + sum(active))
            found.append(Block(direction, slice(first, last), own, times, active))
            end = own.stop
    return found


def _cuts(sizes: tuple[int, ...], like: Tensor, workers: int) -> list[int]:
    """Where blocks of one direction begin and end: about as many positions in each."""
    num_directions, num_rows, size = like.shape
    num_blocks = 1
    if like.device.type == "cpu":
        num_blocks = -(-num_directions * num_rows * size // BLOCK_ELEMENTS)
        num_blocks += -num_blocks % workers  # each has the same number of them
        num_blocks = min(-(-num_blocks // num_directions), num_rows // FEWEST_ROWS)
    lengths = [0] * num_rows
    for end, rows in enumerate(sizes, 1):
        lengths[:rows] = [end] * rows
    upto = list(itertools.accumulate(lengths))  # positions of the first n rows
    inner = {bisect.bisect(upto, sum(sizes) * part // num_blocks) for part in range(1, num_blocks)}
    return sorted({0, num_rows} | inner)
