"""The average of the weights against the sum that defines it, and where it is used."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from seqssvae.compare.parts import fit_ssvae
from seqssvae.compare.same_encoder import fit_pretrained, fit_supervised
from seqssvae.model.build import build
from seqssvae.overrides import override
from seqssvae.training.averaging import WHOLE, WeightAverage
from seqssvae.training.step import Stepper
from seqssvae.training.trainer import Trainer
from tests.support.training import config, prepared


@pytest.mark.parametrize("num_steps", [1, 5, 1000])
def test_the_average_is_the_weighted_sum(num_steps: int) -> None:
    """Each step's share shrinks by the shares of the later ones; the start's is what is left."""
    values = np.random.default_rng(0).standard_normal((21, 3))
    weight = nn.Parameter(torch.from_numpy(values[0].copy()))
    average = WeightAverage([weight], num_steps)
    for value in values[1:]:
        weight.data.copy_(torch.from_numpy(value))
        average.update()
    shares = [1.0] + [1 / min(num_steps, 1 + WHOLE * step) for step in range(1, 21)]
    left = [share * np.prod([1 - s for s in shares[i + 1 :]]) for i, share in enumerate(shares)]
    assert sum(left) == pytest.approx(1)
    with average.applied():
        np.testing.assert_allclose(weight.detach().numpy(), left @ values, rtol=1e-12)
    np.testing.assert_array_equal(weight.detach().numpy(), values[-1])


def test_a_trainer_evaluates_and_keeps_the_average(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the weights after plain steps, which go on from weights that are not averaged."""
    data, steps = prepared(), 4
    settings = config(
        training__average_steps=3,
        training__num_steps=steps,
        training__evaluate_every=steps,
        training__early_stopping="elbo",
        model__decoder_ngrams=0,
    )
    model = build(settings, data)
    stepper = Stepper(settings, model, data)
    mean = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    for step in range(steps):
        stepper.step(step)
        for name, weight in model.named_parameters():
            mean[name] += (weight.detach() - mean[name]) / min(3, 1 + WHOLE * (step + 1))
    plain = Trainer._measure

    def measure(self: Trainer) -> dict[str, Any]:
        return plain(self) | {"elbo": float(self.progress.step)}  # the last one is the best

    monkeypatch.setattr(Trainer, "_measure", measure)
    trainer = Trainer(settings, build(settings, data), data)
    trainer.train()
    for name, weight in trainer.model.named_parameters():
        torch.testing.assert_close(weight, mean[name], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("fit", [fit_supervised, fit_pretrained, fit_ssvae])
def test_other_arms_of_a_comparison_average_too(fit: Callable[..., Any]) -> None:
    settings = config(training__learning_rate=0.1)
    one, other = (override(settings, {"training.average_steps": number}) for number in (0, 50))
    first, second = (fit(each, prepared()) for each in (one, other))
    models = [part[0] if isinstance(part, tuple) else part for part in (first, second)]
    weights = [model.encoder_y.rnn.weight_hh_l0 for model in models]
    assert not torch.equal(*weights)
