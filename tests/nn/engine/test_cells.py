"""The C loops against a loop over rows and times in float64 and plain autograd."""

import pytest
import torch
from torch import Tensor

from seqssvae.nn.engine import Plan, kernels_for, run_cells
from tests.support.compiler import needs_compiler
from tests.support.gradients import assert_same_gradients

SIZES = (40, 33, 17, 16, 2)
pytestmark = needs_compiler


def arguments(
    num_gates: int, *, with_position: bool, scale: float = 1.0, size: int = 19
) -> tuple[list[Tensor], Tensor | None]:
    """Inputs, context, weights, first hidden states and first cells or bias, and positions."""
    width, num_rows, num_positions = num_gates * size, SIZES[0], sum(SIZES)
    num_inputs = 6 if with_position else num_positions
    shapes = [(2, num_inputs, width), (2, num_rows, width), (2, width, size), (2, num_rows, size)]
    shapes.append((2, num_rows, size) if num_gates == 4 else (2, 1, size))
    scales = (scale, scale, 0.2, 1.0, 1.0)
    values = [
        (factor * torch.randn(shape, dtype=torch.float32)).requires_grad_()
        for factor, shape in zip(scales, shapes, strict=True)
    ]
    return values, torch.randint(6, (2, num_positions)) if with_position else None


def in_c(
    values: list[Tensor], position: Tensor | None, *, with_context: bool = True, **limits: int
) -> Tensor:
    projected, context, weight, hidden, last = values
    plan = Plan.make(SIZES, hidden, projected.shape[1], **limits)
    added = context if with_context else None
    return run_cells(projected, position, added, plan, weight, hidden, last)


def by_a_loop(
    values: list[Tensor], position: Tensor | None, *, with_context: bool = True
) -> Tensor:
    """One direction, row and time after another."""
    projected, context, weight, first, last = (value.double() for value in values)
    size, outputs = weight.shape[2], []
    for direction in range(2):
        hidden, cell, begin = first[direction], last[direction], 0
        for rows in SIZES:
            read = torch.arange(begin, begin + rows)
            if position is not None:
                read = position[direction, begin : begin + rows]
            gates = projected[direction, read]
            if with_context:
                gates = gates + context[direction, :rows]
            hidden = hidden[:rows]
            recurrent = hidden @ weight[direction].t()
            if weight.shape[1] == 4 * size:
                i, f, g, o = (gates + recurrent).split(size, 1)
                cell = f.sigmoid() * cell[:rows] + i.sigmoid() * g.tanh()
                hidden = o.sigmoid() * cell.tanh()
            else:
                r, z = (gates + recurrent)[:, : 2 * size].sigmoid().split(size, 1)
                new = recurrent[:, 2 * size :] + last[direction]
                n = (gates[:, 2 * size :] + r * new).tanh()
                hidden = n + z * (hidden - n)
            outputs.append(hidden)
            begin += rows
    return torch.cat(outputs).view(2, sum(SIZES), size)


def assert_agree(
    values: list[Tensor],
    position: Tensor | None,
    *,
    with_context: bool = True,
    tolerance: float = 1e-5,
    **limits: int,
) -> None:
    """Hidden states and the gradients of all arguments."""
    assert kernels_for(*values) is not None
    wanted = values if with_context else [values[0], *values[2:]]
    got = in_c(values, position, with_context=with_context, **limits)
    want = by_a_loop(values, position, with_context=with_context)
    upstream = torch.randn_like(want)
    torch.testing.assert_close(got.double(), want, rtol=tolerance, atol=1e-5)
    first, second = (got * upstream.float()).sum(), (want * upstream).sum()
    assert_same_gradients(first, second, wanted, rtol=tolerance, atol=2e-5)


@pytest.mark.parametrize("num_threads", [1, 2, 3])
@pytest.mark.parametrize("with_context", [True, False])
@pytest.mark.parametrize("with_position", [True, False])
@pytest.mark.parametrize("num_gates", [3, 4])
def test_states_and_gradients(
    num_gates: int, with_position: bool, with_context: bool, num_threads: int
) -> None:
    values, position = arguments(num_gates, with_position=with_position)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(num_threads)
        for limits in ({}, {"block_elements": 300, "fewest_products": 0}):  # several blocks each
            assert_agree(values, position, with_context=with_context, **limits)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("scale", [1e-4, 40.0, 1e30])
@pytest.mark.parametrize("num_gates", [3, 4])
def test_numbers_far_from_one(num_gates: int, scale: float) -> None:
    """Gates that are nearly linear, and gates that are closed."""
    values, position = arguments(num_gates, with_position=True, scale=scale)
    assert_agree(values, position, tolerance=1e-4)


def test_a_nan_stays_one() -> None:
    projected = torch.zeros(1, 3, 8, dtype=torch.float32)
    projected[0, 1, 5] = torch.nan
    zeros = torch.zeros(1, 2, 2, dtype=torch.float32)
    weight = torch.zeros(1, 8, 2, dtype=torch.float32)
    hidden = run_cells(projected, None, None, Plan.make((2, 1), zeros, 3), weight, zeros, zeros)
    assert hidden.isnan().tolist() == [[[False, False], [False, True], [False, False]]]


def test_under_autocast_all_is_float32() -> None:
    values, position = arguments(4, with_position=True)
    want = in_c(values, position)
    with torch.autocast("cpu", torch.bfloat16):
        got = in_c([values[0].bfloat16(), *values[1:]], position)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, want, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("wrong", [-1, 6, 2**40])
def test_positions_out_of_range_are_refused(wrong: int) -> None:
    values, position = arguments(4, with_position=True)
    assert position is not None
    position[1, 7] = wrong
    with pytest.raises(ValueError, match=f"position: wanted 0 to 5, got {wrong}"):
        in_c(values, position)
