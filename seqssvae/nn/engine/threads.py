"""Large pieces of work in parallel, each in a thread of its own.

torch divides each operation among its threads and waits for all of them at its end. If operations
are small, or another process uses a core, most time is spent waiting. Here threads share rows
instead, and wait for each other once.
"""

import functools
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

MOST_WORKERS = 8  # each may have sums of its own; beyond, a worker has several torch threads

Part = TypeVar("Part")
Result = TypeVar("Result")


def num_workers(device: torch.device) -> int:
    """Number of threads of `share_out` for work on a device: 1 unless it is the CPU."""
    return min(torch.get_num_threads(), MOST_WORKERS) if device.type == "cpu" else 1


def share_out(
    work: Callable[[list[Part]], Result], parts: Sequence[Part], sizes: Sequence[int], workers: int
) -> list[Result]:
    """Do work on all parts, divided evenly among threads.

    The parts of each worker depend on `sizes` and `workers` alone, so that sums over the results
    have the same rounding every time. `work` runs without autograd.

    Args:
        work: Called once for each worker that has parts, with those, in their order.
        parts: Arguments of the work.
        sizes: Amount of work of each part.
        workers: Maximum number of simultaneous calls; a single call runs in this thread.

    Returns:
        Results of the calls, at least one, in an order that does not change.
    """
    chosen = [[parts[index] for index in share] for share in balanced(sizes, workers)]
    if len(chosen) == 1:
        return [work(chosen[0])]

    def silently(share: list[Part]) -> Result:
        with torch.no_grad():  # a mode of each thread's own
            return work(share)

    return list(_pool(workers, torch.get_num_threads()).map(silently, chosen))


def balanced(sizes: Sequence[int], workers: int) -> list[list[int]]:
    """Divide work among at most `workers`, at least one: indices in `sizes` of each one's parts.

    The largest parts first, each to the worker that has least so far; indices are ascending.
    """
    shares: list[list[int]] = [[] for _ in range(max(1, min(workers, len(sizes))))]
    loads = [0] * len(shares)
    for index in sorted(range(len(sizes)), key=lambda index: -sizes[index]):
        lightest = loads.index(min(loads))
        shares[lightest].append(index)
        loads[lightest] += sizes[index]
    return [sorted(share) for share in shares]


@functools.cache
def _pool(workers: int, threads: int) -> ThreadPoolExecutor:
    """A pool of threads, each with its share of torch's threads."""
    started = threading.Barrier(workers)

    def begin() -> None:
        torch.get_num_threads()  # the first call in a thread undoes what was set before
        torch.set_num_threads(max(1, threads // workers))
        started.wait()

    pool = ThreadPoolExecutor(workers, thread_name_prefix="seqssvae")
    for future in [pool.submit(begin) for _ in range(workers)]:
        future.result()
    torch.set_num_threads(threads)  # later threads begin with the number that was set last
    return pool


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # a child has no threads of its parent
