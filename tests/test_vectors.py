"""Vectors beside rows, from a file to an answer: ways to give them, and each mistake's line."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas
import pyarrow
import pytest
import torch
from pyarrow import parquet
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import seqssvae
from seqssvae.cli import main
from seqssvae.config import Config
from seqssvae.data.batches import Batch, collate, concatenate
from seqssvae.data.encoded import EncodedRows
from seqssvae.data.prepare import Prepared, prepare
from seqssvae.errors import InputError
from seqssvae.overrides import override
from seqssvae.storage.vectors import Vectors
from seqssvae.training.resume import checksum_rows
from tests.support.rows import make_rows, write_rows
from tests.support.training import QUICK

RANDOM = np.random.default_rng(0)
NUM, SIZE = 40, 3
Y = np.arange(NUM) % 2
VECTORS = (np.outer(2.0 * Y - 1, [1, 0, 0]) + 0.3 * RANDOM.standard_normal((NUM, SIZE))).astype(
    np.float16
)
TEXTS = ["".join(RANDOM.choice(list("abcd"), 1 + row % 5)) for row in range(NUM)]
ROWS = [
    {"id": f"r{row}", "text": TEXTS[row], "label": "xy"[Y[row]] if row < 24 else None}
    for row in range(NUM)
]
WITH = [row | {"v": vector.tolist()} for row, vector in zip(ROWS, VECTORS, strict=True)]
FLAGS = [f"--{name}={value}" for name, value in QUICK.items()]


def table(kind: pyarrow.DataType) -> pyarrow.Table:
    plain = pyarrow.Table.from_pylist(ROWS)
    return plain.append_column("v", pyarrow.array([list(one) for one in VECTORS], kind))


def as_csv(path: Path) -> Path:
    path = path / "rows.csv"
    pandas.DataFrame([row | {"v": json.dumps(row["v"])} for row in WITH]).to_csv(path, index=False)
    return path


def as_parquet(path: Path, kind: pyarrow.DataType) -> Path:
    parquet.write_table(table(kind), path / "rows.parquet")
    return path / "rows.parquet"


def beside(path: Path) -> Any:
    np.save(path / "v.npy", VECTORS)
    return seqssvae.with_vectors(write_rows(path / "rows.jsonl", ROWS), path / "v.npy")


SOURCES: dict[str, Callable[[Path], Any]] = {
    "jsonl": lambda path: write_rows(path / "rows.jsonl", WITH),
    "csv": as_csv,
    "parquet": lambda path: as_parquet(path, pyarrow.list_(pyarrow.float64())),
    "lists of one size": lambda path: as_parquet(path, pyarrow.list_(pyarrow.float16(), SIZE)),
    "a data set": lambda path: datasets.Dataset(table(pyarrow.list_(pyarrow.float32()))),
    "a DataFrame": lambda path: pandas.DataFrame(WITH),
    "a file beside": beside,
    "an array": lambda path: seqssvae.with_vectors(pandas.DataFrame(ROWS), VECTORS),
}


def settings(**changes: Any) -> Config:
    given = {"data.dev_fraction": 0.0} | {k.replace("__", "."): v for k, v in changes.items()}
    return override(Config(), QUICK | given)


def vectors_of(data: Prepared) -> dict[str, list[float]]:
    """The vectors of all rows by id."""
    rows = EncodedRows.concatenate([data.labelled, data.unlabelled])
    found = rows.vectors()
    assert found is not None
    return dict(zip(rows.ids, found.tolist(), strict=True))


@pytest.mark.parametrize("source", SOURCES)
def test_every_source_gives_the_same_vectors(source: str, tmp_path: Path) -> None:
    column = None if source in ("a file beside", "an array") else "v"
    data = prepare(settings(data__vectors_column=column), SOURCES[source](tmp_path))
    assert data.vector_size == SIZE
    wanted = {row["id"]: vector.tolist() for row, vector in zip(ROWS, VECTORS, strict=True)}
    assert vectors_of(data) == wanted


def test_vectors_of_unlabelled_rows_of_another_file(tmp_path: Path) -> None:
    first = write_rows(tmp_path / "first.jsonl", WITH[:24])
    other = write_rows(tmp_path / "other.jsonl", ROWS[24:])
    config = settings(data__vectors_column="v")
    more = seqssvae.with_vectors(other, VECTORS[24:])
    assert len(vectors_of(prepare(config, first, unlabelled_source=more))) == NUM
    with pytest.raises(InputError, match="other.jsonl: wanted vectors in the column 'v', got none"):
        prepare(config, first, unlabelled_source=other)
    missing = override(config, {"data.missing_vectors": True})
    found = vectors_of(prepare(missing, first, unlabelled_source=other))
    assert np.isnan(found["r30"]).all() and not np.isnan(found["r3"]).any()
    with pytest.raises(InputError, match="wanted vectors of 3 numbers as in training, got vectors"):
        prepare(config, first, unlabelled_source=seqssvae.with_vectors(other, VECTORS[24:, :2]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"v": [1.0, 2.0]}, "rows.jsonl:3: wanted a vector of 3 numbers as in rows.jsonl:1, got 2"),
        ({"v": [1.0, float("nan"), 0]}, "rows.jsonl:3: wanted a vector of finite numbers, got nan"),
        ({"v": [1.0, 1e60, 0]}, "rows.jsonl:3: wanted a vector of finite numbers, got 1e+60 as"),
        ({"v": ["1", "2", "3"]}, "rows.jsonl:3: wanted a vector that is a list of numbers, got a"),
        ({"v": [[1.0], [2.0]]}, "rows.jsonl:3: wanted a vector that is a list of numbers, got a l"),
        (
            {"v": [[1.0], 2.0]},
            "rows.jsonl:3: wanted a vector that is a list of numbers, got a list",
        ),
        ({"v": []}, "rows.jsonl:3: wanted a vector that is a list of numbers, got a list"),
        ({"v": 7}, "rows.jsonl:3: wanted a vector that is a list of numbers, got the number 7"),
        ({"v": None}, "rows.jsonl:3: wanted a vector of 3 finite numbers, got none (--missing-v"),
    ],
)
def test_a_bad_vector_is_named_with_its_row(
    change: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [WITH[0], WITH[1], WITH[2] | change, *WITH[3:]]
    path = write_rows(Path("rows.jsonl"), rows)
    with pytest.raises(InputError) as error:
        prepare(settings(data__vectors_column="v"), path)
    assert message in str(error.value)


def test_a_column_that_no_row_has(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.jsonl", WITH)
    with pytest.raises(InputError, match="wanted vectors in the column 'w', got none in any row"):
        prepare(settings(data__vectors_column="w"), path)
    with pytest.raises(InputError, match="wanted a column 'w', got 'id', .*--vectors-column names"):
        prepare(settings(data__vectors_column="w"), as_csv(tmp_path))


def test_batches_keep_the_vectors_of_their_rows() -> None:
    rows = make_rows([[4, 5], [4], [5, 5, 5]]).with_vectors(Vectors([VECTORS[:3]]))
    batch = collate(rows.take([2, 0]), [1, 0, 1], num_classes=2)

    def of(one: Batch) -> list[list[float]]:
        assert one.v is not None
        return one.v.tolist()

    wanted = VECTORS[:3].tolist()
    assert of(batch) == [wanted[0], wanted[2], wanted[0]]
    assert of(batch.select(torch.tensor([1]))) == [wanted[2]]
    assert of(concatenate(batch, batch.select(torch.tensor([1]))))[3:] == [wanted[2]]
    assert batch.to("cpu", torch.float64).v.dtype == torch.float64  # type: ignore[union-attr]
    assert rows.slice(1, 3).with_labels(None).vectors().tolist() == wanted[1:]  # type: ignore[union-attr]
    mixed = EncodedRows.concatenate([rows.take([1]), make_rows([[4]])])
    found = mixed.vectors()
    assert found is not None and found[0].tolist() == wanted[1] and np.isnan(found[1]).all()
    others = rows.with_vectors(Vectors([VECTORS[3:6]]))
    assert len({checksum_rows(one) for one in (rows, others, rows.with_vectors(None))}) == 3


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A run, its rows, and their vectors, which alone say what is what."""
    folder = tmp_path_factory.mktemp("vectors")
    rows = write_rows(folder / "rows.jsonl", ROWS)
    np.save(folder / "v.npy", VECTORS)
    words = ["train", "--data", rows, "--vectors", folder / "v.npy", "--out", folder / "run"]
    assert main([*map(str, words), *FLAGS]) == 0
    return folder / "run", rows, folder / "v.npy"


def test_commands(
    trained: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, rows, vectors = map(str, trained)
    both = ["--data", rows, "--vectors", vectors]

    def call(*words: str) -> Any:
        assert main([*words, "--json"]) == 0
        return json.loads(capsys.readouterr().out.splitlines()[-1])

    assert call("evaluate", run, *both)["accuracy"] > 0.9
    column = str(write_rows(tmp_path / "with.jsonl", WITH))
    found = call("evaluate", run, "--data", column, "--vectors-column", "v")
    assert found["accuracy"] > 0.9
    # neither a judge nor `score` reads vectors, so that their files need no column of them
    plain = str(tmp_path / "plain.csv")
    pandas.DataFrame(ROWS).to_csv(plain, index=False)
    words = ["--data", column, "--vectors-column", "v", "--judge", plain]
    assert call("evaluate", run, *words)["num_swaps"] == sum(
        row["label"] is not None for row in ROWS
    )
    assert call("score", run, "--reference", plain, "--vectors-column", "v", "-n", "8")
    out = str(tmp_path / "out.jsonl")
    call("classify", run, *both, "--out", out)
    labels = [json.loads(line)["label"] for line in Path(out).read_text().splitlines()]
    assert np.mean(np.array(labels) == np.array(["x", "y"])[Y]) > 0.9
    call("encode", run, *both, "--out", str(tmp_path / "z.parquet"))
    assert call("check", run, *both)
    call("suggest", run, *both, "-n", "2", "--out", str(tmp_path / "s.jsonl"))
    masked = call("classify", run, "abc", "--missing-vectors")
    assert 0 < masked["predictions"][0]["probability"] < 1
    assert call("transfer", run, "abc", "--to", "x")["sequences"]  # a typed text has no vector
    assert call("interpolate", run, "abc", "cab") and call("explain", run, "abc")
    assert call("generate", run, "--like", "abc", "-n", "1")
    assert "reconstructed" in call("score", run, "--reference", rows, "-n", "8")
    call("report", run, "--out", str(tmp_path / "report.html"))  # it knows its own vectors
    found = call(
        "compare", *both, "--test", rows, "--test-vectors", vectors, "--arms", "teacher",
        "--budgets", "20", "--draws", "1", "--out", str(tmp_path / "c.jsonl"), *FLAGS,
    )  # fmt: skip
    assert found["cells"][0]["accuracy"] > 0.9


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["classify", "RUN", "abc"], "sequences: wanted vectors of 3 numbers as in training, got"),
        (["evaluate", "RUN", "--data", "ROWS"], "rows.jsonl: wanted vectors of 3 numbers as in tr"),
        (
            ["evaluate", "RUN", "--data", "ROWS", "--vectors", "wide.npy"],
            "rows.jsonl: wanted vectors of 3 numbers as in training, got vectors of 4 numbers",
        ),
        (
            ["encode", "RUN", "--data", "ROWS", "--vectors", "few.npy", "--out", "z.csv"],
            "few.npy: wanted 40 vectors, one for each row of",
        ),
        (["evaluate", "RUN", "--data", "ROWS", "--vectors", "no.npy"], "no.npy: wanted a readable"),
        (
            ["evaluate", "PLAIN", "--data", "ROWS", "--vectors", "few.npy"],
            "few.npy: wanted 40 vectors",
        ),
        (
            ["encode", "PLAIN", "--data", "ROWS", "--vectors", "V", "--out", "z.csv"],
            "wanted no vectors as in training, got vectors of 3 numbers",
        ),
        (["classify", "RUN", "abc", "--vectors", "V"], "--vectors: wanted --data FILE, got none"),
        (
            ["train", "--data", "ROWS", "--model.vector_size=4", "--out", "new"],
            "rows.jsonl: wanted vectors of 4 numbers as in training, got no vectors",
        ),
        (
            ["train", "--from", "RUN", "--data", "ROWS", "--out", "new"],
            "rows.jsonl: wanted vectors of 3 numbers as in training, got no vectors",
        ),
    ],
)
def test_mistakes_are_one_line(
    words: list[str],
    message: str,
    trained: tuple[Path, Path, Path],
    small_run: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("wide.npy", np.zeros((NUM, 4)))
    np.save("few.npy", VECTORS[1:])
    names = dict(zip(("RUN", "ROWS", "V"), map(str, trained), strict=True))
    names["PLAIN"] = str(small_run[0])
    assert main([names.get(word, word) for word in words]) == 2
    (line,) = [one for one in capsys.readouterr().err.splitlines() if "error" in one]
    assert message in line


def test_python(trained: tuple[Path, Path, Path]) -> None:
    model = seqssvae.load(trained[0])
    given = seqssvae.with_vectors(TEXTS, VECTORS)
    predictions = model.classify(given)
    assert np.mean([row["label"] == "xy"[y] for row, y in zip(predictions, Y, strict=True)]) > 0.9
    opposite = model.classify(seqssvae.with_vectors(TEXTS, -VECTORS))
    assert (
        np.mean([a["label"] != b["label"] for a, b in zip(predictions, opposite, strict=True)])
        > 0.9
    )
    loc = model.encode(given)["loc"]
    assert not np.allclose(loc, model.encode(seqssvae.with_vectors(TEXTS, -VECTORS))["loc"])
    assert model.transfer(seqssvae.with_vectors(["ab"], VECTORS[:1]), to="y")
    column = override(model.config, {"data.vectors_column": "v"})
    of_column = dataclasses.replace(model, config=column)
    annotated = of_column.annotate(datasets.Dataset(table(pyarrow.list_(pyarrow.float32()))))
    labels = [row["label"] for row in predictions]
    names = annotated.features["predicted_label"].names
    assert [names[one] for one in annotated["predicted_label"]] == labels
    with pytest.raises(InputError, match="sequence 2: wanted a vector of 3 finite n"):
        model.classify(seqssvae.with_vectors(["a", "b"], [[0, 0, 0], [np.inf, 0, 0]]))


def test_a_plain_vae_and_a_run_to_start_from(trained: tuple[Path, Path, Path]) -> None:
    run, rows, vectors = trained
    both = seqssvae.with_vectors(rows, vectors)
    plain = {**QUICK, "data.unlabelled_only": True}
    seqssvae.fit(plain, both, run.parent / "plain")
    loc = seqssvae.load(run.parent / "plain").encode(seqssvae.with_vectors(["a"], VECTORS[:1]))
    assert loc["loc"].shape == (1, 2)
    summary = seqssvae.fit({"training.num_steps": 2}, both, run.parent / "more", start=run)
    assert summary["num_labelled"] > 0
    more = seqssvae.load(run.parent / "more").evaluate(both)
    assert more["accuracy"] > 0.9


def test_scikit_learn() -> None:
    frame = pandas.DataFrame(WITH).iloc[:24].drop(columns="label")
    y = np.array(["x", "y"])[Y[:24]]
    options: dict[str, Any] = {"vectors_column": "v", "config": {**QUICK}, "max_minutes": 1.0}
    model = seqssvae.SeqSSVAEClassifier(**options)
    assert cross_val_score(model, frame, y, cv=2).min() > 0.8
    pipeline = make_pipeline(FunctionTransformer(lambda X: X[["text", "v"]]), model)
    fitted = pipeline.fit(frame, [*y[:20], *[None] * 4])
    assert (fitted.predict(frame) == y).mean() > 0.9 and fitted.score(frame, y) > 0.9
    assert fitted[-1].transform(frame).shape == (24, 2)
    with pytest.raises(InputError, match="wanted vectors of 3 numbers as in training, got no"):
        fitted[-1].predict(["ab"])
    with pytest.raises(InputError, match="X: wanted vectors in the column 'v', got none"):
        seqssvae.SeqSSVAEClassifier(**options).fit(list(TEXTS[:24]), y)
