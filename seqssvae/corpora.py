"""Corpora: rows of a file, a data set or a program, kept as Arrow, and encoded for a model."""

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, Union, final

from seqssvae.arrow_rows import batch_rows
from seqssvae.config import InputError
from seqssvae.dataset_columns import class_names, dataset_columns
from seqssvae.encoded import EncodedRows, RowPacker
from seqssvae.readers import iterate_rows
from seqssvae.rows import MAX_SYMBOLS, Columns, RawRow, Row, checked_rows, find_surrogate
from seqssvae.splits import Labels, choose_labels, split_dev
from seqssvae.vocabulary import Vocabulary

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
    "encode_corpus",
    "encode_sequences",
    "gather_corpus",
    "iterate_rows",
    "read_corpus",
    "split_dev",
]

Source: TypeAlias = Union[str, Path, "Corpus", "datasets.Dataset"]

HUB_PREFIX = "hub:"
READER_VERSION = 2  # raised when the same file gives other rows, so that no old cache is used


@final
class Corpus:
    """Rows with text or tokens, mapped into memory by `read_corpus`, kept there by `gather_corpus`.

    Attributes:
        source: The file or data set, as it was named.
        is_tokens: Whether sequences are lists of tokens, not texts.
    """

    def __init__(self, table: "pyarrow.Table", source: str, *, is_tokens: bool) -> None:
        self.source, self.is_tokens = source, is_tokens
        self._table = table
        self._sequences, self._labels = table.column("sequence"), table.column("label")
        self._ids, self._numbers = table.column("id"), table.column("number")
        self._repeats = table.column("repeats_id")

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __iter__(self) -> Iterator[Row]:
        for batch in self._table.to_batches():
            names = ("number", "sequence", "label", "id", "repeats_id")
            columns = [batch.column(name).to_pylist() for name in names]
            for number, sequence, label, id, repeats_id in zip(*columns, strict=True):
                yield Row(number, sequence, _label_of(label), id, repeats_id)

    @property
    def num_repeated_ids(self) -> int:
        """Rows whose `id` column holds what an earlier row's does."""
        return sum(sum(chunk.to_pylist()) for chunk in self._repeats.chunks)

    def sequence(self, index: int) -> str | list[str]:
        """The text or tokens of a row, from 0.

        Raises:
            IndexError: no such row.
        """
        value: str | list[str] = self._sequences[index].as_py()
        return value

    def sequences(self) -> Iterator[str | list[str]]:
        """The text or tokens of every row in turn."""
        for chunk in self._sequences.chunks:
            yield from chunk.to_pylist()

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

    def id(self, index: int) -> str:
        """The id of a row; see `Row`.

        Raises:
            IndexError: no such row.
        """
        return str(self._ids[index].as_py())

    def number(self, index: int) -> int:
        """Where a row stands in the source, from 1; see `Row`.

        Raises:
            IndexError: no such row.
        """
        return int(self._numbers[index].as_py())


def read_corpus(
    source: Source,
    *,
    text_column: str | None = None,
    tokens_column: str | None = None,
    label_column: str | None = None,
    read_labels: bool = True,
) -> Corpus:
    """Read all rows of a file or of a data set, and check them.

    The rows are cached with those of `datasets` (`HF_HOME`), by the file's path, size and time of
    change, and are mapped into memory: only what is used is loaded.

    Args:
        source: A file, see `iterate_rows`; or `hub:NAME` or `hub:NAME:SPLIT`, where NAME is what
            `datasets.load_dataset` takes, a folder too, and SPLIT is "train" unless given; or a
            `datasets.Dataset`. A corpus is given back as it is.
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
    # Errors up to here are told without the import of `datasets`, which takes seconds.
    first = next(iterate_rows(source, **wanted._asdict()))
    is_tokens = isinstance(first.sequence, list)
    status = os.stat(source)
    table = _cached_table(
        _file_examples,
        {
            "path": str(Path(source).resolve()),
            "shown_path": str(source),
            "wanted": tuple(wanted),
            "fingerprint": (READER_VERSION, status.st_size, status.st_mtime_ns, status.st_ino),
        },
        is_tokens=is_tokens,
    )
    return Corpus(table, str(source), is_tokens=is_tokens)


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
    import pyarrow

    kept = list(sequences)
    if not kept:
        raise InputError(f"{source}:1: wanted a row, got none")
    known: Iterable[Any] = [None] * len(kept) if labels is None else labels
    is_tokens = not isinstance(kept[0], str)
    raw = (
        RawRow(number, sequence, label, None)
        for number, (sequence, label) in enumerate(zip(kept, known, strict=True), 1)
    )
    rows = [_example(row) for row in checked_rows(raw, source, is_tokens=is_tokens)]
    text = pyarrow.large_string()
    schema = pyarrow.schema(
        {
            "number": pyarrow.int64(),
            "sequence": pyarrow.large_list(text) if is_tokens else text,
            "label": pyarrow.list_(pyarrow.string()),
            "id": pyarrow.string(),
            "repeats_id": pyarrow.bool_(),
        }
    )
    return Corpus(pyarrow.Table.from_pylist(rows, schema=schema), source, is_tokens=is_tokens)


def encode_corpus(
    corpus: Corpus, vocabulary: Vocabulary, labels: Labels | None, *, max_length: int
) -> EncodedRows:
    """Encode all rows of a corpus, in their order.

    Args:
        corpus: The rows; texts for a vocabulary of texts, tokens for one of tokens.
        vocabulary: What is not in it becomes UNK and is counted.
        labels: The classes that y counts; None, or no classes, leaves all rows unlabelled.
        max_length: Symbols that a row may hold, EOS included; longer rows are cut without a false
            EOS, and counted.

    Raises:
        InputError: a label that is not in `labels`, with the row and the nearest known label.
    """
    packer = RowPacker(max_length)
    y_of: dict[str | tuple[str, ...] | None, tuple[int, tuple[int, ...]]] = {None: (-1, ())}
    for row in corpus:
        label = row.label if labels is not None and labels.names else None
        if label not in y_of and labels is not None:
            where = f"{corpus.source}:{row.number}"
            if isinstance(label, str):
                y_of[label] = labels.index(label, where), ()
            elif label is not None:
                y_of[label] = -1, tuple(sorted(labels.index(name, where) for name in label))
        y, candidates = y_of[label]
        packer.add(vocabulary.encode(row.sequence), y, candidates, row.id)
    return packer.rows()


def encode_sequences(
    sequences: Sequence[str] | Sequence[Sequence[str]],
    vocabulary: Vocabulary,
    *,
    max_length: int,
) -> EncodedRows:
    """Encode sequences that come from no file; unlabelled, their ids are "1", "2", ...

    Args:
        sequences: Texts, or lists of tokens; they may be empty.
        vocabulary: As in `encode_corpus`.
        max_length: As in `encode_corpus`.

    Raises:
        InputError: a lone surrogate, or a million symbols or more, with the sequence's number.
    """
    packer = RowPacker(max_length)
    for number, sequence in enumerate(sequences, 1):
        where = f"sequence {number}"
        if len(sequence) >= MAX_SYMBOLS:
            raise InputError(
                f"{where}: wanted fewer than {MAX_SYMBOLS:,} symbols, got {len(sequence):,}"
            )
        text = sequence if isinstance(sequence, str) else "".join(sequence)
        if find_surrogate(text) is not None:
            raise InputError(f"{where}: wanted Unicode text, got a lone surrogate")
        packer.add(vocabulary.encode(sequence), -1, (), str(number))
    return packer.rows()


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


def _example(row: Row) -> dict[str, Any]:
    if row.label is None:
        names: list[str] = []
    else:
        names = [row.label] if isinstance(row.label, str) else list(row.label)
    return {
        "number": row.number,
        "sequence": row.sequence,
        "label": names,
        "id": row.id,
        "repeats_id": row.repeats_id,
    }


def _file_examples(
    path: str, shown_path: str, wanted: tuple[Any, ...], fingerprint: tuple[int, ...]
) -> Iterator[dict[str, Any]]:
    """Rows for the cache, whose key is made from these arguments."""
    del path, fingerprint  # in the key alone
    yield from map(_example, iterate_rows(shown_path, **_Wanted(*wanted)._asdict()))


def _hub_examples(
    dataset: "datasets.Dataset", columns: Columns, source: str, label_names: tuple[str, ...] | None
) -> Iterator[dict[str, Any]]:
    """Rows for the cache, from a data set of any form."""
    batches = dataset.with_format("arrow").iter(1000)
    raw_rows = batch_rows(batches, columns, source, label_names=label_names)
    yield from map(_example, checked_rows(raw_rows, source, is_tokens=columns.is_tokens))


def _cached_table(
    examples: Callable[..., Iterator[dict[str, Any]]], arguments: dict[str, Any], *, is_tokens: bool
) -> "pyarrow.Table":
    """Generate a data set once, and map it into memory."""
    import datasets

    text = datasets.Value("large_string")  # many long rows may hold more than 2 GiB
    features = datasets.Features(
        number=datasets.Value("int64"),
        sequence=datasets.LargeList(text) if is_tokens else text,
        label=datasets.List(datasets.Value("string")),
        id=datasets.Value("string"),
        repeats_id=datasets.Value("bool"),
    )
    try:
        with _no_bars():
            dataset = datasets.Dataset.from_generator(examples, features, gen_kwargs=arguments)
    except (datasets.exceptions.DatasetGenerationError, OSError) as error:
        cause = error.__cause__ or error
        if isinstance(cause, InputError):
            raise cause from None
        if not isinstance(cause, OSError):
            raise
        raise InputError(
            f"{datasets.config.HF_DATASETS_CACHE}: wanted a cache that can be written "
            f"(set HF_HOME to another folder), got: {cause.strerror or cause}"
        ) from error
    return dataset.with_format("arrow")[:]


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
    arguments = {
        "dataset": dataset.select_columns(used),
        "columns": columns,
        "source": source,
        "label_names": class_names(dataset.features, columns.label),
    }
    table = _cached_table(_hub_examples, arguments, is_tokens=columns.is_tokens)
    return Corpus(table, source, is_tokens=columns.is_tokens)
