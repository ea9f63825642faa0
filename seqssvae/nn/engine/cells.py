"""The loops over time of LSTM and GRU, each one autograd function, over packed rows.

The gradient of the recurrent weights is one product for each block of rows. Kernels in C do what
`loops` does with torch's operations, in fewer passes over memory, where they can.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from seqssvae.nn.engine.blocks import Block, Gradients, Inputs, Plan
from seqssvae.nn.engine.buffers import Buffer
from seqssvae.nn.engine.loops import (
    add_weight_gradient,
    gru_backward,
    gru_forward,
    lstm_backward,
    lstm_forward,
)

__all__ = ["gru", "lstm"]


def lstm(
    projected: Tensor,
    position: Tensor | None,
    context: Tensor | None,
    sizes: tuple[int, ...],
    weight: Tensor,
    hidden: Tensor,
    cell: Tensor,
) -> Tensor:
    """Hidden states of an LSTM (Hochreiter and Schmidhuber 1997), gates in torch's order i f g o.

    Args:
        projected: Inputs times the input weights, biases included, `[D, S, 4 H]`.
        position: Which of them each packed position reads, `[D, M]`; None for each its own.
        context: What each row adds to its gates at every time, `[D, N, 4 H]`, or None.
        sizes: Rows that still hold a symbol at each time, never rising; M in all.
        weight: Recurrent weights, `[D, 4 H, H]`.
        hidden: First hidden states, `[D, N, H]`.
        cell: First cells, `[D, N, H]`.

    Returns:
        `[D, M, H]`.
    """
    return _in_one_dtype(_LSTM, projected, position, context, sizes, weight, hidden, cell)


def gru(
    projected: Tensor,
    position: Tensor | None,
    context: Tensor | None,
    sizes: tuple[int, ...],
    weight: Tensor,
    hidden: Tensor,
    new_bias: Tensor,
) -> Tensor:
    """Hidden states of a GRU (Cho et al. 2014) as torch has it, gates in the order r z n.

    Args:
        projected: As in `lstm`, `[D, S, 3 H]`.
        position: As in `lstm`.
        context: As in `lstm`, `[D, N, 3 H]`.
        sizes: As in `lstm`.
        weight: Recurrent weights, `[D, 3 H, H]`.
        hidden: First hidden states, `[D, N, H]`.
        new_bias: The new gate's recurrent bias, `[D, 1, H]`.

    Returns:
        `[D, M, H]`.
    """
    return _in_one_dtype(_GRU, projected, position, context, sizes, weight, hidden, new_bias)


def _in_one_dtype(
    loop: type[torch.autograd.Function],
    projected: Tensor,
    position: Tensor | None,
    context: Tensor | None,
    sizes: tuple[int, ...],
    weight: Tensor,
    *states: Tensor,
) -> Tensor:
    """Run a loop in the dtype of its weights: under autocast too, whose products are rounded.

    What is rounded at every time adds up, and the buffers hold one dtype. All is contiguous, as
    kernels want it.
    """

    def plain(tensor: Tensor) -> Tensor:
        return tensor.to(weight.dtype).contiguous()

    with torch.autocast(weight.device.type, enabled=False):
        found: Tensor = loop.apply(
            plain(projected),
            None if position is None else position.contiguous(),
            None if context is None else plain(context),
            sizes,
            plain(weight),
            *map(plain, states),
        )
    return found


class _LSTM(torch.autograd.Function):
    """The loop over time of Hochreiter and Schmidhuber's cell, gates in torch's order i f g o."""

    @staticmethod
    def forward(
        ctx: Any,
        projected: Tensor,
        position: Tensor | None,
        context: Tensor | None,
        sizes: tuple[int, ...],
        weight: Tensor,
        hidden: Tensor,
        cell: Tensor,
    ) -> Tensor:
        inputs = Inputs(projected, position, context)
        plan = Plan.make(sizes, hidden, cell, weight, projected, context)
        # gates, cells, and those squashed
        hiddens, buffers = _outputs(hidden, sizes, units=(4, 1, 1))
        saved = [buffer.tensor for buffer in buffers]

        def run(blocks: list[Block]) -> None:
            for block in blocks:
                own = [value[block.own] for value in saved]
                block.gather(inputs, own[0])
                lstm_forward(block, weight, hidden, cell, own, hiddens)

        if plan.kernels is None:
            plan.share_out(run)
        else:
            turned = _turned(weight)
            plan.kernels.run(
                "lstm_forward", plan.numbers(inputs, hidden), *inputs, turned.tensor,
                hidden, cell, *saved, hiddens,
            )  # fmt: skip
        ctx.save_for_backward(hidden, cell, weight, hiddens)
        ctx.inputs, ctx.buffers, ctx.plan = inputs, buffers, plan
        return hiddens

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        hidden, cell, weight, hiddens = ctx.saved_tensors
        inputs, plan, gradient = ctx.inputs, ctx.plan, gradient.contiguous()
        d_hidden, d_cell = torch.zeros_like(hidden), torch.zeros_like(cell)
        saved = [buffer.tensor for buffer in ctx.buffers]

        def run(blocks: list[Block]) -> Gradients:
            sums = Gradients.zeros(inputs, weight)
            memory = Buffer(hidden, (_longest(blocks), weight.shape[1]))
            for block in blocks:
                own = [value[block.own] for value in saved]
                d_gates = memory.tensor[: len(own[0])]
                lstm_backward(block, weight, cell, own, gradient, d_gates, (d_hidden, d_cell))
                block.scatter(d_gates, inputs, sums.inputs)
                add_weight_gradient(sums.parameters[0], block, d_gates, hiddens, hidden)
            return sums

        if plan.kernels is None:
            sums = Gradients.total(plan.share_out(run))
        else:
            sums = Gradients.empty(inputs, weight)
            scratch, spare = _room(plan, inputs, weight, d_gates=1)
            plan.kernels.run(
                "lstm_backward", plan.numbers(inputs, hidden), sums.inputs.projected,
                inputs.position, sums.inputs.context, weight, hidden, cell, *saved, hiddens,
                gradient, scratch.tensor, spare.tensor, *sums.parameters, d_hidden, d_cell,
            )  # fmt: skip
        return (
            sums.inputs.projected, None, sums.inputs.context, None, *sums.parameters, d_hidden,
            d_cell,
        )  # fmt: skip


class _GRU(torch.autograd.Function):
    """The loop over time of Cho et al.'s cell as torch has it, gates in the order r z n."""

    @staticmethod
    def forward(
        ctx: Any,
        projected: Tensor,
        position: Tensor | None,
        context: Tensor | None,
        sizes: tuple[int, ...],
        weight: Tensor,
        hidden: Tensor,
        new_bias: Tensor,
    ) -> Tensor:
        inputs = Inputs(projected, position, context)
        plan = Plan.make(sizes, hidden, new_bias, weight, projected, context)
        # gates, and the new gate's recurrent part
        hiddens, buffers = _outputs(hidden, sizes, units=(3, 1))
        saved = [buffer.tensor for buffer in buffers]

        def run(blocks: list[Block]) -> None:
            for block in blocks:
                own = [value[block.own] for value in saved]
                block.gather(inputs, own[0])
                gru_forward(block, weight, new_bias, hidden, own, hiddens)

        if plan.kernels is None:
            plan.share_out(run)
        else:
            turned = _turned(weight)
            plan.kernels.run(
                "gru_forward", plan.numbers(inputs, hidden), *inputs, turned.tensor,
                new_bias, hidden, *saved, hiddens,
            )  # fmt: skip
        ctx.save_for_backward(hidden, weight, new_bias, hiddens)
        ctx.inputs, ctx.buffers, ctx.plan = inputs, buffers, plan
        return hiddens

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, new_bias, hiddens = ctx.saved_tensors
        inputs, plan, gradient = ctx.inputs, ctx.plan, gradient.contiguous()
        d_hidden = torch.zeros_like(hidden)
        saved = [buffer.tensor for buffer in ctx.buffers]

        def run(blocks: list[Block]) -> Gradients:
            sums = Gradients.zeros(inputs, weight, new_bias)
            d_weight, d_bias = sums.parameters
            memories = [Buffer(hidden, (_longest(blocks), weight.shape[1])) for _ in range(2)]
            for block in blocks:
                own = [value[block.own] for value in saved]
                # of the input's part of the gates, and of the recurrence's
                filled = [memory.tensor[: len(own[0])] for memory in memories]
                before = block.previous(block.at_times(hiddens), hidden)
                gru_backward(block, weight, before, own, gradient, filled, d_hidden)
                block.scatter(filled[0], inputs, sums.inputs)
                add_weight_gradient(d_weight, block, filled[1], hiddens, hidden)
                d_bias[block.direction] += filled[1][:, -hidden.shape[2] :].sum(0)
            return sums

        if plan.kernels is None:
            sums = Gradients.total(plan.share_out(run))
        else:
            sums = Gradients.empty(inputs, weight, new_bias)
            scratch, spare = _room(plan, inputs, weight, new_bias, d_gates=2)
            plan.kernels.run(
                "gru_backward", plan.numbers(inputs, hidden), sums.inputs.projected,
                inputs.position, sums.inputs.context, weight, hidden, *saved, hiddens, gradient,
                scratch.tensor, spare.tensor, *sums.parameters, d_hidden,
            )  # fmt: skip
        d_weight, d_bias = sums.parameters
        return (
            sums.inputs.projected, None, sums.inputs.context, None, d_weight, d_hidden, d_bias,
        )  # fmt: skip


def _outputs(
    hidden: Tensor, sizes: tuple[int, ...], units: tuple[int, ...]
) -> tuple[Tensor, list[Buffer]]:
    """Room for the states of all positions, `[D, M, H]`, and for what the backward pass needs.

    Of the latter one buffer `[D M, unit * H]` for each of `units`.
    """
    num_directions, _, size = hidden.shape
    num_positions = sum(sizes)
    hiddens = hidden.new_empty(num_directions, num_positions, size)
    shapes = [(num_directions * num_positions, unit * size) for unit in units]
    return hiddens, [Buffer(hidden, shape) for shape in shapes]


def _longest(blocks: list[Block]) -> int:
    """Positions of the block that has most."""
    return max((block.own.stop - block.own.start for block in blocks), default=0)


def _turned(weight: Tensor) -> Buffer:
    """The weight `[D, G, H]` with rows for columns, `[D, H, G]`."""
    num_directions, width, size = weight.shape
    turned = Buffer(weight, (num_directions, size, width))
    turned.tensor.copy_(weight.transpose(1, 2))
    return turned


def _room(plan: Plan, inputs: Inputs, *parameters: Tensor, d_gates: int) -> tuple[Buffer, Buffer]:
    """Memory that `kernels.c` wants for a gradient: scratch, and sums of workers.

    Scratch holds the gradients of a block's gates, `d_gates` of them, and its states before.
    """
    _, width, size = parameters[0].shape
    longest = max(plan.lengths, default=0)
    summed = sum(parameter.numel() for parameter in parameters)
    if inputs.position is not None:
        summed += inputs.projected.numel()
    scratch = Buffer(parameters[0], (plan.workers, longest, d_gates * width + size))
    return scratch, Buffer(parameters[0], (plan.workers, summed))
