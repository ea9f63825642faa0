"""The classifiers of which a teacher is made.

Three kinds: class-conditional n-gram models with leave-one-out EM, logistic regression (on TF-IDF
or LSA), and naive Bayes with EM.
"""

import abc
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from seqssvae.teacher.features import Features
from seqssvae.teacher.logistic import fit_logistic, soft_cross_entropy
from seqssvae.teacher.naive_bayes import fit_naive_bayes
from seqssvae.teacher.ngram_models import ALL, ClassNGrams
from seqssvae.teacher.partial import Known, is_known, set_cross_entropy
from seqssvae.teacher.sparse import Product

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]

STRONG, WEAK = (30.0, 100.0), (3.0, 10.0)  # pseudo-counts
LITTLE = 0.05  # a small weight of unlabelled rows
LOGISTIC_PENALTY, LOGISTIC_STEPS = 0.1, 100
BAYES_STEPS = 5


class FittedClassifier(NamedTuple):
    """Scores of a classifier: log p(x | y) or log p(y | x) up to a constant of each row.

    Attributes:
        own_scores: Of the rows it was fitted to, those that were asked for, `[n, K]`; n-gram models
            leave out a row's own counts.
        score: Computes the scores of other rows, `[n, K]`.
        of_vectors: W `[D, K]` and b `[K]`, where the scores are v W + b.
    """

    own_scores: Float32
    score: Callable[[Features], Float32]
    of_vectors: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None


class Classifier(abc.ABC):
    """A classifier and its settings.

    Attributes:
        name: Unique name.
        level: Level of the features it reads: "main", "characters" or "vectors".
        has_prior: Whether its scores include the class shares of the labelled rows.
        usual_temperature: Temperature of its scores where there are too few labels to fit one.
        unlabelled_weight: Weight of an unlabelled row; 0 if it does not learn from them.
    """

    name: str
    level: str
    has_prior: bool
    usual_temperature: float
    unlabelled_weight: float

    @abc.abstractmethod
    def fit(
        self,
        features: Features,
        evidence: Known,
        num_steps: int,
        scored: Int64 | slice = ALL,
    ) -> FittedClassifier:
        """Fit to rows.

        Args:
            features: N rows.
            evidence: What is known of the classes, `[N, K]`; see `partial`.
            num_steps: Maximum number of steps of EM.
            scored: Rows whose scores are wanted, `[n]`.
        """


@dataclasses.dataclass(frozen=True)
class NGramClassifier(Classifier):
    """`ClassNGrams`, with the symbols before a symbol or its position in the row as context."""

    name: str
    level: str
    order: int
    pseudo_counts: tuple[float, float]
    share: float
    unlabelled_weight: float
    by_position: bool = False
    has_prior: bool = False
    usual_temperature: float = 3.0

    def fit(  # noqa: D102
        self,
        features: Features,
        evidence: Known,
        num_steps: int,
        scored: Int64 | slice = ALL,
    ) -> FittedClassifier:
        model = ClassNGrams(
            features.index(self.level, self.by_position),
            order=self.order,
            pseudo_counts=self.pseudo_counts,
            share=self.share,
        )
        own_scores = model.fit(
            evidence,
            unlabelled_weight=self.unlabelled_weight,
            num_steps=num_steps,
            scored=scored,
        )
        return FittedClassifier(own_scores, lambda other: model.score(other.rows[self.level]))


@dataclasses.dataclass(frozen=True)
class LogisticClassifier(Classifier):
    """Logistic regression on TF-IDF or LSA of n-grams."""

    name: str
    level: str
    ngrams: str
    lsa: bool = False
    has_prior: bool = True
    usual_temperature: float = 1.0
    unlabelled_weight: float = 0.0

    def fit(  # noqa: D102
        self,
        features: Features,
        evidence: Known,
        num_steps: int,
        scored: Int64 | slice = ALL,
    ) -> FittedClassifier:
        matrix = features.matrix(self.level, self.ngrams)
        # a single n-gram has no singular vectors
        transformer, own = matrix.lsa if self.lsa and len(matrix.columns) > 1 else matrix.tfidf
        known = np.flatnonzero(is_known(evidence))
        weight, bias = regress(own[known], evidence[known], LOGISTIC_PENALTY)

        def score(other: Features) -> Float32:
            counts = other.counts(self.level, self.ngrams)[:, matrix.columns]
            return _linear(transformer.transform(counts), weight, bias)

        return FittedClassifier(_linear(own[scored], weight, bias), score)


@dataclasses.dataclass(frozen=True)
class BayesClassifier(Classifier):
    """Naive Bayes on counts of n-grams, with EM."""

    name: str
    level: str
    ngrams: str
    has_prior: bool = False
    usual_temperature: float = 5.0
    unlabelled_weight: float = 0.1

    def fit(  # noqa: D102
        self,
        features: Features,
        evidence: Known,
        num_steps: int,
        scored: Int64 | slice = ALL,
    ) -> FittedClassifier:
        matrix = features.matrix(self.level, self.ngrams)
        log_probs = fit_naive_bayes(
            matrix.counts,
            evidence,
            unlabelled_weight=self.unlabelled_weight,
            num_steps=min(num_steps, BAYES_STEPS),
            learn_prior=True,
        )

        def score(other: Features) -> Float32:
            return _linear(other.counts(self.level, self.ngrams)[:, matrix.columns], log_probs)

        return FittedClassifier(_linear(matrix.counts[scored], log_probs), score)


def regress(
    x: csr_matrix | NDArray[np.floating], evidence: Known, penalty: float
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Weights `[F, K]` and bias `[K]` of logistic regression on rows, `[n, F]`.

    Args:
        x: Their features.
        evidence: What is known of their classes, `[n, K]`; see `partial`.
        penalty: As in `fit_logistic`.
    """
    has_sets = bool(((evidence > 0).sum(1) > 1).any())
    return fit_logistic(
        x,
        evidence,
        np.ones(len(evidence)),
        penalty=penalty,
        num_steps=LOGISTIC_STEPS,
        cross_entropy=set_cross_entropy if has_sets else soft_cross_entropy,  # the same of labels
    )


def _linear(
    features: csr_matrix | Float32, weight: NDArray[np.floating], bias: NDArray[Any] | float = 0.0
) -> Float32:
    """X W + b, `[n, K]`."""
    scores: Float32 = Product(features)(weight) + bias
    return scores


def list_classifiers(*, has_words: bool, long_characters: bool) -> Sequence[Classifier]:
    """The classifiers of a pool.

    Args:
        has_words: Whether there is a level of characters beside the main one.
        long_characters: Whether n-gram models read it (the others always do).
    """
    order, other = (3, "characters") if has_words else (4, "main")
    classifiers: list[Classifier] = [
        NGramClassifier(f"{size}-grams, {smoothing}, EM {weight}", "main", size, a, share, weight)
        for size, smoothing, a, share, weight in (
            (order, "strong", STRONG, 1.0, 1.0),
            (2, "strong", STRONG, 1.0, 1.0),
            (order, "strong", STRONG, 1.0, LITTLE),
            (1, "strong", STRONG, 1.0, LITTLE),
            (order, "weak", WEAK, 1.0, LITTLE),
            (3, "weak halved", WEAK, 0.5, LITTLE),
            (3, "weak halved", WEAK, 0.5, 0.0),
        )
    ]
    for weight in (1.0, LITTLE):
        name = f"positions, EM {weight}"
        classifiers.append(
            NGramClassifier(name, "main", 1, (10.0, 10.0), 1.0, weight, by_position=True)
        )
    if long_characters:
        for weight in (1.0, LITTLE):
            name = f"4-grams of characters, strong, EM {weight}"
            classifiers.append(NGramClassifier(name, "characters", 4, STRONG, 1.0, weight))
    classifiers += [
        LogisticClassifier("logistic regression on bigrams", "main", "bigrams"),
        LogisticClassifier("logistic regression on 5-grams", other, "5-grams"),
        LogisticClassifier("logistic regression on positions", "main", "positions"),
        LogisticClassifier("logistic regression on LSA", "main", "bigrams", lsa=True),
        BayesClassifier("naive Bayes on bigrams, EM", "main", "bigrams"),
        BayesClassifier("naive Bayes on 5-grams, EM", other, "5-grams"),
    ]
    return classifiers
