"""Large pieces of work side by side, each on a thread of its own.

torch spreads each operation over its threads and waits for all of them at its end. Where
operations are small, and wherever another process takes a core, the waiting is what costs. Here
threads share out rows instead, and wait for each other once.
"""

import functools
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

__all__ = ["balanced", "num_workers", "share_out"]

MOST_WORKERS = 8  # each may hold sums of its own; beyond, a worker has several of torch's threads

Part = TypeVar("Part")
Result = TypeVar("Result")


def num_workers(device: torch.device) -> int:
    """How many threads `share_out` may use for work on a device: 1 off the CPU."""
    return min(torch.get_num_threads(), MOST_WORKERS) if device.type == "cpu" else 1


def share_out(
    work: Callable[[list[Part]], Result], parts: Sequence[Part], sizes: Sequence[int], workers: int
) -> list[Result]:
    """Do work on all parts, shared out evenly.

    Which worker gets which parts depends on `sizes` and `workers` alone, so that sums over the
    results have the same rounding every time. Autograd records nothing in `work`.

    Args:
        work: Called once for each worker that has parts, with those, in their order.
        parts: What to work on.
        sizes: How much work each part is.
        workers: At most so many calls at a time; a single one is made in this thread.

    Returns:
        What the calls returned, at least one, in an order that does not change.
    """
    chosen = [[parts[index] for index in share] for share in balanced(sizes, workers)]
    if len(chosen) == 1:
        return [work(chosen[0])]

    def silently(share: list[Part]) -> Result:
        with torch.no_grad():  # a mode of each thread's own
            return work(share)

    return list(_pool(workers, torch.get_num_threads()).map(silently, chosen))


def balanced(sizes: Sequence[int], workers: int) -> list[list[int]]:
    """Share out work among at most `workers`, at least one: the places of each one's `sizes`.

    The largest first, each to who has least so far; every share is in ascending order.
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
    """Threads each of which has its share of torch's."""
    started = threading.Barrier(workers)

    def begin() -> None:
        torch.get_num_threads()  # the first call in a thread undoes what was set before
        torch.set_num_threads(max(1, threads // workers))
        started.wait()

    pool = ThreadPoolExecutor(workers, thread_name_prefix="seqssvae")
    for future in [pool.submit(begin) for _ in range(workers)]:
        future.result()
    torch.set_num_threads(threads)  # what a thread sets is also what later threads begin with
    return pool


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # threads do not live on in a child
