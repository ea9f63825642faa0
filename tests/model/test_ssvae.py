"""The Pyro programs, and the mistakes that such systems make silently."""

import copy
import dataclasses
import pickle
from typing import Any, cast

import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import ELBO, SVI, Trace_ELBO, TraceEnum_ELBO, config_enumerate
from pyro.optim import ClippedAdam

from seqssvae.data.batches import Batch, collate
from seqssvae.data.vocabulary import EOS
from seqssvae.estimators import FusedEnum, SumAndSample, TraceEnum
from seqssvae.model.labels import auxiliary_log_prob, restrict
from seqssvae.model.ssvae import SSVAE
from tests.support.factories import FACTORISATIONS, brute_force_loss, make_batch, make_model
from tests.support.fixtures import FixNoise
from tests.support.rows import make_rows


@pytest.mark.parametrize(("num_classes", "labels"), [(3, [-1, 0]), (0, [-1, -1])])
def test_sites_are_x_y_and_z_or_without_classes_x_and_z(
    num_classes: int, labels: list[int]
) -> None:
    model, batch = make_model(num_classes), make_batch(labels)
    guide = poutine.trace(model.guide).get_trace(batch)
    trace = poutine.trace(poutine.replay(model.model, guide)).get_trace(batch)
    names = {name for name, site in trace.nodes.items() if site["type"] == "sample"}
    assert names == {"batch", "x", "z"} | ({"y"} if num_classes else set())
    assert ("y" in guide.nodes) == ("y" in names)


def test_a_plain_vae_has_no_networks_of_y() -> None:
    model = make_model(0)
    assert not [name for name, _ in model.named_parameters() if "_y" in name.split(".")[-2:][0]]


def test_a_labelled_batch_is_not_enumerated() -> None:
    """One decoder row for each example, whatever K."""
    model = make_model(3)
    batch = make_batch([0, 2, 1])
    guide = config_enumerate(model.guide, "parallel")
    trace = poutine.trace(guide).get_trace(batch)
    assert "y" not in trace.nodes
    assert trace.nodes["z"]["value"].shape == (3, 2)


@pytest.mark.parametrize("labels", [[-1, -1, -1, -1], [0, 1, 2, 1], [0, -1, -1, 2]])
def test_pyros_own_estimator_needs_nothing_of_ours(labels: list[int], fix_noise: FixNoise) -> None:
    """`TraceEnum_ELBO` over the whole batch, mixed or not, in one piece, with the sampled KL."""
    model = make_model(prior=torch.tensor([0.5, 0.25, 0.25]))
    batch = make_batch(labels, w=torch.tensor([1.0, 0.5, 2.0, 0.0]))
    noise = torch.randn(1, 2)
    fix_noise(noise)
    elbo = TraceEnum_ELBO(max_plate_nesting=1, strict_enumeration_warning=False)
    guide = config_enumerate(model.guide, "parallel", expand=True)
    got = elbo.differentiable_loss(model.model, guide, batch, 0.3)
    want = brute_force_loss(model, batch, noise, kl="sampled", kl_weight=0.3)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-10)


PYROS_OWN = TraceEnum_ELBO(max_plate_nesting=1)


@pytest.mark.parametrize("elbo", [FusedEnum(), TraceEnum(), SumAndSample(), PYROS_OWN])
def test_svi_trains_every_parameter_and_leaves_the_store_empty(elbo: ELBO) -> None:
    model = make_model().train()
    guide = config_enumerate(model.guide) if elbo is PYROS_OWN else model.guide
    before = {name: value.clone() for name, value in model.named_parameters()}
    svi = SVI(model.model, guide, ClippedAdam({"lr": 0.01}), loss=elbo)
    svi.step(make_batch([0, -1]))
    same = [name for name, value in model.named_parameters() if torch.equal(value, before[name])]
    assert same == []
    assert not list(pyro.get_param_store().keys())
    again = pickle.loads(pickle.dumps(copy.deepcopy(model)))
    for mine, theirs in zip(model.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_two_models_share_nothing() -> None:
    first, second = make_model(), make_model()
    batch = make_batch([0, -1])
    losses = [FusedEnum().loss(m.model, m.guide, batch) for m in (first, second, first)]
    assert losses[0] != losses[1]


@pytest.mark.parametrize("factorisation", FACTORISATIONS)
def test_each_row_keeps_its_loss_when_the_batch_is_permuted(
    factorisation: str, fix_noise: FixNoise
) -> None:
    """Labels mixed with examples would show here; B = K."""
    model = make_model(3, factorisation=factorisation)
    batch = make_batch([-1, -1, -1])
    fix_noise(torch.randn(1, 2))

    def losses(rows: Batch) -> torch.Tensor:
        """Each row's loss, by weighing the others with 0."""
        each = []
        for row in range(rows.num_rows):
            w = torch.zeros(rows.num_rows)
            w[row] = 1.0
            weighted = dataclasses.replace(rows, w=w, alpha=torch.zeros(rows.num_rows))
            each.append(TraceEnum(expand=True).loss(model.model, model.guide, weighted))
        return torch.tensor(each)

    order = torch.tensor([2, 0, 1])
    plain = losses(batch)
    assert plain.std() > 1e-3
    torch.testing.assert_close(losses(batch.select(order)), plain[order], rtol=0, atol=1e-10)
    alone = [
        FusedEnum().loss(model.model, model.guide, batch.select(torch.tensor([b])))
        for b in range(3)
    ]
    torch.testing.assert_close(torch.tensor(alone), plain, rtol=0, atol=1e-10)


def test_padding_and_neighbours_change_no_feature() -> None:
    """A bidirectional state viewed as `(B, -1)` would mix rows."""
    for pooling in ("last", "mean", "max"):
        model = make_model(pooling=pooling, encoder_layers=2)
        batch = make_batch([-1, -1, -1], extra_padding=3)
        wide = model.encode(batch.x.masked_fill(batch.x == 0, 5), batch.lengths)
        for row in range(3):
            length = int(batch.lengths[row])
            alone = model.encode(batch.x[row : row + 1, :length], batch.lengths[row : row + 1])
            torch.testing.assert_close(wide.y[row], alone.y[0], rtol=0, atol=1e-12)
            torch.testing.assert_close(wide.z[row], alone.z[0], rtol=0, atol=1e-12)


def test_ngrams_are_read_past_what_the_recurrent_layers_read() -> None:
    """As with a longer `max_length`; the recurrent layers read what the shorter one gives them."""
    model = make_model()
    assert model.ngrams is not None
    torch.nn.init.normal_(model.ngrams.weight)
    sequences = [[4, 5, 6, 4, 4, 5, EOS], [6, EOS], [5, 5, 4, 6, EOS]]
    longest, cut, both = (
        collate(make_rows(rows, max_length=limit), range(3), num_classes=3)
        for rows, limit in (
            (sequences, None), ([row[:3] for row in sequences], None), (sequences, 3)
        )
    )  # fmt: skip
    whole, short, found = (
        model.encode(batch.x, batch.lengths, batch.whole) for batch in (longest, cut, both)
    )
    assert found.ngrams is not None and whole.ngrams is not None and short.ngrams is not None
    torch.testing.assert_close(found.ngrams, whole.ngrams)
    assert (found.ngrams - short.ngrams).abs().amax(1).gt(1e-3).tolist() == [True, False, True]
    torch.testing.assert_close(found.y, short.y)
    torch.testing.assert_close(found.z, short.z)
    assert (found.y - whole.y)[0].abs().max() > 1e-3
    assert both.whole is not None
    both.whole[0][0, 5] = 10**6
    with pytest.raises(ValueError, match="symbol ids: wanted 0 to"):
        model.encode(both.x, both.lengths, both.whole)


def test_the_observed_label_matters() -> None:
    """In L(x, y) itself: the auxiliary term is off."""
    model = make_model()
    batch = make_batch([0, 0], alpha=torch.zeros(2))
    losses = [
        TraceEnum().loss(model.model, model.guide, dataclasses.replace(batch, y=batch.y + y))
        for y in range(2)
    ]
    assert abs(losses[0] - losses[1]) > 1e-3


def test_alpha_is_per_labelled_example() -> None:
    """The auxiliary term does not change with the batch's size or with w."""
    model = make_model()
    batch = make_batch([0, -1, 2, -1])
    log_q = model.y_logits(model.encode(batch.x, batch.lengths))
    terms = auxiliary_log_prob(log_q, batch)
    assert terms[1] == 0 and terms[3] == 0
    torch.testing.assert_close(terms[0], log_q[0, 0])
    weighted = dataclasses.replace(batch, w=torch.full((4,), 0.01), alpha=torch.full((4,), 5.0))
    torch.testing.assert_close(auxiliary_log_prob(log_q, weighted), 5 * terms)


def test_auxiliary_term_gives_no_gradient_without_labels() -> None:
    """With w = 0 nothing is left, so that no optimiser has anything to move by momentum."""
    model = make_model()
    batch = make_batch([-1, -1], w=torch.zeros(2))
    loss = FusedEnum().differentiable_loss(model.model, model.guide, batch)
    gradients = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
    assert float(loss.detach()) == 0
    assert all(gradient is None or not gradient.any() for gradient in gradients)


def test_kl_weight_scales_model_and_guide_alike(fix_noise: FixNoise) -> None:
    """The loss is linear in the weight, its slope the KL; a weight in one place would bend both."""
    model = make_model()
    batch = make_batch([0, 1])
    fix_noise(torch.randn(1, 2))
    losses = [Trace_ELBO().loss(model.model, model.guide, batch, weight) for weight in (0, 0.5, 1)]
    assert abs((losses[0] + losses[2]) / 2 - losses[1]) < 1e-10
    site: Any = poutine.trace(model.guide).get_trace(batch).nodes["z"]
    q, z = site["fn"].base_dist, site["value"]
    kl = q.log_prob(z).sum() - torch.distributions.Normal(0.0, 1.0).log_prob(z).sum()
    assert abs(losses[2] - losses[0] - float(kl.detach())) < 1e-10


def test_restriction_to_possible_labels() -> None:
    log_q = torch.randn(3, 4).log_softmax(-1)
    candidates = torch.tensor([[1, 1, 1, 1], [0, 1, 0, 0], [1, 0, 1, 0]]).bool()
    batch = make_batch([-1, 1, -1], candidates=candidates)
    q = restrict(log_q, batch).exp()
    torch.testing.assert_close(q.sum(-1), torch.ones(3))
    torch.testing.assert_close(q[0], log_q[0].exp())
    assert q[1].tolist() == [0, 1, 0, 0]
    torch.testing.assert_close(q[2, 0] / q[2, 2], (log_q[2, 0] - log_q[2, 2]).exp())


def test_location_and_scale_have_heads_of_their_own() -> None:
    model = make_model()
    batch = make_batch([0, 1])
    assert model.head_z.loc is not None and model.head_z.log_scale is not None
    torch.nn.init.constant_(model.head_z.log_scale.bias, 1.0)
    loc, scale = model.z_posterior(model.encode(batch.x, batch.lengths), batch.y)
    assert (scale > 1.001).any()
    torch.nn.init.constant_(model.head_z.log_scale.bias, -3.0)
    loc, scale = model.z_posterior(model.encode(batch.x, batch.lengths), batch.y)
    assert (scale < 0.5).any()  # not a softplus that stops at a half or at 1
    assert model.head_z.loc is not model.head_z.log_scale
    (gradient,) = torch.autograd.grad(scale.sum(), [model.head_z.loc.weight], allow_unused=True)
    assert gradient is None


def test_each_example_has_noise_of_its_own() -> None:
    model = make_model()
    batch = make_batch([0, 0])
    same = batch.select(torch.tensor([0, 0]))
    z, again = (
        cast(Any, poutine.trace(model.guide).get_trace(same).nodes["z"])["value"] for _ in range(2)
    )
    assert (z[0] - z[1]).abs().min() > 1e-6
    assert (z - again).abs().min() > 1e-6  # no reseeding in the forward pass


@pytest.mark.parametrize("wrong", [-1, 7, 2**40])
@pytest.mark.parametrize("num_rows", [1, 20])
def test_symbol_ids_outside_the_vocabulary_are_refused(num_rows: int, wrong: int) -> None:
    """In a public `Batch`, in few rows and in so many that the vocabulary is projected once."""
    model, batch = make_model(3), make_batch([0] * num_rows)
    x = batch.x.clone()
    x[0, 0] = wrong
    changed = dataclasses.replace(batch, x=x)
    with pytest.raises(ValueError, match=f"symbol ids: wanted 0 to 6, got {wrong}"):
        FusedEnum().differentiable_loss(model.model, model.guide, changed)
    with pytest.raises(ValueError, match="classes: wanted -1 to 2, got 3"):
        FusedEnum().differentiable_loss(
            model.model, model.guide, dataclasses.replace(batch, y=batch.y + 3)
        )


def test_with_a_teacher_the_best_q_is_a_product(monkeypatch: pytest.MonkeyPatch) -> None:
    """Teacher to the power l / (1 + l) times posterior to the power 1 / (1 + l); l = 0.5.

    The loss of free logits in place of q(y | x) has no gradient there. Without z, the posterior is
    p(y) p(x | y) normalised. Rows with w = 0 do not count, and labelled ones have no pull.
    """
    model = make_model(3, latent_size=0, prior=torch.tensor([0.5, 0.3, 0.2]))
    batch = make_batch([-1, -1, -1, 1], w=torch.tensor([0.3, 1.0, 0.0, 1.0]))
    y, z = torch.arange(3).unsqueeze(1), torch.zeros(3, 4, 0)
    with torch.no_grad():
        joint = model.log_likelihood(batch.x, batch.lengths, z, y).t() + model.prior_logits
        assert model.ngrams is not None
        teacher = model.ngrams(batch.x, batch.lengths).log_softmax(-1)
    model.teacher_weight = 0.5
    best = ((0.5 * teacher + joint) / 1.5).log_softmax(-1)
    for at, is_best in ((best, True), (joint.log_softmax(-1), False), (teacher, False)):
        logits = at.clone().requires_grad_()
        monkeypatch.setattr(SSVAE, "y_logits", lambda *_, of=logits: of.log_softmax(-1))
        loss = FusedEnum().differentiable_loss(model.model, model.guide, batch)
        (gradient,) = torch.autograd.grad(loss, [logits])
        assert (gradient[:2].abs().max() < 1e-10) == is_best
        assert not gradient[2].any() and gradient[3].abs().max() > 1e-3
        model.teacher_weight = 0.0
        loss = FusedEnum().differentiable_loss(model.model, model.guide, batch)
        (plain,) = torch.autograd.grad(loss, [logits])
        torch.testing.assert_close(plain[3], gradient[3])
        model.teacher_weight = 0.5
