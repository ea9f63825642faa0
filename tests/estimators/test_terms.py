"""What the estimators share: what SVI calls, the KL, parts of a batch, noise."""

import pyro
import pytest
import torch
from pyro.infer import SVI
from pyro.optim import PyroOptim

from seqssvae.estimators import FusedEnum, TraceEnum
from seqssvae.estimators.terms import Estimator, parts
from tests.support.estimators import MIXED
from tests.support.factories import brute_force_loss, make_batch, make_model
from tests.support.fixtures import FixNoise
from tests.support.gradients import gradients

EXACT = [TraceEnum(), TraceEnum(expand=True), TraceEnum(strategy="sequential"), FusedEnum()]


@pytest.mark.parametrize("elbo", EXACT)
def test_svi_gets_the_gradients(elbo: Estimator, fix_noise: FixNoise) -> None:
    model, batch = make_model(), make_batch(MIXED)
    noise = torch.randn(1, model.latent_size)
    fix_noise(noise)
    want = brute_force_loss(model, batch, noise, kl="analytic", kl_weight=1.0)
    wanted = gradients(want, model.parameters())
    pyro.clear_param_store()
    svi = SVI(model.model, model.guide, PyroOptim(torch.optim.SGD, {"lr": 0.1}), loss=elbo)
    value = svi.loss_and_grads(model.model, model.guide, batch)
    assert value == pytest.approx(want.item(), abs=1e-10)
    for parameter, gradient in zip(model.parameters(), wanted, strict=True):
        found = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        torch.testing.assert_close(found, gradient, rtol=0, atol=1e-10)


@pytest.mark.parametrize("elbo", EXACT)
def test_a_guide_of_another_model_is_refused(elbo: Estimator) -> None:
    one, other = make_model(), make_model()
    with pytest.raises(TypeError, match="of one SSVAE"):
        elbo.differentiable_loss(one.model, other.guide, make_batch(MIXED))


def test_parts_of_a_batch() -> None:
    """Rows with a label and rows without; one part where all are of a kind."""
    first, second = parts(make_batch(MIXED))
    assert first.y.tolist() == [2, 0] and second.y.tolist() == [-1, -1]
    for labels in ([0, 1], [-1, -1]):
        (batch,) = parts(make_batch(labels))
        assert batch.y.tolist() == labels


def test_an_estimator_without_a_state_has_hooks() -> None:
    for elbo in EXACT:
        elbo.at_step(3)
        elbo.after_step(dict)
        elbo.restore(elbo.state())
        assert elbo.state() == {}
