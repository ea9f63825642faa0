"""`metrics.jsonl`: an evaluation per line, without times, so that a resumed run has the same."""

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seqssvae.errors import InputError
from seqssvae.storage.checksums import sha256
from seqssvae.storage.files import flush, parse_json, read_bytes, readable, to_json, writable

METRICS = "metrics.jsonl"


def append_metrics(folder: Path, record: Mapping[str, Any]) -> None:
    """Append a line to `metrics.jsonl`, and flush it to the disk.

    Args:
        folder: Folder of the run; created if it does not exist.
        record: Plain values; numbers that are not finite become null. `step` orders the records.

    Raises:
        InputError: the folder cannot be written to.
    """
    path = folder / METRICS
    with writable(path):
        folder.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.write(to_json(record, indent=None))
        flush(path)


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The evaluations of a run, in the order of their steps; none if there is no file.

    A last line that a kill left incomplete is skipped.

    Raises:
        InputError: a line is no JSON object; file and line are named.
    """
    path = folder / METRICS
    records: list[dict[str, Any]] = []
    if not path.exists():
        return records
    whole_lines = read_bytes(path).split(b"\n")[:-1]
    for number, line in enumerate(whole_lines, start=1):
        record = parse_json(line, dict, f"{path}:{number}")
        while records and records[-1].get("step", -1) >= record.get("step", math.inf):
            records.pop()
        records.append(record)
    return records


def measure_metrics(folder: Path) -> dict[str, Any]:
    """`size` and `sha256` of the file as it is, for `cut_metrics`.

    Raises:
        InputError: it cannot be read.
    """
    path = folder / METRICS
    with readable(path):
        size = path.stat().st_size if path.exists() else 0
    return {"size": size, "sha256": sha256(path) if size else ""}


def cut_metrics(folder: Path, measured: Mapping[str, Any]) -> None:
    """Remove the lines that were appended after a call of `measure_metrics`.

    Args:
        folder: Folder of the run.
        measured: Result of `measure_metrics`.

    Raises:
        InputError: the lines before are not the same, or the file cannot be written to.
    """
    path = folder / METRICS
    size = int(measured["size"])
    if not size:
        with writable(path):
            path.unlink(missing_ok=True)
        return
    with writable(path):
        if path.stat().st_size > size:
            os.truncate(path, size)
            flush(path)
    if measure_metrics(folder) != measured:
        raise InputError(f"{path}: wanted the evaluations before the checkpoint, got others")
