"""New sequences: from the prior or near a sequence, under another label, between two sequences."""

import dataclasses
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self, TypedDict, Unpack

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seqssvae import progress
from seqssvae.data.batches import Batch, collate, evaluation_batches
from seqssvae.data.encoded import EncodedRows
from seqssvae.data.labels import Labels
from seqssvae.data.rows import MAX_SYMBOLS
from seqssvae.data.vocabulary import Vocabulary
from seqssvae.errors import InputError, check_whole
from seqssvae.inference.constraint import Automaton, Limits, compile_constraint
from seqssvae.inference.decode import (
    GENERATED,
    beam,
    check_prefix,
    evaluation_mode,
    greedy,
    sample,
)
from seqssvae.inference.latent import encode_z
from seqssvae.inference.noise import standard_normal
from seqssvae.inference.rerank import Like, choose_best
from seqssvae.model.ssvae import SSVAE

logger = logging.getLogger(__name__)

MAX_WIDTH = 1_000_000  # of a beam
MAX_SEQUENCES = 10_000_000  # that are generated in a call
MAX_BEST_OF = 10_000
LARGEST_SEED = 2**63 - 1
CHUNK_ROWS = 4096  # that are decoded between two of `unique`'s comparisons


class Options(TypedDict, total=False):
    """How sequences are written.

    Attributes:
        prefix: First symbols of each sequence.
        strategy: "sample", "greedy" or "beam".
        temperature: Temperature of sampled symbols; below 1 is nearer to greedy.
        top_k: Sample from the k likeliest symbols; 0 for all.
        top_p: Sample from the likeliest symbols with this total probability.
        best_of: Samples of which the best one is kept.
        width: Width of the beam.
        min_length: Fewest symbols of a sequence.
        max_length: Most symbols of a sequence, EOS included; None for half more than in training.
        constraint: Regular expression that each sequence matches as a whole, in the syntax of `re`,
            without lookaround and backreferences; of tokens, with a space between them.
        seed: The same seed gives the same sequences; 0 or more.
    """

    prefix: str | Sequence[str]
    strategy: str
    temperature: float
    top_k: int
    top_p: float
    best_of: int
    width: int
    min_length: int
    max_length: int | None
    constraint: str | None
    seed: int


class Generation(Options, total=False):
    """As `Options`, and which z new sequences have.

    Attributes:
        like: A sequence, near whose own z theirs are; they have its likeliest label by default.
        radius: Standard deviation of z around that, in units of the prior's; 0: exactly its z.
        unique: Leave out sequences that came before.
    """

    like: str | Sequence[str] | None
    radius: float
    unique: bool


RADIUS = 0.5
REWRITING: Options = {"temperature": 0.8, "best_of": 16}  # the same z: loops, if the likeliest


@dataclasses.dataclass(frozen=True)
class Decoding:
    """As `Options`, in the symbols of a model, and checked.

    Attributes:
        prefix: Symbol ids.
        limits: `min_length` and `constraint`, if one of them is given.
    """

    max_length: int
    prefix: Sequence[int] = ()
    strategy: str = "sample"
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    best_of: int = 1
    width: int = 8
    limits: Limits | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.strategy not in ("sample", "greedy", "beam"):
            raise InputError(f"strategy: wanted sample, greedy or beam, got {self.strategy}")
        check_whole("seed", self.seed, 0, LARGEST_SEED)
        check_whole("top_k", self.top_k, 0, LARGEST_SEED)
        check_whole("max_length", self.max_length, 1, MAX_SYMBOLS)
        check_whole("best_of", self.best_of, 1, MAX_BEST_OF)
        check_whole("width", self.width, 1, MAX_WIDTH)

    @classmethod
    def of_options(cls, vocabulary: Vocabulary, longest: int, **options: Unpack[Options]) -> Self:
        """What options mean for a vocabulary; sequences have at most `longest` symbols by default.

        Raises:
            InputError: an unknown strategy, a number out of range, or nothing that fits.
        """
        given: dict[str, Any] = {**options}
        prefix, pattern = given.pop("prefix", ""), given.pop("constraint", None)
        least, most = given.pop("min_length", 0), given.pop("max_length", None)
        ids = vocabulary.encode(prefix) if prefix else []
        plain = cls(longest if most is None else most, ids, **given)
        check_whole("min_length", least, 0, plain.max_length)
        check_prefix(ids, plain.max_length)
        if not least and pattern is None:
            return plain
        automaton = Automaton.of_any(len(vocabulary))
        if pattern is not None:
            automaton = compile_constraint(pattern, vocabulary)
        limits = Limits(automaton, min_length=least, max_length=plain.max_length, prefix=ids)
        return dataclasses.replace(plain, limits=limits)

    @property
    def num_candidates(self) -> int:
        """Paths from which each sequence is chosen."""
        return self.best_of if self.strategy == "sample" else 1

    def write(
        self, model: SSVAE, z: Tensor, y: Tensor | None, streams: Sequence[int]
    ) -> list[list[int]]:
        """A path for each z `[N, Z]` and y, a sampled one by the noise of its stream."""
        lengths: dict[str, Any] = {"max_length": self.max_length, "prefix": self.prefix}
        lengths["limits"] = self.limits
        if self.strategy == "greedy":
            return greedy(model.decoder, z, y, **lengths)
        if self.strategy == "beam":
            found = beam(model.decoder, z, y, width=self.width, **lengths)
            return found.sequences
        return sample(
            model.decoder,
            z,
            y,
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            generator=torch.Generator().manual_seed(self.seed),
            streams=streams,
            **lengths,
        )


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
) -> Iterator[str | list[str]]:
    """New sequences, each from its own z, which depends on the seed and its number alone.

    Args:
        model: The model.
        vocabulary: Its symbols.
        n: Number of sequences.
        y: The class; weights of all classes, `[K]`; classes of which each sequence has one, by
            their prior; or None.
        decoding: How they are written.
        near: z is drawn from N(loc, radius^2 I), loc `[Z]` and the radius; from N(0, I) if None.
        unique: Leave out sequences that came before; fewer than n once no others come.

    Raises:
        InputError: a number out of range.
    """
    check_whole("n", n, 0, MAX_SEQUENCES)
    if near is not None and not 0 <= near[1] < np.inf:
        raise InputError(f"radius: wanted a number of 0 or more, got {near[1]}")
    each, seen = decoding.num_candidates, set[object]()
    size = max(1, CHUNK_ROWS // each)
    with progress.task(GENERATED, n * each):  # `decode` counts them
        for start in range(0, sys.maxsize if unique else n, size):
            stop = start + size if unique else min(start + size, n)
            streams = range(start * each, stop * each)
            drawn = standard_normal(decoding.seed, streams, model.latent_size)
            z = torch.from_numpy(drawn if near is None else near[0] + near[1] * drawn)
            z = z.to(model.prior_logits)
            of_each = y
            if isinstance(y, np.ndarray) and y.dtype.kind == "i":
                drawn = np.random.default_rng([decoding.seed]).random(stop)[start:]
                prior = model.prior_logits.exp().cpu().double().numpy()[y].cumsum()
                of_each = y[np.searchsorted(prior, drawn * prior[-1], side="right")].repeat(each)
            classes = _classes(model, of_each, len(z))
            paths = decoding.write(model, z, classes, streams)
            if each > 1:
                paths = choose_best(model, paths, z, classes, each)
            new = list(map(vocabulary.decode, paths))
            if unique:
                by_key = {str(one): one for one in new if str(one) not in seen}
                new = list(by_key.values())[: n - len(seen)]
                seen.update(map(str, new))
            yield from new
            if unique and (len(seen) == n or not new):
                break
    if unique and len(seen) < n:
        logger.warning(
            "wanted %d different sequences, got %d: the next %d were among them", n, len(seen), size
        )


def transfer(
    model: SSVAE,
    rows: EncodedRows,
    decoding: Decoding,
    *,
    to: int | Sequence[int],
    batch_size: int = 256,
) -> list[list[int]]:
    """Rewrite each sequence under another label: the same z, another y.

    z is the mean of q(z | x, y) at the likeliest y, not at the new one. What is written depends on
    the row and the seed alone.

    Args:
        model: The model.
        rows: The rows; their own labels are not read.
        decoding: How they are written.
        to: The new class, or several, of which a row gets its likeliest by q(y | x).
        batch_size: Rows that are encoded at once.

    Returns:
        Ids of each row, without EOS.

    Raises:
        InputError: the model has no such class.
    """
    among = _check_classes(model, to)
    written: list[list[int]] = [[] for _ in range(len(rows))]
    with progress.task(GENERATED, len(rows) * decoding.num_candidates):
        for indices, batch in evaluation_batches(rows, batch_size, num_classes=model.num_classes):
            (loc, _), y = encode_z(model, batch), _likeliest(model, batch, among)
            like = Like.of_rows([rows.row(int(i)) for i in indices])
            for index, ids in zip(indices, _rewrite(model, loc, y, decoding, like), strict=True):
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
    (first, last), _ = encode_z(model, batch)
    share = torch.arange(steps, device=first.device).to(first) / (steps - 1)
    z = torch.lerp(first, last, share.unsqueeze(1))  # [steps, Z]
    like = Like.of_rows([rows.row(0), rows.row(1)]).line(steps)
    return _rewrite(model, z, of_all, decoding, like)


def _rewrite(
    model: SSVAE, z: Tensor, y: NDArray[np.int64] | None, decoding: Decoding, like: Like
) -> list[list[int]]:
    """A sequence for each z `[n, Z]` and y `[n]`, its samples by the streams from its own on."""
    each = decoding.num_candidates
    y = None if y is None else y.repeat(each)
    z = z.repeat_interleave(each, 0)
    streams = [first + number for first in like.streams for number in range(each)]
    classes = _classes(model, y, len(z))
    paths = decoding.write(model, z, classes, streams)
    return paths if each == 1 else choose_best(model, paths, z, classes, each, like)


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
