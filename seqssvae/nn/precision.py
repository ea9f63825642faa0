"""The arithmetic of networks: float32, TF32 matrix products, or automatic mixed precision."""

import contextlib
from collections.abc import Iterator
from typing import Any, Literal

import torch

Precision = Literal["float32", "tf32", "bfloat16"]


@contextlib.contextmanager
def products(precision: Precision) -> Iterator[None]:
    """Let a GPU multiply float32 matrices in TF32, in recurrences too, unless it is "float32".

    TF32 has float32's range and 10 bits of mantissa. The forward and the backward pass belong here.
    """
    backends: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn.rnn)
    before = [backend.fp32_precision for backend in backends]
    try:
        for backend in backends:
            backend.fp32_precision = "ieee" if precision == "float32" else "tf32"
        yield
    finally:
        for backend, value in zip(backends, before, strict=True):
            backend.fp32_precision = value


def autocast(precision: Precision, device: torch.device) -> torch.autocast:
    """The context of a forward pass: torch's autocast under "bfloat16"."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")
