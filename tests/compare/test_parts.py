import dataclasses
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch

from seqssvae.compare import compare, parts
from seqssvae.compare.parts import fit_ssvae, predict_by_ssvae, predict_by_teacher
from seqssvae.data.prepare import Prepared, prepare
from seqssvae.inference.predict import classify_table
from seqssvae.model.build import build
from seqssvae.overrides import override
from seqssvae.teacher.teacher import fit_teacher
from seqssvae.training.fit import train
from seqssvae.training.trainer import Mode, Trainer
from tests.support.rows import write_two_classes
from tests.support.training import config

SETTINGS = config(
    training__num_steps=6, training__evaluate_every=2, objective__kl_warmup_steps=3,
    model__decoder_ngrams=0,
)  # fmt: skip


@pytest.fixture
def rows(tmp_path: Path) -> Prepared:
    """16 labelled rows, 4 of dev, and 30 without a label."""
    return prepare(SETTINGS, write_two_classes(tmp_path / "rows.jsonl"))


def without_dev_labels(rows: Prepared) -> Prepared:
    return dataclasses.replace(
        rows.with_dev_labels(), dev=rows.dev.take(np.flatnonzero(rows.dev.y < 0))
    )


@pytest.mark.parametrize(("best_step", "num_steps"), [(4, 4), (6, 6), (0, 2)])
def test_without_a_teacher_the_best_number_of_steps_is_taken_again_with_all_labels(
    rows: Prepared, monkeypatch: pytest.MonkeyPatch, best_step: int, num_steps: int
) -> None:
    """The weights are those of as many steps of a trainer that has all labels."""

    def train_and_choose(*args: Any, **options: Any) -> Trainer:
        trainer = train(*args, **options)
        if not options:  # the first training
            trainer.progress.best_step = best_step
        return trainer

    spy = Mock(side_effect=train_and_choose)
    monkeypatch.setattr(parts, "train", spy)
    weights = fit_ssvae(SETTINGS, rows)[0].state_dict()
    assert spy.call_count == 2 and spy.call_args_list[0].args == (SETTINGS, rows)
    everything = without_dev_labels(rows)
    trainer = Trainer(SETTINGS, build(SETTINGS, everything), everything)
    for step in range(num_steps):
        trainer.step(step)
    trainer.average.assign()
    plain = trainer.model.state_dict()
    assert list(weights) == list(plain)
    for name, weight in weights.items():
        assert torch.equal(weight, plain[name]), name


@pytest.mark.parametrize("kind", ["learned", "no dev labels"])
def test_a_model_that_has_learned_all_labels_is_taken_as_it_is(
    rows: Prepared, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    if kind == "no dev labels":
        rows = without_dev_labels(rows)
    spy = Mock()
    spy.return_value.progress.dev_labels_learned = kind == "learned"
    monkeypatch.setattr(parts, "train", spy)
    model, default = fit_ssvae(SETTINGS, rows)
    assert model is spy.return_value.model and spy.call_count == 1
    assert default is spy.return_value.progress.default_mode


@pytest.mark.parametrize("mode", ["q", "posterior", "mix"])
def test_rows_are_classified_in_the_mode_that_is_best_on_dev_rows(
    rows: Prepared, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    model, default = build(SETTINGS, rows), Mode(mode, (0.3, 0.9))
    monkeypatch.setattr(parts, "fit_ssvae", lambda config, prepared: (model, default))
    result = predict_by_ssvae(SETTINGS, rows, rows.dev)
    want = classify_table(model, rows.dev, mode=mode, weights=(0.3, 0.9))
    np.testing.assert_array_equal(result, want)


def test_m2_has_neither_a_teacher_nor_ngrams(
    rows: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = override(SETTINGS, {"training.teacher": True})
    whole = Mock()
    monkeypatch.setattr(compare, "predict_by_ssvae", whole)
    assert compare.ARMS["m2"](settings, rows, ([], rows.dev)) is whole.return_value
    used, given, test = whole.call_args.args
    assert given is rows and test is rows.dev and not used.training.teacher
    changed = {name: value for name, value in vars(used.model).items() if "ngram" in name}
    assert changed.pop("ngram_words") and set(changed.values()) == {0}
    assert override(used, {"training.teacher": True, **_ngrams_of(settings)}) == settings
    names = [name for name, _ in build(used, rows).named_modules()]
    assert "decoder" in names and not any("ngram" in name for name in names)


def _ngrams_of(settings: Any) -> dict[str, Any]:
    return {
        f"model.{name}": value for name, value in vars(settings.model).items() if "ngram" in name
    }


def test_the_teacher_is_fitted_to_all_labels_and_the_unlabelled_rows(rows: Prepared) -> None:
    new = ["ababab", "cd", "", "xyz"]
    result = predict_by_teacher(SETTINGS, rows, new, rows.labelled)
    labelled = rows.with_dev_labels().labelled
    teacher = fit_teacher(
        [*rows.sequences(labelled), *rows.sequences(rows.unlabelled)],
        np.arange(20),
        labelled.y,
        num_classes=2,
    )
    np.testing.assert_array_equal(result, teacher.predict(new))
    assert result[:2].argmax(1).tolist() == [0, 1]
