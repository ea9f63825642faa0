import itertools

import torch
from torch import nn

from seqssvae.nn.engine.blocks import Block
from seqssvae.nn.engine.loops import add_weight_gradient, gru_forward, lstm_forward

SIZES = [4, 3, 1]


def whole(sizes: list[int]) -> Block:
    """All rows of one direction."""
    starts = [0, *itertools.accumulate(sizes)]
    times = [slice(*ends) for ends in itertools.pairwise(starts)]
    return Block(0, slice(0, sizes[0]), slice(0, starts[-1]), times, sizes)


def test_a_step_is_that_of_torchs_cells() -> None:
    for cell, num_gates in ((nn.LSTMCell(5, 5), 4), (nn.GRUCell(5, 5), 3)):
        nn.init.eye_(cell.weight_ih[:5])  # the gates' inputs are given
        inputs = torch.randn(sum(SIZES), 5)
        first, first_cell = torch.randn(2, 1, 4, 5)
        gates = (inputs @ cell.weight_ih.t() + cell.bias_ih).detach().clone()
        hiddens = torch.empty(1, sum(SIZES), 5)
        weight, bias = cell.weight_hh.detach()[None], cell.bias_hh.detach()
        others = [torch.empty(sum(SIZES), 5) for _ in range(2)]
        if num_gates == 4:
            gates += bias
            lstm_forward(whole(SIZES), weight, first, first_cell, [gates, *others], hiddens)
        else:
            gates[:, :10] += bias[:10]
            gru_forward(
                whole(SIZES), weight, bias[None, None, 10:], first, [gates, others[0]], hiddens
            )
        state, cells = first[0], first_cell[0]
        for time, size in zip(whole(SIZES).times, SIZES, strict=True):
            if num_gates == 4:
                state, cells = cell(inputs[time], (state[:size], cells[:size]))
            else:
                state = cell(inputs[time], state[:size])
            torch.testing.assert_close(hiddens[0, time], state.detach())


def test_the_weights_gradient_is_a_sum_over_positions() -> None:
    first, hiddens = torch.randn(1, 4, 5), torch.randn(1, sum(SIZES), 5)
    gradient, total = torch.randn(sum(SIZES), 15), torch.ones(1, 15, 5)
    add_weight_gradient(total, whole(SIZES), gradient, hiddens, first)
    previous = torch.cat([first[0], hiddens[0, :3], hiddens[0, 4:5]])
    wanted = 1 + sum(torch.outer(*pair) for pair in zip(gradient, previous, strict=True))
    torch.testing.assert_close(total[0], wanted)
