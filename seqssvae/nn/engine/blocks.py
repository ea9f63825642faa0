"""A loop over time in blocks of packed rows, which threads share.

Each block runs through all of its times before the next, so that what a step reads and writes stays
in a core's cache.
"""

import bisect
import itertools
from typing import NamedTuple

import torch
from torch import Tensor

from seqssvae.nn.engine.threads import balanced, num_workers

BLOCK_ELEMENTS = 2**16  # of the hidden states of a block at one time
FEWEST_ROWS = 16  # of a block
FEWEST_PRODUCTS = 2**22  # multiplications below which one thread is faster than several


class Block(NamedTuple):
    """Rows of one direction, and where their symbols lie.

    Attributes:
        direction: Index of the direction.
        row: First packed row.
        start: First position in memory that holds block after block.
        sizes: Rows of the block that still have a symbol at each time.
        starts: First packed position at each time.
    """

    direction: int
    row: int
    start: int
    sizes: list[int]
    starts: list[int]


class Plan(NamedTuple):
    """How the blocks of a loop run.

    Attributes:
        numbers: What `recurrent.c` reads of blocks and workers, int64: workers, H, D, S, N, M, the
            longest block's positions, the numbers of blocks and of their times; first block of
            each worker, and the end of the last one's; of each block its direction, first row,
            start, positions, times, and the index of its first time; rows at each of a block's
            times; first packed position at each of them.
        workers: Number of threads.
        longest: Positions of the longest block.
    """

    numbers: Tensor
    workers: int
    longest: int

    @classmethod
    def make(
        cls,
        sizes: tuple[int, ...],
        hidden: Tensor,
        num_inputs: int,
        *,
        block_elements: int = BLOCK_ELEMENTS,
        fewest_products: int = FEWEST_PRODUCTS,
    ) -> "Plan":
        """Cut all rows into blocks and share them among threads.

        Args:
            sizes: Rows that still have a symbol at each time, never rising.
            hidden: First hidden states, `[D, N, H]`.
            num_inputs: S.
            block_elements: Numbers in the hidden states of a block at one time.
            fewest_products: Multiplications below which there is one thread.
        """
        num_directions, num_rows, size = hidden.shape
        is_small = num_directions * sum(sizes) * size * size < fewest_products
        workers = 1 if is_small else num_workers(hidden.device)
        blocks = cut_blocks(sizes, tuple(hidden.shape), workers, block_elements)
        lengths = [sum(block.sizes) for block in blocks]
        shares = balanced(lengths, workers)
        blocks = [blocks[index] for share in shares for index in share]
        num_times = sum(len(block.sizes) for block in blocks)
        numbers = [
            len(shares), size, num_directions, num_inputs, num_rows, sum(sizes), max(lengths),
            len(blocks), num_times, *itertools.accumulate(map(len, shares), initial=0),
        ]  # fmt: skip
        first_time = 0
        for block in blocks:
            numbers += [block.direction, block.row, block.start, sum(block.sizes)]
            numbers += [len(block.sizes), first_time]
            first_time += len(block.sizes)
        for block in blocks:
            numbers += block.sizes
        for block in blocks:
            numbers += block.starts
        return cls(torch.tensor(numbers), workers, max(lengths))


def cut_blocks(
    sizes: tuple[int, ...], shape: tuple[int, ...], workers: int, block_elements: int
) -> list[Block]:
    """All rows in blocks of about the same number of positions.

    Args:
        sizes: Rows that still have a symbol at each time, never rising.
        shape: D, N and H.
        workers: Number of threads.
        block_elements: As in `Plan.make`.
    """
    num_directions, num_rows, size = shape
    num_blocks = -(-num_directions * num_rows * size // block_elements)
    num_blocks += -num_blocks % workers  # each has the same number of them
    num_blocks = min(-(-num_blocks // num_directions), num_rows // FEWEST_ROWS)
    lengths = [0] * num_rows
    for end, rows in enumerate(sizes, 1):
        lengths[:rows] = [end] * rows
    upto = list(itertools.accumulate(lengths))  # positions of the first n rows
    inner = {bisect.bisect(upto, sum(sizes) * part // num_blocks) for part in range(1, num_blocks)}
    times = list(itertools.accumulate(sizes, initial=0))
    blocks, start = [], 0
    for direction in range(num_directions):
        for first, last in itertools.pairwise(sorted({0, num_rows} | inner)):
            active = [min(rows, last) - first for rows in sizes if rows > first]
            starts = [time + first for time in times[: len(active)]]
            blocks.append(Block(direction, first, start, active, starts))
            start += sum(active)
    return blocks
