"""Shares of symbols, against the classifier's own log-probabilities and against plain loops."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from seqssvae.data.batches import collate
from seqssvae.data.encoded import EncodedRows
from seqssvae.data.sentencepieces import train_pieces
from seqssvae.data.vocabulary import (
    EOS,
    SPECIAL_SYMBOLS,
    UNK,
    SentencePieceVocabulary,
    TokenVocabulary,
)
from seqssvae.inference import explain
from seqssvae.inference.classify import MODES, classify
from seqssvae.inference.explain import explain_row, share_out
from seqssvae.model.ssvae import SSVAE
from seqssvae.storage.vectors import Vectors
from seqssvae.trained import load
from seqssvae.training.fit import fit
from tests.support.factories import FACTORISATIONS, make_model, stepwise_log_prob
from tests.support.rows import make_rows, write_rows
from tests.support.training import quick_config

WEIGHTS = (0.7, 0.4)
ROWS = [[4, 5, 6, 4, 5, EOS], [EOS], [UNK, 4, EOS], [4, 5, 6, 6, 5, 4, 5, EOS]]  # the last is cut
MODELS: dict[str, dict[str, Any]] = {
    **{name: {"factorisation": name} for name in FACTORISATIONS},
    "prior": {"prior": torch.tensor([0.5, 0.2, 0.3])},
    "no z": {"latent_size": 0},
    "no n-grams": {"ngram_buckets": 0, "decoder_ngrams": 0},
    "few buckets": {"ngram_buckets": 3},
    "shared": {"shared_encoder": True},
    "vectors": {"vector_size": 3},
}


def rows(model: SSVAE | None = None) -> EncodedRows:
    made = make_rows(ROWS, max_length=5)
    if model is None or model.vectors is None:
        return made
    vectors = np.random.default_rng(0).standard_normal((len(ROWS), model.vectors.size))
    vectors[1] = np.nan
    return made.with_vectors(Vectors([vectors]))


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> SSVAE:
    made = make_model(3, **MODELS[request.param])
    if made.ngrams is not None and made.ngrams.words is not None:
        made.ngrams.words[4:] = torch.tensor([[11, 1, 3], [12, 1, 1], [13, 1, 0]])
    return made


@pytest.mark.parametrize("mode", MODES)
def test_shares_add_up_to_the_difference_of_log_probabilities(model: SSVAE, mode: str) -> None:
    for row in range(len(ROWS)):
        batch = collate(rows(model), np.array([row]), num_classes=0)
        log_prob = classify(model, batch, mode=mode, weights=WEIGHTS)[0].log()
        for labels in ((0, 1), (2, 0)):
            shares = share_out(model, rows(model), row, labels, mode=mode, weights=WEIGHTS)
            want = float(log_prob[labels[0]] - log_prob[labels[1]])
            assert shares.symbols.shape == (3, len(ROWS[row]))
            np.testing.assert_allclose(shares.symbols.sum() + shares.rest, want, atol=1e-9)
            of_ngrams = sum(share for _, _, share in shares.ngrams)
            np.testing.assert_allclose(shares.symbols[0].sum(), of_ngrams, atol=1e-9)


def test_shares_of_n_grams_are_those_of_the_linear_part() -> None:
    """With a weight for one n-gram alone, it has all, shared by its symbols."""
    model = make_model(3, ngram_buckets=50_000)
    assert model.ngrams is not None
    with torch.no_grad():
        model.ngrams.weight.zero_()
        (bucket, *_) = model.ngrams.features(torch.tensor([[4, 5, 6]]), torch.tensor([3]))[0]
        whole, _, _ = model.ngrams.features(torch.tensor(ROWS[:1]), torch.tensor([6]))
        assert bucket in whole
        model.ngrams.weight[bucket, 1] = 2.0
    shares = share_out(model, rows(), 0, (1, 0), mode="q", weights=WEIGHTS)
    spans = {(first, last) for first, last, share in shares.ngrams if share}
    alone = {tuple(ROWS[0][first : last + 1]) for first, last in spans}
    assert len(alone) == 1
    touched = {t for first, last in spans for t in range(first, last + 1)}
    assert touched == set(np.flatnonzero(shares.symbols[0]).tolist())


def test_shares_of_the_encoder_are_a_loop_over_what_is_shown() -> None:
    model = make_model(3)
    sequence = ROWS[0][:5]

    def logit(shown: list[int]) -> float:
        x = [[symbol if t in shown else UNK for t, symbol in enumerate(sequence)]]
        features = model.encode(torch.tensor(x), torch.tensor([5]))
        assert model.head_y is not None
        logits = model.head_y(features.y)[0].detach()
        return float(logits[1] - logits[2])

    shares = share_out(model, rows(), 0, (1, 2), mode="q", weights=(1.0, 0.0)).symbols[1]
    for t in range(5):
        forward = logit(list(range(t + 1))) - logit(list(range(t)))
        backward = logit(list(range(t, 5))) - logit(list(range(t + 1, 5)))
        np.testing.assert_allclose(shares[t], (forward + backward) / 2, atol=1e-12)
    assert abs(shares[:5]).min() > 0 == shares[5]


def test_long_rows_are_shown_in_groups_that_still_add_up(
    model: SSVAE, monkeypatch: pytest.MonkeyPatch
) -> None:
    want = share_out(model, rows(model), 3, (0, 1), mode="q", weights=WEIGHTS)
    monkeypatch.setattr(explain, "MAX_SHOWN", 2)
    monkeypatch.setattr(explain, "NUM_POSITIONS", 7)
    got = share_out(model, rows(model), 3, (0, 1), mode="q", weights=WEIGHTS)
    np.testing.assert_allclose(got.symbols.sum(1), want.symbols.sum(1), atol=1e-9)
    assert got.symbols[1, 0] == got.symbols[1, 1] != got.symbols[1, 2]


def test_shares_of_the_decoder_are_step_by_step_log_probabilities() -> None:
    model = make_model(3)
    features = model.encode(torch.tensor([ROWS[0][:5]]), torch.tensor([5]))
    symbols = ROWS[0][:5]
    shares = share_out(model, rows(), 0, (2, 0), mode="posterior", weights=(0.0, 1.0)).symbols[2]
    sums = []
    for y in (2, 0):
        z = model.z_posterior(features, torch.tensor([y]))[0][0]
        steps = [stepwise_log_prob(model, symbols[:t], z, y) for t in range(6)]
        sums.append(torch.stack(steps).detach().numpy())
    np.testing.assert_allclose(shares[:5], np.diff(sums[0]) - np.diff(sums[1]), atol=1e-9)
    assert shares[5] == 0


def test_texts_of_symbols_and_words() -> None:
    """Bytes of a character that is no piece are one text; spaces start words."""
    pieces = SentencePieceVocabulary(
        train_pieces(["free pills now"] * 20, size=300, special=SPECIAL_SYMBOLS)
    )
    ids = [*pieces.encode("free ☃ now"), EOS]
    model = make_model(2, vocabulary_size=len(pieces))
    options: Any = {"mode": "mix", "weights": WEIGHTS}
    found = explain_row(model, make_rows([ids]), 0, (0, 1), vocabulary=pieces, **options)
    assert "".join(one["text"] for one in found["symbols"]) == "free ☃ now<eos>"
    assert [one["text"] for one in found["words"]] == ["free", "☃", "now", "<eos>"]
    total = sum(one["share"] for one in found["symbols"])
    np.testing.assert_allclose(total + found["rest"], found["difference"], atol=1e-9)
    np.testing.assert_allclose(sum(one["share"] for one in found["words"]), total, atol=1e-9)
    tokens = TokenVocabulary(["x y", "z", "w"])
    found = explain_row(
        make_model(2), make_rows([[4, 5, EOS]]), 0, (1, 0), vocabulary=tokens, **options
    )
    assert [one["text"] for one in found["symbols"]] == ["x y", "z", "<eos>"]
    assert found["words"] == [] and len(found["ngrams"]) == 6
    assert {"x y", "x y z", "z <eos>"} < {one["text"] for one in found["ngrams"]}


MOTIF = "hgfe"
LENGTH = 20


def with_motif(random: np.random.Generator, *, planted: bool) -> str:
    """Random letters, with the motif at a random position or nowhere."""
    while MOTIF in (text := "".join(random.choice(list("abcdefgh"), LENGTH))):
        pass
    start = int(random.integers(LENGTH - len(MOTIF) + 1))
    return text[:start] + MOTIF + text[start + len(MOTIF) :] if planted else text


def test_a_planted_motif_is_found(tmp_path: Path) -> None:
    """The four neighbours with the greatest share are the motif, in 95 of 100 new rows."""
    random = np.random.default_rng(0)
    labelled = [
        {"text": with_motif(random, planted=bool(i % 2)), "label": ["without", "with"][i % 2]}
        for i in range(200)
    ]
    data = write_rows(tmp_path / "rows.jsonl", labelled)
    fit(quick_config(data__max_length=LENGTH + 1), data, tmp_path / "run")
    texts = [with_motif(random, planted=True) for _ in range(100)]
    found = load(tmp_path / "run").explain(texts, label="with")
    num_found = 0
    for text, one in zip(texts, found, strict=True):
        shares = [symbol["share"] for symbol in one["symbols"]][:LENGTH]
        start = int(np.convolve(shares, np.ones(len(MOTIF)), "valid").argmax())
        num_found += text[start : start + len(MOTIF)] == MOTIF
    assert num_found >= 95
