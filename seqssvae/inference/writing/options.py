"""What options of written sequences mean for a model."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Self, TypedDict, Unpack

import numpy as np
import torch
from torch import Tensor

from seqssvae.data.rows import MAX_SYMBOLS
from seqssvae.data.vocabulary import UNK, Vocabulary
from seqssvae.errors import InputError, check_whole
from seqssvae.inference.decode import beam, check_prefix, greedy, sample
from seqssvae.inference.writing.constraint import Automaton, Limits, compile_constraint
from seqssvae.model.ssvae import SSVAE

MAX_WIDTH = 1_000_000  # of a beam
MAX_BEST_OF = 10_000
LARGEST_SEED = 2**63 - 1


class Options(TypedDict, total=False):
    """How sequences are written.

    Attributes:
        prefix: First symbols of each sequence.
        strategy: "sample", "greedy" or "beam".
        temperature: Temperature of sampled symbols; below 1 is nearer to greedy.
        top_k: Sample from the k likeliest symbols; 0 for all.
        top_p: Sample from the likeliest symbols with this total probability.
        guidance: Samples of a label are those of p(x | y) q(y | x)^guidance, not of p(x | y), or
            the best one has this weight for log q(y | x); 0: the classifier is not asked.
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
    guidance: float
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


class Transfer(Options, total=False):
    """As `Options`, and how near rewritten sequences are to their source.

    Attributes:
        keep: Weight of the share of the source's symbols that is kept, in the score by which
            sequences are edited and the best is chosen; 0: nothing is edited, nothing but z kept.
    """

    keep: float


RADIUS = 0.5
GUIDANCE = 3.0
KEEP = 2.0
WRITING: Options = {"guidance": GUIDANCE}
REWRITING: Options = {**WRITING, "temperature": 0.8, "best_of": 32}  # the likeliest are loops


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
    guidance: float = 0.0
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
        check_weight("guidance", self.guidance)
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

    def fits(self, path: Sequence[int]) -> bool:
        """Whether a path, EOS after it, may be written."""
        is_short, num = len(path) < self.max_length, len(self.prefix)
        if not is_short or list(path[:num]) != list(self.prefix) or UNK in path:
            return False
        return self.limits is None or self.limits.fit(path)

    def write(
        self,
        model: SSVAE,
        z: Tensor,
        y: Tensor | None,
        streams: Sequence[int],
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


def check_weight(name: str, value: float) -> None:
    """Raise if a weight is not a number of 0 or more."""
    if not 0 <= value < np.inf:
        raise InputError(f"{name}: wanted a number of 0 or more, got {value}")
