"""Encoded rows: ids of all rows in one flat array, lean enough for millions of short rows."""

import dataclasses
from array import array
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from seqssvae.vocabulary import EOS, UNK

__all__ = ["EncodedRows", "RowPacker"]


@dataclasses.dataclass(frozen=True, eq=False)
class EncodedRows:
    """Rows as ids; n rows with M symbols in all.

    Attributes:
        symbols: The rows one after the other, int32, `[M]`; each ends with EOS, or was cut.
        offsets: Where each row begins in `symbols`, and at last M, int64, `[n + 1]`.
        y: The class of each row, -1 for an unlabelled one, int64, `[n]`.
        candidates: Possible classes of the rows that have a partial label; their y is -1.
        ids: Ids of the examples, n of them.
        num_truncated: Rows that were cut, and so have no EOS.
        num_unknown: Symbols that are UNK.
    """

    symbols: NDArray[np.int32]
    offsets: NDArray[np.int64]
    y: NDArray[np.int64]
    candidates: Mapping[int, tuple[int, ...]]
    ids: Sequence[str]
    num_truncated: int = 0
    num_unknown: int = 0

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Symbols that each row holds, EOS included, int64, `[n]`."""
        return np.diff(self.offsets)

    def row(self, index: int) -> NDArray[np.int32]:
        """The symbols of one row, EOS included, a view, `[lengths[index]]`.

        Raises:
            IndexError: no such row; negative ones count from the end.
        """
        if not -len(self) <= index < len(self):
            raise IndexError(f"wanted a row below {len(self)}, got {index}")
        index %= len(self)
        return self.symbols[self.offsets[index] : self.offsets[index + 1]]

    def take(self, indices: ArrayLike) -> "EncodedRows":
        """Some of the rows, in the order of `indices`, counted anew.

        Args:
            indices: Whole numbers, `[m]`; a row may stand in it twice; none gives no rows.

        Raises:
            IndexError: no such row; negative ones count from the end.
        """
        chosen = np.asarray(indices)
        if chosen.dtype == bool:
            chosen = chosen.nonzero()[0]
        chosen = np.arange(len(self))[chosen.astype(np.int64)]
        lengths = self.lengths[chosen]
        offsets = np.zeros(len(chosen) + 1, dtype=np.int64)
        np.cumsum(lengths, out=offsets[1:])
        # position in the new array + (old start - new start) of its row = position in the old one
        places = np.repeat(self.offsets[chosen] - offsets[:-1], lengths)
        places += np.arange(offsets[-1])
        order = chosen.tolist()
        return _counted(
            self.symbols[places],
            offsets,
            self.y[chosen],
            {new: self.candidates[old] for new, old in enumerate(order) if old in self.candidates},
            tuple(self.ids[old] for old in order),
        )

    @classmethod
    def concatenate(cls, parts: Sequence["EncodedRows"]) -> "EncodedRows":
        """The rows of several, one after the other; equal ids stay as they are.

        Raises:
            ValueError: there are no parts.
        """
        if not parts:
            raise ValueError("wanted at least one part, got none")
        starts = np.cumsum([0, *map(len, parts)])
        lengths = np.concatenate([part.lengths for part in parts])
        return cls(
            symbols=np.concatenate([part.symbols for part in parts]),
            offsets=np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)]),
            y=np.concatenate([part.y for part in parts]),
            candidates={
                int(start) + index: names
                for start, part in zip(starts, parts, strict=False)
                for index, names in part.candidates.items()
            },
            ids=tuple(id for part in parts for id in part.ids),
            num_truncated=sum(part.num_truncated for part in parts),
            num_unknown=sum(part.num_unknown for part in parts),
        )


class RowPacker:
    """Packs rows as they come.

    Args:
        max_length: Symbols that a row may hold, EOS included; a longer row is cut, and then has no
            EOS, for it did not end there.

    Raises:
        ValueError: `max_length` is below 1.
    """

    def __init__(self, max_length: int) -> None:
        if max_length < 1:
            raise ValueError(f"max_length: wanted at least 1, got {max_length}")
        self.max_length = max_length
        self._symbols, self._offsets, self._y = array("i"), array("q", [0]), array("q")
        self._candidates: dict[int, tuple[int, ...]] = {}
        self._ids: list[str] = []

    def add(self, symbols: list[int], y: int, candidates: tuple[int, ...], id: str) -> None:
        """Add a row: its symbols without EOS, y or -1, its possible classes or (), its id."""
        if candidates:
            self._candidates[len(self._ids)] = candidates
        if len(symbols) < self.max_length:
            self._symbols.extend(symbols)
            self._symbols.append(EOS)
        else:
            self._symbols.extend(symbols[: self.max_length])
        self._offsets.append(len(self._symbols))
        self._y.append(y)
        self._ids.append(id)

    def rows(self) -> EncodedRows:
        """All rows that were added."""
        return _counted(
            np.array(self._symbols, dtype=np.int32),
            np.array(self._offsets, dtype=np.int64),
            np.array(self._y, dtype=np.int64),
            self._candidates,
            tuple(self._ids),
        )


def _counted(
    symbols: NDArray[np.int32],
    offsets: NDArray[np.int64],
    y: NDArray[np.int64],
    candidates: Mapping[int, tuple[int, ...]],
    ids: Sequence[str],
) -> EncodedRows:
    """Rows with their numbers of cut rows and of unknown symbols."""
    ended = symbols[offsets[1:] - 1] == EOS
    return EncodedRows(
        symbols=symbols,
        offsets=offsets,
        y=y,
        candidates=candidates,
        ids=ids,
        num_truncated=int((~ended).sum()),
        num_unknown=int((symbols == UNK).sum()),
    )
