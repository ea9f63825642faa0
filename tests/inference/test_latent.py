import math

import pytest
import torch
from torch.distributions import Normal

from seqssvae.errors import InputError
from seqssvae.inference.decode import beam, greedy
from seqssvae.inference.latent import (
    encode_z,
    interpolate,
    kl_per_dim,
    mutual_information,
    transfer,
)
from tests.support.factories import FACTORISATIONS, make_batch, make_model, sharpen


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


def test_transfer_keeps_z_and_changes_y() -> None:
    model = sharpen(make_model(3))
    batch = make_batch([-1] * 8)
    loc, _ = encode_z(model, batch)
    written = []
    for to in range(3):
        y = torch.full((8,), to)
        found = transfer(model, batch, to=to, max_length=6)
        assert found == greedy(model.decoder, loc, y, max_length=6)
        wide = transfer(model, batch, to=to, max_length=6, width=4)
        assert wide == beam(model.decoder, loc, y, max_length=6, width=4).sequences
        written.append(found)
    assert written[0] != written[1] and written[1] != written[2]


def test_interpolation_goes_in_equal_steps_from_one_mean_to_the_other() -> None:
    model = sharpen(make_model(3))
    batch = make_batch([-1, -1])
    (first, last), _ = encode_z(model, batch)
    line = torch.stack([first + (last - first) * share for share in (0, 0.25, 0.5, 0.75, 1)])
    for y in (None, 0, 2):
        label = int(model(batch)[0].argmax()) if y is None else y
        want = greedy(model.decoder, line, torch.full((5,), label), max_length=6)
        assert interpolate(model, batch, steps=5, y=y, max_length=6) == want
        assert want[0] == transfer(model, batch, to=label, max_length=6)[0]
        assert want[-1] == transfer(model, batch, to=label, max_length=6)[1]


@pytest.mark.parametrize("factorisation", FACTORISATIONS)
def test_no_label_and_no_z_work_too(factorisation: str) -> None:
    batch = make_batch([-1, -1])
    plain = make_model(0, factorisation=factorisation)
    assert encode_z(plain, batch)[0].shape == (2, 2)
    assert len(interpolate(plain, batch, steps=3, max_length=5)) == 3
    flat = make_model(2, latent_size=0, factorisation=factorisation)
    assert encode_z(flat, batch)[0].shape == (2, 0)
    first, second = transfer(flat, batch, to=1, max_length=5)
    assert first == second


def test_the_mode_comes_back_and_dropout_is_off() -> None:
    model = make_model(2, dropout=0.5)
    batch = make_batch([-1, -1])
    want = encode_z(model, batch)
    paths = interpolate(model, batch, steps=4, max_length=5)
    model.train()
    torch.testing.assert_close(encode_z(model, batch), want, rtol=0, atol=0)
    assert interpolate(model, batch, steps=4, max_length=5) == paths
    assert all(part.training for part in model.modules())


def test_bad_options_are_refused() -> None:
    model, batch = make_model(2), make_batch([-1, -1])
    with pytest.raises(InputError, match="class: wanted 0 to 1, got 2"):
        transfer(model, batch, to=2, max_length=5)
    with pytest.raises(InputError, match="class: wanted none"):
        transfer(make_model(0), batch, to=0, max_length=5)
    with pytest.raises(InputError, match="class: wanted 0 to 1, got -1"):
        interpolate(model, batch, steps=3, y=-1, max_length=5)
    with pytest.raises(InputError, match="steps: wanted at least 2, got 1"):
        interpolate(model, batch, steps=1, max_length=5)
    with pytest.raises(InputError, match="wanted two sequences to interpolate between, got 3"):
        interpolate(model, make_batch([-1] * 3), steps=3, max_length=5)


@pytest.mark.parametrize("factorisation", FACTORISATIONS)
def test_the_kl_of_each_dim_is_the_mean_over_labels(factorisation: str) -> None:
    """By torch's own KL, row by row and label by label."""
    model = make_model(3, factorisation=factorisation)
    batch = make_batch([2, -1, 0])
    found = kl_per_dim(model, batch)
    prior = torch.distributions.Normal(0.0, 1.0)
    for row in range(3):
        alone = batch.select(torch.tensor([row]))
        features = model.encode(alone.x, alone.lengths)
        noise = torch.zeros(1, 2)
        needs_z = factorisation == "y-given-z"
        q = model.y_logits(features, noise if needs_z else None).softmax(-1)[0]
        want = torch.zeros(2)
        for y in range(3):
            posterior = torch.distributions.Normal(*model.z_posterior(features, torch.tensor([y])))
            want = want + q[y] * torch.distributions.kl_divergence(posterior, prior)[0]
        torch.testing.assert_close(found[row], want.detach())
    assert kl_per_dim(make_model(0), make_batch([-1, -1])).shape == (2, 2)


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
