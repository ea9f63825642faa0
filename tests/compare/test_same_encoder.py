from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from seqssvae.compare import same_encoder
from seqssvae.compare.same_encoder import (
    Clock,
    fit_pretrained,
    fit_self_trained,
    fit_supervised,
    pretrain,
)
from seqssvae.config import Config, override
from seqssvae.data.encoded import EncodedRows
from seqssvae.data.prepare import Prepared, prepare
from seqssvae.data.vocabulary import EOS
from seqssvae.model.ssvae import SSVAE
from seqssvae.nn.encoders import SequenceEncoder
from seqssvae.trained import classify_table
from tests.support.rows import make_rows, write_rows

QUICK = {
    "model.embedding_size": 6,
    "model.encoder_size": 6,
    "model.decoder_size": 4,
    "model.latent_size": 2,
    "model.dropout": 0.0,
    "model.encoder_word_dropout": 0.0,
    "model.ngram_buckets": 16,
    "objective.kl_warmup_steps": 2,
    "training.num_steps": 40,
    "training.evaluate_every": 10,
    "training.learning_rate": 0.03,
    "data.num_labels": 10,
}


def config(**changes: Any) -> Config:
    return override(Config(), {**QUICK, **{k.replace("__", "."): v for k, v in changes.items()}})


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
def test_each_learns_what_letters_tell(fit: Any, factorisation: str, prepared: Prepared) -> None:
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


def never() -> Clock:
    return Clock(np.inf)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_language_modelling_learns_what_follows_and_no_more(bidirectional: bool) -> None:
    """Of a cycle all is known but where it begins and ends; of random symbols nothing is."""
    generator = np.random.default_rng(0)
    settings = config(training__num_steps=100, training__learning_rate=0.03)
    cycles = symbols([[4 + (start + t) % 4 for t in range(20)] for start in range(4)])
    losses = pretrain(settings, encoder(bidirectional), cycles, never())
    # forward, 1 of 4 follows the symbol, and EOS after the 20th; backward, EOS tells nothing
    assert len(losses) == 100 and losses[-1] < 0.3 < 1 < losses[0]
    random = symbols(generator.integers(4, 8, (3000, 20)).tolist())
    losses = pretrain(settings, encoder(bidirectional), random, never())
    assert np.mean(losses[-20:]) > 0.9 * np.log(4)


def test_the_clock_ends_it(prepared: Prepared) -> None:
    assert pretrain(config(), encoder(True), symbols([[4, 5]]), Clock(-np.inf)) == []
    assert not Clock.start(config()).is_over
    assert Clock.start(config(training__max_minutes=0.001)).end < Clock.start(config()).end


def test_rounds_of_self_training_read_more_and_more_guesses(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The surest rows of the last round's model, and the best round by dev is kept."""
    scores = iter([(0.5, -1.0), (0.9, -2.0), (0.9, -1.0), (0.6, -1.0)])
    calls: list[tuple[SSVAE, EncodedRows | None]] = []

    def train(
        config: Config,
        model: SSVAE,
        prepared: Prepared,
        labelled: EncodedRows,
        guessed: EncodedRows | None,
        clock: Clock,
    ) -> tuple[float, float]:
        assert list(labelled.ids) == list(prepared.labelled.ids)
        calls.append((model, guessed))
        with torch.no_grad():
            for parameter in model.encoder_y.parameters():  # so that rounds differ
                parameter.mul_(1 + len(calls))
        return next(scores)

    monkeypatch.setattr(same_encoder, "_train", train)
    best = fit_self_trained(config(), prepared)
    assert best is calls[2][0] and calls[0][1] is None
    total = len(prepared.unlabelled)
    for number, (_, guessed) in enumerate(calls[1:]):
        assert guessed is not None and len(guessed) == int((number + 1) * total / 3)
        table = classify_table(calls[number][0], prepared.unlabelled)
        found = dict(zip(prepared.unlabelled.ids, table, strict=True))
        sureness = [found[id].max() for id in guessed.ids]
        assert [found[id].argmax() for id in guessed.ids] == guessed.y.tolist()
        assert min(sureness) >= np.sort(table.max(1))[-len(guessed)]


def test_the_best_weights_by_dev_are_kept(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scores that fall after the second evaluation: its weights come back."""
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
