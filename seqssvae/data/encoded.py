"""Encoded rows: ids of all rows in one flat array, lean enough for millions of short rows.

The flat array may be mapped from a file. Rows that are taken from others are a view of it: they
cost 8 bytes each, or nothing where they are all but a few, and no symbol is copied.
"""

import functools
from array import array
from collections.abc import Iterator, Mapping, Sequence
from typing import final, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from seqssvae.data.places import AllBut, Places
from seqssvae.data.vocabulary import EOS, UNK

__all__ = ["EncodedRows", "PickedIds", "RowLengths", "RowPacker"]

CHUNK_ROWS = 65_536  # whose symbols are copied at once where all rows are read


@final
class EncodedRows:
    """Rows as ids; n rows with M symbols in all.

    Args:
        symbols: Rows one after the other, int32; each ends with EOS, or was cut.
        offsets: Where each of them begins in `symbols`, and at last the size of it, int64.
        y: The class of each row, -1 for an unlabelled one, integers, `[n]`.
        candidates: Possible classes of the rows that have a partial label; their y is -1.
        ids: Ids of the rows in `symbols`.
        places: Which of the rows in `symbols` these are, `[n]`; all in order when None.

    Attributes:
        y: See above.
        candidates: See above.
    """

    def __init__(
        self,
        symbols: NDArray[np.int32],
        offsets: NDArray[np.int64],
        y: NDArray[np.signedinteger],
        candidates: Mapping[int, tuple[int, ...]],
        ids: Sequence[str],
        *,
        places: Places | None = None,
    ) -> None:
        self._store, self._bounds, self._places = symbols, offsets, places
        self._all_ids = ids
        self.y, self.candidates = y, candidates

    def __len__(self) -> int:
        return len(self._bounds) - 1 if self._places is None else len(self._places)

    @property
    def ids(self) -> Sequence[str]:
        """Ids of the examples, n of them."""
        return self._all_ids if self._places is None else PickedIds(self._all_ids, self._places)

    @property
    def symbols(self) -> NDArray[np.int32]:
        """The rows one after the other, int32, `[M]`; a copy where they are taken from others."""
        if self._places is None:
            return self._store
        starts, lengths = self._spans(np.arange(len(self)))
        offsets = _offsets(lengths)
        # position in the copy + (start here - start in the copy) of its row = position here
        positions = np.repeat(starts - offsets[:-1], lengths)
        positions += np.arange(offsets[-1])
        return self._store[positions]

    @property
    def offsets(self) -> NDArray[np.int64]:
        """Where each row begins in `symbols`, and at last M, int64, `[n + 1]`."""
        return self._bounds if self._places is None else _offsets(self.lengths)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Symbols that each row holds, EOS included, int64, `[n]`."""
        if self._places is None:
            return np.diff(self._bounds)
        return self.lengths_of(np.arange(len(self)))

    @property
    def num_truncated(self) -> int:
        """Rows that were cut, and so have no EOS."""
        return self._counts[0]

    @property
    def num_unknown(self) -> int:
        """Symbols that are UNK."""
        return self._counts[1]

    @functools.cached_property
    def _counts(self) -> tuple[int, int]:
        cut = unknown = 0
        for part in self.parts():
            symbols = part.symbols
            cut += int((symbols[part.offsets[1:] - 1] != EOS).sum())
            unknown += int((symbols == UNK).sum())
        return cut, unknown

    def lengths_of(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Symbols that some rows hold, `[m]`; their numbers from 0, `[m]`."""
        return self._spans(indices)[1]

    def row(self, index: int) -> NDArray[np.int32]:
        """The symbols of one row, EOS included, a view, `[lengths[index]]`.

        Raises:
            IndexError: no such row; negative ones count from the end.
        """
        if not -len(self) <= index < len(self):
            raise IndexError(f"wanted a row below {len(self)}, got {index}")
        place = int(self._where(np.array([index % len(self)]))[0])
        return self._store[self._bounds[place] : self._bounds[place + 1]]

    def padded(self, indices: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows side by side.

        Args:
            indices: Which ones, from 0, `[m]`, at least one.

        Returns:
            Their symbols, PAD behind, int64 `[m, T]`, and their lengths, `[m]`.
        """
        starts, lengths = self._spans(indices)
        time = np.arange(lengths.max())
        inside = time < lengths[:, None]  # [m, T]
        x = np.zeros(inside.shape, dtype=np.int64)  # PAD is 0
        x[inside] = self._store[(starts[:, None] + time)[inside]]
        return x, lengths

    def take(self, indices: ArrayLike) -> "EncodedRows":
        """Some of the rows, in the order of `indices`; no symbols are copied.

        Args:
            indices: Whole numbers, `[m]`; a row may stand in it twice; none gives no rows.

        Raises:
            IndexError: no such row; negative ones count from the end.
        """
        chosen = np.asarray(indices)
        chosen = (
            chosen.nonzero()[0] if chosen.dtype == bool else chosen.astype(np.int64, copy=False)
        )
        if len(chosen) and not -len(self) <= chosen.min() <= chosen.max() < len(self):
            raise IndexError(f"wanted rows below {len(self)}, got {chosen.min()} to {chosen.max()}")
        if len(chosen) and chosen.min() < 0:
            chosen = chosen % len(self)
        return EncodedRows(
            self._store,
            self._bounds,
            self.y[chosen].astype(np.int64, copy=False),
            _picked_candidates(self.candidates, chosen),
            self._all_ids,
            places=self._where(chosen),
        )

    def all_but(self, without: NDArray[np.int64]) -> "EncodedRows":
        """The rows without some, and without their labels; a row that stays costs nothing.

        Args:
            without: Rows that are left out, ascending, none twice.

        Raises:
            ValueError: these rows were taken from others themselves.
        """
        if self._places is not None:
            raise ValueError("wanted all rows of a corpus, got some of them")
        places = AllBut(len(self), without)
        y = np.broadcast_to(np.int64(-1), len(places))
        return EncodedRows(self._store, self._bounds, y, {}, self._all_ids, places=places)

    def slice(self, first: int, after: int) -> "EncodedRows":
        """The rows from `first` on and before `after`, in order."""
        return self.take(np.arange(first, min(after, len(self))))

    def parts(self, size: int = CHUNK_ROWS) -> Iterator["EncodedRows"]:
        """All rows in turn, so many at once, the last part shorter."""
        for first in range(0, len(self), size):
            yield self.slice(first, first + size)

    def with_labels(
        self, y: NDArray[np.signedinteger], candidates: Mapping[int, tuple[int, ...]]
    ) -> "EncodedRows":
        """The same rows with other labels; arguments as of the class."""
        return EncodedRows(
            self._store, self._bounds, y, candidates, self._all_ids, places=self._places
        )

    @classmethod
    def concatenate(cls, parts: Sequence["EncodedRows"]) -> "EncodedRows":
        """The rows of several, one after the other; equal ids stay as they are.

        Symbols are copied unless all parts were taken from the same rows.

        Raises:
            ValueError: there are no parts.
        """
        if not parts:
            raise ValueError("wanted at least one part, got none")
        starts = np.cumsum([0, *map(len, parts)])
        y = np.concatenate([part.y for part in parts])
        candidates = {
            int(start) + index: names
            for start, part in zip(starts, parts, strict=False)
            for index, names in part.candidates.items()
        }
        store, bounds = parts[0]._store, parts[0]._bounds
        if all(part._store is store and part._bounds is bounds for part in parts):
            places = np.concatenate([part._where(np.arange(len(part))) for part in parts])
            return cls(store, bounds, y, candidates, parts[0]._all_ids, places=places)
        lengths = np.concatenate([part.lengths for part in parts])
        symbols = np.concatenate([part.symbols for part in parts])
        ids = tuple(id for part in parts for id in part.ids)
        return cls(symbols, _offsets(lengths), y, candidates, ids)

    def _where(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Which rows of the store some rows are."""
        return indices if self._places is None else self._places[indices]

    def _spans(self, indices: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Where in the store rows begin, and their lengths."""
        places = self._where(indices)
        starts = self._bounds[places]
        return starts, self._bounds[places + 1] - starts


@final
class RowLengths:
    """How many symbols rows hold, looked up when they are asked for.

    Args:
        rows: n of them.
    """

    def __init__(self, rows: EncodedRows) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Of the rows with these numbers, from 0."""
        return self._rows.lengths_of(indices)


@final
class PickedIds(Sequence[str]):
    """Some ids of many, looked up when they are asked for.

    Args:
        source: All ids.
        places: Which of them, `[n]`.
    """

    def __init__(self, source: Sequence[str], places: Places) -> None:
        self.source, self.places = source, places

    def __len__(self) -> int:
        return len(self.places)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        found = range(len(self))[index]
        if isinstance(found, range):
            chosen = np.arange(found.start, found.stop, found.step)
            return PickedIds(self.source, self.places[chosen])
        return self.source[int(self.places[np.array([found])][0])]

    def __iter__(self) -> Iterator[str]:
        for place in self.places:
            yield self.source[int(place)]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]  # as a list's


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
        return EncodedRows(
            np.array(self._symbols, dtype=np.int32),
            np.array(self._offsets, dtype=np.int64),
            np.array(self._y, dtype=np.int64),
            self._candidates,
            tuple(self._ids),
        )


def _picked_candidates(
    candidates: Mapping[int, tuple[int, ...]], chosen: NDArray[np.int64]
) -> dict[int, tuple[int, ...]]:
    """The partial labels of some rows, by their new numbers."""
    if not candidates:
        return {}
    partial = np.fromiter(candidates, np.int64, len(candidates))
    found = np.isin(chosen, partial).nonzero()[0]
    return {int(new): candidates[int(chosen[new])] for new in found}


def _offsets(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets
