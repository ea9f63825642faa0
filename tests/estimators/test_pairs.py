"""What the estimators over pairs share."""

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from seqssvae.estimators import FusedEnum
from seqssvae.model.likelihood import Pairs
from tests.support.factories import make_batch, make_model, stepwise_log_prob
from tests.support.fixtures import FixNoise


def test_rows_without_weight_have_no_pairs() -> None:
    """Nor has a label that is not possible; the loss is that of the other rows."""
    seen: list[Pairs] = []

    class Recording(FusedEnum):
        def choose(self, log_prob: Tensor, possible: Tensor) -> Pairs:
            seen.append(super().choose(log_prob, possible))
            return seen[-1]

    batch = make_batch([-1, -1, 1], w=torch.tensor([1.0, 0.0, 1.0]))
    model = make_model(3)
    Recording(num_particles=2).loss(model.model, model.guide, batch)
    assert seen[0].example.tolist() == [0, 0, 0, 2] * 2
    assert seen[0].particle.tolist() == [0] * 4 + [1] * 4


def test_a_model_without_classes_has_the_elbo_of_a_vae(fix_noise: FixNoise) -> None:
    """Symbol by symbol, row by row, over two particles."""
    model, batch, noise = make_model(0), make_batch([-1, -1, -1]), torch.randn(2, 2)
    fix_noise(noise)
    want = torch.zeros(())
    for x, length in zip(batch.x, batch.lengths.tolist(), strict=True):
        loc, scale = model.z_posterior(model.encode(x[None, :length], torch.tensor([length])))
        for epsilon in noise:
            z = (loc + scale * epsilon)[0]
            want = want - stepwise_log_prob(model, x[:length].tolist(), z, None) / 2
        want = want + kl_divergence(Normal(loc, scale), Normal(0.0, 1.0)).sum()
    got = FusedEnum(num_particles=2).loss(model.model, model.guide, batch)
    assert got == pytest.approx(float(want.detach()), abs=1e-10)
