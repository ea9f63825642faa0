"""Batches: rows and their labels, padded to one length."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from seqssvae.data.encoded import EncodedRows
from seqssvae.shapes import check_below, to_device

Indices = npt.NDArray[np.int64]
Weights = float | npt.NDArray[np.floating] | None


@dataclasses.dataclass(frozen=True, eq=False)
class Batch:
    """Rows of symbols and their labels.

    Attributes:
        x: Symbol ids, int64 `[B, T]`, PAD after `lengths`.
        lengths: Number of symbols of a row, EOS included, int64 `[B]`, each from 1 to T; on the
            CPU whatever the device of the others, as for `pack_padded_sequence`.
        y: Classes, int64 `[B]`; -1 for an unlabelled row or a partial label.
        candidates: Which labels are possible, bool `[B, K]`: one for a labelled row, all for an
            unlabelled one, some for a partial label. None unless some row has a partial label.
        w: Weights of L(x, y) and U(x), `[B]`; None is 1 each.
        alpha: Weights of log q(y | x), `[B]`; None is 1 each.
        whole: Symbol ids `[B, T']` and lengths `[B]` (on the CPU) of the whole rows, which n-gram
            features read; None if no row is longer than in `x`.
        counted: Weights with which a row is in the decoder's n-gram counts, `[B, K]` (`[B, 1]`
            without classes), so that it can be left out of them; None: it is not.
        ngram_logits: Logits of y by the n-gram part of q(y | x), where they are known, `[B, K]`;
            None: the model computes them.
        v: Vectors beside the sequences, `[B, D]`, NaN where one is missing; None without vectors.
        evidence: log e(y) of soft labels, `[B, K]`: the log-probability of a label less that of the
            likeliest one, and 0 for a label that is not possible and in other rows; None without
            soft labels.
        votes: Votes of S sources for a label, int64 `[B, S]`, -1 where one is missing; or None.

    Raises:
        ValueError: a wrong shape, lengths on a GPU, or one that is not from 1 to T.

    Example:
        >>> rows = seqssvae.load(run).read(data, labels=True)
        >>> batch = seqssvae.collate(rows, [0, 39], num_classes=2)
        >>> isinstance(batch, seqssvae.Batch), batch.y.tolist()
        (True, [0, 1])
    """

    x: Tensor
    lengths: Tensor
    y: Tensor
    candidates: Tensor | None = None
    w: Tensor | None = None
    alpha: Tensor | None = None
    whole: tuple[Tensor, Tensor] | None = None
    counted: Tensor | None = None
    ngram_logits: Tensor | None = None
    v: Tensor | None = None
    evidence: Tensor | None = None
    votes: Tensor | None = None
    _host: "Batch | None" = dataclasses.field(default=None, repr=False)

    @property
    def host(self) -> "Batch":
        """These rows on the CPU: what shapes depend on is read there, without waiting for a GPU."""
        if self._host is not None or self.y.device.type == "cpu":
            return self._host or self
        return self.to("cpu")

    def __post_init__(self) -> None:
        for x, lengths in filter(None, ((self.x, self.lengths), self.whole)):
            if x.dim() != 2 or not len(x) == len(lengths) == len(self.y):
                shapes = ", ".join(str(list(part.shape)) for part in (x, lengths, self.y))
                raise ValueError(f"batch: wanted x [B, T], lengths [B] and y [B], got {shapes}")
            if lengths.device.type != "cpu":
                raise ValueError(f"batch: wanted lengths on the CPU, got {lengths.device}")
            check_below("lengths", lengths, x.shape[1] + 1, least=1)

    @property
    def num_rows(self) -> int:
        """B."""
        return len(self.y)

    @property
    def is_labelled(self) -> Tensor:
        """Which rows have one label, bool `[B]`."""
        return self.y >= 0

    @property
    def counts(self) -> bool:
        """Whether some row has a weight in the loss."""
        if self._host is not None:
            return self._host.counts
        known = self.is_labelled
        if self.candidates is not None:
            known = known | ~self.candidates.all(1)
        if self.evidence is not None:
            known = known | (self.evidence != 0).any(1)
        if self.votes is not None:
            known = known | (self.votes >= 0).any(1)
        by_bound = bool(self.num_rows) if self.w is None else bool((self.w > 0).any())
        by_label = known if self.alpha is None else known & (self.alpha > 0)
        return by_bound or bool(by_label.any())

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> "Batch":
        """The same rows on another device, copied without waiting until they have arrived.

        Args:
            device: Device of all tensors but lengths.
            dtype: Dtype of the weights; unchanged when None.
        """
        device = torch.device(device)

        def moved(value: Tensor | None) -> Tensor | None:
            return None if value is None else to_device(value, device)

        def cast(value: Tensor | None) -> Tensor | None:
            return moved(value if value is None else value.to(dtype=dtype))

        return Batch(
            x=to_device(self.x, device),
            lengths=self.lengths.cpu(),
            y=to_device(self.y, device),
            candidates=moved(self.candidates),
            w=cast(self.w),
            alpha=cast(self.alpha),
            whole=None if self.whole is None else (to_device(self.whole[0], device), self.whole[1]),
            counted=cast(self.counted),
            ngram_logits=cast(self.ngram_logits),
            v=cast(self.v),
            evidence=cast(self.evidence),
            votes=moved(self.votes),
            _host=None if device.type == "cpu" else self.host,
        )

    def select(self, index: Tensor) -> "Batch":
        """Some rows, padded no further than the longest of them.

        Args:
            index: Which rows, int64 `[M]`, or bool `[B]`; on the CPU.
        """
        if self._host is not None:
            return self._host.select(index).to(self.y.device)
        y, lengths = self.y[index], self.lengths[index]
        candidates = None if self.candidates is None else self.candidates[index]
        if candidates is not None and not bool(((y < 0) & ~candidates.all(-1)).any()):
            candidates = None  # none of these rows has a partial label
        whole = None if self.whole is None else _cut(*(part[index] for part in self.whole))
        if whole is not None and torch.equal(whole[1], lengths):
            whole = None
        return Batch(
            x=_cut(self.x[index], lengths)[0],
            lengths=lengths,
            y=y,
            candidates=candidates,
            w=None if self.w is None else self.w[index],
            alpha=None if self.alpha is None else self.alpha[index],
            whole=whole,
            counted=None if self.counted is None else self.counted[index],
            ngram_logits=None if self.ngram_logits is None else self.ngram_logits[index],
            v=None if self.v is None else self.v[index],
            evidence=None if self.evidence is None else self.evidence[index],
            votes=None if self.votes is None else self.votes[index],
        )

    def possible_labels(self, num_classes: int) -> Tensor:
        """Which labels each row may have, bool `[B, K]`, also where `candidates` is None.

        Raises:
            ValueError: a class is not from -1 to K - 1.
        """
        check_below("classes", self.y, num_classes, least=-1)
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
    columns: Mapping[str, npt.NDArray[np.float32]] | None = None,
) -> Batch:
    """Make a batch of some rows, in the order given.

    Args:
        rows: n rows.
        indices: Row numbers, `[B]`, at least one; repeats are allowed.
        num_classes: K; with 0 the labels are left out.
        w: One weight for all rows, or one for each, `[n]`.
        alpha: As `w`.
        columns: `Batch.counted` and `Batch.ngram_logits` of the chosen rows, `[B, K]`, by name.

    Returns:
        A batch on the CPU, its weights in torch's default dtype.

    Raises:
        ValueError: no index, a row without a symbol, or a label that is not below K.

    Example:
        >>> rows = seqssvae.load(run).read(data)
        >>> seqssvae.collate(rows, range(4), num_classes=2).y.tolist()
        [-1, -1, -1, -1]
    """
    index = np.asarray(indices, dtype=np.int64)
    if index.size == 0:
        raise ValueError("wanted at least one row for a batch, got none")
    x, lengths = rows.padded(index)  # [B, T], [B]
    if lengths.min() < 1:
        row = index[lengths.argmin()]
        raise ValueError(f"row {row}: wanted at least one symbol, EOS included, got none")
    whole = None
    if rows.are_longer(index).any():
        whole_x, whole_lengths = rows.padded(index, whole=True)
        whole = torch.from_numpy(whole_x), torch.from_numpy(whole_lengths)
    y, candidates = _labels(rows, index, num_classes)
    evidence = rows.evidence(index)
    return Batch(
        x=torch.from_numpy(x),
        lengths=torch.from_numpy(lengths),
        y=torch.from_numpy(y),
        candidates=candidates,
        w=_weights(w, index),
        alpha=_weights(alpha, index),
        whole=whole,
        counted=_column(columns, "counted"),
        ngram_logits=_column(columns, "ngram_logits"),
        v=None if (vectors := rows.vectors(index)) is None else torch.from_numpy(vectors),
        evidence=_log(evidence.soft),
        votes=None if evidence.votes is None else torch.from_numpy(evidence.votes.astype(np.int64)),
    )


def _cut(x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Rows padded no further than the longest of them, and their lengths."""
    return x[:, : int(lengths.max()) if len(lengths) else 0], lengths


def _labels(rows: EncodedRows, index: Indices, num_classes: int) -> tuple[Indices, Tensor | None]:
    """Classes `[B]`, and possible labels `[B, K]` if some row has more than one but not all."""
    if num_classes == 0:
        return np.full(len(index), -1), None
    y = rows.y[index].astype(np.int64)
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


def _log(soft: npt.NDArray[np.float32] | None) -> Tensor | None:
    """log e(y) of soft labels, `[B, K]`; 0 for a label that is not possible."""
    if soft is None:
        return None
    value = torch.from_numpy(soft).to(torch.get_default_dtype())
    return value.where(value > 0, 1.0).log()


def _weights(value: Weights, index: Indices) -> Tensor | None:
    if value is None:
        return None
    chosen = np.full(len(index), value) if np.ndim(value) == 0 else np.asarray(value)[index]
    return torch.from_numpy(chosen).to(torch.get_default_dtype())


def concatenate(first: Batch, second: Batch) -> Batch:
    """The rows of two batches, those of the first one first, padded to the longer T."""
    both = (first, second)
    known = second.candidates if first.candidates is None else first.candidates
    whole = None
    if any(batch.whole is not None for batch in both):
        pairs = [batch.whole or (batch.x, batch.lengths) for batch in both]
        whole = _stack([x for x, _ in pairs]), torch.cat([lengths for _, lengths in pairs])
    return Batch(
        x=_stack([batch.x for batch in both]),
        lengths=torch.cat([batch.lengths for batch in both]),
        y=torch.cat([batch.y for batch in both]),
        candidates=None
        if known is None
        else torch.cat([batch.possible_labels(known.shape[-1]) for batch in both]),
        w=_join_weights([(batch.w, batch.num_rows) for batch in both]),
        alpha=_join_weights([(batch.alpha, batch.num_rows) for batch in both]),
        whole=whole,
        counted=_join(first.counted, second.counted),
        ngram_logits=_join(first.ngram_logits, second.ngram_logits),
        v=_join(first.v, second.v),
        evidence=_join(first.evidence, second.evidence),
        votes=_join(first.votes, second.votes),
    )


def _column(columns: Mapping[str, npt.NDArray[np.float32]] | None, name: str) -> Tensor | None:
    return None if not columns or name not in columns else torch.from_numpy(columns[name])


def _join(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    return None if first is None or second is None else torch.cat([first, second])


def _stack(parts: Sequence[Tensor]) -> Tensor:
    """Rows `[B, T]` of several batches, padded to the longest T."""
    longest = max(x.shape[1] for x in parts)
    return torch.cat([torch.nn.functional.pad(x, (0, longest - x.shape[1])) for x in parts])


def _join_weights(parts: Sequence[tuple[Tensor | None, int]]) -> Tensor | None:
    """Weights of several batches, each with its number of rows; None if all are None."""
    known = next((weights for weights, _ in parts if weights is not None), None)
    if known is None:
        return None
    return torch.cat([known.new_ones(num) if one is None else one for one, num in parts])


def evaluation_batches(
    rows: EncodedRows, batch_size: int, *, num_classes: int, num_symbols: int | None = None
) -> Iterator[tuple[Indices, Batch]]:
    """Every row once, rows of similar length together, the last, short batch included.

    Args:
        rows: Rows to evaluate; no rows give no batches.
        batch_size: Rows of a batch, at least 1.
        num_classes: K.
        num_symbols: Limit of B times T of a batch of more than one row; None for no limit.

    Yields:
        Row numbers, `[B]`, and the batch of these rows.
    """
    for indices in evaluation_indices(rows, batch_size, num_symbols=num_symbols):
        yield indices, collate(rows, indices, num_classes=num_classes)


def evaluation_indices(
    rows: EncodedRows, batch_size: int, *, num_symbols: int | None = None
) -> Iterator[Indices]:
    """The row numbers of each batch of `evaluation_batches`, `[B]`."""
    lengths = rows.lengths
    order = np.argsort(lengths, kind="stable")
    start = 0
    while start < len(order):
        indices = order[start : start + batch_size]
        if num_symbols is not None:
            # rows are sorted: the last one is the longest
            area = lengths[indices] * np.arange(1, len(indices) + 1)
            indices = indices[: max(1, int(np.searchsorted(area, num_symbols, side="right")))]
        yield indices
        start += len(indices)
