"""Every command, and the one line that a mistake gets."""

import csv
import gzip
import io
import json
import logging
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import Mock

import numpy as np
import pytest

from seqssvae.cli import COMMANDS, main
from seqssvae.data.columns import ColumnChoice
from seqssvae.data.readers import iterate_rows
from seqssvae.estimators import FusedEnum
from seqssvae.inference.answers import NONE_OF_THESE
from seqssvae.storage.files import locked
from seqssvae.trained import load
from tests.support.rows import write_rows

Small = tuple[Path, Path]


class Outcome(NamedTuple):
    """What a command left."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Its last line."""
        return json.loads(self.out.splitlines()[-1])


Run = Callable[..., Outcome]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process."""

    def call(*words: object) -> Outcome:
        try:
            status = main([str(word) for word in words])
        except SystemExit as stop:
            status = int(stop.code or 0)
        captured = capsys.readouterr()
        return Outcome(status, captured.out, captured.err)

    return call


QUICK = (
    "--model.embedding_size=4 --model.encoder_size=4 --model.decoder_size=4 --model.latent_size=2 "
    "--objective.kl_warmup_steps=2 --training.num_steps=4 --training.evaluate_every=2"
).split()


def test_train_and_use_text(run: Run, tmp_path: Path, small_run: Small) -> None:
    _, data = small_run
    folder = tmp_path / "run"
    trained = run("train", "--data", data, "--test", data, "--json", "--out", folder, *QUICK)
    assert trained.status == 0, trained.err
    assert trained.json["run"] == str(folder) and trained.json["num_steps"] == 4
    assert trained.json["test"]["num_rows"] == 40
    assert not (folder / "checkpoints").exists()
    assert trained.json["test"]["num_labelled"] == 40
    figures = run("evaluate", folder, "--data", data, "--num-samples", 2, "--json").json
    assert [one["num_labelled"] for one in figures["classes"].values()] == [20, 20]
    assert np.trace(figures["confusion"]) == round(40 * figures["accuracy"])
    assert figures["accuracy_low"] < figures["accuracy"] <= figures["accuracy_high"]
    wanted = (
        "accuracy macro_f1 elbo nll kl mutual_information active_units y_gap nats_per_symbol"
    ).split()
    assert set(wanted) <= set(figures)
    assert figures["nll"] <= -figures["elbo"] + 1e-3
    assert figures["num_rows"] == figures["num_likelihood_rows"] == 40 and figures["nll_se"] > 0
    few = run("evaluate", folder, "--data", data, "--likelihood-rows", 10)
    assert re.search(r"num_rows +40\n(.*\n)+num_likelihood_rows +10\n", few.out)
    assert re.search(r"\nnll +\d+\.\d{4} \+/- \d+\.\d{4}\n", few.out) and "_se" not in few.out
    assert run("evaluate", folder, "--data", data, "--likelihood-rows", "all").status == 0
    for value, complaint in (
        ("few", "wanted a number or all, got 'few'"),
        ("-1", "at least 0, got -1"),
    ):
        refused = run("evaluate", folder, "--data", data, f"--likelihood-rows={value}")
        assert refused.status == 2 and complaint in refused.err and refused.err.count("\n") == 1
    assert "swap_success" not in figures
    judged = run("evaluate", folder, "--data", data, "--num-samples", 2, "--judge", data, "--json")
    assert judged.json["num_swaps"] == 40 and figures.items() <= judged.json.items()


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        ((), "ended after 4 steps: all of training.num_steps"),
        (("--training.max_minutes", 0.001), r"the limit of 0.001 minutes \(training.max_minutes\)"),
        (
            ("--training.num_steps=300", "--training.patience=1", "--training.learning_rate=9"),
            r"no better score in 1 evaluations \(training.patience\); the best was at step \d+",
        ),
    ],
)
def test_the_last_lines_of_train_say_why_it_ended_and_how_good_it_is(
    run: Run, tmp_path: Path, small_run: Small, flags: tuple[object, ...], reason: str
) -> None:
    data = small_run[1]
    rows = ("--data", data, "--test", data, "--data.vocabulary", "characters")
    done = run("train", *rows, "--out", tmp_path / "run", *QUICK, *flags)
    assert done.status == 0, done.err
    ended, dev, test, saved = done.out.splitlines()
    assert re.search(reason, ended)
    told = r"[01]\.\d{3} of %s labelled rows \(95 %% interval [01]\.\d{3} to [01]\.\d{3}\)"
    assert re.fullmatch("accuracy on held-out rows " + told % r"\d+", dev)
    assert re.fullmatch("test accuracy " + told % "40", test)
    assert saved == f"saved to {tmp_path / 'run'}"


def test_evaluate_prints_a_table_of_the_classes(run: Run, small_run: Small, tmp_path: Path) -> None:
    """Of rows with one label wrong: 'cdcd' as left."""
    rows = [{"text": "abab", "label": "left"}, {"text": "cdcd", "label": "left"}]
    rows += [{"text": "cdcdcd", "label": "right"}]
    path = write_rows(tmp_path / "rows.jsonl", rows)
    shown = run("evaluate", small_run[0], "--data", path).out
    assert re.search(r"accuracy +0\.6667 \(95 % interval 0\.2077 to 0\.9385\)\n", shown)
    assert shown.split("\n\n")[1:] == [
        "class    rows precision  recall      F1  most often taken for\n"
        "left        2     1.000   0.500   0.667  right (1)\n"
        "right       1     0.500   1.000   0.667",
        "         left   right  predicted\nleft        1       1\nright       0       1\n",
    ]


def test_evaluate_warns_of_rows_that_training_saw(
    run: Run, small_run: Small, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With or without their label, in a file whose column has another name."""
    folder, data = small_run
    old = json.loads(data.read_text(encoding="utf-8").splitlines()[0])["text"]
    rows = [{"x": "dcdcab", "label": "left"}, {"x": old, "label": "left"}, {"x": old, "label": ""}]
    path = write_rows(tmp_path / "rows.jsonl", rows)
    assert run("evaluate", folder, "--data", path, "--text-column", "x").status == 0
    assert f"2 of 3 rows are also rows of {data}, which the run was trained on" in caplog.text
    caplog.clear()
    new = write_rows(tmp_path / "new.jsonl", rows[:1])
    assert run("evaluate", folder, "--data", new, "--text-column", "x").status == 0
    assert "optimistic" not in caplog.text


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_predictions_keep_ids_and_on_demand_sequences(
    run: Run, small_run: Small, tmp_path: Path, kind: str
) -> None:
    """Sequences as they are in the file, with symbols that the vocabulary lacks."""
    rows = [{"id": "b7", "text": "abab é"}, {"id": "a1", "text": "cd,cd"}]
    data, out = write_rows(tmp_path / "rows.jsonl", rows), tmp_path / f"p.{kind}"
    for flags in ([], ["--keep-sequence"]):
        assert run("classify", small_run[0], "--data", data, "--out", out, *flags).status == 0
        choice = ColumnChoice(text="sequence" if flags else "id")
        found = [row.sequence for row in iterate_rows(out, choice)]
        assert found == [row["text" if flags else "id"] for row in rows]
    texts = run("classify", small_run[0], "ab", "cd", "--out", out, "--keep-sequence")
    assert texts.status == 0
    kept = [(row.id, row.sequence) for row in iterate_rows(out, ColumnChoice(text="sequence"))]
    assert kept == [("1", "ab"), ("2", "cd")]
    refused = run("classify", small_run[0], "ab", "--keep-sequence")
    assert refused.status == 2 and "wanted --out FILE beside --keep-sequence" in refused.err


def test_kept_tokens_of_a_csv_file_are_read_as_tokens_again(run: Run, tmp_path: Path) -> None:
    rows = [{"tokens": ["x, y", "z"] * (1 + i % 3), "label": "uv"[i % 2]} for i in range(20)]
    data, folder = write_rows(tmp_path / "rows.jsonl", rows), tmp_path / "run"
    assert run("train", "--data", data, "--out", folder, *QUICK).status == 0
    out = tmp_path / "p.csv"
    done = run("classify", folder, "--data", data, "--out", out, "--keep-sequence")
    assert done.status == 0, done.err
    found = [row.sequence for row in iterate_rows(out, ColumnChoice(tokens="sequence"))]
    assert found == [row["tokens"] for row in rows]


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("evaluate {run} --data {data}", ["MB read", "40 rows classified", "40 rows measured"]),
        ("classify {run} --data {data}", ["40 rows converted to symbols", "40 rows classified"]),
        ("classify {run} --data {data} --out {out}/a.csv", ["40 rows classified"]),
        ("encode {run} --data {data} --out {out}/a.csv", ["40 rows encoded"]),
        ("generate {run} --label left -n 5", ["5 sequences generated"]),
        ("generate {run} --label left -n 5 --strategy beam", ["5 sequences generated"]),
        ("evaluate {run} --data {data} --judge {data}", ["40 of 40 rows rewritten"]),
        (
            "train --data {data} --test {data} --out {out}/run",
            [
                *("40 rows compared", "rows counted", "classifiers cross-validated"),
                *("classifiers fitted", "classifier learns", "SentencePiece learns 4000"),
                *("4 of 4 steps (loss", "rows measured", "time: reading"),
            ],
        ),
        (
            "compare --data {data} --test {data} --out {out}/a.jsonl --draws 1 --budgets 20",
            [
                "4 of 4 steps",
                "steps of pretraining",
                "s of trainings",
                "14 of 14: ssvae, 20 labels, draw 1: accuracy",
            ],
        ),
    ],
)
def test_progress_is_in_the_log_alone(
    run: Run,
    small_run: Small,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    words: str,
    wanted: list[str],
) -> None:
    """A line for all that is done, if no time has to pass between them."""
    monkeypatch.setattr("seqssvae.progress.LOG_SECONDS", 0.0)
    monkeypatch.setattr("seqssvae.data.texts.TOLD_LINES", 1)
    caplog.set_level(logging.INFO)
    data = shutil.copy(small_run[1], tmp_path / "data.jsonl")  # its rows are in no cache
    call = words.format(run=small_run[0], data=data, out=tmp_path).split()
    quick = ["--data.vocabulary=sentencepiece", *QUICK] if call[0] in ("train", "compare") else []
    outcome = run(*call, *quick, "--json")
    assert outcome.status == 0 and outcome.out.count("\n") == 1 and outcome.json
    assert [one for one in wanted if one not in caplog.text] == []


def test_the_log_of_train_is_short_and_plain_unless_verbose(
    run: Run, small_run: Small, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its terms and abbreviations are those of a first user; all others are details."""
    caplog.set_level(logging.INFO)
    caplog.handler.setLevel(logging.DEBUG)
    terms = re.compile(
        r"q\(y\|x\)|log p|\bKL\b|\bMI\b|y-gap|teacher [01]\.\d{3}|posterior|nats|n-gram models"
    )
    data = ["--data", small_run[1], *QUICK, "--training.teacher", "true"]
    assert run("train", *data, "--out", tmp_path / "plain").status == 0
    short = caplog.messages
    assert len(short) < 13 and [one for one in short if terms.search(one)] == []
    assert any(
        re.fullmatch(r"step 4 of 4: accuracy [01]\.\d{3}, ELBO -\d+\.\d", one) for one in short
    )
    caplog.clear()
    assert run("train", *data, "--out", tmp_path / "more", "--verbose").status == 0
    assert any("log p(x|y,z)" in one and "y-gap" in one for one in caplog.messages)
    assert len(caplog.messages) > len(short)


def test_labels_of_another_table(run: Run, tmp_path: Path) -> None:
    """In every command that reads labels; pictures of the run find them again."""
    rows = [{"id": f"r{i}", "text": ("ab", "cd")[i % 2] * (1 + i % 4) + str(i)} for i in range(60)]
    data, labels = write_rows(tmp_path / "rows.jsonl", rows), tmp_path / "labels.csv"
    lines = [f"{'uv'[i % 2]},r{i}\n" for i in range(40)]
    labels.write_text("kind,id\n" + "".join(lines))
    given = ["--data", data, "--labels", labels, "--label-column", "kind"]
    trained = run("train", *given, "--out", tmp_path / "run", "--json", *QUICK)
    assert trained.status == 0, trained.err
    assert (trained.json["num_labelled"], trained.json["dev"]["num_labelled"]) == (32, 8)
    figures = run("evaluate", tmp_path / "run", *given, "--json").json
    assert (figures["num_rows"], figures["num_labelled"]) == (60, 40)
    assert list(figures["classes"]) == ["u", "v"]
    outcome = run("plot", tmp_path / "run", "--json")
    assert any("confusion" in file for file in outcome.json["files"]), outcome.err
    other = ["--data", write_rows(tmp_path / "other.jsonl", rows[:20]), *given[2:]]
    for command in ("plot", "report"):
        outcome = run(command, tmp_path / "run", *other, "--out", tmp_path / f"{command}.html")
        assert outcome.status == 0, outcome.err
    assert (tmp_path / "plot.html" / "confusion.png").exists()
    refused = run("plot", tmp_path / "run", *other[2:])
    assert "--labels: wanted --data FILE, whose rows have these labels, got none" in refused.err
    kinds = run("check", tmp_path / "run", *given, "--rows", 4, "--draws", 2, "--json").json["rows"]
    assert (kinds["with a label"], kinds["without"]) == (2, 2)
    chosen = run("suggest", tmp_path / "run", *given, "-n", 9, "--out", tmp_path / "more.csv")
    assert "9 of 20 rows without a label" in chosen.out, chosen.err
    parts = [write_rows(tmp_path / f"{part}.jsonl", rows[part::2]) for part in (0, 1)]
    labels.write_text("kind,id\n" + "".join(f"{'uv'[i % 4 > 1]},r{i}\n" for i in range(40)))
    given = ["--data", parts[0], "--test", parts[1], *given[2:]]
    arms = ["--arms", "tfidf-lr-characters", "--budgets", 8, "--draws", 1]
    compared = run("compare", *given, *arms, "--out", tmp_path / "out.jsonl", "--json")
    assert compared.status == 0, compared.err
    assert [0 <= one["accuracy"] <= 1 for one in compared.json["cells"]] == [True]
    trained = run("train", *given, "--out", tmp_path / "half", "--json", "--classifier-only")
    assert trained.json["test"]["num_labelled"] == 20, trained.err
    own = write_rows(tmp_path / "own.jsonl", [{"text": "ab", "kind": "u"}, {"text": "cd"}])
    given[3] = own  # of --test
    trained = run("train", *given, "--out", tmp_path / "own", "--json", "--classifier-only")
    assert trained.json["test"]["num_labelled"] == 1, trained.err
    labels.write_text("kind,id\nu,x1\n")
    refused = run("train", *given, "--out", tmp_path / "other")
    assert refused.status == 2 and "wanted ids of rows" in refused.err
    labels.write_text("kind,key\nu,x1\n")
    refused = run("train", *given, "--out", tmp_path / "other")
    assert refused.err.endswith("wanted a column 'id', got 'kind', 'key'\n")


def test_a_classifier_alone(
    run: Run, small_run: Small, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its labels are those of the teacher, in no steps; it takes what needs no decoder."""
    data, folder = small_run[1], tmp_path / "run"
    given = ["--data", data, "--data.dev_fraction", "0.25"]
    trained = run("train", *given, "--test", data, "--classifier-only", "--out", folder, "--json")
    assert trained.status == 0, trained.err
    summary = trained.json
    assert (summary["num_steps"], summary["stopped_by"], summary["mode"]) == (
        0, "classifier-only", "q",
    )  # fmt: skip
    assert summary["test"]["accuracy"] == 1.0 and summary["dev_labels_learned"]
    figures = run("evaluate", folder, "--data", data, "--json").json
    assert figures["accuracy"] == 1.0 and "elbo" not in figures and "nll" not in figures
    predicted = run("classify", folder, "abab", "cdcd", "--json").json["predictions"]
    assert [one["label"] for one in predicted] == ["left", "right"]
    sure = run("classify", folder, "abab", "cdcd", "--coverage", 0.5, "--json").json["predictions"]
    assert [one["set"] for one in sure] == [["left"], ["right"]]
    measured = run("evaluate", folder, "--data", data, "--coverage", 0.5, "--json").json
    assert measured["set_coverage"] == measured["set_size"] == 1.0
    for command in ("plot", "report"):
        outcome = run(command, folder)
        assert outcome.status == 0, outcome.err
    assert "accuracy" in (folder / "report.html").read_text(encoding="utf-8")
    assert run("export", folder, "--to", "onnx").status == 0
    for words in (
        "generate RUN --label left", "transfer RUN --to left abab", "interpolate RUN ab cd",
        "encode RUN --data DATA --out OUT", "check RUN --data DATA", "explore RUN",
        "score RUN --reference DATA",
        "classify RUN ab --mode posterior", "suggest RUN --data DATA --out OUT",
        "classify RUN ab --novel 0.1", "classify RUN ab --coverage 0.9 --mode mix",
    ):  # fmt: skip
        names = {"RUN": folder, "DATA": data, "OUT": tmp_path / "z.parquet"}
        refused = run(*(names.get(word, word) for word in words.split()))
        assert refused.status == 2 and refused.err.count("\n") == 1, (words, refused.err)
        assert "wanted a whole model, got one of train --classifier-only" in refused.err
    unread = [
        "--data.max_length",
        9,
        "--training.seed",
        3,
        "--training.patience",
        2,
        "--model.cell",
        "gru",
    ]
    assert "does not read" not in caplog.text
    run("train", *given, *unread, "--classifier-only", "--out", tmp_path / "warned")
    assert "--classifier-only does not read model.cell, training.patience\n" in caplog.text
    without = ["--classifier-only", "--training.teacher", "false", "--out", tmp_path / "none"]
    assert "wanted training.teacher true" in run("train", *given, *without).err
    refused = run("train", *given, "--classifier-only", "--epochs", 2, "--out", tmp_path / "none")
    assert "wanted --epochs or --classifier-only, which takes no steps, got both" in refused.err


def test_tokens_gzip_and_budget(run: Run, tmp_path: Path) -> None:
    """Tokens in a gzipped file, of whose labels four are seen; the split is saved."""
    rows = [
        {"tokens": [letter] * (1 + i), "label": letter, "id": f"{letter}{i}"}
        for letter in "xy"
        for i in range(10)
    ]
    path = tmp_path / "rows.jsonl.gz"
    with gzip.open(path, "wt", encoding="utf-8") as lines:
        lines.writelines(json.dumps(row) + "\n" for row in rows)
    first = run(
        "train", "--data", path, "--labels-per-class", 2, "--data.dev_fraction=0.5", "--json",
        "--out", tmp_path / "a", *QUICK,
    )  # fmt: skip
    assert first.status == 0, first.err
    assert first.json["num_labelled"] == 2 and first.json["num_unlabelled"] == 16
    split = json.loads((tmp_path / "a" / "split.json").read_text())
    assert {part: len(ids) for part, ids in split.items()} == {
        "labelled": 2,
        "dev": 2,
        "dev_unlabelled": 0,
    }
    made = run(
        "generate", tmp_path / "a", "--label", "x", "-n", 3, "--prefix", "y x", "--json"
    ).json
    assert all(sequence[:2] == ["y", "x"] for sequence in made["sequences"])


def test_no_labels_at_all_is_the_plain_vae(run: Run, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.jsonl", [{"text": "ab" * (1 + i % 4)} for i in range(30)])
    folder = tmp_path / "run"
    words = ("train", "--data", path, "--out", folder, *QUICK)
    refused = run(*words)
    assert refused.status == 2 and "wanted a label in some row" in refused.err
    assert run(*words, "--unlabelled-only").status == 0
    figures = run("evaluate", folder, "--data", path, "--json").json
    assert figures["accuracy"] is None and figures["nll"] > 0
    assert len(run("generate", folder, "-n", 2, "--json").json["sequences"]) == 2
    refused = run("classify", folder, "ab")
    assert refused.status == 2 and "trained on no labels" in refused.err


def test_columns_and_several_files(run: Run, tmp_path: Path) -> None:
    """Of training and of later commands, which read those of training unless others are named."""
    rows = [{"body": "ab" * (1 + i), "kind": "xy"[i // 2 % 2]} for i in range(12)]
    files = [write_rows(tmp_path / f"{i}.jsonl", rows[i::2]) for i in range(2)]
    folder = tmp_path / "run"
    train = ("train", "--out", folder, "--text-column", "body", "--data", *files, *QUICK, "--json")
    refused = run(*train)
    assert "--label-column NAME" in refused.err and "'kind' ('x', 'y')" in refused.err
    trained = run(*train, "--label-column", "kind", "--test", files[0], "--test", files[1])
    assert trained.status == 0, trained.err
    assert trained.json["num_labelled"] == 10 and trained.json["test"]["num_rows"] == 12
    other = write_rows(tmp_path / "o.jsonl", [{"Word": "ab", "of": "xy"[i % 2]} for i in range(6)])
    for command in ("classify", "evaluate", "encode", "check"):
        words: list[object] = [command, folder, "--data", other, "--json"]
        words += ["--out", tmp_path / "z.parquet"] if command == "encode" else []
        refused = run(*words)
        assert refused.status == 2 and "--text-column names another" in refused.err
        found = run(*words, "--text-column", "word", "--label-column", "of")
        assert found.status == 0, found.err
    assert run("evaluate", folder, "--data", *files, "--json").json["num_rows"] == 12
    before = run("evaluate", folder, "--data", files[0], "--data", files[1], "--json")
    assert run("evaluate", "--data", *files, folder, "--json").json == before.json  # RUN at the end
    for without in (["evaluate", "--data", str(files[0])], ["generate"], ["interpolate", "a", "a"]):
        assert run(*without).err.endswith("the following arguments are required: RUN\n")
    refused = run("evaluate", folder, "--data", other, "--text-column", "word")
    assert "wanted a column 'kind'" in refused.err
    bare = run("evaluate", folder, "--data", files[0], "--unlabelled-only", "--json").json
    assert bare["accuracy"] is None and bare["num_rows"] == 6
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["source"] == ", ".join(map(str, files))
    assert run("report", folder, "--json").status == 0  # finds the files of training


def test_classify(run: Run, tmp_path: Path, small_run: Small) -> None:
    folder, data = small_run
    out = tmp_path / "p.jsonl"
    assert run("classify", folder, "--data", data, "--json", "--out", out).json["num_rows"] == 40
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    truth = [json.loads(line)["label"] for line in data.read_text(encoding="utf-8").splitlines()]
    assert [row["label"] for row in rows] == truth  # in the order of the input
    for row in rows:
        assert row["probability"] == max(row["probabilities"].values())
        assert abs(sum(row["probabilities"].values()) - 1) < 1e-5
    for mode in ("q", "posterior", "mix"):
        found = run("classify", folder, "abab", "cdcdcd", "--mode", mode, "--json").json
        assert [row["label"] for row in found["predictions"]] == ["left", "right"]


def test_unknown_symbols_are_counted_and_logged(
    run: Run, small_run: Small, caplog: pytest.LogCaptureFixture
) -> None:
    assert run("classify", small_run[0], "abxyab").status == 0
    assert "2 symbols are not in the vocabulary" in caplog.text


@pytest.mark.parametrize("strategy", ["sample", "greedy", "beam"])
def test_generate(run: Run, small_run: Small, strategy: str) -> None:
    words = ("generate", small_run[0], "--label", "left", "-n", 5, "--seed", 1, "--json")
    first = run(*words, "--strategy", strategy).json["sequences"]
    assert len(first) == 5
    assert run(*words, "--strategy", strategy).json["sequences"] == first
    assert set("".join(first)) <= set("abcd")


def test_generate_is_controlled(run: Run, small_run: Small, tmp_path: Path) -> None:
    folder = small_run[0]
    words = ("generate", folder, "--label", "left", "-n", 30, "--json")
    few = run(*words, "--constraint", "(ab|cd)+", "--min-length", 3, "--unique", "--temperature", 2)
    few = few.json["sequences"]
    assert len(few) == len(set(few)) == 30
    assert all(re.fullmatch("(ab|cd){2,}", text) for text in few)
    near = run("generate", folder, "--like", "abab", "--radius", 0, "-n", 3, "--top-k", 1, "--json")
    assert len(set(near.json["sequences"])) == 1  # of the likeliest label
    blend = run("generate", folder, "--label", "left=0.5,right=0.5", "-n", 30, "--json").json
    assert blend["sequences"] != run(*words).json["sequences"]
    scored = run(*words, "--scores").json["scores"]
    assert all(one["log_prob_of_label"] > one["log_prob"] - 10 for one in scored)
    shown = run("generate", folder, "--label", "left", "--scores", "--max-length", 4).out
    assert re.fullmatch(r"-\d+\.\d{4}\t-\d+\.\d{4}\t\w{0,4}\n", shown)
    for words_of, message in (
        (["--label", "left=x"], "--label: wanted LABEL=WEIGHT, got 'left=x'"),
        (["--label", "left=-1,right=1"], "label: wanted weights of 0 or more"),
        (["--label", "odd=1"], "wanted a known label"),
        (["--label", "left", "--constraint", "x+"], "got none that does"),
        (["--label", "left", "--out", tmp_path / "odd.bin"], "wanted a file .csv"),
    ):
        refused = run("generate", folder, *words_of)
        assert refused.status == 2 and message in refused.err and refused.err.count("\n") == 1


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_generated_rows_are_data(
    run: Run, small_run: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Written in parts, as at once, with their label and scores; a blend is a soft label."""
    folder, out = small_run[0], tmp_path / f"made.{kind}"
    monkeypatch.setattr("seqssvae.cli.generate.PART_ROWS", 7)
    words = ("generate", folder, "--label", "right", "-n", 20, "--min-length", 1)
    made = run(*words, "--scores", "--out", out, "--json")
    assert made.json == {"label": "right", "num_rows": 20, "out": str(out)}
    rows = list(iterate_rows(out, ColumnChoice()))
    assert [row.sequence for row in rows] == run(*words, "--json").json["sequences"]
    assert {row.label for row in rows} == {"right"}
    assert run("evaluate", folder, "--data", out, "--json").json["num_labelled"] == 20
    blend = ("--label", "right=1,left=3", "-n", 2, "--out", out)
    assert run("generate", folder, *blend).status == 0
    shares = [
        dict(zip(one.label or (), one.shares or (), strict=True)) for one in iterate_rows(out)
    ]
    assert shares == [{"right": 0.25, "left": 0.75}] * 2


def test_score(run: Run, small_run: Small, tmp_path: Path) -> None:
    """Of what the run writes, and of a file; its checks of validity."""
    folder, data = small_run
    words = ("score", folder, "--reference", data)
    found = run(*words, "-n", 40, "--valid", "builtins:len", "--json")
    assert found.status == 0, found.err
    assert found.json["num_sequences"] == 40 and found.json["valid"] > 0.5
    assert set(found.json["agreement_of_classes"]) == {"left", "right"}
    assert {"novel", "perplexity_low", "reconstructed", "reference_length"} <= set(found.json)
    of_file = run(*words, "--generated", data, "--valid", "grep -q a")
    assert re.search(r"\nlabel_agreement +1\.0000 \(1\.0000 to 1\.0000\)\n", of_file.out)
    assert re.search(r"\nvalid +0\.5000 \(0\.\d+ to 0\.\d+\)\n", of_file.out)
    assert re.search(r"\nnovel +0\.0000 ", of_file.out) and "reconstructed" not in of_file.out
    for check, message in (("builtins:odd", "wanted a function"), ("/no/such", "wanted a command")):
        refused = run(*words, "-n", 4, "--valid", check)
        assert refused.status == 2 and message in refused.err and refused.err.count("\n") == 1


@pytest.mark.usefixtures("molecule_packages")
def test_score_of_molecules(run: Run, tmp_path: Path) -> None:
    """Tokens are joined to SMILES; a function of texts alone is refused in one line."""
    rows = [{"tokens": ["C", "Cl", *"(NO)"[:n]], "label": None} for n in range(5)] * 4
    write_rows(tmp_path / "rows.jsonl", rows)
    train = ("train", "--data", tmp_path / "rows.jsonl", "--out", tmp_path / "run")
    assert run(*train, "--unlabelled-only", "--num-steps", 2).status == 0
    words = (
        *("score", tmp_path / "run", "--reference", tmp_path / "rows.jsonl"),
        *("--generated", tmp_path / "rows.jsonl", "--valid", "rdkit.Chem:MolFromSmiles"),
    )
    found = run(*words, "--join", "", "--fcd", "--json").json
    assert found["valid"] == 0.4 and found["fcd"] == 0  # without a bracket, or with both
    command = (*words[:-1], "grep -qx CCl", "--join", "")
    assert run(*command, "--json").json["valid"] == 0.2
    refused = run(*words)
    assert refused.status == 2 and "wanted a function of list (see --join)" in refused.err


def test_rewriting_takes_the_flags_of_generate(run: Run, small_run: Small) -> None:
    """And has their defaults in Python."""
    folder, model = small_run[0], load(small_run[0])
    calls: dict[str, Callable[..., Any]] = {
        "transfer --to right abab": lambda **o: model.transfer(["abab"], "right", **o),
        "interpolate ab cdcd": lambda **o: model.interpolate("ab", "cdcd", **o),
    }
    for line, call in calls.items():
        command, *rest = line.split()
        words = (command, folder, *rest)
        assert run(*words, "--json").json["sequences"] == call()
        flags = "--strategy beam --width 2 --constraint [ac]* --json".split()
        found = run(*words, *flags).json["sequences"]
        assert found == call(strategy="beam", width=2, constraint="[ac]*")
        assert all(set(text) <= set("ac") for text in found)
        flags = "--temperature 2 --best-of 1 --seed 5 --json".split()
        want = call(temperature=2.0, best_of=1, seed=5)
        assert run(*words, *flags).json["sequences"] == want


def test_transfer_interpolate_encode_check(run: Run, small_run: Small, tmp_path: Path) -> None:
    folder, data = small_run
    moved = run("transfer", folder, "--to", "right", "abab", "ab", "--json").json
    assert len(moved["sequences"]) == 2
    walk = run("interpolate", folder, "ab", "ababab", "--steps", 4, "--json").json
    assert len(walk["sequences"]) == 4
    out = tmp_path / "z.parquet"
    assert run("encode", folder, "--data", data, "--out", out, "--json").json["num_rows"] == 40
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(out).to_pylist()
    assert len(table) == 40 and len(table[0]["loc"]) == 2 and table[0]["label"] == "left"
    checked = run("check", folder, "--data", data, "--draws", 5, "--rows", 3, "--json").json
    wanted = "estimator value error standard_error relative_gradient_error seconds".split()
    assert set(wanted) <= set(checked["estimators"][0])


def test_check_draws_rows_of_every_kind(
    run: Run, small_run: Small, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder, data = small_run
    rows: list[dict[str, Any]] = [{"text": "ab" * (1 + i % 5), "label": "left"} for i in range(30)]
    rows += [{"text": "cd"}] * 9 + [{"text": "ab", "label": ["left", "right"]}]
    path = write_rows(tmp_path / "rows.jsonl", rows)
    words = ("check", folder, "--draws", 2, "--particles", 1, "--rows", 6)
    done = run(*words, "--data", path, "--json")
    kinds = {"with a label": 3, "with several possible labels": 1, "without": 2}
    assert done.status == 0 and done.json["rows"] == kinds and done.json["num_rows"] == 6
    assert any(row["error"] for row in done.json["estimators"] if "score" in row["estimator"])
    shown = run(*words, "--data", data)
    assert "rows: 6 with a label, 0 with several" in shown.out
    assert "no estimator sums" in caplog.text


@pytest.mark.parametrize("command", ["classify", "encode"])
def test_results_have_the_format_of_their_ending(
    run: Run, small_run: Small, tmp_path: Path, command: str
) -> None:
    folder, data = small_run
    files = {kind: tmp_path / f"p.{kind}" for kind in ("csv", "tsv", "jsonl", "parquet")}
    for file in files.values():
        done = run(command, folder, "--data", data, "--out", file, "--json")
        assert done.status == 0 and done.json["num_rows"] == 40
    rows = {kind: [*iterate_rows(file, ColumnChoice(text="label"))] for kind, file in files.items()}
    labels = {kind: [row.sequence for row in listed] for kind, listed in rows.items()}
    assert all(labels[kind] == labels["jsonl"] and len(labels[kind]) == 40 for kind in labels)
    refused = run(command, "nowhere", "--data", data, "--out", tmp_path / "p.txt")
    assert refused.status == 2 and "p.txt: wanted a file .csv, .tsv, .jsonl" in refused.err


def test_sets_undecided_rows_and_novelty(
    run: Run, small_run: Small, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """In every format; a column of labels is one of texts where all rows are undecided, too."""
    folder, data = small_run
    wanted = ("--coverage", 0.5, "--abstain", 0.9999, "--novel", 0.2)
    printed = run("classify", folder, "abdc", *wanted, "--json").json["predictions"][0]
    assert {"set", "abstained", "novelty"} < set(printed)
    assert printed["abstained"] and printed["label"] in (None, NONE_OF_THESE)
    cells = run("classify", folder, "abdc", *wanted).out.strip().split("\t")
    assert cells[0] in ("(undecided)", NONE_OF_THESE) and cells[2] == ", ".join(printed["set"])
    assert cells[1::2] == [f"{printed['probability']:.4f}", f"{printed['novelty']:.4f}"]
    assert "--coverage" not in caplog.text
    files = {kind: tmp_path / f"p.{kind}" for kind in ("csv", "jsonl", "parquet")}
    for file in files.values():
        done = run("classify", folder, "--data", data, "--out", file, *wanted)
        assert done.status == 0, done.err
    rows = [json.loads(line) for line in files["jsonl"].read_text().splitlines()]
    with files["csv"].open(newline="") as stream:
        cells_of = list(csv.DictReader(stream))
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(files["parquet"])
    assert table.to_pylist() == rows
    run("classify", folder, "abdc", "--abstain", 0.9999, "--out", tmp_path / "one.parquet")
    one = pyarrow.parquet.read_table(tmp_path / "one.parquet")
    assert one["label"].to_pylist() == [None] and one.schema.field("label").type == pyarrow.string()
    for row, of_csv in zip(rows, cells_of, strict=True):
        assert json.loads(of_csv["set"]) == row["set"] and of_csv["label"] == (row["label"] or "")
        assert float(of_csv["novelty"]) == row["novelty"]
    shown = run("evaluate", folder, "--data", data, "--coverage", 0.5)
    assert "set_coverage" in shown.out and "set_size" in shown.out
    assert "every label is in every set" not in caplog.text
    assert run("evaluate", folder, "--data", data, "--coverage", 0.995).status == 0
    assert "--coverage 0.995: every label is in every set" in caplog.text
    assert run("classify", folder, "ab", "--coverage", 0.99, "--novel", 0.001).status == 0
    assert "--coverage 0.99: every label is in every set" in caplog.text
    assert "--novel 0.001: no row is none of the classes" in caplog.text
    refused = run("classify", folder, "--data", data, "--out", files["csv"], "--coverage", 2)
    assert refused.status == 2 and "coverage: wanted a number above 0 and below" in refused.err


def test_export(run: Run, small_run: Small, tmp_path: Path) -> None:
    shown = run("export", small_run[0], "--to", "onnx", "--out", tmp_path / "onnx")
    assert shown.status == 0 and str(tmp_path / "onnx") in shown.out
    names = {path.name for path in (tmp_path / "onnx").iterdir()}
    assert names == {"encoder.onnx", "encoder.json", "labels.json", "vocabulary.json"}
    assert run("export", small_run[0]).status == 2  # no format


def test_compare(run: Run, tmp_path: Path, small_run: Small) -> None:
    _, data = small_run
    words = (
        "compare", "--data", data, "--test", data, "--budgets", "8", "--draws", 2,
        "--arms", "nb-em-characters,ssvae", "--out", tmp_path / "c.jsonl", "--json", *QUICK,
    )  # fmt: skip
    first = run(*words)
    assert first.status == 0, first.err
    assert len(first.json["cells"]) == 4
    picture = tmp_path / "c.svg"
    again = run(*words, "--picture", picture)
    assert again.json["cells"] == first.json["cells"]  # read, not run again
    assert b"nb-em-characters" in picture.read_bytes()
    assert run(*words, "--picture", "c.txt").status == 2


def test_plot(run: Run, tmp_path: Path, small_run: Small) -> None:
    files = run("plot", small_run[0], "--out", tmp_path / "new" / "plots", "--json").json["files"]
    names = {Path(file).name for file in files}
    assert {"curves.png", "z_tsne.png", "z_pca.png", "logits_tsne.png", "confusion.png"} <= names
    assert {"reliability.png", "transfers.png", "walks.png", "kl.png"} <= names
    assert all(Path(file).read_bytes().startswith(b"\x89PNG") for file in files)
    (tmp_path / "file").write_text("")
    refused = run("plot", small_run[0], "--out", tmp_path / "file")
    assert refused.status == 2 and "wanted a folder to write to" in refused.err


def test_report(run: Run, tmp_path: Path, small_run: Small) -> None:
    out = tmp_path / "page.html"
    words = ("report", small_run[0], "--data", small_run[1], "--out", out, "--json")
    assert run(*words).json == {"out": str(out)}
    assert out.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_explore(run: Run, small_run: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C ends it well."""

    def serve_until_stopped(server: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("werkzeug.serving.BaseWSGIServer.serve_forever", serve_until_stopped)
    outcome = run("explore", small_run[0], "--port", 0)
    assert outcome.status == 0 and outcome.out.startswith("http://127.0.0.1:")


BAD_ROWS: dict[str, tuple[bytes, str]] = {
    "bad utf-8": (b'{"text": "ab", "label": "left"}\n{"text": "\xff", "label": "left"}\n', ":2"),
    "empty file": (b"", "empty"),
    "empty sequence": (b'{"text": "ab", "label": "left"}\n{"text": "", "label": "left"}\n', ":2"),
    "wrong type": (b'{"text": 7, "label": "left"}\n', ":1"),
    "no object": (b"[1, 2]\n", ":1"),
    "broken json": (b'{"text": "ab"\n', ":1"),
    "missing column": (b'{"words": "ab", "label": "left"}\n', "words"),
    "a million symbols": (b'{"text": "' + b"a" * 1_000_000 + b'", "label": "left"}\n', ":1"),
}


@pytest.mark.parametrize("command", ["train", "evaluate", "classify"])
@pytest.mark.parametrize("kind", BAD_ROWS)
def test_bad_rows_get_one_line(
    run: Run, tmp_path: Path, small_run: Small, kind: str, command: str
) -> None:
    content, wanted = BAD_ROWS[kind]
    path, out = tmp_path / "bad.jsonl", tmp_path / "out.jsonl"
    path.write_bytes(content)
    target: tuple[object, ...] = ("--out", out, *QUICK) if command == "train" else (small_run[0],)
    if command == "classify":
        target += ("--out", out)
    outcome = run(command, *target, "--data", path)
    assert outcome.status == 2 and outcome.out == ""
    assert len(outcome.err.strip().splitlines()) == 1, outcome.err
    assert "bad.jsonl" in outcome.err and wanted in outcome.err and "got" in outcome.err
    assert not out.exists()


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("evaluate RUN --data nowhere.jsonl", "nowhere.jsonl"),
        ("evaluate nowhere --data DATA", "nowhere"),
        ("evaluate RUN --data DATA --dta x", "--dta"),
        ("generate RUN --label lefft", "left"),
        ("generate RUN", "left, right"),
        ("generate RUN --label left -n -1", "n: wanted at least 0, got -1"),
        (f"generate RUN --label left --seed {2**63}", "seed: wanted at most"),
        ("classify RUN", "TEXT"),
        ("classify RUN ''", "TEXT 1"),
        ("classify RUN --out 'a\u2028b' --mode 'x\u2028y'", "invalid choice"),
        ("explain RUN ab ''", "TEXT 2: wanted a sequence, got an empty one"),
        ("transfer RUN --to left ''", "TEXT 1: wanted a sequence, got an empty one"),
        ("interpolate RUN ab ' '", "TEXT 2: wanted a sequence, got an empty one"),
        ("transfer RUN --to up ab", "up"),
        ("interpolate RUN ab ab --steps 1", "steps"),
        ("check RUN --data DATA --draws 1", "draws"),
        ("check RUN --data DATA --seed -1", "--seed: wanted 0 or more"),
        ("plot RUN --data nowhere.jsonl", "nowhere.jsonl"),
        ("report RUN --data nowhere.jsonl", "nowhere.jsonl"),
        ("explore RUN --port 70000", "--port 70000"),
        ("train --data DATA --out RUN", "RUN"),
        ("train --out NEW", "--data"),
        ("train --out NEW --data DATA --test nowhere.jsonl", "nowhere.jsonl"),
        ("train --out NEW --data DATA --model.hiden_size 3", "did you mean"),
        ("train --out NEW --data DATA --training.num_steps x", "num_steps"),
        ("train --out NEW --data DATA --objective.kl_warmup_steps 9999", "warmup"),
        ("train --out NEW --data DATA --text-column word", "word"),
        ("train --out NEW --data DATA --label-column lang", "lang"),
        ("train --out NEW --data DATA --vocabulary tokens", "tokens"),
        ("train --out NEW --data DATA --seed -1", "training.seed: wanted"),
        ("train --out NEW --data DATA --model.prior [", "model.prior: wanted"),
        ("demo --out NEW --train DATA --test DATA --steps -1", "training.num_steps: wanted"),
        ("demo --out NEW --train DATA", "wanted train and test"),
    ],
)
def test_mistakes_get_one_line(
    run: Run, tmp_path: Path, small_run: Small, words: str, wanted: str
) -> None:
    names = {"RUN": str(small_run[0]), "DATA": str(small_run[1]), "NEW": str(tmp_path / "new")}
    outcome = run(*(names.get(word, word) for word in shlex.split(words)))
    assert outcome.status == 2
    assert len(outcome.err.strip().splitlines()) == 1, outcome.err
    assert names.get(wanted, wanted) in outcome.err
    assert not (tmp_path / "new").exists()


def test_explain(run: Run, small_run: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shares add up; colours are for a terminal, unless NO_COLOR is set."""
    words = ("explain", small_run[0], "abab", "cd")
    found = run(*words, "--json").json
    for one, row in zip(
        found["explanations"],
        run("classify", small_run[0], "abab", "cd", "--json").json["predictions"],
        strict=True,
    ):
        log_prob = {name: np.log(value) for name, value in row["probabilities"].items()}
        total = sum(symbol["share"] for symbol in one["symbols"]) + one["rest"]
        assert abs(total - (log_prob[one["label"]] - log_prob[one["against"]])) < 1e-5
        assert one["label"] == row["label"]
    plain = run(*words)
    assert plain.status == 0 and re.search(r"^left against right: \+\d", plain.out)
    assert "\nabab<eos>\nn-grams: " in plain.out and "\033" not in plain.out
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    coloured = run(*words).out
    assert "\033[30;48;5;" in coloured
    assert re.sub(r"\033\[[\d;]*m", "", coloured) == plain.out
    monkeypatch.setenv("NO_COLOR", "1")
    assert run(*words).out == plain.out
    turned = run(*words, "--label", "right", "--mode", "q", "--json").json["explanations"][0]
    assert (turned["label"], turned["against"]) == ("right", "left") and turned["difference"] < 0
    for flags, wanted in (
        (("--label", "lift"), "did you mean 'left'?"),
        (("--label", "left", "--against", "left"), "wanted two labels, got left twice"),
    ):
        refused = run(*words, *flags)
        assert refused.status == 2 and wanted in refused.err and refused.err.count("\n") == 1


def test_rows_are_suggested_labelled_and_learned(
    run: Run, small_run: Small, tmp_path: Path
) -> None:
    """What `suggest` writes is data once its labels are filled in, of a class that is new too."""
    random = np.random.default_rng(0)
    pool = [{"text": "".join(random.choice(list("abcdxy"), 5)), "id": f"p{i}"} for i in range(60)]
    data = write_rows(tmp_path / "pool.jsonl", [*pool, {"text": "xyxy", "label": "odd"}])
    for ending in ("csv", "jsonl", "parquet"):
        out = tmp_path / f"to label.{ending}"
        words = ("suggest", small_run[0], "--data", data, "--out", out, "-n", 9)
        done = run(*words, "--before", small_run[0], "--json")
        assert done.status == 0, done.err
        assert done.json["num_rows"] == 9 and 0.5 < done.json["expected_accuracy"] <= 1
        assert done.json["kappa"] == 1.0 and done.json["is_enough"]
        rows = list(iterate_rows(out, ColumnChoice()))
        assert {row.id for row in rows} <= {row["id"] for row in pool}
        assert [row.label for row in rows] == [None] * 9
        refused = run(*words)
        assert refused.status == 2 and "wanted a new file, got one that exists" in refused.err
    labelled = [{"text": row.sequence, "label": "a"} for row in rows]
    more = write_rows(tmp_path / "done.jsonl", labelled)
    others = run(*words[:4], more, "-n", 60, "--out", tmp_path / "others.csv")
    assert " of 51 rows without a label" in others.out  # a row that has its label elsewhere is done
    assert "(likely too high: 8 labels were held out)" in others.out
    assert not {row.sequence for row in rows} & {
        row.sequence for row in iterate_rows(tmp_path / "others.csv", ColumnChoice())
    }
    shown = run("suggest", small_run[0], "--data", data, "--out", tmp_path / "b.tsv")
    assert re.match(r"20 of 60 rows without a label: .*b.tsv, column label\n", shown.out)
    labels = ["odd" if set(row.sequence) & set("xy") else "left" for row in rows]
    texts = [row.sequence for row in rows]
    labelled = [{"text": t, "label": y} for t, y in zip(texts, labels, strict=True)]
    write_rows(
        tmp_path / "labelled.jsonl",
        [*labelled, *({"text": "xy" * i, "label": "odd"} for i in range(1, 9))],
    )
    test = write_rows(tmp_path / "test.jsonl", [{"text": "cd", "label": "right"}])
    grown = run(
        *("train", "--from", small_run[0], "--data", tmp_path / "labelled.jsonl", "--test", test),
        *("--unlabelled", data, "--training.num_steps=2"),
        *("--out", tmp_path / "run", "--json"),
    )
    assert grown.status == 0, grown.err
    assert grown.json["test"]["accuracy"] == grown.json["dev"]["old_accuracy"] == 1.0
    assert (
        run("classify", tmp_path / "run", "xyxy", "--json").json["predictions"][0]["label"] == "odd"
    )
    none_left = run("suggest", small_run[0], "--data", test, "--out", tmp_path / "c.csv")
    assert none_left.status == 2 and "wanted a row without a label, got none" in none_left.err


def test_a_label_that_training_never_saw(run: Run, tmp_path: Path, small_run: Small) -> None:
    path = write_rows(
        tmp_path / "new.jsonl", [{"text": "ab", "label": "left"}, {"text": "ab", "label": "lift"}]
    )
    outcome = run("evaluate", small_run[0], "--data", path)
    assert outcome.status == 2 and "new.jsonl:2" in outcome.err and "left" in outcome.err
    assert run("classify", small_run[0], "--data", path).status == 0  # labels are not read there


def test_demo(run: Run, tmp_path: Path, small_run: Small) -> None:
    files = ("--train", small_run[1], "--test", small_run[1], "--labels-per-class", 1000)
    shown = run("demo", "--out", tmp_path / "run", *files, "--steps", 2)
    assert shown.status == 0, shown.err
    assert "40 held-out words, 2 languages, 20 labelled and 0 unlabelled words each" in shown.out
    done = run("demo", "--out", tmp_path / "run", *files, "--steps", 2, "--json")
    assert done.status == 0, done.err
    assert (
        list(done.json) == ["run", "accuracy", "seconds", "mode"] and "m2" in done.json["accuracy"]
    )


def test_help_and_mistakes_need_no_torch(small_run: Small) -> None:
    code = """
import sys
from seqssvae.cli import main
try:
    main(["--help"])
finally:
    assert "torch" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for command in COMMANDS:
        assert command in done.stdout


def test_one_text_is_classified_without_what_takes_long_to_import(small_run: Small) -> None:
    code = f"""
import sys
from seqssvae.cli import main
assert main(["classify", {str(small_run[0])!r}, "abab"]) == 0
slow = ["torch._dynamo", "scipy", "sklearn", "datasets", "pandas", "matplotlib"]
assert not set(slow) & set(sys.modules), set(slow) & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_command_has_a_test() -> None:
    """A new command without a smoke run fails here."""
    source = Path(__file__).read_text(encoding="utf-8")
    assert [name for name in COMMANDS if f'"{name}"' not in source.split("def test_every")[0]] == []


def test_python_m_seqssvae(small_run: Small) -> None:
    words = [sys.executable, "-m", "seqssvae", "classify", str(small_run[0]), "abab", "--json"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert json.loads(done.stdout)["predictions"][0]["label"] == "left"


def test_texts_may_follow_a_flag(run: Run, small_run: Small) -> None:
    folder = str(small_run[0])
    before = run("classify", folder, "abab", "cdcd", "--mode", "mix", "--json").json
    for words in (("--mode", "mix", "abab", "cdcd"), ("abab", "--mode", "mix", "cdcd")):
        assert run("classify", folder, *words, "--json").json == before
    assert run("classify", folder, "--mode", "mix", "abab", "--odd").status == 2


def test_names_that_the_terminal_cannot_show_are_escaped(
    small_run: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Letters outside its encoding, and bytes of a file's name that are no UTF-8."""
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    out = tmp_path / "\u017c\udcff.parquet"
    assert main(["encode", str(small_run[0]), "--data", str(small_run[1]), "--out", str(out)]) == 0
    assert b"\\u017c\\udcff.parquet" in written.getvalue() and out.exists()


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("can't allocate memory: 8 TB")])
def test_too_little_memory_is_one_line(
    run: Run, small_run: Small, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def execute(_: object) -> dict[str, Any]:
        raise error

    monkeypatch.setattr("seqssvae.cli.classify.run", execute)
    outcome = run("classify", small_run[0], "ab")
    assert outcome.status == 2 and len(outcome.err.splitlines()) == 1
    assert "wanted less memory" in outcome.err and str(error) in outcome.err
    monkeypatch.setattr("seqssvae.cli.classify.run", lambda _: [][0])
    with pytest.raises(IndexError):  # a bug of ours keeps its traceback
        run("classify", small_run[0], "ab")


def test_numbers_that_stay_bad_exit_with_3(
    run: Run, tmp_path: Path, small_run: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = FusedEnum.differentiable_loss
    monkeypatch.setattr(
        FusedEnum, "differentiable_loss", lambda *words: plain(*words) * float("inf")
    )
    folder = tmp_path / "run"
    ended = run(
        "train", "--data", small_run[1], "--out", folder, "--training.max_bad_steps=2", *QUICK
    )
    assert ended.status == 3
    last = ended.err.splitlines()[-1]
    assert last.startswith(f"seqssvae train: error: {folder}: wanted finite numbers, got 2 steps")
    monkeypatch.undo()
    assert run("classify", folder, "abab").status == 0  # what is saved is finite


def test_an_interruption_is_one_line(
    run: Run, small_run: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("seqssvae.trained.load", interrupted)
    ended = run("classify", small_run[0], "abab")
    assert (ended.status, ended.err) == (130, "seqssvae classify: stopped by SIGINT\n")
    ends = Mock(side_effect=SystemExit)
    monkeypatch.setattr(os, "_exit", ends)
    monkeypatch.setattr(sys, "argv", ["seqssvae", "classify", str(small_run[0]), "abab"])
    with pytest.raises(SystemExit):
        main()  # as the program: memory is left to the system
    ends.assert_called_once_with(130)


@pytest.mark.parametrize(
    ("command", "work"),
    [
        ("train --data {data} --out {out}", "seqssvae.data.corpus.cached_table"),
        ("train --data {data} --out {out}", "seqssvae.training.teach.distil"),
        ("compare --data {data} --test {data} --out {out}", "seqssvae.compare.compare._run"),
        ("evaluate {run} --data {data}", "seqssvae.trained.evaluate"),
    ],
)
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_a_command_at_once(
    run: Run,
    small_run: Small,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    work: str,
    number: signal.Signals,
    status: int,
) -> None:
    """Where it takes long: reading, teacher, arms, figures."""

    def interrupted(*_: object, **__: object) -> None:
        os.kill(os.getpid(), number)
        time.sleep(60)

    before = [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)]
    monkeypatch.setattr(work, interrupted)
    folder, data = small_run
    words = command.format(data=data, run=folder, out=tmp_path / "out").split()
    ended = run(*words)
    assert ended.status == status
    name = f"seqssvae {words[0]}: stopped by {number.name}"
    assert ended.err.splitlines()[-1].partition(";")[0] == name
    assert [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)] == before


def test_a_label_of_the_test_file_that_training_never_saw(
    run: Run, small_run: Small, tmp_path: Path
) -> None:
    """It is found before anything is trained."""
    test = write_rows(tmp_path / "t.jsonl", [{"text": "ab", "label": x} for x in ("left", "lift")])
    done = run("train", "--data", small_run[1], "--test", test, "--out", tmp_path / "run", *QUICK)
    assert done.status == 2 and "t.jsonl:2: wanted a known label" in done.err
    assert "did you mean 'left'?" in done.err and not (tmp_path / "run").exists()


def test_home_and_standard_input_are_taken_as_people_type_them(
    run: Run,
    small_run: Small,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setenv("HOME", str(small_run[0].parent))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"text\nabab\ncdcdcd\n")))
    done = run("classify", "~/run", "--data=-", "--json", "--device", "cpu")
    assert [row["label"] for row in done.json["predictions"]] == ["left", "right"], done.err
    assert "standard input is read as csv" in caplog.text
    assert run("evaluate", "~/run", "--data", "~/data.jsonl", "--likelihood-rows=1e1").status == 0
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(gzip.compress(b'{"text": 5}'))))
    refused = run("classify", "~/run", "--data=-").err.splitlines()[-1]
    assert refused.startswith("seqssvae classify: error: standard input:1: wanted")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'text\n"a\nb,c"\n')))
    assert run("classify", "~/run", "--data=-").status == 0
    assert "standard input:2: a cell holds a line break" in caplog.text


@pytest.mark.parametrize(
    ("labels", "flags", "num_steps"),
    [
        ("all", (), 8),  # 2 x 40 rows / 10
        ("all", ("--labels-per-class", 4), 10),  # 2 x 32 unlabelled rows / 7
        ("half", (), 6),
    ],
)
def test_epochs_are_passes_over_the_rows(
    run: Run,
    small_run: Small,
    tmp_path: Path,
    labels: str,
    flags: tuple[object, ...],
    num_steps: int,
) -> None:
    rows = [json.loads(line) for line in small_run[1].read_text().splitlines()]
    data = write_rows(
        tmp_path / "rows.jsonl",
        [
            row | {"label": None} if labels == "half" and i % 2 else row
            for i, row in enumerate(rows)
        ],
    )
    sizes = ("--training.labelled_batch_size=10", "--training.unlabelled_batch_size=7")
    quick = [word for word in QUICK if "num_steps" not in word]
    words = ("train", "--data", data, "--out", tmp_path / "run", "--data.vocabulary=characters")
    done = run(*words, "--epochs", 2, *sizes, *flags, *quick, "--json")
    assert done.status == 0, done.err
    assert done.json["num_steps"] == num_steps
    for wrong, message in (
        (("--epochs=2", "--num_steps=3"), "wanted --epochs or --training.num_steps, got both"),
        (("--epochs=0",), "--epochs: wanted more than 0 and less than 1e+09, got 0"),
        (("--epochs=nan",), "--epochs: wanted more than 0 and less than 1e+09, got nan"),
        (("--epochs=1e300",), "--epochs: wanted more than 0 and less than 1e+09, got 1e+300"),
    ):
        refused = run(*words, *wrong)
        assert refused.status == 2 and message in refused.err


@pytest.mark.parametrize(
    ("words", "work"),
    [
        (
            "compare --data {data} --test {data} --out {away}/a.jsonl --picture {here}/a/b.png",
            "seqssvae.compare.compare.compare",
        ),
        (
            "compare --data {data} --test {data} --out {file}/a.jsonl",
            "seqssvae.compare.compare.compare",
        ),
        ("report {run} --out {away}/a.html", "seqssvae.show.portrait.portray"),
        ("plot {run} --out {file}/plots", "seqssvae.show.portrait.portray"),
        ("export {run} --to onnx --out {file}/onnx", "seqssvae.export.onnx.export_onnx"),
    ],
)
def test_what_cannot_be_written_is_found_before_the_work(
    run: Run,
    small_run: Small,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: str,
    work: str,
) -> None:
    monkeypatch.setattr(work, Mock(side_effect=AssertionError))
    (tmp_path / "file").touch()
    folders = {"here": tmp_path, "away": tmp_path / "away", "file": tmp_path / "file"}
    refused = run(*words.format(run=small_run[0], data=small_run[1], **folders).split())
    assert refused.status == 2 and refused.err.count("\n") == 1, refused.err
    assert re.search("wanted (a folder .* to write to, got none|to write it, got )", refused.err)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_two_commands_do_not_write_one_file(run: Run, small_run: Small, tmp_path: Path) -> None:
    folder, data = small_run
    for words, held in (
        (("compare", "--data", data, "--test", data, "--out"), tmp_path / "out.jsonl"),
        (("classify", folder, "--data", data, "--out"), tmp_path / ".out.jsonl.slices"),
        (("encode", folder, "--data", data, "--out"), tmp_path / ".out.jsonl.slices"),
    ):
        with locked(held, is_file=words[0] == "compare"):
            refused = run(*words, tmp_path / "out.jsonl")
        assert refused.status == 2 and "that no other process writes to, got one in use" in (
            refused.err
        )
        assert not list(tmp_path.iterdir())


def test_pictures_read_other_columns(run: Run, small_run: Small, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in small_run[1].read_text().splitlines()]
    data = write_rows(tmp_path / "a.jsonl", [{"word": r["text"], "side": r["label"]} for r in rows])
    words = ("--data", data, "--text-column", "word", "--label-column", "side")
    done = run("plot", small_run[0], "--out", tmp_path / "plots", *words)
    assert done.status == 0 and "confusion.png" in done.out, done.err
    assert run("report", small_run[0], "--out", tmp_path / "r.html", *words).status == 0
    refused = run("explore", small_run[0], "--port=0", *words[:2], "--text-column", "away")
    assert refused.status == 2 and "a.jsonl:1: wanted a column 'away'" in refused.err


def test_the_version_of_a_source_tree_is_not_known(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.metadata.version", Mock(side_effect=PackageNotFoundError))
    assert run("--version") == (0, "unknown: a source tree that is not installed\n", "")
