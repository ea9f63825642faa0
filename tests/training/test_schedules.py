"""KL weight and learning rate: ends, order, and a formula written another way."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqssvae.training.schedules import kl_weight, learning_rate

SCHEDULES = ("constant", "linear", "sigmoid", "cyclical")


def weights(schedule: str, num_steps: int, **changes: Any) -> list[float]:
    settings: dict[str, Any] = {"final": 1.0, "warmup_steps": 100, "cycles": 4, **changes}
    return [kl_weight(step, schedule=schedule, **settings) for step in range(num_steps)]


@given(
    st.sampled_from(SCHEDULES),
    st.integers(0, 500),
    st.integers(0, 300),
    st.integers(1, 20),
    st.floats(0, 10),
)
def test_weight_is_bounded_and_ends_with_final(
    schedule: str, step: int, warmup_steps: int, cycles: int, final: float
) -> None:
    weight = kl_weight(
        step, schedule=schedule, final=final, warmup_steps=warmup_steps, cycles=cycles
    )
    assert 0 <= weight <= final
    if step >= warmup_steps or schedule == "constant":
        assert weight == final
    elif step == 0:
        assert weight == 0


def test_linear_is_a_line() -> None:
    found = weights("linear", 120, final=0.5)
    assert found == pytest.approx([0.5 * min(1, step / 100) for step in range(120)])


def test_sigmoid_is_a_symmetric_logistic() -> None:
    found = weights("sigmoid", 101)
    assert found == sorted(found)
    assert found[50] == pytest.approx(0.5)
    assert [a + b for a, b in zip(found, found[::-1], strict=True)] == pytest.approx([1.0] * 101)
    # an affine function of the logistic one, so that its log-odds have the slope of 12 / 100
    low = 1 / (1 + math.exp(6))
    logistic = [low + (1 - 2 * low) * weight for weight in found]
    slopes = [
        math.log(b / (1 - b)) - math.log(a / (1 - a))
        for a, b in zip(logistic, logistic[1:], strict=False)
    ]
    assert slopes == pytest.approx([0.12] * 100)


def test_cyclical_rises_for_half_of_each_cycle() -> None:
    found = weights("cyclical", 110)
    ramp = [step / 12.5 for step in range(13)] + [1.0] * 12
    assert found == pytest.approx(ramp * 4 + [1.0] * 10)


@given(st.integers(1, 200), st.integers(1, 12))
def test_cyclical_with_a_cycle_that_is_no_whole_number(warmup_steps: int, cycles: int) -> None:
    found = weights("cyclical", warmup_steps, warmup_steps=warmup_steps, cycles=cycles)
    for step, weight in enumerate(found):
        done = step / (warmup_steps / cycles)
        nearest = round(done)
        within = 0.0 if abs(done - nearest) < 1e-9 else done - math.floor(done)
        assert weight == pytest.approx(min(1.0, within / 0.5), abs=1e-6)


def test_unknown_schedules_are_refused() -> None:
    good: dict[str, Any] = {"schedule": "linear", "final": 1.0, "warmup_steps": 5, "cycles": 1}
    with pytest.raises(ValueError, match="wanted constant, linear, sigmoid or cyclical, got cos"):
        kl_weight(0, **{**good, "schedule": "cos"})


def test_the_learning_rate_is_a_line_with_a_floor() -> None:
    found = [learning_rate(s, start=0.2, final_share=0.1, steps=10) for s in range(13)]
    assert found == pytest.approx([0.2 - 0.018 * min(s, 10) for s in range(13)])
    assert learning_rate(7, start=0.2, final_share=1.0, steps=10) == pytest.approx(0.2)
    assert learning_rate(0, start=0.2, final_share=0.5, steps=0) == pytest.approx(0.1)
