"""What in a corpus is likely not meant: it is told, and the rows stay as they are."""

import hashlib
import itertools
import unicodedata
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from seqssvae.data.corpus import Corpus
from seqssvae.data.rows import list_names

__all__ = ["count_shared", "find_oddities"]

Integers = NDArray[np.int64]

SHOWN = 5  # labels of a line
CHUNK_ROWS = 10_000  # that are compared at once


def find_oddities(
    corpus: Corpus, names: Sequence[str], labelled: Integers, *, seen: Integers
) -> Iterator[str]:
    """Yield a line for each thing that a user should know of.

    Args:
        corpus: The training rows.
        names: The classes.
        labelled: y of every row, -1 for an unlabelled one, `[n]`.
        seen: The rows whose label training or dev sees.
    """
    repeated = corpus.num_repeated_ids
    if repeated:
        yield f"{repeated} rows have an id that came before: told apart by -2, -3, ... behind it"
    for alike in _alike(names):
        yield (
            f"the labels {list_names(alike, SHOWN)} differ by case, space or Unicode form alone: "
            "taken as different classes"
        )
    if "-1" in names:
        count = np.count_nonzero(labelled == list(names).index("-1"))
        yield (
            f"{count} rows have the label -1: taken as a class of its own; leave a label empty if "
            "it is not known"
        )
    if not names:
        return
    counts = np.bincount(labelled[seen], minlength=len(names))
    if len(names) == 1:
        yield f"all labels are {names[0]!r}: with one class there is nothing to tell apart"
    without = [name for y, name in enumerate(names) if not counts[y]]
    if without:
        yield f"no row with a label is left for {len(without)} of {len(names)} classes: " + (
            list_names(without, SHOWN)
        )
    single = [name for y, name in enumerate(names) if counts[y] == 1]
    if single:
        yield f"one row alone has the label of {len(single)} classes, and none is held out: " + (
            list_names(single, SHOWN)
        )


def count_shared(test: Corpus, training: Iterable[Corpus]) -> int:
    """How many test rows hold a sequence that a training row holds, whatever their labels.

    Sequences are compared by 64 bits of a checksum, so that a test row costs 8 bytes.
    """
    wanted, counts = np.unique(_checksums(test.sequences()), return_counts=True)
    is_found = np.zeros(len(wanted), dtype=np.bool_)
    for corpus in training:
        sequences = corpus.sequences()
        while len(found := _checksums(itertools.islice(sequences, CHUNK_ROWS))):
            places = np.searchsorted(wanted, found).clip(max=len(wanted) - 1)
            is_found[places[wanted[places] == found]] = True
    return int(counts[is_found].sum())


def _checksums(sequences: Iterable[str | list[str]]) -> NDArray[np.uint64]:
    def checksum(sequence: str | list[str]) -> int:
        if isinstance(sequence, str):
            content = f"text {sequence}"
        else:
            content = "".join(f"{len(token)}:{token}" for token in sequence)
        return int.from_bytes(hashlib.blake2b(content.encode(), digest_size=8).digest(), "big")

    return np.fromiter(map(checksum, sequences), np.uint64)


def _alike(names: Sequence[str]) -> list[list[str]]:
    """Names that are the same to a reader who does not look closely."""
    groups: dict[str, list[str]] = {}
    for name in names:
        plain = "".join(unicodedata.normalize("NFKC", name).casefold().split())
        groups.setdefault(plain, []).append(name)
    return [group for group in groups.values() if len(group) > 1]
