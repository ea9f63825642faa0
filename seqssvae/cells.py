"""The loops over time of LSTM and GRU, each one autograd function, over packed rows.

D directions with weights of their own run side by side. The gradient of the recurrent weights is
one product over all positions.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

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
    states: Tensor = _LSTM.apply(  # type: ignore[no-untyped-call]
        projected, position, context, sizes, weight, hidden, cell
    )
    return states


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
    states: Tensor = _GRU.apply(  # type: ignore[no-untyped-call]
        projected, position, context, sizes, weight, hidden, new_bias
    )
    return states


def _gates(
    projected: Tensor, position: Tensor | None, context: Tensor | None, sizes: tuple[int, ...]
) -> Tensor:
    """What the gates get without the recurrence, `[D, M, G]`, memory of its own."""
    if position is None:
        gates = projected.clone()
    else:
        gates = projected.new_empty(len(projected), position.shape[1], projected.shape[2])
        for target, source, index in zip(gates, projected, position, strict=True):
            torch.index_select(source, 0, index, out=target)
    if context is not None:
        for part, size in zip(gates.split(sizes, 1), sizes, strict=True):
            part += context[:, :size]
    return gates


def _input_gradients(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None]:
    """Gradients of `projected` and `context` from that of the gates, `[D, M, G]`."""
    num_directions, _, num_gates = gradient.shape
    context = None
    if ctx.num_context_rows is not None:
        context = gradient.new_zeros(num_directions, ctx.num_context_rows, num_gates)
        for part, size in zip(gradient.split(ctx.sizes, 1), ctx.sizes, strict=True):
            context[:, :size] += part
    if ctx.position is None:
        return gradient, context
    projected = gradient.new_zeros(num_directions, ctx.num_projected, num_gates)
    for target, source, index in zip(projected, gradient, ctx.position, strict=True):
        target.index_add_(0, index, source)
    return projected, context


def _previous(states: Tensor, initial: Tensor, sizes: tuple[int, ...]) -> list[Tensor]:
    """Views of the state before each time, each `[D, size, H]`."""
    if not sizes:
        return []
    before = [initial, *states.split(sizes, 1)[:-1]]
    return [state[:, :size] for state, size in zip(before, sizes, strict=True)]


def _weight_gradient(gradient: Tensor, previous: list[Tensor], weight: Tensor) -> Tensor:
    """Gradient of the recurrent weight `[D, G, H]`, one product for all times."""
    if not previous:
        return torch.zeros_like(weight)
    return gradient.transpose(1, 2) @ torch.cat(previous, 1)


def _add_products(target: Tensor, left: Tensor, right: Tensor) -> None:
    """target += left @ right for each direction; `baddbmm_` would copy a target of strides."""
    for one, a, b in zip(target, left, right, strict=True):
        one.addmm_(a, b)


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
        gates = _gates(projected, position, context, sizes)
        num_directions, num_positions, _ = gates.shape
        cells, squashed, hiddens = (
            gates.new_empty(num_directions, num_positions, hidden.shape[2]) for _ in range(3)
        )
        transposed, previous = weight.transpose(1, 2), _previous(hiddens, hidden, sizes)
        steps = zip(
            _split_gates(gates, sizes), previous, _previous(cells, cell, sizes),
            *(states.split(sizes, 1) for states in (cells, squashed, hiddens)),
            strict=True,
        )  # fmt: skip
        for (gate, i_f, i, f, g, o), h_before, c_before, c, c_squashed, h in steps:
            _add_products(gate, h_before, transposed)
            i_f.sigmoid_()
            g.tanh_()
            o.sigmoid_()
            torch.mul(f, c_before, out=c).addcmul_(i, g)
            torch.tanh(c, out=c_squashed)
            torch.mul(c_squashed, o, out=h)
        ctx.save_for_backward(hidden, cell, weight, gates, cells, squashed, hiddens)
        ctx.position, ctx.sizes, ctx.num_projected = position, sizes, projected.shape[1]
        ctx.num_context_rows = None if context is None else context.shape[1]
        return hiddens

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        hidden, cell, weight, gates, cells, squashed, hiddens = ctx.saved_tensors
        sizes = ctx.sizes
        d_gates = torch.empty_like(gates)
        d_h, d_c = torch.zeros_like(hidden), torch.zeros_like(cell)
        steps = zip(
            sizes, _split_gates(gates, sizes), _split_gates(d_gates, sizes),
            _previous(cells, cell, sizes), squashed.split(sizes, 1), gradient.split(sizes, 1),
            strict=True,
        )  # fmt: skip
        for size, gate, d_gate, c_before, c_squashed, d_out in reversed(list(steps)):
            _, i_f, i, f, g, o = gate
            d_all, d_i_f, d_i, d_f, d_g, d_o = d_gate
            d_h_t, d_c_t = d_h[:, :size].add_(d_out), d_c[:, :size]
            torch.mul(d_h_t, c_squashed, out=d_o)
            _tanh_backward(d_h_t.mul_(o), c_squashed)
            d_c_t.add_(d_h_t)
            torch.mul(d_c_t, g, out=d_i)
            torch.mul(d_c_t, c_before, out=d_f)
            torch.mul(d_c_t, i, out=d_g)
            _sigmoid_backward(d_i_f, i_f)
            _tanh_backward(d_g, g)
            _sigmoid_backward(d_o, o)
            torch.bmm(d_all, weight, out=d_h_t)
            d_c_t.mul_(f)
        d_weight = _weight_gradient(d_gates, _previous(hiddens, hidden, sizes), weight)
        d_projected, d_context = _input_gradients(ctx, d_gates)
        return d_projected, None, d_context, None, d_weight, d_h, d_c


def _split_gates(gates: Tensor, sizes: tuple[int, ...]) -> Iterable[tuple[Tensor, ...]]:
    """Views of an LSTM's gates at each time: all of them, i and f together, and i, f, g, o."""
    size = gates.shape[2] // 4
    parts = [gates, gates[..., : 2 * size], *gates.split(size, 2)]
    return zip(*(part.split(sizes, 1) for part in parts), strict=True)


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
        gates = _gates(projected, position, context, sizes)
        num_directions, num_positions, _ = gates.shape
        two = 2 * hidden.shape[2]
        hiddens = gates.new_empty(num_directions, num_positions, hidden.shape[2])
        news = torch.empty_like(hiddens)  # the recurrent part of the new gate
        transposed = weight.transpose(1, 2)
        steps = zip(
            gates.split(sizes, 1), news.split(sizes, 1), hiddens.split(sizes, 1),
            _previous(hiddens, hidden, sizes),
            strict=True,
        )  # fmt: skip
        for gate, new, h, h_before in steps:
            r_z = gate[..., :two]
            _add_products(r_z, h_before, transposed[..., :two])
            r_z.sigmoid_()
            torch.baddbmm(new_bias, h_before, transposed[..., two:], out=new)
            r, z, n = gate.chunk(3, 2)
            n.addcmul_(r, new).tanh_()
            torch.lerp(n, h_before, z, out=h)
        ctx.save_for_backward(hidden, weight, gates, news, hiddens)
        ctx.position, ctx.sizes, ctx.num_projected = position, sizes, projected.shape[1]
        ctx.num_context_rows = None if context is None else context.shape[1]
        return hiddens

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, gates, news, hiddens = ctx.saved_tensors
        sizes, two = ctx.sizes, 2 * hidden.shape[2]
        d_gates = torch.empty_like(gates)  # of the input's part
        d_recurrent = torch.empty_like(gates)  # of the recurrence's part
        d_h = torch.zeros_like(hidden)
        previous = _previous(hiddens, hidden, sizes)
        parts = (part.split(sizes, 1) for part in (gates, news, d_gates, d_recurrent, gradient))
        for size, h_before, gate, new, d_gate, recurrent, d_out in reversed(
            list(zip(sizes, previous, *parts, strict=True))
        ):
            r, z, n = gate.chunk(3, 2)
            d_r, d_z, d_n = d_gate.chunk(3, 2)
            d_h_t = d_h[:, :size].add_(d_out)
            torch.sub(h_before, n, out=d_z).mul_(d_h_t)
            torch.mul(d_h_t, z, out=recurrent[..., two:])
            torch.sub(d_h_t, recurrent[..., two:], out=d_n)
            d_h_t.copy_(recurrent[..., two:])
            _tanh_backward(d_n, n)
            torch.mul(d_n, new, out=d_r)
            _sigmoid_backward(d_gate[..., :two], gate[..., :two])
            recurrent[..., :two] = d_gate[..., :two]
            torch.mul(d_n, r, out=recurrent[..., two:])
            _add_products(d_h_t, recurrent, weight)
        d_weight = _weight_gradient(d_recurrent, previous, weight)
        d_projected, d_context = _input_gradients(ctx, d_gates)
        d_bias = d_recurrent[..., two:].sum(1, keepdim=True)
        return d_projected, None, d_context, None, d_weight, d_h, d_bias
