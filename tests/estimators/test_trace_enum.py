"""Pyro's enumeration against plain loops over examples and labels."""

from typing import Any

import pytest
import torch

from seqssvae.estimators import FusedEnum, TraceEnum
from tests.support.estimators import CASES_AND_KLS, MIXED, assert_equals_the_loop, case_of
from tests.support.factories import FACTORISATIONS, make_batch, make_model
from tests.support.fixtures import FixNoise

EXACT: dict[str, dict[str, Any]] = {
    "parallel": {},
    "parallel, expanded": {"expand": True},
    "sequential": {"strategy": "sequential"},
}


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize(("case", "kl"), CASES_AND_KLS)
def test_value_and_gradient_equal_the_loop(
    case: str, name: str, kl: str, fix_noise: FixNoise
) -> None:
    model, batch, before_row = case_of(case)
    elbo = TraceEnum(analytic_kl=kl == "analytic", **EXACT[name])
    noise = torch.randn(1, model.latent_size)
    assert_equals_the_loop(elbo, model, batch, noise, fix_noise, kl, before_row)


@pytest.mark.parametrize("factorisation", FACTORISATIONS)
@pytest.mark.parametrize("name", ["parallel", "parallel, expanded"])
def test_particles_equal_the_loop(name: str, factorisation: str, fix_noise: FixNoise) -> None:
    model = make_model(factorisation=factorisation)
    elbo = TraceEnum(num_particles=4, **EXACT[name])
    assert_equals_the_loop(elbo, model, make_batch(MIXED), torch.randn(4, 2), fix_noise, "analytic")


def test_sequential_enumeration_sees_one_dropout() -> None:
    """Every label's trace hides the same symbols from the encoders; else q(y | x) sums to no 1."""
    model = make_model(3, encoder_word_dropout=0.5, latent_size=0).train()
    batch = make_batch([-1, -1, -1], max_length=6)
    values = []
    for seed in range(4):
        for elbo in (TraceEnum(strategy="sequential"), FusedEnum()):
            torch.manual_seed(seed)
            values.append(elbo.differentiable_loss(model.model, model.guide, batch))
        torch.testing.assert_close(values[-2], values[-1], rtol=0, atol=1e-10)
    assert torch.stack(values[::2]).std() > 1e-3  # seeds hide other symbols


def test_particles_of_the_sequential_enumeration_are_averaged(fix_noise: FixNoise) -> None:
    elbo = TraceEnum(strategy="sequential", num_particles=3)
    assert_equals_the_loop(
        elbo, make_model(), make_batch(MIXED), torch.randn(1, 2), fix_noise, "analytic"
    )
