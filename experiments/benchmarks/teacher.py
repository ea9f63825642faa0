"""Time of the teacher's parts, as classes and rows grow.

    python experiments/benchmarks/teacher.py

Rows are words of 20 to 60 letters, drawn from a Markov chain of their class, a few of them with a
label. Of each size are measured, in turn: reading the rows; one n-gram model with EM; one logistic
regression; one naive Bayes classifier; the whole teacher, which fits 15 such classifiers in each
fold and the chosen ones once more; and the student, from the teacher's posteriors.
"""

import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from experiments.benchmarks.measure import interleaved_seconds  # noqa: E402
from seqssvae.cli.parser import Parser
from seqssvae.nn.ngram_logits import MAX_WEIGHTS
from seqssvae.nn.ngrams import SYMBOL_NGRAMS, count_ngrams
from seqssvae.teacher.classifiers import list_classifiers
from seqssvae.teacher.features import Analyzer
from seqssvae.teacher.partial import possible_classes
from seqssvae.teacher.student import fit_student
from seqssvae.teacher.teacher import fit_teacher

PARTS = {
    "n-grams": "4-grams, strong, EM 1.0",
    "regression": "logistic regression on 5-grams",
    "naive Bayes": "naive Bayes on 5-grams, EM",
}
STEPS = 8  # of EM
NUM_BUCKETS = 2**16


class Size(NamedTuple):
    """How many classes, rows and labels there are."""

    classes: int
    rows: int
    labels: int


SIZES = (
    Size(4, 10_000, 100),
    Size(4, 20_000, 100),
    Size(50, 20_000, 1000),
    Size(100, 20_000, 1000),
    Size(300, 3000, 3000),
)


def main() -> None:
    """Measure and print."""
    parser = Parser(description=__doc__)
    parser.add_argument(
        "--size", type=int, nargs=3, action="append", metavar=("K", "ROWS", "LABELS"),
        help="classes, rows and labels; may be repeated",
    )  # fmt: skip
    parser.add_argument("--repeats", type=int, default=1, metavar="N", help="rounds")
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end")
    arguments = parser.parse_args()
    names = ("read", *PARTS, "teacher", "student")
    print("| classes | rows | labels |", " | ".join(f"{name}, s" for name in names), "|")
    print("| --: " * (3 + len(names)) + "|")
    records = []
    for size in [Size(*of_one) for of_one in arguments.size or SIZES]:
        seconds = interleaved_seconds(make_parts(size), arguments.repeats)
        records.append({**size._asdict(), **seconds})
        figures = " | ".join(f"{seconds[name]:.2f}" for name in names)
        print(f"| {size.classes:,} | {size.rows:,} | {size.labels:,} | {figures} |", flush=True)
    if arguments.json:
        print(json.dumps({"sizes": records}))


def make_parts(size: Size) -> dict[str, Callable[[], object]]:
    """What is measured, by name."""
    words, y = draw_words(size)
    labelled = np.arange(size.labels)
    possible = possible_classes(size.rows, labelled, y[labelled], size.classes)
    classifiers = {
        one.name: one for one in list_classifiers(has_words=False, long_characters=False)
    }
    analyzer, posteriors = Analyzer(words), np.full((size.rows, size.classes), 1 / size.classes)

    def fit_part(name: str) -> object:
        return classifiers[name].fit(analyzer.encode(words), possible, STEPS)

    def fit_whole() -> None:
        teacher = fit_teacher(words, labelled, y[labelled], num_classes=size.classes)
        posteriors[:] = teacher.posteriors

    def fit_last() -> object:
        rows = analyzer.encode(words).rows["main"]
        num_buckets = min(NUM_BUCKETS, MAX_WEIGHTS // size.classes)
        counts = count_ngrams(rows, SYMBOL_NGRAMS, num_buckets=num_buckets)
        return fit_student(counts, y[labelled], posteriors[size.labels :])

    return {
        "read": lambda: Analyzer(words).encode(words),
        **{part: functools.partial(fit_part, name) for part, name in PARTS.items()},
        "teacher": fit_whole,
        "student": fit_last,
    }


def draw_words(size: Size, num_letters: int = 20) -> tuple[list[str], np.ndarray]:
    """Rows, and their classes in turn."""
    random = np.random.default_rng(0)
    letters = "abcdefghijklmnopqrstuvwxyz"[:num_letters]
    y = np.arange(size.rows) % size.classes
    common = random.dirichlet(np.full(num_letters, 0.3), num_letters)
    own = random.dirichlet(np.full(num_letters, 0.3), (size.classes, num_letters))
    chains = np.cumsum(0.7 * common + 0.3 * own, axis=-1)  # [K, letters, letters]
    lengths = random.integers(20, 61, size.rows)
    letter, columns = random.integers(0, num_letters, size.rows), []
    for _ in range(60):
        columns.append(letter)
        letter = (chains[y, letter] < random.random((size.rows, 1))).sum(1)
        letter = np.minimum(letter, num_letters - 1)
    rows = ("".join(letters[i] for i in row) for row in np.stack(columns, 1).tolist())
    return [row[:length] for row, length in zip(rows, lengths.tolist(), strict=True)], y


if __name__ == "__main__":
    main()
