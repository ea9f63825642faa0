"""Rows as Arrow tables, in memory or mapped from a file of the cache."""

import functools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from seqssvae.data.labels import Classes, Labels
from seqssvae.data.rows import Row, list_names
from seqssvae.errors import InputError
from seqssvae.storage.cache import cached_file

if TYPE_CHECKING:
    import datasets
    import pyarrow

HUB_PREFIX = "hub:"
NO_VOTE = ("-1",)  # as libraries of labelling functions have it, if it is no label
TINY = 1e-30  # of a soft label's probabilities
BLOCK_ROWS, BLOCK_SYMBOLS = 10_000, 4_000_000  # of a record batch


def table_of(
    rows: Iterable[Row],
    *,
    is_tokens: bool,
    more: Collection[str] = (),
    block_rows: int = BLOCK_ROWS,
    block_symbols: int = BLOCK_SYMBOLS,
) -> "pyarrow.Table":
    """Rows as a table in memory; see `cached_table`."""
    import pyarrow

    schema = _schema(is_tokens, more)
    blocks = list(_blocks(rows, schema, block_rows, block_symbols))
    return pyarrow.Table.from_batches(blocks, schema=schema)


def cached_table(
    key: str,
    rows: Iterable[Row],
    *,
    is_tokens: bool,
    more: Collection[str] = (),
    block_rows: int = BLOCK_ROWS,
    block_symbols: int = BLOCK_SYMBOLS,
) -> "pyarrow.Table":
    """Rows as a table that is mapped from a file of the cache, written if it is missing.

    Args:
        key: Fingerprint of all that the rows depend on.
        rows: Read one by one, and only if the file is missing.
        is_tokens: Whether sequences are lists of tokens, not texts.
        more: Which of the columns `vector` and `votes` there are.
        block_rows: Rows of a record batch, at most.
        block_symbols: Symbols at which a record batch ends.

    Returns:
        The columns `number`, `sequence`, `label` (a list of names), `id`, `repeats_id`, `file`,
        `is_doubtful`, `shares` and those of `more`; see `Row`.

    Raises:
        InputError: as `cached_file`.
    """
    import pyarrow

    schema = _schema(is_tokens, more)

    def write(path: Path) -> None:
        with (
            pyarrow.OSFile(str(path), "wb") as sink,
            pyarrow.ipc.new_file(sink, schema) as writer,
        ):
            for block in _blocks(rows, schema, block_rows, block_symbols):
                writer.write_batch(block)

    return _mapped(cached_file(f"{key}.arrow", write, is_whole=_is_whole))


def iterate_column(
    column: "pyarrow.ChunkedArray", mask: NDArray[np.bool_] | None = None
) -> Iterator[Any]:
    """The Python values of a column.

    Args:
        column: Values of n rows.
        mask: Which rows, `[n]`; None for all of them.
    """
    import pyarrow

    start = 0
    for chunk in column.chunks:
        stop = start + len(chunk)
        if mask is not None:
            chunk = chunk.filter(pyarrow.array(mask[start:stop]))
        yield from chunk.to_pylist()
        start = stop


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


def _schema(is_tokens: bool, more: Collection[str]) -> "pyarrow.Schema":
    import pyarrow

    text = pyarrow.large_string()  # many long rows may hold more than 2 GiB
    columns = {
        "number": pyarrow.int64(),
        "sequence": pyarrow.large_list(text) if is_tokens else text,
        "label": pyarrow.list_(pyarrow.string()),
        "id": pyarrow.string(),
        "repeats_id": pyarrow.bool_(),
        "file": pyarrow.int32(),
        "is_doubtful": pyarrow.bool_(),
        "shares": pyarrow.list_(pyarrow.float64()),
    }
    optional = {
        "vector": pyarrow.list_(pyarrow.float32()),
        "votes": pyarrow.list_(pyarrow.string()),
    }
    return pyarrow.schema(columns | {name: optional[name] for name in more})


def _blocks(
    rows: Iterable[Row], schema: "pyarrow.Schema", block_rows: int, block_symbols: int
) -> Iterator["pyarrow.RecordBatch"]:
    """Rows as record batches, of fewer rows where these are long."""
    import pyarrow

    block, num_symbols = list[dict[str, Any]](), 0
    for row in rows:
        values = {name: getattr(row, name) for name in schema.names}
        block.append(values | {"label": _names(row.label)})
        num_symbols += len(row.sequence)
        if len(block) == block_rows or num_symbols > block_symbols:
            yield pyarrow.RecordBatch.from_pylist(block, schema=schema)
            block, num_symbols = [], 0
    if block:
        yield pyarrow.RecordBatch.from_pylist(block, schema=schema)


def _names(label: str | tuple[str, ...] | None) -> list[str]:
    if label is None:
        return []
    return [label] if isinstance(label, str) else list(label)


def is_table(value: object) -> bool:
    """Whether a value is a table of pandas, polars, pyarrow or the like, none of them imported."""
    return hasattr(value, "columns") and hasattr(value, "__arrow_c_stream__")


def column_of(values: Any) -> Any:
    """A column of pyarrow or polars, an array `[n, 1]` or a generator as a list; others as is."""
    if is_table(values):
        return values
    if hasattr(values, "to_pylist"):
        return values.to_pylist()
    if hasattr(values, "__arrow_c_stream__") and not hasattr(values, "iloc"):  # pandas has that
        import pyarrow

        return pyarrow.chunked_array(values).to_pylist()
    if isinstance(values, np.ndarray) and values.ndim == 2 and values.dtype.kind in "UOT":
        return values[:, 0].tolist() if values.shape[1] == 1 else values
    return list(values) if isinstance(values, Iterator) else values


def plain_classes_of(
    chunks: Iterable[Any], labels: Labels, unlabelled: Sequence[str], where: Callable[[int], str]
) -> tuple[Classes, dict[int, tuple[int, ...]]]:
    """The class of each row with one column of labels; see `Corpus.classes`.

    Args:
        chunks: Arrow arrays of lists of labels, one or several, or none.
        labels: All classes.
        unlabelled: Values that mean that a row is unlabelled.
        where: `FILE:NUMBER` of a row.
    """
    import pyarrow
    from pyarrow import compute

    # the first of equal values is found, so that a class is one whatever its name
    names = pyarrow.array([*labels.names, *unlabelled], pyarrow.string())
    parts, candidates, start = [np.zeros(0, np.int32)], dict[int, tuple[int, ...]](), 0
    for chunk in chunks:
        codes = compute.index_in(chunk.flatten(), value_set=names)
        sizes = chunk.value_lengths().to_numpy()
        ends = np.cumsum(sizes)
        if codes.null_count:
            first = compute.index(compute.is_null(codes), True).as_py()
            row = int(np.searchsorted(ends, first, side="right"))
            for name in chunk[row].as_py():
                labels.index(name, where(start + row))
        known = codes.to_numpy()
        known = np.where(known < len(labels.names), known, -1)
        y = np.full(len(chunk), -1, np.int32)
        y[sizes == 1] = known[ends[sizes == 1] - 1]
        for row in np.flatnonzero(sizes > 1).tolist():
            possible = known[ends[row] - sizes[row] : ends[row]].tolist()
            if -1 in possible:
                listed = list_names(chunk[row].as_py())
                raise InputError(
                    f"{where(start + row)}: wanted a list of classes, got {listed}, of which one "
                    "means unlabelled (data.unlabelled_values)"
                )
            candidates[start + row] = tuple(sorted(possible))
        parts.append(y)
        start += len(chunk)
    return np.concatenate(parts), candidates


def relabelled(
    table: "pyarrow.Table", labels: Mapping[str, tuple[list[str], list[float] | None]]
) -> "pyarrow.Table":
    """A table of rows with other columns `label` and `shares`, by id; none for another id."""
    import pyarrow

    ids = table.column("id").chunks
    for place, name in enumerate(("label", "shares")):
        kind, index = table.schema.field(name).type, table.schema.get_field_index(name)
        chunks = [
            pyarrow.array([labels.get(id, ([], None))[place] for id in chunk.to_pylist()], kind)
            for chunk in ids
        ]
        table = table.set_column(index, name, pyarrow.chunked_array(chunks, kind))
    return table


def soft_of(table: "pyarrow.Table", labels: Labels) -> NDArray[np.float32] | None:
    """e(y) of the soft labels of n rows, over the greatest of a row; None without soft labels.

    Args:
        table: With the columns `label` and `shares`.
        labels: All classes, the rows' among them.

    Returns:
        `[n, K]`; 1 for a row without a soft label.
    """
    shares = table.column("shares")
    if shares.null_count == len(shares):
        return None
    evidence = np.ones((len(shares), len(labels.names)), np.float32)
    place = {name: y for y, name in enumerate(labels.names)}
    names = iterate_column(table.column("label"))
    for row, (of_row, listed) in enumerate(zip(iterate_column(shares), names, strict=True)):
        if of_row is not None:
            shown = np.maximum(np.array(of_row) / max(of_row), TINY)
            evidence[row] = 0
            evidence[row, [place[name] for name in listed]] = shown
    return evidence


def votes_of(
    column: "pyarrow.ChunkedArray",
    voters: Sequence[str],
    labels: Labels,
    unlabelled: Sequence[str],
    where: Callable[[int], str],
) -> NDArray[np.int16]:
    """The votes of S voters on n rows, -1 for a missing one, `[n, S]`.

    Args:
        column: Lists of S labels, or null for a row that nobody votes on, `[n]`.
        voters: Names of the voters.
        labels: All classes.
        unlabelled: Values that mean that a vote is missing.
        where: `FILE:NUMBER` of a row.

    Raises:
        InputError: a vote for what is no label.
    """
    place: dict[str | None, int] = dict.fromkeys((None, *unlabelled, *NO_VOTE), -1)
    place |= {name: y for y, name in enumerate(labels.names)}
    rows = []
    for row, votes in enumerate(iterate_column(column)):
        named = dict(zip(voters, votes or [None] * len(voters), strict=True))
        for voter, vote in named.items():
            if vote not in place:
                labels.index(vote, f"{where(row)}: column {voter!r}")
        rows.append([place[vote] for vote in named.values()])
    return np.array(rows, np.int16)


def classes_of(
    chunks: Iterable[Any],
    labels: Labels,
    columns: Sequence[str],
    unlabelled: Sequence[str],
    where: Callable[[int], str],
) -> tuple[Classes, dict[int, tuple[int, ...]]]:
    """The class of each row with several columns of labels, of which it may have some alone.

    Args:
        chunks: Arrow arrays of lists of `COLUMN=LABEL`, one or several of a column, or none.
        labels: All classes.
        columns: The columns of the rows.
        unlabelled: `COLUMN=VALUE` that mean that a column is unlabelled.
        where: `FILE:NUMBER` of a row.

    Returns:
        As of `Corpus.classes`.

    Raises:
        InputError: other columns than those of `labels`, a label that is not in it, or one that
            means unlabelled in a list.
    """
    import pyarrow
    from pyarrow import compute

    if not columns or not set(columns) <= set(labels.columns):
        wanted, got = (list_names(list(one)) if one else "one" for one in (labels.columns, columns))
        raise InputError(f"{where(0)}: wanted label columns as in training, {wanted}, got {got}")
    names = [f"{name}={label}" for name, of in labels.columns.items() for label in of]
    values = pyarrow.array([*names, *unlabelled], pyarrow.string())
    column_of = np.array([name.partition("=")[0] for name in values.to_pylist()])
    sizes, parts, start = tuple(labels.sizes.values()), [np.zeros(0, np.int32)], 0
    candidates: dict[int, tuple[int, ...]] = {}
    for chunk in chunks:
        codes = compute.index_in(chunk.flatten(), value_set=values)
        row = np.repeat(np.arange(len(chunk)), chunk.value_lengths().to_numpy())
        if codes.null_count:
            place = compute.index(compute.is_null(codes), True).as_py()
            name, _, label = chunk.flatten()[place].as_py().partition("=")
            row_of = where(start + int(row[place]))
            Labels(labels.columns[name]).index(label, f"{row_of}: column {name!r}")
        given = np.zeros((len(chunk), len(values)), np.bool_)
        given[row, codes.to_numpy()] = True
        blank, given = given[:, len(names) :], given[:, : len(names)]
        y = np.zeros(len(chunk), np.int32)
        for name, size in labels.sizes.items():
            of_column = given[:, column_of[: len(names)] == name]
            is_blank = blank[:, column_of[len(names) :] == name].any(1)
            for odd in np.flatnonzero(is_blank & of_column.any(1)).tolist():
                wanted = f"{where(start + odd)}: wanted a list of classes in column {name!r}"
                got = f"{list_names(chunk[odd].as_py())}, of which one means unlabelled"
                raise InputError(f"{wanted}, got {got} (data.unlabelled_values)")
            is_known = (of_column.sum(1) == 1) & (y >= 0)
            y = np.where(is_known, y * size + of_column.argmax(1), -1).astype(np.int32)
        for odd in np.flatnonzero((y < 0) & given.any(1)).tolist():
            candidates[start + odd] = _possible(sizes, given[odd].tobytes())
        parts.append(y)
        start += len(chunk)
    return np.concatenate(parts), candidates


@functools.lru_cache(4096)  # many rows have the same
def _possible(sizes: tuple[int, ...], given: bytes) -> tuple[int, ...]:
    """The combinations that fit: of each column a label that is given, or any if none is."""
    columns = np.split(np.frombuffer(given, np.bool_), np.cumsum(sizes)[:-1])
    masks = [column if column.any() else ~column for column in columns]
    return tuple(np.flatnonzero(functools.reduce(np.logical_and.outer, masks)).tolist())


def load_hub(source: str) -> "datasets.Dataset":
    """The data set that `hub:NAME:SPLIT` names; raises InputError if it cannot be loaded."""
    import datasets

    name, _, split = source.removeprefix(HUB_PREFIX).partition(":")
    had_bars = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        dataset: datasets.Dataset = datasets.load_dataset(name, split=split or "train")
        return dataset
    except Exception as error:  # a hub, a cache or a builder may raise anything
        got = " ".join(f"{type(error).__name__}: {error}".split())
        raise InputError(f"{source}: wanted a data set that can be loaded, got {got}") from error
    finally:
        if had_bars:
            datasets.enable_progress_bars()
