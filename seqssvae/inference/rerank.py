"""The best of several paths: by their likelihood and length, and never a loop where others are."""

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seqssvae.data.batches import evaluation_batches
from seqssvae.data.encoded import EncodedRows, offsets_of
from seqssvae.data.vocabulary import EOS
from seqssvae.inference.decode import NUM_ROWS, evaluation_mode
from seqssvae.model.ssvae import SSVAE
from seqssvae.shapes import wide

NUM_SYMBOLS = 2**16  # of a batch whose likelihood is computed
LEAST_VARIETY = 0.5  # of the wanted one: with less, a path is a loop
Floats = NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Like:
    """What rewritten sequences should be like, n of them.

    Attributes:
        lengths: Symbols of each, EOS included, `[n]`.
        variety: See `variety`, `[n]`.
        streams: Numbers of their streams of noise.
        differ: Whether they should differ from each other.
    """

    lengths: Floats
    variety: Floats
    streams: Sequence[int]
    differ: bool = False

    @classmethod
    def of_rows(cls, rows: Sequence[NDArray[np.int32]]) -> Self:
        """Like these rows, with streams that depend on nothing but a row."""
        lengths, varied = np.array([len(row) for row in rows], float), list(map(variety, rows))
        hashes = (hashlib.sha256(row.astype("<i4").tobytes()).digest() for row in rows)
        return cls(lengths, np.array(varied), [int.from_bytes(one[:6], "big") for one in hashes])

    def line(self, steps: int) -> "Like":
        """Between the first and the last in equal steps, with the streams of the first."""
        lengths, varied = (np.linspace(of[0], of[-1], steps) for of in (self.lengths, self.variety))
        return Like(lengths, varied, [self.streams[0]] * steps, differ=True)


def choose_best(
    model: SSVAE,
    paths: Sequence[list[int]],
    z: Tensor,
    y: Tensor | None,
    each: int,
    like: Like | None = None,
) -> list[list[int]]:
    """Of the candidates of each of n rows, which follow each other, the one with the highest score.

    The score is log p(x | y, z) / T in nats per symbol, less |log(T / T')| with the length T' that
    is wanted. A loop, a path of far less variety than is wanted, is taken only where all are.

    Args:
        model: The model.
        paths: The candidates, n times `each` of them.
        z: Those that they were written from, `[N, Z]`.
        y: As `z`.
        each: Candidates of a row.
        like: What is wanted; the medians of a row's candidates when None.
    """
    lengths = np.array([len(path) + 1.0 for path in paths]).reshape(-1, each)
    score = path_log_prob(model, paths, z, y).reshape(-1, each) / lengths
    varied = np.array(list(map(variety, paths))).reshape(-1, each)
    if like is None:
        like = Like(np.median(lengths, 1), np.median(varied, 1), ())
    score -= abs(np.log(lengths / like.lengths[:, None]))
    score[varied < LEAST_VARIETY * like.variety[:, None]] -= 1e6
    chosen: list[list[int]] = []
    for row, order in enumerate(np.argsort(-score, axis=1, kind="stable")):
        candidates = [paths[row * each + number] for number in order]
        new = (path for path in candidates if not like.differ or path not in chosen)
        chosen.append(next(new, candidates[0]))
    return chosen


def variety(symbols: Sequence[int] | NDArray[np.integer]) -> float:
    """Distinct pairs of neighbours as a share of all pairs; 1 without a pair.

    Example:
        >>> variety([5, 5, 5, 5, 5]), variety([5, 6, 7])
        (0.25, 1.0)
    """
    pairs = list(zip(symbols[:-1], symbols[1:], strict=True))
    return len(set(pairs)) / len(pairs) if pairs else 1.0


def path_log_prob(
    model: SSVAE, paths: Sequence[Sequence[int]], z: Tensor, y: Tensor | None
) -> NDArray[np.float64]:
    """log p(x | y, z) of each path and the EOS after it, in nats, `[N]`."""
    rows = rows_of(paths)
    found = np.zeros(len(rows))
    with evaluation_mode(model):
        for indices, batch in evaluation_batches(
            rows, NUM_ROWS, num_classes=model.num_classes, num_symbols=NUM_SYMBOLS
        ):
            batch, some = batch.to(z.device), torch.from_numpy(indices).to(z.device)
            log_prob = model.log_likelihood(
                batch.x, batch.lengths, z[some], None if y is None else y[some]
            )
            found[indices] = wide(log_prob).cpu().numpy()
    return found


def rows_of(paths: Sequence[Sequence[int]]) -> EncodedRows:
    """Paths of symbol ids as rows, each with EOS after it."""
    lengths = np.array([len(path) + 1 for path in paths], np.int64)
    flat = [symbol for path in paths for symbol in (*path, EOS)]
    return EncodedRows(np.array(flat, np.int32), offsets_of(lengths))
