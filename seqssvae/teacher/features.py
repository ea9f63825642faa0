"""Rows as the teacher's classifiers read them: words, characters or tokens, and counted n-grams."""

import dataclasses
import functools
import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor
from scipy.sparse import csr_matrix
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import Normalizer

from seqssvae.data.encoded import EncodedRows
from seqssvae.data.rows import WORD, has_words
from seqssvae.data.vocabulary import EOS, CharacterVocabulary, TokenVocabulary, Vocabulary
from seqssvae.nn.ngrams import NGrams, count_ngrams
from seqssvae.teacher.ngram_models import NGramIndex

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]
Sequences = Sequence[str] | Sequence[Sequence[str]]

NUM_FIRST_ROWS = 1000  # checked for words
NUM_BUCKETS = 2**20
MANY_CLASSES = 5  # with more, the limits on symbols are lowered in proportion
TINY = 1e-9  # variance, where there is none
NGRAMS = {"bigrams": NGrams(2), "5-grams": NGrams(5), "positions": NGrams(2, num_positions=40)}


@dataclasses.dataclass(frozen=True)
class Limits:
    """Bounds on what is read, so that time and memory are bounded for any corpus.

    Attributes:
        labels: Labelled rows.
        rows: Rows that the pool is fitted to.
        symbols: Words, characters or tokens that the pool is fitted to.
        fold_rows: Unlabelled rows in each fold of cross-validation.
        fold_symbols: Symbols in each fold of cross-validation.
        characters: Characters beside words; if there are more, n-gram models do not read them.
    """

    labels: int = 5_000
    rows: int = 20_000
    symbols: int = 1_000_000
    fold_rows: int = 3_500
    fold_symbols: int = 200_000
    characters: int = 1_200_000


class Analyzer:
    """Cuts sequences into symbols, and encodes them by the symbols of the rows it is fitted to.

    A text is read in lower case, at the level "main". If texts have words, its symbols there are
    words and punctuation marks, and there is a second level, "characters"; if not, they are the
    characters. Tokens are used as they are.

    Args:
        sequences: Rows whose symbols make up the vocabulary; others become UNK.
        max_symbols: Symbols of a row that are read, from its start.

    Attributes:
        vocabularies: The symbols of each level.
    """

    def __init__(self, sequences: Sequences, *, max_symbols: int = 2000) -> None:
        self.max_symbols = max_symbols
        self._has_words = has_words(sequences[:NUM_FIRST_ROWS])
        self.vocabularies: dict[str, Vocabulary] = {}
        for level in ("main", "characters") if self._has_words else ("main",):
            cut = self._cut(sequences, level)
            symbols = list(dict.fromkeys(itertools.chain.from_iterable(cut)))
            is_text = all(isinstance(row, str) for row in cut)
            kind = CharacterVocabulary if is_text else TokenVocabulary
            self.vocabularies[level] = kind(symbols)

    def encode(self, sequences: Sequences, vectors: Float32 | None = None) -> "Features":
        """Rows as symbol ids, EOS at the end of each, and their vectors `[N, D]`, if any."""
        rows = {}
        for level, vocabulary in self.vocabularies.items():
            symbols, lengths = vocabulary.encode_many(self._cut(sequences, level))
            symbols = np.insert(symbols, np.cumsum(lengths), EOS)
            rows[level] = EncodedRows(symbols, np.cumsum([0, *(lengths + 1)]))
        sizes = {level: len(vocabulary) for level, vocabulary in self.vocabularies.items()}
        return Features(rows, sizes, vectors)

    def _cut(self, sequences: Sequences, level: str) -> list[Sequence[str]]:
        """The symbols of each row, in a text if they are characters."""
        lower = [row.lower() if isinstance(row, str) else row for row in sequences]
        by_words = level == "main" and self._has_words
        cut = [WORD.findall(str(row)) for row in lower] if by_words else lower
        return [row[: self.max_symbols] for row in cut]


class Features:
    """Encoded rows, and what classifiers compute of them, each once.

    Args:
        rows: The same N rows at the level "main" and, for texts with words, "characters".
        vocabulary_sizes: V of each level.
        vectors: Vectors beside the rows, `[N, D]`, NaN where one is missing; None without.
    """

    def __init__(
        self,
        rows: Mapping[str, EncodedRows],
        vocabulary_sizes: Mapping[str, int],
        vectors: Float32 | None = None,
    ) -> None:
        self.rows, self.vocabulary_sizes, self.vectors = rows, vocabulary_sizes, vectors
        self.has_words = "characters" in rows
        self._counts: dict[tuple[str, str], csr_matrix] = {}
        self._indices: dict[tuple[str, bool], NGramIndex] = {}
        self._matrices: dict[tuple[str, str], DocumentTermMatrix] = {}

    def __len__(self) -> int:
        return len(self.rows["main"])

    def take(self, numbers: Int64) -> "Features":
        """A selection of the rows, in this order."""
        rows = {level: of_level.take(numbers) for level, of_level in self.rows.items()}
        vectors = None if self.vectors is None else self.vectors[numbers]
        return Features(rows, self.vocabulary_sizes, vectors)

    @functools.cached_property
    def space(self) -> "VectorSpace":
        """The vectors, standardised."""
        assert self.vectors is not None
        return VectorSpace(self.vectors)

    def counts(self, level: str, ngrams: str) -> csr_matrix:
        """Counts of n-grams, a key of `NGRAMS`, `[N, 2**20]`."""
        if (level, ngrams) not in self._counts:
            (self._counts[level, ngrams],) = count_ngrams(
                self.rows[level], [NGRAMS[ngrams]], num_buckets=NUM_BUCKETS
            )
        return self._counts[level, ngrams]

    def index(self, level: str, by_position: bool) -> NGramIndex:
        """The n-grams of a level for `ClassNGrams`."""
        if (level, by_position) not in self._indices:
            order = 3 if self.has_words and level == "main" else 4
            self._indices[level, by_position] = NGramIndex(
                self.rows[level],
                vocabulary_size=self.vocabulary_sizes[level],
                order=1 if by_position else order,
                by_position=by_position,
            )
        return self._indices[level, by_position]

    def matrix(self, level: str, ngrams: str) -> "DocumentTermMatrix":
        """The document-term matrix of n-grams, a key of `NGRAMS`."""
        if (level, ngrams) not in self._matrices:
            self._matrices[level, ngrams] = DocumentTermMatrix(self.counts(level, ngrams))
        return self._matrices[level, ngrams]


class VectorSpace:
    """Vectors, centred and divided by one number, so that their mean square length is 1.

    Args:
        vectors: `[N, D]`, NaN where one is missing.

    Attributes:
        mean: `[D]`.
        scale: The number.
        x: The vectors, `[N, D]`, 0 where one is missing.
        is_known: Which are not missing, `[N]`.
    """

    def __init__(self, vectors: Float32) -> None:
        known = vectors[~np.isnan(vectors).any(1)].astype(np.float64)
        self.mean = known.mean(0) if len(known) else np.zeros(vectors.shape[1])
        square = float(((known - self.mean) ** 2).sum() / max(len(known), 1))
        self.scale = square**0.5 or 1.0
        self.x, self.is_known = self.standardise(vectors)
        self._factors: dict[float, tuple[NDArray[np.float64], bool]] = {}

    def standardise(self, vectors: Float32) -> tuple[Float32, NDArray[np.bool_]]:
        """x and `is_known` of vectors, `[n, D]`."""
        is_known: NDArray[np.bool_] = np.logical_not(np.isnan(vectors).any(1))
        x: Float32 = ((vectors - self.mean) / self.scale).astype(np.float32)
        x[~is_known] = 0
        return x, is_known

    @functools.cached_property
    def covariance(self) -> NDArray[np.float64]:
        """x^T x / N, `[D, D]`."""
        return (self.x.T @ self.x).astype(np.float64) / max(int(self.is_known.sum()), 1)

    def factor(self, shrinkage: float) -> tuple[NDArray[np.float64], bool]:
        """The Cholesky factor of the covariance, a share of it replaced by the identity's."""
        if shrinkage not in self._factors:
            size = len(self.covariance)
            more = shrinkage * np.trace(self.covariance) / size + TINY
            covariance = (1 - shrinkage) * self.covariance + more * np.eye(size)
            self._factors[shrinkage] = cho_factor(covariance)
        return self._factors[shrinkage]


class DocumentTermMatrix:
    """Counts of the n-grams that occur in two rows or more; of all n-grams, if none does.

    Args:
        counts: `[N, 2**20]`.
        num_components: Dimensions of LSA.

    Attributes:
        columns: The n-grams, `[F]`.
        counts: `[N, F]`.
    """

    def __init__(self, counts: csr_matrix, *, num_components: int = 100) -> None:
        document_frequency = np.bincount(counts.indices, minlength=counts.shape[1])
        least = min(2, max(1, document_frequency.max()))
        self.columns = np.flatnonzero(document_frequency >= least)
        self.counts: csr_matrix = counts[:, self.columns]
        self.num_components = num_components

    @functools.cached_property
    def tfidf(self) -> tuple[TfidfTransformer, csr_matrix]:
        """TF-IDF of these rows, `[N, F]`, and the transformer for others."""
        transformer = TfidfTransformer(sublinear_tf=True)
        return transformer, transformer.fit_transform(self.counts)

    @functools.cached_property
    def lsa(self) -> tuple[Pipeline, NDArray[np.float32]]:
        """Singular vectors of TF-IDF, normalised, `[N, D]`, and the transformer for other rows."""
        size = max(1, min(self.num_components, min(self.counts.shape) - 1))
        transformer = make_pipeline(
            TfidfTransformer(sublinear_tf=True),
            TruncatedSVD(size, n_iter=3, random_state=0),
            Normalizer(),
        )
        with np.errstate(invalid="ignore"):  # explained variance is 0 / 0 if all rows are equal
            return transformer, transformer.fit_transform(self.counts)


def num_first(features: Features, least: int, num_symbols: int, num_classes: int) -> int:
    """How many leading rows have at most this number of main symbols; at least `least`."""
    ends = features.rows["main"].offsets[1:]
    return max(
        least, int(np.searchsorted(ends, scale_limit(num_symbols, num_classes), side="right"))
    )


def scale_limit(num_symbols: int, num_classes: int) -> int:
    """A limit on symbols, lower for many classes, since time grows with both."""
    return num_symbols * MANY_CLASSES // max(num_classes, MANY_CLASSES)


def draw_rows(
    num_rows: int,
    labelled: Int64,
    informed: Int64,
    seed: int,
    limits: Limits,
) -> tuple[Int64, Int64]:
    """Which labels are read, `[n]`, and the rows: those with these labels, `informed`, others.

    The last two are in random order.
    """
    random = np.random.default_rng(seed)
    chosen = np.sort(random.permutation(len(labelled))[: limits.labels])
    others = random.permutation(np.setdiff1d(np.arange(num_rows), labelled))
    others = others[np.argsort(~np.isin(others, informed), kind="stable")]
    return chosen, np.concatenate((labelled[chosen], others))[: max(limits.rows, len(chosen))]
