"""Streams: batch = f(seed, step, rank), for labelled and unlabelled rows, in length buckets.

No order needs to be saved: a run that resumes at step s gets the batches of an uninterrupted one.
"""

import dataclasses
import functools
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from seqssvae.data.batches import Batch, Indices, collate, concatenate
from seqssvae.data.encoded import EncodedRows

BATCHES_PER_WINDOW = 50  # rows are sorted by length within the rows of 50 batches
LENGTH_JITTER = 0.2  # lengths are compared as if up to 20 % longer, so that batches vary
NUM_CACHED = 2  # orders, and windows

Columns = Callable[[Indices], dict[str, npt.NDArray[np.float32]]]  # of some rows


class Stream:
    """The endless sequence of rows that is cut into batches of one size.

    It runs in passes. A pass has each row once, in an order that depends on the seed and the number
    of the pass; a batch may end one pass and begin the next. Within a window of 50 batches, rows of
    similar length share a batch; the batches of a window are in random order.

    With `classes`, a pass has each class equally often instead, and the rows of a class equally
    often in the long run: no row comes twice before every other of its class came once, counted
    over passes. Rows of class -1 (partial labels) come once a pass.

    Args:
        lengths: Number of symbols of each row, `[n]`; n is at least 1.
        size: Rows of a batch, over all ranks.
        seed: Seed of the orders, 0 or more.
        number: Number of the stream, among several with one seed.
        classes: Class of each row, int `[n]`, for balanced passes.
        rank: Share of each batch that `indices` returns.
        world: Number of shares; their rows are disjoint, and sizes differ by one at most. With more
            shares than rows, the last ones are empty.
        batches_per_window: Size of a window.

    Attributes:
        num_rows: Rows of a pass.

    Raises:
        ValueError: no rows.
    """

    def __init__(
        self,
        lengths: npt.ArrayLike,
        size: int,
        *,
        seed: int,
        number: int = 0,
        classes: npt.ArrayLike | None = None,
        rank: int = 0,
        world: int = 1,
        batches_per_window: int = BATCHES_PER_WINDOW,
    ) -> None:
        self.lengths = np.asarray(lengths)
        if not len(self.lengths):
            raise ValueError("wanted a stream of at least one row, got none")
        self.size, self.seed, self.number = size, seed, number
        self.rank, self.world = rank, world
        self._rows_per_window = size * batches_per_window
        self._groups = None if classes is None else _groups(np.asarray(classes))
        self.num_rows = len(self.lengths)
        if self._groups is not None:
            self.num_rows = sum(quota for _, quota in self._groups)
        # kept, since a batch may end one and begin the next
        self._order = functools.lru_cache(NUM_CACHED)(self._make_order)
        self._window = functools.lru_cache(NUM_CACHED)(self._make_window)

    def indices(self, step: int) -> Indices:
        """This rank's rows of a batch, `[size / world]`, rounded up on the first ranks."""
        position, missing = step * self.size, self.size
        pieces = []
        while missing:
            number, offset = divmod(position, self.num_rows)
            piece = self._rows_from(number, offset)[:missing]
            pieces.append(piece)
            position, missing = position + len(piece), missing - len(piece)
        return np.concatenate(pieces)[self.rank :: self.world]

    def _rows_from(self, number: int, offset: int) -> Indices:
        """Rows of a pass from an offset on, at least one of them and at most a window."""
        # between the rows that complete the last pass's batch and those of an incomplete last
        # batch, there are whole batches
        head = min(self.num_rows, -number * self.num_rows % self.size)
        tail = self.num_rows - (self.num_rows - head) % self.size
        order = self._order(number)
        if offset < head:
            return order[offset:head]
        if offset >= tail:
            return order[offset:]
        window, skipped = divmod(offset - head, self._rows_per_window)
        start = head + window * self._rows_per_window
        stop = min(start + self._rows_per_window, tail)
        return self._window(number, window, start, stop)[skipped:]

    def _make_order(self, number: int) -> Indices:
        """All rows of a pass, `[num_rows]`."""
        generator = self._generator(0, number)
        if self._groups is not None:
            drawn = [self._draw(group, *one, number) for group, one in enumerate(self._groups)]
            return generator.permutation(np.concatenate(drawn))
        return generator.permutation(self.num_rows)

    def _make_window(self, number: int, window: int, start: int, stop: int) -> Indices:
        """Whole batches of a pass, from `start` to `stop`, rows of similar length together."""
        rows = self._order(number)[start:stop]
        generator = self._generator(0, number, window)
        jitter = generator.uniform(1, 1 + LENGTH_JITTER, len(rows))
        by_length = rows[np.argsort(self.lengths[rows] * jitter)]
        return generator.permutation(by_length.reshape(-1, self.size)).ravel()

    def _draw(self, group: int, members: Indices, quota: int, number: int) -> Indices:
        """A group's rows of a pass, `[quota]`: the next ones of its own endless permutations."""

        def permuted(number: int) -> Indices:
            return self._generator(group + 1, number).permutation(members)

        first, last = number * quota, (number + 1) * quota
        (begun, skipped), (ended, taken) = divmod(first, len(members)), divmod(last, len(members))
        if begun == ended:
            return permuted(begun)[skipped:taken]
        pieces = []
        if skipped:
            pieces.append(permuted(begun)[skipped:])
            begun += 1
        pieces.append(np.tile(members, ended - begun))  # the pass is shuffled as a whole later
        if taken:
            pieces.append(permuted(ended)[:taken])
        return np.concatenate(pieces)

    def _generator(self, purpose: int, *numbers: int) -> np.random.Generator:
        key = (self.number, purpose, *numbers)
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=key))


def _groups(labels: Indices) -> list[tuple[Indices, int]]:
    """Rows that are drawn equally often, and the number of their draws in a pass."""
    present = np.unique(labels[labels >= 0])
    groups: list[tuple[Indices, int]] = []
    if len(present):
        quota = -(-int((labels >= 0).sum()) // len(present))
        groups = [(np.flatnonzero(labels == y), quota) for y in present]
    others = np.flatnonzero(labels < 0)
    return [*groups, (others, len(others))] if len(others) else groups


class TwoStreams:
    """Batches of labelled and unlabelled rows, each stream in passes of its own.

    If one of the two has no rows, the batches are the other's.

    Args:
        labelled: Rows with a label, or with a partial one.
        unlabelled: Rows without; no row should be in both, or it counts twice.
        sizes: Labelled and unlabelled rows of a step, over all ranks.
        num_classes: K.
        seed: Seed of the orders, 0 or more.
        mode: "both": each step has rows of both streams. "alternate": each step has rows of one, in
            the proportion of their numbers of batches: of every `batches_l + batches_u` steps,
            `batches_l` are labelled, spread evenly, a labelled one first.
        balanced: Draw labelled classes equally often.
        w: Weights of labelled and of unlabelled rows; None is 1 for all.
        alpha: Weight of every row; None is 1.
        columns: Functions that give `collate` columns of some labelled and of some unlabelled rows.
        rank: Share of each batch that `part` returns.
        world: Number of shares.
        parts: Number of parts that a share is cut into. The rows of part p of rank r are those of
            rank `r + p * world` of `parts * world` ranks.

    Raises:
        ValueError: no rows at all, or a labelled row among the unlabelled or the other way round.
    """

    def __init__(
        self,
        labelled: EncodedRows,
        unlabelled: EncodedRows,
        *,
        sizes: tuple[int, int],
        num_classes: int,
        seed: int,
        mode: str = "both",
        balanced: bool = False,
        w: tuple[float, float] | None = None,
        alpha: float | None = None,
        columns: tuple[Columns, Columns] | None = None,
        rank: int = 0,
        world: int = 1,
        parts: int = 1,
    ) -> None:
        _check_kinds(labelled, unlabelled)
        self.mode, self.parts = mode, parts
        self.num_classes, self.alpha = num_classes, alpha

        def source(
            rows: EncodedRows, size: int, number: int, classes: Indices | None
        ) -> _Source | None:
            if not len(rows):
                return None
            order = {"seed": seed, "number": number, "rank": rank, "world": world}
            stream = Stream(rows.lengths, size, classes=classes, **order)
            return _Source(
                rows,
                stream,
                None if w is None else w[number],
                None if columns is None else columns[number],
            )

        self.labelled = source(labelled, sizes[0], 0, labelled.y if balanced else None)
        self.unlabelled = source(unlabelled, sizes[1], 1, None)

    def part(self, step: int, part: int = 0) -> Batch | None:
        """A part of the batch of a step, labelled rows first; None if it has no row.

        Args:
            step: Number of the step, from 0.
            part: Number of the part, from 0.
        """
        batches = [
            collate(
                source.rows,
                indices,
                num_classes=self.num_classes,
                w=source.w,
                alpha=self.alpha,
                columns=None if source.columns is None else source.columns(indices),
            )
            for source, indices in self._shares(step, part)
            if len(indices)
        ]
        if len(batches) == 2:
            return concatenate(*batches)
        return batches[0] if batches else None

    def ids(self, step: int, part: int = 0) -> list[str]:
        """Ids of the rows of `part(step, part)`, in its order."""
        shares = self._shares(step, part)
        return [id for source, indices in shares for id in source.rows.take(indices).ids]

    def num_rows(self, step: int) -> int:
        """Rows of a step, over all ranks."""
        return sum(source.stream.size for source, _ in self._parts(step))

    def _shares(self, step: int, part: int) -> list[tuple["_Source", Indices]]:
        """The row numbers of a part in each stream of a step."""
        return [
            (source, source.stream.indices(number)[part :: self.parts])
            for source, number in self._parts(step)
        ]

    def _parts(self, step: int) -> list[tuple["_Source", int]]:
        """The one or two streams of a step, and the number of each one's batch."""
        labelled, unlabelled = self.labelled, self.unlabelled
        if labelled is None or unlabelled is None:
            source = labelled or unlabelled
            assert source is not None  # _check_kinds refuses no rows
            return [(source, step)]
        if self.mode == "both":
            return [(labelled, step), (unlabelled, step)]
        share, whole = labelled.num_batches, labelled.num_batches + unlabelled.num_batches
        before, after = (-(-number * share // whole) for number in (step, step + 1))
        return [(labelled, before) if after > before else (unlabelled, step - before)]


@dataclasses.dataclass(frozen=True)
class _Source:
    """A stream and its rows."""

    rows: EncodedRows
    stream: Stream
    w: float | None
    columns: Columns | None

    @property
    def num_batches(self) -> int:
        """Batches of a pass, rounded up, so never 0."""
        return -(-self.stream.num_rows // self.stream.size)


def _check_kinds(labelled: EncodedRows, unlabelled: EncodedRows) -> None:
    if not len(labelled) + len(unlabelled):
        raise ValueError("wanted rows to learn from, got none")
    for row in np.flatnonzero(labelled.y < 0).tolist():
        if row not in labelled.candidates:
            raise ValueError(f"labelled row {row}: wanted a label, got none")
    if unlabelled.candidates or (unlabelled.y >= 0).any():
        raise ValueError("unlabelled rows: wanted no labels, got some; such a row counts twice")
