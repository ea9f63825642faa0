"""A larger model computes the same for the symbols and classes of the smaller one."""

from typing import Any

import pytest
import torch

from seqssvae.data.vocabulary import BOS, CharacterVocabulary
from seqssvae.model.grow import copy_weights
from seqssvae.nn.words import tabulate_words
from tests.support.factories import DECODERS, FACTORISATIONS, make_batch, make_model

VOCABULARY = CharacterVocabulary("abc de")  # the smaller model has the first three
CASES: list[dict[str, Any]] = [
    *({**options, "decoder_ngrams": 0} for options in DECODERS.values()),
    *({"factorisation": name, "decoder_ngrams": 0} for name in FACTORISATIONS),
    {"shared_encoder": True, "decoder_ngrams": 0},
]


@pytest.mark.parametrize("options", CASES)
def test_old_symbols_and_classes_are_as_before(options: dict[str, Any]) -> None:
    old = make_model(2, vocabulary_size=7, **options)
    new = make_model(4, vocabulary_size=10, **options)
    copy_weights(new, old, VOCABULARY)
    batch, y = make_batch([0, 1, 1], vocabulary_size=7), torch.tensor([0, 1, 1])
    features, before = (one.encode(batch.x, batch.lengths) for one in (new, old))
    loc, scale = new.z_posterior(features, y)
    for got, want in zip((loc, scale), old.z_posterior(before, y), strict=True):
        torch.testing.assert_close(got, want, rtol=0, atol=1e-12)
    z = loc if new.y_reads_z else None
    got = new.y_logits(features, z)
    torch.testing.assert_close(got[:, :2].log_softmax(-1), old.y_logits(before, z))
    torch.testing.assert_close(got[:, 2], got[:, 3])  # of new classes all is 0
    state, state_before = new.decoder.start(loc, y), old.decoder.start(loc, y)
    for symbols in torch.cat([torch.full((3, 1), BOS), batch.x], 1).t():
        logits, state = new.decoder.step(symbols, state)
        want, state_before = old.decoder.step(symbols, state_before)
        torch.testing.assert_close(logits[:, :7], want, rtol=0, atol=1e-12)


def test_classes_may_be_added_to_a_model_without() -> None:
    old, new = make_model(0, vocabulary_size=10), make_model(3, vocabulary_size=10)
    copy_weights(new, old, VOCABULARY)
    batch = make_batch([-1, -1])
    assert torch.equal(new.encoder_z(batch.x, batch.lengths), old.encoder_z(batch.x, batch.lengths))
    for name in ("output", "embedding"):
        got, want = (getattr(one.decoder, name).weight for one in (new, old))
        assert torch.equal(got, want)


def test_other_buckets_are_not_copied_and_words_are_those_of_the_vocabulary() -> None:
    old, new = make_model(2, ngram_buckets=32), make_model(3, vocabulary_size=10)
    assert old.ngrams is not None and new.ngrams is not None and new.ngrams.words is not None
    weight = new.ngrams.weight.clone()
    copy_weights(new, old, VOCABULARY)
    assert torch.equal(new.ngrams.weight, weight) and not new.ngrams.words.any()
    assert torch.equal(new.ngrams.bias[:2], old.ngrams.bias)
    assert old.ngrams.words is not None
    old.ngrams.words[4] = 1  # it reads words
    copy_weights(new, old, VOCABULARY)
    assert torch.equal(new.ngrams.words, torch.from_numpy(tabulate_words(VOCABULARY)))
