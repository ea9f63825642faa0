"""Rows of files: csv, tsv, jsonl, parquet and txt, each but parquet also gzipped, row by row.

Values are taken as they stand: 'NA', '1e5' and 'null' in a csv file are texts.
"""

import csv
import gzip
import json
import os
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from seqssvae.data.arrow_rows import parquet_rows
from seqssvae.data.rows import (
    LABEL_NAMES,
    ChooseColumns,
    Columns,
    RawRow,
    Row,
    checked_rows,
    choose_columns,
    list_names,
    row_error,
    unreadable,
)
from seqssvae.errors import InputError

__all__ = ["is_readable", "iterate_rows"]

MAX_LINE_BYTES = 64 * 2**20  # a million symbols fit, a binary file does not
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def iterate_rows(
    path: str | Path,
    *,
    text_column: str | None = None,
    tokens_column: str | None = None,
    label_column: str | None = None,
    read_labels: bool = True,
) -> Iterator[Row]:
    """Read a file's rows one after the other, without holding the file.

    - csv, tsv: a header, then rows; a cell may be quoted and then hold line breaks; empty lines
      are skipped. A cell of tokens holds them with spaces between, or as a JSON list.
    - jsonl: an object a line, empty lines are skipped; a list as label is 'one of these', and
      integers are taken as labels by their digits.
    - parquet: columns of strings, or lists of strings.
    - txt: one text a line, unlabelled.

    Text is UTF-8, with or without a byte order mark, lines end with LF or CRLF.

    Args:
        path: The name's end says what it is: `.csv`, `.tsv`, `.jsonl`, `.ndjson`, `.parquet`,
            `.txt`, and all but parquet with `.gz` behind.
        text_column: The column of texts; found by its name when None, as in `choose_columns`.
        tokens_column: The column of tokens, instead of texts.
        label_column: The column of labels; found by its name when None, and then it may be absent.
            A missing, null or empty label means unlabelled.
        read_labels: False leaves labels unread: every row is unlabelled.

    Raises:
        InputError: the file cannot be read, is empty, or a row is bad; the message has the file,
            the row (see `Row.number`), what was wanted and what was got.
    """
    path = Path(path)
    kind = _kind(path)

    def choose(names: Sequence[str], where: str) -> Columns:
        return choose_columns(
            names,
            where,
            text_column=text_column,
            tokens_column=tokens_column,
            label_column=label_column,
            read_labels=read_labels,
        )

    is_tokens: bool
    raw_rows: Iterator[RawRow]
    if kind == "txt":
        choose(["text"], f"{path}:1")  # named columns cannot be there
        is_tokens, raw_rows = False, _txt_rows(path)
    elif kind == "parquet":
        is_tokens, raw_rows = parquet_rows(path, choose)
    elif kind == "jsonl":
        is_tokens, raw_rows = _jsonl_rows(path, choose, label_column, read_labels)
    else:
        is_tokens, raw_rows = _table_rows(path, choose, "," if kind == "csv" else "\t")
    is_empty = True
    for row in checked_rows(raw_rows, str(path), is_tokens=is_tokens):
        is_empty = False
        yield row
    if is_empty:
        if kind in ("csv", "tsv"):
            raise row_error(path, 2, "a row", "a header only")
        raise row_error(path, 1, "a row", "an empty file")


def is_readable(path: Path) -> bool:
    """Whether `iterate_rows` reads files of this name, and it does not begin with a dot."""
    try:
        return not path.name.startswith(".") and bool(_kind(path))
    except InputError:
        return False


def _kind(path: Path) -> str:
    try:
        is_name = b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:
        is_name = False
    if not is_name:
        raise InputError(
            f"{str(path)!r}: wanted the name of a file, got what no file can be called"
        )
    suffixes = path.name.lower().split(".")[1:]
    gzipped = suffixes[-1:] == ["gz"]
    kind = suffixes[-2 if gzipped else -1] if len(suffixes) > gzipped else ""
    kind = {"ndjson": "jsonl"}.get(kind, kind)
    if kind not in ("csv", "tsv", "jsonl", "parquet", "txt") or (gzipped and kind == "parquet"):
        raise InputError(
            f"{path}: wanted a file .csv, .tsv, .jsonl or .txt (or one of these with .gz) "
            f"or .parquet, got {path.name!r}"
        )
    return kind


def _lines(path: Path) -> Iterator[str]:
    """Lines with their ends, decoded one by one so that an error can name its line."""
    number = 0
    opener: Any = gzip.open if path.name.lower().endswith(".gz") else open
    try:
        with opener(path, "rb") as stream:
            while raw := stream.readline(MAX_LINE_BYTES + 1):
                number += 1
                if len(raw) > MAX_LINE_BYTES:
                    wanted = f"a line of at most {MAX_LINE_BYTES >> 20} MiB"
                    raise row_error(path, number, wanted, "a longer one")
                if number == 1 and raw.startswith(BYTE_ORDER_MARK):
                    raw = raw[len(BYTE_ORDER_MARK) :]
                try:
                    line = raw.decode()
                except UnicodeDecodeError as error:
                    got = f"the byte 0x{raw[error.start]:02x} at byte {error.start + 1} of the line"
                    raise row_error(path, number, "UTF-8", got) from error
                yield line
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        got = f"damage after line {number}: {error}"
        raise row_error(path, number + 1, "a whole gzip file", got) from error
    except OSError as error:
        raise unreadable(path, error) from error


def _txt_rows(path: Path) -> Iterator[RawRow]:
    for number, line in enumerate(_lines(path), 1):
        yield RawRow(number, _without_end(line), None, None)


def _without_end(line: str) -> str:
    return line[:-2] if line.endswith("\r\n") else line.removesuffix("\n")


def _table_rows(path: Path, choose: ChooseColumns, delimiter: str) -> tuple[bool, Iterator[RawRow]]:
    """Whether rows are tokens, and the rows of a csv or tsv file."""
    csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE_BYTES))
    reader = csv.reader(_lines(path), delimiter=delimiter, strict=True)
    records = _records(reader, path)
    start, header = next(records, (1, []))
    if not header:
        raise row_error(path, 1, "a header", "an empty file")
    columns = choose(header, f"{path}:{start}")

    def place(name: str | None) -> int | None:
        return None if name is None else header.index(name)

    sequence, label, id = header.index(columns.sequence), place(columns.label), place(columns.id)

    def rows() -> Iterator[RawRow]:
        for number, cells in records:
            if len(cells) != len(header):
                raise row_error(path, number, f"{len(header)} cells", str(len(cells)))
            value: Any = cells[sequence]
            if columns.is_tokens:
                value = _split_tokens(value, path, number)
            yield RawRow(
                number,
                value,
                None if label is None else cells[label],
                None if id is None else cells[id],
            )

    return columns.is_tokens, rows()


def _records(reader: Any, path: Path) -> Iterator[tuple[int, list[str]]]:
    """Rows that are not empty, each with the line on which it begins."""
    while True:
        start = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            wanted = "cells that are quoted as a whole, with quotes inside doubled, or not at all"
            raise row_error(path, start, wanted, f"a cell that is not: {error}") from error
        if cells:
            yield start, cells


def _split_tokens(cell: str, path: Path, number: int) -> Any:
    """The tokens of a csv cell: `a b c`, or the JSON list `["a", "b", "c"]`."""
    if cell.startswith('["') and cell.endswith('"]'):
        try:
            return json.loads(cell)
        except ValueError:
            pass  # then these are tokens that look like that
    if cell.startswith("['") and cell.endswith("']"):
        wanted = "tokens with spaces between or a JSON list"
        raise row_error(path, number, wanted, "a list as Python prints it")
    return cell.split()


def _jsonl_rows(
    path: Path, choose: ChooseColumns, label_column: str | None, read_labels: bool
) -> tuple[bool, Iterator[RawRow]]:
    """Whether rows are tokens, and the rows of a file with a JSON object a line."""
    records = _objects(path)
    first = next(records, None)
    if first is None:
        raise row_error(path, 1, "a row", "an empty file")
    names = list(first[1])
    if read_labels and label_column is not None and label_column not in names:
        names.append(label_column)  # a later row may have it
    columns = choose(names, f"{path}:{first[0]}")

    def rows() -> Iterator[RawRow]:
        id = None if "id" in (columns.sequence, label_column) else "id"
        finder = _LabelFinder(path, label_column, columns.sequence) if read_labels else None
        for number, record in _chain(first, records):
            if columns.sequence not in record:
                wanted = f"a column {columns.sequence!r}"
                raise row_error(path, number, wanted, list_names(list(record)))
            label = None if finder is None else finder.label(record, number)
            yield RawRow(number, record[columns.sequence], label, record.get(id) if id else None)
        if finder is not None and label_column is not None and finder.name is None:
            wanted = f"a column {label_column!r} in some row"
            raise row_error(path, first[0], wanted, list_names(list(first[1])))

    return columns.is_tokens, rows()


def _chain(
    first: tuple[int, dict[str, Any]], rest: Iterator[tuple[int, dict[str, Any]]]
) -> Iterator[tuple[int, dict[str, Any]]]:
    yield first
    yield from rest


def _objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line numbers and objects."""
    decoder = json.JSONDecoder(object_pairs_hook=_object)  # `loads` would make one for each line
    for number, line in enumerate(_lines(path), 1):
        if line.isspace():
            continue
        try:
            record = decoder.decode(line)
        except json.JSONDecodeError as error:
            got = f"broken JSON at character {error.pos + 1}: {error.msg}"
            raise row_error(path, number, "a JSON object", got) from error
        except (ValueError, RecursionError) as error:
            raise row_error(path, number, "a JSON object", f"broken JSON: {error}") from error
        if not isinstance(record, dict):
            got = {list: "a list", str: "a text", type(None): "null"}.get(type(record), "a number")
            raise row_error(path, number, "a JSON object", got)
        yield number, record


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, if no key stands twice: `json` would keep the last value without a word."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r:.80} twice")
    return found


class _LabelFinder:
    """Finds the label of JSON objects, of which the unlabelled ones may lack the column."""

    def __init__(self, path: Path, label_column: str | None, sequence: str) -> None:
        usual = [name for name in LABEL_NAMES if name != sequence]
        self.path, self.names = path, usual if label_column is None else [label_column]
        self.name: str | None = None

    def label(self, record: dict[str, Any], number: int) -> Any:
        for name in self.names:
            if name in record:
                if self.name is None:
                    self.name = name
                elif self.name != name:
                    wanted = f"labels in one column, {self.name!r} as above, or a named one"
                    raise row_error(self.path, number, wanted, f"a column {name!r}")
                return record[name]
        return None
