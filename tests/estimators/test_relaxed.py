"""Relaxed labels: exact where a label is known, near the exact sum at a low temperature."""

import pytest
import torch

from seqssvae.estimators import FusedEnum, RelaxedLabels
from tests.support.estimators import assert_labelled_rows_are_exact, problem
from tests.support.fixtures import FixNoise


@pytest.mark.parametrize("hard", [False, True])
def test_labelled_rows_are_exact(hard: bool, fix_noise: FixNoise) -> None:
    assert_labelled_rows_are_exact(RelaxedLabels(hard=hard), fix_noise)


@pytest.mark.parametrize("z_prior", ["normal", "by-class"])
def test_temperature_takes_the_bias_of_relaxed_labels(z_prior: str, fix_noise: FixNoise) -> None:
    """The value at a low temperature is nearer to the exact one."""
    model, batch = problem("z-given-y", z_prior=z_prior)
    fix_noise(torch.randn(1, 2))
    exact = FusedEnum().loss(model.model, model.guide, batch, 0.7)
    biases = []
    for temperature in (5.0, 0.5, 0.005):
        elbo = RelaxedLabels(temperature=temperature, num_particles=4000)
        biases.append(abs(elbo.loss(model.model, model.guide, batch, 0.7) - exact))
    assert biases[0] > biases[1] > biases[2]
    assert biases[2] < 0.1 * biases[0]


@pytest.mark.parametrize("hard", [False, True])
def test_relaxed_labels_are_drawn_from_q(hard: bool) -> None:
    """The greatest part of y is a sample of q(y | x), among the labels that are possible."""
    num_draws = 20_000
    log_prob = (2 * torch.randn(1, 3, 4)).log_softmax(-1)
    possible = torch.ones(3, 4, dtype=torch.bool)
    possible[2, 1] = False
    log_prob = log_prob.masked_fill(~possible, -torch.inf).log_softmax(-1)
    pairs = RelaxedLabels(hard=hard).choose(log_prob.expand(num_draws, -1, -1), possible)
    assert pairs.label is not None
    drawn = torch.zeros(3, 4).index_put_(
        (pairs.example, pairs.label.argmax(-1)), torch.ones(len(pairs.example)), accumulate=True
    )
    probability = log_prob[0].exp()
    error = (probability * (1 - probability) / num_draws).sqrt()
    assert ((drawn / num_draws - probability).abs() <= 4 * error + 1e-12).all()


def test_straight_through_is_hard_forward() -> None:
    log_prob = torch.randn(1, 6, 4).log_softmax(-1).requires_grad_()
    possible = torch.ones(6, 4, dtype=torch.bool)
    pairs = RelaxedLabels(hard=True).choose(log_prob, possible)
    assert pairs.label is not None
    torch.testing.assert_close(pairs.label.amax(-1), torch.ones(6))
    torch.testing.assert_close(pairs.label.sum(-1), torch.ones(6))
    pairs.label[:, 0].sum().backward()
    assert log_prob.grad is not None and log_prob.grad.abs().max() > 1e-6


def test_the_temperature_is_a_geometric_series() -> None:
    elbo = RelaxedLabels(temperature=2.0, final_temperature=0.5, temperature_steps=10)
    series = []
    for step in range(12):
        elbo.at_step(step)
        series.append(elbo.temperature)
    assert series == pytest.approx([2.0 * 0.25 ** (step / 10) for step in range(11)] + [0.5])


def test_without_a_schedule_the_temperature_stays() -> None:
    elbo = RelaxedLabels(temperature=2.0)
    elbo.at_step(7)
    assert elbo.temperature == 2.0
