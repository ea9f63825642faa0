"""Steps whose numbers are not finite."""

import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import Normal

from seqssvae.training.bad_steps import MAX_BAD_ROWS, LastGood, find_bad_rows, not_finite_allowed


@given(st.integers(0, 40).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.integers(0, n)))))
def test_bad_rows_are_found(case: tuple[int, set[int]]) -> None:
    num_rows, wanted = case[0] + 1, case[1]
    asked: list[list[int]] = []

    def is_bad(rows: list[int]) -> bool:
        asked.append(rows)
        return bool(wanted & set(rows))

    found = find_bad_rows(is_bad, num_rows)
    assert set(found) <= wanted and found == sorted(found)
    assert len(found) == min(len(wanted), MAX_BAD_ROWS)
    assert len(asked) <= 1 + 2 * max(len(found), 1) * (num_rows.bit_length() + 1)


def test_rows_that_are_bad_only_together_are_not_found() -> None:
    assert find_bad_rows(lambda rows: {1, 6} <= set(rows), 8) == []


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("name", ["0.weight", "1.bias", "2.running_var"])
def test_weights_are_restored(value: float, name: str) -> None:
    """Those that are trained, which alone are looked at after each step, and all others."""
    model = torch.nn.Sequential(
        torch.nn.Linear(2, 3), torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3)
    )
    model[1].requires_grad_(False)
    model.register_buffer("empty", torch.zeros(0, 2))
    good = LastGood(model)
    with torch.no_grad():
        next(model.parameters()).fill_(0.5)
    assert good.is_finite() and good.bad_weights() == []
    good.keep()
    before = {key: weight.clone() for key, weight in model.state_dict().items()}
    model.state_dict()[name].view(-1)[-1] = value
    assert good.is_finite() == (name != "0.weight") and good.bad_weights() == [name]
    with pytest.raises(ValueError, match=f"wanted finite weights, got others in {name}"):
        LastGood(model)
    good.restore()
    assert good.is_finite()
    assert all(torch.equal(before[key], weight) for key, weight in model.state_dict().items())


def test_weights_whose_sum_overflows_are_finite() -> None:
    model = torch.nn.Linear(2, 1)
    good = LastGood(model)
    with torch.no_grad():
        model.weight.fill_(1.5e308)
    assert good.is_finite()


def test_only_errors_of_numbers_are_caught() -> None:
    with not_finite_allowed() as errors:
        Normal(torch.tensor(torch.nan), 1.0)
    assert len(errors) == 1
    with not_finite_allowed() as errors:
        warnings.warn("Encountered NaN: loss", UserWarning, stacklevel=1)
    assert errors == []
    with pytest.raises(ValueError, match="another"), not_finite_allowed():
        raise ValueError("another")
    with pytest.raises(UserWarning, match="another"), not_finite_allowed():
        warnings.warn("another", UserWarning, stacklevel=1)
