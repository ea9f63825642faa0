"""The fused sum against plain loops over examples and labels."""

import pytest
import torch

from seqssvae.estimators import FusedEnum
from tests.support.estimators import CASES_AND_KLS, MIXED, assert_equals_the_loop, case_of
from tests.support.factories import FACTORISATIONS, make_batch, make_model
from tests.support.fixtures import FixNoise


@pytest.mark.parametrize(("case", "kl"), CASES_AND_KLS)
def test_value_and_gradient_equal_the_loop(case: str, kl: str, fix_noise: FixNoise) -> None:
    (model, batch, before_row), elbo = case_of(case), FusedEnum(analytic_kl=kl == "analytic")
    noise = torch.randn(1, model.latent_size)
    assert_equals_the_loop(elbo, model, batch, noise, fix_noise, kl, before_row)


@pytest.mark.parametrize("factorisation", FACTORISATIONS)
def test_particles_equal_the_loop(factorisation: str, fix_noise: FixNoise) -> None:
    model, elbo = make_model(factorisation=factorisation), FusedEnum(num_particles=4)
    noise = torch.randn(4, 2)
    assert_equals_the_loop(elbo, model, make_batch(MIXED), noise, fix_noise, "analytic")
