"""The loops over time of LSTM and GRU, each one autograd function over packed rows, in C.

They run where `kernels_for` has kernels; elsewhere `nn.recurrent` runs torch's own.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from seqssvae.nn.engine.blocks import Plan
from seqssvae.nn.engine.buffers import Buffer
from seqssvae.nn.engine.kernels import Kernels, kernels_for


def lstm(
    projected: Tensor,
    position: Tensor | None,
    context: Tensor | None,
    plan: Plan,
    weight: Tensor,
    hidden: Tensor,
    cell: Tensor,
) -> Tensor:
    """Hidden states of an LSTM (Hochreiter and Schmidhuber 1997), gates in torch's order i f g o.

    Args:
        projected: Inputs times the input weights, biases included, `[D, S, 4 H]`.
        position: Index of the input that each packed position reads, `[D, M]`; None if S = M and
            position m reads input m.
        context: Added to the gates of each row at every time, `[D, N, 4 H]`, or None.
        plan: How the loop runs, for these shapes.
        weight: Recurrent weights, `[D, 4 H, H]`, float32 on the CPU.
        hidden: First hidden states, `[D, N, H]`.
        cell: First cells, `[D, N, H]`.

    Returns:
        `[D, M, H]`.
    """
    return _run(_LSTM, plan, projected, position, context, weight, hidden, cell)


def gru(
    projected: Tensor,
    position: Tensor | None,
    context: Tensor | None,
    plan: Plan,
    weight: Tensor,
    hidden: Tensor,
    new_bias: Tensor,
) -> Tensor:
    """Hidden states of a GRU (Cho et al. 2014) as torch has it, gates in the order r z n.

    Args:
        projected: As in `lstm`, `[D, S, 3 H]`.
        position: As in `lstm`.
        context: As in `lstm`, `[D, N, 3 H]`.
        plan: As in `lstm`.
        weight: Recurrent weights, `[D, 3 H, H]`, float32 on the CPU.
        hidden: First hidden states, `[D, N, H]`.
        new_bias: The new gate's recurrent bias, `[D, 1, H]`.

    Returns:
        `[D, M, H]`.
    """
    return _run(_GRU, plan, projected, position, context, weight, hidden, new_bias)


def _run(
    loop: type[torch.autograd.Function],
    plan: Plan,
    projected: Tensor,
    position: Tensor | None,
    context: Tensor | None,
    *rest: Tensor,
) -> Tensor:
    """Run a loop in float32, under autocast too: a sum over time adds up what is rounded."""
    if position is not None:
        position = position.contiguous()
    floats = (None if t is None else t.float().contiguous() for t in (projected, context, *rest))
    with torch.autocast("cpu", enabled=False):
        hiddens: Tensor = loop.apply(plan, position, *floats)
    return hiddens


class _LSTM(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        plan: Plan,
        position: Tensor | None,
        projected: Tensor,
        context: Tensor | None,
        weight: Tensor,
        hidden: Tensor,
        cell: Tensor,
    ) -> Tensor:
        # gates, cells, and tanh of the cells
        hiddens, saved = _outputs(hidden, plan, units=(4, 1, 1))
        transposed = _transposed(weight)
        _kernels(weight).run(
            "lstm_forward", plan.numbers, projected, position, context, transposed.tensor, hidden,
            cell, *(buffer.tensor for buffer in saved), hiddens,
        )  # fmt: skip
        ctx.save_for_backward(position, context, weight, hidden, cell, hiddens)
        ctx.plan, ctx.saved, ctx.shape = plan, saved, projected.shape
        return hiddens

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        position, context, weight, hidden, cell, hiddens = ctx.saved_tensors
        d_projected, d_weight = weight.new_empty(ctx.shape), torch.empty_like(weight)
        d_context = None if context is None else torch.zeros_like(context)
        d_hidden, d_cell = torch.zeros_like(hidden), torch.zeros_like(cell)
        summed = [weight] if position is None else [weight, d_projected]
        scratch, spare = _memory(ctx.plan, weight, summed, d_gates=1)
        _kernels(weight).run(
            "lstm_backward", ctx.plan.numbers, d_projected, position, d_context, weight, hidden,
            cell, *(buffer.tensor for buffer in ctx.saved), hiddens, gradient.contiguous(),
            scratch.tensor, spare.tensor, d_weight, d_hidden, d_cell,
        )  # fmt: skip
        return None, None, d_projected, d_context, d_weight, d_hidden, d_cell


class _GRU(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        plan: Plan,
        position: Tensor | None,
        projected: Tensor,
        context: Tensor | None,
        weight: Tensor,
        hidden: Tensor,
        new_bias: Tensor,
    ) -> Tensor:
        # gates, and the recurrent part of the new gate
        hiddens, saved = _outputs(hidden, plan, units=(3, 1))
        transposed = _transposed(weight)
        _kernels(weight).run(
            "gru_forward", plan.numbers, projected, position, context, transposed.tensor, new_bias,
            hidden, *(buffer.tensor for buffer in saved), hiddens,
        )  # fmt: skip
        ctx.save_for_backward(position, context, weight, hidden, new_bias, hiddens)
        ctx.plan, ctx.saved, ctx.shape = plan, saved, projected.shape
        return hiddens

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        position, context, weight, hidden, new_bias, hiddens = ctx.saved_tensors
        d_projected, d_weight = weight.new_empty(ctx.shape), torch.empty_like(weight)
        d_context = None if context is None else torch.zeros_like(context)
        d_hidden, d_bias = torch.zeros_like(hidden), torch.empty_like(new_bias)
        summed = [weight, new_bias] if position is None else [weight, new_bias, d_projected]
        scratch, spare = _memory(ctx.plan, weight, summed, d_gates=2)
        _kernels(weight).run(
            "gru_backward", ctx.plan.numbers, d_projected, position, d_context, weight, hidden,
            *(buffer.tensor for buffer in ctx.saved), hiddens, gradient.contiguous(),
            scratch.tensor, spare.tensor, d_weight, d_bias, d_hidden,
        )  # fmt: skip
        return None, None, d_projected, d_context, d_weight, d_hidden, d_bias


def _kernels(weight: Tensor) -> Kernels:
    kernels = kernels_for(weight)
    assert kernels is not None, "no C kernels for this tensor"
    return kernels


def _outputs(hidden: Tensor, plan: Plan, units: tuple[int, ...]) -> tuple[Tensor, list[Buffer]]:
    """Memory for the states of all positions, `[D, M, H]`, and for values of the backward pass.

    The latter are one buffer `[D M, unit * H]` for each of `units`.
    """
    num_directions, _, size = hidden.shape
    num_positions = int(plan.numbers[5])
    hiddens = hidden.new_empty(num_directions, num_positions, size)
    shapes = [(num_directions * num_positions, unit * size) for unit in units]
    return hiddens, [Buffer(hidden, shape) for shape in shapes]


def _transposed(weight: Tensor) -> Buffer:
    """The weight `[D, G, H]` as `[D, H, G]`, contiguous."""
    num_directions, width, size = weight.shape
    transposed = Buffer(weight, (num_directions, size, width))
    transposed.tensor.copy_(weight.transpose(1, 2))
    return transposed


def _memory(
    plan: Plan, weight: Tensor, summed: list[Tensor], *, d_gates: int
) -> tuple[Buffer, Buffer]:
    """Memory of `kernels.c` for a gradient: scratch of each worker, and its sums.

    Scratch holds the gradients of a block's gates, `d_gates` of them, and the states before.
    """
    _, width, size = weight.shape
    scratch = Buffer(weight, (plan.workers, plan.longest, d_gates * width + size))
    return scratch, Buffer(weight, (plan.workers, sum(value.numel() for value in summed)))
