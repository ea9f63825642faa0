"""The sample that SentencePiece learns from."""

import logging
import random
import signal
import threading
import time
from unittest.mock import Mock

import pytest

from seqssvae.data import sentencepieces

SPECIAL = ("<pad>", "<unk>", "<bos>", "<eos>")


def test_a_huge_corpus_is_sampled_by_content(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    generator = random.Random(0)
    # two classes that alternate: a sample of every second row would hold one of them
    texts = [("x" if i % 2 else "y") + f"{generator.random():.12f}" for i in range(4000)]
    sample = sentencepieces._sample(iter(texts), 10_000)[0]
    total = sum(map(len, sample))
    assert 2_500 < total <= 10_000
    share = sum(text[0] == "x" for text in sample) / len(sample)
    assert 0.4 < share < 0.6
    generator.shuffle(texts)
    assert sentencepieces._sample(iter(texts), 10_000)[0] == sample

    pieces = sentencepieces.train_pieces(texts, size=320, special=SPECIAL, sample_characters=10_000)
    assert caplog.messages == [
        f"SentencePiece learns from a sample of {len(sample)} of 4000 rows, {total} characters",
        "SentencePiece learns 320 pieces",
    ]
    assert pieces == sentencepieces.train_pieces(sample, size=320, special=SPECIAL)


def test_a_small_corpus_is_not_sampled() -> None:
    assert sentencepieces._sample(["b", "a", "b"], 3)[0] == ["a", "b", "b"]


def test_long_texts_are_cut_into_chunks() -> None:
    text = "".join(map(chr, range(32, 12_000)))
    chunks = list(sentencepieces._chunks([text, "", "short"]))
    assert "".join(chunks[:-1]) == text
    assert chunks[-1] == "short"
    assert max(map(len, chunks)) <= sentencepieces.CHUNK_CHARACTERS


def test_a_signal_need_not_wait_for_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """SentencePiece learns for ten seconds without a look at signals."""

    def learn(**_: object) -> None:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        time.sleep(3)

    monkeypatch.setattr("sentencepiece.SentencePieceTrainer.train", learn)
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        sentencepieces.train_pieces(["ab"], size=300, special=SPECIAL)
    assert time.monotonic() - start < 2


def test_its_errors_are_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sentencepiece.SentencePieceTrainer.train", Mock(side_effect=OSError("no")))
    with pytest.raises(OSError, match="no"):
        sentencepieces.train_pieces(["ab"], size=300, special=SPECIAL)
