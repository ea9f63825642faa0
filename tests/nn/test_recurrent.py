from typing import Any

import pytest
import torch
from torch import Tensor, nn

from seqssvae.nn.recurrent import Packing, pack, packed_rnn
from tests.support.gradients import assert_same_gradients

LENGTHS = torch.tensor([2, 5, 0, 5, 1])
EXAMPLE = torch.tensor([0, 1, 2, 3, 4, 0, 1, 3, 3])


def _problem(
    cell: str, num_layers: int, dtype: torch.dtype
) -> tuple[nn.LSTM | nn.GRU, list[Tensor]]:
    """A random RNN with input size 3 + 2, and inputs, context and states for the rows."""
    kind = nn.LSTM if cell == "lstm" else nn.GRU
    rnn = kind(5, 4, num_layers)
    num_rows = len(EXAMPLE)
    values = [torch.randn(5, 5, 3), torch.randn(num_rows, 2)]
    values += [torch.randn(num_layers, num_rows, 4) for _ in range(2 if cell == "lstm" else 1)]
    return rnn.to(dtype), [value.to(dtype).requires_grad_() for value in values]


def _packed(rnn: nn.LSTM | nn.GRU, values: list[Tensor]) -> tuple[Packing, Tensor]:
    embedded, context, *states = values
    x = torch.arange(25).reshape(5, 5)
    packing = pack(x, LENGTHS, EXAMPLE)
    hidden = packed_rnn(
        rnn,
        embedded.reshape(25, 3)[packing.symbols],
        packing.position,
        context[packing.order],
        tuple(state[:, packing.order] for state in states),
        packing,
    )
    return packing, hidden


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("num_layers", [1, 2, 3])
def test_equals_torch_row_by_row(cell: str, num_layers: int, dtype: torch.dtype) -> None:
    """By torch's operations, and by C kernels where there is a compiler."""
    tolerance = 1e-12 if dtype == torch.float64 else 2e-5
    rnn, values = _problem(cell, num_layers, dtype)
    packing, hidden = _packed(rnn, values)
    embedded, context, *states = values
    weight = torch.randn(len(EXAMPLE), 5, 4)
    expected = torch.zeros(())
    for n, b in enumerate(EXAMPLE.tolist()):
        length = int(LENGTHS[b])
        if length == 0:
            continue
        inputs = torch.cat([embedded[b, :length], context[n].expand(length, 2)], -1)
        state = tuple(state[:, n] for state in states)
        reference, _ = rnn(inputs, state if cell == "lstm" else state[0])
        mine = hidden[packing.order[packing.row] == n]
        torch.testing.assert_close(mine, reference, rtol=0, atol=tolerance)
        expected = expected + (reference * weight[n, :length]).sum()
    time = torch.cat([torch.full((size,), t) for t, size in enumerate(packing.sizes)])
    total = (hidden * weight[packing.order[packing.row], time]).sum()
    parameters = [*rnn.parameters(), *values]
    assert_same_gradients(total, expected, parameters, atol=tolerance)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_gradients_outside_training_are_those_without_dropout(
    cell: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """cuDNN has gradients in training mode alone; without gradients it needs none."""
    rnn, values = _problem(cell, 2, torch.float64)
    expected = _packed(rnn, values)[1]
    rnn.dropout = 0.5
    rnn.eval()
    modes, run = [], getattr(torch, cell)

    def record(*args: Any) -> Any:
        modes.append(args[-2])
        return run(*args)

    monkeypatch.setattr(torch, cell, record)
    torch.testing.assert_close(_packed(rnn, values)[1], expected, rtol=0, atol=1e-12)
    with torch.no_grad():
        torch.testing.assert_close(_packed(rnn, values)[1], expected, rtol=0, atol=1e-12)
    assert modes == [True, False]


def test_packing_reads_no_padding_and_sums_by_row() -> None:
    x = torch.arange(25).reshape(5, 5)
    packing = pack(x, LENGTHS, EXAMPLE)
    assert len(packing.symbols) == int(LENGTHS.sum())
    sums = packing.per_row(packing.symbols[packing.position].double())
    want = [x[b, : int(LENGTHS[b])].sum().double() for b in EXAMPLE.tolist()]
    torch.testing.assert_close(sums, torch.stack(want))


def test_padded_tables_have_a_row_for_each_of_the_packing() -> None:
    """Row by row what a row reads, whose positions are found again in a table of states."""
    x = torch.arange(25).reshape(5, 5)
    packing = pack(x, LENGTHS, EXAMPLE)
    table = packing.pad(packing.symbols)
    assert table.shape == (len(EXAMPLE), 5)
    for row, n in enumerate(packing.order.tolist()):
        b = int(EXAMPLE[n])
        length = int(LENGTHS[b])
        assert table[row, :length].tolist() == x[b, :length].tolist()
    assert torch.equal(packing.unpad(table), packing.symbols[packing.position])
    nothing = pack(x, torch.zeros(5, dtype=torch.int64), EXAMPLE)
    assert nothing.unpad(nothing.pad(nothing.symbols)).shape == (0,)


def test_all_rows_empty() -> None:
    rnn = nn.GRU(3, 4)
    packing = pack(torch.zeros(2, 1, dtype=torch.long), torch.zeros(2).long(), torch.arange(2))
    hidden = packed_rnn(
        rnn, torch.zeros(0, 3), packing.position, None, (torch.zeros(1, 2, 4),), packing
    )
    hidden.sum().backward()
    assert hidden.shape == (0, 4)
