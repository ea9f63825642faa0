"""The ONNX file compared with its model, and the example that runs it without torch."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import seqssvae
from seqssvae.cli import main
from seqssvae.config import Config, DataConfig
from seqssvae.data.batches import collate
from seqssvae.data.labels import Labels
from seqssvae.data.vocabulary import CharacterVocabulary, TokenVocabulary, build_vocabulary
from seqssvae.errors import InputError
from seqssvae.export.onnx import EncoderForExport, export_onnx
from seqssvae.nn.words import tabulate_words
from seqssvae.storage.vectors import with_vectors
from seqssvae.trained import TrainedModel
from tests.support.factories import SMALL, make_batch, make_model

ROOT = Path(__file__).parents[2]
KINDS: dict[str, dict[str, Any]] = {
    "max": {},
    "last": {"pooling": "last", "cell": "gru"},
    "mean": {"pooling": "mean", "encoder_layers": 2},
    "one direction": {"pooling": "last", "bidirectional": False},
    "shared": {"shared_encoder": True, "ngram_buckets": 0},
    "y given z": {"factorisation": "y-given-z"},
    "no z": {"latent_size": 0},
    "vectors": {"vector_size": 3},
    "vectors, y given z": {"vector_size": 2, "factorisation": "y-given-z", "ngram_buckets": 0},
}


def untrained(vocabulary: Any, **changes: Any) -> TrainedModel:
    """A model of three classes with random weights."""
    model = make_model(vocabulary_size=len(vocabulary), **changes)
    if model.ngrams is not None and model.ngrams.words is not None:
        model.ngrams.words.copy_(torch.from_numpy(tabulate_words(vocabulary)))
    return TrainedModel(
        model=model,
        config=dataclasses.replace(
            Config(),
            data=DataConfig(missing_vectors=True),
            model=dataclasses.replace(SMALL, **changes),
        ),
        vocabulary=vocabulary,
        labels=Labels(("u", "v", "w")),
        manifest={},
    )


@pytest.mark.parametrize("kind", KINDS)
def test_the_exported_network_is_the_model(kind: str) -> None:
    """In torch, to all digits: rows of unsorted lengths, one of length 0, padding of any kind."""
    model = make_model(**KINDS[kind])
    batch = make_batch([-1] * 7, extra_padding=3, vector_size=KINDS[kind].get("vector_size", 0))
    lengths = batch.lengths.clone()
    lengths[3] = 0
    x = batch.x.masked_fill(torch.arange(8) >= lengths.unsqueeze(1), 5)
    features = model.encode(x, lengths, v=batch.v)
    wanted = model.y_logits(features, model.z_posterior(features)[0]).exp()
    torch.testing.assert_close(EncoderForExport(model, 99, 1.0)(x, lengths, batch.v), wanted)
    assert wanted.std(0).min() > 1e-3  # rows differ


@pytest.mark.parametrize("kind", KINDS)
def test_any_number_of_rows_and_any_length(kind: str, tmp_path: Path) -> None:
    from experiments.onnx_classify import OnnxClassifier

    trained = untrained(CharacterVocabulary("abcd"), **KINDS[kind])
    facts = export_onnx(trained, tmp_path / "onnx")
    assert facts["difference"] < 1e-5
    classifier = OnnxClassifier(tmp_path / "onnx")
    for texts in (["a"], ["abca", "", "dcbaabcdxx", "b" * 90, "a" * 300], ["ab"] * 9):
        v = make_batch([-1] * len(texts), vector_size=KINDS[kind].get("vector_size", 0)).v
        given: Any = texts if v is None else with_vectors(texts, v)
        predictions = trained.classify(given, num_samples=1)
        wanted = np.array([list(row["probabilities"].values()) for row in predictions])
        if "y given z" in kind:  # the model samples z, the file takes its mean
            rows = trained.read_sequences(given)
            batch = collate(rows, range(len(texts)), num_classes=3)
            wanted = trained.model(batch).detach().numpy()
        got = classifier.probabilities(texts, None if v is None else v.numpy())
        np.testing.assert_allclose(got, wanted, atol=1e-5)


def test_the_power_of_q_is_exported(tmp_path: Path) -> None:
    """That of the run's summary, with which `classify --mode q` answers."""
    from experiments.onnx_classify import OnnxClassifier

    plain = untrained(CharacterVocabulary("abcd"))
    trained = dataclasses.replace(plain, manifest={"summary": {"powers": [0.4, 2.0]}})
    export_onnx(trained, tmp_path)
    got = OnnxClassifier(tmp_path).probabilities(["abca", "dd"])
    by_power, by_one = (
        [list(row["probabilities"].values()) for row in one.classify(["abca", "dd"], mode="q")]
        for one in (trained, plain)
    )
    np.testing.assert_allclose(got, by_power, atol=1e-6)
    assert np.abs(np.subtract(by_power, by_one)).max() > 1e-3


def test_every_kind_of_vocabulary(tmp_path: Path) -> None:
    from experiments.onnx_classify import OnnxClassifier

    sentences = ["the cat sat", "a dog ran away", "the dog sat"] * 4
    kinds: list[tuple[Any, list[str], list[Any]]] = [
        (build_vocabulary("sentencepiece", sentences, size=300), sentences[:3], sentences[:3]),
        (TokenVocabulary(["e4", "e5"]), ["e4 e5 d4", "e5"], [["e4", "e5", "d4"], ["e5"]]),
    ]
    for number, (vocabulary, texts, sequences) in enumerate(kinds):
        trained = untrained(vocabulary)
        export_onnx(trained, tmp_path / str(number))
        got = OnnxClassifier(tmp_path / str(number)).probabilities(texts)
        wanted = [list(row["probabilities"].values()) for row in trained.classify(sequences)]
        np.testing.assert_allclose(got, wanted, atol=1e-5)


def test_the_example_runs_without_torch(
    small_run: tuple[Path, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """`onnx_classify.py` where neither torch nor seqssvae can be imported."""
    out = tmp_path / "exported"
    assert main(["export", str(small_run[0]), "--to", "onnx", "--out", str(out), "--json"]) == 0
    captured = capfd.readouterr()
    assert json.loads(captured.out.splitlines()[-1])["difference"] < 1e-5
    assert "Warning" not in captured.err
    blocked = (
        "import runpy, sys\n"
        "sys.modules.update(torch=None, seqssvae=None, pyro=None)\n"
        f"sys.argv = ['onnx_classify.py', {str(out)!r}, 'abab', 'cdcdcd']\n"
        f"runpy.run_path({str(ROOT / 'experiments' / 'onnx_classify.py')!r}, run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", blocked], capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stderr
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    wanted = seqssvae.load(small_run[0]).classify(["abab", "cdcdcd"])
    assert [label for label, _ in lines] == [row["label"] for row in wanted] == ["left", "right"]
    for (_, probability), row in zip(lines, wanted, strict=True):
        assert float(probability) == pytest.approx(row["probability"], abs=1e-4)


def test_failed_exports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = untrained(CharacterVocabulary("ab"))
    plain = dataclasses.replace(trained, labels=Labels(()))
    with pytest.raises(InputError, match="wanted a model with classes"):
        export_onnx(plain, tmp_path / "a")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file: wanted to write it"):
        export_onnx(trained, tmp_path / "file")
    with pytest.raises(RuntimeError, match="to agree with the model"):
        export_onnx(trained, tmp_path / "b", tolerance=0.0)
    assert not (tmp_path / "b").exists()
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InputError, match=r"pip install onnx onnxruntime"):
        export_onnx(trained, tmp_path / "c")
