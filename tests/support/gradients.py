"""Gradients, and how two of them are compared."""

from collections.abc import Iterable

import torch
from torch import Tensor


def gradients(value: Tensor, inputs: Iterable[Tensor]) -> tuple[Tensor, ...]:
    """The gradient of a scalar at every input, zeros where it does not depend on one."""
    return torch.autograd.grad(
        value, list(inputs), retain_graph=True, allow_unused=True, materialize_grads=True
    )


def assert_same_gradients(
    got: Tensor, want: Tensor, inputs: Iterable[Tensor], *, rtol: float = 0.0, atol: float = 1e-10
) -> None:
    """Two scalars have the same gradient at every input."""
    inputs = list(inputs)
    for mine, theirs in zip(gradients(got, inputs), gradients(want, inputs), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=rtol, atol=atol)
