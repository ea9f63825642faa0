import pytest
import torch
from torch import Tensor

from seqssvae.nn.engine import blocks
from seqssvae.nn.engine.cells import gru, lstm

SIZES = (3, 2, 2, 1)
POSITION = torch.tensor([[0, 4, 2, 1, 3, 5, 0, 4], [5, 5, 0, 3, 2, 1, 4, 4]])


def arguments(num_gates: int) -> list[Tensor]:
    """Projected inputs, context, recurrent weights and first hidden states of two directions."""
    shapes = [(2, 6, num_gates * 3), (2, 3, num_gates * 3), (2, num_gates * 3, 3), (2, 3, 3)]
    return [torch.randn(shape, requires_grad=True) for shape in shapes]


@pytest.mark.parametrize("with_context", [True, False])
@pytest.mark.parametrize("with_position", [True, False])
def test_gradients_equal_finite_differences(with_position: bool, with_context: bool) -> None:
    position = POSITION if with_position else None
    for cell, num_gates, last in ((lstm, 4, (2, 3, 3)), (gru, 3, (2, 1, 3))):
        projected, context, weight, hidden = arguments(num_gates)
        if not with_position:
            projected = torch.randn(2, 8, num_gates * 3, requires_grad=True)
        other = torch.randn(last, requires_grad=True)

        def run(projected: Tensor, context: Tensor, *rest: Tensor) -> Tensor:
            given = context if with_context else None
            return cell(projected, position, given, SIZES, *rest)  # noqa: B023

        assert torch.autograd.gradcheck(run, (projected, context, weight, hidden, other))


def test_blocks_of_rows_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forty rows in one block, and in blocks of 16 rows at most; value and gradients."""
    sizes, found = (40, 33, 17, 16, 2), []
    position = torch.randint(6, (2, sum(sizes)))
    for cell, num_gates, last in ((lstm, 4, (2, 40, 3)), (gru, 3, (2, 1, 3))):
        shapes = [(2, 6, num_gates * 3), (2, 40, num_gates * 3), (2, num_gates * 3, 3), (2, 40, 3)]
        values = [torch.randn(shape, requires_grad=True) for shape in (*shapes, last)]
        upstream = torch.randn(2, sum(sizes), 3)
        for elements in (2**16, 1):
            monkeypatch.setattr(blocks, "BLOCK_ELEMENTS", elements)
            projected, context, *rest = values
            hidden = cell(projected, position, context, sizes, *rest)
            gradients = torch.autograd.grad((hidden * upstream).sum(), values)
            found.append((hidden, *gradients))
        torch.testing.assert_close(found[-1], found[-2], rtol=0, atol=1e-12)
    assert len(blocks.Plan.make(sizes, values[3]).blocks) > 2


def test_directions_do_not_mix() -> None:
    projected, context, weight, hidden = arguments(4)
    cell = torch.randn(2, 3, 3)
    both = lstm(projected, POSITION, context, SIZES, weight, hidden, cell)
    for one in range(2):
        here = slice(one, one + 1)
        alone = lstm(
            projected[here], POSITION[here], context[here], SIZES, weight[here], hidden[here],
            cell[here],
        )  # fmt: skip
        torch.testing.assert_close(both[here], alone)
