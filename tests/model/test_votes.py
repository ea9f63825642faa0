from typing import Any

import pyro
import torch
from pyro import poutine

from seqssvae.estimators import FusedEnum, TraceEnum
from seqssvae.model.votes import Voters, log_evidence, observe_evidence
from tests.support.factories import make_batch, make_model


def test_a_soft_label_of_one_label_is_that_label_and_a_uniform_one_is_the_set() -> None:
    """Also one over all labels, which says nothing; value, to the bit."""
    model = make_model()
    possible = torch.tensor([[0, 1, 0], [1, 0, 1], [1, 1, 1]]).bool()
    soft = make_batch([-1] * 3, candidates=possible, evidence=torch.zeros(3, 3))
    for batch in (soft, soft.select(torch.tensor([1, 2]))):
        torch.manual_seed(0)
        got = FusedEnum().loss(model.model, model.guide, batch)
        torch.manual_seed(0)
        plain = batch.select(torch.arange(batch.num_rows))
        plain.__dict__["evidence"] = None
        assert got == FusedEnum().loss(model.model, model.guide, plain)


def test_evidence_is_0_where_nobody_votes() -> None:
    votes = Voters(["A", "B"], 3)
    votes.share.fill_(0.3)
    got = votes(torch.tensor([[-1, -1], [1, -1]]))
    assert got[0].tolist() == [0, 0, 0]
    assert int(got[1].argmax()) == 1
    torch.testing.assert_close(votes.matrices()[0, 0], torch.tensor([0.7, 0.15, 0.15]))
    assert log_evidence(votes, make_batch([-1])) is None


def test_sites_are_those_of_the_sources() -> None:
    """A vote has the probability in the label's row of its source's matrix; a missing one none."""
    model = make_model(voters=["A b", "C"])
    assert model.votes is not None
    batch = make_batch([1, -1], votes=torch.tensor([[0, -1], [2, 2]]))
    known = poutine.condition(model.model, {"y": torch.tensor([1, 0])})
    nodes: Any = poutine.trace(known).get_trace(batch).nodes
    site, other = nodes["vote_A b"], nodes["vote_C"]
    assert site["is_observed"] and site["value"].tolist() == [0, 2]
    want = model.votes.matrices()[0]
    torch.testing.assert_close(site["fn"].log_prob(site["value"]).exp()[0], want[1, 0])
    assert other["fn"].log_prob(other["value"]).tolist()[0] == 0.0


def test_a_source_of_one_label_stays_as_it_is() -> None:
    """It has no gradient, by the sum over labels and by Pyro's sites; the other one has."""
    model = make_model(voters=["A", "B"])
    assert model.votes is not None
    matrices = model.votes.matrices().detach().numpy()
    model.votes.assign(matrices, [2, 2], [1, -1])
    batch = make_batch([-1, 0], votes=torch.tensor([[1, 0], [1, 2]]))
    for estimator in (FusedEnum(), TraceEnum()):
        model.zero_grad()
        estimator.loss_and_grads(model.model, model.guide, batch)
        gradient = model.votes.logits.grad
        assert gradient is not None
        assert gradient[0].abs().max() == 0 and gradient[1].abs().max() > 0


def test_svi_learns_how_good_the_sources_are() -> None:
    """Of gold rows with votes: with the Dirichlet prior the mean of counts and pseudo-counts."""
    pyro.set_rng_seed(0)
    voters = Voters(["A"], 2)
    y = torch.tensor([0] * 6 + [1] * 4)
    votes = torch.tensor([0, 0, 0, 0, 1, -1, 1, 1, 1, 1]).unsqueeze(1)
    batch = make_batch(y.tolist(), votes=votes)
    voters.assign(torch.full((1, 2, 2), 0.5).numpy(), [9], [-1])
    optimiser = torch.optim.LBFGS(voters.parameters(), max_iter=100, tolerance_grad=1e-12)

    def program() -> None:
        with pyro.plate("rows", batch.num_rows):
            observe_evidence(voters, batch, y)

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        value = -torch.as_tensor(poutine.trace(program).get_trace().log_prob_sum())
        value.backward()
        return value

    optimiser.step(loss)
    want = torch.tensor([[5.0, 2.0], [1.0, 5.0]])
    torch.testing.assert_close(
        voters.matrices()[0], want / want.sum(1, keepdim=True), rtol=0, atol=1e-5
    )
