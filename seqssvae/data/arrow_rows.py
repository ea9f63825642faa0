"""Rows of Arrow tables: parquet files and hub data sets."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from seqssvae.data.rows import ChooseColumns, Columns, RawRow, row_error, unreadable

__all__ = ["batch_rows", "parquet_rows"]

BATCH_ROWS = 1000  # of a parquet file at a time


def parquet_rows(path: Path, choose: ChooseColumns) -> tuple[bool, Iterator[RawRow]]:
    """Whether rows are tokens, and the rows of a parquet file."""
    import pyarrow
    from pyarrow import parquet

    try:
        with path.open("rb") as stream:  # Python says what is wrong in fewer words than Arrow
            if not stream.read(1):
                raise row_error(path, 1, "a row", "an empty file")
        file = parquet.ParquetFile(path)
    except pyarrow.ArrowException as error:
        got = f"another or a damaged one: {_one_line(error)}"
        raise row_error(path, 1, "a parquet file", got) from error
    except OSError as error:
        raise unreadable(path, error) from error
    columns = choose(file.schema_arrow.names, f"{path}:1")
    wanted = [name for name in (columns.sequence, columns.label, columns.id) if name is not None]

    def rows() -> Iterator[RawRow]:
        number = 0
        try:
            batches = file.iter_batches(batch_size=BATCH_ROWS, columns=wanted)
            for raw in batch_rows(batches, columns, str(path)):
                number = raw.number
                yield raw
        except (pyarrow.ArrowException, OSError) as error:
            got = f"a damaged one: {_one_line(error)}"
            raise row_error(path, number + 1, "a whole parquet file", got) from error

    return columns.is_tokens, rows()


def batch_rows(
    batches: Iterable[Any],
    columns: Columns,
    source: str,
    *,
    label_names: Sequence[str] | None = None,
) -> Iterator[RawRow]:
    """Rows of Arrow record batches or tables.

    Args:
        batches: Each with the columns that `columns` names.
        columns: Which to read.
        source: For messages.
        label_names: Names of integer labels; -1 is then unlabelled.

    Raises:
        InputError: bytes that are no UTF-8, or an integer label without a name.
    """
    number = 0
    for batch in batches:
        sequences = _values(batch.column(columns.sequence), source, number)
        none = [None] * len(sequences)
        labels = none
        if columns.label is not None:
            labels = _values(batch.column(columns.label), source, number)
        ids = none if columns.id is None else _values(batch.column(columns.id), source, number)
        for sequence, label, id in zip(sequences, labels, ids, strict=True):
            number += 1
            if label_names is not None:
                label = _name_label(label, label_names, source, number)
            yield RawRow(number, sequence, label, id)


def _values(column: Any, source: str, number: int) -> list[Any]:
    """Python values of an Arrow column whose first row comes after row `number`."""
    try:
        values: list[Any] = column.to_pylist()
        return values
    except UnicodeDecodeError:
        for place, scalar in enumerate(column, number + 1):
            try:
                scalar.as_py()
            except UnicodeDecodeError as error:
                got = f"the byte 0x{error.object[error.start]:02x}"
                raise row_error(source, place, "UTF-8", got) from error
        raise


def _name_label(label: Any, names: Sequence[str], source: str, number: int) -> Any:
    """The name, or the list of names, of integer labels."""
    if isinstance(label, list):
        return [_name_label(one, names, source, number) for one in label]
    if not isinstance(label, int) or label == -1:
        return None if label == -1 else label
    if not 0 <= label < len(names):
        wanted = f"a label from 0 to {len(names) - 1}, or -1"
        raise row_error(source, number, wanted, str(label))
    return names[label]


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
