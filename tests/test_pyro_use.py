"""What a Pyro user does with the model: draws it, samples from it, changes it."""

import shutil
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, JitTraceEnum_ELBO, Predictive, TraceEnum_ELBO, config_enumerate
from pyro.optim import ClippedAdam

from seqssvae.data.batches import Batch
from seqssvae.data.vocabulary import EOS, PAD
from seqssvae.model.ssvae import SSVAE
from tests.support.factories import make_batch, make_model

ELBO = TraceEnum_ELBO(max_plate_nesting=1)


@pytest.mark.parametrize("labels", [[0, 1, 2], [0, -1, 1]])
def test_the_model_is_drawn_with_its_edges(labels: list[int]) -> None:
    model, batch = make_model(), make_batch(labels)
    lines = pyro.render_model(model.model, model_args=(batch,)).source.split("\n")
    edges = {line.strip() for line in lines if "->" in line}
    assert edges == {"y -> x", "z -> x"}
    assert any("cluster_batch" in line for line in lines)
    guide = pyro.render_model(model.guide, model_args=(make_batch([-1, -1]),)).source
    assert "y -> z" in guide


@pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz's program draws the file")
def test_the_drawing_is_a_file(tmp_path: Any) -> None:
    graph = pyro.render_model(make_model().model, model_args=(make_batch([-1, -1]),))
    assert "<svg" in graph.pipe(format="svg").decode()


@pytest.mark.parametrize("parallel", [False, True])
def test_predictive_generates(parallel: bool) -> None:
    """Rows end with EOS or at their example's length, and y is drawn from p(y)."""
    prior = torch.tensor([0.7, 0.2, 0.1])
    model, batch = make_model(prior=prior), make_batch([-1] * 6)
    free = poutine.uncondition(model.model)
    samples = Predictive(free, num_samples=60, parallel=parallel)(batch)
    x, size = samples["x"], int(batch.lengths.max())
    assert x.shape == (60, 6, size) and samples["z"].shape == (60, 6, 2)
    assert (x[..., 0] != PAD).all()
    has_ended = (x == EOS).cumsum(-1)
    assert (x[..., 1:][has_ended[..., :-1] > 0] == PAD).all()
    over = torch.arange(size) >= batch.lengths.unsqueeze(1)
    assert (x[:, over] == PAD).all()
    shares = torch.stack([(samples["y"] == k).double().mean() for k in range(3)])
    error = (prior * (1 - prior) / 360).sqrt()
    assert ((shares - prior).abs() < 4 * error).all()
    ones = torch.ones(7, 6, dtype=torch.long)
    given = Predictive(free, posterior_samples={"y": ones}, parallel=parallel)(batch)
    assert given["x"].shape == (7, 6, size) and "y" not in given


def by_hand(model: SSVAE, scale: float) -> Any:
    """The model as a user writes it, with a prior of z of some scale."""

    def program(batch: Batch) -> None:
        with pyro.plate("batch", batch.num_rows, dim=-1):
            y = pyro.sample("y", dist.Categorical(logits=model.prior_logits))
            z = pyro.sample("z", dist.Normal(torch.zeros(2), scale).to_event(1))
            pyro.sample("x", model.likelihood(batch.lengths, z, y), obs=batch.x)

    return program


def loss_of(program: Any, guide: Any, batch: Batch, elbo: Any = ELBO) -> float:
    pyro.set_rng_seed(3)
    return float(elbo.loss(program, config_enumerate(guide), batch))


def test_a_prior_of_the_user() -> None:
    """The same prior gives the same loss, another the difference of their log-densities."""
    model, batch = make_model(factorisation="independent"), make_batch([-1, -1, -1, -1])
    own = loss_of(model.model, model.guide, batch)
    assert loss_of(by_hand(model, 1.0), model.guide, batch) == pytest.approx(own, abs=1e-9)
    pyro.set_rng_seed(3)
    guide = poutine.trace(poutine.enum(config_enumerate(model.guide), first_available_dim=-2))
    z = guide.get_trace(batch).nodes["z"]["value"].detach()
    difference = dist.Normal(0, 1).log_prob(z).sum() - dist.Normal(0, 2).log_prob(z).sum()
    wider = loss_of(by_hand(model, 2.0), model.guide, batch)
    assert wider - own == pytest.approx(float(difference), abs=1e-9)
    assert abs(wider - own) > 0.1


def test_a_scale_of_the_user() -> None:
    model, batch = make_model(), make_batch([-1, 0, -1])
    own = loss_of(model.model, model.guide, batch)
    scaled = [poutine.scale(program, 7.0) for program in (model.model, model.guide)]
    assert loss_of(scaled[0], scaled[1], batch) == pytest.approx(7 * own)


def test_particles_in_a_plate_agree_with_those_one_by_one() -> None:
    """In the mean: both average the same bound over noise."""
    model, batch = make_model(), make_batch([-1, 0, -1])
    guide = config_enumerate(model.guide)
    single = torch.tensor([float(ELBO.loss(model.model, guide, batch)) for _ in range(40)])
    plate = TraceEnum_ELBO(max_plate_nesting=1, num_particles=400, vectorize_particles=True)
    error = single.std() * (1 / 40 + 1 / 400) ** 0.5
    assert abs(single.mean() - loss_of(model.model, model.guide, batch, plate)) < 4 * error


def test_a_compiled_elbo_is_refused_in_plain_words() -> None:
    """It takes tensors alone; Pyro's own error is a KeyError of a parameter.

    Its `evaluate_loss` compiles nothing, and has the value of the plain ELBO.
    """
    model, batch = make_model(), make_batch([-1, -1])
    elbo, guide = JitTraceEnum_ELBO(max_plate_nesting=1), config_enumerate(model.guide)
    svi = SVI(model.model, guide, ClippedAdam({}), loss=elbo)
    with pytest.raises(NotImplementedError, match="wanted an ELBO that is not compiled"):
        svi.step(batch)
    values = []
    for one in (elbo, ELBO):
        torch.manual_seed(0)
        values.append(SVI(model.model, guide, ClippedAdam({}), loss=one).evaluate_loss(batch))
    assert values[0] == values[1] > 0
