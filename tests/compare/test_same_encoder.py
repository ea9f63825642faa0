import functools
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from seqssvae.compare import same_encoder
from seqssvae.compare.same_encoder import (
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
    assert evaluated == [60, 420]  # before the first step, and once the time is over


def test_rounds_of_self_training_use_more_and_more_pseudo_labels(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of which the last round was most confident; the best round by dev is kept."""
    scores = iter([(0.5, -1.0), (0.9, -2.0), (0.9, -1.0), (0.6, -1.0)])
    calls: list[tuple[SSVAE, EncodedRows | None]] = []

    def train(
        config: Config,
        model: SSVAE,
        prepared: Prepared,
        pseudo_labelled: EncodedRows | None,
        end: float,
    ) -> tuple[float, float]:
        calls.append((model, pseudo_labelled))
        with torch.no_grad():
            for parameter in model.encoder_y.parameters():  # so that rounds differ
                parameter.mul_(1 + len(calls))
        return next(scores)

    monkeypatch.setattr(same_encoder, "_train", train)
    best = fit_self_trained(config(), prepared)
    assert best is calls[2][0] and calls[0][1] is None
    total = len(prepared.unlabelled)
    for number, (_, pseudo) in enumerate(calls[1:]):
        assert pseudo is not None and len(pseudo) == int((number + 1) * total / 3)
        table = classify_table(calls[number][0], prepared.unlabelled)
        result = dict(zip(prepared.unlabelled.ids, table, strict=True))
        confidence = [result[id].max() for id in pseudo.ids]
        assert [result[id].argmax() for id in pseudo.ids] == pseudo.y.tolist()
        assert min(confidence) >= np.sort(table.max(1))[-len(pseudo)]


def test_the_best_weights_by_dev_are_kept(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scores are lower after the third evaluation: its weights are restored."""
    scores = iter([(0.1, 0.0), (0.2, 0.0), (0.7, 0.0), (0.6, 0.0), (0.7, -1.0)])
    seen = []

    def score(model: SSVAE, prepared: Prepared) -> tuple[float, float]:
        seen.append({name: weight.clone() for name, weight in model.state_dict().items()})
        return next(scores)

    monkeypatch.setattr(same_encoder, "_score", score)
    model = fit_supervised(config(), prepared)
    assert len(seen) == 5  # before the first step and every 10
    assert any(not torch.equal(seen[2][name], seen[3][name]) for name in seen[2])
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, seen[2][name]), name
