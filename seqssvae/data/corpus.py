"""Corpora: rows of a file, a data set or a program, in an Arrow table."""

import copy
import dataclasses
import glob
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, Union, final

import numpy as np
from numpy.typing import NDArray

from seqssvae import progress
from seqssvae.data.columns import ColumnChoice, class_names, dataset_of
from seqssvae.data.labels import Classes, Labels
from seqssvae.data.readers import arrow_rows, is_readable, iterate_rows
from seqssvae.data.rows import Row, RowChecker, join_rows, normalise
from seqssvae.data.tables import (
    HUB_PREFIX,
    cached_table,
    classes_of,
    iterate_column,
    load_hub,
    plain_classes_of,
    relabelled,
    table_of,
)
from seqssvae.data.texts import READ
from seqssvae.errors import InputError
from seqssvae.storage import vectors as of_rows
from seqssvae.storage.cache import fingerprint
from seqssvae.storage.files import readable
from seqssvae.storage.vectors import Vectors, WithVectors, open_vectors

if TYPE_CHECKING:
    import datasets
    import pyarrow

Files: TypeAlias = str | Path | Sequence[str | Path]
Source: TypeAlias = Union[Files, "Corpus", "datasets.Dataset", WithVectors]

SEPARATOR = ", "  # of several files' names
BATCH_ROWS = 1000  # of a data set
READER_VERSION = 7  # raised when the same file gives other rows, so that no old cache is used


@final
class Corpus:
    """Rows of texts or tokens: mapped from a file by `read_corpus`, in memory by `gather_corpus`.

    Args:
        table: n rows; see `cached_table`.
        source: Name of the file, files or data set.
        is_tokens: Whether sequences are lists of tokens, not texts.
        key: Fingerprint of the rows, a cache key; None for rows of a program.
        files: Files that the `file` column refers to.

    Attributes:
        columns: Several columns of labels, which are `COLUMN=LABEL` then; none where there is one.
        vectors: The vectors of the rows, of a column `vector` of the table or set later, if any.
        voters: Names of voters.
        votes: What they say of each row, an Arrow column of lists, if any.

    Raises:
        InputError: vectors of different sizes.
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
        self.table, self.source, self.is_tokens = table, source, is_tokens
        self.key, self._files = key, tuple(files)
        self.form, self.labels_source = "none", ""
        self.generated = range(0)  # rows of the run that training starts from
        self.columns: tuple[str, ...] = ()
        self.unlabelled_values: tuple[str, ...] = ()
        self.vectors: Vectors | None = None
        self.voters: tuple[str, ...] = ()
        self.votes: pyarrow.ChunkedArray | None = None
        if "vector" in table.column_names:
            self.vectors = of_rows.column_vectors(table.column("vector"), self.where)
            self.table = self.table.drop_columns(["vector"])
        if "votes" in table.column_names:
            self.votes = table.column("votes")
            self.table = self.table.drop_columns(["votes"])

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __iter__(self) -> Iterator[Row]:
        columns = {
            name: iterate_column(self.table.column(name)) for name in self.table.column_names
        }
        columns["label"] = map(_label_of, columns["label"])
        columns["shares"] = (one if one is None else tuple(one) for one in columns["shares"])
        columns["sequence"] = self.sequences()
        for values in zip(*columns.values(), strict=True):
            yield Row(**dict(zip(columns, values, strict=True)))

    @property
    def num_repeated_ids(self) -> int:
        """Number of rows whose `id` column is the same as an earlier row's."""
        from pyarrow import compute

        return int(compute.sum(self.table.column("repeats_id"), min_count=0).as_py())

    def doubtful(self) -> str | None:
        """`FILE:NUMBER` of the first row that may hold other rows; None without one."""
        from pyarrow import compute

        row = compute.index(self.table.column("is_doubtful"), True).as_py()
        return None if row < 0 else self.where(row)

    def ids(self) -> Iterator[str]:
        """Ids of all rows in order."""
        return iterate_column(self.table.column("id"))

    def sequence(self, row: int) -> Any:
        """The text or tokens of a row, from 0.

        Raises:
            IndexError: no such row.
        """
        return normalise(self.table.column("sequence")[row].as_py(), self.form)

    def sequences(self, mask: NDArray[np.bool_] | None = None) -> Iterator[Any]:
        """Texts or lists of tokens.

        Args:
            mask: Which rows, `[n]`; None for all of them.
        """
        for sequence in iterate_column(self.table.column("sequence"), mask):
            yield normalise(sequence, self.form)

    def label_names(self) -> tuple[str, ...]:
        """All labels, sorted; those of partial labels included."""
        return tuple(sorted(self._label_counts().keys() - set(self.unlabelled_names())))

    def labels(self) -> Labels:
        """The classes: all labels, or combinations of those of several columns; see `Labels`."""
        return Labels.of_names(self.label_names(), self.columns, self.source)

    def count_unlabelled_values(self) -> dict[str, int]:
        """Number of rows of each of `unlabelled_values` that is there."""
        counts = self._label_counts()
        return {name: counts[name] for name in self.unlabelled_names() if name in counts}

    def classes(self, labels: Labels) -> tuple[Classes, dict[int, tuple[int, ...]]]:
        """The class of each row.

        Args:
            labels: All classes.

        Returns:
            y, -1 where there is no label or more than one, int32 `[n]`; and the possible classes,
            sorted, of the rows that have more than one.

        Raises:
            InputError: a label that is not in `labels`, with the row and the nearest known label,
                or a soft label with an inner node of their tree.
        """
        chunks, names = self.table.column("label").chunks, self.unlabelled_names()
        if labels.tree is not None:
            chunks = labels.tree.in_leaves(self.table, self.where)
        if self.columns or labels.columns:
            return classes_of(chunks, labels, self.columns, names, self.where)
        return plain_classes_of(chunks, labels, names, self.where)

    def files_without_labels(self) -> list[Path]:
        """Those of several files of which no row has a label."""
        has_labels = np.zeros(max(len(self._files), 1), dtype=np.bool_)
        for file, label in zip(
            *(self.table.column(one).chunks for one in ("file", "label")), strict=True
        ):
            sizes = label.value_lengths().to_numpy()
            has_labels[np.unique(file.to_numpy()[sizes > 0])] = True
        return [file for file, has in zip(self._files, has_labels, strict=False) if not has]

    def where(self, row: int) -> str:
        """`FILE:NUMBER` of a row, from 0.

        Raises:
            IndexError: no such row.
        """
        file, number = (self.table.column(name)[row].as_py() for name in ("file", "number"))
        return f"{self._files[file] if self._files else self.source}:{number}"

    def joined(self, other: "Corpus") -> "Corpus":
        """The rows of both, those of `other` last; nothing is copied, equal ids stay equal."""
        import pyarrow

        joined = copy.copy(self)
        joined.table = pyarrow.concat_tables([self.table, other.table])
        joined.vectors = of_rows.join_vectors([(one.vectors, len(one)) for one in (self, other)])
        if self.votes is not None:
            nothing = [pyarrow.nulls(len(other), self.votes.type)]
            more = nothing if other.votes is None else other.votes.chunks
            joined.votes = pyarrow.chunked_array([*self.votes.chunks, *more])
        has_keys = self.key is not None and other.key is not None
        joined.key = fingerprint(self.key, other.key) if has_keys else None
        return joined

    def labelled(
        self, labels: Mapping[str, tuple[list[str], list[float] | None]], table: "Corpus"
    ) -> "Corpus":
        """The same rows with `label` and `shares` of another table, by id; none for another id."""
        corpus = copy.copy(self)
        corpus.table = relabelled(self.table, labels)
        has_keys = self.key is not None and table.key is not None
        corpus.key = fingerprint(self.key, table.key, "labels") if has_keys else None
        corpus.labels_source, corpus.columns = table.source, table.columns
        return corpus

    def with_unlabelled(self, values: Sequence[str]) -> "Corpus":
        """The same rows; those with one of these labels are unlabelled, if it is no class."""
        corpus = copy.copy(self)
        corpus.unlabelled_values = tuple(values)
        return corpus

    def normalised(self, form: str) -> "Corpus":
        """The same rows, their sequences in a Unicode form; see `normalise`."""
        corpus = copy.copy(self)
        corpus.form = form
        return corpus

    def unlabelled_names(self) -> list[str]:
        """Labels that mean unlabelled."""
        values = list(self.unlabelled_values)
        return [f"{c}={v}" for c in self.columns for v in values] if self.columns else values

    def _label_counts(self) -> dict[str, int]:
        from pyarrow import compute

        counts = compute.value_counts(compute.list_flatten(self.table.column("label")))
        return {one["values"]: one["counts"] for one in counts.to_pylist()}


def read_corpus(source: Source, choice: ColumnChoice | None = None) -> Corpus:
    """Read all rows of a file or of a data set, and check them.

    The rows are cached beside those of `datasets` (`HF_HOME`), by the file's path, size and time of
    change, and are mapped into memory: only what is used is loaded.

    Args:
        source: A file, see `iterate_rows`; several as one corpus, see `find_files`; or `hub:NAME`
            or `hub:NAME:SPLIT`, where NAME is what `datasets.load_dataset` takes, a folder too, and
            SPLIT is "train" unless given; or a `datasets.Dataset`, or a table of pandas, polars or
            pyarrow; or one of these `with_vectors`. A corpus is returned as it is.
        choice: Named columns; None for those with usual names, see `ColumnChoice`. Integers of a
            `ClassLabel` become its names, -1 becomes unlabelled.

    Raises:
        InputError: bad input, or a data set that cannot be loaded.
    """
    choice = choice or ColumnChoice()
    listed = source if isinstance(source, list | tuple) else [source]
    if len(listed) == 1:
        source = listed[0]
    if isinstance(source, Corpus):
        return source
    if isinstance(source, WithVectors):
        corpus = copy.copy(read_corpus(source.rows, dataclasses.replace(choice, vectors=None)))
        corpus.vectors = open_vectors(source.vectors, len(corpus), corpus.source)
        return corpus
    if str(source).startswith(HUB_PREFIX):
        return read_dataset(load_hub(str(source)), str(source), choice)
    if not (listed and all(isinstance(one, str | Path) for one in listed)):
        return read_dataset(source, "dataset", choice)
    files = find_files(source)
    # errors up to here are raised without the import of `datasets`, which takes seconds
    is_tokens = [isinstance(next(iterate_rows(file, choice)).sequence, list) for file in files]
    if len(set(is_tokens)) > 1:
        odd = files[is_tokens.index(not is_tokens[0])]
        kind, other = ("tokens", "text") if is_tokens[0] else ("text", "tokens")
        raise InputError(f"{odd}: wanted {kind} as in {files[0]}, got {other}")
    rows = iterate_rows(files[0], choice)
    if len(files) > 1:
        rows = join_rows(iterate_rows(file, choice) for file in files)
    key = fingerprint(
        READER_VERSION, dataclasses.astuple(choice), tuple(map(_fingerprint_of, files))
    )
    with progress.task(READ, sum(file.stat().st_size for file in files) / 2**20):
        table = cached_table(key, rows, is_tokens=is_tokens[0], more=choice.more)
    corpus = Corpus(table, source_name(source), is_tokens=is_tokens[0], key=key, files=files)
    corpus.columns, corpus.voters = choice.label_columns, choice.voters
    return corpus


def source_name(source: "Files | Corpus | WithVectors") -> str:
    """One name of a file, or of several, as in error messages and in a run's manifest."""
    if isinstance(source, Corpus):  # with labels of another table
        return SEPARATOR.join(filter(None, (source.source, source.labels_source)))
    if isinstance(source, WithVectors):
        return f"{source_name(source.rows)} with {source.vectors}"
    return str(source) if isinstance(source, str | Path) else SEPARATOR.join(map(str, source))


def find_files(source: Files) -> list[Path]:
    """The files that a name refers to: itself, those of a folder, or those of a pattern.

    Args:
        source: A file; a folder, whose files with a known suffix are taken; or, if no such file
            exists, a pattern as of `glob`: `part-*.jsonl`. Of a list of these, the files of all,
            each once.

    Raises:
        InputError: a folder or a pattern without files, or a data set of a hub in a list.
    """
    if not isinstance(source, str | Path):
        if odd := [str(one) for one in source if str(one).startswith(HUB_PREFIX)]:
            raise InputError(f"{odd[0]}: wanted files, or one data set alone, got both")
        return list(dict.fromkeys(file for one in source for file in find_files(one)))
    path = Path(source)
    with readable(path):
        if str(source) and path.is_dir():  # an empty name is no folder
            files = sorted(one for one in path.iterdir() if is_readable(one) and one.is_file())
        elif glob.has_magic(str(source)) and not path.exists():
            files = sorted(map(Path, glob.glob(str(source), recursive=True)))
        else:
            return [path]
    if not files:
        raise InputError(f"{source}: wanted files of rows, got none")
    return files


def gather_corpus(
    sequences: Iterable[str | list[str]],
    labels: Iterable[Any] | None = None,
    *,
    source: str,
    vectors: Any = None,
) -> Corpus:
    """Make a corpus of rows that come from no file; they are checked like those of one.

    Args:
        sequences: Texts, or lists of tokens.
        labels: Label of each row, as in a jsonl file; None leaves all rows unlabelled.
        source: Name of the corpus, for errors.
        vectors: An array, `[n, D]`, or None.

    Raises:
        InputError: no rows, or a bad one; the message has its number, from 1.
    """
    listed = list(sequences)
    if not listed:
        raise InputError(f"{source}:1: wanted a row, got none")
    known: Iterable[Any] = [None] * len(listed) if labels is None else labels
    is_tokens = not isinstance(listed[0], str)
    check = RowChecker(source, is_tokens=is_tokens)
    rows = (
        check(number, sequence, label)
        for number, (sequence, label) in enumerate(zip(listed, known, strict=True), 1)
    )
    corpus = Corpus(table_of(rows, is_tokens=is_tokens), source, is_tokens=is_tokens)
    if vectors is not None:
        corpus.vectors = open_vectors(vectors, len(corpus), source)
    return corpus


def _fingerprint_of(file: Path) -> tuple[object, ...]:
    status = file.stat()
    return str(file.resolve()), status.st_size, status.st_mtime_ns, status.st_ino


def _label_of(names: list[str]) -> str | tuple[str, ...] | None:
    """A label from the `label` column: no name, one, or several."""
    return tuple(names) if len(names) > 1 else next(iter(names), None)


def read_dataset(dataset: Any, source: str, choice: ColumnChoice) -> Corpus:
    """The rows of a data set or of a table; arguments and errors as of `read_corpus`."""
    import datasets

    dataset = dataset_of(dataset)
    if not isinstance(dataset, datasets.Dataset):
        wanted, got = "a file, hub:NAME, a datasets.Dataset or a DataFrame", type(dataset).__name__
        raise InputError(f"{source}: wanted {wanted}, got {got}")
    columns = choice.of_dataset(dataset, source)
    if len(dataset) == 0:
        raise InputError(f"{source}:1: wanted a row, got an empty data set")
    names = [class_names(dataset, name) for name in columns.label_names]
    key = fingerprint(READER_VERSION, dataset._fingerprint, columns, names)
    batches = dataset.select_columns(columns.used).with_format("arrow").iter(BATCH_ROWS)
    rows = arrow_rows(batches, columns, source, label_names=names)
    rows_read = progress.track(rows, "rows read", len(dataset))
    table = cached_table(key, rows_read, is_tokens=columns.is_tokens, more=choice.more)
    corpus = Corpus(table, source, is_tokens=columns.is_tokens, key=key)
    corpus.columns, corpus.voters = tuple(columns.labels), choice.voters
    return corpus
