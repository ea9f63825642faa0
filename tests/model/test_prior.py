"""The prior of z: its KL against torch's, in closed form and by samples."""

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from seqssvae.model.prior import NormalPrior
from tests.support.factories import make_model


def test_the_kl_of_normals_is_torchs() -> None:
    loc, scale = torch.randn(4, 3), torch.rand(4, 3) + 0.1
    want = kl_divergence(Normal(loc, scale), Normal(0.0, 1.0))
    torch.testing.assert_close(NormalPrior(3).kl(loc, scale), want)
    torch.testing.assert_close(NormalPrior(3).kl(loc, scale, free_bits=0.4), want.clamp(min=0.4))


def test_the_sampled_kl_has_the_mean_of_the_analytic_one() -> None:
    loc, scale = torch.tensor([0.5, -1.0]), torch.tensor([0.3, 1.5])
    z = loc + scale * torch.randn(100_000, 2)
    found = NormalPrior(2).sampled_kl(z, loc, scale).sum(-1)
    error = found.std() / len(found) ** 0.5
    assert (found.mean() - NormalPrior(2).kl(loc, scale).sum()).abs() < 4 * error


def test_priors_of_classes_begin_as_the_standard_normal_and_give_torchs_kl() -> None:
    loc, scale, y = torch.randn(4, 2), torch.rand(4, 2) + 0.1, torch.tensor([2, 0, 1, 2])
    fresh = NormalPrior(2, 3)
    assert fresh.reads_y
    torch.testing.assert_close(fresh.kl(loc, scale, y), NormalPrior(2).kl(loc, scale))
    prior = make_model(3, z_prior="by-class").z_prior
    for row, label in enumerate(y.tolist()):
        own = Normal(*prior(torch.tensor(label), loc))
        want = kl_divergence(Normal(loc[row], scale[row]), own)
        torch.testing.assert_close(prior.kl(loc, scale, y)[row], want)
    noise = torch.randn(4, 2)
    z = prior.place(noise, y)
    torch.testing.assert_close(prior.standardise(z, scale, y)[0], noise)
    with pytest.raises(ValueError, match="wanted y, got None"):
        prior.place(noise)


def test_a_model_without_classes_has_the_standard_normal() -> None:
    assert not make_model(0, z_prior="by-class").z_prior.reads_y
    assert not list(make_model(3).z_prior.parameters())
