"""Classes, and who sees which label: choices by example id, whatever the order of the rows."""

import dataclasses
import difflib
import hashlib
import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from seqssvae.config import InputError
from seqssvae.rows import list_names

__all__ = ["LabelSource", "Labels", "choose_labels", "split_dev"]


Integers = NDArray[np.int64]

SEEK_COST = 20  # times what reading the next id costs


class LabelSource(Protocol):
    """Whatever gives the label of each of its rows."""

    def labels(self) -> Iterator[str | tuple[str, ...] | None]:
        """A class, several possible ones, or None, for each row in turn."""
        ...


@dataclasses.dataclass(frozen=True)
class Labels:
    """The classes of a corpus.

    Attributes:
        names: Their names, all different, K of them; y is the place in here.
    """

    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(set(self.names)) < len(self.names) or not all(self.names):
            raise ValueError(f"wanted different names that are not empty, got {self.names}")

    def index(self, name: str, where: str) -> int:
        """The y of a class.

        Args:
            name: The class.
            where: Put before an error, for instance the file and the row.

        Raises:
            InputError: no such class; the message lists the known ones and the nearest.
        """
        try:
            return self.names.index(name)
        except ValueError:
            folded = {known.casefold(): known for known in self.names}
            near = difflib.get_close_matches(str(name).casefold(), folded, 1, 0.6)
            hint = f"; did you mean {folded[near[0]]!r}?" if near else ""
            raise InputError(
                f"{where}: wanted a known label ({list_names(self.names)}), got {name!r:.80}{hint}"
            ) from None

    @classmethod
    def from_corpus(cls, corpus: LabelSource) -> "Labels":
        """The labels that stand in a corpus, sorted; those of partly labelled rows included."""
        names: set[str] = set()
        for label in corpus.labels():
            if isinstance(label, str):
                names.add(label)
            elif label is not None:
                names.update(label)
        return cls(tuple(sorted(names)))

    def save(self, path: Path) -> None:
        """Write a JSON list of the names.

        Raises:
            OSError: it cannot be written.
        """
        text = json.dumps(list(self.names), ensure_ascii=False, indent=0)
        path.write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> "Labels":
        """Read what `save` wrote.

        Raises:
            InputError: the file is missing or damaged.
        """
        try:
            names = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                raise ValueError("no list of names")
            return cls(tuple(names))
        except OSError as error:
            raise InputError(f"{path}: wanted a readable file, got: {error.strerror}") from error
        except ValueError as error:
            raise InputError(f"{path}: wanted a list of labels, got: {error}") from error


def choose_labels(
    labels: Sequence[int] | NDArray[Any],
    ids: Sequence[str],
    *,
    per_class: int | None = None,
    total: int | None = None,
    seed: int,
) -> Integers:
    """Choose the rows whose labels stay; a larger budget keeps what a smaller one chose.

    Args:
        labels: y of every row, -1 for an unlabelled one, `[n]`.
        ids: Their ids, `[n]`.
        per_class: Rows of each class; all of a class that has fewer.
        total: Rows in all, the classes as equal as they can be: a class that has too few gives all
            it has, and the others make up for it.
        seed: Other seeds choose other rows.

    Returns:
        Indices of rows, ascending; of all labelled ones if neither budget is given.

    Raises:
        ValueError: both budgets are given, or there are not as many ids as labels.
    """
    if per_class is not None and total is not None:
        raise ValueError("wanted per_class or total, got both")
    if len(labels) != len(ids):
        raise ValueError(f"wanted as many ids as labels, {len(labels)}, got {len(ids)}")
    y = np.asarray(labels, dtype=np.int64)
    sizes = _class_sizes(y)
    if per_class is not None:
        quotas = dict.fromkeys(sizes, per_class)
    elif total is not None:
        quotas = _equal_quotas(sizes, total, seed)
    else:
        quotas = sizes
    return _draw_rows(y, ids, quotas, seed, "label")


def split_dev(
    indices: ArrayLike,
    labels: Sequence[int] | NDArray[Any],
    ids: Sequence[str],
    fraction: float,
    seed: int,
) -> tuple[Integers, Integers]:
    """Split labelled rows into train and dev, each class in proportion.

    Args:
        indices: The rows to split; their y is not -1.
        labels: y of every row of the corpus.
        ids: Ids of every row of the corpus.
        fraction: Of the rows that go to dev, rounded to whole rows over all classes; every class
            keeps a row in train.
        seed: Other seeds choose other rows.

    Returns:
        Ascending indices of train and of dev.

    Raises:
        ValueError: the fraction is not from 0 to 1, or a row is unlabelled.
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"fraction: wanted a number from 0 to 1, got {fraction}")
    chosen = np.asarray(indices, dtype=np.int64)
    y = np.full(len(labels), -1, dtype=np.int64)
    y[chosen] = np.asarray(labels)[chosen]
    counts = _class_sizes(y)
    if (y[chosen] < 0).any():
        raise ValueError("wanted labelled rows, got some with y = -1")
    # Largest remainders: the whole rows of every class first, then the rest by what is left over.
    sizes = {label: min(int(fraction * count), count - 1) for label, count in counts.items()}
    missing = round(fraction * len(chosen)) - sum(sizes.values())
    for label in sorted(
        (label for label, count in counts.items() if sizes[label] < count - 1),
        key=lambda one: (sizes[one] - fraction * counts[one], _draw(seed, "dev class", str(one))),
    )[: max(missing, 0)]:
        sizes[label] += 1
    dev = _draw_rows(y, ids, sizes, seed, "dev")
    return np.setdiff1d(chosen, dev), dev


def _class_sizes(y: Integers) -> dict[int, int]:
    """Labelled rows of each class, the classes sorted."""
    counts = np.bincount(y[y >= 0])
    return {int(label): int(counts[label]) for label in counts.nonzero()[0]}


def _draw_rows(
    y: Integers, ids: Sequence[str], quotas: dict[int, int], seed: int, purpose: str
) -> Integers:
    """So many rows of each class, ascending: those whose draws come first.

    A draw is kept as its first 64 bits, so that a row costs 16 bytes. Two rows with the same ones
    would stand in the order of the file; of a billion rows, one pair in forty corpora has them.
    """
    num_classes = max(quotas, default=-1) + 1
    wanted = np.zeros(num_classes + 1, dtype=np.int64)  # the last one is that of y = -1
    wanted[list(quotas)] = list(quotas.values())
    sizes = np.bincount(y[y >= 0], minlength=num_classes)
    is_whole = np.append(wanted[:-1] >= sizes, False)
    is_drawn = np.append((wanted[:-1] > 0) & ~is_whole[:-1], False)
    drawn = np.flatnonzero(is_drawn[y])
    draws = (_draw(seed, purpose, id)[:8] for id in _ids_of(ids, drawn))
    keys = np.fromiter((int.from_bytes(draw, "big") for draw in draws), np.uint64, len(drawn))
    drawn = drawn[np.lexsort((keys, y[drawn]))]
    ends = np.cumsum(np.bincount(y[drawn], minlength=num_classes))
    found = [np.flatnonzero(is_whole[y])]
    for label in np.flatnonzero(is_drawn).tolist():
        first = int(ends[label - 1]) if label else 0
        found.append(drawn[first : first + int(wanted[label])])
    return np.sort(np.concatenate(found))


def _ids_of(ids: Sequence[str], rows: Integers) -> Iterator[str]:
    """The ids of ascending rows; of many, all are read in turn, which is faster than to seek."""
    if len(rows) * SEEK_COST < len(ids):
        return (ids[int(row)] for row in rows)
    is_wanted = np.zeros(len(ids), dtype=np.bool_)
    is_wanted[rows] = True
    return itertools.compress(ids, is_wanted)


def _equal_quotas(sizes: dict[int, int], total: int, seed: int) -> dict[int, int]:
    """As equal shares of `total` as the sizes of the classes allow."""
    quotas = dict.fromkeys(sizes, 0)
    left = min(total, sum(sizes.values()))
    while left:
        open_classes = [y for y in sizes if quotas[y] < sizes[y]]
        share = left // len(open_classes)
        if share == 0:  # fewer rows than classes: the seed says who gets one more
            open_classes.sort(key=lambda y: _draw(seed, "class", str(y)))
            open_classes, share = open_classes[:left], 1
        for y in open_classes:
            more = min(share, sizes[y] - quotas[y])
            quotas[y] += more
            left -= more
    return quotas


def _draw(seed: int, purpose: str, id: str) -> bytes:
    """A number, as bytes, that depends on the seed, on what it is for, and on the id alone."""
    return hashlib.sha256(f"{seed}:{purpose}:{id}".encode()).digest()
