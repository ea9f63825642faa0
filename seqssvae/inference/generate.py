"""New sequences: from the prior or near a sequence, under another label, between two sequences."""

import itertools
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seqssvae import progress
from seqssvae.data.batches import Batch, collate, evaluation_batches
from seqssvae.data.encoded import EncodedRows
from seqssvae.data.labels import Labels
from seqssvae.data.vocabulary import UNK, Vocabulary
from seqssvae.errors import InputError, check_whole
from seqssvae.inference.decode import GENERATED
from seqssvae.inference.latent import relative_z
from seqssvae.inference.writing.edits import edit
from seqssvae.inference.writing.noise import standard_normal
from seqssvae.inference.writing.options import Decoding, check_weight
from seqssvae.inference.writing.rerank import Like, choose_best, guided
from seqssvae.model.ssvae import SSVAE
from seqssvae.nn.precision import evaluation_mode

logger = logging.getLogger(__name__)

MAX_SEQUENCES = 10_000_000  # that are generated in a call
CHUNK_ROWS = 4096  # that are decoded between two of `unique`'s comparisons
FURTHER_TRY = 2**44  # from the stream of a sequence to that of its next try


def classes_of(
    labels: Labels, label: str | Mapping[str, float] | None
) -> int | NDArray[np.float64] | NDArray[np.int64] | None:
    """A class, weights of all classes, `[K]`, to blend them, or classes to draw from."""
    if not isinstance(label, Mapping):
        fits = labels.fitting(label)
        return fits[0] if fits and len(fits) == 1 else fits if fits is None else np.array(fits)
    weights = np.zeros(len(labels.names))
    for name, weight in label.items():
        weights[labels.of_argument(name)] = weight
    if not (weights.min(initial=0) >= 0 and 0 < weights.sum() < np.inf):
        raise InputError(f"label: wanted weights of 0 or more, not all 0, got {dict(label)}")
    return np.asarray(weights / weights.sum())


def generate(
    model: SSVAE,
    vocabulary: Vocabulary,
    n: int,
    y: int | NDArray[np.floating | np.integer] | None,
    decoding: Decoding,
    *,
    near: tuple[NDArray[np.floating], float] | None = None,
    unique: bool = False,
) -> Iterator[tuple[str | list[str], int | None]]:
    """New sequences, each from its own z, which depends on the seed and its number alone.

    Args:
        model: The model.
        vocabulary: Its symbols.
        n: Number of sequences.
        y: The class; weights of all classes, `[K]`; classes of which each sequence has one, by
            their prior; or None.
        decoding: How they are written.
        near: loc `[Z]` of `place_of` and a radius: in units of the prior, z is drawn from
            N(loc, radius^2 I); from the prior if None.
        unique: Leave out sequences that came before; fewer than n once no others come.

    Yields:
        A sequence, and its class; None of weights, or without classes.

    Raises:
        InputError: a number out of range.
    """
    check_whole("n", n, 0, MAX_SEQUENCES)
    if near is not None:
        check_weight("radius", near[1])
    each, seen = decoding.num_candidates, set[object]()
    size = max(1, CHUNK_ROWS // each)
    with progress.task(GENERATED, n * each):  # `decode` counts them
        for start in range(0, sys.maxsize if unique else n, size):
            stop = start + size if unique else min(start + size, n)
            of_each, of_new = y, itertools.repeat(None if isinstance(y, np.ndarray) else y)
            if isinstance(y, np.ndarray) and y.dtype.kind == "i":
                drawn = np.random.default_rng([decoding.seed]).random(stop)[start:]
                prior = model.prior_logits.exp().cpu().double().numpy()[y].cumsum()
                of_new = y[np.searchsorted(prior, drawn * prior[-1], side="right")]
                of_each = of_new.repeat(each)
            classes = _classes(model, of_each, (stop - start) * each)
            paths = _sampled(model, range(start * each, stop * each), classes, decoding, near)
            new = list(zip(map(vocabulary.decode, paths), of_new, strict=False))
            if unique:
                by_key = {str(one): (one, of) for one, of in new if str(one) not in seen}
                new = list(by_key.values())[: n - len(seen)]
                seen.update(str(one) for one, _ in new)
            yield from new
            if unique and (len(seen) == n or not new):
                break
    if unique and len(seen) < n:
        logger.warning(
            "wanted %d different sequences, got %d: the next %d were among them", n, len(seen), size
        )


def _sampled(
    model: SSVAE,
    streams: Sequence[int],
    y: Tensor | None,
    decoding: Decoding,
    near: tuple[NDArray[np.floating], float] | None,
) -> list[list[int]]:
    """Sequences by streams, each from its own z; of `best_of`, the best one of these that follow.

    y is as of `_classes`, the others as of `generate`.
    """

    def write(streams: Sequence[int], y: Tensor | None) -> tuple[list[list[int]], Tensor]:
        drawn = standard_normal(decoding.seed, streams, model.latent_size)
        z = torch.from_numpy(drawn if near is None else near[0] + near[1] * drawn)
        z = model.z_prior.place(z.to(model.prior_logits), y)
        return decoding.write(model, z, y, streams), z

    each = decoding.num_candidates
    if each > 1:
        paths, z = write(streams, y)
        return choose_best(model, paths, z, y, each, guidance=decoding.guidance)
    if decoding.strategy != "sample" or y is None or y.dim() > 1 or not decoding.guidance:
        return write(streams, y)[0]

    def write_again(rows: NDArray[np.int64], number: int) -> list[list[int]]:
        if number:
            with progress.task(GENERATED) as task:
                task.advance(-len(rows))  # they were counted when they were first written
        again = [streams[row] + number * FURTHER_TRY for row in rows.tolist()]
        return write(again, y[rows])[0]

    def uniform(row: int, number: int) -> float:
        stream = streams[row] + number * FURTHER_TRY
        return float(np.random.default_rng([decoding.seed, stream, 1]).random())

    return guided(model, write_again, y.cpu().numpy(), decoding.guidance, uniform)


def place_of(model: SSVAE, row: EncodedRows) -> tuple[NDArray[np.floating], int | None]:
    """`relative_z` of one row: z, `[Z]`, and the likeliest class."""
    loc, y = relative_z(model, collate(row, [0], num_classes=model.num_classes))
    return loc[0].cpu().numpy(), None if y is None else int(y)


def transfer(
    model: SSVAE,
    rows: EncodedRows,
    decoding: Decoding,
    *,
    to: int | Sequence[int],
    keep: float = 0.0,
    batch_size: int = 256,
) -> list[list[int]]:
    """Rewrite each sequence under another label: the same z, another y.

    z is the mean of q(z | x, y) at the likeliest y, not at the new one; where classes have priors
    p(z | y) of their own, it has the same place in the new label's. What is written depends on the
    row and the seed alone.

    Args:
        model: The model.
        rows: The rows; their own labels are not read.
        decoding: How they are written.
        to: The new class, or several, of which a row gets its likeliest by q(y | x).
        keep: See `Transfer`; a greedy path and one of a beam are not edited.
        batch_size: Rows that are encoded at once.

    Returns:
        Ids of each row, without EOS.

    Raises:
        InputError: the model has no such class.
    """
    check_weight("keep", keep)
    among = _check_classes(model, to)
    written: list[list[int]] = [[] for _ in range(len(rows))]
    with progress.task(GENERATED, len(rows) * decoding.num_candidates):
        for indices, batch in evaluation_batches(rows, batch_size, num_classes=model.num_classes):
            (loc, _), y = relative_z(model, batch), _likeliest(model, batch, among)
            like = Like.of_rows([rows.row(int(i)) for i in indices], keep)
            write = _edit if like.sources and decoding.strategy == "sample" else _rewrite
            for index, ids in zip(indices, write(model, loc, y, decoding, like), strict=True):
                written[int(index)] = ids
    return written


def interpolate(
    model: SSVAE,
    rows: EncodedRows,
    decoding: Decoding,
    *,
    steps: int,
    y: int | Sequence[int] | None = None,
) -> list[list[int]]:
    """Sequences on the straight line between the z of two, under one label.

    Both ends are means of q(z | x, y) at each sequence's own likeliest y, so the ends are rewritten
    if `y` is another one. The sequences differ, if the samples do.

    Args:
        model: The model.
        rows: Two rows, the two ends of the line.
        decoding: How they are written.
        steps: Number of sequences on the line, both ends included, at least 2.
        y: The class on the whole line; of several, or of all when None, the likeliest of the first
            row.

    Returns:
        `steps` lists of ids, without EOS.

    Raises:
        InputError: not two rows, fewer than 2 steps, or no such class.
    """
    if len(rows) != 2:
        raise InputError(f"wanted two sequences to interpolate between, got {len(rows)}")
    check_whole("steps", steps, 2, MAX_SEQUENCES)
    batch = collate(rows, [0, 1], num_classes=model.num_classes)
    of_all = None
    if y is not None or model.num_classes:
        among = range(model.num_classes) if y is None else _check_classes(model, y)
        of_all = _likeliest(model, batch, among)[:1].repeat(steps)
    (first, last), _ = relative_z(model, batch)
    share = torch.arange(steps, device=first.device).to(first) / (steps - 1)
    z = torch.lerp(first, last, share.unsqueeze(1))  # [steps, Z]
    like = Like.of_rows([rows.row(0), rows.row(1)]).line(steps)
    return _rewrite(model, z, of_all, decoding, like)


def _rewrite(
    model: SSVAE, loc: Tensor, y: NDArray[np.int64] | None, decoding: Decoding, like: Like
) -> list[list[int]]:
    """A sequence for each z of `relative_z` and y `[n]`, its samples by streams from its own on."""
    paths, z, classes = _write_all(model, loc, y, decoding, like)
    each = decoding.num_candidates
    if each == 1:
        return paths
    return choose_best(model, paths, z, classes, each, like, decoding.guidance)


def _edit(
    model: SSVAE, loc: Tensor, y: NDArray[np.int64], decoding: Decoding, like: Like
) -> list[list[int]]:
    """As `_rewrite`, the best of what edits make of the sources and of the samples."""
    samples, z, classes = _write_all(model, loc, y, decoding, like)
    assert classes is not None  # y is given
    each = decoding.num_candidates
    z, classes = z[::each], classes[::each]
    known = [[id for id in source[:-1].tolist() if id != UNK] for source in like.sources]
    found = [
        edit(model, starts, z, classes, like, guidance=decoding.guidance, fits=decoding.fits)
        for starts in (
            {row: [path] for row, path in enumerate(known) if decoding.fits(path)},
            {row: samples[row * each : (row + 1) * each] for row in range(len(y))},
        )
    ]
    every = ([one[row] for one in found if row in one] for row in range(len(y)))
    return [max(some, key=lambda one: one[1])[0] for some in every]


def _write_all(
    model: SSVAE, loc: Tensor, y: NDArray[np.int64] | None, decoding: Decoding, like: Like
) -> tuple[list[list[int]], Tensor, Tensor | None]:
    """All candidates of each row of `_rewrite`, which follow each other, their z and classes."""
    each = decoding.num_candidates
    streams = [first + number for first in like.streams for number in range(each)]
    classes = _classes(model, None if y is None else y.repeat(each), len(loc) * each)
    z = model.z_prior.place(loc.repeat_interleave(each, 0), classes)
    return decoding.write(model, z, classes, streams), z, classes


def _classes(
    model: SSVAE, y: int | NDArray[np.floating | np.integer] | None, num_rows: int
) -> Tensor | None:
    """A class, or weights of classes, for each row, `[N]` or `[N, K]`."""
    if y is None:
        return None
    if not isinstance(y, np.ndarray):
        return torch.full((num_rows,), y, device=model.prior_logits.device)
    if y.dtype.kind == "f":
        return torch.from_numpy(y).to(model.prior_logits).expand(num_rows, -1)
    return torch.from_numpy(y).to(model.prior_logits.device)


def _check_classes(model: SSVAE, y: int | Sequence[int]) -> list[int]:
    """One class or several, as a list.

    Raises:
        InputError: the model has no such class.
    """
    listed: list[int] = np.atleast_1d(y).tolist()
    for one in listed:
        if not 0 <= one < model.num_classes:
            every = f"0 to {model.num_classes - 1}"
            wanted = every if model.num_classes else "none, there are no classes"
            raise InputError(f"class: wanted {wanted}, got {one}")
    return listed


def _likeliest(model: SSVAE, batch: Batch, among: Sequence[int]) -> NDArray[np.int64]:
    """Of some classes the likeliest one of each row by q(y | x), `[B]`."""
    if len(among) == 1:
        return np.full(batch.num_rows, among[0])
    with evaluation_mode(model):
        q = model(batch.to(model.prior_logits.device)).cpu()[:, list(among)]
    best: NDArray[np.int64] = np.array(among)[q.argmax(1).numpy()]
    return best
