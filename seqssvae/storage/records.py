"""Files of results: csv, tsv, jsonl or parquet, by the ending of their names."""

import contextlib
import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from seqssvae.errors import InputError

if TYPE_CHECKING:
    import pyarrow

    from seqssvae.storage.slices import Join

DELIMITERS = {"csv": ",", "tsv": "\t"}
KINDS = (*DELIMITERS, "jsonl", "parquet")
FILE = "FILE.{csv,tsv,jsonl,parquet}"


def kind_of(path: Path) -> str:
    """The format of a file that is to be written; that of a pipe is jsonl.

    Raises:
        InputError: another ending, or a folder that cannot be written to.
    """
    kind = path.suffix.lower().removeprefix(".")
    is_pipe = path.exists() and not (path.is_file() or path.is_dir())
    if kind not in KINDS and (is_pipe or path.is_relative_to("/dev")):
        return "jsonl"
    if kind not in KINDS:
        wanted = "a file .csv, .tsv, .jsonl or .parquet"
        raise InputError(f"--out {path}: wanted {wanted}, got {path.name!r}")
    from seqssvae.storage.files import check_output

    check_output(path, "--out")
    return kind


def to_text(records: Sequence[Mapping[str, Any]], kind: str, *, is_first: bool) -> bytes:
    """Records as lines of jsonl, csv or tsv.

    Args:
        records: Records with the same keys. In csv and tsv a list and a mapping have a column for
            each entry, `NAME_KEY`.
        kind: "jsonl", "csv" or "tsv".
        is_first: Whether the file begins here: with a header, in csv and tsv.
    """
    if kind == "jsonl":
        return b"".join(f"{json.dumps(one, ensure_ascii=False)}\n".encode() for one in records)
    flat = [dict(_columns(record)) for record in records]
    stream = io.StringIO(newline="")
    names = list(flat[0]) if flat else []
    writer = csv.DictWriter(stream, names, delimiter=DELIMITERS[kind], lineterminator="\n")
    if is_first:
        writer.writeheader()
    writer.writerows(flat)
    return stream.getvalue().encode()


def in_cells(record: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """A record whose lists are JSON in csv and tsv, as a cell with a list is read there."""
    if kind not in DELIMITERS:
        return dict(record)
    return {
        name: json.dumps(value, ensure_ascii=False) if isinstance(value, list) else value
        for name, value in record.items()
    }


def to_parquet(table: "pyarrow.Table") -> bytes:
    """A table as a parquet file."""
    from pyarrow import parquet

    buffer = io.BytesIO()
    parquet.write_table(table, buffer)
    return buffer.getvalue()


def join_of(kind: str) -> "Join":
    """What makes one file of the parts of a format."""
    from seqssvae.storage.slices import concatenate  # with NumPy, which `--help` does not need

    return _join_parquet if kind == "parquet" else concatenate


def _join_parquet(parts: Iterable[BinaryIO], whole: BinaryIO) -> None:
    """Concatenate parquet files, with a row group for each."""
    from pyarrow import parquet

    with contextlib.ExitStack() as stack:
        writer: Any = None
        for part in parts:
            rows = parquet.read_table(part)
            if writer is None:
                writer = stack.enter_context(parquet.ParquetWriter(whole, rows.schema))
            writer.write_table(rows)


def _columns(record: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in record.items():
        if isinstance(value, Mapping):
            yield from ((f"{name}_{key}", one) for key, one in value.items())
        elif isinstance(value, list):
            yield from ((f"{name}_{number}", one) for number, one in enumerate(value))
        else:
            yield name, value
