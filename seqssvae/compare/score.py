"""How good written sequences are beside a reference: a scorecard for any generator's.

Every figure that is a mean over sequences has a 95 % interval, by bootstrap over the sequences
(Efron 1979). The judges read characters or tokens, and share nothing with the model:

* `valid`, `unique` (different ones), `novel` (no training sequence): shares;
* `nearest`: cosine of the TF-IDF of up to 3 symbols with the most alike reference row; `diversity`:
  1 less the mean cosine of two sequences;
* `length`: symbols; `symbols_distance`: total variation between how often symbols occur;
* `perplexity`: of a sequence's symbols, by a 4-gram model of the reference; `reverse_perplexity`:
  of the reference's, by one of the sequences; `reference_perplexity`: of half of the reference, by
  one of the other half;
* `label_agreement`: share that the judge, logistic regression on TF-IDF fitted to half of the
  reference's labels, gives the class it was written for; `judge_accuracy`: the judge's on the other
  half; `foreign`: share with a symbol that no reference row of the class has.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer

from seqssvae import progress
from seqssvae.compare.baselines import BASELINES, Task, ngrams
from seqssvae.compare.swaps import JUDGE
from seqssvae.data.corpus import Files
from seqssvae.data.encode import encode_given
from seqssvae.data.encoded import EncodedRows
from seqssvae.data.rows import MAX_SYMBOLS
from seqssvae.data.sources import read_corpus_like
from seqssvae.data.vocabulary import CharacterVocabulary, TokenVocabulary
from seqssvae.errors import InputError
from seqssvae.inference.writing.options import Options
from seqssvae.nn.ngram_counts import NGramCounts
from seqssvae.nn.ngram_lm import NGramLM
from seqssvae.runs.run import training_files
from seqssvae.trained import TrainedModel

Sequences = Sequence[str] | Sequence[Sequence[str]]
Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

NUM_RESAMPLES = 200
ORDER = 4  # of the n-gram models behind perplexities
NUM_REBUILT = 500  # rows that are reconstructed
MAX_COMPARED = 2000  # sequences and reference rows of which the nearest ones are found
NUM_ROWS = 256  # that are compared at once


def score(
    written: Sequences,
    reference: Sequences,
    *,
    y: Integers,
    reference_y: Integers,
    num_classes: int,
    training: Sequences | None = None,
    is_valid: Callable[[Any], bool] | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Measure written sequences.

    Args:
        written: The sequences, n of them.
        reference: Real ones, which the generator has not seen.
        y: Class that each was written for, -1 for none, `[n]`.
        reference_y: Classes of the reference, -1 for none.
        num_classes: K.
        training: Sequences that the generator has seen.
        is_valid: Whether a sequence is one; not measured when None.
        seed: Seed of resamples and of what is compared.

    Returns:
        Figures by name, see above; `NAME_low` and `NAME_high` are its interval, and
        `reference_NAME` is the same of the reference.

    Raises:
        InputError: fewer than 2 sequences or reference rows.
    """
    _check(written, reference)
    random = np.random.default_rng(seed)
    first, second = np.array_split(random.permutation(len(reference)), 2)
    keys = list(map(_key, written))
    result: dict[str, Any] = {"num_sequences": len(written), "num_reference": len(reference)}

    def add(name: str, value: Sequence[float] | Floats, of: Floats | None = None) -> None:
        result.update(_interval(name, np.asarray(value, float), of, random))

    if is_valid is not None:
        add("valid", list(map(is_valid, progress.track(written, "sequences checked"))))
    result["unique"] = len(set(keys)) / len(keys)
    if training is not None:
        known = set(map(_key, training))
        add("novel", [key not in known for key in keys])
    nearest, *diversity = _compare(written, reference, random)
    result["diversity"], result["reference_diversity"] = diversity
    add("nearest", nearest)
    for name, some in (("", written), ("reference_", reference)):
        add(f"{name}length", [len(one) for one in some])
    result["symbols_distance"] = _symbols_distance(written, reference)
    for name, (nats, lengths) in _perplexities(written, reference, first, second).items():
        found = _interval(name, nats, lengths, random)
        result.update({key: math.exp(value) for key, value in found.items()})
    if num_classes > 1 and (y >= 0).any() and len(np.unique(reference_y[reference_y >= 0])) > 1:
        of_labels = _labels(written, y, reference, reference_y, (first, second), num_classes, seed)
        for name, value in of_labels.items():
            add(name, value)
        result["agreement_of_classes"] = _of_classes(of_labels, y[y >= 0], num_classes)
    return result


def _check(written: Sequences, reference: Sequences) -> None:
    if min(len(written), len(reference)) < 2:
        got = f"{len(written)} and {len(reference)}"
        raise InputError(f"wanted at least 2 sequences and 2 rows of the reference, got {got}")


def _of_classes(figures: dict[str, Floats], y: Integers, num_classes: int) -> list[float | None]:
    """The agreement of each class, None for one without sequences."""
    agreement = figures["label_agreement"]
    return [float(agreement[y == k].mean()) if (y == k).any() else None for k in range(num_classes)]


def _key(sequence: str | Sequence[str]) -> str | tuple[str, ...]:
    return sequence if isinstance(sequence, str) else tuple(sequence)


def _interval(
    name: str, value: Floats, of: Floats | None, random: np.random.Generator
) -> dict[str, float]:
    """A mean, or a ratio of sums, and its 95 % interval."""
    of = np.ones(len(value)) if of is None else of
    found = []
    for _ in range(NUM_RESAMPLES):
        some = random.integers(len(value), size=len(value))
        found.append(value[some].sum() / of[some].sum())
    low, high = np.quantile(found, [0.025, 0.975])
    mean = float(value.sum() / of.sum())
    return {name: mean, f"{name}_low": float(low), f"{name}_high": float(high)}


def _compare(
    written: Sequences, reference: Sequences, random: np.random.Generator
) -> tuple[Floats, float, float]:
    """Cosines with the nearest reference row, and the diversity of both."""
    some, others = (
        [part[i] for i in random.permutation(len(part))[:MAX_COMPARED].tolist()]
        for part in (written, reference)
    )
    vectorizer = TfidfVectorizer(analyzer=ngrams("characters", 3), sublinear_tf=True)
    of_reference = vectorizer.fit_transform(others)
    of_written = vectorizer.transform(some)
    nearest = [
        (of_written[start : start + NUM_ROWS] @ of_reference.T).max(1).toarray().ravel()
        for start in range(0, len(some), NUM_ROWS)
    ]

    def diversity(features: Any) -> float:
        n, total = features.shape[0], np.asarray(features.sum(0)).ravel()
        squares = float(features.multiply(features).sum())
        return float(1 - (total @ total - squares) / (n * (n - 1)))

    return np.concatenate(nearest), diversity(of_written), diversity(of_reference)


def _symbols_distance(written: Sequences, reference: Sequences) -> float:
    """Half of the sum of the differences between two distributions of symbols."""
    counts = [Counter(symbol for one in part for symbol in one) for part in (written, reference)]
    sums = [max(sum(part.values()), 1) for part in counts]
    return 0.5 * sum(
        abs(counts[0][symbol] / sums[0] - counts[1][symbol] / sums[1])
        for symbol in counts[0].keys() | counts[1].keys()
    )


def _encode(*parts: Sequences) -> tuple[list[EncodedRows], int]:
    """Characters or tokens of all parts, numbered alike, and the size of their vocabulary."""
    symbols = sorted({symbol for part in parts for one in part for symbol in one})
    is_text = isinstance(parts[0][0], str)
    vocabulary = (CharacterVocabulary if is_text else TokenVocabulary)(symbols)
    rows = [encode_given(part, vocabulary, max_length=MAX_SYMBOLS) for part in parts]
    return rows, len(vocabulary)


def _perplexities(
    written: Sequences, reference: Sequences, first: Integers, second: Integers
) -> dict[str, tuple[Floats, Floats]]:
    """By name nats and symbols of each row; `first` and `second` are halves of the reference."""
    (rows, of_reference), size = _encode(written, reference)
    pairs = {
        "perplexity": (rows, of_reference),
        "reverse_perplexity": (of_reference, rows),
        "reference_perplexity": (of_reference.take(first), of_reference.take(second)),
    }
    return {
        name: (_nats(of, by, size), of.lengths.astype(float)) for name, (of, by) in pairs.items()
    }


def _nats(rows: EncodedRows, by: EncodedRows, vocabulary_size: int) -> Floats:
    """-log p of each row by an interpolated n-gram model of other rows, in nats, `[n]`."""
    counts = NGramCounts(by, vocabulary_size=vocabulary_size, order=ORDER)
    model = NGramLM(vocabulary_size=vocabulary_size, num_classes=1, order=ORDER, num_features=1)
    model.assign(counts.keys, counts.count(np.ones((len(by), 1), np.float32)))
    row = np.repeat(np.arange(len(rows)), rows.lengths)
    time = np.arange(len(row)) - rows.offsets[row]
    symbols = rows.symbols.astype(np.int64)
    with torch.no_grad():
        found = model.target_probabilities(*map(torch.from_numpy, (symbols, row, time)))
    nats = -found[:, ORDER - 1, 0].log().double().numpy()
    return np.asarray(np.bincount(row, nats), np.float64)


def _labels(
    written: Sequences,
    y: Integers,
    reference: Sequences,
    reference_y: Integers,
    halves: tuple[Integers, Integers],
    num_classes: int,
    seed: int,
) -> dict[str, Floats]:
    """Whether the judge and the symbols of the classes agree with each label."""
    learned, measured = ([i for i in half.tolist() if reference_y[i] >= 0] for half in halves)
    task = Task([reference[i] for i in learned], reference_y[learned], num_classes)
    judge = BASELINES[JUDGE].fit(task, seed)
    symbols: list[set[str]] = [set() for _ in range(num_classes)]
    for one, label in zip(reference, reference_y.tolist(), strict=True):
        if label >= 0:
            symbols[label].update(one)
    kept = np.flatnonzero(y >= 0).tolist()
    of_label = judge([written[i] for i in kept]).argmax(1)
    right = judge([reference[i] for i in measured]).argmax(1) == reference_y[measured]
    return {
        "label_agreement": (of_label == y[kept]).astype(float),
        "judge_accuracy": right.astype(float),
        "foreign": np.array([not symbols[y[i]].issuperset(written[i]) for i in kept], float),
    }


def read_labelled(model: TrainedModel, data: Files) -> tuple[list[Any], Integers]:
    """The sequences of a file, and their classes, -1 for none; see `read_corpus_like`."""
    corpus = read_corpus_like(data, model.config, model.vocabulary, read_labels=True)
    y, _ = corpus.classes(model.labels)
    return list(corpus.sequences()), np.asarray(y, np.int64)


def write_like(
    model: TrainedModel, n: int, reference_y: Integers, options: Options
) -> tuple[list[Any], Integers]:
    """Sequences of the model with classes in the proportions of a reference, and these."""
    names = model.labels.names
    if not names:
        return list(model.generate(None, n, **options)), np.full(n, -1)
    counts = np.bincount(reference_y[reference_y >= 0], minlength=len(names)).astype(float)
    counts += not counts.any()
    ends = np.round(np.cumsum(counts) / counts.sum() * n).astype(int)
    sizes = np.diff(ends, prepend=0)
    written: list[Any] = []
    for name, size in zip(names, sizes.tolist(), strict=True):
        written += model.generate(name, size, **options)
    return written, np.repeat(np.arange(len(names)), sizes)


def training_sequences(model: TrainedModel, run: str) -> list[Any] | None:
    """The sequences that a run was trained on; None if the files are gone."""
    files = training_files(run, model.manifest)
    if files is None:
        return None
    corpus = read_corpus_like(files, model.config, model.vocabulary, read_labels=False)
    return list(corpus.sequences())


def reconstructed(model: TrainedModel, rows: Sequences, y: Integers, seed: int) -> float:
    """The share of labelled rows, 500 at most, that are the greedy path at their z and label."""
    chosen = np.random.default_rng(seed).permutation(np.flatnonzero(y >= 0))[:NUM_REBUILT]
    num_right = 0
    for k in np.unique(y[chosen]).tolist():
        some: list[Any] = [rows[i] for i in chosen[y[chosen] == k].tolist()]
        found = model.transfer(some, model.labels.names[k], strategy="greedy")
        num_right += sum(one == other for one, other in zip(some, found, strict=True))
    return num_right / len(chosen)
