import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from seqssvae.data.batches import Batch
from seqssvae.errors import InputError
from seqssvae.inference.classify import classify, sample_log_likelihood
from seqssvae.model.ssvae import SSVAE
from tests.support.factories import (
    FACTORISATIONS,
    make_batch,
    make_model,
    prior_of,
    stepwise_log_prob,
)

PRIOR = torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64)


def _symbols(batch: Batch, row: int) -> list[int]:
    symbols: list[int] = batch.x[row, : int(batch.lengths[row])].tolist()
    return symbols


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def _importance_weights(model: SSVAE, batch: Batch, row: int, noise: Tensor) -> Tensor:
    """log p(x | y, z) + log p(z) - log q(z | x, y) of one row by loops, `[S, K]`."""
    alone = batch.select(torch.tensor([row]))
    features = model.encode(alone.x, alone.lengths)
    weights = torch.zeros(len(noise), model.num_classes)
    for y in range(model.num_classes):
        loc, scale = (part[0] for part in model.z_posterior(features, torch.tensor([y])))
        for sample, epsilon in enumerate(noise):
            z = loc + scale * epsilon
            log_ratio = prior_of(model, y).log_prob(z) - Normal(loc, scale).log_prob(z)
            likelihood = stepwise_log_prob(model, _symbols(batch, row), z, y)
            weights[sample, y] = (likelihood + log_ratio.sum()).detach()
    return weights


@pytest.mark.parametrize(
    ("latent_size", "z_prior"), [(2, "normal"), (2, "by-class"), (0, "normal")]
)
@pytest.mark.parametrize("factorisation", FACTORISATIONS)
def test_every_mode_equals_a_loop_over_rows_labels_and_samples(
    factorisation: str, latent_size: int, z_prior: str
) -> None:
    model = make_model(
        3, factorisation=factorisation, latent_size=latent_size, z_prior=z_prior, prior=PRIOR
    )
    batch = make_batch([-1, 2, 0, -1])
    noise = torch.randn(5, latent_size, generator=_generator())
    found = {
        mode: classify(
            model, batch, mode=mode, weights=powers, num_samples=5, generator=_generator()
        )
        for mode, powers in (("q", (1, 0.5)), ("posterior", (0.5, 1)), ("mix", (0.5, 0.5)))
    }
    for row in range(4):
        weights = _importance_weights(model, batch, row, noise)
        joint = torch.stack(
            [math.log(PRIOR[y]) + (weights[:, y].exp().sum() / 5).log() for y in range(3)]
        )
        posterior = joint.exp() / joint.exp().sum()
        alone = batch.select(torch.tensor([row]))
        features = model.encode(alone.x, alone.lengths)
        loc, scale = model.z_posterior(features, torch.tensor([0]))
        q = torch.stack(
            [model.y_logits(features, loc + scale * epsilon)[0].exp() for epsilon in noise]
        ).mean(0)
        mix = (q * posterior).sqrt()
        for mode, want in (("q", q), ("posterior", posterior), ("mix", mix / mix.sum())):
            torch.testing.assert_close(found[mode][row], want, rtol=0, atol=1e-12)


def test_many_samples_give_the_integral_over_z() -> None:
    """p(y | x) by quadrature over a latent of one dim."""
    model = make_model(3, latent_size=1)
    assert model.head_z.log_scale is not None
    with torch.no_grad():
        model.head_z.log_scale.weight.zero_()
        model.head_z.log_scale.bias.fill_(0.5)  # wider than p(z): no weight is large
    batch = make_batch([-1, -1])
    grid = torch.linspace(-8, 8, 801)
    z = grid.reshape(-1, 1, 1, 1).expand(801, 3, 2, 1)
    y = torch.arange(3).reshape(3, 1)
    with torch.no_grad():
        log_likelihood = model.log_likelihood(batch.x, batch.lengths, z, y)
    density = Normal(0.0, 1.0).log_prob(grid).reshape(-1, 1, 1)
    want = (log_likelihood + density).logsumexp(0).softmax(0).t()
    found = classify(model, batch, mode="posterior", num_samples=8000, generator=_generator())
    torch.testing.assert_close(found, want, rtol=0, atol=1e-2)
    assert (want - classify(model, batch)).abs().max() > 0.05  # not q by another name


@pytest.mark.parametrize("factorisation", FACTORISATIONS)
def test_own_labels_and_neighbours_do_not_matter(factorisation: str) -> None:
    model = make_model(3, factorisation=factorisation)
    batch = make_batch([-1, 2, 0, -1, 1], extra_padding=3)
    order = torch.tensor([3, 0, 4])
    for mode in ("q", "posterior", "mix"):
        every = classify(model, batch, mode=mode, generator=_generator())
        some = classify(model, batch.select(order), mode=mode, generator=_generator())
        torch.testing.assert_close(some, every[order], rtol=0, atol=1e-12)
        hidden = Batch(x=batch.x, lengths=batch.lengths, y=torch.full((5,), -1))
        unread = classify(model, hidden, mode=mode, generator=_generator())
        torch.testing.assert_close(unread, every, rtol=0, atol=0)


@pytest.mark.parametrize("num_rows", [1, 2, 7, 33])
def test_the_decoders_batch_is_bounded(num_rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """And how it is cut changes nothing; B = K = 3."""
    model = make_model(3)
    batch = make_batch([-1, -1, -1])
    noise = torch.randn(4, 3, 2)
    features = model.encode(batch.x, batch.lengths)
    want, want_ratio = sample_log_likelihood(model, batch, features, noise)
    assert want.shape == want_ratio.shape == (4, 3, 3)
    sizes = []
    original = SSVAE.log_likelihood

    def counting(self: SSVAE, x: Tensor, lengths: Tensor, z: Tensor, y: Tensor) -> Tensor:
        sizes.append(z.shape[:-1].numel())
        return original(self, x, lengths, z, y)

    monkeypatch.setattr(SSVAE, "log_likelihood", counting)
    found, ratio = sample_log_likelihood(model, batch, features, noise, num_rows=num_rows)
    assert max(sizes) <= num_rows and sum(sizes) == 4 * 3 * 3
    torch.testing.assert_close(found, want, rtol=0, atol=1e-12)
    torch.testing.assert_close(ratio, want_ratio, rtol=0, atol=0)


def test_a_temperature_makes_it_less_sure() -> None:
    model = make_model(3)
    batch = make_batch([-1, -1])
    plain = classify(model, batch)
    warm = classify(model, batch, temperature=2.0)
    want = plain.sqrt() / plain.sqrt().sum(-1, keepdim=True)
    torch.testing.assert_close(warm, want, rtol=0, atol=1e-12)


@pytest.mark.parametrize("num_classes", [1, 3])
def test_rows_sum_to_one_with_no_gradient_and_no_dropout(num_classes: int) -> None:
    model = make_model(num_classes, dropout=0.5)
    batch = make_batch([-1, -1, -1])
    want = classify(model, batch, mode="mix", generator=_generator())
    model.train()
    found = classify(model, batch, mode="mix", generator=_generator())
    assert model.training and not found.requires_grad
    torch.testing.assert_close(found, want, rtol=0, atol=0)
    torch.testing.assert_close(found.sum(-1), torch.ones(3), rtol=0, atol=1e-12)


def test_a_long_sequence_leaves_no_nan() -> None:
    """Log-likelihoods far below what exp can hold."""
    model = make_model(3)
    batch = make_batch([-1], max_length=2000)
    found = classify(model, batch, mode="mix")
    assert bool(torch.isfinite(found).all())


def test_bad_options_are_refused() -> None:
    batch = make_batch([-1])
    with pytest.raises(InputError, match="mode: wanted q, posterior or mix, got bayes"):
        classify(make_model(2), batch, mode="bayes")
    with pytest.raises(InputError, match="num_samples: wanted 0 or more, got -1"):
        classify(make_model(2), batch, num_samples=-1)
    with pytest.raises(InputError, match="temperature: wanted a number above 0, got 0"):
        classify(make_model(2), batch, temperature=0.0)
    with pytest.raises(InputError, match="wanted a model with classes"):
        classify(make_model(0), batch)


@pytest.mark.parametrize("factorisation", FACTORISATIONS)
@pytest.mark.parametrize("mode", ["q", "posterior", "mix"])
def test_without_samples_z_is_at_its_mean(factorisation: str, mode: str) -> None:
    """p(x | y) is p(x | y, z) p(z) / q(z | x, y) at the location of q(z | x, y)."""
    model, batch, weights = make_model(3, factorisation=factorisation), make_batch([-1] * 4), (2, 3)
    features = model.encode(batch.x, batch.lengths)
    y = torch.arange(3).unsqueeze(1)
    loc, scale = (part.expand(3, 4, 2) for part in model.z_posterior(features, y))
    ratio = Normal(0.0, 1.0).log_prob(loc).sum(-1) - Normal(loc, scale).log_prob(loc).sum(-1)
    likelihood = model.log_likelihood(batch.x, batch.lengths, loc, y.expand(3, 4))
    log_p = (likelihood + ratio).t() + model.prior_logits
    log_q = model.y_logits(features, loc[0] if model.y_reads_z else None)
    powers = {"q": (2, 0), "posterior": (0, 3), "mix": weights}[mode]
    want = (powers[0] * log_q + powers[1] * log_p.log_softmax(-1)).softmax(-1)
    found = classify(model, batch, mode=mode, weights=weights)
    torch.testing.assert_close(found, want.detach(), rtol=0, atol=1e-12)
