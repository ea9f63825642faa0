import dataclasses
import functools
import itertools
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch

from seqssvae.compare import same_encoder
from seqssvae.compare.same_encoder import (
    Best,
    fit_pretrained,
    fit_self_trained,
    fit_supervised,
    pretrain,
)
from seqssvae.config import Config
from seqssvae.data.encoded import EncodedRows
from seqssvae.data.prepare import Prepared, prepare
from seqssvae.data.vocabulary import EOS
from seqssvae.inference.predict import classify_table
from seqssvae.model.ssvae import SSVAE
from seqssvae.nn.encoders import SequenceEncoder
from tests.support.rows import make_rows, write_rows
from tests.support.training import quick_config

config = functools.partial(
    quick_config,
    model__embedding_size=6,
    model__encoder_size=6,
    model__dropout=0.0,
    model__encoder_word_dropout=0.0,
    model__ngram_buckets=16,
    training__num_steps=40,
    training__evaluate_every=10,
    training__learning_rate=0.03,
    data__num_labels=10,
)


@pytest.fixture
def prepared(tmp_path: Path) -> Prepared:
    """Rows of class "a" are made of other letters than those of class "b"."""
    generator = np.random.default_rng(0)
    letters = {"a": "pqrs", "b": "tuvw"}
    rows = [
        {
            "text": "".join(generator.choice(list(letters[label]), 1 + number % 5)),
            "label": label,
            "id": f"{label}{number}",
        }
        for number in range(60)
        for label in letters
    ]
    path = write_rows(tmp_path / "rows.jsonl", rows)
    return prepare(config(), path)


def accuracy(model: SSVAE, rows: EncodedRows) -> float:
    known = rows.take((rows.y >= 0).nonzero()[0])
    return float(np.mean(classify_table(model, known).argmax(1) == known.y))


@pytest.mark.parametrize(
    ("fit", "factorisation"),
    [
        (fit_supervised, "z-given-y"),
        (fit_supervised, "y-given-z"),
        (fit_self_trained, "z-given-y"),
        (fit_pretrained, "z-given-y"),
    ],
)
def test_each_learns_classes_of_different_letters(
    fit: Any, factorisation: str, prepared: Prepared
) -> None:
    settings = config(model__factorisation=factorisation)
    model = fit(settings, prepared)
    assert accuracy(model, prepared.labelled) == 1 and accuracy(model, prepared.dev) == 1
    torch.testing.assert_close(
        classify_table(fit(settings, prepared), prepared.dev), classify_table(model, prepared.dev)
    )


def symbols(rows: list[list[int]]) -> EncodedRows:
    return make_rows([[*row, EOS] for row in rows])


def encoder(bidirectional: bool) -> SequenceEncoder:
    torch.manual_seed(1)
    return SequenceEncoder(
        vocabulary_size=8, embedding_size=8, hidden_size=16, bidirectional=bidirectional
    )


@pytest.mark.parametrize("bidirectional", [False, True])
def test_language_modelling_learns_the_next_symbol_alone(bidirectional: bool) -> None:
    """In a cycle all but its start and end can be predicted, in random symbols nothing."""
    generator = np.random.default_rng(0)
    settings = config(training__num_steps=100, training__learning_rate=0.03)
    cycles = symbols([[4 + (start + t) % 4 for t in range(20)] for start in range(4)])
    losses = pretrain(settings, encoder(bidirectional), cycles)
    # forward, EOS follows the 20th symbol; backward, EOS does not determine the symbol before
    assert len(losses) == 100 and losses[-1] < 0.3 < 1 < losses[0]
    random = symbols(generator.integers(4, 8, (3000, 20)).tolist())
    losses = pretrain(settings, encoder(bidirectional), random)
    assert np.mean(losses[-20:]) > 0.9 * np.log(4)


def test_the_time_limit_ends_it(prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    assert pretrain(config(), encoder(True), symbols([[4, 5]]), -np.inf) == []
    seconds = itertools.count(0, 60)  # a minute at each look at the clock
    monkeypatch.setattr("time.monotonic", lambda: float(next(seconds)))
    evaluated = []

    def score(*_: object) -> tuple[float, float]:
        evaluated.append(next(seconds))
        return 0.0, 0.0

    monkeypatch.setattr(same_encoder, "_score", score)
    fit_supervised(config(training__max_minutes=5.5), prepared)
    assert evaluated == [420]  # once the time is over


def test_without_a_limit_the_steps_decide(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    hours = itertools.count(0, 3600)
    monkeypatch.setattr("time.monotonic", lambda: float(next(hours)))
    evaluated = Mock(return_value=(0.0, 0.0))
    monkeypatch.setattr(same_encoder, "_score", evaluated)
    fit_pretrained(config(training__num_steps=8, training__evaluate_every=4), prepared)
    assert evaluated.call_count == 2


def test_rounds_of_self_training_use_more_and_more_pseudo_labels(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of which the last round was most confident; the best round by dev is kept."""
    scores = iter([(0.5, -1.0), (0.9, -2.0), (0.9, -1.0), (0.6, -1.0), (0.0, 0.0)])
    calls: list[tuple[SSVAE, EncodedRows | None]] = []

    def train(
        config: Config,
        model: SSVAE,
        prepared: Prepared,
        pseudo_labelled: EncodedRows | None,
        end: float,
        num_steps: int | None = None,
    ) -> Best:
        calls.append((model, pseudo_labelled))
        assert num_steps == (3 if len(calls) == 5 else None)
        with torch.no_grad():
            for parameter in model.encoder_y.parameters():  # so that rounds differ
                parameter.mul_(1 + len(calls))
        return Best(next(scores), len(calls))

    monkeypatch.setattr(same_encoder, "_train", train)
    best = fit_self_trained(config(), prepared)
    last = calls.pop()  # on all labels, with the pseudo-labels of the third round
    assert best is last[0] and last[1] is calls[2][1] and calls[0][1] is None
    assert len(calls) == 4 and all(best is not model for model, _ in calls)
    total = len(prepared.unlabelled)
    for number, (_, pseudo) in enumerate(calls[1:]):
        assert pseudo is not None and len(pseudo) == int((number + 1) * total / 3)
        table = classify_table(calls[number][0], prepared.unlabelled)
        result = dict(zip(prepared.unlabelled.ids, table, strict=True))
        confidence = [result[id].max() for id in pseudo.ids]
        assert [result[id].argmax() for id in pseudo.ids] == pseudo.y.tolist()
        assert min(confidence) >= np.sort(table.max(1))[-len(pseudo)]


def test_the_best_number_of_steps_by_dev_is_taken_again_with_all_labels(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scores are lower after the second evaluation; weights are those of a plain second training.

    Without labelled dev rows the last weights are kept.
    """
    scores = iter([(0.2, 0.0), (0.7, 0.0), (0.6, 0.0), (0.7, -1.0)])
    monkeypatch.setattr(same_encoder, "_score", lambda model, prepared: next(scores))
    weights = fit_supervised(config(), prepared).state_dict()
    assert next(scores, None) is None
    monkeypatch.setattr(same_encoder, "_score", lambda model, prepared: (0.0, 0.0))
    everything = dataclasses.replace(
        prepared.with_dev_labels(), dev=prepared.dev.take(np.flatnonzero(prepared.dev.y < 0))
    )
    steps = same_encoder._steps
    monkeypatch.setattr(same_encoder, "_steps", lambda *args: itertools.islice(steps(*args), 20))
    plain = fit_supervised(config(), everything).state_dict()
    assert list(weights) == list(plain)
    for name, weight in weights.items():
        assert torch.equal(weight, plain[name]), name


def test_both_trainings_start_from_the_pretrained_encoder(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pretrain(config: Config, encoder: SequenceEncoder, *_: object) -> None:
        torch.nn.init.constant_(encoder.embedding.weight, 3.0)

    def train(config: Config, model: SSVAE, *_: object) -> Best:
        weight = model.get_parameter("encoder_y.embedding.weight")
        assert (weight == 3.0).all()
        models.append(torch.nn.init.constant_(weight, 4.0))
        return Best((0.0, 0.0), 40)

    models: list[torch.Tensor] = []
    monkeypatch.setattr(same_encoder, "pretrain", pretrain)
    monkeypatch.setattr(same_encoder, "_train", train)
    model = fit_pretrained(config(), prepared)
    assert model.get_parameter("encoder_y.embedding.weight") is models[1]


def test_without_labels_on_dev_there_is_one_training(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = Mock(return_value=Best((0.0, 0.0), 40))
    monkeypatch.setattr(same_encoder, "_train", train)
    bare = dataclasses.replace(prepared, dev=prepared.dev.with_labels(None))
    assert fit_supervised(config(), bare) is train.call_args.args[1] and train.call_count == 1
