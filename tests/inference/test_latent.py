import math

import pytest
import torch
from torch.distributions import Normal

from seqssvae.inference.latent import encode_z, kl_per_dim, mutual_information, relative_z
from tests.support.factories import FACTORISATIONS, make_batch, make_model, prior_of


@pytest.mark.parametrize("factorisation", FACTORISATIONS)
def test_z_is_read_at_the_likeliest_label_or_at_the_given_one(factorisation: str) -> None:
    """One row at a time, with the model's own parts."""
    model = make_model(3, factorisation=factorisation)
    batch = make_batch([2, -1, 0, 1])
    y = torch.tensor([2, 0, 1, 0])
    found, given = encode_z(model, batch), encode_z(model, batch, y)
    assert not found[0].requires_grad and found[0].shape == (4, 2)
    for row in range(4):
        alone = batch.select(torch.tensor([row]))
        features = model.encode(alone.x, alone.lengths)
        likeliest = model(alone).argmax(-1)
        for part, want in zip(found, model.z_posterior(features, likeliest), strict=True):
            torch.testing.assert_close(part[row], want[0], rtol=0, atol=1e-12)
        for part, want in zip(given, model.z_posterior(features, y[row : row + 1]), strict=True):
            torch.testing.assert_close(part[row], want[0], rtol=0, atol=1e-12)


def test_the_mode_comes_back_and_dropout_is_off() -> None:
    model = make_model(2, dropout=0.5)
    batch = make_batch([-1, -1])
    want = encode_z(model, batch)
    model.train()
    torch.testing.assert_close(encode_z(model, batch), want, rtol=0, atol=0)
    assert all(part.training for part in model.modules())


@pytest.mark.parametrize("factorisation", FACTORISATIONS)
def test_no_label_and_no_z_work_too(factorisation: str) -> None:
    plain = make_model(0, factorisation=factorisation)
    assert encode_z(plain, make_batch([-1, -1]))[0].shape == (2, 2)
    flat = make_model(2, latent_size=0, factorisation=factorisation)
    assert encode_z(flat, make_batch([-1, -1]))[0].shape == (2, 0)


@pytest.mark.parametrize(
    ("factorisation", "z_prior"),
    [*((name, "normal") for name in FACTORISATIONS)]
    + [(name, "by-class") for name in FACTORISATIONS if name != "y-given-z"],
)
def test_the_kl_of_each_dim_is_the_mean_over_labels(factorisation: str, z_prior: str) -> None:
    """By torch's own KL, row by row and label by label."""
    model = make_model(3, factorisation=factorisation, z_prior=z_prior)
    batch = make_batch([2, -1, 0])
    found = kl_per_dim(model, batch)
    for row in range(3):
        alone = batch.select(torch.tensor([row]))
        features = model.encode(alone.x, alone.lengths)
        noise = torch.zeros(1, 2)
        needs_z = factorisation == "y-given-z"
        q = model.y_logits(features, noise if needs_z else None).softmax(-1)[0]
        want = torch.zeros(2)
        for y in range(3):
            posterior = torch.distributions.Normal(*model.z_posterior(features, torch.tensor([y])))
            want = want + q[y] * torch.distributions.kl_divergence(posterior, prior_of(model, y))[0]
        torch.testing.assert_close(found[row], want.detach())
    assert kl_per_dim(make_model(0), make_batch([-1, -1])).shape == (2, 2)


def test_z_is_relative_to_the_prior_of_the_likeliest_label() -> None:
    """Of N(0, I) it is z; under "y-given-z" the KL is one of samples, never far below 0."""
    for factorisation in FACTORISATIONS:
        model = make_model(3, factorisation=factorisation, z_prior="by-class")
        batch = make_batch([-1, 0, 2, -1])
        found, y = relative_z(model, batch)
        assert y is not None and torch.equal(y, model(batch).argmax(-1))
        loc, _ = encode_z(model, batch, y)
        for row, label in enumerate(y.tolist()):
            prior = prior_of(model, label)
            torch.testing.assert_close(found[row], ((loc[row] - prior.loc) / prior.scale).detach())
        assert (found - loc).abs().min() > 1e-3
        torch.testing.assert_close(model.z_prior.place(found, y).detach(), loc)
        assert (kl_per_dim(model, batch).sum(-1) > -0.5).all()
    model = make_model(3)
    found, y = relative_z(model, batch)
    torch.testing.assert_close(found, encode_z(model, batch, y)[0], rtol=0, atol=0)


def test_information_of_posteriors_far_apart_is_log_n() -> None:
    """And with few rows in the aggregate no more is seen than there are rows."""
    num_rows = 40
    metrics = mutual_information(
        log_weight=torch.zeros(num_rows, 1),
        loc=torch.arange(float(num_rows)).reshape(-1, 1, 1) * 10,
        scale=torch.full((num_rows, 1, 1), math.exp(-8)),
        uniform=torch.rand(num_rows),
        noise=torch.randn(num_rows, 1),
    )
    assert metrics == pytest.approx(math.log(num_rows), abs=1e-6)


def test_information_of_two_overlapping_posteriors() -> None:
    """By quadrature: half of the rows at -1, half at 1."""
    num_rows = 4000
    loc = torch.tensor([-1.0, 1.0]).repeat(num_rows // 2)
    metrics = mutual_information(
        log_weight=torch.zeros(num_rows, 1),
        loc=loc.reshape(-1, 1, 1),
        scale=torch.ones(num_rows, 1, 1),
        uniform=torch.rand(num_rows),
        noise=torch.randn(num_rows, 1),
    )
    grid = torch.linspace(-10, 10, 4001)
    left, right = Normal(-1.0, 1.0).log_prob(grid), Normal(1.0, 1.0).log_prob(grid)
    both = torch.logaddexp(left, right) - math.log(2)
    want = float((left.exp() * (left - both)).sum() * (20 / 4000))
    assert metrics == pytest.approx(want, abs=0.03)
