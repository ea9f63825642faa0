"""Classes, and which rows keep their label: chosen by row id, whatever the order of the rows."""

import dataclasses
import difflib
import hashlib
import itertools
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from seqssvae.data.rows import list_names
from seqssvae.errors import InputError

Integers = NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class Labels:
    """The classes of a corpus.

    Attributes:
        names: Their names, all different, K of them; y is an index into them.
    """

    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(set(self.names)) < len(self.names) or not all(self.names):
            raise ValueError(f"wanted different names that are not empty, got {self.names}")

    def index(self, name: str, where: str) -> int:
        """The y of a class.

        Args:
            name: The class.
            where: Start of an error message, for instance the file and the row.

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
    labels: ArrayLike,
    ids: Iterable[str],
    *,
    per_class: int | None = None,
    total: int | None = None,
    seed: int,
) -> Integers:
    """Choose the rows that keep their label; a larger budget keeps all rows of a smaller one.

    Args:
        labels: y of every row, -1 for an unlabelled one, `[n]`.
        ids: Their ids, `[n]`.
        per_class: Rows of each class; all rows of a class that has fewer.
        total: Rows over all classes, shared as equally as their sizes allow.
        seed: Seed of the choice.

    Returns:
        Row numbers, ascending; of all labelled rows if neither budget is given.

    Raises:
        ValueError: both budgets are given.
    """
    if per_class is not None and total is not None:
        raise ValueError("wanted per_class or total, got both")
    y = np.asarray(labels, dtype=np.int64)
    sizes = class_sizes(y)
    if per_class is not None:
        quotas = np.minimum(sizes, per_class)
    elif total is not None:
        quotas = _equal_quotas(sizes, total, seed)
    else:
        quotas = sizes
    return draw_rows(y, ids, quotas, seed, "label")


def class_sizes(y: Integers) -> Integers:
    """Number of labelled rows of each class, `[K]`, up to the largest class there is."""
    return np.bincount(y[y >= 0])


def draw_rows(
    y: Integers, ids: Iterable[str], quotas: Integers, seed: int, purpose: str
) -> Integers:
    """Draw rows of each class: those with the smallest hashes.

    Args:
        y: Class of each row, -1 for rows that are never drawn, `[n]`.
        ids: Ids of the rows, `[n]`.
        quotas: Number of rows of each class, at most its size, `[K]`.
        seed: Part of the hash, as are the purpose and the row's id.
        purpose: What the rows are drawn for.

    Returns:
        Row numbers, ascending.
    """
    rows = np.flatnonzero(y >= 0)
    rows = rows[quotas[y[rows]] > 0]
    classes, sizes = y[rows], class_sizes(y)
    is_drawn = (quotas < sizes)[classes]  # of the other classes all rows are taken
    hashes = np.zeros(len(rows), dtype=np.uint64)
    if is_drawn.any():
        mask = np.zeros(len(y), dtype=np.bool_)
        mask[rows[is_drawn]] = True
        drawn = (hash_bytes(seed, purpose, id)[:8] for id in itertools.compress(ids, mask))
        numbers = (int.from_bytes(one, "big") for one in drawn)
        hashes[is_drawn] = np.fromiter(numbers, np.uint64, int(is_drawn.sum()))
    rows = rows[np.lexsort((hashes, classes))]
    sizes[quotas == 0] = 0
    starts = np.cumsum(sizes) - sizes
    taken = [rows[start : start + quota] for start, quota in zip(starts, quotas, strict=True)]
    return np.sort(np.concatenate([rows[:0], *taken]))


def hash_bytes(seed: int, purpose: str, id: str) -> bytes:
    """SHA-256 of a seed, a purpose and an id."""
    return hashlib.sha256(f"{seed}:{purpose}:{id}".encode()).digest()


def _equal_quotas(sizes: Integers, total: int, seed: int) -> Integers:
    """Shares of `total` as equal as the sizes of the classes allow, `[K]`."""
    quotas = np.zeros_like(sizes)
    left = min(total, int(sizes.sum()))
    while left:
        unfilled = np.flatnonzero(quotas < sizes)
        share = left // len(unfilled)
        if share == 0:  # fewer rows than classes: the seed decides which get one more
            ranked = sorted(unfilled.tolist(), key=lambda y: hash_bytes(seed, "class", str(y)))
            unfilled, share = np.array(ranked[:left]), 1
        more = np.minimum(share, (sizes - quotas)[unfilled])
        quotas[unfilled] += more
        left -= int(more.sum())
    return quotas
