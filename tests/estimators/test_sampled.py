"""The sampled and relaxed estimators against the exact sum over y."""

from typing import Any

import pytest
import torch
from torch import Tensor

from seqssvae.data.batches import Batch
from seqssvae.estimators import FusedEnum, RelaxedLabels, ScoreFunction, SumAndSample
from seqssvae.estimators.fused import PairELBO, Pairs
from seqssvae.model.ssvae import SSVAE
from tests.support.factories import make_batch, make_model
from tests.support.fixtures import FixNoise

NUM_REPEATS, NUM_PARTICLES = 100, 800

UNBIASED: dict[str, tuple[type[PairELBO], dict[str, Any]]] = {
    "1 summed, 1 sampled": (SumAndSample, {"k": 1}),
    "none summed": (SumAndSample, {"k": 0}),
    "2 sampled without replacement": (SumAndSample, {"k": 1, "num_samples": 2}),
    "3 sampled, none summed": (SumAndSample, {"k": 0, "num_samples": 3}),
    "score, no baseline": (ScoreFunction, {"baseline": "none"}),
    "score, running mean": (ScoreFunction, {"baseline": "running-mean"}),
    "score, leave one out": (ScoreFunction, {"baseline": "leave-one-out"}),
    "score, learned": (ScoreFunction, {"baseline": "learned"}),
}


def value_and_gradient(elbo: PairELBO, model: SSVAE, batch: Batch) -> Tensor:
    """The loss and the gradient of every parameter, one vector."""
    loss = elbo.differentiable_loss(model.model, model.guide, batch, 0.7)
    parameters = list(model.parameters())
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    flat = [
        torch.zeros_like(parameter).reshape(-1) if gradient is None else gradient.reshape(-1)
        for parameter, gradient in zip(parameters, gradients, strict=True)
    ]
    return torch.cat([loss.detach().reshape(1), *flat])


def problem(factorisation: str) -> tuple[SSVAE, Batch]:
    """Five classes; rows with, without and with partial labels."""
    model = make_model(
        5, factorisation=factorisation, prior=torch.tensor([0.3, 0.2, 0.2, 0.2, 0.1])
    )
    candidates = torch.ones(4, 5, dtype=torch.bool)
    candidates[1] = torch.tensor([0, 0, 0, 1, 0])
    candidates[2] = torch.tensor([1, 0, 1, 1, 0])
    batch = make_batch(
        [-1, 3, -1, -1], max_length=3, candidates=candidates, w=torch.tensor([1.0, 0.5, 2.0, 1.0])
    )
    return model, batch


@pytest.mark.parametrize("factorisation", ["z-given-y", "y-given-z"])
@pytest.mark.parametrize("name", UNBIASED)
def test_mean_is_the_exact_sum(name: str, factorisation: str, fix_noise: FixNoise) -> None:
    """Value and projections of the gradient lie within 4 standard errors, themselves small."""
    model, batch = problem(factorisation)
    fix_noise(torch.randn(1, 2))
    exact = value_and_gradient(FusedEnum(), model, batch)
    cls, options = UNBIASED[name]
    elbo = cls(num_particles=NUM_PARTICLES, **options)
    draws = torch.stack([value_and_gradient(elbo, model, batch) for _ in range(NUM_REPEATS)])

    directions = torch.randn(6, len(exact))
    directions[:, 0] = 0
    directions[0] = exact
    directions[0, 0] = 0
    directions /= directions.norm(dim=1, keepdim=True)
    directions = torch.cat([torch.eye(1, len(exact)), directions])
    want, got = directions @ exact, draws @ directions.t()
    error = got.std(0) / NUM_REPEATS**0.5
    assert ((got.mean(0) - want).abs() <= 4 * error + 1e-12).all()
    # a bias of 1 % of the value, or of the gradient along itself, would be seen
    assert (4 * error[:2] < 0.01 * want[:2].abs()).all()


@pytest.mark.parametrize("name", UNBIASED)
def test_labelled_rows_are_exact(name: str, fix_noise: FixNoise) -> None:
    model = make_model(5)
    batch = make_batch([3, 0, 4])
    fix_noise(torch.randn(1, 2))
    cls, options = UNBIASED[name]
    got = value_and_gradient(cls(num_particles=2, **options), model, batch)
    want = value_and_gradient(FusedEnum(), model, batch)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-10)


@pytest.mark.parametrize("hard", [False, True])
def test_relaxed_labelled_rows_are_exact(hard: bool, fix_noise: FixNoise) -> None:
    model = make_model(5)
    batch = make_batch([3, 0, 4])
    fix_noise(torch.randn(1, 2))
    got = value_and_gradient(RelaxedLabels(hard=hard), model, batch)
    want = value_and_gradient(FusedEnum(), model, batch)
    torch.testing.assert_close(got[0], want[0], rtol=0, atol=1e-10)
    # the relaxed y's own gradient stops at a one-hot softmax
    torch.testing.assert_close(got, want, rtol=0, atol=1e-10)


def test_sum_and_sample_of_all_labels_is_exact(fix_noise: FixNoise) -> None:
    model, batch = problem("z-given-y")
    fix_noise(torch.randn(1, 2))
    want = value_and_gradient(FusedEnum(), model, batch)
    for k, num_samples in ((5, 1), (4, 1), (3, 2), (0, 5)):
        got = value_and_gradient(SumAndSample(k=k, num_samples=num_samples), model, batch)
        torch.testing.assert_close(got, want, rtol=0, atol=1e-10)


def test_cost_follows_k_not_the_number_of_labels() -> None:
    log_prob = torch.randn(1, 6, 1000).log_softmax(-1)
    possible = torch.ones(6, 1000, dtype=torch.bool)
    pairs = SumAndSample(k=3, num_samples=2).choose(log_prob, possible)
    assert len(pairs.example) == 6 * 5


def test_temperature_takes_the_bias_of_relaxed_labels(fix_noise: FixNoise) -> None:
    """The value at a low temperature is nearer to the exact one."""
    model, batch = problem("z-given-y")
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


def variance(elbo: PairELBO, model: SSVAE, batch: Batch) -> float:
    """Of the gradient, all parameters together; the first draws are for baselines to learn from."""
    draws = [value_and_gradient(elbo, model, batch)[1:] for _ in range(60)]
    return float(torch.stack(draws[20:]).var(0).sum())


def test_a_control_variate_lowers_the_variance(fix_noise: FixNoise) -> None:
    class Without(SumAndSample):
        def correct(self, pairs: Pairs, values: Tensor, *_: Any) -> Tensor:
            return values.new_zeros(())

    model, batch = make_model(5), make_batch([-1] * 4, max_length=6)
    fix_noise(torch.randn(1, 2))
    assert variance(SumAndSample(), model, batch) < 0.2 * variance(Without(), model, batch)


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


def test_foreign_models_are_refused() -> None:
    model, other = make_model(), make_model()
    batch = make_batch([0, -1])
    with pytest.raises(TypeError, match="one SSVAE"):
        FusedEnum().differentiable_loss(model.model, other.guide, batch)
