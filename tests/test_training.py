import copy
import logging
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from seqssvae.bags import NGramLogits
from seqssvae.batches import collate
from seqssvae.building import build
from seqssvae.config import Config, override
from seqssvae.encoded import EncodedRows
from seqssvae.preparation import Prepared
from seqssvae.splits import Labels
from seqssvae.training import Trainer, ignored_variables, stream_weights
from seqssvae.vocabulary import EOS, NUM_SPECIAL, CharacterVocabulary
from tests.small import make_model

SMALL = {
    "model.embedding_size": 4,
    "model.encoder_size": 4,
    "model.decoder_size": 4,
    "model.latent_size": 2,
    "objective.kl_warmup_steps": 3,
    "training.teacher": False,
    "training.num_steps": 8,
    "training.evaluate_every": 4,
    "training.labelled_batch_size": 3,
    "training.unlabelled_batch_size": 5,
}


def rows(labels: list[int], seed: int) -> EncodedRows:
    """Random rows of three symbols."""
    generator = np.random.default_rng(seed)
    parts = [
        np.append(generator.integers(NUM_SPECIAL, NUM_SPECIAL + 3, generator.integers(1, 6)), EOS)
        for _ in labels
    ]
    return EncodedRows(
        symbols=np.concatenate(parts).astype(np.int32),
        offsets=np.cumsum([0, *map(len, parts)]),
        y=np.array(labels),
        candidates={},
        ids=[f"{seed}-{i}" for i in range(len(labels))],
    )


def prepared() -> Prepared:
    parts = {"labelled": rows([0, 1, 0, 1], 0), "unlabelled": rows([-1] * 20, 1)}
    return Prepared(
        vocabulary=CharacterVocabulary("abc"),
        labels=Labels(("a", "b")),
        labelled=parts["labelled"],
        unlabelled=parts["unlabelled"],
        dev=rows([0, 1, -1, -1], 2),
        split={},
        corpus=None,  # type: ignore[arg-type] # not read in training
        positions={},
    )


def config(**changes: Any) -> Config:
    return override(Config(), {**SMALL, **{k.replace("__", "."): v for k, v in changes.items()}})


def trained(settings: Config, data: Prepared | None = None) -> Trainer:
    data = data or prepared()
    trainer = Trainer(settings, build(settings, data), data)
    trainer.train()
    return trainer


def weights(trainer: Trainer) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in trainer.model.state_dict().items()}


def test_the_same_seed_gives_the_same_weights() -> None:
    first, second, other = (weights(trained(config(training__seed=s))) for s in (1, 1, 2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_a_resumed_run_ends_with_the_same_weights() -> None:
    """Stopped in the middle of a pass, restored into a new trainer."""
    states: list[dict[str, Any]] = []
    data = prepared()
    settings = config(training__evaluate_every=3)
    whole = Trainer(
        settings,
        build(settings, data),
        data,
        on_evaluation=lambda _, state: states.append(copy.deepcopy(dict(state))),
    )
    whole.train()
    again = Trainer(settings, build(settings, data), data)
    again.restore(states[1])
    assert again.progress.step == 3
    again.train()
    want, got = weights(whole), weights(again)
    assert all(torch.equal(want[name], got[name]) for name in want)
    assert again.progress.step == whole.progress.step == 8


def test_training_lowers_the_loss() -> None:
    settings = config(
        training__num_steps=150, training__evaluate_every=150, training__learning_rate=0.02
    )
    data = prepared()
    trainer = Trainer(settings, build(settings, data), data)
    first = np.mean([trainer.step(step) for step in range(10)])
    for step in range(10, 140):
        trainer.step(step)
    assert np.mean([trainer.step(step) for step in range(140, 150)]) < 0.9 * first


def test_evaluation_moves_no_schedule_and_no_weight() -> None:
    """An evaluation after every step leaves the steps as they were."""
    data, runs = prepared(), []
    for every in (1, 100):
        settings = config(training__evaluate_every=every)
        trainer = Trainer(settings, build(settings, data), data)
        for step in range(6):
            trainer.step(step)
            if every == 1:
                trainer._evaluate()
        runs.append(weights(trainer))
    assert all(torch.equal(runs[0][name], runs[1][name]) for name in runs[0])


def test_no_weight_drifts_when_nothing_counts() -> None:
    """w = 0 and no labelled row: Adam's momentum must not move the weights."""
    data = prepared()
    settings = config(objective__w=0.0, training__streams="alternate")
    trainer = Trainer(settings, build(settings, data), data)
    kinds = []
    for step in range(8):
        before = weights(trainer)
        trainer.step(step)
        moved = any(not torch.equal(before[k], v) for k, v in weights(trainer).items())
        labelled = bool(trainer.streams.batch(step).is_labelled.any())
        kinds.append(labelled)
        assert moved == labelled
    assert set(kinds) == {True, False}


def test_patience_counts_evaluations_after_the_warm_up() -> None:
    """A learning rate so high that the first weights stay the best."""
    settings = config(
        training__num_steps=200, training__evaluate_every=1, training__patience=2,
        training__learning_rate=5.0, training__early_stopping="elbo", objective__kl_warmup_steps=9,
    )  # fmt: skip
    trainer = trained(settings)
    progress = trainer.progress
    assert progress.stopped_by == "patience" and progress.best_step < 8
    assert progress.step == 9


@pytest.mark.parametrize("shared", [False, True])
def test_classifier_and_generator_are_kept_from_their_own_best(
    shared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The score is best at step 2, the ELBO at step 3."""
    scripted = iter([(0.1, -9.0), (0.2, -8.0), (0.9, -7.0), (0.3, -5.0), (0.4, -6.0), (0.0, 0.0)])
    seen: list[dict[str, Tensor]] = []

    def measure(trainer: Trainer) -> dict[str, Any]:
        seen.append(weights(trainer))
        accuracy, elbo = next(scripted)
        return {"accuracy": accuracy, "elbo": elbo, "kl": 1.0, "likelihood": 0.0}

    monkeypatch.setattr(Trainer, "_measure", measure)
    trainer = trained(
        config(training__num_steps=4, training__evaluate_every=1, model__shared_encoder=shared)
    )
    of_classifier = trainer.model.classifier_names()
    assert bool(of_classifier) != shared
    for name, value in weights(trainer).items():
        expected = seen[2 if shared or name in of_classifier else 3]
        assert torch.equal(value, expected[name])
    assert trainer.progress.best_step == 2
    assert trainer.progress.figures["elbo"] == 0.0


def test_q_starts_from_the_teacher(monkeypatch: pytest.MonkeyPatch) -> None:
    """And is what the n-gram part says, before the first step."""

    def distil(ngrams: NGramLogits, data: Prepared, seed: int) -> None:
        torch.nn.init.normal_(ngrams.weight)

    monkeypatch.setattr("seqssvae.building.distil", distil)
    data = prepared()
    model = build(config(training__teacher=True), data).eval()
    batch = collate(data.dev, range(4), num_classes=2)
    assert model.ngrams is not None
    want = model.ngrams(batch.x, batch.lengths).log_softmax(-1)
    torch.testing.assert_close(model.y_logits(model.encode(batch.x, batch.lengths)), want)
    assert want.std() > 0.1
    before = model.ngrams.weight.clone()
    trainer = Trainer(config(training__teacher=True), model, data)
    trainer.train()
    assert torch.equal(model.ngrams.weight, before)
    untaught = build(config(training__teacher=True), data, taught=False)
    assert untaught.ngrams is not None and not untaught.ngrams.weight.any()


def test_rows_of_the_data_weigh_alike() -> None:
    """4 labelled rows come round 30 times while 200 unlabelled ones come round twice."""
    settings = config(training__labelled_batch_size=6, training__unlabelled_batch_size=20)
    assert stream_weights(settings, 4, 200) == pytest.approx((0.1 / 15, 0.1))
    assert stream_weights(settings, 600, 20) == pytest.approx((0.1, 0.001))
    alike = config(objective__w_by_rows=False)
    for changed, sizes in ((alike, (4, 200)), (settings, (4, 0)), (settings, (0, 4)),
                           (config(training__streams="alternate"), (4, 200))):  # fmt: skip
        assert stream_weights(changed, *sizes) == (0.1, 0.1)


def test_time_is_a_limit() -> None:
    trainer = trained(config(training__max_minutes=0.001, training__num_steps=10**6))
    assert trainer.progress.stopped_by == "time"


@pytest.mark.parametrize("name", ["trace-enum", "trace-enum-sequential", "fused-enum",
                                  "sum-and-sample", "score-function", "gumbel-softmax",
                                  "straight-through"])  # fmt: skip
def test_every_estimator_trains(name: str) -> None:
    assert trained(config(estimator__name=name)).progress.step == 8


def test_exact_estimators_take_the_same_steps() -> None:
    """With no z there is no noise but dropout's, which is off."""
    runs = []
    for name in ("trace-enum", "trace-enum-sequential", "fused-enum"):
        settings = config(
            estimator__name=name, model__latent_size=0, model__dropout=0.0,
            model__word_dropout=0.0, model__encoder_word_dropout=0.0,
        )  # fmt: skip
        runs.append(weights(trained(settings)))
    for other in runs[1:]:
        for name, value in runs[0].items():
            torch.testing.assert_close(other[name], value, rtol=0, atol=1e-6)


def test_ignored_variables_are_told(caplog: pytest.LogCaptureFixture) -> None:
    model = make_model()
    assert ignored_variables({"kl": 2.0, "y_gap": 1.0}, model) == []
    told = ignored_variables({"kl": 0.01, "y_gap": 0.0}, model)
    assert "free_bits" in told[0] and "class_bias" in told[1]
    with caplog.at_level(logging.WARNING):
        trained(config(model__class_bias=False, model__feed_y=False, training__num_steps=4))
    assert "y is ignored" in caplog.text


def test_a_loss_that_is_not_finite_is_an_error() -> None:
    data, settings = prepared(), config()
    model = build(settings, data)
    torch.nn.init.constant_(next(model.parameters()), torch.nan)
    with pytest.raises(FloatingPointError, match="step 0"):
        Trainer(settings, model, data).step(0)


@pytest.mark.parametrize(("accuracy", "left"), [(0.89, False), (0.97, True)])
def test_a_teacher_is_left_for_what_is_clearly_better(
    accuracy: float, left: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """0.8 over 64 rows has a standard error of 0.05."""
    scripted = iter([0.8, accuracy, 0.85, 0.0])
    monkeypatch.setattr("seqssvae.building.distil", lambda *_: None)
    monkeypatch.setattr(
        Trainer,
        "_measure",
        lambda _: {
            "accuracy": next(scripted), "num_labelled": 64, "elbo": -5.0, "kl": 1.0,
            "likelihood": 0.0,
        },
    )  # fmt: skip
    settings = config(
        training__teacher=True, training__num_steps=2, training__evaluate_every=1,
        objective__kl_warmup_steps=2,
    )  # fmt: skip
    assert trained(settings).progress.best_step == (1 if left else 0)
