"""Soft labels and votes, from a file to an answer."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import seqssvae
from seqssvae.cli import main
from seqssvae.data.prepare import prepare
from seqssvae.model.build import build
from seqssvae.show.portrait import load_held_out
from seqssvae.training.counting import Counting
from seqssvae.training.resume import checksum_rows
from seqssvae.training.teach import teach
from tests.support.rows import write_rows
from tests.support.training import config

NUM = 120


def write(path: Path) -> Path:
    """Rows of two alphabets, 16 with a label; A votes right in 3 of 4 rows, B on every second."""
    random, rows = np.random.default_rng(0), list[dict[str, Any]]()
    for row in range(NUM):
        y = row % 2
        votes = {
            "A": "xy"[y if row % 8 not in (4, 5) else 1 - y],
            "B": "xy"[y] if row % 4 < 2 else None,
        }
        text = "".join(random.choice(list("ab" if y else "cd"), 14))
        rows.append({"text": text, "label": "xy"[y] if row < 16 else None, **votes})
    rows.append({"text": "cdacdbccc", "label": {"x": 0.6, "y": 0.4}})
    return write_rows(path / "rows.jsonl", rows)


def test_a_run_learns_from_votes_and_answers_without_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "seqssvae")
    settings = config(training__teacher=True, data__vote_columns="A,B")
    voters = seqssvae.fit(settings, write(tmp_path), tmp_path / "r")["voters"]
    assert NUM - 6 <= voters["A"]["num_votes"] < NUM  # of held-out rows none
    assert 0.5 < voters["A"]["accuracy"] < voters["B"]["accuracy"]
    assert "votes of 'B'" in caplog.text
    trained = seqssvae.load(tmp_path / "r")
    assert trained.model.votes is not None
    assert trained.model.votes.matrices().tolist() == [voters[n]["confusion"] for n in "AB"]
    held_out = load_held_out(tmp_path / "r")[1]  # votes are no part of what tells rows apart
    assert 0 < len(held_out.sequences) < 16
    assert "1 rows have a soft label, or a list" in caplog.text
    assert "has changed" not in caplog.text
    plain = write_rows(tmp_path / "plain.jsonl", [{"text": "abab", "label": "y"}])
    assert trained.evaluate(plain)["num_labelled"] == 1
    assert main(["classify", str(tmp_path / "r"), "cdcd"]) == 0


def test_votes_beside_labels_of_another_table_and_votes_that_cannot_be_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        {"id": f"r{i}", "text": "ab" * (i % 5) + "cd"[i % 2], "v": "xy"[i % 2]} for i in range(20)
    ]
    data = str(write_rows(tmp_path / "rows.jsonl", rows))
    known = [{"id": f"r{i}", "label": "xy"[i % 2]} for i in range(8)]
    labels = str(write_rows(tmp_path / "labels.jsonl", known))
    words = ["train", "--data", data, "--labels", labels, "--vote-columns", "v", "--json"]
    small = ["--model.encoder_size", "4", "--model.decoder_size", "4", "--training.num_steps", "1"]
    assert main([*words, *small, "--out", str(tmp_path / "r")]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["voters"]["v"]["num_votes"] > 10
    assert main(["evaluate", str(tmp_path / "r"), "--data", data, "--labels", labels]) == 0
    classifier = seqssvae.SeqSSVAEClassifier(config=config(data__vote_columns="v"))
    with pytest.raises(seqssvae.InputError, match="X: wanted columns of votes"):
        classifier.fit(["a", "b"], ["x", "y"])


def test_what_counts_reads_votes_and_soft_labels(tmp_path: Path) -> None:
    """The teacher's start, the counts' weights of a row, and the checksum of the rows."""
    settings, source = config(training__teacher=False, data__vote_columns="A,B"), write(tmp_path)
    data = prepare(settings, source)
    model = build(settings, data)
    assert model.votes is not None and not teach(settings, model, data)
    counting = Counting(settings, model, data)
    counting.count()
    place = next(iter(data.labelled.candidates))
    with_soft, without = counting.weights[place], data.labelled.take([place])
    assert with_soft.sum() == pytest.approx(1) and len(without.candidates) == 1
    votes = data.unlabelled.evidence().votes
    assert votes is not None
    agree = votes[:, 0] == votes[:, 1]
    free = counting.weights[len(data.labelled) :]
    assert (free.argmax(1)[agree] == votes[agree, 0]).all() and free[agree].max(1).min() > 0.7
    plain = prepare(config(training__teacher=False), source)
    assert checksum_rows(plain.unlabelled) != checksum_rows(data.unlabelled)


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        (["--vote-columns", "A,Z"], "rows.jsonl:1: wanted a column 'A' in some row, got"),
        (["--vote-columns", "label"], "wanted columns of votes beside 'label'"),
        (["--vote-columns", "text"], "wanted columns of votes beside 'text'"),
    ],
)
def test_bad_columns_are_one_line(
    flags: list[str], error: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"text": "a", "label": "u"}, {"text": "b", "label": "v"}]
    source = write_rows(tmp_path / "rows.jsonl", rows)
    assert main(["train", "--data", str(source), *flags, "--out", str(tmp_path / "r")]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert error in lines[-1] and not (tmp_path / "r").exists()
    assert json.dumps(rows) and len([line for line in lines if "wanted" in line]) == 1
