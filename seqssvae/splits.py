"""Classes, and who sees which label: choices by example id, whatever the order of the rows."""

import dataclasses
import difflib
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from seqssvae.config import InputError
from seqssvae.rows import list_names

__all__ = ["LabelSource", "Labels", "choose_labels", "split_dev"]


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
) -> set[int]:
    """Choose the rows whose labels stay; a larger budget keeps what a smaller one chose.

    Args:
        labels: y of every row, -1 for an unlabelled one, `[n]`.
        ids: Their ids, `[n]`.
        per_class: Rows of each class; all of a class that has fewer.
        total: Rows in all, the classes as equal as they can be: a class that has too few gives all
            it has, and the others make up for it.
        seed: Other seeds choose other rows.

    Returns:
        Indices of rows; all labelled ones if neither budget is given.

    Raises:
        ValueError: both budgets are given, or there are not as many ids as labels.
    """
    if per_class is not None and total is not None:
        raise ValueError("wanted per_class or total, got both")
    if len(labels) != len(ids):
        raise ValueError(f"wanted as many ids as labels, {len(labels)}, got {len(ids)}")
    classes = _by_class(range(len(labels)), labels)
    if per_class is not None:
        quotas = {y: per_class for y in classes}
    elif total is not None:
        quotas = _equal_quotas({y: len(rows) for y, rows in classes.items()}, total, seed)
    else:
        quotas = {y: len(rows) for y, rows in classes.items()}
    chosen: set[int] = set()
    for y, rows in classes.items():
        if quotas[y] < len(rows):
            rows = sorted(rows, key=lambda i: _draw(seed, "label", ids[i]))[: quotas[y]]
        chosen.update(rows)
    return chosen


def split_dev(
    indices: Iterable[int],
    labels: Sequence[int] | NDArray[Any],
    ids: Sequence[str],
    fraction: float,
    seed: int,
) -> tuple[list[int], list[int]]:
    """Split labelled rows into train and dev, each class in proportion.

    Args:
        indices: The rows to split; their y is not -1.
        labels: y of every row of the corpus.
        ids: Ids of every row of the corpus.
        fraction: Of the rows that go to dev, rounded to whole rows over all classes; every class
            keeps a row in train.
        seed: Other seeds choose other rows.

    Returns:
        Sorted indices of train and of dev.

    Raises:
        ValueError: the fraction is not from 0 to 1, or a row is unlabelled.
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"fraction: wanted a number from 0 to 1, got {fraction}")
    indices = list(indices)
    classes = _by_class(indices, labels)
    if sum(map(len, classes.values())) < len(indices):
        raise ValueError("wanted labelled rows, got some with y = -1")
    # Largest remainders: the whole rows of every class first, then the rest by what is left over.
    sizes = {y: min(int(fraction * len(rows)), len(rows) - 1) for y, rows in classes.items()}
    missing = round(fraction * len(indices)) - sum(sizes.values())
    for y in sorted(
        (y for y, rows in classes.items() if sizes[y] < len(rows) - 1),
        key=lambda y: (sizes[y] - fraction * len(classes[y]), _draw(seed, "dev class", str(y))),
    )[: max(missing, 0)]:
        sizes[y] += 1
    dev: list[int] = []
    for y, rows in classes.items():
        dev += sorted(rows, key=lambda i: _draw(seed, "dev", ids[i]))[: sizes[y]]
    return sorted(set(indices) - set(dev)), sorted(dev)


def _by_class(indices: Iterable[int], labels: Sequence[int] | NDArray[Any]) -> dict[int, list[int]]:
    """Labelled rows of each class, the classes sorted."""
    classes: dict[int, list[int]] = {}
    for index in indices:
        y = int(labels[index])
        if y >= 0:
            classes.setdefault(y, []).append(int(index))
    return dict(sorted(classes.items()))


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
