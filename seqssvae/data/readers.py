"""Rows of files: csv, tsv, jsonl, parquet, txt, FASTA, all but parquet also compressed.

Texts are not converted: 'NA', '1e5' and 'null' in a csv file are texts. Labels and ids are the same
from every format: see `rows.name_of`.
"""

import csv
import dataclasses
import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from seqssvae import progress
from seqssvae.data.columns import VOTES_FLAG, ColumnChoice, Columns, id_of, split_names
from seqssvae.data.rows import Row, list_names, row_error
from seqssvae.data.texts import MAX_LINE_BYTES, READ, fasta_rows, read_lines, txt_rows
from seqssvae.errors import InputError
from seqssvae.storage.compressed import NAMES, split_ending
from seqssvae.storage.files import line_of, readable

KINDS = {"ndjson": "jsonl"} | dict.fromkeys(("fa", "faa", "fna", "fas"), "fasta")  # by suffix
BATCH_ROWS = 1000  # of a parquet file
DELIMITERS = {"csv": ",", "tsv": "\t"}


def iterate_rows(path: str | Path, choice: ColumnChoice | None = None) -> Iterator[Row]:
    """Read a file's rows one after the other; the file is never in memory as a whole.

    - csv, tsv: a header, then rows; a cell may be quoted and then contain line breaks (see
      `data.quotes`); empty lines are skipped. A cell of tokens has spaces between them, or is a
      JSON list, as a label may be; a soft label is a JSON object.
    - jsonl: an object a line, empty lines are skipped.
    - parquet: columns of strings, or lists of strings.
    - txt: one text a line, unlabelled; but see `texts.txt_rows` for files of fastText.
    - fasta: records with a header, see `texts.fasta_rows`.

    Text is UTF-8, with or without a byte order mark, unless `choice.encoding` says otherwise;
    lines end with LF or CRLF.

    Args:
        path: The format is that of the suffix: `.csv`, `.tsv`, `.jsonl`, `.ndjson`, `.parquet`,
            `.txt`, `.fasta`, `.fa`, `.faa`, `.fna`, `.fas`; all but parquet may have `.gz`,
            `.bz2`, `.xz`, `.zst` or `.zip` after it, the last one also alone.
        choice: Named columns; None for those with usual names. A missing, null or empty label
            means unlabelled; a list as label is 'one of these'.

    Raises:
        InputError: the file cannot be read, is empty, or a row is bad; the message has the file,
            the row (see `Row.number`), what was wanted and what was got.
    """
    path = Path(path)
    kind = _kind(path)
    row = None
    for row in READERS[kind](path, choice or ColumnChoice()):
        yield row
    if row is None and kind in ("csv", "tsv"):
        raise row_error(path, 2, "a row", "a header only")
    if row is None:
        raise row_error(path, 1, "a row", "an empty file")


def is_readable(path: Path) -> bool:
    """Whether `iterate_rows` reads files of this name, and it is not hidden."""
    try:
        return not path.name.startswith(".") and bool(_kind(path))
    except InputError:
        return False


def column_names(path: Path, choice: ColumnChoice, num_rows: int) -> list[str]:
    """Columns of a file that `iterate_rows` has read; of a jsonl file those of its first rows."""
    kind = _kind(path)
    if kind in DELIMITERS:
        return next(_cells(path, choice))[1]
    if kind == "jsonl":
        records = itertools.islice(_objects(path, choice), num_rows)
        return list(dict.fromkeys(name for _, record in records for name in record))
    if kind == "parquet":
        from pyarrow import parquet

        names: list[str] = parquet.ParquetFile(path).schema_arrow.names
        return names
    return []


def arrow_rows(
    batches: Iterable[Any],
    columns: Columns,
    source: object,
    *,
    label_names: Sequence[Sequence[str] | None] = (None,),
) -> Iterator[Row]:
    """Rows of Arrow record batches or tables.

    Args:
        batches: Each with the columns in `columns`.
        columns: Columns to read.
        source: File or data set, for errors.
        label_names: Names of integer labels, for each column of labels; -1 is then unlabelled.

    Raises:
        InputError: as `RowChecker`, bytes that are not UTF-8, or an integer label without a name.
    """
    check = columns.checker(source)
    number = 0
    for batch in batches:
        num_labels = len(columns.label_names)
        others = (columns.id, columns.vectors, *columns.votes)
        read = [
            [None] * len(batch) if name is None else _values(batch.column(name), source, number)
            for name in (columns.sequence, *columns.label_names, *others)
        ]
        for sequence, *cells in zip(*read, strict=True):
            number += 1
            values, (id, vector, *votes) = cells[:num_labels], cells[num_labels:]
            for column, names in enumerate(label_names):
                if names is not None:
                    values[column] = _name_label(values[column], names, source, number)
            known = values if columns.labels else _mapping_of(values[0])
            yield check(number, sequence, known, id, vector, votes if columns.votes else None)


def _mapping_of(value: Any) -> Any:
    """A value of an Arrow map, a list of pairs, as a mapping; any other as it is."""
    is_map = isinstance(value, list) and value and all(isinstance(one, tuple) for one in value)
    return dict(value) if is_map else value


def _kind(path: Path) -> str:
    try:
        is_name = b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:
        is_name = False
    if not is_name:
        raise InputError(f"{str(path)!r}: wanted a file name, got a NUL or a lone surrogate in it")
    name, compression = split_ending(path)
    kind = name.lower().rpartition(".")[2]
    kind = KINDS.get(kind, kind)
    if "." not in name or kind not in READERS or (compression and kind == "parquet"):
        endings = ", ".join(f".{ending}" for ending in NAMES)
        raise InputError(
            f"{path}: wanted a file .csv, .tsv, .jsonl, .txt or .fasta (or one of these with "
            f"{endings}) or .parquet, got {path.name!r}"
        )
    return kind


def _table_rows(path: Path, choice: ColumnChoice) -> Iterator[Row]:
    """Rows of a csv or tsv file."""
    records = _cells(path, choice)
    start, header, was_doubtful = next(records, (1, [], False))
    if not header:
        raise row_error(path, 1, "a header", "an empty file")
    columns = choice.of_names(header, f"{path}:{start}")
    check = columns.checker(path)
    sequence, *labels, id, vectors = (
        None if name is None else header.index(name)
        for name in (columns.sequence, *columns.label_names, columns.id, columns.vectors)
    )
    votes = [None if name is None else header.index(name) for name in columns.votes]
    assert sequence is not None
    for number, cells, is_doubtful in records:
        if len(cells) != len(header):
            raise row_error(path, number, f"{len(header)} cells", str(len(cells)))
        value: Any = cells[sequence]
        if columns.is_tokens:
            tokens = _list_in(value, "tokens with spaces between", path, number)
            value = value.split() if tokens is None else tokens
        values: list[Any] = [None if label is None else cells[label] for label in labels]
        for column, name in enumerate(values):
            if not name:
                continue
            names = _list_in(name, "a label", path, number)
            if names is None and not columns.labels:
                names = _list_in(name, "a soft label", path, number, "{}")
            values[column] = name if names is None else names
        known = values if columns.labels else values[0]
        vector: Any = None if vectors is None else cells[vectors]
        if vector:
            vector = _list_in(vector, "a vector", path, number) or vector
        said = [None if place is None else cells[place] for place in votes] if votes else None
        row = check(number, value, known, None if id is None else cells[id], vector, said)
        if is_doubtful or was_doubtful:
            row, was_doubtful = dataclasses.replace(row, is_doubtful=True), False
        yield row


def _cells(path: Path, choice: ColumnChoice) -> Iterator[tuple[int, list[str], bool]]:
    """Rows of a csv or tsv file that are not empty, each with the line on which it begins.

    A cell that holds a line break and a delimiter may hold other rows, from an unbalanced quote to
    the next: an error in a tsv file, in others said with the row, unless `choice.quotes` says
    otherwise.
    """
    csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE_BYTES))
    delimiter, is_checked = DELIMITERS[_kind(path)], choice.quotes == "auto"
    quoting: Any = csv.QUOTE_NONE if choice.quotes == "never" else csv.QUOTE_MINIMAL
    reader = csv.reader(
        read_lines(path, choice.encoding), delimiter=delimiter, strict=True, quoting=quoting
    )
    while True:
        start = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            wanted = "cells that are quoted as a whole, with quotes inside doubled, or not at all"
            got = f"one that is not: {error}; --data.quotes never reads quotes as characters"
            raise row_error(path, start, wanted, got) from error
        is_doubtful = (
            is_checked
            and reader.line_num > start
            and any("\n" in cell and delimiter in cell for cell in cells)
        )
        if is_doubtful and delimiter == "\t":
            wanted = "cells with no tab beside a line break (or --data.quotes always or never)"
            got = f"one over the lines {start} to {reader.line_num}: is a quote unbalanced?"
            raise row_error(path, start, wanted, got)
        if cells:
            yield start, cells, is_doubtful


def _list_in(cell: str, wanted: str, path: Path, number: int, brackets: str = "[]") -> Any:
    """The list of a csv cell that is a JSON list, as `["a", "b"]`; None for any other cell.

    A bracket with a space after it is a token. With other brackets, the object of a JSON object.
    """
    if cell[:1] + cell[-1:] != brackets or (brackets == "[]" and cell[1:2].isspace()):
        return None
    try:
        return json.loads(cell)
    except (ValueError, RecursionError):  # a text that looks like JSON
        if cell[1:2] == "'" and (brackets == "{}" or cell[-2:-1] == "'"):
            kind = "list" if brackets == "[]" else "object"
            got = f"a{'n' * (kind == 'object')} {kind} as Python prints it"
            raise row_error(path, number, f"{wanted} or a JSON {kind}", got) from None
        return None


def _jsonl_rows(path: Path, choice: ColumnChoice) -> Iterator[Row]:
    """Rows of a file with a JSON object a line, of which unlabelled ones may have no label key."""
    records = _objects(path, choice)
    first = next(records, None)
    if first is None:
        raise row_error(path, 1, "a row", "an empty file")
    start, keys = first[0], list(first[1])
    given = split_names(choice.label) if choice.read_labels and choice.label is not None else ()
    # a later row may have them
    more = [] if choice.vectors is None else [choice.vectors]
    known = [*keys, *given, *more, *choice.voters]
    columns = choice.of_names(list(dict.fromkeys(known)), f"{path}:{start}")
    check = columns.checker(path)
    label: str | None = None  # the key that has labels
    chosen: dict[tuple[str, ...], tuple[list[str | None], str | None]] = {}  # by a row's keys
    unseen = set() if choice.votes_may_miss else set(choice.voters)
    for number, record in itertools.chain([first], records):
        names = tuple(record)
        if columns.sequence not in record:
            raise row_error(path, number, f"a column {columns.sequence!r}", list_names(names))
        if names not in chosen:
            where = f"{path}:{number}"
            several = choice.labels_of(names, where).values()
            found = [*several] or [choice.label_of(names, columns.sequence, where)]
            chosen[names] = found, id_of(names, (columns.sequence, *found, *given), where)
        found, id = chosen[names]
        key = next(filter(None, found), None)
        if key is not None and label not in (None, key) and len(found) == 1:
            wanted = f"labels in one column, {label!r} as above, or a named one"
            raise row_error(path, number, wanted, f"a column {key!r}")
        label = key or label
        unseen.difference_update(names)
        values = [None if one is None else record[one] for one in found]
        yield check(
            number,
            record[columns.sequence],
            values if columns.labels else values[0],
            None if id is None else record.get(id),
            None if columns.vectors is None else record.get(columns.vectors),
            [record.get(one or "") for one in columns.votes] if columns.votes else None,
        )
    if given and label is None and not choice.labels_may_miss:
        raise row_error(path, start, f"a column {given[0]!r} in some row", list_names(keys))
    if unseen:
        got = f"{list_names(keys)}; {VOTES_FLAG} names other ones"
        raise row_error(path, start, f"a column {min(unseen)!r} in some row", got)


def _objects(path: Path, choice: ColumnChoice) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line numbers and objects."""
    decoder = json.JSONDecoder(object_pairs_hook=_object)  # `loads` would make one for each line
    for number, line in enumerate(read_lines(path, choice.encoding), 1):
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
    """A JSON object without duplicate keys, of which `json` would keep the last silently."""
    record = dict(pairs)
    if len(record) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r:.80} twice")
    return record


def _parquet_rows(path: Path, choice: ColumnChoice) -> Iterator[Row]:
    import pyarrow
    from pyarrow import parquet

    with readable(path):
        try:
            with path.open("rb") as stream:  # Python's errors are shorter than Arrow's
                if not stream.read(1):
                    raise row_error(path, 1, "a row", "an empty file")
            file = parquet.ParquetFile(path)
        except pyarrow.ArrowException as error:
            got = f"another or a damaged one: {line_of(error)}"
            raise row_error(path, 1, "a parquet file", got) from error
    columns = choice.of_names(file.schema_arrow.names, f"{path}:1")
    number, megabytes = 0, path.stat().st_size / 2**20
    try:
        batches = file.iter_batches(batch_size=BATCH_ROWS, columns=columns.used)
        with progress.task(READ, megabytes) as task:
            for row in arrow_rows(batches, columns, path):
                number = row.number
                yield row
                task.advance(megabytes / file.metadata.num_rows)
    except (pyarrow.ArrowException, OSError) as error:
        got = f"a damaged one: {line_of(error)}"
        raise row_error(path, number + 1, "a whole parquet file", got) from error


def _values(column: Any, source: object, number: int) -> list[Any]:
    """Python values of an Arrow column whose first row comes after row `number`."""
    try:
        values: list[Any] = column.to_pylist()
        return values
    except UnicodeDecodeError:
        for row, scalar in enumerate(column, number + 1):
            try:
                scalar.as_py()
            except UnicodeDecodeError as error:
                got = f"the byte 0x{error.object[error.start]:02x}"
                raise row_error(source, row, "UTF-8", got) from error
        raise


def _name_label(label: Any, names: Sequence[str], source: object, number: int) -> Any:
    """The name, or the list of names, of integer labels."""
    if isinstance(label, list):
        return [_name_label(one, names, source, number) for one in label]
    if not isinstance(label, int) or label == -1:
        return None if label == -1 else label
    if not 0 <= label < len(names):
        wanted = f"a label from 0 to {len(names) - 1}, or -1"
        raise row_error(source, number, wanted, str(label))
    return names[label]


READERS: dict[str, Callable[[Path, ColumnChoice], Iterator[Row]]] = {
    "csv": _table_rows,
    "tsv": _table_rows,
    "jsonl": _jsonl_rows,
    "txt": txt_rows,
    "fasta": fasta_rows,
    "parquet": _parquet_rows,
}
