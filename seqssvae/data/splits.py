"""Classes, and who sees which label: choices by example id, whatever the order of the rows."""

import dataclasses
import difflib
import hashlib
import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from seqssvae.data.rows import list_names
from seqssvae.errors import InputError

__all__ = ["Classes", "LabelSource", "Labels", "choose_labels", "hold_out", "split_dev"]


Integers = NDArray[np.int64]
Classes = NDArray[np.signedinteger]

SEEK_COST = 20  # times what reading the next id costs
CHUNK_ROWS = 262_144  # that are looked at together


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
    labels: Sequence[int] | Classes,
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
    y = _as_array(labels)
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
    labels: Sequence[int] | Classes,
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
    known = _as_array(labels)
    y = np.full_like(known, -1)
    y[chosen] = known[chosen]
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


def hold_out(is_free: NDArray[np.bool_], ids: Sequence[str], count: int, seed: int) -> Integers:
    """Rows to hold out, ascending, whatever the order of the rows.

    Args:
        is_free: Which of them may be, `[n]`.
        ids: Of all rows.
        count: How many are wanted; at most all that may be are held out.
        seed: Other seeds hold out other rows.
    """
    return _draw_rows(is_free.view(np.int8) - 1, ids, {0: count}, seed, "held out")


def _as_array(labels: Sequence[int] | Classes) -> Classes:
    """Labels as integers; those of an array stay as small as they are."""
    return labels if isinstance(labels, np.ndarray) else np.array(labels, dtype=np.int64)


def _class_sizes(y: Classes) -> dict[int, int]:
    """Labelled rows of each class, the classes sorted."""
    num_classes = int(y.max(initial=-1)) + 1
    counts = np.zeros(num_classes, dtype=np.int64)
    for part in _parts(y):
        counts += np.bincount(part[part >= 0], minlength=num_classes)
    return {int(label): int(counts[label]) for label in counts.nonzero()[0]}


def _draw_rows(
    y: Classes, ids: Sequence[str], quotas: dict[int, int], seed: int, purpose: str
) -> Integers:
    """So many rows of each class, ascending: those whose draws come first.

    A draw is its first 64 bits. Two rows with the same ones would stand in the order of the file;
    of a billion rows, one pair in forty corpora has them. What is held grows with the rows that
    are found, not with those that are looked at.
    """
    sizes = _class_sizes(y)
    wanted = np.zeros(max((*quotas, *sizes), default=-1) + 2, dtype=np.int64)  # last, of y = -1
    wanted[list(quotas)] = list(quotas.values())
    is_whole = np.zeros(len(wanted), dtype=np.bool_)
    is_whole[[label for label, size in sizes.items() if wanted[label] >= size]] = True
    is_drawn = (wanted > 0) & ~is_whole
    whole, found, keys = [], np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.uint64)
    most = 2 * int(wanted[is_drawn].sum()) + CHUNK_ROWS  # held: seldom sorted, many fall at once
    num_drawn = sum(size for label, size in sizes.items() if is_drawn[label])
    of_drawn = _ids_of(ids, (is_drawn[part] for part in _parts(y)), num_drawn)
    draws = (int.from_bytes(_draw(seed, purpose, id)[:8], "big") for id in of_drawn)
    for number, part in enumerate(_parts(y)):
        first = number * CHUNK_ROWS
        whole.append(first + np.flatnonzero(is_whole[part]))
        new = first + np.flatnonzero(is_drawn[part])
        found = np.concatenate([found, new])
        keys = np.concatenate([keys, np.fromiter(draws, np.uint64, len(new))])
        if len(found) > most or first + len(part) == len(y):
            first_ones = _first_of_each_class(y[found], keys, wanted)
            found, keys = found[first_ones], keys[first_ones]
    return np.sort(np.concatenate([*whole, found]))


def _first_of_each_class(y: Classes, keys: NDArray[np.uint64], wanted: Integers) -> Integers:
    """The places, `[m]`, of the smallest keys of each class, as many as are wanted of it."""
    order = np.lexsort((keys, y))
    place = np.arange(len(order))
    begins = np.diff(y[order], prepend=-1) != 0
    rank = place - np.maximum.accumulate(np.where(begins, place, 0))
    return order[rank < wanted[y[order]]]


def _parts(y: Classes) -> Iterator[Classes]:
    """Labels in turn, so many at once."""
    for first in range(0, len(y), CHUNK_ROWS):
        yield y[first : first + CHUNK_ROWS]


def _ids_of(
    ids: Sequence[str], is_wanted: Iterator[NDArray[np.bool_]], num_wanted: int
) -> Iterator[str]:
    """Ids of the rows that are wanted; of many, all are read in turn, which is faster than to seek.

    Args:
        ids: Of all rows.
        is_wanted: Of each row, as `_parts` cuts them.
        num_wanted: How many are.
    """
    flags = itertools.chain.from_iterable(part.tolist() for part in is_wanted)
    if num_wanted * SEEK_COST < len(ids):
        return (ids[row] for row in itertools.compress(itertools.count(), flags))
    return itertools.compress(ids, flags)


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
