"""The loops over time of LSTM and GRU, each one autograd function, over packed rows.

The gradient of the recurrent weights is one product for each block of rows. Kernels in C do what
torch's operations do here, in fewer passes over memory, where they can.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from seqssvae.blocks import Block, Gradients, Inputs, Plan
from seqssvae.buffers import Buffer

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

        def run(blocks: list[Block]) -> None:
            for block in blocks:
                saved = [buffer.tensor[block.own] for buffer in buffers]
                if plan.kernels is None:
                    block.gather(inputs, saved[0])
                    _lstm_forward(block, weight, hidden, cell, saved, hiddens)
                else:
                    block.run(
                        plan.kernels, "lstm_forward", inputs, inputs, weight[block.direction],
                        block.of_rows(hidden), block.of_rows(cell), *saved,
                        hiddens[block.direction],
                    )  # fmt: skip

        plan.share_out(run)
        ctx.save_for_backward(hidden, cell, weight, hiddens)
        ctx.inputs, ctx.buffers, ctx.plan = inputs, buffers, plan
        return hiddens

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        hidden, cell, weight, hiddens = ctx.saved_tensors
        inputs, plan, gradient = ctx.inputs, ctx.plan, gradient.contiguous()
        d_hidden, d_cell = torch.zeros_like(hidden), torch.zeros_like(cell)

        def run(blocks: list[Block]) -> Gradients:
            sums = Gradients.zeros(inputs, weight)
            memory = Buffer(hidden, (_longest(blocks), weight.shape[1]))
            for block in blocks:
                saved = [buffer.tensor[block.own] for buffer in ctx.buffers]
                d_gates = memory.tensor[: len(saved[0])]
                if plan.kernels is None:
                    _lstm_backward(
                        block, weight, cell, saved, gradient, d_gates, (d_hidden, d_cell)
                    )
                    block.scatter(d_gates, inputs, sums.inputs)
                else:
                    block.run(
                        plan.kernels, "lstm_backward", inputs, sums.inputs,
                        weight[block.direction], block.of_rows(cell), *saved,
                        gradient[block.direction], d_gates, block.of_rows(d_hidden),
                        block.of_rows(d_cell),
                    )  # fmt: skip
                _add_weight_gradient(sums.parameters[0], block, d_gates, hiddens, hidden)
            return sums

        sums, (d_weight,) = Gradients.total(plan.share_out(run))
        return sums.projected, None, sums.context, None, d_weight, d_hidden, d_cell


def _lstm_forward(
    block: Block, weight: Tensor, hidden: Tensor, cell: Tensor, saved: list[Tensor], hiddens: Tensor
) -> None:
    """Fill `saved` (gates, which hold the inputs, cells, and those squashed) and `hiddens`."""
    (gates, cells, squashed), size = saved, hidden.shape[2]
    transposed = weight[block.direction].t()
    h_before = hidden[block.direction, block.rows]
    steps = zip(
        block.split(gates, gates[:, : 2 * size], *gates.split(size, 1), cells, squashed),
        block.previous(cells.split(block.sizes), cell), block.at_times(hiddens),
        strict=True,
    )  # fmt: skip
    for (gate, i_f, i, f, g, o, c, c_squashed), c_before, h in steps:
        gate.addmm_(h_before[: len(gate)], transposed)
        i_f.sigmoid_()
        g.tanh_()
        o.sigmoid_()
        torch.mul(f, c_before, out=c).addcmul_(i, g)
        torch.tanh(c, out=c_squashed)
        torch.mul(c_squashed, o, out=h)
        h_before = h


def _lstm_backward(
    block: Block,
    weight: Tensor,
    cell: Tensor,
    saved: list[Tensor],
    gradient: Tensor,
    d_gates: Tensor,
    d_first: tuple[Tensor, Tensor],
) -> None:
    """Fill `d_gates`; `d_first`, of hidden states and cells, become those before the first time."""
    (gates, cells, squashed), size = saved, cell.shape[2]
    own_weight, parts = weight[block.direction], (gates, d_gates)
    d_h_rows, d_c_rows = (of_all[block.direction, block.rows] for of_all in d_first)
    steps = zip(
        block.split(
            squashed, *parts, *(part[:, : 2 * size] for part in parts),
            *(one for part in parts for one in part.split(size, 1)),
        ),
        block.previous(cells.split(block.sizes), cell), block.at_times(gradient),
        strict=True,
    )  # fmt: skip
    for values, c_before, d_out in reversed(list(steps)):
        c_squashed, _, d_all, i_f, d_i_f, i, f, g, o, d_i, d_f, d_g, d_o = values
        d_h, d_c = d_h_rows[: len(d_all)].add_(d_out), d_c_rows[: len(d_all)]
        torch.mul(d_h, c_squashed, out=d_o)
        _tanh_backward(d_h.mul_(o), c_squashed)
        d_c.add_(d_h)
        torch.mul(d_c, g, out=d_i)
        torch.mul(d_c, c_before, out=d_f)
        torch.mul(d_c, i, out=d_g)
        _sigmoid_backward(d_i_f, i_f)
        _tanh_backward(d_g, g)
        _sigmoid_backward(d_o, o)
        torch.mm(d_all, own_weight, out=d_h)
        d_c.mul_(f)


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

        def run(blocks: list[Block]) -> None:
            for block in blocks:
                saved = [buffer.tensor[block.own] for buffer in buffers]
                if plan.kernels is None:
                    block.gather(inputs, saved[0])
                    _gru_forward(block, weight, new_bias, hidden, saved, hiddens)
                else:
                    block.run(
                        plan.kernels, "gru_forward", inputs, inputs, weight[block.direction],
                        new_bias[block.direction], block.of_rows(hidden), *saved,
                        hiddens[block.direction],
                    )  # fmt: skip

        plan.share_out(run)
        ctx.save_for_backward(hidden, weight, new_bias, hiddens)
        ctx.inputs, ctx.buffers, ctx.plan = inputs, buffers, plan
        return hiddens

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, new_bias, hiddens = ctx.saved_tensors
        inputs, plan, gradient = ctx.inputs, ctx.plan, gradient.contiguous()
        d_hidden = torch.zeros_like(hidden)

        def run(blocks: list[Block]) -> Gradients:
            sums = Gradients.zeros(inputs, weight, new_bias)
            d_weight, d_bias = sums.parameters
            memories = [Buffer(hidden, (_longest(blocks), weight.shape[1])) for _ in range(2)]
            for block in blocks:
                saved = [buffer.tensor[block.own] for buffer in ctx.buffers]
                # of the input's part of the gates, and of the recurrence's
                filled = [memory.tensor[: len(saved[0])] for memory in memories]
                if plan.kernels is None:
                    before = block.previous(block.at_times(hiddens), hidden)
                    _gru_backward(block, weight, before, saved, gradient, filled, d_hidden)
                    block.scatter(filled[0], inputs, sums.inputs)
                else:
                    block.run(
                        plan.kernels, "gru_backward", inputs, sums.inputs,
                        weight[block.direction], block.of_rows(hidden), *saved,
                        hiddens[block.direction], gradient[block.direction], *filled,
                        block.of_rows(d_hidden),
                    )  # fmt: skip
                _add_weight_gradient(d_weight, block, filled[1], hiddens, hidden)
                d_bias[block.direction] += filled[1][:, -hidden.shape[2] :].sum(0)
            return sums

        sums, (d_weight, d_bias) = Gradients.total(plan.share_out(run))
        return sums.projected, None, sums.context, None, d_weight, d_hidden, d_bias


def _gru_forward(
    block: Block,
    weight: Tensor,
    new_bias: Tensor,
    hidden: Tensor,
    saved: list[Tensor],
    hiddens: Tensor,
) -> None:
    """Fill `saved` (gates, which hold the inputs, and the new gate's other part) and `hiddens`."""
    (gates, news), size, two = saved, hidden.shape[2], 2 * hidden.shape[2]
    transposed, bias = weight[block.direction].t(), new_bias[block.direction]
    for_r_z, for_new = transposed[:, :two], transposed[:, two:]
    before = hidden[block.direction, block.rows]
    steps = zip(
        block.split(gates[:, :two], *gates.split(size, 1), news), block.at_times(hiddens),
        strict=True,
    )  # fmt: skip
    for (r_z, r, z, n, new), h in steps:
        before = before[: len(h)]
        r_z.addmm_(before, for_r_z).sigmoid_()
        torch.addmm(bias, before, for_new, out=new)
        n.addcmul_(r, new).tanh_()
        before = torch.lerp(n, before, z, out=h)


def _gru_backward(
    block: Block,
    weight: Tensor,
    previous: list[Tensor],
    saved: list[Tensor],
    gradient: Tensor,
    filled: list[Tensor],
    d_first: Tensor,
) -> None:
    """Fill the gradient of the input's and the recurrence's part of the gates."""
    (gates, news), (d_gates, recurrent), size = saved, filled, d_first.shape[2]
    own_weight, two, d_rows = weight[block.direction], 2 * size, block.of_rows(d_first)
    steps = zip(
        block.split(
            news, gates[:, :two], *gates.split(size, 1), d_gates[:, :two],
            *d_gates.split(size, 1), recurrent, recurrent[:, :two], recurrent[:, two:],
        ),
        previous, block.at_times(gradient),
        strict=True,
    )  # fmt: skip
    for values, before, d_out in reversed(list(steps)):
        new, r_z, r, z, n, d_r_z, d_r, d_z, d_n, by_all, by_r_z, by_new = values
        d_h = d_rows[: len(before)].add_(d_out)
        torch.sub(before, n, out=d_z).mul_(d_h)
        torch.mul(d_h, z, out=by_new)
        torch.sub(d_h, by_new, out=d_n)
        d_h.copy_(by_new)
        _tanh_backward(d_n, n)
        torch.mul(d_n, new, out=d_r)
        _sigmoid_backward(d_r_z, r_z)
        by_r_z.copy_(d_r_z)
        torch.mul(d_n, r, out=by_new)
        d_h.addmm_(by_all, own_weight)


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


def _add_weight_gradient(
    total: Tensor, block: Block, gradient: Tensor, hiddens: Tensor, hidden: Tensor
) -> None:
    """Add a block's gradient of the recurrent weight, `[G, H]`: one product for all times."""
    if not len(gradient):
        return
    previous = Buffer(hidden, (len(gradient), hidden.shape[2]))
    torch.cat(block.previous(block.at_times(hiddens), hidden), out=previous.tensor)
    total[block.direction].addmm_(gradient.t(), previous.tensor)


def _sigmoid_backward(gradient: Tensor, output: Tensor) -> None:
    """gradient *= output (1 - output), in one pass."""
    torch.ops.aten.sigmoid_backward.grad_input(gradient, output, grad_input=gradient)


def _tanh_backward(gradient: Tensor, output: Tensor) -> None:
    """gradient *= 1 - output^2, in one pass."""
    torch.ops.aten.tanh_backward.grad_input(gradient, output, grad_input=gradient)
