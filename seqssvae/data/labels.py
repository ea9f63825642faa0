"""Classes, and which rows keep their label or are held out: drawn by row id."""

import dataclasses
import difflib
import hashlib
import itertools
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from seqssvae.data.rows import list_names
from seqssvae.errors import InputError
from seqssvae.storage.files import parse_json, read_bytes
from seqssvae.storage.label_tree import LabelTree

Integers = NDArray[np.int64]
Classes = NDArray[np.signedinteger]

CHUNK_ROWS = 2**18
MAX_COMBINATIONS = 2000  # of the labels of several columns


@dataclasses.dataclass(frozen=True)
class Labels:
    """The classes of a corpus.

    With several columns of labels, a class is a combination of their labels, the last one of which
    changes first: `intent=book,language=de`.

    Attributes:
        names: Their names, all different, K of them; y is an index into them.
        columns: The labels of each column, where there are several.
        tree: The tree whose leaves the classes are, if there is one.
    """

    names: tuple[str, ...]
    columns: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    tree: LabelTree | None = None

    @classmethod
    def of_columns(cls, columns: Mapping[str, Sequence[str]], where: str = "labels") -> "Labels":
        """All combinations of the labels of several columns.

        Args:
            columns: The labels of each column, different ones.
            where: Start of an error message.

        Raises:
            InputError: there are more than 2,000.
        """
        sizes = {name: len(labels) for name, labels in columns.items()}
        if (got := math.prod(sizes.values())) > MAX_COMBINATIONS:
            listed = ", ".join(f"{name} {size}" for name, size in sizes.items())
            wanted = f"at most {MAX_COMBINATIONS:,} combinations of labels"
            raise InputError(f"{where}: wanted {wanted}, got {got:,} ({listed})")
        pairs = [[f"{name}={label}" for label in labels] for name, labels in columns.items()]
        names = tuple(map(",".join, itertools.product(*pairs)))
        return cls(names, {name: tuple(labels) for name, labels in columns.items()})

    @classmethod
    def of_names(cls, names: Sequence[str], columns: Sequence[str], where: str) -> "Labels":
        """Of labels, or `of_columns` of labels `COLUMN=LABEL` of several columns."""
        if not columns:
            return cls(tuple(names))
        pairs = [name.partition("=")[::2] for name in names]
        lists = {column: [label for of, label in pairs if of == column] for column in columns}
        return cls.of_columns(lists, where)

    @property
    def sizes(self) -> dict[str, int]:
        """Number of labels of each column, where there are several."""
        return {name: len(labels) for name, labels in self.columns.items()}

    def parts(self, y: ArrayLike) -> tuple[Integers, ...]:
        """The label of each column, of classes `[n]`; -1 for -1."""
        y = np.asarray(y, np.int64)
        found = np.unravel_index(np.maximum(y, 0), tuple(self.sizes.values()))
        return tuple(np.where(y < 0, -1, part) for part in found)

    def of_column(
        self, name: str, y: Classes, candidates: Mapping[int, Sequence[int]]
    ) -> tuple[Integers, dict[int, tuple[int, ...]]]:
        """What is known of a column: its labels `[n]`, -1 if not known, and sets of possible ones.

        Args:
            name: The column.
            y: Classes, `[n]`.
            candidates: Possible classes of other rows.
        """
        number, size = list(self.columns).index(name), len(self.columns[name])
        labels, sets = self.parts(y)[number], dict[int, tuple[int, ...]]()
        known: dict[Sequence[int], tuple[int, ...]] = {}  # many rows have the same
        for row, possible in candidates.items():
            if possible not in known:
                known[possible] = tuple(np.unique(self.parts(possible)[number]).tolist())
            if len(known[possible]) == 1:
                labels[row] = known[possible][0]
            elif len(known[possible]) < size:
                sets[row] = known[possible]
        return labels, sets

    def marginal(self, name: str, table: NDArray[np.float64]) -> NDArray[np.float64]:
        """Probabilities of a column's labels, `[n, K_c]`, from those of all classes, `[n, K]`."""
        number = list(self.columns).index(name)
        others = tuple(axis + 1 for axis in range(len(self.columns)) if axis != number)
        of_column: NDArray[np.float64] = table.reshape(-1, *self.sizes.values()).sum(others)
        return of_column

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
            tree, known = self.tree, ("a known label", self.names)
            wanted, names = known if tree is None else tree.wanted(name)
            folded = {known.casefold(): known for known in names}
            near = difflib.get_close_matches(str(name).casefold(), folded, 1, 0.6)
            hint = f"; did you mean {folded[near[0]]!r}?" if near else ""
            raise InputError(
                f"{where}: wanted {wanted} ({list_names(names)}), got {name!r:.80}{hint}"
            ) from None

    def of_argument(self, label: str) -> int:
        """The y of an argument `label`, which a model without classes does not take.

        Raises:
            InputError: no such class, or no classes.
        """
        if not self.names:
            raise InputError(f"label: wanted none for a model without classes, got {label}")
        return self.index(label, "label")

    def fitting(self, label: str | None) -> list[int] | None:
        """Every y that fits an argument `label`: one, or of several columns those with its labels.

        Args:
            label: A class, or labels of some columns, `intent=book`; None for any class of several
                columns.

        Raises:
            InputError: no such label, or none where there are classes of one column.
        """
        if not self.columns:
            if label is None and self.names:
                raise InputError(f"label: wanted one of {', '.join(self.names)}, got none")
            return None if label is None else [self.of_argument(label)]
        fits = np.ones(len(self.names), np.bool_)
        parts = dict(zip(self.columns, self.parts(np.arange(len(self.names))), strict=True))
        for name, value in self.pairs(label or "").items():
            of_column = Labels(self.columns[name]).index(value, f"label: column {name!r}")
            fits &= parts[name] == of_column
        return np.flatnonzero(fits).tolist()

    def pairs(self, label: str) -> dict[str, str]:
        """Labels of some of several columns, `intent=book,language=de`, by column; "" for none.

        Raises:
            InputError: another column, or one twice.
        """
        ends, found = "|".join(map(re.escape, self.columns)), dict[str, str]()
        for part in re.split(rf",\s*(?=(?:{ends})=)", label) if label and self.columns else ():
            name, is_pair, value = part.partition("=")
            if not is_pair or name not in self.columns or name in found:
                wanted = f"COLUMN=LABEL, once for each of {list_names(list(self.columns))}"
                raise InputError(f"label: wanted {wanted}, got {part!r:.80}")
            found[name] = value
        return found

    def save(self, path: Path) -> None:
        """Write a JSON list of the names; an object of several columns' lists, or of parents.

        Raises:
            OSError: it cannot be written.
        """
        plain: object = dict(self.columns) or list(self.names)
        plain = {"parents": self.tree.parents} if self.tree else plain
        text = json.dumps(plain, ensure_ascii=False, indent=0)
        path.write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> "Labels":
        """Read what `save` wrote.

        Raises:
            InputError: the file is missing or damaged.
        """
        content = read_bytes(path)
        is_object = re.match(rb'\s*\{\s*"', content)
        plain = parse_json(content, dict if is_object else list, path)
        lists = list(plain.values()) if isinstance(plain, dict) else [plain]
        is_tree = is_object and list(plain) == ["parents"] and isinstance(lists[0], dict)
        of_texts = (isinstance(one, list) and {str} >= set(map(type, one)) for one in lists)
        if not (is_tree or all(of_texts)):
            raise InputError(f"{path}: wanted a list of labels, got other values in it")
        try:
            if is_tree:
                return cls((tree := LabelTree(lists[0])).leaves, tree=tree)
            return cls.of_columns(plain, str(path)) if is_object else cls(tuple(plain))
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
        total: Instead, rows over all classes, shared as equally as their sizes allow.
        seed: Seed of the choice.

    Returns:
        Row numbers, ascending; of all labelled rows if neither budget is given.
    """
    y = np.asarray(labels, dtype=np.int32)
    sizes = class_sizes(y)
    if per_class is not None:
        quotas = np.minimum(sizes, per_class)
    elif total is not None:
        quotas = _equal_quotas(sizes, total, seed)
    else:
        quotas = sizes
    return draw_rows(y, ids, quotas, seed, "label")


def split_dev(
    rows: ArrayLike,
    labels: ArrayLike,
    ids: Iterable[str],
    fraction: float,
    seed: int,
    *,
    hashes: NDArray[np.uint64],
) -> tuple[Integers, Integers]:
    """Split labelled rows into train and dev, each class in proportion; equal rows stay together.

    Of equal rows the first one is drawn for all of them. They are not drawn if they are more than
    half of its class.

    Args:
        rows: Row numbers to split; their y is not -1.
        labels: y of every row of the corpus, `[n]`.
        ids: Ids of every row of the corpus, `[n]`.
        fraction: Share of the rows that goes to dev, rounded to whole rows over all classes; every
            class keeps a row in train. Equal rows count once.
        seed: Seed of the split.
        hashes: Checksums of the sequences of every row of the corpus, `[n]`.

    Returns:
        Ascending row numbers of train and of dev.
    """
    chosen, known = np.asarray(rows, dtype=np.int64), np.asarray(labels, dtype=np.int32)
    _, first, group, count = np.unique(
        hashes[chosen], return_index=True, return_inverse=True, return_counts=True
    )
    firsts, of_chosen = chosen[first], known[chosen]
    y = np.full_like(known, -1)
    few = (count == 1) | (2 * count <= class_sizes(of_chosen)[known[firsts]])
    y[firsts[few]] = known[firsts[few]]
    sizes = class_sizes(y)
    # largest remainders: the whole rows of every class first, then the rest by what is left over
    quotas = np.minimum((fraction * sizes).astype(np.int64), np.maximum(sizes - 1, 0))
    missing = round(fraction * int(few.sum())) - int(quotas.sum())
    unfilled = sorted(
        np.flatnonzero(quotas < sizes - 1).tolist(),
        key=lambda k: (quotas[k] - fraction * sizes[k], hash_bytes(seed, "dev class", str(k))),
    )
    quotas[unfilled[: max(missing, 0)]] += 1
    is_dev = np.isin(firsts, draw_rows(y, ids, quotas, seed, "dev"))[group]
    # a class of which no row is left, all being equal to drawn rows of other classes, keeps them
    lost = ~np.isin(of_chosen, of_chosen[~is_dev])
    is_dev &= ~np.isin(group, group[lost])
    return np.sort(chosen[~is_dev]), np.sort(chosen[is_dev])


def class_sizes(y: Classes) -> Integers:
    """Number of labelled rows of each class, `[K]`, up to the largest class there is."""
    sizes = np.zeros(int(y.max(initial=-1)) + 1, dtype=np.int64)
    for start in range(0, len(y), CHUNK_ROWS):
        part = y[start : start + CHUNK_ROWS]
        sizes += np.bincount(part[part >= 0], minlength=len(sizes))
    return sizes


def draw_rows(
    y: Classes,
    ids: Iterable[str],
    quotas: Integers,
    seed: int,
    purpose: str,
    *,
    chunk_rows: int = CHUNK_ROWS,
) -> Integers:
    """Draw rows of each class: those with the smallest hashes.

    Args:
        y: Class of each row, -1 for rows that are never drawn, `[n]`.
        ids: Ids of the rows, `[n]`.
        quotas: Number of rows of each class, at most its size, `[K]`.
        seed: Part of the hash, as are the purpose and the row's id.
        purpose: What the rows are drawn for.
        chunk_rows: Rows whose hashes are in memory at once, beside twice those that are drawn.

    Returns:
        Row numbers, ascending.
    """
    sizes = class_sizes(y)
    is_whole = np.append(quotas == sizes, False)  # by class; the last entry is that of y = -1
    is_drawn = np.append((quotas > 0) & (quotas < sizes), False)
    is_chosen = np.zeros(len(y), dtype=np.bool_)
    rows, hashes = np.zeros(0, np.int64), np.zeros(0, np.uint64)

    def keep_smallest() -> tuple[Integers, NDArray[np.uint64]]:
        order = np.lexsort((hashes, y[rows]))
        classes = y[rows[order]]
        rank = np.arange(len(order)) - np.searchsorted(classes, classes)
        order = order[rank < quotas[classes]]
        return rows[order], hashes[order]

    iterator = iter(ids)
    for start in range(0, len(y), chunk_rows):
        part = y[start : start + chunk_rows]
        is_chosen[start : start + chunk_rows] = is_whole[part]
        if not is_drawn.any():
            continue
        drawn = itertools.compress(itertools.islice(iterator, len(part)), is_drawn[part])
        numbers = (int.from_bytes(hash_bytes(seed, purpose, id)[:8], "big") for id in drawn)
        hashes = np.concatenate([hashes, np.fromiter(numbers, np.uint64)])
        rows = np.concatenate([rows, start + np.flatnonzero(is_drawn[part])])
        if len(rows) > 2 * quotas.sum():
            rows, hashes = keep_smallest()
    is_chosen[keep_smallest()[0]] = True
    return np.flatnonzero(is_chosen)


def is_first(hashes: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which rows have no equal one before them, `[n]`."""
    order = np.argsort(hashes, kind="stable")
    result = np.ones(len(hashes), dtype=np.bool_)
    for start in range(0, len(hashes), CHUNK_ROWS):
        some = order[start : start + CHUNK_ROWS + 1]
        result[some[1:][hashes[some[1:]] == hashes[some[:-1]]]] = False
    return result


def is_among(hashes: NDArray[np.uint64], some: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which rows are equal to one of some rows, `[n]`; as `np.isin`, with less memory."""
    known = np.unique(some)
    result = np.zeros(len(hashes), dtype=np.bool_)
    for start in range(0, len(hashes) if len(known) else 0, CHUNK_ROWS):
        part = hashes[start : start + CHUNK_ROWS]
        near = known[np.minimum(np.searchsorted(known, part), len(known) - 1)]
        result[start : start + CHUNK_ROWS] = near == part
    return result


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
