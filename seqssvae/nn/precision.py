"""The arithmetic of networks: float32, TF32 matrix products, or automatic mixed precision."""

import contextlib
from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import nn

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


@contextlib.contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """No dropout, no gradient, no TF32, which torch's recurrences on a GPU have by default.

    Each module's mode is restored at the end, also on errors.
    """
    modes = [(part, part.training) for part in module.modules()]
    try:
        module.eval()
        with torch.no_grad(), products("float32"):
            yield
    finally:
        for part, training in modes:
            part.training = training
