"""Which of several paths is taken: by chance and q(y | x), or the best by likelihood and length."""

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from difflib import SequenceMatcher
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seqssvae.data.batches import evaluation_batches
from seqssvae.data.encoded import EncodedRows, offsets_of
from seqssvae.data.vocabulary import EOS
from seqssvae.inference.decode import NUM_ROWS
from seqssvae.inference.predict import classify_table
from seqssvae.model.ssvae import SSVAE
from seqssvae.nn.precision import evaluation_mode
from seqssvae.shapes import wide
from seqssvae.storage.vectors import vectors_like

NUM_SYMBOLS = 2**16  # of a batch whose likelihood is computed
LEAST_VARIETY = 0.5  # of the wanted one: with less, a path is a loop
TINY = 1e-30  # a probability whose logarithm is finite
MAX_TRIES = 16  # of a sequence that q(y | x) finds unlike its class
Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class Like:
    """What rewritten sequences should be like, n of them.

    Attributes:
        lengths: Symbols of each, EOS included, `[n]`.
        variety: See `variety`, `[n]`.
        streams: Numbers of their streams of noise.
        sources: Symbol ids of those of which they should keep something, EOS included, or none.
        keep: Weight of the `kept_share` of the source.
        differ: Whether they should differ from each other.
    """

    lengths: Floats
    variety: Floats
    streams: Sequence[int]
    sources: Sequence[NDArray[np.int32]] = ()
    keep: float = 0.0
    differ: bool = False

    @classmethod
    def of_rows(cls, rows: Sequence[NDArray[np.int32]], keep: float = 0.0) -> Self:
        """Like these rows, with streams that depend on nothing but a row."""
        lengths, varied = np.array([len(row) for row in rows], float), list(map(variety, rows))
        hashes = (hashlib.sha256(row.astype("<i4").tobytes()).digest() for row in rows)
        streams = [int.from_bytes(one[:6], "big") for one in hashes]
        return cls(lengths, np.array(varied), streams, rows if keep else (), keep)

    def line(self, steps: int) -> "Like":
        """Between the first and the last in equal steps, with the streams of the first."""
        lengths, varied = (np.linspace(of[0], of[-1], steps) for of in (self.lengths, self.variety))
        return Like(lengths, varied, [self.streams[0]] * steps, differ=True)


def guided(
    model: SSVAE,
    write: Callable[[Integers, int], list[list[int]]],
    y: Integers,
    guidance: float,
    random: Callable[[int, int], float],
) -> list[list[int]]:
    """Samples of p(x | y) q(y | x)^guidance / Z(y), by rejection from samples of p(x | y).

    A sample is accepted with probability q(y | x)^guidance, else the sequence is written again. Of
    a sequence that was never accepted, the try with the greatest q(y | x) is taken.

    Args:
        model: The model.
        write: Samples of p(x | y) for some of the n rows, whose numbers are given, and a try.
        y: The classes, `[n]`.
        guidance: The power; 0 accepts all.
        random: A uniform number for a row and a try.
    """
    rows, taken = np.arange(len(y)), [list[int]() for _ in range(len(y))]
    best = np.full(len(y), -np.inf)
    for number in range(MAX_TRIES):
        paths = write(rows, number)
        log_q = label_log_prob(model, paths, y[rows])
        uniform = np.array([random(row, number) for row in rows.tolist()])
        is_accepted = np.log(uniform) < guidance * log_q
        for i in np.flatnonzero(is_accepted | (log_q > best[rows])).tolist():
            taken[rows[i]] = paths[i]
        best[rows] = np.maximum(best[rows], log_q)
        rows = rows[~is_accepted]
        if not len(rows):
            break
    return taken


def choose_best(
    model: SSVAE,
    paths: Sequence[list[int]],
    z: Tensor,
    y: Tensor | None,
    each: int,
    like: Like | None = None,
    guidance: float = 0.0,
) -> list[list[int]]:
    """Of the candidates of each of n rows, which follow each other, the one of highest `score`.

    Args:
        model: The model.
        paths: The candidates, n times `each` of them.
        z: Those that they were written from, `[N, Z]`.
        y: As `z`.
        each: Candidates of a row.
        like: What is wanted; the medians of a row's candidates when None.
        guidance: Weight of log q(y | x); not of blended classes.
    """
    if like is None:
        of_each = (np.reshape(list(map(of, paths)), (-1, each)) for of in (_length, variety))
        lengths, varied = (np.median(some, 1) for some in of_each)
        like = Like(lengths, varied, streams=())
    rows = np.arange(len(paths)) // each
    scores = score(model, paths, z, y, like, rows, guidance).reshape(-1, each)
    chosen: list[list[int]] = []
    for row, order in enumerate(np.argsort(-scores, axis=1, kind="stable")):
        candidates = [paths[row * each + number] for number in order]
        new = (path for path in candidates if not like.differ or path not in chosen)
        chosen.append(next(new, candidates[0]))
    return chosen


def score(
    model: SSVAE,
    paths: Sequence[Sequence[int]],
    z: Tensor,
    y: Tensor | None,
    like: Like,
    rows: Integers,
    guidance: float,
) -> Floats:
    """How good paths are, `[N]`.

    log p(x | y, z) / min(T, T') in nats, less |log(T / T')|, with the length T' that is wanted,
    plus guidance log q(y | x), plus `like.keep` times the `kept_share` of the source. A loop, a
    path of far less variety than is wanted, is taken only where all are.

    Args:
        model: The model.
        paths: Symbol ids, without EOS.
        z: `[N, Z]`.
        y: `[N]`, `[N, K]` or None.
        like: What is wanted.
        rows: For each path its row of `like`, `[N]`.
        guidance: Weight of log q(y | x); not of blended classes.
    """
    lengths = np.array(list(map(_length, paths)), float)
    wanted = like.lengths[rows]
    scores: Floats = path_log_prob(model, paths, z, y) / np.minimum(lengths, wanted)
    scores -= abs(np.log(lengths / wanted))
    if guidance and y is not None and y.dim() == 1:
        scores += guidance * label_log_prob(model, paths, y.cpu().numpy())
    if like.sources:
        sources = [source[:-1].tolist() for source in like.sources]
        shares = (kept_share(sources[row], one) for row, one in zip(rows, paths, strict=True))
        scores += like.keep * np.fromiter(shares, float)
    varied = np.array(list(map(variety, paths)))
    scores[varied < LEAST_VARIETY * like.variety[rows]] -= 1e6
    return scores


def _length(path: Sequence[int]) -> int:
    """Symbols of a path and its EOS."""
    return len(path) + 1


def variety(symbols: Sequence[int] | NDArray[np.integer]) -> float:
    """Distinct pairs of neighbours as a share of all pairs; 1 without a pair.

    Example:
        >>> variety([5, 5, 5, 5, 5]), variety([5, 6, 7])
        (0.25, 1.0)
    """
    pairs = list(zip(symbols[:-1], symbols[1:], strict=True))
    return len(set(pairs)) / len(pairs) if pairs else 1.0


def kept_share(before: str | Sequence[object], after: str | Sequence[object]) -> float:
    """2 M / T: M characters or tokens in matching blocks, of T in both (Ratcliff 1988).

    1 for equal sequences, also for two empty ones, and 0 if no symbol is kept.
    """
    return SequenceMatcher(None, before, after, autojunk=False).ratio()


def label_log_prob(model: SSVAE, paths: Sequence[Sequence[int]], y: Integers) -> Floats:
    """log q(y | x) of each path and its class in nats, `[N]`; of no vector, if it reads one."""
    size = 0 if model.vectors is None else model.vectors.size
    none = vectors_like(None, len(paths), size, "written", may_miss=True)
    rows = rows_of(paths).with_vectors(none)
    return np.log(classify_table(model, rows)[np.arange(len(y)), y] + TINY)


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
