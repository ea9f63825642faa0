"""The prior of z: its KL against torch's, in closed form and by samples."""

import torch
from torch.distributions import Normal, kl_divergence

from seqssvae.model.prior import NormalPrior


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
