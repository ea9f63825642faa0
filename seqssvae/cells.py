"""The loops over time of LSTM and GRU, each one autograd function, over packed rows.

Rows run in blocks, each through all of its times before the next, so that what a step reads and
writes stays in a core's cache. The gradient of the recurrent weights is one product a block.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from seqssvae.buffers import Buffer

__all__ = ["gru", "lstm"]

BLOCK_ELEMENTS = 2**16  # of the hidden states of a block at one time, for each thread of a CPU


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

    What is rounded at every time adds up, and the buffers hold one dtype.
    """
    dtype = weight.dtype
    with torch.autocast(weight.device.type, enabled=False):
        found: Tensor = loop.apply(
            projected.to(dtype), position, None if context is None else context.to(dtype), sizes,
            weight, *(state.to(dtype) for state in states),
        )  # fmt: skip
    return found


class _Inputs(NamedTuple):
    """What the gates get without the recurrence; see `lstm`."""

    projected: Tensor
    position: Tensor | None
    context: Tensor | None


class _Block(NamedTuple):
    """Rows of one direction, and where their symbols lie.

    Attributes:
        direction: Which one.
        rows: Which packed rows.
        own: Their positions in memory that holds block after block.
        times: Their packed positions at each time.
        sizes: Rows of the block that still hold a symbol at each time.
    """

    direction: int
    rows: slice
    own: slice
    times: list[slice]
    sizes: list[int]

    def split(self, *values: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """The values at each time, from values of all the block's positions, `[M', ...]` each."""
        return zip(*(value.split(self.sizes) for value in values), strict=True)

    def previous(self, states: Sequence[Tensor], initial: Tensor) -> list[Tensor]:
        """Views of the state before each time, from those at each time."""
        if not self.sizes:
            return []
        before = [initial[self.direction, self.rows], *states[:-1]]
        return [state[:size] for state, size in zip(before, self.sizes, strict=True)]

    def at_times(self, values: Tensor) -> list[Tensor]:
        """The same of packed values, `[D, M, ...]`."""
        here = values[self.direction]
        return [here[time] for time in self.times]

    def gather(self, inputs: _Inputs, target: Tensor) -> None:
        """Put what the gates get without the recurrence into `target`, `[M', G]`."""
        source = inputs.projected[self.direction]
        places: Sequence[slice | Tensor] = self.times
        if inputs.position is not None:
            places = self.at_times(inputs.position)
        for (part,), place in zip(self.split(target), places, strict=True):
            if isinstance(place, slice):
                part.copy_(source[place])
            else:
                torch.index_select(source, 0, place, out=part)
            if inputs.context is not None:
                part += inputs.context[self.direction, self.rows][: len(part)]

    def scatter(self, gradient: Tensor, position: Tensor | None, sums: _Inputs) -> None:
        """Add the gradient of the gates, `[M', G]`, to that of the inputs."""
        target = sums.projected[self.direction]
        places: Sequence[slice | Tensor] = self.times
        if position is not None:
            places = self.at_times(position)
        for (part,), place in zip(self.split(gradient), places, strict=True):
            if isinstance(place, slice):
                target[place] = part
            else:
                target.index_add_(0, place, part)
            if sums.context is not None:
                sums.context[self.direction, self.rows][: len(part)] += part


def _blocks(sizes: tuple[int, ...], like: Tensor) -> list[_Block]:
    """All rows in blocks, for hidden states `like`, `[D, N, H]`; one a direction off the CPU."""
    num_directions, num_rows, size = like.shape
    most = max(num_rows, 1)
    if like.device.type == "cpu":
        most = max(16, BLOCK_ELEMENTS * torch.get_num_threads() // size)
        most = max(1, -(-num_rows // max(1, -(-num_rows // most))))  # blocks of one size
    starts = [sum(sizes[:time]) for time in range(len(sizes))]
    found, end = [], 0
    for direction in range(num_directions):
        for first in range(0, num_rows, most):
            active = [min(size - first, most) for size in sizes if size > first]
            times = [
                slice(start + first, start + first + here)
                for start, here in zip(starts, active, strict=False)
            ]
            own = slice(end, end + sum(active))
            found.append(_Block(direction, slice(first, first + most), own, times, active))
            end = own.stop
    return found


def _longest(blocks: list[_Block]) -> int:
    """Positions of the block that has most."""
    return max((block.own.stop - block.own.start for block in blocks), default=0)


def _empty_gradients(inputs: _Inputs) -> _Inputs:
    """Sums for the gradients of the inputs."""
    context = None if inputs.context is None else torch.zeros_like(inputs.context)
    return _Inputs(torch.zeros_like(inputs.projected), None, context)


def _add_weight_gradient(total: Tensor, gradient: Tensor, previous: list[Tensor]) -> None:
    """Add a block's gradient of the recurrent weight, `[G, H]`: one product for all times."""
    if previous:
        total.addmm_(gradient.t(), torch.cat(previous))


def _sigmoid_backward(gradient: Tensor, output: Tensor) -> None:
    """gradient *= output (1 - output), in one pass."""
    torch.ops.aten.sigmoid_backward.grad_input(gradient, output, grad_input=gradient)


def _tanh_backward(gradient: Tensor, output: Tensor) -> None:
    """gradient *= 1 - output^2, in one pass."""
    torch.ops.aten.tanh_backward.grad_input(gradient, output, grad_input=gradient)


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
        inputs, size = _Inputs(projected, position, context), hidden.shape[2]
        blocks, num_directions = _blocks(sizes, hidden), len(hidden)
        num_positions = num_directions * sum(sizes)
        buffers = [Buffer(hidden, (num_positions, width * size)) for width in (4, 1, 1)]
        hiddens = hidden.new_empty(num_directions, sum(sizes), size)
        for block in blocks:
            gates, cells, squashed = (buffer.tensor[block.own] for buffer in buffers)
            block.gather(inputs, gates)
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
        ctx.save_for_backward(hidden, cell, weight, hiddens)
        ctx.inputs, ctx.buffers, ctx.blocks = inputs, buffers, blocks
        return hiddens

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        hidden, cell, weight, hiddens = ctx.saved_tensors
        size, sums = hidden.shape[2], _empty_gradients(ctx.inputs)
        d_hidden, d_cell, d_weight = map(torch.zeros_like, (hidden, cell, weight))
        memory = Buffer(hidden, (_longest(ctx.blocks), 4 * size))
        for block in ctx.blocks:
            direction = block.direction
            gates, cells, squashed = (buffer.tensor[block.own] for buffer in ctx.buffers)
            d_gates = memory.tensor[: len(gates)]
            own_weight, parts = weight[direction], (gates, d_gates)
            d_h_rows, d_c_rows = d_hidden[direction, block.rows], d_cell[direction, block.rows]
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
            previous = block.previous(block.at_times(hiddens), hidden)
            _add_weight_gradient(d_weight[direction], d_gates, previous)
            block.scatter(d_gates, ctx.inputs.position, sums)
        return sums.projected, None, sums.context, None, d_weight, d_hidden, d_cell


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
        inputs, size = _Inputs(projected, position, context), hidden.shape[2]
        blocks, num_directions, two = _blocks(sizes, hidden), len(hidden), 2 * hidden.shape[2]
        num_positions = num_directions * sum(sizes)
        # the gates, and the new gate's recurrent part
        buffers = [Buffer(hidden, (num_positions, width * size)) for width in (3, 1)]
        hiddens = hidden.new_empty(num_directions, sum(sizes), size)
        for block in blocks:
            gates, news = (buffer.tensor[block.own] for buffer in buffers)
            block.gather(inputs, gates)
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
        ctx.save_for_backward(hidden, weight, hiddens)
        ctx.inputs, ctx.buffers, ctx.blocks = inputs, buffers, blocks
        return hiddens

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, hiddens = ctx.saved_tensors
        size, two, sums = hidden.shape[2], 2 * hidden.shape[2], _empty_gradients(ctx.inputs)
        d_hidden, d_weight = torch.zeros_like(hidden), torch.zeros_like(weight)
        d_bias = hidden.new_zeros(len(hidden), 1, size)
        memories = [Buffer(hidden, (_longest(ctx.blocks), 3 * size)) for _ in range(2)]
        for block in ctx.blocks:
            direction = block.direction
            gates, news = (buffer.tensor[block.own] for buffer in ctx.buffers)
            # of the input's part of the gates, and of the recurrence's
            d_gates, recurrent = (memory.tensor[: len(gates)] for memory in memories)
            own_weight, d_rows = weight[direction], d_hidden[direction, block.rows]
            previous = block.previous(block.at_times(hiddens), hidden)
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
            _add_weight_gradient(d_weight[direction], recurrent, previous)
            block.scatter(d_gates, ctx.inputs.position, sums)
            d_bias[direction] += recurrent[:, two:].sum(0)
        return sums.projected, None, sums.context, None, d_weight, d_hidden, d_bias
