"""Trees of labels, whose inner nodes mean 'one of the leaves below'."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from seqssvae.errors import InputError

if TYPE_CHECKING:
    import pyarrow


@dataclasses.dataclass(frozen=True)
class LabelTree:
    """A tree of labels, or several.

    Attributes:
        parents: The parent of each node; None, or no entry, for a root.

    Raises:
        ValueError: a cycle, no edge, or a parent that is no text.
    """

    parents: Mapping[str, str | None]

    def __post_init__(self) -> None:
        if not {str, type(None)} >= set(map(type, self.parents.values())):
            raise ValueError("wanted a tree of labels, got parents that are no texts")
        if all(parent is None for parent in self.parents.values()):
            raise ValueError("wanted a tree of labels, got one without an edge")
        for node in self.parents:
            self.path(node)

    def path(self, node: str) -> list[str]:
        """The nodes from its root to a node."""
        path = dict.fromkeys([node])
        while (parent := self.parents.get(next(reversed(path)))) is not None:
            if parent in path:
                cycle = ", ".join(map(repr, [*path, parent][::-1]))
                raise ValueError(f"wanted a tree of labels, got the cycle {cycle}")
            path[parent] = None
        return list(path)[::-1]

    @functools.cached_property
    def leaves(self) -> tuple[str, ...]:
        """Nodes that are no parent, sorted, K of them."""
        return tuple(sorted(self.parents.keys() - set(self.parents.values())))

    @functools.cached_property
    def below(self) -> dict[str, list[str]]:
        """The leaves of each inner node."""
        below: dict[str, list[str]] = {}
        for leaf in self.leaves:
            for node in self.path(leaf)[:-1]:
                below.setdefault(node, []).append(leaf)
        return below

    def wanted(self, label: str) -> tuple[str, tuple[str, ...]]:
        """What is wanted in place of a label that is no leaf, and the nodes that are."""
        if label in self.below:
            return "a leaf of the label tree", tuple(self.below[label])
        return "a label of the tree", tuple(sorted({*self.leaves, *self.below}))

    @functools.cached_property
    def levels(self) -> list[tuple[list[str], NDArray[np.int64]]]:
        """The levels above the leaves, from the top down, without those of one node.

        Of each the M nodes, and which of them each leaf is below, `[K]`; a leaf that is not as deep
        is a node of all levels below it.
        """
        paths = [self.path(leaf) for leaf in self.leaves]
        found = []
        for depth in range(max(map(len, paths)) - 1):
            of_leaf = [path[min(depth, len(path) - 1)] for path in paths]
            names = sorted(set(of_leaf))
            if len(names) > 1:
                found.append((names, np.array([names.index(node) for node in of_leaf])))
        return found

    def sums(self, table: NDArray[np.float64]) -> list[NDArray[np.float64]]:
        """Probabilities of each level's nodes, `[n, M]`, from those of the leaves, `[n, K]`."""
        found = []
        for names, node_of in self.levels:
            of_nodes = np.zeros((len(names), len(table)))
            np.add.at(of_nodes, node_of, table.T)
            found.append(of_nodes.T)
        return found

    def in_leaves(self, table: "pyarrow.Table", where: Callable[[int], str]) -> Iterator[Any]:
        """Arrow arrays of lists of labels, with the leaves of an inner node in its place.

        Args:
            table: With the columns `label` and `shares`.
            where: `FILE:NUMBER` of a row.

        Raises:
            InputError: a soft label has an inner node.
        """
        import pyarrow
        from pyarrow import compute

        inner, start = pyarrow.array(list(self.below), pyarrow.string()), 0
        label, shares = (table.column(name).chunks for name in ("label", "shares"))
        for chunk, soft in zip(label, shares, strict=True):
            if compute.any(compute.is_in(chunk.flatten(), inner)).as_py():
                lists = chunk.to_pylist()
                for row in np.flatnonzero(soft.is_valid()).tolist():
                    if odd := [name for name in lists[row] if name in self.below]:
                        wanted, of_row = "a soft label of leaves of the tree", where(start + row)
                        raise InputError(f"{of_row}: wanted {wanted}, got {odd[0]!r}")
                chunk = pyarrow.array(map(self._leaves_of, lists), chunk.type)
            yield chunk
            start += len(chunk)

    def _leaves_of(self, names: Iterable[str]) -> list[str]:
        return list(dict.fromkeys(leaf for one in names for leaf in self.below.get(one, [one])))
