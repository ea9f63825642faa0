"""How q(y | x) is initialised, which of its weights are kept, and what is learned in the end."""

import dataclasses
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch

from seqssvae.data.batches import collate
from seqssvae.data.prepare import Prepared, prepare
from seqssvae.model.build import build
from seqssvae.nn.ngram_logits import NGramLogits
from seqssvae.training.fit import train
from seqssvae.training.teach import teach
from seqssvae.training.trainer import Trainer
from tests.support.rows import random_rows, write_rows
from tests.support.training import config, prepared


@pytest.fixture
def fitted_to(monkeypatch: pytest.MonkeyPatch) -> list[Prepared]:
    """The rows that each teacher was fitted to; its weights are random."""
    calls: list[Prepared] = []

    def distil(ngrams: NGramLogits, data: Prepared, seed: int, **_: object) -> None:
        torch.nn.init.normal_(ngrams.weight)
        calls.append(data)

    monkeypatch.setattr("seqssvae.training.teach.distil", distil)
    return calls


def test_q_is_initialised_with_the_teacher(fitted_to: list[Prepared]) -> None:
    """And its n-gram part is not trained."""
    data, settings = prepared(), config(training__teacher=True)
    model = build(settings, data).eval()
    assert model.ngrams is not None and not model.ngrams.weight.any()
    assert teach(settings, model, data) and fitted_to == [data]
    batch = collate(data.dev, range(4), num_classes=2)
    want = model.ngrams(batch.x, batch.lengths).log_softmax(-1)
    torch.testing.assert_close(model.y_logits(model.encode(batch.x, batch.lengths)), want)
    assert want.std() > 0.1
    before = model.ngrams.weight.clone()
    Trainer(settings, model, data, taught=True).train()
    assert torch.equal(model.ngrams.weight, before)


@pytest.mark.parametrize(
    ("labels", "changes"),
    [
        ([0, 1], {"training__teacher": False}),
        ([0, 1], {"training__teacher": True, "model__ngram_buckets": 0}),
        ([1, 1], {"training__teacher": True}),
    ],
)
def test_without_the_setting_or_ngrams_or_two_classes_there_is_no_teacher(
    labels: list[int],
    changes: dict[str, Any],
    fitted_to: list[Prepared],
    caplog: pytest.LogCaptureFixture,
) -> None:
    data = dataclasses.replace(prepared(), labelled=random_rows(labels, 0))
    settings = config(**changes)
    model = build(settings, data)
    assert not teach(settings, model, data) and fitted_to == []
    assert ("no teacher: wanted rows" in caplog.text) == (labels == [1, 1])
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not train(settings, data).progress.taught


@pytest.mark.parametrize("more", [[], [{"text": "abab", "label": "x"}]])
def test_soft_labels_alone_have_a_teacher_of_their_likeliest_labels(
    more: list[dict[str, Any]], fitted_to: list[Prepared], tmp_path: Path
) -> None:
    """Also beside labels of one class; the model learns from the soft labels themselves."""
    rows = [{"text": "ab" * n, "label": {"x": 0.8, "y": 0.2}} for n in range(1, 7)]
    rows += [{"text": "cd" * n, "label": {"x": 0.4, "y": 0.6}} for n in range(1, 7)]
    settings = config(training__teacher=True)
    data = prepare(settings, write_rows(tmp_path / "rows.jsonl", [*rows, *more]))
    assert teach(settings, build(settings, data), data)
    (learned,) = fitted_to
    texts = learned.sequences(learned.labelled)
    assert len(texts) == len(data.labelled) >= 12 - len(data.dev)
    assert learned.labelled.y.tolist() == ["c" in text for text in texts]
    assert len(data.labelled.candidates) == len(texts) - len(more)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize(("log_loss", "best"), [(0.9, 0), (0.4, 1)])
def test_q_is_kept_from_its_own_best_and_the_teacher_is_one_of_the_choices(
    log_loss: float,
    best: int,
    shared: bool,
    fitted_to: list[Prepared],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The log-loss is best at step 0 or at step 1, the ELBO at step 2.

    With a shared encoder the weights of step 0 must not be kept along with the teacher. In the end
    the teacher and the counts learn the labels of dev rows, and no other weight does.
    """
    scripted = iter([(0.8, -6.0), (log_loss, -5.0), (0.85, -4.0), (0.0, 0.0)])
    seen: list[dict[str, torch.Tensor]] = []

    def measure(trainer: Trainer, **_: bool) -> dict[str, Any]:
        seen.append({n: w.clone() for n, w in trainer.model.state_dict().items()})
        log_loss, elbo = next(scripted)
        return {
            "q_log_loss": log_loss, "elbo": elbo, "mutual_information": 1.0, "likelihood": 0.0
        }  # fmt: skip

    monkeypatch.setattr(Trainer, "_measure", measure)
    settings = config(
        training__teacher=True, training__num_steps=2, training__evaluate_every=1,
        objective__kl_warmup_steps=2, model__shared_encoder=shared,
    )  # fmt: skip
    data = prepared()
    trainer = train(settings, data)
    progress, model = trainer.progress, trainer.model
    assert progress.taught and progress.best_step == best and progress.dev_labels_learned
    assert fitted_to[0] is data
    assert [list(one.labelled.ids) for one in fitted_to[1:]] == [
        ["0-0", "0-1", "0-2", "0-3", "2-0", "2-1"]
    ]
    of_classifier = model.classifier_names()
    for name, value in model.state_dict().items():
        step = best if name in of_classifier or (shared and best) else 2
        if name not in ("decoder.ngrams.keys", "decoder.ngrams.sizes"):
            learned = name in ("ngrams.weight", "decoder.ngrams.counts", "prior_logits")
            assert torch.equal(value, seen[step][name]) != learned, name
    head = next(value for name, value in seen[1].items() if name.startswith("head_y."))
    assert model.head_y is not None
    assert bool(head.any()) and any(p.any() for p in model.head_y.parameters()) == bool(best)


@pytest.mark.parametrize(
    ("teacher", "order", "learned"),
    [(True, 0, True), (False, 2, False), (True, 2, True)],
)
def test_dev_labels_are_learned_by_teacher_and_counts(
    teacher: bool, order: int, learned: bool, fitted_to: list[Prepared]
) -> None:
    """All symbols of the rows that are counted are counted once."""
    settings, data = config(training__teacher=teacher, model__decoder_ngrams=order), prepared()
    trainer = train(settings, data)
    assert trainer.progress.dev_labels_learned == learned and len(fitted_to) == 2 * teacher
    with_dev, lm = data.with_dev_labels().labelled, trainer.model.decoder.ngrams
    assert (lm is not None) == bool(order) and len(with_dev) == 6 > len(data.labelled)
    if lm is not None:
        rows = with_dev if learned else data.labelled
        want = rows.lengths.sum() + data.unlabelled.lengths.sum()
        assert float(lm.counts[: int(lm.sizes[0])].sum()) == pytest.approx(want, rel=1e-5)
    without = dataclasses.replace(data, dev=data.dev.take(np.flatnonzero(data.dev.y < 0)))
    assert not train(settings, without).progress.dev_labels_learned


def test_a_resumed_run_fits_no_teacher_again(fitted_to: list[Prepared]) -> None:
    """That it was taught is saved; the frozen weights come from the checkpoint."""
    data, settings = prepared(), config(training__teacher=True, data__dev_fraction=0.0)
    whole = train(settings, data)
    asked = iter(range(100))
    first = train(settings, data, should_stop=lambda: next(asked) >= 6)
    assert len(fitted_to) == 2 + (whole.progress.dev_labels_learned)
    checkpoint = first.state()
    fitted_to.clear()
    second = train(settings, data, checkpoint=checkpoint)
    assert second.progress.taught and data not in fitted_to
    weights = second.model.state_dict()
    kept = [n for n in weights if not n.startswith("ngrams.")]
    assert all(torch.equal(weights[n], whole.model.state_dict()[n]) for n in kept)
    assert np.isfinite(second.progress.metrics["elbo"])


@pytest.mark.parametrize(("minutes", "seconds"), [(None, None), (3.0, 90.0)])
def test_the_teacher_keeps_to_the_time_limit(
    monkeypatch: pytest.MonkeyPatch, minutes: float | None, seconds: float | None
) -> None:
    learn, data = Mock(), prepared()
    monkeypatch.setattr("seqssvae.training.teach.distil", learn)
    settings = config(training__teacher=True, training__max_minutes=minutes)
    assert teach(settings, build(settings, data), data)
    assert learn.call_args.kwargs == {"vectors": None, "max_seconds": seconds}
