"""Checked rows as Arrow tables, in memory or mapped from a file of the cache."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, final, overload

from seqssvae.data.places import Places, places_between
from seqssvae.data.rows import Row
from seqssvae.storage.cache import cached_file

if TYPE_CHECKING:
    import pyarrow

__all__ = ["ArrowIds", "cached_table", "pick_ascending", "table_of"]

BLOCK_ROWS, BLOCK_SYMBOLS = 10_000, 4_000_000  # that are converted at once


def table_of(rows: Iterable[Row], *, is_tokens: bool) -> "pyarrow.Table":
    """Rows as a table in memory; see `cached_table`."""
    import pyarrow

    blocks = list(_blocks(rows, is_tokens=is_tokens))
    return pyarrow.Table.from_batches(blocks, schema=_schema(is_tokens=is_tokens))


def cached_table(key: str, rows: Iterable[Row], *, is_tokens: bool) -> "pyarrow.Table":
    """Rows as a table that is mapped from a file, which is written if it is not there.

    Args:
        key: Of all that the rows depend on.
        rows: Read only if they are not kept yet, and never held.
        is_tokens: Whether sequences are lists of tokens, not texts.

    Returns:
        `number`, `sequence`, `label` (a list of names), `id`, `repeats_id` and `file`, as of `Row`.

    Raises:
        InputError: as `cached_file`.
    """
    import pyarrow

    schema = _schema(is_tokens=is_tokens)

    def write(path: Path) -> None:
        with (
            pyarrow.OSFile(str(path), "wb") as sink,
            pyarrow.ipc.new_file(sink, schema) as writer,
        ):
            for block in _blocks(rows, is_tokens=is_tokens):
                writer.write_batch(block)

    path = cached_file(f"{key}.arrow", write, is_whole=_is_whole)
    return _mapped(path)


def _mapped(path: Path) -> "pyarrow.Table":
    import pyarrow

    return pyarrow.ipc.open_file(pyarrow.memory_map(str(path))).read_all()


def _is_whole(path: Path) -> bool:
    import pyarrow

    try:
        _mapped(path)
    except (pyarrow.ArrowException, OSError):
        return False
    return True


def _schema(*, is_tokens: bool) -> "pyarrow.Schema":
    import pyarrow

    text = pyarrow.large_string()  # many long rows may hold more than 2 GiB
    return pyarrow.schema(
        {
            "number": pyarrow.int64(),
            "sequence": pyarrow.large_list(text) if is_tokens else text,
            "label": pyarrow.list_(pyarrow.string()),
            "id": pyarrow.string(),
            "repeats_id": pyarrow.bool_(),
            "file": pyarrow.int32(),
        }
    )


def _blocks(rows: Iterable[Row], *, is_tokens: bool) -> Iterator["pyarrow.RecordBatch"]:
    import pyarrow

    schema, kept, num_symbols = _schema(is_tokens=is_tokens), list[Row](), 0

    def block() -> "pyarrow.RecordBatch":
        columns: dict[str, list[Any]] = {
            "number": [row.number for row in kept],
            "sequence": [row.sequence for row in kept],
            "label": [_names(row.label) for row in kept],
            "id": [row.id for row in kept],
            "repeats_id": [row.repeats_id for row in kept],
            "file": [row.file for row in kept],
        }
        return pyarrow.RecordBatch.from_pydict(columns, schema=schema)

    for row in rows:
        kept.append(row)
        num_symbols += len(row.sequence)
        if len(kept) == BLOCK_ROWS or num_symbols > BLOCK_SYMBOLS:
            yield block()
            kept, num_symbols = [], 0
    if kept:
        yield block()


def _names(label: str | tuple[str, ...] | None) -> list[str]:
    if label is None:
        return []
    return [label] if isinstance(label, str) else list(label)


@final
class ArrowIds(Sequence[str]):
    """Ids that stay where Arrow has them; a text is made when it is asked for.

    Args:
        column: Strings.
    """

    def __init__(self, column: "pyarrow.ChunkedArray") -> None:
        self.column = column

    def __len__(self) -> int:
        return len(self.column)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        if isinstance(index, slice):
            first, after, step = index.indices(len(self))
            if step != 1:
                return [self[i] for i in range(first, after, step)]
            return ArrowIds(self.column.slice(first, max(0, after - first)))
        id: str = self.column[index].as_py()
        return id

    def __iter__(self) -> Iterator[str]:
        for chunk in self.column.chunks:
            yield from chunk.to_pylist()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]  # as a list's


def pick_ascending(column: "pyarrow.ChunkedArray", rows: Places) -> Iterator["pyarrow.Array"]:
    """The values of ascending rows, a chunk of the column at a time."""
    import pyarrow

    start = 0
    for chunk in column.chunks:
        found = places_between(rows, start, start + len(chunk))
        if len(found):
            yield chunk.take(pyarrow.array(found - start))
        start += len(chunk)
