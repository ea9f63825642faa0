"""Classes that differ past `data.max_length`: n-grams of q(y | x) read them wherever it is used."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import seqssvae
from seqssvae.compare.same_encoder import _cross_entropy
from seqssvae.config import Config
from seqssvae.data.batches import Batch, collate
from seqssvae.data.vocabulary import EOS
from seqssvae.estimators import FusedEnum, TraceEnum
from seqssvae.estimators.check import brute_force_loss
from seqssvae.export.onnx import export_onnx
from seqssvae.export.sklearn import SeqSSVAEClassifier
from seqssvae.inference.classify import classify
from seqssvae.inference.latent import encode_z, kl_per_dim
from seqssvae.model.ssvae import SSVAE
from seqssvae.training.fit import fit
from tests.support.factories import make_model
from tests.support.rows import make_rows, write_rows
from tests.support.training import quick_config


def make_texts(seed: int, num_rows: int = 120) -> tuple[list[str], list[str]]:
    """12 random symbols, then four of a class's own, and the classes."""
    random = np.random.default_rng(seed)
    labels = ["left", "right"] * (num_rows // 2)
    tails = {"left": "cdcd", "right": "dccd"}
    return ["".join(random.choice(list("ab"), 12)) + tails[y] for y in labels], labels


def settings(**changes: Any) -> Config:
    return quick_config(data__max_length=8, data__vocabulary="characters", **changes)


WITHOUT_TEACHER = {
    "training__teacher": False,
    "training__num_steps": 60,
    "training__learning_rate": 0.05,
}


@pytest.mark.parametrize("teacher", [True, False])
def test_a_run_reads_them_in_training_and_in_use(
    teacher: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from experiments.onnx_classify import OnnxClassifier

    changes = {} if teacher else WITHOUT_TEACHER
    (texts, labels), (others, truth) = make_texts(0), make_texts(1)
    known = [label if number < 60 else None for number, label in enumerate(labels)]
    rows = [{"text": text, "label": y} for text, y in zip(texts, known, strict=True)]
    data = write_rows(tmp_path / "rows.jsonl", rows)
    test = write_rows(
        tmp_path / "test.jsonl",
        [{"text": text, "label": y} for text, y in zip(others, truth, strict=True)],
    )
    caplog.set_level("INFO")
    fit(settings(**changes), data, tmp_path / "run")
    expected = (
        "rows are longer than data.max_length = 8: n-grams of q(y|x) are read up to symbol 128"
    )
    assert any(expected in message for message in caplog.messages)
    trained = seqssvae.load(tmp_path / "run")
    found = trained.classify(others, mode="q")
    assert [row["label"] for row in found] == truth
    assert trained.evaluate(test, num_samples=1)["accuracy"] == 1
    table = np.array([list(row["probabilities"].values()) for row in found])
    batch = collate(trained.read(test), range(len(truth)), num_classes=2)
    want = classify(trained.model, batch, weights=trained.weights("q"))
    np.testing.assert_allclose(want, table, atol=1e-6)
    encoded = trained.encode(others)["probabilities"]
    np.testing.assert_allclose(encoded, table, atol=1e-6)
    export_onnx(trained, tmp_path / "onnx")
    by_onnx = OnnxClassifier(tmp_path / "onnx").probabilities(others)
    np.testing.assert_allclose(by_onnx, table, atol=1e-5)

    fit(settings(data__ngram_reach=1, **changes), data, tmp_path / "cut")
    assert seqssvae.load(tmp_path / "cut").evaluate(test, num_samples=1)["accuracy"] < 0.8


def with_noise(loss: Callable[[SSVAE, Batch], float]) -> Callable[[SSVAE, Batch], Tensor]:
    """A loss as a tensor, the same noise at each call."""

    def seeded(model: SSVAE, batch: Batch) -> Tensor:
        torch.manual_seed(0)
        return torch.as_tensor(loss(model, batch))

    return seeded


READERS: dict[str, Callable[[SSVAE, Batch], Tensor]] = {
    "forward": lambda model, batch: model(batch),
    "classify": lambda model, batch: classify(model, batch),
    "encode_z": lambda model, batch: encode_z(model, batch)[0],
    "kl_per_dim": kl_per_dim,
    "fused": with_noise(lambda m, batch: FusedEnum().loss(m.model, m.guide, batch)),
    "trace": with_noise(lambda m, batch: TraceEnum().loss(m.model, m.guide, batch)),
    "check": lambda m, batch: brute_force_loss(m, batch, torch.zeros(1, m.latent_size)),
    "same encoder": lambda model, batch: _cross_entropy(model, batch),
}


@pytest.mark.parametrize("reader", READERS)
def test_whoever_reads_a_batch_reads_whole_rows(reader: str) -> None:
    """Whatever depends on q(y | x) changes without them; only n-grams read them."""
    model, ids = make_model(), torch.randint(4, 7, (8, 12)).tolist()
    assert model.ngrams is not None
    torch.nn.init.normal_(model.ngrams.weight, std=30.0)
    rows = make_rows([[*row, EOS] for row in ids], [row % 3 for row in range(8)], max_length=3)
    batch = collate(rows, range(8), num_classes=3)
    cut = dataclasses.replace(batch, whole=None)
    found, other = (READERS[reader](model, one) for one in (batch, cut))
    assert not torch.allclose(found, other)


def test_the_scikit_learn_estimator_reads_them() -> None:
    (texts, labels), (others, truth) = make_texts(0), make_texts(1)
    assert SeqSSVAEClassifier(config=settings()).fit(texts, labels).score(others, truth) == 1
