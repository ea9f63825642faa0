"""Interleaved timing, peak memory, and the speed of a matrix product."""

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median

import torch

__all__ = ["extra_megabytes", "gpu_megabytes", "interleaved_seconds", "matmul_flops"]

MATMUL_SIZE = {"cpu": 1024, "cuda": 8192}
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def interleaved_seconds(
    functions: Mapping[str, Callable[[], object]], num_rounds: int
) -> dict[str, float]:
    """Median seconds of each function; they run A B C A B C, after a warm-up round.

    Args:
        functions: Functions to time, by name.
        num_rounds: Number of measured rounds, at least 1.
    """
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for number in range(num_rounds + 1):
        for name, run in functions.items():
            _wait()
            start = time.perf_counter()
            run()
            _wait()
            if number:
                seconds[name].append(time.perf_counter() - start)
    return {name: median(times) for name, times in seconds.items()}


def _wait() -> None:
    """Wait for a GPU that this process uses."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def matmul_flops(
    device: torch.device, dtype: torch.dtype = torch.float32
) -> tuple[Callable[[], object], float]:
    """A product of two square matrices, and its number of floating-point operations."""
    size = MATMUL_SIZE[device.type]
    a, b = torch.randn(2, size, size, device=device).to(dtype)
    out = torch.empty_like(a)
    return lambda: torch.mm(a, b, out=out), 2.0 * size**3


def gpu_megabytes(run: Callable[[], object]) -> float:
    """Peak memory of torch's allocator on a GPU while `run` runs, less the memory before."""
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    run()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 1e6


def extra_megabytes(run: Callable[[], object]) -> float:
    """Peak resident memory of this process while `run` runs, less the memory before.

    NaN on systems other than Linux.
    """
    if not STATUS.exists():
        return float("nan")
    if os.access(CLEAR, os.W_OK):
        CLEAR.write_text("5")  # reset the peak
    before = _kilobytes("VmRSS")
    run()
    return (_kilobytes("VmHWM") - before) * 1024 / 1e6


def _kilobytes(key: str) -> int:
    for line in STATUS.read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1])
    raise KeyError(key)
