"""The score function under each baseline, against the exact sum over y."""

from typing import Any

import pytest
import torch
from torch import Tensor

from seqssvae.estimators import ScoreFunction
from tests.support.estimators import assert_mean_is_the_exact_sum, variance
from tests.support.factories import make_batch, make_model
from tests.support.fixtures import FixNoise


@pytest.mark.parametrize("factorisation", ["z-given-y", "y-given-z"])
@pytest.mark.parametrize("baseline", ["none", "running-mean", "leave-one-out", "learned"])
def test_mean_is_the_exact_sum(baseline: str, factorisation: str, fix_noise: FixNoise) -> None:
    options = {"baseline": baseline}
    assert_mean_is_the_exact_sum(ScoreFunction, options, factorisation, fix_noise)


def test_baselines_lower_the_variance(fix_noise: FixNoise) -> None:
    """Each as it should: a mean helps, what is learned of lengths and features helps more."""
    model, batch = make_model(5), make_batch([-1] * 6, max_length=12)
    fix_noise(torch.randn(1, 2))
    none, mean, others, learned = (
        variance(ScoreFunction(baseline=baseline, num_particles=2), model, batch)
        for baseline in ("none", "running-mean", "leave-one-out", "learned")
    )
    assert mean < 0.5 * none and others < 0.5 * none and learned < 0.5 * mean


def test_leave_one_out_wants_particles() -> None:
    with pytest.raises(ValueError, match="at least 2 particles, got 1"):
        ScoreFunction(baseline="leave-one-out")


@pytest.mark.parametrize("baseline", ["running-mean", "learned"])
def test_a_step_of_two_batches_is_learned_at_its_end(baseline: Any) -> None:
    """Its state is that of the sums over both; what was restored or began anew is not learned."""
    model, batches = make_model(5), [make_batch([-1, 2], max_length=n) for n in (3, 6)]
    elbo = ScoreFunction(baseline=baseline)
    seen: list[dict[str, Tensor]] = []

    def add(sums: dict[str, Tensor]) -> dict[str, Tensor]:
        seen.append(dict(sums))
        return {name: 2 * value for name, value in sums.items()}

    elbo.at_step(0)
    elbo.loss(model.model, model.guide, batches[0])
    elbo.at_step(0)
    for batch in batches:
        elbo.loss(model.model, model.guide, batch)
        assert not any(value is not None for value in elbo.state().values())
    elbo.after_step(add)
    state = elbo.state()
    for name, value in seen[0].items():
        if name in state:
            torch.testing.assert_close(state[name], 2 * value)
    elbo.loss(model.model, model.guide, batches[0])
    elbo.restore(state)
    elbo.after_step(add)
    assert seen[1] == {} and elbo.state() == state
