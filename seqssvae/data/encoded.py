"""Encoded rows: the symbol ids of all rows in one flat array, and selections of these rows.

The flat array may be mapped from a file. A selection shares it and costs 4 bytes a row, or 8 beyond
2**31 rows.
"""

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from seqssvae.data.labels import Classes
from seqssvae.data.vocabulary import EOS, UNK
from seqssvae.storage.vectors import Vectors, as_vectors, join_vectors

Integers = NDArray[np.int64]

PART_ROWS = 65_536


class Evidence(NamedTuple):
    """What is known of N rows' labels beside labels and sets of them; None for nothing.

    Attributes:
        soft: e(y) of soft labels, float32 `[N, K]`, see `tables.soft_of`; it is that of rows with a
            set of possible labels.
        votes: Votes, int16 `[N, S]`, -1 for a missing one.
    """

    soft: NDArray[np.float32] | None = None
    votes: NDArray[np.int16] | None = None

    def take(self, index: NDArray[np.signedinteger]) -> "Evidence":
        """That of some rows."""
        return Evidence(*(None if part is None else part[index] for part in self))

    @classmethod
    def concatenate(cls, parts: Sequence["Evidence"], sizes: Sequence[int]) -> "Evidence":
        """Of the rows of several corpora, of so many rows each."""
        joined = []
        for of_parts, nothing in zip(zip(*parts, strict=True), (1, -1), strict=True):
            known = next((part for part in of_parts if part is not None), None)
            filled = [
                np.full((size, *known.shape[1:]), nothing, known.dtype) if part is None else part
                for part, size in zip(of_parts, sizes, strict=True)
                if known is not None
            ]
            joined.append(None if known is None else np.concatenate(filled))
        return cls(*joined)


@final
class EncodedRows:
    """Rows of symbol ids and their labels: n rows, selected from N.

    Rows may be longer than what recurrent networks read of them; n-gram features read all symbols.

    Args:
        symbols: All N rows one after the other, int32; each ends with EOS or was truncated.
        offsets: Start of each of the N rows in `symbols`, then the size of `symbols`, `[N + 1]`.
        y: Class of each row, -1 for an unlabelled one, `[n]`; None for no labels at all.
        candidates: Possible classes of the rows with a partial label, whose y is -1.
        ids: Ids of the N rows, strings or Arrow strings.
        index: Which of the N rows are selected, `[n]`; None for all of them.
        max_length: Symbols that recurrent networks read of a row; all when None.
        vectors: Vectors of the N rows, or None.
        evidence: Of the N rows.

    Attributes:
        candidates: See above.
        max_length: See above.
        index: See above; never None.
    """

    def __init__(
        self,
        symbols: NDArray[np.int32],
        offsets: Integers,
        y: Classes | None = None,
        candidates: Mapping[int, tuple[int, ...]] | None = None,
        ids: Sequence[Any] = (),
        *,
        index: NDArray[np.signedinteger] | None = None,
        max_length: int | None = None,
        vectors: Vectors | None = None,
        evidence: Evidence | None = None,
    ) -> None:
        self._symbols, self._offsets, self._ids = symbols, offsets, ids
        self._vectors, self._evidence = vectors, evidence or Evidence()
        if index is None:
            num_rows = len(offsets) - 1
            index = np.arange(num_rows, dtype=np.int32 if num_rows < 2**31 else np.int64)
        self.index = index
        self._y, self.max_length = y, max_length
        self.candidates = {} if candidates is None else candidates

    def __len__(self) -> int:
        return len(self.index)

    @property
    def y(self) -> Classes:
        """Class of each row, -1 for an unlabelled one, `[n]`."""
        return np.broadcast_to(np.int64(-1), len(self)) if self._y is None else self._y

    @property
    def vector_size(self) -> int:
        """D, 0 without vectors."""
        return 0 if self._vectors is None else self._vectors.size

    def vectors(self, numbers: Integers | None = None) -> NDArray[np.float32] | None:
        """The vectors of some rows, of all when None: `[m, D]`, NaN where one is missing."""
        if self._vectors is None:
            return None
        return self._vectors[self.index if numbers is None else self.index[numbers]]

    def evidence(self, numbers: Integers | None = None) -> Evidence:
        """That of some rows, of all when None."""
        return self._evidence.take(self.index if numbers is None else self.index[numbers])

    @property
    def ids(self) -> list[str]:
        """Ids of the rows."""
        return [str(self._ids[row]) for row in self.index.tolist()]

    @functools.cached_property
    def symbols(self) -> NDArray[np.int32]:
        """The rows one after the other, int32, `[M]`; a copy of a selection."""
        if len(self) == len(self._offsets) - 1 and (np.diff(self.index) == 1).all():
            return self._symbols
        # position in the copy + (start here - start in the copy) of its row = position here
        shift = self._offsets[self.index] - self.offsets[:-1]
        copied: NDArray[np.int32] = self._symbols[
            np.arange(self.offsets[-1]) + np.repeat(shift, np.diff(self.offsets))
        ]
        return copied

    @functools.cached_property
    def offsets(self) -> Integers:
        """Start of each row in `symbols`, then M, int64, `[n + 1]`."""
        return offsets_of(self._whole_lengths(self.index))

    @functools.cached_property
    def lengths(self) -> Integers:
        """Number of symbols of each row that recurrent networks read, int64, `[n]`."""
        return self._read_lengths(self.index)

    @functools.cached_property
    def num_truncated(self) -> int:
        """Number of rows of which recurrent networks do not read all, EOS included."""
        count = 0
        for part in self.parts():
            lasts = self._symbols[self._offsets[part.index + 1] - 1]
            count += int(((lasts != EOS) | part.are_longer(np.arange(len(part)))).sum())
        return count

    @functools.cached_property
    def num_unknown(self) -> int:
        """Number of symbols that are UNK."""
        return sum(int((part.symbols == UNK).sum()) for part in self.parts())

    def row(self, number: int) -> NDArray[np.int32]:
        """The symbols of one row, EOS included, a view, `[lengths[number]]`.

        Raises:
            IndexError: no such row; negative numbers count from the end.
        """
        row = self.index[number]
        return self._symbols[self._offsets[row] : self._offsets[row + 1]]

    def are_longer(self, numbers: Integers) -> NDArray[np.bool_]:
        """Which of some rows have more symbols than recurrent networks read, `[m]`."""
        rows = self.index[numbers]
        return self._whole_lengths(rows) > self._read_lengths(rows)

    def padded(self, numbers: Integers, *, whole: bool = False) -> tuple[Integers, Integers]:
        """Rows padded to one length.

        Args:
            numbers: Which rows, from 0, `[m]`, at least one.
            whole: All symbols, not only those that recurrent networks read.

        Returns:
            Their symbols, int64 `[m, T]`, PAD after the end of a row, and their lengths, `[m]`.
        """
        rows = self.index[numbers]
        starts, lengths = self._offsets[rows], self._read_lengths(rows)
        if whole:
            lengths = self._whole_lengths(rows)
        time = np.arange(lengths.max())
        inside = time < lengths[:, None]  # [m, T]
        x = np.zeros(inside.shape, dtype=np.int64)  # PAD is 0
        x[inside] = self._symbols[(starts[:, None] + time)[inside]]
        return x, lengths

    def take(self, numbers: ArrayLike) -> "EncodedRows":
        """A selection of the rows; no symbols are copied.

        Args:
            numbers: Row numbers in the order wanted, repeats allowed, `[m]`; or a mask, `[n]`.

        Raises:
            IndexError: no such row; negative numbers count from the end.
        """
        chosen = np.asarray(numbers)
        chosen = np.flatnonzero(chosen) if chosen.dtype == bool else chosen.astype(np.int64)
        y = None if self._y is None else self._y[chosen].astype(np.int64)
        index = self.index[chosen]
        candidates: dict[int, tuple[int, ...]] = {}
        if self.candidates:
            partial = np.fromiter(self.candidates, np.int64, len(self.candidates))
            old = chosen % max(len(self), 1)
            candidates = {
                int(new): self.candidates[int(old[new])]
                for new in np.flatnonzero(np.isin(old, partial))
            }
        return self._same_symbols(y, candidates, index)

    def slice(self, start: int, stop: int) -> "EncodedRows":
        """The rows from `start` to `stop` - 1."""
        return self.take(np.arange(start, min(stop, len(self))))

    def parts(self, size: int = PART_ROWS) -> Iterator["EncodedRows"]:
        """All rows in order, `size` at a time, the last part shorter."""
        for start in range(0, len(self), size):
            yield self.slice(start, start + size)

    def with_labels(
        self, y: Classes | None, candidates: Mapping[int, tuple[int, ...]] | None = None
    ) -> "EncodedRows":
        """The same rows with other labels, or with none; arguments as for the class."""
        return self._same_symbols(y, candidates, self.index)

    def with_vectors(self, vectors: Vectors | None) -> "EncodedRows":
        """The same rows with other vectors, those of the N rows, or with none."""
        rows = self._same_symbols(self._y, self.candidates, self.index)
        rows._vectors = vectors
        return rows

    def _same_symbols(
        self,
        y: Classes | None,
        candidates: Mapping[int, tuple[int, ...]] | None,
        index: NDArray[np.signedinteger],
    ) -> "EncodedRows":
        return EncodedRows(
            self._symbols,
            self._offsets,
            y,
            candidates,
            self._ids,
            index=index,
            max_length=self.max_length,
            vectors=self._vectors,
            evidence=self._evidence,
        )

    def _whole_lengths(self, rows: NDArray[np.signedinteger]) -> Integers:
        """Number of symbols of some of the N rows."""
        lengths: Integers = self._offsets[rows + 1] - self._offsets[rows]
        return lengths

    def _read_lengths(self, rows: NDArray[np.signedinteger]) -> Integers:
        """Number of these that recurrent networks read."""
        lengths = self._whole_lengths(rows)
        return lengths if self.max_length is None else np.minimum(lengths, self.max_length)

    @classmethod
    def concatenate(cls, parts: Sequence["EncodedRows"]) -> "EncodedRows":
        """The rows of several selections, one after the other.

        Symbols are copied unless all parts are selections of the same rows.

        Args:
            parts: At least one; all with the same `max_length` and size of vectors.
        """
        starts = np.cumsum([0, *map(len, parts)])
        y = np.concatenate([part.y for part in parts])
        candidates = {
            int(start) + number: classes
            for start, part in zip(starts, parts, strict=False)
            for number, classes in part.candidates.items()
        }
        first = parts[0]
        if all(part._symbols is first._symbols for part in parts):
            return first._same_symbols(
                y, candidates, np.concatenate([part.index for part in parts])
            )
        symbols = np.concatenate([part.symbols for part in parts])
        offsets = offsets_of(np.concatenate([np.diff(part.offsets) for part in parts]))
        ids = [id for part in parts for id in part.ids]
        vectors = join_vectors([(as_vectors(part.vectors()), len(part)) for part in parts])
        evidence = Evidence.concatenate([part.evidence() for part in parts], [*map(len, parts)])
        return cls(
            symbols,
            offsets,
            y,
            candidates,
            ids,
            max_length=first.max_length,
            vectors=vectors,
            evidence=evidence,
        )


def offsets_of(lengths: Integers) -> Integers:
    """Starts of adjacent rows of these lengths, and the end of the last, `[n + 1]`."""
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
