"""The loops over time of LSTM and GRU through one block of rows, by torch's operations."""

import torch
from torch import Tensor

from seqssvae.nn.engine.blocks import Block
from seqssvae.nn.engine.buffers import Buffer

__all__ = ["add_weight_gradient", "gru_backward", "gru_forward", "lstm_backward", "lstm_forward"]


def lstm_forward(
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


def lstm_backward(
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


def gru_forward(
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


def gru_backward(
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


def add_weight_gradient(
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
