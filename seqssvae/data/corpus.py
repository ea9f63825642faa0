"""Corpora: rows of a file, a data set or a program, kept as Arrow."""

import contextlib
import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, Union, final

import numpy as np

from seqssvae.data.arrow_rows import batch_rows
from seqssvae.data.dataset_columns import class_names, dataset_columns
from seqssvae.data.encoded import EncodedRows
from seqssvae.data.places import Places
from seqssvae.data.readers import is_readable, iterate_rows
from seqssvae.data.rows import RawRow, Row, checked_rows, join_rows
from seqssvae.data.splits import Classes, Labels, choose_labels, split_dev
from seqssvae.data.tables import ArrowIds, cached_table, pick_ascending, table_of
from seqssvae.errors import InputError
from seqssvae.storage.cache import fingerprint
from seqssvae.storage.files import readable

if TYPE_CHECKING:
    import datasets
    import pyarrow

__all__ = [
    "Corpus",
    "EncodedRows",
    "Labels",
    "Row",
    "Source",
    "choose_labels",
    "find_files",
    "gather_corpus",
    "iterate_rows",
    "join_corpora",
    "read_corpus",
    "split_dev",
]

Source: TypeAlias = Union[str, Path, "Corpus", "datasets.Dataset"]
HUB_PREFIX = "hub:"
CHUNK_ROWS = 1000  # that become Python objects at once
READER_VERSION = 3  # raised when the same file gives other rows, so that no old cache is used


@final
class Corpus:
    """Rows with text or tokens, mapped into memory by `read_corpus`, kept there by `gather_corpus`.

    Attributes:
        source: The file, files or data set, as named.
        is_tokens: Whether sequences are lists of tokens, not texts.
        key: A fingerprint of the rows, by which what is made of them is cached; None for rows of a
            program.
        ids: Ids of the rows, n of them, read when they are asked for.
    """

    def __init__(
        self,
        table: "pyarrow.Table",
        source: str,
        *,
        is_tokens: bool,
        key: str | None = None,
        files: Sequence[Path] = (),
    ) -> None:
        self.source, self.is_tokens, self.key = source, is_tokens, key
        self._files = tuple(files)
        self._table = table
        self._sequences, self._labels = table.column("sequence"), table.column("label")
        self._numbers, self._repeats = table.column("number"), table.column("repeats_id")
        self.ids = ArrowIds(table.column("id"))

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __iter__(self) -> Iterator[Row]:
        for batch in self._table.to_batches():
            names = ("number", "sequence", "label", "id", "repeats_id", "file")
            columns = [batch.column(name).to_pylist() for name in names]
            for number, sequence, label, *rest in zip(*columns, strict=True):
                yield Row(number, sequence, _label_of(label), *rest)

    @property
    def num_repeated_ids(self) -> int:
        """Rows whose `id` column holds what an earlier row's does."""
        from pyarrow import compute

        return int(compute.sum(self._repeats, min_count=0).as_py())

    def sequence(self, index: int) -> str | list[str]:
        """The text or tokens of a row, from 0.

        Raises:
            IndexError: no such row.
        """
        value: str | list[str] = self._sequences[index].as_py()
        return value

    def sequences(self, rows: Places | None = None) -> Iterator[str | list[str]]:
        """The text or tokens of rows in turn.

        Args:
            rows: Which ones, ascending; all when None.
        """
        chunks: Iterable[Any] = self._sequences.chunks
        if rows is not None:
            chunks = pick_ascending(self._sequences, rows)
        for chunk in chunks:
            for start in range(0, len(chunk), CHUNK_ROWS):
                yield from chunk.slice(start, CHUNK_ROWS).to_pylist()

    def label(self, index: int) -> str | tuple[str, ...] | None:
        """A class, several for 'one of these', or None for an unlabelled row.

        Raises:
            IndexError: no such row.
        """
        return _label_of(self._labels[index].as_py())

    def labels(self) -> Iterator[str | tuple[str, ...] | None]:
        """The label of every row in turn."""
        for chunk in self._labels.chunks:
            yield from map(_label_of, chunk.to_pylist())

    def classes(self, labels: Labels) -> tuple[Classes, dict[int, tuple[int, ...]]]:
        """What is known of the class of each row.

        Args:
            labels: The classes that y counts.

        Returns:
            y, -1 where there is none or more than one, the smallest integers that hold it, `[n]`;
            and the possible classes, sorted, of the rows that have more than one.

        Raises:
            InputError: a label that is not in `labels`, with the row and the nearest known label.
        """
        import pyarrow
        from pyarrow import compute

        y = np.full(len(self), -1, dtype=np.min_scalar_type(-max(len(labels.names), 1)))
        candidates: dict[int, tuple[int, ...]] = {}
        names, start = pyarrow.array(labels.names, pyarrow.string()), 0
        for chunk in self._labels.chunks:
            codes = compute.index_in(compute.list_flatten(chunk), value_set=names)
            sizes = compute.list_value_length(chunk).to_numpy(zero_copy_only=False)
            ends = np.cumsum(sizes)
            if codes.null_count:
                first = compute.index(compute.is_null(codes), True).as_py()
                row = start + int(np.searchsorted(ends, first, side="right"))
                for name in self._labels[row].as_py():
                    labels.index(name, self.where(row))
            found = codes.to_numpy(zero_copy_only=False)
            single = np.flatnonzero(sizes == 1)
            y[start + single] = found[ends[single] - 1]
            for row in np.flatnonzero(sizes > 1).tolist():
                candidates[start + row] = tuple(
                    sorted(found[ends[row] - sizes[row] : ends[row]].tolist())
                )
            start += len(chunk)
        return y, candidates

    def id(self, index: int) -> str:
        """The id of a row; see `Row`.

        Raises:
            IndexError: no such row.
        """
        return self.ids[index]

    def number(self, index: int) -> int:
        """Where a row stands in the source, from 1; see `Row`.

        Raises:
            IndexError: no such row.
        """
        return int(self._numbers[index].as_py())

    def where(self, index: int) -> str:
        """`FILE:NUMBER` of a row.

        Raises:
            IndexError: no such row.
        """
        file = self._table.column("file")[index].as_py()
        return f"{self._files[file] if self._files else self.source}:{self.number(index)}"


def join_corpora(first: Corpus, second: Corpus) -> Corpus:
    """The rows of both, those of the first one first; nothing is copied, equal ids stay equal."""
    import pyarrow

    key = None
    if first.key is not None and second.key is not None:
        key = fingerprint(first.key, second.key)
    table = pyarrow.concat_tables([first._table, second._table])
    return Corpus(table, first.source, is_tokens=first.is_tokens, key=key, files=first._files)


def read_corpus(
    source: Source,
    *,
    text_column: str | None = None,
    tokens_column: str | None = None,
    label_column: str | None = None,
    read_labels: bool = True,
) -> Corpus:
    """Read all rows of a file or of a data set, and check them.

    The rows are cached beside those of `datasets` (`HF_HOME`), by the file's path, size and time of
    change, and are mapped into memory: only what is used is loaded.

    Args:
        source: A file, see `iterate_rows`; several, see `find_files`; or `hub:NAME` or
            `hub:NAME:SPLIT`, where NAME is what `datasets.load_dataset` takes, a folder too, and
            SPLIT is "train" unless given; or a `datasets.Dataset`. A corpus is given back as it is.
        text_column: See `iterate_rows`, and for data sets `dataset_columns`.
        tokens_column: See `iterate_rows`.
        label_column: See `iterate_rows`. Integers of a `ClassLabel` become its names, -1 becomes
            unlabelled.
        read_labels: See `iterate_rows`.

    Raises:
        InputError: bad input, or a data set that cannot be loaded.
    """
    wanted = _Wanted(text_column, tokens_column, label_column, read_labels)
    if isinstance(source, Corpus):
        return source
    if not isinstance(source, str | Path):
        return _read_dataset(source, "dataset", wanted)
    if str(source).startswith(HUB_PREFIX):
        return _read_hub(str(source), wanted)
    files = find_files(source)
    # Errors up to here are told without the import of `datasets`, which takes seconds.
    is_tokens = [isinstance(next(_rows_of(file, wanted)).sequence, list) for file in files]
    if len(set(is_tokens)) > 1:
        odd = files[is_tokens.index(not is_tokens[0])]
        kind, other = ("tokens", "text") if is_tokens[0] else ("text", "tokens")
        raise InputError(f"{odd}: wanted {kind} as in {files[0]}, got {other}")
    rows = _rows_of(files[0], wanted)
    if len(files) > 1:
        rows = join_rows(_rows_of(file, wanted) for file in files)
    key = fingerprint(READER_VERSION, tuple(wanted), tuple(map(_fingerprint_of, files)))
    table = cached_table(key, rows, is_tokens=is_tokens[0])
    return Corpus(table, str(source), is_tokens=is_tokens[0], key=key, files=files)


def find_files(source: str | Path) -> list[Path]:
    """The files that a name means: itself, those of a folder, or those that a pattern finds.

    Args:
        source: A file; a folder, of which files with a known ending are taken; or, where no such
            file is there, a pattern as of `glob`: `part-*.jsonl`.

    Raises:
        InputError: a folder or a pattern without files.
    """
    path = Path(source)
    with readable(path):
        if str(source) and path.is_dir():  # an empty name is no folder
            found = sorted(one for one in path.iterdir() if is_readable(one) and one.is_file())
        elif glob.has_magic(str(source)) and not path.exists():
            found = sorted(map(Path, glob.glob(str(source), recursive=True)))
        else:
            return [path]
    if not found:
        raise InputError(f"{source}: wanted files of rows, got none")
    return found


def _rows_of(file: Path, wanted: "_Wanted") -> Iterator[Row]:
    return iterate_rows(file, **wanted._asdict())


def _fingerprint_of(file: Path) -> tuple[object, ...]:
    status = os.stat(file)
    return str(file.resolve()), status.st_size, status.st_mtime_ns, status.st_ino


def gather_corpus(
    sequences: Iterable[str | list[str]], labels: Iterable[Any] | None = None, *, source: str
) -> Corpus:
    """Rows that come from no file, checked like those of one and kept in memory.

    Args:
        sequences: Texts, or lists of tokens.
        labels: Of each row, as in a jsonl file; None leaves all rows unlabelled.
        source: Stands before an error.

    Raises:
        InputError: no rows, or a bad one; the message has its number, from 1.
    """
    kept = list(sequences)
    if not kept:
        raise InputError(f"{source}:1: wanted a row, got none")
    known: Iterable[Any] = [None] * len(kept) if labels is None else labels
    is_tokens = not isinstance(kept[0], str)
    raw = (
        RawRow(number, sequence, label, None)
        for number, (sequence, label) in enumerate(zip(kept, known, strict=True), 1)
    )
    rows = checked_rows(raw, source, is_tokens=is_tokens)
    return Corpus(table_of(rows, is_tokens=is_tokens), source, is_tokens=is_tokens)


class _Wanted(NamedTuple):
    """The columns that were asked for."""

    text_column: str | None
    tokens_column: str | None
    label_column: str | None
    read_labels: bool


def _label_of(names: list[str]) -> str | tuple[str, ...] | None:
    """A label as it is kept: no name, one, or several."""
    if len(names) > 1:
        return tuple(names)
    return names[0] if names else None


@contextlib.contextmanager
def _no_bars() -> Iterator[None]:
    """Keep `datasets` from drawing progress bars on stderr."""
    import datasets

    had_bars = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if had_bars:
            datasets.enable_progress_bars()


def _read_hub(source: str, wanted: _Wanted) -> Corpus:
    import datasets

    name, _, split = source.removeprefix(HUB_PREFIX).partition(":")
    try:
        with _no_bars():
            dataset = datasets.load_dataset(name, split=split or "train")
    except Exception as error:  # whatever a hub, a cache or a builder may raise
        got = " ".join(f"{type(error).__name__}: {error}".split())
        raise InputError(f"{source}: wanted a data set that can be loaded, got {got}") from error
    return _read_dataset(dataset, source, wanted)


def _read_dataset(dataset: Any, source: str, wanted: _Wanted) -> Corpus:
    import datasets

    if not isinstance(dataset, datasets.Dataset):
        got = type(dataset).__name__
        raise InputError(f"{source}: wanted a file, hub:NAME or a datasets.Dataset, got {got}")
    columns = dataset_columns(dataset, source, **wanted._asdict())
    used = [name for name in (columns.sequence, columns.label, columns.id) if name is not None]
    if len(dataset) == 0:
        raise InputError(f"{source}:1: wanted a row, got an empty data set")
    names = class_names(dataset.features, columns.label)
    key = fingerprint(READER_VERSION, dataset._fingerprint, columns, names)
    batches = dataset.select_columns(used).with_format("arrow").iter(1000)
    raw_rows = batch_rows(batches, columns, source, label_names=names)
    rows = checked_rows(raw_rows, source, is_tokens=columns.is_tokens)
    table = cached_table(key, rows, is_tokens=columns.is_tokens)
    return Corpus(table, source, is_tokens=columns.is_tokens, key=key)
