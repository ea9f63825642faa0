"""Greedy decoding, sampling and beam search over `Decoder.step`.

PAD, BOS and UNK are never decoded: their probability is set to 0. A path ends with EOS, or is cut
at `max_length` symbols; its prefix is part of it. `limits` are those of this length and prefix.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from seqssvae import progress
from seqssvae.data.vocabulary import BOS, EOS, PAD, UNK
from seqssvae.errors import InputError
from seqssvae.inference.writing.constraint import Limits
from seqssvae.inference.writing.noise import Noise
from seqssvae.nn.decoder import Decoder, DecoderState
from seqssvae.nn.precision import evaluation_mode
from seqssvae.nn.sampling import invert
from seqssvae.shapes import wide

NUM_ROWS = 4096  # decoder rows that run at once
NUM_LOGITS = 2**22  # logits of those rows, at most
GENERATED = "sequences generated"


@dataclasses.dataclass(frozen=True)
class Paths:
    """The best path of each row.

    Attributes:
        sequences: Symbol ids, with the prefix and without EOS.
        log_prob: log p(path | y, z) in nats, the prefix and EOS included, float64 `[N]`.
        finished: Whether the path ends with EOS, bool `[N]`; if not, it was cut at `max_length`.
    """

    sequences: list[list[int]]
    log_prob: Tensor
    finished: Tensor


def greedy(
    decoder: Decoder,
    z: Tensor,
    y: Tensor | None,
    *,
    max_length: int,
    prefix: Sequence[int] = (),
    limits: Limits | None = None,
    num_rows: int = NUM_ROWS,
) -> list[list[int]]:
    """The likeliest symbol at each step.

    Args:
        decoder: The network of p(x | y, z).
        z: `[N, Z]`.
        y: Classes, int64 `[N]`; None without classes.
        max_length: Maximum number of symbols of a path, prefix and EOS included.
        prefix: Symbols that every path begins with.
        limits: What may come next; nothing but the length is limited when None.
        num_rows: Decoder rows that run at once.

    Returns:
        N lists of ids, with the prefix and without EOS.

    Raises:
        InputError: `max_length` or the prefix is invalid.
    """
    check_prefix(prefix, max_length)

    def choose(logits: Tensor, rows: Tensor, step: int) -> Tensor:
        return logits.argmax(-1)

    return _extend_all(decoder, z, y, max_length, prefix, limits, num_rows, choose)


def sample(
    decoder: Decoder,
    z: Tensor,
    y: Tensor | None,
    *,
    max_length: int,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    prefix: Sequence[int] = (),
    limits: Limits | None = None,
    generator: torch.Generator | None = None,
    streams: Sequence[int] | None = None,
    num_rows: int = NUM_ROWS,
) -> list[list[int]]:
    """Paths sampled from p(x | y, z), or from its likelier part.

    Row n has a random stream, that of the generator and of n or `streams[n]`: its path does not
    depend on the other rows or on their number.

    Args:
        decoder: The network of p(x | y, z).
        z: `[N, Z]`.
        y: Classes, int64 `[N]`; None without classes.
        max_length: Maximum number of symbols of a path, prefix and EOS included.
        temperature: Divisor of the logits; below 1 is closer to greedy.
        top_k: Sample among the k likeliest symbols; 0 for all of them.
        top_p: Sample among the fewest likeliest symbols that have this probability together
            (Holtzman et al. 2020), after the temperature and, if both are given, among the `top_k`.
        prefix: Symbols that every path begins with.
        limits: As in `greedy`.
        generator: Generator from which one number is drawn; torch's global one when None.
        streams: Number of each row's stream, `[N]`; 0 to N - 1 when None.
        num_rows: Decoder rows that run at once.

    Returns:
        N lists of ids, with the prefix and without EOS.

    Raises:
        InputError: an option is out of range, or the prefix is invalid.
    """
    check_prefix(prefix, max_length)
    if not 0 < temperature < float("inf"):
        raise InputError(f"temperature: wanted a number above 0, got {temperature}")
    if top_k < 0:
        raise InputError(f"top_k: wanted 0 or more, got {top_k}")
    if not 0 < top_p <= 1:
        raise InputError(f"top_p: wanted a number above 0 and at most 1, got {top_p}")
    device = "cpu" if generator is None else generator.device
    seed = int(torch.randint(2**62, (), generator=generator, device=device))
    noise = Noise(seed, range(len(z)) if streams is None else streams)

    def choose(logits: Tensor, rows: Tensor, step: int) -> Tensor:
        logits = logits - logits.amax(-1, keepdim=True)  # a tiny temperature must not overflow
        probability = (logits / temperature).softmax(-1)
        return draw(probability, noise.uniform(rows, step), top_k=top_k, top_p=top_p)

    is_whole = (temperature, top_k, top_p, limits) == (1, 0, 1, None)
    uniform = noise.uniform if is_whole else None
    return _extend_all(decoder, z, y, max_length, prefix, limits, num_rows, choose, uniform)


def beam(
    decoder: Decoder,
    z: Tensor,
    y: Tensor | None,
    *,
    max_length: int,
    width: int = 8,
    prefix: Sequence[int] = (),
    limits: Limits | None = None,
    num_rows: int = NUM_ROWS,
) -> Paths:
    """The likeliest path of each row by beam search.

    Finished and unfinished paths compete by log p(path | y, z), with no length penalty. A row
    stops when a finished path is first: extending the others can only lower them.

    Args:
        decoder: The network of p(x | y, z).
        z: `[N, Z]`.
        y: Classes, int64 `[N]`; None without classes.
        max_length: Maximum number of symbols of a path, prefix and EOS included.
        width: Paths that each row keeps, at least 1.
        prefix: Symbols that every path begins with.
        limits: What may come next; nothing but the length is limited when None.
        num_rows: Decoder rows that run at once.

    Raises:
        InputError: an option is out of range, or the prefix is invalid.
    """
    check_prefix(prefix, max_length)
    if width < 1:
        raise InputError(f"width: wanted at least 1, got {width}")
    paths = Paths(
        [[] for _ in range(len(z))],
        wide(z).new_zeros(len(z)),
        torch.zeros(len(z), dtype=torch.bool, device=z.device),
    )
    with progress.task(GENERATED, len(z)) as task, evaluation_mode(decoder):
        for rows in _portions(decoder, z, num_rows, width):
            beams = _start_beams(decoder, z, y, rows, prefix, limits)
            for step in range(max_length - len(prefix)):
                beams = beams.extend(decoder, width, limits, step)
                is_done = beams.finished[:, 0]
                if bool(is_done.any()):
                    beams.select(is_done.nonzero().squeeze(1)).store(paths)
                    beams = beams.select((~is_done).nonzero().squeeze(1))
                    task.advance(int(is_done.sum()))
                if not len(beams.rows):
                    break
            beams.store(paths)
            task.advance(len(beams.rows))
    return paths


def draw(probability: Tensor, uniform: Tensor, *, top_k: int = 0, top_p: float = 1.0) -> Tensor:
    """One symbol of each row by inverting the distribution function.

    Args:
        probability: `[n, V]`, each row sums to 1.
        uniform: From [0, 1), `[n]`.
        top_k: As in `sample`.
        top_p: As in `sample`.

    Returns:
        Symbols `[n]`; never one whose probability is 0.
    """
    order = None
    if top_k or top_p < 1:
        probability, order = probability.sort(dim=-1, descending=True, stable=True)
        if top_k:
            probability = probability[:, :top_k]
        if top_p < 1:
            cumulative = probability.cumsum(-1)
            before = cumulative - probability
            probability = probability.masked_fill(before >= top_p * cumulative[:, -1:], 0.0)
    chosen, _ = invert(probability, uniform)
    return chosen if order is None else order.gather(-1, chosen.unsqueeze(-1)).squeeze(-1)


def check_prefix(prefix: Sequence[int], max_length: int) -> None:
    """Raise if a prefix does not fit, or has a special symbol."""
    if max_length < 1:
        raise InputError(f"max_length: wanted at least 1, got {max_length}")
    if len(prefix) > max_length:
        raise InputError(
            f"prefix: wanted at most max_length = {max_length} symbols, got {len(prefix)}"
        )
    for position, symbol in enumerate(prefix, start=1):
        if symbol in (PAD, UNK, BOS, EOS):
            kind = "an unknown one" if symbol == UNK else f"the special symbol {symbol}"
            raise InputError(
                f"prefix: wanted symbols of the vocabulary, got {kind} at position {position}"
            )


def _extend_all(
    decoder: Decoder,
    z: Tensor,
    y: Tensor | None,
    max_length: int,
    prefix: Sequence[int],
    limits: Limits | None,
    num_rows: int,
    choose: Callable[[Tensor, Tensor, int], Tensor],
    uniform: Callable[[Tensor, int], Tensor] | None = None,
) -> list[list[int]]:
    """Extend all rows symbol by symbol; rows that have ended are not run any further.

    `choose` takes logits `[n, V]`, the indices of the rows, `[n]`, and the step, and returns `[n]`.
    If `uniform` is given, symbols are drawn by `Decoder.draw` with its numbers instead.
    """
    paths = [list(prefix) for _ in range(len(z))]
    with progress.task(GENERATED, len(z)) as task, evaluation_mode(decoder):
        for rows in _portions(decoder, z, num_rows):
            state = decoder.start(z[rows], None if y is None else y[rows])
            read, places = (
                torch.full_like(rows, BOS),
                None if limits is None else limits.states(rows),
            )
            for symbol in prefix:
                _, state = decoder.step(read, state)
                read = torch.full_like(rows, symbol)
            for step in range(max_length - len(prefix)):
                if uniform is not None:
                    read, state = decoder.draw(read, state, uniform(rows, step))
                else:
                    logits, state = decoder.step(read, state)
                    scores = _exclude_special(wide(logits))
                    if limits is not None and places is not None:
                        scores = limits.mask(scores, places, step)
                    read = choose(scores, rows, step)
                is_open = (read != EOS).nonzero().squeeze(1)
                if len(is_open) < len(rows):
                    task.advance(len(rows) - len(is_open))
                    rows, read, state = rows[is_open], read[is_open], state.select(is_open)
                    places = None if places is None else places[is_open]
                if limits is not None and places is not None:
                    places = limits.advance(places, read)
                for row, symbol in zip(rows.tolist(), read.tolist(), strict=True):
                    paths[row].append(symbol)
                if not len(rows):
                    break
            task.advance(len(rows))
    return paths


def _portions(decoder: Decoder, z: Tensor, num_rows: int, width: int = 1) -> Iterator[Tensor]:
    """Indices of rows that the decoder runs at once, `width` paths of each."""
    num_rows = max(1, min(num_rows, NUM_LOGITS // decoder.vocabulary_size) // width)
    for start in range(0, len(z), num_rows):
        yield torch.arange(start, min(start + num_rows, len(z)), device=z.device)


def _exclude_special(scores: Tensor) -> Tensor:
    """Scores `[..., V]` with minus infinity at PAD, BOS and UNK."""
    never = torch.tensor([PAD, BOS, UNK], device=scores.device)
    return scores.index_fill(-1, never, -torch.inf)


@dataclasses.dataclass(frozen=True)
class _Beams:
    """The paths that n rows keep, W for each, the likeliest first.

    Attributes:
        rows: Indices of the rows, `[n]`.
        scores: log p of each path, float64 `[n, W]`.
        finished: Which paths end with EOS, bool `[n, W]`.
        symbols: The paths, `[n, W, t]`; PAD after EOS.
        state: State of the `n W` paths, row by row, before the last symbol is read.
        places: States of the limits, `[n, W]`; zeros without limits.
    """

    rows: Tensor
    scores: Tensor
    finished: Tensor
    symbols: Tensor
    state: DecoderState
    places: Tensor

    def extend(self, decoder: Decoder, width: int, limits: Limits | None, step: int) -> "_Beams":
        """Read the last symbols and keep the likeliest paths that are one symbol longer."""
        num_rows, num_paths = self.scores.shape
        logits, state = decoder.step(self.symbols[..., -1].flatten(), self.state)
        log_prob = _exclude_special(wide(logits).log_softmax(-1))
        vocabulary_size = log_prob.shape[-1]
        log_prob = log_prob.view(num_rows, num_paths, vocabulary_size)
        if limits is not None:
            log_prob = limits.mask(log_prob, self.places, step)
        stay = log_prob.new_full((vocabulary_size,), -torch.inf)
        stay[PAD] = 0.0  # a finished path has one continuation, with probability 1
        log_prob = torch.where(self.finished.unsqueeze(-1), stay, log_prob)
        candidates = (self.scores.unsqueeze(-1) + log_prob).flatten(1)  # [n, W V]
        scores, index = candidates.topk(min(width, candidates.shape[1]), dim=1)
        parent, symbol = index // vocabulary_size, index % vocabulary_size  # [n, W']
        row = torch.arange(num_rows, device=index.device).unsqueeze(1)
        places = self.places[row, parent]
        return _Beams(
            self.rows,
            scores,
            self.finished[row, parent] | (symbol == EOS),
            torch.cat([self.symbols[row, parent], symbol.unsqueeze(-1)], -1),
            state.select((row * num_paths + parent).flatten()),
            places if limits is None else limits.advance(places, symbol),
        )

    def select(self, index: Tensor) -> "_Beams":
        """The beams of the rows `index`, `[m]`."""
        num_paths = self.scores.shape[1]
        path = torch.arange(num_paths, device=index.device)
        return _Beams(
            self.rows[index],
            self.scores[index],
            self.finished[index],
            self.symbols[index],
            self.state.select((index.unsqueeze(1) * num_paths + path).flatten()),
            self.places[index],
        )

    def store(self, paths: Paths) -> None:
        """Store each row's likeliest path."""
        for row, path in zip(self.rows.tolist(), self.symbols[:, 0].tolist(), strict=True):
            inner = path[1:]  # BOS is first
            paths.sequences[row] = inner[: inner.index(EOS)] if EOS in inner else inner
        paths.log_prob[self.rows] = self.scores[:, 0]
        paths.finished[self.rows] = self.finished[:, 0]


def _start_beams(
    decoder: Decoder,
    z: Tensor,
    y: Tensor | None,
    rows: Tensor,
    prefix: Sequence[int],
    limits: Limits | None,
) -> _Beams:
    """One path for each row: BOS and the prefix."""
    state = decoder.start(z[rows], None if y is None else y[rows])
    symbols = torch.tensor([BOS, *prefix], device=rows.device).expand(len(rows), 1, -1)
    scores = wide(z).new_zeros(len(rows), 1)
    for before, after in itertools.pairwise((BOS, *prefix)):
        logits, state = decoder.step(torch.full_like(rows, before), state)
        scores = scores + wide(logits).log_softmax(-1)[:, after : after + 1]
    is_done = torch.zeros_like(scores, dtype=torch.bool)
    places = is_done.long() if limits is None else limits.states(is_done.long())
    return _Beams(rows, scores, is_done, symbols, state, places)
