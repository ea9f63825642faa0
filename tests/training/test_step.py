"""Single steps: a bad one changes nothing, and its sequences are named."""

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch

from seqssvae.estimators import ScoreFunction
from seqssvae.model.build import build
from seqssvae.training.counting import Counting
from seqssvae.training.step import Stepper, stream_weights
from tests.support.faults import spoil
from tests.support.rows import batch_of
from tests.support.training import assert_same_bits, config, prepared


def make(**changes: Any) -> Stepper:
    data, settings = prepared(), config(**changes)
    return Stepper(settings, build(settings, data), data)


def test_all_rows_have_the_same_weight() -> None:
    """4 labelled rows are drawn 30 times while 200 unlabelled ones are drawn twice."""
    sizes_and_w = {
        "training__labelled_batch_size": 6, "training__unlabelled_batch_size": 20,
        "objective__w": 0.1,
    }  # fmt: skip
    settings = config(**sizes_and_w)
    assert stream_weights(settings, 4, 200) == pytest.approx((0.1 / 15, 0.1))
    assert stream_weights(settings, 600, 20) == pytest.approx((0.1, 0.001))
    alike = config(**sizes_and_w, objective__w_by_rows=False)
    in_turn = config(**sizes_and_w, training__streams="alternate")
    cases = ((alike, (4, 200)), (settings, (4, 0)), (settings, (0, 4)), (in_turn, (4, 200)))
    for changed, sizes in cases:
        assert stream_weights(changed, *sizes) == (0.1, 0.1)


def test_ids_are_those_of_the_batch() -> None:
    data, both = prepared(), (make().streams, make(training__streams="alternate").streams)
    for step in range(9):
        for streams in both:
            batch, ids = batch_of(streams, step), streams.ids(step)
            assert len(ids) == batch.num_rows
            for row, id in enumerate(ids):
                part = data.labelled if id.startswith("0-") else data.unlabelled
                wanted = part.row(list(part.ids).index(id))
                assert batch.x[row, : int(batch.lengths[row])].tolist() == wanted.tolist()


@pytest.mark.parametrize("estimator", ["fused-enum", "trace-enum", "score-function"])
@pytest.mark.parametrize("kind", ["loss", "infinite loss", "gradient", "refusal"])
def test_a_bad_step_changes_nothing(kind: str, estimator: str) -> None:
    """The steps after it are those of a run whose step 2 did nothing."""
    bad, good = make(estimator__name=estimator), make(estimator__name=estimator)
    ids = bad.streams.ids(2)
    wanted = spoil(bad, at=[2], ids=[ids[1], ids[-1]], kind=kind)[2]
    assert wanted >= {ids[1], ids[-1]} and wanted < set(ids)
    for step in range(5):
        before = copy.deepcopy(bad.state())
        loss, problem = bad.step(step)
        if step != 2:
            assert problem is None and good.step(step)[0] == loss
            continue
        assert math.isnan(loss) and problem is not None
        assert set(problem.ids) == wanted
        what = "the norm of the gradient" if kind == "gradient" else "the loss"
        assert problem.reason.startswith(f"{what} is")
        assert all(id in problem.reason for id in problem.ids)
        after = bad.state()
        for part in ("model", "estimator"):
            assert_same_bits(dict(before[part]), dict(after[part]), part)
        assert_same_bits(before["optimizer"]["state"], after["optimizer"]["state"])
    if estimator == "score-function":
        assert isinstance(good.elbo, ScoreFunction)
    assert_same_bits(dict(good.model.state_dict()), dict(bad.model.state_dict()))


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("name", ["decoder.", "encoder_y.", "ngrams.", "prior_logits"])
def test_a_bad_weight_is_restored(name: str, value: float) -> None:
    """One that the batch reads, or one that it does not: an n-gram that no row has."""
    bad, good = make(), make()
    for step in range(5):
        if step == 2:
            weight = next(n for n in bad.model.state_dict() if n.startswith(name))
            bad.model.state_dict()[weight].view(-1)[-1] = value
            loss, problem = bad.step(step)
            assert math.isnan(loss) and problem is not None and problem.ids == ()
            assert problem.reason == f"values of {weight} are not finite"
        else:
            assert bad.step(step)[0] == good.step(step)[0]
    assert_same_bits(dict(good.model.state_dict()), dict(bad.model.state_dict()))
    assert_same_bits(good.optimizer.state_dict()["state"], bad.optimizer.state_dict()["state"])


def test_an_optimiser_that_overflows_is_undone() -> None:
    stepper = make()
    stepper.step(0)
    before = copy.deepcopy(dict(stepper.model.state_dict()))
    stepper.optimizer.param_groups[0]["weight_decay"] = 1e308  # times rate and weight: infinite
    stepper.optimizer.param_groups[0]["betas"] = (0.9, 0.999)
    stepper.config = config(training__learning_rate=100.0)
    _, problem = stepper.step(1)
    assert problem is not None and "are not finite" in problem.reason
    assert_same_bits(before, dict(stepper.model.state_dict()))


def test_a_loss_that_is_bad_for_all_rows_names_none() -> None:
    stepper = make()
    spoil(stepper, at=[0], ids=None, calls=1)
    _, problem = stepper.step(0)
    assert problem is not None and problem.ids == ()
    assert problem.reason == "the loss is nan, caused by no single sequence"


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize(
    "estimator", ["fused-enum", "trace-enum", "sum-and-sample", "score-function", "gumbel-softmax"]
)
def test_bfloat16_is_near_float32(estimator: str, cell: str) -> None:
    """Its products are rounded to three digits; weights, gradients and loops over time are not.

    The rows are counted, and there is a teacher.
    """
    torch.set_default_dtype(torch.float32)
    changes = {"estimator__name": estimator, "model__cell": cell}
    losses, after = [], []
    for precision in ("float32", "bfloat16"):
        settings, data = config(training__precision=precision, **changes), prepared()
        model = build(settings, data)
        counting = Counting(settings, model, data)
        counting.count()
        stepper = Stepper(settings, model, data, counting=counting)
        model.teacher_weight = 0.5
        losses.append([stepper.step(step)[0] for step in range(3)])
        after.append(stepper.model.state_dict())
        assert all(p.grad.dtype == torch.float32 for p in stepper.trained if p.grad is not None)
    assert losses[1] == pytest.approx(losses[0], rel=0.02) and losses[0] != losses[1]
    floats = [value for value in after[1].values() if value.is_floating_point()]
    assert all(value.dtype == torch.float32 for value in floats)
    gates = [one["decoder.ngrams.gate.weight"] for one in after]
    assert not torch.equal(*gates) and after[0]["decoder.ngrams.counts"].any()


@pytest.mark.parametrize("baseline", ["learned", "running-mean"])
def test_baselines_learn_from_all_parts_of_a_batch(baseline: str) -> None:
    """Both parts are learned from at once, and neither if one is bad."""
    stepper = make(estimator__name="score-function", estimator__baseline=baseline,
                   training__accumulate=2)  # fmt: skip
    elbo = stepper.elbo
    assert isinstance(elbo, ScoreFunction)
    stepper.step(0)
    before = copy.deepcopy(elbo.state())
    assert any(value is not None for value in before.values())
    spoil(stepper, at=[1], ids=stepper.streams.ids(1, 0)[:1], kind="loss")
    assert stepper.step(1)[1] is not None
    assert_same_bits(before, elbo.state())
    stepper.step(2)
    assert any(not torch.equal(a, b) for a, b in zip(before.values(), elbo.state().values(),
               strict=True) if a is not None and b is not None)  # fmt: skip


def test_each_shard_of_a_step_has_different_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """So do seeds and steps; the first shard has that of an undivided step."""
    seeds: list[int] = []
    plain_seed = torch.manual_seed

    def manual_seed(seed: int) -> torch.Generator:
        seeds.append(seed)
        return plain_seed(seed)

    def used(**changes: Any) -> list[int]:
        stepper = make(**changes)
        with monkeypatch.context() as patch:
            patch.setattr(torch, "manual_seed", manual_seed)
            seeds.clear()
            for step in range(2):
                stepper.step(step)
        return list(seeds)

    whole, other = used(), used(training__seed=1)
    keys = [np.random.SeedSequence([0, step]) for step in range(2)]
    assert whole == [int(key.generate_state(1, np.uint64)[0] >> 1) for key in keys]
    parts, others = (used(training__seed=seed, training__accumulate=3) for seed in (0, 1))
    assert len({*parts, *others}) == len(parts + others) == 12
    assert parts[::3] == whole and others[::3] == other
