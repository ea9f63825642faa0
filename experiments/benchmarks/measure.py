"""Time in turn, memory of a process of its own, and the speed of a matrix product."""

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median

import torch

__all__ = ["extra_megabytes", "matmul_flops", "seconds_in_turn"]

MATMUL_SIZE = 1024
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def seconds_in_turn(
    contestants: Mapping[str, Callable[[], object]], num_rounds: int
) -> dict[str, float]:
    """Median seconds of each; they run A B C A B C, after a round that warms up.

    Args:
        contestants: What to run, by name.
        num_rounds: Measured rounds, at least 1.
    """
    found: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(num_rounds + 1):
        for name, run in contestants.items():
            start = time.perf_counter()
            run()
            if number:
                found[name].append(time.perf_counter() - start)
    return {name: median(seconds) for name, seconds in found.items()}


def matmul_flops() -> tuple[Callable[[], object], float]:
    """A product of two 1024 by 1024 matrices, and its floating-point operations."""
    a, b = torch.randn(2, MATMUL_SIZE, MATMUL_SIZE)
    out = torch.empty_like(a)
    return lambda: torch.mm(a, b, out=out), 2.0 * MATMUL_SIZE**3


def extra_megabytes(run: Callable[[], object]) -> float:
    """How far the resident memory of this process rises above what it was while `run` runs.

    Linux alone tells; elsewhere it is NaN.
    """
    if not STATUS.exists():
        return float("nan")
    if os.access(CLEAR, os.W_OK):
        CLEAR.write_text("5")  # forget the peak of what came before
    before = _kilobytes("VmRSS")
    run()
    return (_kilobytes("VmHWM") - before) * 1024 / 1e6


def _kilobytes(key: str) -> int:
    for line in STATUS.read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1])
    raise KeyError(key)
