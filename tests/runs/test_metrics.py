"""The evaluations of a run, a line each."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seqssvae.errors import InputError
from seqssvae.runs.metrics import append_metrics, cut_metrics, measure_metrics, read_metrics


def test_metrics(tmp_path: Path) -> None:
    assert read_metrics(tmp_path / "run") == []
    records: list[dict[str, Any]] = [
        {"step": 1, "elbo": -3.5, "accuracy": None},
        {"step": 2, "elbo": np.float64(-2)},
    ]
    for record in records:
        append_metrics(tmp_path / "run", record)
    append_metrics(tmp_path / "run", {"step": 3, "elbo": math.inf, "text": "größe"})
    assert read_metrics(tmp_path / "run") == [
        {"step": 1, "elbo": -3.5, "accuracy": None},
        {"step": 2, "elbo": -2.0},
        {"step": 3, "elbo": None, "text": "größe"},
    ]


def test_an_incomplete_last_line_is_skipped(tmp_path: Path) -> None:
    append_metrics(tmp_path, {"step": 1})
    whole = (tmp_path / "metrics.jsonl").read_bytes()
    append_metrics(tmp_path, {"step": 2, "elbo": -1.0})
    both = (tmp_path / "metrics.jsonl").read_bytes()
    for size in range(len(both)):
        (tmp_path / "metrics.jsonl").write_bytes(both[:size])
        assert read_metrics(tmp_path) == ([{"step": 1}] if size >= len(whole) else [])


def test_metrics_after_a_resumed_run(tmp_path: Path) -> None:
    for step, number in ((1, 0), (2, 0), (3, 0), (2, 1), (3, 1), (4, 1)):
        append_metrics(tmp_path, {"step": step, "number": number})
    found = [(record["step"], record["number"]) for record in read_metrics(tmp_path)]
    assert found == [(1, 0), (2, 1), (3, 1), (4, 1)]


def test_a_damaged_line_of_metrics_is_reported(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"st\n{"step": 3}\n')
    with pytest.raises(InputError, match="metrics.jsonl:2: wanted JSON, got"):
        read_metrics(tmp_path)


def test_metrics_are_truncated_to_those_of_a_checkpoint(tmp_path: Path) -> None:
    nothing = measure_metrics(tmp_path)
    append_metrics(tmp_path, {"step": 1})
    measured = measure_metrics(tmp_path)
    before = (tmp_path / "metrics.jsonl").read_bytes()
    append_metrics(tmp_path, {"step": 2})
    cut_metrics(tmp_path, measured)
    assert (tmp_path / "metrics.jsonl").read_bytes() == before
    for damaged in (before.replace(b"1", b"3"), before[:-1]):
        (tmp_path / "metrics.jsonl").write_bytes(damaged)
        with pytest.raises(InputError, match="metrics.jsonl: wanted the evaluations before"):
            cut_metrics(tmp_path, measured)
    cut_metrics(tmp_path, nothing)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InputError, match="metrics.jsonl: wanted to write it, got No such file"):
        cut_metrics(tmp_path, measured)
