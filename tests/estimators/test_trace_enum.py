"""Every exact estimator against plain loops over examples and labels."""

from typing import Any

import pyro
import pytest
import torch
from pyro.infer import SVI
from pyro.optim import PyroOptim
from torch import Tensor

from seqssvae.data.batches import Batch
from seqssvae.estimators import FusedEnum, TraceEnum
from seqssvae.model.ssvae import SSVAE
from tests.support.factories import brute_force_loss, make_batch, make_model
from tests.support.fixtures import FixNoise

MIXED = [2, -1, 0, -1]
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "unlabelled": ({}, {"labels": [-1, -1, -1, -1]}),
    "labelled": ({}, {"labels": [0, 2, 1, 1]}),
    "mixed": ({}, {"labels": MIXED}),
    "as many rows as labels": ({}, {"labels": [-1, -1, -1]}),
    "as many layers as labels": ({"decoder_layers": 3}, {"labels": [-1, 1, -1]}),
    "one row": ({"num_classes": 2, "decoder_layers": 2}, {"labels": [-1]}),
    "one label": ({"num_classes": 1}, {"labels": [-1, -1, 0]}),
    "one symbol": ({}, {"labels": MIXED, "max_length": 1}),
    "gru": ({"cell": "gru", "decoder_layers": 2}, {"labels": MIXED}),
    "nothing fed": ({"feed_y": False, "feed_z": False, "class_bias": False}, {"labels": MIXED}),
    "tied, shared": ({"tied_embeddings": True, "shared_encoder": True}, {"labels": MIXED}),
    "independent": ({"factorisation": "independent"}, {"labels": MIXED}),
    "y given z": ({"factorisation": "y-given-z"}, {"labels": MIXED}),
    "no z": ({"latent_size": 0}, {"labels": MIXED}),
    "weights": (
        {},
        {
            "labels": MIXED,
            "w": torch.tensor([0.5, 2.0, 0.0, 0.3]),
            "alpha": torch.tensor([3.0, 5.0, 0.2, 1.0]),
        },
    ),
    "partial": (
        {},
        {
            "labels": [2, -1, -1, -1],
            "candidates": torch.tensor([[0, 0, 1], [1, 1, 1], [1, 0, 1], [1, 1, 0]]).bool(),
        },
    ),
    "prior": ({"prior": torch.tensor([0.5, 0.3, 0.2])}, {"labels": MIXED}),
}
EXACT: dict[str, tuple[type[FusedEnum] | type[TraceEnum], dict[str, Any]]] = {
    "parallel": (TraceEnum, {}),
    "parallel, expanded": (TraceEnum, {"expand": True}),
    "sequential": (TraceEnum, {"strategy": "sequential"}),
    "fused": (FusedEnum, {}),
}


def _gradients(loss: Tensor, model: SSVAE) -> list[Tensor]:
    parameters = list(model.parameters())
    found = torch.autograd.grad(loss, parameters, allow_unused=True)
    return [
        torch.zeros_like(parameter) if gradient is None else gradient
        for parameter, gradient in zip(parameters, found, strict=True)
    ]


def _agree(
    elbo: FusedEnum | TraceEnum,
    model: SSVAE,
    batch: Batch,
    noise: Tensor,
    fix_noise: FixNoise,
    kl: str,
) -> None:
    fix_noise(noise)
    want = brute_force_loss(model, batch, noise, kl=kl, kl_weight=0.7)
    got = elbo.differentiable_loss(model.model, model.guide, batch, 0.7)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-10)
    for mine, theirs in zip(_gradients(got, model), _gradients(want, model), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-10)
    torch.testing.assert_close(
        torch.tensor(elbo.loss(model.model, model.guide, batch, 0.7)), want, rtol=0, atol=1e-10
    )


@pytest.mark.parametrize("kl", ["analytic", "sampled"])
@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("case", CASES)
def test_value_and_gradient_equal_the_loop(
    case: str, name: str, kl: str, fix_noise: FixNoise
) -> None:
    changes, rows = CASES[case]
    model = make_model(**changes)
    cls, options = EXACT[name]
    elbo = cls(analytic_kl=kl == "analytic", **options)
    noise = torch.randn(1, model.latent_size)
    _agree(elbo, model, make_batch(**rows), noise, fix_noise, kl)


@pytest.mark.parametrize("factorisation", ["z-given-y", "independent", "y-given-z"])
@pytest.mark.parametrize("name", ["parallel", "parallel, expanded", "fused"])
def test_particles_equal_the_loop(name: str, factorisation: str, fix_noise: FixNoise) -> None:
    model = make_model(factorisation=factorisation)
    cls, options = EXACT[name]
    elbo = cls(num_particles=4, **options)
    _agree(elbo, model, make_batch(MIXED), torch.randn(4, 2), fix_noise, "analytic")


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
    _agree(elbo, make_model(), make_batch(MIXED), torch.randn(1, 2), fix_noise, "analytic")


@pytest.mark.parametrize("name", EXACT)
def test_gradients_are_left_in_the_parameters_for_pyros_svi(name: str, fix_noise: FixNoise) -> None:
    model, batch = make_model(), make_batch(MIXED)
    cls, options = EXACT[name]
    noise = torch.randn(1, model.latent_size)
    fix_noise(noise)
    want = brute_force_loss(model, batch, noise, kl="analytic", kl_weight=1.0)
    gradients = _gradients(want, model)
    pyro.clear_param_store()
    svi = SVI(
        model.model, model.guide, PyroOptim(torch.optim.SGD, {"lr": 0.1}), loss=cls(**options)
    )
    value = svi.loss_and_grads(model.model, model.guide, batch)
    assert value == pytest.approx(want.item(), abs=1e-10)
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        found = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        torch.testing.assert_close(found, gradient, rtol=0, atol=1e-10)


@pytest.mark.parametrize("elbo", [TraceEnum(), FusedEnum()])
def test_a_guide_of_another_model_is_refused(elbo: FusedEnum | TraceEnum) -> None:
    one, other = make_model(), make_model()
    with pytest.raises(TypeError, match="of one SSVAE"):
        elbo.differentiable_loss(one.model, other.guide, make_batch(MIXED))
