"""The labels that are summed and those that are sampled, against the exact sum over y."""

from typing import Any

import pytest
import torch
from torch import Tensor

from seqssvae.estimators import FusedEnum, SumAndSample
from seqssvae.model.likelihood import Pairs
from tests.support.estimators import (
    assert_mean_is_the_exact_sum,
    problem,
    value_and_gradient,
    variance,
)
from tests.support.factories import FACTORISATIONS, make_batch, make_model
from tests.support.fixtures import FixNoise

OPTIONS: dict[str, dict[str, Any]] = {
    "1 summed, 1 sampled": {"k": 1},
    "none summed": {"k": 0},
    "2 sampled without replacement": {"k": 1, "num_samples": 2},
    "3 sampled, none summed": {"k": 0, "num_samples": 3},
}


@pytest.mark.parametrize("factorisation", ["z-given-y", "y-given-z"])
@pytest.mark.parametrize("name", OPTIONS)
def test_mean_is_the_exact_sum(name: str, factorisation: str, fix_noise: FixNoise) -> None:
    assert_mean_is_the_exact_sum(SumAndSample, OPTIONS[name], factorisation, fix_noise)


@pytest.mark.parametrize("z_prior", ["normal", "by-class"])
@pytest.mark.parametrize("factorisation", FACTORISATIONS)
def test_sum_and_sample_of_all_labels_is_exact(
    factorisation: str, z_prior: str, fix_noise: FixNoise
) -> None:
    model, batch = problem(factorisation, z_prior=z_prior)
    fix_noise(torch.randn(1, 2))
    analytic = (factorisation, z_prior) != ("y-given-z", "by-class")
    want = value_and_gradient(FusedEnum(analytic_kl=analytic), model, batch)
    for k, num_samples in ((5, 1), (4, 1), (3, 2), (0, 5)):
        elbo = SumAndSample(k=k, num_samples=num_samples, analytic_kl=analytic)
        got = value_and_gradient(elbo, model, batch)
        torch.testing.assert_close(got, want, rtol=0, atol=1e-10)


def test_cost_follows_k_not_the_number_of_labels() -> None:
    log_prob = torch.randn(1, 6, 1000).log_softmax(-1)
    possible = torch.ones(6, 1000, dtype=torch.bool)
    pairs = SumAndSample(k=3, num_samples=2).choose(log_prob, possible)
    assert len(pairs.example) == 6 * 5


def test_a_control_variate_lowers_the_variance(fix_noise: FixNoise) -> None:
    class Without(SumAndSample):
        def correct(self, pairs: Pairs, values: Tensor, *_: Any) -> Tensor:
            return values.new_zeros(())

    model, batch = make_model(5), make_batch([-1] * 4, max_length=6)
    fix_noise(torch.randn(1, 2))
    assert variance(SumAndSample(), model, batch) < 0.2 * variance(Without(), model, batch)
