import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch

from seqssvae.errors import InputError
from seqssvae.estimators import FusedEnum, SumAndSample, TraceEnum
from seqssvae.estimators.check import brute_force_loss, check
from seqssvae.model.ssvae import SSVAE
from tests.support import factories
from tests.support.factories import FACTORISATIONS, count_batch, make_batch, make_model

PARTIAL = torch.tensor([[1, 0, 0], [1, 1, 1], [1, 1, 0]]).bool()


@pytest.mark.parametrize("z_prior", ["normal", "by-class"])
@pytest.mark.parametrize("factorisation", FACTORISATIONS)
@pytest.mark.parametrize("kl", ["analytic", "sampled"])
def test_brute_force_equals_the_loop_over_rows(factorisation: str, kl: str, z_prior: str) -> None:
    """With a teacher, and rows that are counted."""
    model = make_model(factorisation=factorisation, z_prior=z_prior)
    model.teacher_weight = 0.6
    batch = make_batch([0, -1, -1], candidates=PARTIAL, w=torch.tensor([0.5, 1.0, 2.0]))
    batch, before_row = count_batch(model, batch)
    noise = torch.randn(2, 2)
    got = brute_force_loss(model, batch, noise, kl_weight=0.3, analytic_kl=kl == "analytic")
    want = factories.brute_force_loss(
        model, batch, noise, kl=kl, kl_weight=0.3, before_row=before_row
    )
    torch.testing.assert_close(got, want, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("num_particles", "num_draws"), [(1, 60), (8, 30)])
def test_every_estimator_agrees(num_particles: int, num_draws: int) -> None:
    assert_every_estimator_agrees(make_model(), num_particles, num_draws)


@pytest.mark.parametrize("factorisation", FACTORISATIONS)
def test_every_estimator_agrees_where_z_has_a_prior_of_the_class(factorisation: str) -> None:
    """Under "y-given-z" by the sampled KL: no other one is known, and it is refused."""
    model = make_model(factorisation=factorisation, z_prior="by-class")
    assert_every_estimator_agrees(model, 2, 60)
    if factorisation == "y-given-z":
        for elbo in (FusedEnum(), TraceEnum()):
            with pytest.raises(InputError, match="KL: wanted sampled"):
                elbo.loss(model.model, model.guide, make_batch([0, -1]))


def assert_every_estimator_agrees(model: SSVAE, num_particles: int, num_draws: int) -> None:
    model.teacher_weight = 0.6
    batch, _ = count_batch(model, make_batch([0, -1, -1], candidates=PARTIAL))
    rows = check(model, batch, num_draws=num_draws, num_particles=num_particles)
    assert {row.kind for row in rows} == {"exact", "unbiased", "biased"}
    assert [row.estimator for row in rows if not row.agrees()] == []
    assert all(abs(row.error) < 1e-9 for row in rows if row.kind == "exact")


def sharp_model(**changes: Any) -> SSVAE:
    """Of which all draws of y are equal, but for one in some hundreds or thousands."""
    model = make_model(**changes)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith(("head_y", "ngrams")):
                parameter.mul_(10)
    return model


@pytest.mark.parametrize("factorisation", FACTORISATIONS)
def test_every_estimator_agrees_where_q_is_sure(
    factorisation: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Rows that are all labelled leave q as it is."""
    caplog.set_level("INFO", "seqssvae")
    model = sharp_model(factorisation=factorisation)
    assert model(make_batch([0, -1, -1])).amax(-1).min() > 0.98
    assert_every_estimator_agrees(model, 2, 60)
    assert "q(y | x) is raised to the power 0." in caplog.text
    labelled = make_batch([0, 1])
    value = check(model, labelled, num_draws=2)[0].value
    noise = torch.randn(2, 2, generator=torch.Generator().manual_seed(0))
    assert value == pytest.approx(brute_force_loss(model, labelled, noise).item())


@pytest.mark.parametrize("make", [make_model, sharp_model])
def test_a_wrong_estimator_does_not_agree(
    make: Callable[[], SSVAE], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sampled label's weight without its probability is a bias of a few per cent."""
    right = SumAndSample._sample

    def wrong(self: SumAndSample, rest: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        drawn, probability = right(self, rest)
        return drawn, probability * 0.8

    monkeypatch.setattr(SumAndSample, "_sample", wrong)
    rows = check(make(), make_batch([-1, -1, -1]), num_draws=20, num_particles=8)
    bad = [row.estimator for row in rows if not row.agrees()]
    assert bad and all(name.startswith("sum-and-sample") for name in bad)


def test_the_model_is_left_as_it_was() -> None:
    model = make_model().float().train()
    check(model, make_batch([0, -1]), num_draws=2)
    assert model.training and next(model.parameters()).dtype == torch.float32


def test_soft_labels_in_single_precision_are_read_as_double_too() -> None:
    """As `collate` gives them."""
    soft = torch.tensor([[0.7, 0.2, 0.1], [1.0, 1.0, 1.0]], dtype=torch.float32).log()
    batch = dataclasses.replace(make_batch([-1, -1]), evidence=soft)
    rows = check(make_model(), batch, num_draws=2, num_particles=1)
    assert all(abs(row.error) < 1e-9 for row in rows if row.kind == "exact")


def test_a_model_without_classes_is_refused() -> None:
    with pytest.raises(ValueError, match="K = 0"):
        check(make_model(0), make_batch([-1]))
