"""Several columns of labels: parameters that combinations share, and a site for each column."""

import dataclasses
from typing import Any

import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import Predictive
from torch import Tensor

from seqssvae.estimators import FusedEnum
from seqssvae.model.labels import sample_y
from seqssvae.model.ssvae import SSVAE
from seqssvae.shapes import label_index
from tests.support.factories import count_batch, make_batch, make_model
from tests.support.fixtures import FixNoise

COLUMNS = {"intent": 3, "language": 2}
BATCH = [-1, 4, -1, 0]


def make(**changes: Any) -> SSVAE:
    return make_model(6, label_columns=COLUMNS, **changes)


def flat_twin(model: SSVAE) -> SSVAE:
    """A model of one column of 6 classes, of which each has the sum of its labels' weights."""
    twin, index = make_model(6, decoder_ngrams=0), label_index(tuple(COLUMNS.values()))
    assert index is not None
    twin.load_state_dict(
        {
            name: expanded(value, index, twin.state_dict()[name].shape)
            for name, value in model.state_dict().items()
        }
    )
    return twin


def expanded(value: Tensor, index: Tensor, shape: torch.Size) -> Tensor:
    """A weight whose dim of 5 labels, or part of a dim, is one of 6 classes."""
    if value.shape == shape:
        return value
    if value.dim() == 2 and value.shape[1] not in (5, shape[1]):  # embedding, one-hot vectors, z
        first, labels, last = value.split([3, 5, value.shape[1] - 8], 1)
        return torch.cat([first, labels[:, index].sum(-1), last], 1)
    dim = [size == wanted for size, wanted in zip(value.shape, shape, strict=True)].index(False)
    moved = value.movedim(dim, -1)[..., index].sum(-1)
    return moved.movedim(-1, dim)


def test_it_is_a_model_of_all_combinations_that_shares_parameters(fix_noise: FixNoise) -> None:
    """Value, and gradient by finite differences of a shared weight."""
    model = make(decoder_ngrams=0)
    twin, batch, noise = flat_twin(model), make_batch(BATCH), torch.randn(2, 2)
    assert sum(p.numel() for p in model.parameters()) < sum(p.numel() for p in twin.parameters())
    losses = []
    for one in (model, twin):
        fix_noise(noise)
        elbo = FusedEnum(num_particles=2)
        losses.append(elbo.differentiable_loss(one.model, one.guide, batch))
    torch.testing.assert_close(*losses, rtol=0, atol=1e-10)
    losses[0].backward()
    assert model.decoder.class_bias is not None
    weights: list[Any] = [model.decoder.class_bias.weight]
    weights.append(model.get_parameter("decoder.rnn.weight_ih_l0"))
    for weight in weights:
        assert weight.grad is not None
        place = (1, 4)  # a label's bias of a symbol; the input of a label
        values = []
        for step in (1e-5, -2e-5):
            with torch.no_grad():
                weight[place] += step
            fix_noise(noise)
            values.append(FusedEnum(num_particles=2).loss(model.model, model.guide, batch))
        with torch.no_grad():
            weight[place] += 1e-5
        slope = torch.tensor((values[0] - values[1]) / 2e-5)
        torch.testing.assert_close(weight.grad[place], slope, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("factorisation", ["z-given-y", "y-given-z"])
def test_each_column_has_a_site(factorisation: str) -> None:
    model, batch = make(factorisation=factorisation), make_batch([-1, -1])
    for program in (model.model, model.guide):
        nodes: Any = poutine.trace(program).get_trace(batch).nodes
        assert "y" not in nodes
        sizes = {name: nodes[f"y_{name}"]["fn"].param_shape[-1] for name in COLUMNS}
        assert sizes == COLUMNS
    observed: Any = poutine.trace(model.model).get_trace(make_batch([5, 2])).nodes
    assert observed["y_intent"]["value"].tolist() == [2, 1]
    assert observed["y_language"]["value"].tolist() == [1, 0]
    assert observed["y_intent"]["is_observed"]
    guide = poutine.trace(model.guide).get_trace(make_batch([5, 2])).nodes
    assert not any(name.startswith("y_") for name in guide)


def test_sites_are_sampled_from_the_joint_distribution() -> None:
    """Also one that is no product; in a program of one's own, with a column that is known."""
    pyro.set_rng_seed(0)
    log_prob = torch.tensor([[4.0, 1.0, 1.0, 2.0, 1.0, 1.0], [1.0] * 6]).log().log_softmax(-1)

    def program() -> Tensor:
        with pyro.plate("rows", 2):
            return sample_y(log_prob, COLUMNS)

    drawn = Predictive(program, num_samples=20_000, parallel=False, posterior_samples=None)()
    y = drawn["y_intent"] * 2 + drawn["y_language"]
    shares = torch.stack([(y == k).double().mean(0) for k in range(6)], -1)
    torch.testing.assert_close(shares, log_prob.exp(), rtol=0, atol=0.015)
    known = poutine.condition(program, data={"y_intent": torch.tensor([1, 2])})
    assert (known() // 2).tolist() == [1, 2]


def test_rows_that_are_counted_and_partly_labelled_have_finite_gradients() -> None:
    model = make()
    possible = torch.tensor([[1, 1, 0, 0, 0, 0], [0, 1, 0, 1, 0, 1], [1] * 6]).bool()
    batch = dataclasses.replace(count_batch(model, make_batch([-1] * 3))[0], candidates=possible)
    loss = FusedEnum().differentiable_loss(model.model, model.guide, batch)
    loss.backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())
    q = model(batch).unflatten(1, (3, 2))
    torch.testing.assert_close(q, q.sum(2, keepdim=True) * q.sum(1, keepdim=True))
