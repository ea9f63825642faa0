import copy
import itertools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

import seqssvae.training.trainer
from seqssvae.config import Config
from seqssvae.errors import Diverged
from seqssvae.model.build import build
from seqssvae.progress import Task
from seqssvae.runs.checkpoints import load_checkpoint, save_checkpoint
from seqssvae.training.counting import Counting
from seqssvae.training.trainer import BAD_NUMBERS, Trainer
from tests.support.faults import spoil
from tests.support.rows import batch_of
from tests.support.training import assert_same_bits, config, prepared


def make(**changes: Any) -> Trainer:
    data, settings = prepared(), config(**changes)
    return Trainer(settings, build(settings, data), data)


def trained(**changes: Any) -> Trainer:
    trainer = make(**changes)
    trainer.train()
    return trainer


def weights(trainer: Trainer) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in trainer.model.state_dict().items()}


def plain(trainer: Trainer, records: list[dict[str, Any]]) -> dict[str, Any]:
    """All that a resumed run must share with an uninterrupted one: everything but the time."""
    state = copy.deepcopy(trainer.state())
    del state["progress"]["minutes"]
    return {**state, "records": [dict(record) for record in records]}


RESUMED: dict[str, dict[str, Any]] = {
    "linear KL": {},
    "cyclical KL, streams in turn": {
        "objective__kl_schedule": "cyclical", "objective__kl_warmup_steps": 8,
        "training__streams": "alternate", "training__balanced": True,
    },
    "early stopping": {
        "training__num_steps": 40, "training__evaluate_every": 1, "training__patience": 5,
        "training__learning_rate": 5.0, "training__early_stopping": "elbo",
    },
    "a learned baseline": {"estimator__name": "score-function"},
    "a running mean": {"estimator__name": "score-function", "estimator__baseline": "running-mean"},
    "a temperature": {"estimator__name": "gumbel-softmax", "estimator__temperature_steps": 6},
    "one body": {"model__shared_encoder": True, "model__tied_embeddings": True},
}  # fmt: skip


@pytest.mark.parametrize("stops", [[3, 4], pytest.param(range(8), marks=pytest.mark.faults)])
@pytest.mark.parametrize("changes", RESUMED.values(), ids=list(RESUMED))
def test_a_stopped_run_is_resumed_to_the_same_bits(
    changes: dict[str, Any], stops: Sequence[int], tmp_path: Path
) -> None:
    """Weights, optimiser, baselines, best weights and records; the state is saved and loaded.

    It stops between evaluations, in the middle of a pass, and where an evaluation is due.
    """
    torch.set_default_dtype(torch.float32)
    data, settings = prepared(), config(**changes)
    records: list[dict[str, Any]] = []

    def make(should_stop: Callable[[], bool] | None = None) -> Trainer:
        return Trainer(
            settings,
            build(settings, data),
            data,
            on_evaluation=lambda record, _: records.append(dict(record)),
            should_stop=should_stop,
        )

    whole = make()
    whole.train()
    want = plain(whole, records)
    stops = [step for step in stops if step < whole.progress.step]
    assert want["progress"]["metrics"] and len(stops) > 1
    for stop in stops:
        records.clear()
        asked = itertools.count()
        # it is asked twice a step: before an evaluation and after it
        first = make(lambda stop=stop, asked=asked: next(asked) // 2 >= stop)  # type: ignore[misc]
        first.train()
        assert not first.progress.metrics and first.progress.stopped_by is None
        assert first.progress.step == stop
        save_checkpoint(tmp_path, first.state())
        state = load_checkpoint(tmp_path)
        assert state is not None
        second = make()
        second.restore(state)
        second.train()
        assert_same_bits(want, plain(second, records))


def test_training_lowers_the_loss() -> None:
    trainer = make(
        training__num_steps=150, training__evaluate_every=150, training__learning_rate=0.02
    )
    first = np.mean([trainer.step(step) for step in range(10)])
    for step in range(10, 140):
        trainer.step(step)
    assert np.mean([trainer.step(step) for step in range(140, 150)]) < 0.9 * first


def test_evaluation_moves_no_schedule_and_no_weight() -> None:
    """An evaluation after every step leaves the steps as they were."""
    runs = []
    for every in (1, 100):
        trainer = make(training__evaluate_every=every)
        for step in range(6):
            trainer.step(step)
            if every == 1:
                trainer._evaluate()
        runs.append(weights(trainer))
    assert all(torch.equal(runs[0][name], runs[1][name]) for name in runs[0])


def test_the_likelihoods_of_many_dev_rows_are_those_of_some(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same ones in each evaluation; the labels of all of them are compared."""
    monkeypatch.setattr(seqssvae.training.trainer, "LIKELIHOOD_ROWS", 3)
    trainer = make()
    first, second = trainer._measure(), trainer._measure()
    assert first == second and first["num_likelihood_rows"] == 3 < first["num_rows"]
    assert first["num_labelled"] == len(trainer.prepared.labelled_dev) > 0


def test_no_weight_drifts_when_nothing_counts() -> None:
    """w = 0 and no labelled row: Adam's momentum must not move the weights."""
    trainer = make(objective__w=0.0, training__streams="alternate")
    kinds = []
    for step in range(8):
        before = weights(trainer)
        trainer.step(step)
        moved = any(not torch.equal(before[k], v) for k, v in weights(trainer).items())
        labelled = bool(batch_of(trainer.stepper.streams, step).is_labelled.any())
        kinds.append(labelled)
        assert moved == labelled
    assert set(kinds) == {True, False}


def test_patience_counts_evaluations_after_the_warm_up() -> None:
    """A learning rate so high that the first weights stay the best."""
    progress = trained(
        training__num_steps=200, training__evaluate_every=1, training__patience=2,
        training__learning_rate=5.0, training__early_stopping="elbo", objective__kl_warmup_steps=9,
    ).progress  # fmt: skip
    assert progress.stopped_by == "patience" and progress.best_step < 8
    assert progress.step == 9


@pytest.mark.parametrize("shared", [False, True])
def test_classifier_and_generator_are_kept_from_their_own_best(
    shared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The score is best at step 2, the ELBO at step 3."""
    scripted = iter([(0.1, -9.0), (0.2, -8.0), (0.9, -7.0), (0.3, -5.0), (0.4, -6.0), (0.0, 0.0)])
    seen: list[dict[str, Tensor]] = []

    def measure(trainer: Trainer, **_: bool) -> dict[str, Any]:
        seen.append(weights(trainer))
        accuracy, elbo = next(scripted)
        return {"accuracy": accuracy, "elbo": elbo, "mutual_information": 1.0, "likelihood": 0.0}

    monkeypatch.setattr(Trainer, "_measure", measure)
    trainer = trained(
        training__num_steps=4, training__evaluate_every=1, model__shared_encoder=shared,
        training__early_stopping="accuracy",
    )  # fmt: skip
    of_classifier = trainer.model.classifier_names()
    for name, value in weights(trainer).items():
        expected = seen[2 if shared or name in of_classifier else 3]
        assert torch.equal(value, expected[name])
    assert trainer.progress.best_step == 2
    assert trainer.progress.metrics["elbo"] == 0.0


def test_time_is_a_limit() -> None:
    trainer = trained(training__max_minutes=0.001, training__num_steps=10**6)
    assert trainer.progress.stopped_by == "time"


@pytest.mark.parametrize(("minutes", "is_cut"), [(3.0, True), (9.0, False), (None, False)])
def test_a_warm_up_that_the_time_cuts_is_reported(
    minutes: float | None, is_cut: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A minute a step."""
    monkeypatch.setattr(Trainer, "_minutes", lambda trainer: trainer.progress.step)
    trainer = trained(training__max_minutes=minutes, training__num_steps=12,
                      objective__kl_warmup_steps=8)  # fmt: skip
    found = [warning for warning in trainer.warnings() if "time limit" in warning]
    assert len(found) == is_cut
    assert not is_cut or "came at step 3, within the KL's warm-up of 8 steps" in found[0]


@pytest.mark.parametrize(("minutes", "wanted"), [(None, 100), (1000.0, 100), (9.5, 10)])
def test_the_steps_that_are_expected_follow_what_ends_first(
    minutes: float | None, wanted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A minute a step."""
    totals = []
    plain = Task.advance

    def advance(steps: Task, *args: Any, **options: Any) -> None:
        if steps.what == "steps":
            totals.append(steps.total)
        plain(steps, *args, **options)

    monkeypatch.setattr(Task, "advance", advance)
    monkeypatch.setattr(Trainer, "_minutes", lambda trainer: trainer.progress.step)
    trained(training__max_minutes=minutes, training__num_steps=100, training__patience=0,
            training__evaluate_every=50)  # fmt: skip
    assert totals[-1] is not None and round(totals[-1] + 0.01) == wanted


def test_time_is_no_limit_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour a look at the clock."""
    assert Config().training.max_minutes is None
    hours = itertools.count(0, 3600)
    monkeypatch.setattr("time.monotonic", lambda: float(next(hours)))
    progress = trained(training__num_steps=5).progress
    assert (progress.stopped_by, progress.step) == ("steps", 5) and progress.minutes > 120


@pytest.mark.parametrize("name", ["trace-enum", "trace-enum-sequential", "fused-enum",
                                  "sum-and-sample", "score-function", "gumbel-softmax",
                                  "straight-through"])  # fmt: skip
def test_every_estimator_trains(name: str) -> None:
    assert trained(estimator__name=name).progress.step == 8


def test_exact_estimators_take_the_same_steps() -> None:
    """With no z there is no noise but dropout's, which is off."""
    runs = []
    for name in ("trace-enum", "trace-enum-sequential", "fused-enum"):
        trainer = trained(
            estimator__name=name, model__latent_size=0, model__dropout=0.0,
            model__word_dropout=0.0, model__encoder_word_dropout=0.0,
        )  # fmt: skip
        runs.append(weights(trainer))
    for other in runs[1:]:
        for name, value in runs[0].items():
            torch.testing.assert_close(other[name], value, rtol=0, atol=1e-6)


def test_a_bad_step_is_logged_and_training_continues(caplog: pytest.LogCaptureFixture) -> None:
    data, settings = prepared(), config()
    records: list[dict[str, Any]] = []
    trainer = Trainer(
        settings, build(settings, data), data, on_evaluation=lambda r, _: records.append(dict(r))
    )
    bad = spoil(trainer, at=[2], ids=["0-1"])
    progress = trainer.train()
    assert (progress.step, progress.stopped_by) == (8, "steps")
    assert (progress.skipped_steps, progress.skipped_in_a_row) == (1, 0)
    assert "0-1" in bad[2] and set(progress.bad_ids) == bad[2]
    assert [record["skipped_steps"] for record in records] == [0, 1, 1]
    logged = [message for message in caplog.messages if "skipped" in message]
    ids = ", ".join(progress.bad_ids)
    assert logged == [f"step 2 skipped, 1 in a row: the loss is nan, caused by sequences {ids}"]


@pytest.mark.parametrize("first_bad", [0, 3])
def test_too_many_bad_steps_in_a_row_end_training(first_bad: int) -> None:
    trainer = make(training__max_bad_steps=3)
    spoil(trainer, at=[1, *range(first_bad, 8)] if first_bad else range(8), ids=None)
    progress = trainer.train()
    assert progress.stopped_by == BAD_NUMBERS and progress.step == first_bad + 3
    assert all(bool(value.isfinite().all()) for value in weights(trainer).values())
    assert progress.metrics["elbo"] < 0  # of the last finite weights


def test_first_weights_that_cannot_be_evaluated(monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(_: Trainer, **__: bool) -> dict[str, Any]:
        Normal(torch.tensor(torch.nan), 1.0)
        return {}

    monkeypatch.setattr(Trainer, "_measure", measure)
    with pytest.raises(Diverged, match="metrics of the first weights are not finite"):
        trained()


def test_where_weights_cannot_be_evaluated_the_best_ones_are_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The second evaluation is refused, the third would be fine."""
    plain_measure, calls = Trainer._measure, itertools.count()

    def measure(trainer: Trainer, **options: bool) -> dict[str, Any]:
        if next(calls) == 1:
            Normal(torch.tensor(torch.nan), 1.0)
        return plain_measure(trainer, **options)

    monkeypatch.setattr(Trainer, "_measure", measure)
    trainer = trained(training__teacher=False)
    assert trainer.progress.stopped_by == BAD_NUMBERS and trainer.progress.step == 4
    assert trainer.progress.best_step == 0 and trainer.progress.metrics


@pytest.mark.parametrize(
    ("setting", "metric"),
    [("log-loss", "elbo"), ("log-loss", "q_log_loss"), ("accuracy", "accuracy")],
)
def test_metrics_that_are_not_finite_are_never_the_best(
    setting: str, metric: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second evaluation would be the best by far, but for one of its metrics."""
    plain_measure, calls = Trainer._measure, itertools.count()

    def measure(trainer: Trainer, **options: bool) -> dict[str, Any]:
        best = {"accuracy": 2.0, "q_log_loss": -9.0}
        spoiled = best | {metric: math.nan} if next(calls) == 1 else {}
        return plain_measure(trainer, **options) | spoiled

    monkeypatch.setattr(Trainer, "_measure", measure)
    assert trained(training__early_stopping=setting).progress.best_step != 4


@pytest.mark.parametrize(
    ("setting", "best"), [("log-loss", 1), ("accuracy", 2), ("macro-f1", 3), ("elbo", 4)]
)
def test_each_score_keeps_its_own_best(
    setting: str, best: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log-loss is that of q(y | x); it is minimised, all others are maximised."""
    calls = itertools.count()

    def measure(_: Trainer, **__: bool) -> dict[str, Any]:
        step = min(next(calls), 5)
        return {
            "accuracy": float(step == 2), "macro_f1": float(step == 3),
            "elbo": -1.0 if step == 4 else -9.0 - step, "q_log_loss": 2.0 - (step == 1),
            "log_loss": 2.0 - (step == 3), "mutual_information": 1.0, "likelihood": 0.0,
        }  # fmt: skip

    monkeypatch.setattr(Trainer, "_measure", measure)
    progress = trained(
        training__early_stopping=setting, training__num_steps=5, training__evaluate_every=1
    ).progress
    assert progress.best_step == best


@pytest.mark.parametrize(("extra", "best"), [((0.0, 0.0, 0.2), 3), ((0.3, 0.3, 0.3), 1)])
def test_q_is_kept_from_the_last_evaluation_that_is_as_good(
    extra: tuple[float, ...], best: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At most a standard error above the best, row by row: 0.07 +- 0.07, then 0.3 +- 0."""
    least, worse = [1.0, 0.5, 0.2], np.add([1.0, 0.5, 0.2], extra)
    losses = iter([[2.0] * 3, least, [1.4, 0.9, 0.7], worse, *[[3.0] * 3] * 9])

    def measure(_: Trainer, **__: bool) -> dict[str, Any]:
        of_rows = list(next(losses))
        return {
            "q_losses": of_rows, "q_log_loss": float(np.mean(of_rows)), "elbo": -1.0,
            "mutual_information": 1.0, "likelihood": 0.0,
        }  # fmt: skip

    monkeypatch.setattr(Trainer, "_measure", measure)
    progress = trained(training__num_steps=4, training__evaluate_every=1).progress
    assert progress.best_step == best and progress.best_losses == least


def test_a_checkpoint_without_losses_of_rows_is_resumed() -> None:
    """Those of earlier versions: only a better score replaces what is kept."""
    trainer = trained()
    trainer.progress.best_losses = []
    assert not trainer._is_as_good([0.1, 0.2])
    trainer.progress.best_losses = [0.1, 0.2]
    assert trainer._is_as_good([0.1, 0.2])


def test_the_recurrent_decoder_is_trained_alone_at_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of a warm-up of 4 steps: the gate of the n-grams learns from the third one on."""
    trainer = make(objective__kl_warmup_steps=4, objective__recurrent_first=0.5)
    ngrams = trainer.model.decoder.ngrams
    assert ngrams is not None and trainer.counting is not None
    trainer.counting.count()
    trainer.progress.taught = True
    monkeypatch.setattr(Counting, "certainty", lambda self: 0.8)
    weights, is_alone = [ngrams.gate.weight.detach().clone()], []
    plain_step = trainer.stepper.step

    def step(number: int) -> Any:
        is_alone.append((trainer.model.decoder.recurrent_only, trainer.model.teacher_weight))
        return plain_step(number)

    monkeypatch.setattr(trainer.stepper, "step", step)
    for number in range(4):
        trainer.step(number)
        weights.append(ngrams.gate.weight.detach().clone())
        assert not trainer.model.decoder.recurrent_only
    assert is_alone == [(True, 10.0)] * 2 + [(False, 1.0)] * 2
    moved = [not torch.equal(*pair) for pair in itertools.pairwise(weights)]
    assert moved == [False, False, True, True]


def test_n_grams_join_at_once_where_a_teacher_is_unsure() -> None:
    """Of rows without a label; without a teacher it does not matter."""
    trainer = make()
    counting = trainer.counting
    assert counting is not None
    counting.count()
    first = len(counting.labelled)
    for taught, probabilities, is_alone in (
        (False, [0.6, 0.4], True), (True, [0.6, 0.4], False), (True, [0.1, 0.9], True)
    ):  # fmt: skip
        counting.weights[first:] = probabilities
        trainer.progress.taught = taught
        with trainer._recurrent_first(0):
            assert trainer.model.decoder.recurrent_only == is_alone


@pytest.mark.parametrize(
    ("changes", "minutes"),
    [
        ({"objective__recurrent_first": 0.0}, 0.0),
        ({"model__latent_size": 0}, 0.0),
        ({"training__max_minutes": 4.0}, 1.0),
    ],
)
def test_n_grams_join_at_once(changes: dict[str, Any], minutes: float) -> None:
    """Without z, if asked for, and after a quarter of the time."""
    trainer = make(**changes)
    trainer.progress.minutes = minutes
    with trainer._recurrent_first(0):
        assert not trainer.model.decoder.recurrent_only
