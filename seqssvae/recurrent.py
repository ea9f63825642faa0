"""LSTM and GRU over an expanded batch whose rows share the input projection.

Under enumeration K rows read the same sequence. `nn.LSTM` would multiply the same embeddings by
the input weights K times; here each distinct input is projected once and rows pick theirs by
index. Rows are packed: longest first, time-major, so that no step is spent on padding. The loop
over time is one autograd function, and the gradient of the recurrent weights is one product.
Parameters live in a plain `nn.LSTM` or `nn.GRU`.
"""

import dataclasses
import itertools
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from seqssvae.shapes import length_mask

__all__ = ["Packing", "pack", "packed_rnn"]


@dataclasses.dataclass(frozen=True)
class Packing:
    """Where the symbols of an expanded batch lie when padding is left out.

    Packed rows are sorted by length, longest first; packed positions are time-major.

    Attributes:
        order: The row that each packed row came from, `[N]`.
        row: The packed row of each position, `[M]`.
        position: Where each position's symbol lies in `symbols`, `[M]`.
        symbols: The distinct symbols, `[S]` with S = sum(lengths) over the B examples.
        sizes: Rows that still hold a symbol at each time, at most T numbers.
    """

    order: Tensor
    row: Tensor
    position: Tensor
    symbols: Tensor
    sizes: tuple[int, ...]

    def per_row(self, value: Tensor) -> Tensor:
        """Sum a value of every position, `[M]`, over time: `[N]`, in the order of the rows."""
        packed = value.new_zeros(len(self.order)).index_add_(0, self.row, value)
        return torch.empty_like(packed).index_copy_(0, self.order, packed)


def pack(x: Tensor, lengths: Tensor, example: Tensor) -> Packing:
    """Lay out N rows, row n reading the sequence `example[n]`.

    Args:
        x: Symbol ids, `[B, T]`; what stands after `lengths` is never read.
        lengths: Symbols of each example, `[B]`, from 0 to T.
        example: The example of each row, `[N]`.
    """
    max_length = x.shape[1]
    mask = length_mask(lengths, max_length)  # [B, T]
    compact = (mask.reshape(-1).cumsum(0) - 1).reshape(mask.shape)  # [B, T]
    row_lengths, order = lengths[example].sort(descending=True, stable=True)
    active = length_mask(row_lengths, max_length).t()  # [T, N]
    time, row = active.nonzero(as_tuple=True)  # [M] each
    sizes = tuple(size for size in active.sum(1).tolist() if size)
    return Packing(order, row, compact[example[order[row]], time], x[mask], sizes)


def packed_rnn(
    rnn: nn.LSTM | nn.GRU,
    inputs: Tensor,
    position: Tensor,
    context: Tensor | None,
    states: tuple[Tensor, ...],
    packing: Packing,
) -> Tensor:
    """Hidden states of the last layer at every packed position.

    Equal to `rnn` on each row's own sequence, with `[inputs, context]` fed at each step.

    Args:
        rnn: A one-directional RNN of input size `E + C`; its dropout acts between layers.
        inputs: Distinct inputs, `[S, E]`.
        position: Which of them each packed position reads, `[M]`.
        context: What every row reads at every time besides, `[N, C]` in packed order, or None.
        states: The initial state, `(hidden,)` or `(hidden, cell)`, each
            `[num_layers, N, H]` in packed order.
        packing: The layout.

    Returns:
        `[M, H]`.
    """
    size = inputs.shape[1]
    lstm = isinstance(rnn, nn.LSTM)
    hidden = inputs
    for layer in range(rnn.num_layers):
        weight_ih, weight_hh, bias_ih, bias_hh = (
            getattr(rnn, f"{name}_l{layer}")
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        shared = layer == 0
        projected = hidden @ (weight_ih[:, :size] if shared else weight_ih).t()  # [S or M, G]
        if lstm:
            bias, new_bias = bias_ih + bias_hh, None
        else:  # the new gate's recurrent bias is scaled by the reset gate
            gate = rnn.hidden_size
            bias = torch.cat([bias_ih[: 2 * gate] + bias_hh[: 2 * gate], bias_ih[2 * gate :]])
            new_bias = bias_hh[2 * gate :]
        per_row = None
        if shared and context is not None:
            per_row = torch.addmm(bias, context, weight_ih[:, size:].t())  # [N, G]
        else:
            projected = projected + bias
        arguments = (
            projected,
            position if shared else None,
            per_row,
            packing.sizes,
            states[0][layer],
            weight_hh,
        )
        if lstm:
            hidden = _LSTM.apply(*arguments, states[1][layer])  # type: ignore[no-untyped-call]
        else:
            hidden = _GRU.apply(*arguments, new_bias)  # type: ignore[no-untyped-call]
        if layer + 1 < rnn.num_layers:
            hidden = nn.functional.dropout(hidden, rnn.dropout, rnn.training)
    return hidden


def _steps(sizes: tuple[int, ...]) -> list[tuple[int, int]]:
    """Offset and number of rows of each time."""
    return list(zip(itertools.accumulate(sizes, initial=0), sizes, strict=False))


def _gates(
    projected: Tensor, position: Tensor | None, context: Tensor | None, sizes: Any
) -> Tensor:
    """What the gates get without the recurrence, `[M, G]`, memory of its own."""
    gates = projected.clone() if position is None else projected.index_select(0, position)
    if context is not None:
        for start, size in _steps(sizes):
            gates[start : start + size] += context[:size]
    return gates


def _input_gradients(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None]:
    """Gradients of `projected` and `context` from that of the gates, `[M, G]`."""
    context = None
    if ctx.num_context_rows is not None:
        context = gradient.new_zeros(ctx.num_context_rows, gradient.shape[1])
        for start, size in _steps(ctx.sizes):
            context[:size] += gradient[start : start + size]
    if ctx.position is None:
        return gradient, context
    projected = gradient.new_zeros(ctx.num_projected, gradient.shape[1])
    return projected.index_add_(0, ctx.position, gradient), context


def _previous(states: Tensor, initial: Tensor, steps: list[tuple[int, int]]) -> Tensor:
    """The state before each packed position, `[M, H]`."""
    previous = torch.empty_like(states)
    if steps:
        previous[: steps[0][1]] = initial[: steps[0][1]]
    for (start, _), (after, size) in itertools.pairwise(steps):
        previous[after : after + size] = states[start : start + size]
    return previous


class _LSTM(torch.autograd.Function):
    """The loop over time of Hochreiter and Schmidhuber's cell, gates in torch's order i f g o."""

    @staticmethod
    def forward(
        ctx: Any,
        projected: Tensor,
        position: Tensor | None,
        context: Tensor | None,
        sizes: tuple[int, ...],
        hidden: Tensor,
        weight: Tensor,
        cell: Tensor,
    ) -> Tensor:
        gates = _gates(projected, position, context, sizes)
        size_h, steps = hidden.shape[1], _steps(sizes)
        cells, hiddens = gates.new_empty(len(gates), size_h), gates.new_empty(len(gates), size_h)
        transposed, h, c = weight.t(), hidden, cell
        for start, size in steps:
            gate = gates[start : start + size]
            gate.addmm_(h[:size], transposed)
            gate[:, : 2 * size_h].sigmoid_()
            gate[:, 2 * size_h : 3 * size_h].tanh_()
            gate[:, 3 * size_h :].sigmoid_()
            i, f, g, o = gate.chunk(4, 1)
            previous, c = c[:size], cells[start : start + size]
            torch.mul(f, previous, out=c).addcmul_(i, g)
            h = hiddens[start : start + size]
            torch.tanh(c, out=h).mul_(o)
        ctx.save_for_backward(hidden, cell, weight, gates, cells, hiddens)
        ctx.position, ctx.sizes, ctx.num_projected = position, sizes, len(projected)
        ctx.num_context_rows = None if context is None else len(context)
        return hiddens

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        hidden, cell, weight, gates, cells, hiddens = ctx.saved_tensors
        steps = _steps(ctx.sizes)
        d_gates = torch.empty_like(gates)
        d_h, d_c = torch.zeros_like(hidden), torch.zeros_like(cell)
        for time in reversed(range(len(steps))):
            start, size = steps[time]
            i, f, g, o = gates[start : start + size].chunk(4, 1)
            d_i, d_f, d_g, d_o = d_gates[start : start + size].chunk(4, 1)
            if time:
                before = steps[time - 1][0]
                previous = cells[before : before + size]
            else:
                previous = cell[:size]
            squashed = torch.tanh(cells[start : start + size])
            d_h_t = d_h[:size].add_(gradient[start : start + size])
            d_c_t = d_c[:size]
            torch.mul(d_h_t, squashed, out=d_o).mul_(o).mul_(1 - o)
            d_c_t.add_(d_h_t.mul_(o).mul_(1 - squashed.square_()))
            torch.mul(d_c_t, g, out=d_i).mul_(i).mul_(1 - i)
            torch.mul(d_c_t, previous, out=d_f).mul_(f).mul_(1 - f)
            torch.mul(d_c_t, i, out=d_g).mul_(1 - g * g)
            torch.mm(d_gates[start : start + size], weight, out=d_h_t)
            d_c_t.mul_(f)
        d_weight = d_gates.t() @ _previous(hiddens, hidden, steps)
        d_projected, d_context = _input_gradients(ctx, d_gates)
        return d_projected, None, d_context, None, d_h, d_weight, d_c


class _GRU(torch.autograd.Function):
    """The loop over time of Cho et al.'s cell as torch has it, gates in the order r z n."""

    @staticmethod
    def forward(
        ctx: Any,
        projected: Tensor,
        position: Tensor | None,
        context: Tensor | None,
        sizes: tuple[int, ...],
        hidden: Tensor,
        weight: Tensor,
        new_bias: Tensor,
    ) -> Tensor:
        gates = _gates(projected, position, context, sizes)
        size_h, steps = hidden.shape[1], _steps(sizes)
        hiddens = gates.new_empty(len(gates), size_h)
        news = torch.empty_like(hiddens)  # the recurrent part of the new gate
        transposed, h = weight.t(), hidden
        for start, size in steps:
            gate, new = gates[start : start + size], news[start : start + size]
            gate[:, : 2 * size_h].addmm_(h[:size], transposed[:, : 2 * size_h]).sigmoid_()
            torch.addmm(new_bias, h[:size], transposed[:, 2 * size_h :], out=new)
            r, z, n = gate.chunk(3, 1)
            n.addcmul_(r, new).tanh_()
            previous, h = h[:size], hiddens[start : start + size]
            torch.lerp(n, previous, z, out=h)
        ctx.save_for_backward(hidden, weight, gates, news, hiddens)
        ctx.position, ctx.sizes, ctx.num_projected = position, sizes, len(projected)
        ctx.num_context_rows = None if context is None else len(context)
        return hiddens

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, gates, news, hiddens = ctx.saved_tensors
        steps, size_h = _steps(ctx.sizes), hidden.shape[1]
        d_gates = torch.empty_like(gates)  # of the input's part
        d_recurrent = torch.empty_like(gates)  # of the recurrence's part
        d_h = torch.zeros_like(hidden)
        previous = _previous(hiddens, hidden, steps)
        for start, size in reversed(steps):
            window = slice(start, start + size)
            r, z, n = gates[window].chunk(3, 1)
            d_r, d_z, d_n = d_gates[window].chunk(3, 1)
            d_h_t = d_h[:size].add_(gradient[window])
            torch.sub(previous[window], n, out=d_z).mul_(d_h_t).mul_(z).mul_(1 - z)
            torch.mul(d_h_t, 1 - z, out=d_n).mul_(1 - n * n)
            torch.mul(d_n, news[window], out=d_r).mul_(r).mul_(1 - r)
            recurrent = d_recurrent[window]
            recurrent[:, : 2 * size_h] = d_gates[window, : 2 * size_h]
            torch.mul(d_n, r, out=recurrent[:, 2 * size_h :])
            d_h_t.mul_(z).addmm_(recurrent, weight)
        d_weight = d_recurrent.t() @ previous
        d_projected, d_context = _input_gradients(ctx, d_gates)
        d_bias = d_recurrent[:, 2 * size_h :].sum(0)
        return d_projected, None, d_context, None, d_h, d_weight, d_bias
