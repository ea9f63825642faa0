"""Likely mistakes in a corpus: the user is told, and the rows stay as they are."""

import dataclasses
import functools
import itertools
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from seqssvae import progress
from seqssvae.data.columns import ColumnChoice
from seqssvae.data.corpus import Corpus, Source, find_files, read_dataset
from seqssvae.data.labels import is_first
from seqssvae.data.readers import column_names, iterate_rows
from seqssvae.data.rows import Row, hash_sequences, list_names
from seqssvae.data.tables import HUB_PREFIX, load_hub
from seqssvae.errors import InputError
from seqssvae.storage.vectors import WithVectors

if TYPE_CHECKING:
    import datasets

Integers = NDArray[np.int64]

SHOWN = 5  # labels of a line
CHECKED_ROWS = 1000  # of the texts
CANDIDATE_ROWS = 1000  # that are read for `label_candidates`
SUSPICIOUS = {"-1", "unknown", "none", "na", "nan", "n.a.", "null", "nil", "missing", "unlabelled"}
SUSPICIOUS |= {"unlabeled", "undefined", "unspecified", "<unk>", "?", "??", "-", "--", ".", "tbd"}


def find_warnings(
    corpus: Corpus,
    names: Sequence[str],
    y: Integers,
    *,
    seen: Integers,
    hashes: NDArray[np.uint64],
) -> Iterator[str]:
    """Yield a line for each likely mistake.

    Args:
        corpus: The training rows.
        names: The classes.
        y: Class of every row, -1 for an unlabelled one, `[n]`.
        seen: Rows whose label is used in training or on dev.
        hashes: Checksums of the rows' sequences, `[n]`.
    """
    yield from warn_of_quotes(corpus)
    if num_copies := len(hashes) - int(is_first(hashes).sum()):
        yield (
            f"{num_copies} of {len(hashes)} rows have the sequence of an earlier row: equal ones "
            "are all trained on, or all held out"
        )
    if num_unlike := _count_unlike(hashes, y):
        yield f"{num_unlike} labelled rows have the sequence of another row and another label"
    repeated = corpus.num_repeated_ids
    if repeated:
        yield f"{repeated} rows repeat an earlier id: -2, -3, ... is added to theirs"
    for file in corpus.files_without_labels() if names else ():
        yield f"{file}: no row has a label, unlike other files"
    for name, number in corpus.count_unlabelled_values().items():
        yield f"{number} rows have the label {name!r}: unlabelled; see data.unlabelled_values"
    yield from _odd_texts(corpus)
    if not corpus.columns:
        yield from warn_of_classes(names, y, seen)


def warn_of_classes(names: Sequence[str], y: Integers, seen: Integers) -> Iterator[str]:
    """Yield a line for each likely mistake in the classes; arguments as of `find_warnings`."""
    for alike in _alike(names):
        yield (
            f"the labels {list_names(alike, SHOWN)} differ by case, space or Unicode form alone: "
            "taken as different classes"
        )
    for name in find_suspicious(names):
        count = np.count_nonzero(y == list(names).index(name))
        yield (
            f"{count} rows have the label {name!r}: taken as a class of its own; leave a label "
            "empty if it is not known, or add it to data.unlabelled_values"
        )
    if not names:
        return
    known = y[seen]
    counts = np.bincount(known[known >= 0], minlength=len(names))
    if len(names) == 1:
        yield f"all labels are {names[0]!r}: a classifier needs at least two classes"
    for number, what in ((0, "no labelled row left"), (1, "one labelled row only, not held out")):
        few = [name for name, count in zip(names, counts, strict=True) if count == number]
        if few:
            verb = "has" if len(few) == 1 else "have"
            yield f"{len(few)} of {len(names)} classes {verb} {what}: {list_names(few, SHOWN)}"


def warn_of_quotes(corpus: Corpus) -> Iterator[str]:
    """Yield a line if a cell may hold other rows."""
    if where := corpus.doubtful():
        yield (
            f"{where}: a cell holds a line break and a delimiter: if it holds other rows, a quote "
            "is unbalanced; --data.quotes never reads quotes as characters"
        )


def find_suspicious(names: Iterable[str]) -> list[str]:
    """Names of classes that elsewhere mean that no label is known."""
    return [name for name in names if name.strip().casefold() in SUSPICIOUS]


def hash_corpus(corpus: Corpus) -> NDArray[np.uint64]:
    """Checksums of the rows' sequences, 64 bits of each, `[n]`."""
    return hash_sequences(progress.track(corpus.sequences(), "rows compared", len(corpus)))


def count_shared(test: Corpus, training: Iterable[Corpus]) -> int:
    """Count the test rows whose sequence is also a training row's, with any label.

    Sequences are compared by 64-bit checksums.
    """
    known, counts = np.unique(hash_corpus(test), return_counts=True)
    is_shared = np.zeros(len(known), dtype=np.bool_)
    for corpus in training:
        is_shared |= np.isin(known, hash_corpus(corpus))
    return int(counts[is_shared].sum())


def _odd_texts(corpus: Corpus) -> Iterator[str]:
    """Yield a line if most of the first texts are rows or lists of another format."""
    if corpus.is_tokens:
        return
    texts = list(itertools.islice(corpus.sequences(), CHECKED_ROWS))
    for mark, what, how in (
        (r"[^\t]+\t[^\t]+", "a tab", "give columns a header and the file the suffix .tsv"),
        (r'\[(["\d].*)?\]', "a list", "name the column with --tokens-column"),
        (r'\{".*\}', "a JSON object", "give the file the suffix .jsonl"),
    ):
        num_odd = sum(re.fullmatch(mark, text, re.DOTALL) is not None for text in texts)
        if 2 * num_odd > len(texts):
            yield f"{num_odd} of the first {len(texts)} texts are or contain {what}: {how}"


def _count_unlike(hashes: NDArray[np.uint64], y: Integers) -> int:
    """Number of labelled rows that are equal to a row of another class."""
    _, group = np.unique(hashes[y >= 0], return_inverse=True)
    known = y[y >= 0]
    order = np.lexsort((known, group))
    is_unlike = (np.diff(group[order]) == 0) & (np.diff(known[order]) != 0)
    return int(np.isin(group, group[order][1:][is_unlike]).sum())


def _alike(names: Sequence[str]) -> list[list[str]]:
    """Names that differ by case, space or Unicode form alone."""
    groups: dict[str, list[str]] = {}
    for name in names:
        plain = "".join(unicodedata.normalize("NFKC", name).casefold().split())
        groups.setdefault(plain, []).append(name)
    return [group for group in groups.values() if len(group) > 1]


def label_candidates(source: Source, choice: ColumnChoice | None = None) -> dict[str, list[str]]:
    """The columns that may hold labels: those with few distinct values, and these.

    Only the first rows are read, of the first file that has such a column.

    Args:
        source: As in `read_corpus`, which has read it.
        choice: The columns of the sequences.
    """
    choice = dataclasses.replace(choice or ColumnChoice(), label=None, read_labels=True)
    found: dict[str, list[str]] = {}
    for names, rows_of in _tables(source, choice):
        used = choice.of_names(names, str(source)) if names else None
        for name in names:
            if used is None or name in (used.sequence, used.id):
                continue
            named = dataclasses.replace(choice, label=name)
            try:
                labels = [row.label for row in itertools.islice(rows_of(named), CANDIDATE_ROWS)]
            except InputError:  # of other values than labels
                continue
            known = [label for label in labels if isinstance(label, str)]
            if 1 < len(set(known)) <= len(known) / 2:
                found[name] = sorted(set(known))
        if found:
            break
    return found


def _tables(
    source: Source, choice: ColumnChoice
) -> Iterator[tuple[list[str], Callable[[ColumnChoice], Iterable[Row]]]]:
    """The columns of each file, or of the data set, and a reader of its first rows."""
    if isinstance(source, Corpus):
        return
    if isinstance(source, WithVectors):
        source = source.rows
    if isinstance(source, list | tuple) and len(source) == 1:
        source = source[0]
    if str(source).startswith(HUB_PREFIX):
        source = load_hub(str(source))
    if isinstance(source, str | Path | list | tuple):
        for file in find_files(source):
            yield column_names(file, choice, CANDIDATE_ROWS), functools.partial(iterate_rows, file)
        return
    few = cast("datasets.Dataset", source)
    few = few.select(range(min(CANDIDATE_ROWS, len(few))))
    yield few.column_names, functools.partial(read_dataset, few, "dataset")
