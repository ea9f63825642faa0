"""Batches: what a step of training sees is a function of (seed, step, rank) alone.

No order is stored and none is lost: a run that goes on at step s sees what an unbroken one sees.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from seqssvae.corpora import EncodedRows

__all__ = ["Batch", "Stream", "TwoStreams", "collate", "concatenate", "evaluation_batches"]

Indices = npt.NDArray[np.int64]
Weights = float | npt.NDArray[np.floating] | None

BATCHES_PER_WINDOW = 50  # rows are sorted by length among so many batches
LENGTH_JITTER = 0.2  # lengths are compared as if up to 20 % longer, so that batches vary
ORDERS_KEPT = 2  # a batch may end one pass and begin the next


@dataclasses.dataclass(frozen=True, eq=False)
class Batch:
    """Rows of symbols with what is known about their labels.

    Attributes:
        x: Symbol ids, int64 `[B, T]`, PAD after `lengths`.
        lengths: Symbols that a row holds, EOS included, int64 `[B]`, each from 1 to T.
        y: Classes, int64 `[B]`; -1 where the label is not known, or not known for sure.
        candidates: Which labels are possible, bool `[B, K]`: one for a labelled row, all for an
            unlabelled one, some for a partial label. None unless some row has a partial label.
        w: Weights of L(x, y) and U(x), `[B]`; None is 1 each.
        alpha: Weights of log q(y | x), `[B]`; None is 1 each.
    """

    x: Tensor
    lengths: Tensor
    y: Tensor
    candidates: Tensor | None = None
    w: Tensor | None = None
    alpha: Tensor | None = None

    @property
    def num_rows(self) -> int:
        """B."""
        return len(self.y)

    @property
    def is_labelled(self) -> Tensor:
        """Which rows have one known label, bool `[B]`."""
        return self.y >= 0

    @property
    def counts(self) -> bool:
        """Whether some row has a weight in the loss."""
        known = self.is_labelled
        if self.candidates is not None:
            known = known | ~self.candidates.all(1)
        by_bound = bool(self.num_rows) if self.w is None else bool((self.w > 0).any())
        by_label = known if self.alpha is None else known & (self.alpha > 0)
        return by_bound or bool(by_label.any())

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> "Batch":
        """The same rows elsewhere.

        Args:
            device: Of all tensors.
            dtype: Of `w` and `alpha`; as it is when None.
        """

        def moved(value: Tensor | None) -> Tensor | None:
            return None if value is None else value.to(device=device, dtype=dtype)

        return Batch(
            x=self.x.to(device),
            lengths=self.lengths.to(device),
            y=self.y.to(device),
            candidates=None if self.candidates is None else self.candidates.to(device),
            w=moved(self.w),
            alpha=moved(self.alpha),
        )

    def select(self, index: Tensor) -> "Batch":
        """Some rows, padded no further than the longest of them.

        Args:
            index: Which rows, int64 `[M]`, or bool `[B]`.
        """
        y, lengths = self.y[index], self.lengths[index]
        longest = int(lengths.max()) if len(lengths) else 0
        candidates = None if self.candidates is None else self.candidates[index]
        if candidates is not None and not bool(((y < 0) & ~candidates.all(-1)).any()):
            candidates = None  # no row with a partial label is left
        return Batch(
            x=self.x[index][:, :longest],
            lengths=lengths,
            y=y,
            candidates=candidates,
            w=None if self.w is None else self.w[index],
            alpha=None if self.alpha is None else self.alpha[index],
        )

    def possible_labels(self, num_classes: int) -> Tensor:
        """Which labels each row may have, bool `[B, K]`, whether or not `candidates` is there."""
        if self.candidates is not None:
            return self.candidates
        y = self.y.unsqueeze(-1)
        return (y == torch.arange(num_classes, device=y.device)) | (y < 0)


def collate(
    rows: EncodedRows,
    indices: Indices | Sequence[int],
    *,
    num_classes: int,
    w: Weights = None,
    alpha: Weights = None,
) -> Batch:
    """Make a batch of some rows, in the order given.

    Args:
        rows: Where they are taken from.
        indices: Which ones, `[B]`, at least one; repeats are fine.
        num_classes: K; with 0 the labels are left out.
        w: One weight for all, or one for each row of `rows`, `[len(rows)]`.
        alpha: As `w`.

    Returns:
        A batch on the CPU, its weights in torch's default dtype.

    Raises:
        ValueError: no index, a row that holds no symbol, or a label that is no class.
    """
    index = np.asarray(indices, dtype=np.int64)
    if index.size == 0:
        raise ValueError("wanted at least one row for a batch, got none")
    starts = rows.offsets[index]
    lengths = rows.offsets[index + 1] - starts
    if lengths.min() < 1:
        row = index[lengths.argmin()]
        raise ValueError(f"row {row}: wanted at least one symbol, EOS included, got none")
    time = np.arange(lengths.max())
    inside = time < lengths[:, None]  # [B, T]
    x = np.zeros(inside.shape, dtype=np.int64)  # PAD is 0
    x[inside] = rows.symbols[(starts[:, None] + time)[inside]]
    y, candidates = _labels(rows, index, num_classes)
    return Batch(
        x=torch.from_numpy(x),
        lengths=torch.from_numpy(lengths),
        y=torch.from_numpy(y),
        candidates=candidates,
        w=_weights(w, index),
        alpha=_weights(alpha, index),
    )


def _labels(rows: EncodedRows, index: Indices, num_classes: int) -> tuple[Indices, Tensor | None]:
    """Classes `[B]`, and possible labels `[B, K]` if some row has more than one but not all."""
    if num_classes == 0:
        return np.full(len(index), -1), None
    y = rows.y[index]
    sets = {
        position: sorted(set(rows.candidates[row]))
        for position, row in (enumerate(index.tolist()) if rows.candidates else ())
        if row in rows.candidates
    }
    greatest = max([int(y.max()), *(possible[-1] for possible in sets.values())])
    if greatest >= num_classes:
        raise ValueError(f"labels: wanted classes below {num_classes}, got {greatest}")
    for position, possible in sets.items():
        y[position] = possible[0] if len(possible) == 1 else -1
    if not any(1 < len(possible) < num_classes for possible in sets.values()):
        return y, None
    table = (y[:, None] == np.arange(num_classes)) | (y[:, None] < 0)
    for position, possible in sets.items():
        table[position] = False
        table[position, possible] = True
    return y, torch.from_numpy(table)


def _weights(value: Weights, index: Indices) -> Tensor | None:
    if value is None:
        return None
    chosen = np.full(len(index), value) if np.ndim(value) == 0 else np.asarray(value)[index]
    return torch.from_numpy(chosen).to(torch.get_default_dtype())


def concatenate(first: Batch, second: Batch) -> Batch:
    """The rows of two batches, those of the first one first, padded to the longer T."""
    longest = max(first.x.shape[1], second.x.shape[1])
    candidates: Tensor | None = None
    known = second.candidates if first.candidates is None else first.candidates
    if known is not None:
        tables = [batch.possible_labels(known.shape[-1]) for batch in (first, second)]
        candidates = torch.cat(tables)
    x = [torch.nn.functional.pad(b.x, (0, longest - b.x.shape[1])) for b in (first, second)]
    return Batch(
        x=torch.cat(x),
        lengths=torch.cat([first.lengths, second.lengths]),
        y=torch.cat([first.y, second.y]),
        candidates=candidates,
        w=_join_weights(first.w, second.w, first.num_rows, second.num_rows),
        alpha=_join_weights(first.alpha, second.alpha, first.num_rows, second.num_rows),
    )


def _join_weights(
    first: Tensor | None, second: Tensor | None, num_first: int, num_second: int
) -> Tensor | None:
    known = second if first is None else first
    if known is None:
        return None
    first = known.new_ones(num_first) if first is None else first
    second = known.new_ones(num_second) if second is None else second
    return torch.cat([first, second])


class Stream:
    """The endless sequence of rows that is cut into batches of one size.

    It runs in passes. A pass holds each row once, in an order that the seed and the number of the
    pass decide; a batch may end one pass and begin the next. Within a window of 50 batches, rows of
    similar length share a batch; the batches then stand in random order.

    With `classes`, a pass holds each class equally often instead, and the rows of a class equally
    often in the long run: no row comes twice before every other of its class came once, counted
    over passes. Rows of class -1 (partial labels) come once a pass.

    Nothing is computed before the first batch; then each pass costs one sort.

    Args:
        lengths: Symbols of each row, `[n]`; n is at least 1.
        size: Rows of a batch, counted over all ranks.
        seed: 0 or more.
        number: Tells streams of one seed apart.
        classes: The class of each row, int `[n]`, for balanced passes.
        rank: Which share of each batch is wanted.
        world: How many shares there are; their rows are disjoint, and sizes differ by one at most.

    Attributes:
        num_rows: Rows of a pass.

    Raises:
        ValueError: no rows, a size below `world`, a rank out of range, a negative seed.
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
    ) -> None:
        self.lengths = np.asarray(lengths)
        if not len(self.lengths):
            raise ValueError("wanted a stream of at least one row, got none")
        if not 0 <= rank < world:
            raise ValueError(f"rank: wanted 0 to {world - 1}, got {rank}")
        if size < world:
            raise ValueError(f"size: wanted a row for each of {world} ranks, got {size}")
        if seed < 0:
            raise ValueError(f"seed: wanted 0 or more, got {seed}")
        self.size, self.seed, self.number = size, seed, number
        self.rank, self.world = rank, world
        self._groups = _groups(len(self.lengths), classes)
        self.num_rows = sum(quota for _, quota in self._groups)
        self._orders: dict[int, Indices] = {}

    def indices(self, step: int) -> Indices:
        """This rank's rows of a batch, `[size / world]`, rounded up on the first ranks."""
        position, missing = step * self.size, self.size
        pieces = []
        while missing:
            number, offset = divmod(position, self.num_rows)
            piece = self._order(number)[offset : offset + missing]
            pieces.append(piece)
            position, missing = position + len(piece), missing - len(piece)
        return np.concatenate(pieces)[self.rank :: self.world]

    def _order(self, number: int) -> Indices:
        """The rows of a pass in order, `[num_rows]`; the last few passes are kept."""
        if number not in self._orders:
            while len(self._orders) >= ORDERS_KEPT:
                del self._orders[next(iter(self._orders))]
            self._orders[number] = self._make_order(number)
        return self._orders[number]

    def _make_order(self, number: int) -> Indices:
        drawn = [self._draw(group, number) for group in range(len(self._groups))]
        generator = self._generator(0, number)
        order = generator.permutation(np.concatenate(drawn))
        # the rows that complete the batch which the last pass began, and those of a last,
        # incomplete batch, stay apart; between them are whole batches
        head = min(len(order), -number * self.num_rows % self.size)
        tail = len(order) - (len(order) - head) % self.size
        middle = order[head:tail]
        jitter = generator.uniform(1, 1 + LENGTH_JITTER, len(middle))
        window = np.arange(len(middle)) // (self.size * BATCHES_PER_WINDOW)
        middle = middle[np.lexsort((self.lengths[middle] * jitter, window))]
        batches = generator.permutation(middle.reshape(-1, self.size))
        return np.concatenate([order[:head], batches.ravel(), order[tail:]])

    def _draw(self, group: int, number: int) -> Indices:
        """A group's rows of a pass, `[quota]`: the next ones of its own endless permutations."""
        members, quota = self._groups[group]
        first, last = number * quota, (number + 1) * quota
        (begun, skipped), (ended, taken) = divmod(first, len(members)), divmod(last, len(members))
        if begun == ended:
            return self._permuted(group, begun)[skipped:taken]
        pieces = []
        if skipped:
            pieces.append(self._permuted(group, begun)[skipped:])
            begun += 1
        pieces.append(np.tile(members, ended - begun))  # the pass is shuffled as a whole later
        if taken:
            pieces.append(self._permuted(group, ended)[:taken])
        return np.concatenate(pieces)

    def _permuted(self, group: int, number: int) -> Indices:
        return self._generator(group + 1, number).permutation(self._groups[group][0])

    def _generator(self, purpose: int, number: int) -> np.random.Generator:
        key = (self.number, purpose, number)
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=key))


def _groups(num_rows: int, classes: npt.ArrayLike | None) -> list[tuple[Indices, int]]:
    """Rows that are drawn equally often, and how many of their draws a pass holds."""
    if classes is None:
        return [(np.arange(num_rows), num_rows)]
    labels = np.asarray(classes)
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
        sizes: Labelled and unlabelled rows of a step, counted over all ranks.
        num_classes: K.
        seed: 0 or more.
        mode: "both": each step has rows of both streams. "alternate": each step has rows of one,
            in the proportion of their numbers of batches, which is fixed: in every
            `batches_l + batches_u` steps there are `batches_l` labelled ones, spread evenly, the
            first of them first.
        balanced: Draw labelled classes equally often.
        w: Of labelled and of unlabelled rows; None is 1 for all.
        alpha: Of every row; None is 1.
        rank: Which share of each batch is wanted.
        world: How many shares there are.

    Raises:
        ValueError: no rows at all, a labelled row among the unlabelled or the other way round, an
            unknown mode, or what `Stream` refuses.
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
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if mode not in ("both", "alternate"):
            raise ValueError(f"mode: wanted both or alternate, got {mode}")
        _check_kinds(labelled, unlabelled)
        self.mode = mode

        def source(
            rows: EncodedRows, size: int, number: int, classes: Indices | None
        ) -> _Source | None:
            if not len(rows):
                return None
            stream = Stream(
                rows.lengths,
                size,
                seed=seed,
                number=number,
                classes=classes,
                rank=rank,
                world=world,
            )
            return _Source(rows, stream, num_classes, None if w is None else w[number], alpha)

        self.labelled = source(labelled, sizes[0], 0, labelled.y if balanced else None)
        self.unlabelled = source(unlabelled, sizes[1], 1, None)

    def batch(self, step: int) -> Batch:
        """The batch of a step, labelled rows first; steps are counted from 0."""
        labelled, unlabelled = self.labelled, self.unlabelled
        if labelled is None or unlabelled is None:
            source = labelled or unlabelled
            assert source is not None  # _check_kinds saw rows
            return source.batch(step)
        if self.mode == "both":
            return concatenate(labelled.batch(step), unlabelled.batch(step))
        share, whole = labelled.num_batches, labelled.num_batches + unlabelled.num_batches
        before, after = (-(-number * share // whole) for number in (step, step + 1))
        return labelled.batch(before) if after > before else unlabelled.batch(step - before)


@dataclasses.dataclass(frozen=True)
class _Source:
    """One stream and the rows it counts."""

    rows: EncodedRows
    stream: Stream
    num_classes: int
    w: float | None
    alpha: float | None

    @property
    def num_batches(self) -> int:
        """Batches of a pass, rounded up, so never 0."""
        return -(-self.stream.num_rows // self.stream.size)

    def batch(self, step: int) -> Batch:
        return collate(
            self.rows,
            self.stream.indices(step),
            num_classes=self.num_classes,
            w=self.w,
            alpha=self.alpha,
        )


def _check_kinds(labelled: EncodedRows, unlabelled: EncodedRows) -> None:
    if not len(labelled) + len(unlabelled):
        raise ValueError("wanted rows to learn from, got none")
    for row in np.flatnonzero(labelled.y < 0).tolist():
        if row not in labelled.candidates:
            raise ValueError(f"labelled row {row}: wanted a label, got none")
    if unlabelled.candidates or (unlabelled.y >= 0).any():
        raise ValueError("unlabelled rows: wanted no labels, got some; such a row counts twice")


def evaluation_batches(
    rows: EncodedRows, batch_size: int, *, num_classes: int
) -> Iterator[tuple[Indices, Batch]]:
    """Every row once, rows of similar length together, the last, short batch included.

    Args:
        rows: What is evaluated; no rows give no batches.
        batch_size: Rows of a batch, at least 1.
        num_classes: K.

    Yields:
        Which rows, `[B]`, and the batch of them.
    """
    order = np.argsort(rows.lengths, kind="stable")
    for start in range(0, len(order), batch_size):
        indices = order[start : start + batch_size]
        yield indices, collate(rows, indices, num_classes=num_classes)
