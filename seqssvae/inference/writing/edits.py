"""Rewriting by edits: symbols are replaced, inserted and deleted for as long as the score rises.

A local search for the sequence x' with the highest score of `rerank`: log p(x' | y, z) per symbol,
log q(y | x') and what x' keeps of its source. Mireshghallah et al. (2022, Mix and Match) draw
samples of such a product with a masked language model; here the decoder itself proposes the edits.
"""

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seqssvae import progress
from seqssvae.data.vocabulary import BOS, EOS, NUM_SPECIAL
from seqssvae.inference.decode import NUM_LOGITS, NUM_ROWS
from seqssvae.inference.writing.rerank import Like, score
from seqssvae.model.ssvae import SSVAE
from seqssvae.nn.precision import evaluation_mode
from seqssvae.shapes import wide

MAX_ROUNDS = 8
NUM_PATHS = 2  # of each row that are edited in a round
NUM_SYMBOLS = 6  # that are tried at each place of a path
NUM_EDITS = 32  # of each path whose score is computed

Path = tuple[int, ...]
Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


def edit(
    model: SSVAE,
    starts: Mapping[int, Sequence[Sequence[int]]],
    z: Tensor,
    y: Tensor,
    like: Like,
    *,
    guidance: float,
    fits: Callable[[Path], bool],
) -> dict[int, tuple[list[int], float]]:
    """The path with the highest score that is found, and its score, for some of n rows.

    A round edits the best paths of each row, and a row ends with one that finds none better.

    Args:
        model: The model.
        starts: Paths by row, at least one of each.
        z: `[n, Z]`.
        y: Classes, `[n]`.
        like: What is wanted of each row.
        guidance: As in `score`.
        fits: Whether an edited path may be written.
    """
    scores: dict[int, dict[Path, float]] = {row: {} for row in starts}

    def add(new: Iterable[tuple[int, Path]]) -> None:
        new = [(row, path) for row, path in dict.fromkeys(new) if path not in scores[row]]
        if new:
            rows, paths = np.array([row for row, _ in new]), [path for _, path in new]
            found = score(model, paths, *_select(rows, z, y), like, rows, guidance)
            for (row, path), value in zip(new, found.tolist(), strict=True):
                scores[row][path] = value

    def best(row: int) -> list[Path]:
        return heapq.nlargest(NUM_PATHS, scores[row], key=scores[row].__getitem__)

    add((row, tuple(path)) for row, some in starts.items() for path in some)
    rising = {row: best(row) for row in starts}
    for _ in progress.track(range(MAX_ROUNDS), "rounds of edits", MAX_ROUNDS):
        if not rising:
            break
        rows = [row for row, paths in rising.items() for _ in paths]
        paths = [path for paths in rising.values() for path in paths]
        tried = zip(rows, edits(model, paths, *_select(rows, z, y)), strict=True)
        add((row, path) for row, some in tried for path in some if fits(path))
        found = {row: best(row) for row in rising}
        rising = {row: paths for row, paths in found.items() if paths[0] != rising[row][0]}
    first = {row: best(row)[0] for row in starts}
    return {row: (list(path), scores[row][path]) for row, path in first.items()}


def edits(model: SSVAE, paths: Sequence[Path], z: Tensor, y: Tensor) -> list[list[Path]]:
    """For each of n paths those that differ by one symbol, the NUM_EDITS that promise most.

    An edit promises what log p gains at its place, given the symbols before it; how likely those
    after it become is for `score` to say.

    Args:
        model: The model.
        paths: Symbol ids, without EOS.
        z: `[n, Z]`.
        y: `[n]`.
    """
    order = sorted(range(len(paths)), key=lambda number: len(paths[number]))
    size = max(1, min(NUM_ROWS, NUM_LOGITS // model.decoder.vocabulary_size))
    found: list[list[Path]] = [[] for _ in paths]
    for first in range(0, len(paths), size):
        part = order[first : first + size]
        tables = _gains(model, [paths[number] for number in part], *_select(part, z, y))
        for number, gains, symbols in zip(part, *tables, strict=True):
            path, num_symbols = paths[number], symbols.shape[1]
            likely = np.argsort(-gains, axis=None, kind="stable")[:NUM_EDITS]
            likely = likely[np.isfinite(gains.ravel()[likely])]
            places, kinds = np.unravel_index(likely, gains.shape)
            for place, kind in zip(places.tolist(), kinds.tolist(), strict=True):
                put = symbols[place, kind % num_symbols : kind % num_symbols + 1].tolist()
                put = put if kind < 2 * num_symbols else []
                is_insertion = num_symbols <= kind < 2 * num_symbols
                found[number].append((*path[:place], *put, *path[place + 1 - is_insertion :]))
    return found


def _select(rows: Sequence[int] | Integers, z: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """z and y of some rows."""
    index = torch.tensor(rows, device=z.device)
    return z[index], y[index]


def _gains(model: SSVAE, paths: Sequence[Path], z: Tensor, y: Tensor) -> tuple[Floats, Integers]:
    """What edits of n paths promise.

    Returns:
        In nats, `[n, T + 1, 2 S + 1]`, with T symbols of the longest path: at each place those of
        S symbols in place of the own one, those before it, and that of leaving out the own one;
        minus infinity where there is no such edit; and the symbols, `[n, T + 1, S]`.
    """
    lengths = torch.tensor([len(path) for path in paths], device=z.device)
    own = torch.full((len(paths), max(map(len, paths)) + 2), EOS, device=z.device)
    for row, path in enumerate(paths):
        own[row, : len(path)] = torch.tensor(path, dtype=torch.int64)
    num_symbols = min(NUM_SYMBOLS, model.decoder.vocabulary_size - NUM_SPECIAL)
    special, places = torch.arange(NUM_SPECIAL, device=z.device), list[tuple[Tensor, ...]]()
    with evaluation_mode(model):
        read, state = torch.full_like(lengths, BOS), model.decoder.start(z, y)
        for t in range(own.shape[1] - 1):
            logits, state = model.decoder.step(read, state)
            log_prob, read = wide(logits).log_softmax(-1), own[:, t]
            here, skipped = log_prob.gather(1, own[:, t : t + 2]).split(1, 1)
            likeliest = log_prob.index_fill(1, special, -torch.inf).topk(num_symbols)
            places.append((here, skipped, *likeliest))
    here, skipped, top, symbols = (torch.stack(some, 1) for some in zip(*places, strict=True))
    replaced = (top - here).masked_fill(symbols == own[:, :-1, None], -torch.inf)
    deleted = skipped - here - here.roll(-1, 1)  # the next symbol comes here
    place = torch.arange(own.shape[1] - 1, device=z.device).unsqueeze(1)
    last = lengths[:, None, None]
    gains = [
        replaced.masked_fill(place >= last, -torch.inf),
        top.masked_fill(place > last, -torch.inf),
        deleted.masked_fill(place >= last, -torch.inf),
    ]
    return torch.cat(gains, -1).cpu().numpy(), symbols.cpu().numpy()
