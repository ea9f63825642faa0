"""Prepare sequences whose p(x | y) is known: class-conditional Markov chains and HMMs.

    python data/prepare_grammar.py --out data/grammar

Every class is a source: a Markov chain of hidden states, each of which emits a symbol. In a Markov
chain the states are the symbols themselves. In a hidden Markov model each state emits the symbols
of its own subset of the alphabet; the most likely transition is to the same state (even-numbered
models) or to the next state of a cycle (odd-numbered ones). Apart from some noise, every symbol is
equally frequent in all classes: symbol counts say little about the class, the order of the symbols
identifies it.

A sequence ends with probability `stop` after each symbol from the `shortest`-th on, so p(x | y)
sums to 1 over all finite sequences, each of at least one symbol.

Output, each file written atomically:

* `train.jsonl`, `test.jsonl`: rows `{"tokens": [...], "label": ...}`, drawn independently.
* `test_log_prob.jsonl`: for each test row, in order, `{label: log p(x | y)}` in nats, including
  the end; null if the label never emits the row.
* `truth.json`: the optimal results on the test rows with their standard errors, the accuracy of
  the Bayes-optimal classifier and the mean of -log p(x); and the parameters of the sources, for
  `load_grammar`.
"""

import bisect
import dataclasses
import functools
import json
import math
import string
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from seqssvae.cli.parser import Parser
from seqssvae.errors import InputError
from seqssvae.storage.files import write_lines

__all__ = ["Grammar", "Source", "load_grammar", "main", "make_grammar", "measure", "prepare"]

Array = NDArray[np.float64]
SUCCESSORS = (0.6, 0.25)  # probabilities of a symbol's two successors in a Markov chain, no noise
MOST_LIKELY = 0.85  # probability of a hidden state's most likely transition, no noise


@dataclasses.dataclass(frozen=True)
class Source:
    """p(x | y) of one class: a hidden Markov model with a distribution of lengths.

    Attributes:
        start: Probabilities of the first state, `[S]`.
        transition: Probabilities of the next state given the current one (the row), `[S, S]`.
        emission: Probabilities of the symbols given the state (the row), `[S, A]`; the identity in
            a Markov chain.
        shortest: Minimum number of symbols, at least 1.
        stop: Probability that a sequence ends after a symbol, from the `shortest`-th one on.
    """

    start: Array
    transition: Array
    emission: Array
    shortest: int
    stop: float

    def sample(self, rng: np.random.Generator) -> list[int]:
        """Draw a sequence of symbol numbers, each from 0 to A - 1."""
        ids: list[int] = []
        random = rng.random
        start, transition, emission = self._tables
        state = _draw(start, random())
        while True:
            ids.append(_draw(emission[state], random()))
            if len(ids) >= self.shortest and random() < self.stop:
                return ids
            state = _draw(transition[state], random())

    @functools.cached_property
    def _tables(self) -> tuple[list[float], list[list[float]], list[list[float]]]:
        """Cumulative probabilities of `start`, and of each row of `transition` and `emission`."""
        transition, emission = (np.cumsum(x, axis=1) for x in (self.transition, self.emission))
        return np.cumsum(self.start).tolist(), transition.tolist(), emission.tolist()

    def log_prob(self, ids: Sequence[int]) -> float:
        """log p(x | y) by the forward algorithm, including the end.

        Args:
            ids: Symbol numbers, each from 0 to A - 1.

        Returns:
            Nats; -inf for sequences that this source never emits, such as too short ones.
        """
        extra = len(ids) - self.shortest
        if extra < 0 or (extra > 0 and self.stop == 1):
            return -math.inf
        total = math.log(self.stop) + (extra * math.log1p(-self.stop) if extra else 0.0)
        states = self.start  # p(state | symbols so far), [S]
        for t, symbol in enumerate(ids):
            states = (states @ self.transition if t else states) * self.emission[:, symbol]
            scale = float(states.sum())
            if scale == 0.0:
                return -math.inf
            total += math.log(scale)
            states = states / scale
        return total


@dataclasses.dataclass(frozen=True)
class Grammar:
    """p(x, y): one source for each of K labels.

    Attributes:
        symbols: The alphabet, A tokens.
        labels: Names of the K labels.
        prior: p(y), `[K]`.
        sources: p(x | y) of each label.
    """

    symbols: tuple[str, ...]
    labels: tuple[str, ...]
    prior: Array
    sources: tuple[Source, ...]

    def sample(self, y: int, rng: np.random.Generator) -> list[str]:
        """Draw tokens x ~ p(x | y)."""
        return [self.symbols[i] for i in self.sources[y].sample(rng)]

    def log_prob(self, tokens: Sequence[str]) -> Array:
        """log p(x | y) of every y, including the end.

        Args:
            tokens: A sequence of any length; the empty one has probability 0.

        Returns:
            Nats, `[K]`, -inf if a class never emits the sequence.

        Raises:
            ValueError: A token is not in the alphabet.
        """
        numbers = {symbol: i for i, symbol in enumerate(self.symbols)}
        for t, token in enumerate(tokens):
            if token not in numbers:
                wanted = " ".join(self.symbols)
                raise ValueError(f"token {t + 1}: wanted one of {wanted}, got {token!r}")
        ids = [numbers[token] for token in tokens]
        return np.array([source.log_prob(ids) for source in self.sources])

    def to_mapping(self) -> dict[str, Any]:
        """The grammar as a mapping that can be written as JSON."""
        return {
            "symbols": list(self.symbols),
            "labels": list(self.labels),
            "prior": self.prior.tolist(),
            "sources": [
                {
                    "start": source.start.tolist(),
                    "transition": source.transition.tolist(),
                    "emission": source.emission.tolist(),
                    "shortest": source.shortest,
                    "stop": source.stop,
                }
                for source in self.sources
            ],
        }


def make_grammar(
    *,
    kind: Literal["markov", "hmm", "both"] = "both",
    num_classes: int = 4,
    alphabet_size: int = 8,
    num_states: int = 4,
    shortest: int = 3,
    stop: float = 0.1,
    noise: float = 0.1,
    seed: int = 0,
) -> Grammar:
    """Draw a random grammar with equally likely classes.

    Args:
        kind: "markov", "hmm", or "both": the first half of the classes (rounded up) are Markov
            chains, the others hidden Markov models.
        num_classes: Number of classes K, at least 1.
        alphabet_size: Number of symbols A, from 4 to 26.
        num_states: Number of states S of a hidden Markov model, from 2 to A.
        shortest: Minimum number of symbols in a sequence, at least 1.
        stop: Probability that a sequence ends after a symbol, from the `shortest`-th one on. The
            mean number of symbols is `shortest + 1 / stop - 1`.
        noise: Weight of a random distribution that is mixed into each distribution, from 0 to 1.
        seed: Seed of the grammar, at least 0.

    Raises:
        InputError: A value is out of range.
    """
    for name, value, low, high in (
        ("classes", num_classes, 1, 1000),
        ("alphabet", alphabet_size, 4, len(string.ascii_lowercase)),
        ("states", num_states, 2, math.inf if kind == "markov" else alphabet_size),
        ("shortest", shortest, 1, 10**6),
        ("stop", stop, 1e-6, 1),
        ("noise", noise, 0, 1),
        ("seed", seed, 0, 2**63),
    ):
        if not low <= value <= high:
            raise InputError(f"--{name}: wanted {low} to {high}, got {value}")
    num_markov = {"markov": num_classes, "hmm": 0}.get(kind, (num_classes + 1) // 2)
    rng = np.random.default_rng([seed, 0])
    labels, sources = [], []
    for i in range(num_classes):
        if i < num_markov:
            labels.append(f"markov-{i + 1}")
            transition, emission = _markov(alphabet_size, rng), np.eye(alphabet_size)
        else:
            labels.append(f"hmm-{i - num_markov + 1}")
            cycle = (i - num_markov) % 2 == 0
            transition, emission = _hidden(num_states, alphabet_size, cycle, rng)
            emission = _add_noise(emission, noise, rng)
        transition = _add_noise(transition, noise, rng)
        start = np.full(len(transition), 1 / len(transition))
        sources.append(Source(start, transition, emission, shortest, stop))
    return Grammar(
        symbols=tuple(string.ascii_lowercase[:alphabet_size]),
        labels=tuple(labels),
        prior=np.full(num_classes, 1 / num_classes),
        sources=tuple(sources),
    )


def _markov(size: int, rng: np.random.Generator) -> Array:
    """Transitions `[A, A]`: every symbol has two successors and two predecessors."""
    probabilities = np.array(SUCCESSORS) / sum(SUCCESSORS)
    order = rng.permutation(size)
    transition = np.zeros((size, size))
    for step, probability in enumerate(probabilities, 1):  # a cycle: no symbol follows itself
        transition[order, np.roll(order, -step)] += probability
    return transition


def _hidden(
    num_states: int, alphabet_size: int, cycle: bool, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Transitions `[S, S]` and emissions `[S, A]`, each state with its subset of the alphabet."""
    other = (1 - MOST_LIKELY) / (num_states - 1)
    transition = np.full((num_states, num_states), other)
    likely = np.eye(num_states, dtype=bool)
    transition[np.roll(likely, 1, axis=1) if cycle else likely] = MOST_LIKELY
    emission = np.zeros((num_states, alphabet_size))
    for state, subset in enumerate(np.array_split(rng.permutation(alphabet_size), num_states)):
        emission[state, subset] = 1 / len(subset)
    return transition, emission


def _add_noise(rows: Array, noise: float, rng: np.random.Generator) -> Array:
    """Mix every row with a random distribution."""
    return (1 - noise) * rows + noise * rng.dirichlet(np.ones(rows.shape[1]), size=len(rows))


def _draw(cumulative: list[float], number: float) -> int:
    """The index of the category that a uniform `number` from [0, 1) falls into."""
    index = bisect.bisect_right(cumulative, number)
    return min(index, len(cumulative) - 1)  # the sum may be less than 1 by a rounding error


def measure(
    grammar: Grammar, rows: Sequence[tuple[Sequence[str], int]]
) -> tuple[dict[str, float], Array]:
    """Estimate the optimal accuracy and the entropy from labelled rows.

    Args:
        grammar: The grammar that generated the rows.
        rows: Tokens and label number of each row, at least one row.

    Returns:
        Metrics, and log p(x | y) of each row in nats, `[rows, K]`. The metrics are
        `bayes_accuracy`, of the classifier argmax p(y | x), and `entropy_nats`, the mean of
        -log p(x), each with its `..._standard_error`; `entropy_nats_per_symbol`, which counts the
        end as a symbol; and `mean_symbols`, which does not.
    """
    log_prob = np.array([grammar.log_prob(tokens) for tokens, _ in rows])
    log_joint = log_prob + np.log(grammar.prior)
    nats = -np.logaddexp.reduce(log_joint, axis=1)
    right = log_joint.argmax(axis=1) == np.array([y for _, y in rows])
    num_symbols = sum(len(tokens) for tokens, _ in rows)
    root = math.sqrt(len(rows))
    figures = {
        "bayes_accuracy": right.mean(),
        "bayes_accuracy_standard_error": right.std() / root,
        "entropy_nats": nats.mean(),
        "entropy_nats_standard_error": nats.std() / root,
        "entropy_nats_per_symbol": nats.sum() / (num_symbols + len(rows)),
        "mean_symbols": num_symbols / len(rows),
    }
    return {name: float(value) for name, value in figures.items()}, log_prob


def prepare(
    grammar: Grammar, folder: Path, *, num_train: int, num_test: int, seed: int
) -> dict[str, Any]:
    """Draw the rows and write the four files.

    Args:
        grammar: The grammar to sample from.
        folder: Output folder, created if missing; existing files are replaced.
        num_train: Number of training rows, at least 1; they are written as they are drawn.
        num_test: Number of test rows, at least 1.
        seed: Seed of the rows. The test rows do not depend on `num_train`.

    Returns:
        The content of `truth.json`.

    Raises:
        InputError: A number of rows is less than 1, or the folder cannot be written.
    """
    numbers = {"train": num_train, "test": num_test}
    rows: dict[str, Iterator[tuple[list[str], int]]] = {}
    for stream, (name, number) in enumerate(numbers.items(), 1):
        if number < 1:
            raise InputError(f"--{name}: wanted at least 1 row, got {number}")
        rng = np.random.default_rng([seed, stream])  # stream 0 drew the grammar
        rows[name] = _sample_rows(grammar, number, rng)
    test_rows = list(rows["test"])
    figures, log_prob = measure(grammar, test_rows)
    truth = {"rows": numbers, "seed": seed, **figures, "grammar": grammar.to_mapping()}
    for name, drawn in (("train", rows["train"]), ("test", test_rows)):
        records = ({"tokens": tokens, "label": grammar.labels[y]} for tokens, y in drawn)
        write_lines(folder / f"{name}.jsonl", map(json.dumps, records))
    scores = [dict(zip(grammar.labels, map(_finite, row), strict=True)) for row in log_prob]
    write_lines(folder / "test_log_prob.jsonl", map(json.dumps, scores))
    write_lines(folder / "truth.json", [json.dumps(truth, indent=1, allow_nan=False)])
    return truth


def _sample_rows(
    grammar: Grammar, number: int, rng: np.random.Generator
) -> Iterator[tuple[list[str], int]]:
    """Yield `number` rows one at a time: training rows may not fit in memory."""
    for y in rng.choice(len(grammar.labels), size=number, p=grammar.prior):
        yield grammar.sample(y, rng), int(y)


def load_grammar(path: Path) -> Grammar:
    """Load the grammar of a `truth.json`, to score or sample other sequences."""
    content = json.loads(path.read_text(encoding="utf-8"))["grammar"]
    sources = tuple(
        Source(
            start=np.array(source["start"]),
            transition=np.array(source["transition"]),
            emission=np.array(source["emission"]),
            shortest=source["shortest"],
            stop=source["stop"],
        )
        for source in content["sources"]
    )
    prior = np.array(content["prior"])
    return Grammar(tuple(content["symbols"]), tuple(content["labels"]), prior, sources)


def _finite(value: float) -> float | None:
    """The value, or None for -inf, which JSON does not have."""
    return float(value) if math.isfinite(value) else None


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return the exit status: 0, or 2 after a user's error."""
    parser = Parser(description=__doc__)
    add = parser.add_argument
    kinds, folder = ("markov", "hmm", "both"), Path("data/grammar")
    add("--out", type=Path, default=folder, help="output folder")
    add("--train", type=int, default=10000, help="number of training rows")
    add("--test", type=int, default=1000, help="number of test rows")
    add("--kind", choices=kinds, default="both", help="kind of the classes")
    add("--classes", type=int, default=4, help="number of classes, equally likely")
    add("--alphabet", type=int, default=8, help="number of different symbols")
    add("--states", type=int, default=4, help="states of a hidden Markov model")
    add("--shortest", type=int, default=3, help="minimum number of symbols per row")
    add("--stop", type=float, default=0.1, help="probability of the end, from there")
    add("--noise", type=float, default=0.1, help="weight of random distributions")
    add("--seed", type=int, default=0, help="seed of grammar and rows")
    arguments = parser.parse_args(argv)
    try:
        grammar = make_grammar(
            kind=arguments.kind,
            num_classes=arguments.classes,
            alphabet_size=arguments.alphabet,
            num_states=arguments.states,
            shortest=arguments.shortest,
            stop=arguments.stop,
            noise=arguments.noise,
            seed=arguments.seed,
        )
        truth = prepare(
            grammar,
            arguments.out,
            num_train=arguments.train,
            num_test=arguments.test,
            seed=arguments.seed,
        )
    except InputError as error:
        parser.error(str(error))
    print(f"{arguments.out}: {arguments.train} training and {arguments.test} test rows")
    for name in ("bayes_accuracy", "entropy_nats"):
        print(f"{name} {truth[name]:.4f}, standard error {truth[name + '_standard_error']:.4f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
