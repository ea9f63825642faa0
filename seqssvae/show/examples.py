"""Rows that show what a run does: those it confuses, and training rows like generated ones."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.preprocessing import normalize

from seqssvae.data.encoded import EncodedRows
from seqssvae.nn.ngrams import NGrams, count_ngrams

NUM_PAIRS = 6  # of labels, at most
NUM_EXAMPLES = 3  # rows of a pair, at most
NUM_BUCKETS = 2**20


class ConfusedPair(NamedTuple):
    """Rows of one label that are given another one.

    Attributes:
        true: Their label.
        predicted: The label that they are given.
        num_rows: Their number.
        share: Of the rows whose label is `true`.
        examples: Some of them, those with the most confident mistake first.
    """

    true: str
    predicted: str
    num_rows: int
    share: float
    examples: list[str]


def find_confused_pairs(
    y: NDArray[np.int64],
    probabilities: NDArray[np.float64],
    labels: Sequence[str],
    sequences: Sequence[str],
) -> list[ConfusedPair]:
    """The pairs of labels that are confused most often, in descending order.

    Args:
        y: True classes, -1 for rows without a label, `[n]`.
        probabilities: Of each label, `[n, K]`.
        labels: Names of the classes, K of them.
        sequences: The rows, n of them.
    """
    if not labels:
        return []
    best, confidence = probabilities.argmax(1), probabilities.max(1)
    wrong = np.flatnonzero((y >= 0) & (best != y))
    pairs, counts = np.unique(np.stack([y[wrong], best[wrong]], 1), axis=0, return_counts=True)
    found = []
    for number in np.argsort(-counts, kind="stable")[:NUM_PAIRS]:
        true, predicted = pairs[number].tolist()
        rows = wrong[(y[wrong] == true) & (best[wrong] == predicted)]
        rows = rows[np.argsort(-confidence[rows], kind="stable")]
        found.append(
            ConfusedPair(
                labels[true],
                labels[predicted],
                len(rows),
                len(rows) / int((y == true).sum()),
                [sequences[row] for row in rows[:NUM_EXAMPLES]],
            )
        )
    return found


def find_nearest(rows: EncodedRows, others: EncodedRows | csr_matrix) -> NDArray[np.int64]:
    """For each row, the number of the other row with the most alike n-grams of up to 3 symbols.

    Args:
        rows: n rows.
        others: At least one row, or their `ngram_vectors`.

    Returns:
        `[n]`; of equally near rows, the first one.
    """
    return find_alike(rows, others, 1)[:, 0]


def find_alike(rows: EncodedRows, others: EncodedRows | csr_matrix, num: int) -> NDArray[np.int64]:
    """As `find_nearest`, the nearest `num` other rows, `[n, num]`; fewer if there are fewer."""
    vectors = ngram_vectors(others) if isinstance(others, EncodedRows) else others
    alike = (ngram_vectors(rows) @ vectors.T).toarray()
    order: NDArray[np.int64] = np.argsort(-alike, axis=1, kind="stable")[:, :num]
    return order


def ngram_vectors(rows: EncodedRows) -> csr_matrix:
    """Square roots of the counts of n-grams of up to 3 symbols, of length 1, `[n, buckets]`."""
    return normalize(count_ngrams(rows, [NGrams(3)], num_buckets=NUM_BUCKETS)[0].sqrt())


def show_sequence(sequence: str | Sequence[str]) -> str:
    """A sequence as one printable line: tokens joined by spaces, control characters as U+FFFD.

    Example:
        >>> show_sequence(["e4", "e5"])
        'e4 e5'
    """
    text = sequence if isinstance(sequence, str) else " ".join(sequence)
    return "".join(c if c.isprintable() else " " if c.isspace() else "\ufffd" for c in text)
