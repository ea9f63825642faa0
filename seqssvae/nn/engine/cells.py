"""The loops over time of LSTM and GRU, one autograd function over packed rows, in C.

It runs where `kernels_for` has kernels; elsewhere `nn.recurrent` runs torch's own.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from seqssvae.nn.engine.blocks import Plan
from seqssvae.nn.engine.buffers import Buffer
from seqssvae.nn.engine.kernels import kernels_for
from seqssvae.shapes import check_below


def run_cells(
    projected: Tensor,
    position: Tensor | None,
    context: Tensor | None,
    plan: Plan,
    weight: Tensor,
    hidden: Tensor,
    extra: Tensor,
) -> Tensor:
    """Hidden states of an LSTM (Hochreiter and Schmidhuber 1997) or a GRU (Cho et al. 2014).

    G is 4 H for an LSTM, gates in torch's order i f g o, and 3 H for a GRU, gates r z n. All is
    computed in float32, under autocast too: a sum over time adds up rounding errors.

    Args:
        projected: Inputs times the input weights, biases included, `[D, S, G]`.
        position: Index of the input that each packed position reads, `[D, M]`; None if S = M and
            position m reads input m.
        context: Added to the gates of each row at every time, `[D, N, G]`, or None.
        plan: How the loop runs, for these shapes.
        weight: Recurrent weights, `[D, G, H]`, float32 on the CPU.
        hidden: First hidden states, `[D, N, H]`.
        extra: First cells of an LSTM, `[D, N, H]`; recurrent bias of a GRU's new gate, `[D, 1, H]`.

    Returns:
        `[D, M, H]`.

    Raises:
        ValueError: a position is not below S.
    """
    if position is not None:
        check_below("position", position, projected.shape[1])
        position = position.contiguous()
    floats = (
        None if tensor is None else tensor.float().contiguous()
        for tensor in (projected, context, weight, hidden, extra)
    )
    with torch.autocast("cpu", enabled=False):
        hiddens: Tensor = _Cells.apply(plan, position, *floats)  # type: ignore[no-untyped-call]
    return hiddens


class _Cells(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        plan: Plan,
        position: Tensor | None,
        projected: Tensor,
        context: Tensor | None,
        weight: Tensor,
        hidden: Tensor,
        extra: Tensor,
    ) -> Tensor:
        num_directions, width, size = weight.shape
        num_positions = num_directions * int(plan.numbers[5])
        transposed = Buffer(weight, (num_directions, size, width))
        transposed.tensor.copy_(weight.transpose(1, 2))
        # read by backward: gates, cells, their tanh; of a GRU gates, the new one's recurrent part
        num_saved = 3 if width == 4 * size else 2
        buffers = [Buffer(hidden, (num_positions, n)) for n in (width, size, size)[:num_saved]]
        saved = [*(buffer.tensor for buffer in buffers), None][:3]
        hiddens = hidden.new_empty(num_directions, num_positions // num_directions, size)
        _run(
            "forward", plan, weight, projected, position, context, transposed.tensor, hidden,
            extra, *saved, hiddens,
        )  # fmt: skip
        ctx.save_for_backward(position, context, weight, hidden, extra, hiddens)
        ctx.plan, ctx.shape = plan, projected.shape
        ctx.saved, ctx.buffers = saved, buffers  # which hold the memory
        return hiddens

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        position, context, weight, hidden, extra, hiddens = ctx.saved_tensors
        plan, (_, width, size) = ctx.plan, weight.shape
        d_projected, d_weight = weight.new_empty(ctx.shape), torch.empty_like(weight)
        d_context = None if context is None else torch.zeros_like(context)
        d_hidden, d_extra = torch.zeros_like(hidden), torch.zeros_like(extra)
        is_lstm = width == 4 * size
        # for each worker: gradients of a block's gates with the states before, and its sums
        of_gates = width if is_lstm else 2 * width
        scratch = Buffer(weight, (plan.workers, plan.longest, of_gates + size))
        summed = weight.numel() + (0 if is_lstm else extra.numel())
        summed += 0 if position is None else d_projected.numel()
        spare = Buffer(weight, (plan.workers, summed))
        _run(
            "backward", plan, weight, d_projected, position, d_context, weight, hidden, extra,
            *ctx.saved, hiddens, gradient.contiguous(), scratch.tensor, spare.tensor, d_weight,
            d_extra, d_hidden,
        )  # fmt: skip
        return None, None, d_projected, d_context, d_weight, d_hidden, d_extra


def _run(name: str, plan: Plan, weight: Tensor, *tensors: Tensor | None) -> None:
    kernels = kernels_for(weight)
    assert kernels is not None, "no C kernels for this tensor"
    kernels.run(name, weight.shape[1] // weight.shape[2], plan.numbers, *tensors)
