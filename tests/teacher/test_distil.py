import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from seqssvae.config import Config
from seqssvae.data.batches import collate
from seqssvae.data.encode import encode_sequences
from seqssvae.data.prepare import Prepared, prepare
from seqssvae.nn.ngram_logits import NGramLogits
from seqssvae.nn.vectors import VectorReader, linear_logits
from seqssvae.overrides import override
from seqssvae.storage.vectors import with_vectors
from seqssvae.teacher.distil import distil, vectors_of
from tests.support.rows import write_rows


def prepared(folder: Path, num_labelled: int) -> Prepared:
    """Words of two languages that share no pair of letters, a few with a label."""
    random = np.random.default_rng(0)
    rows = []
    for number in range(200):
        label = number % 2
        word = "".join(random.choice(["ab", "ca"] if label else ["ba", "ac"], 4))
        known = number < 2 * num_labelled
        rows.append({"text": word, "label": "xy"[label] if known else None})
    path = write_rows(folder / "rows.jsonl", rows)
    return prepare(override(Config(), {"data.dev_fraction": 0.0}), path)


def ngrams() -> NGramLogits:
    return NGramLogits(num_buckets=512, num_classes=2)


def test_the_ngram_part_learns_the_teachers_posteriors(tmp_path: Path) -> None:
    data, part = prepared(tmp_path, 4), ngrams()
    (teacher,) = distil(part, data, seed=0)
    batch = collate(data.unlabelled, range(len(data.unlabelled)), num_classes=2)
    result = part(batch.x, batch.lengths).argmax(1)
    texts = data.sequences(data.unlabelled)
    truth = torch.tensor([int(text[:2] in ("ab", "ca")) for text in texts])
    assert (result == truth).double().mean() > 0.95
    assert (torch.from_numpy(teacher.predict(texts)).argmax(1) == result).double().mean() > 0.95


def test_sets_of_possible_labels_are_learned(tmp_path: Path) -> None:
    """Rows with "cc" are known not to be "x", of which all labelled rows with a "c" are."""
    texts = [("abc", "x"), ("bab", "y"), ("dad", "z")] * 6
    rows: list[dict[str, object]] = [{"text": text, "label": label} for text, label in texts]
    part, without = (NGramLogits(num_buckets=512, num_classes=3) for _ in range(2))
    path = write_rows(tmp_path / "rows.jsonl", rows + [{"text": "cc", "label": None}] * 150)
    data = prepare(override(Config(), {"data.dev_fraction": 0.0}), path)
    distil(without, data, seed=0)
    path = write_rows(tmp_path / "sets.jsonl", rows + [{"text": "cc", "label": ["y", "z"]}] * 150)
    data = prepare(override(Config(), {"data.dev_fraction": 0.0}), path)
    (teacher,) = distil(part, data, seed=0)
    assert teacher.posteriors.shape == (168, 3) and (teacher.posteriors[18:, 0] == 0).all()
    new = encode_sequences(["ccc", "abc"], data.vocabulary, max_length=9)
    batch = collate(new, range(2), num_classes=3)
    shares, before = (one(batch.x, batch.lengths).softmax(1)[:, 0] for one in (part, without))
    assert before[0] > 0.6 and shares[0] < 0.2 < 0.5 < shares[1]


def test_the_same_seed_gives_the_same_weights(tmp_path: Path) -> None:
    data, first, second = prepared(tmp_path, 4), ngrams(), ngrams()
    distil(first, data, seed=1)
    distil(second, data, seed=1)
    assert torch.equal(first.weight, second.weight) and first.weight.any()


def test_of_many_rows_some_are_read_and_a_message_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data, part = prepared(tmp_path, 20), ngrams()
    caplog.set_level(logging.DEBUG)
    distil(part, data, seed=0)
    assert not any(message.startswith("simple classifiers read") for message in caplog.messages)
    caplog.clear()
    (teacher,) = distil(part, data, seed=0, max_labelled=12, max_unlabelled=50)
    assert len(teacher.posteriors) == 62
    num_labelled, num_unlabelled = len(data.labelled), len(data.unlabelled)
    assert caplog.messages[:2] == [
        f"simple classifiers read 12 of {num_labelled} labelled rows",
        f"simple classifiers read 50 of {num_unlabelled} unlabelled rows",
    ]


def test_the_linear_part_starts_as_the_teacher_that_reads_vectors(tmp_path: Path) -> None:
    """Texts say nothing, vectors all; then texts say all and vectors nothing."""
    random = np.random.default_rng(0)
    y = np.arange(200) % 2
    words = [random.choice(["ab", "ba"], 4) for _ in y]
    other_words = [random.choice([["ab", "ca"], ["ba", "ac"]][label], 4) for label in y]
    telling = (y[:, None] - 0.5) * [2.0, 0, 0] + 0.5 * random.standard_normal((200, 3))
    silent = random.standard_normal((200, 3))
    silent[150] = np.nan
    for texts, vectors, of_vectors in ((words, telling, True), (other_words, silent, False)):
        rows = [
            {"text": "".join(text), "label": "xy"[label] if number < 20 else None}
            for number, (text, label) in enumerate(zip(texts, y.tolist(), strict=True))
        ]
        settings = {"data.dev_fraction": 0.0, "data.missing_vectors": True}
        path = write_rows(tmp_path / f"{of_vectors}.jsonl", rows)
        data = prepare(override(Config(), settings), with_vectors(path, vectors))
        part = ngrams()
        reader = VectorReader(3, num_features=2, num_classes=2, has_logits=True)
        known = data.unlabelled.vectors()
        assert known is not None
        reader.standardise_by(torch.from_numpy(known))
        (teacher,) = distil(part, data, seed=0, vectors=reader)
        share = sum(weight for name, weight in teacher.weights.items() if "vectors" in name)
        assert (share > 0.5) == of_vectors and teacher.share == pytest.approx(1 - share)
        batch = collate(data.unlabelled, range(len(data.unlabelled)), num_classes=2)
        assert batch.v is not None
        logits = linear_logits(part, reader, (batch.x, batch.lengths), batch.v)
        if teacher.of_vectors is not None:
            weight, bias = teacher.of_vectors
            wanted = (known @ weight + bias)[~np.isnan(known).any(1)]
            got = reader.logits(batch.v)[~batch.v.isnan().any(1)].detach()
            np.testing.assert_allclose(got, wanted, atol=1e-3)
        truth = y[data.unlabelled.index]
        accuracies = [
            float((table.argmax(1) == truth).mean())
            for table in (
                logits.detach().numpy(),
                teacher.predict(data.sequences(data.unlabelled), vectors_of(data.unlabelled)),
            )
        ]
        assert min(accuracies) > 0.9 and abs(accuracies[0] - accuracies[1]) < 0.04
