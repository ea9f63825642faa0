"""Cheap classifiers to compare with: TF-IDF, LSA, self-training, naive Bayes with and without EM.

All through scikit-learn, but for the EM over naive Bayes (Nigam et al. 2000). Each is fitted to
labelled and unlabelled sequences and, where a setting is chosen, chooses it on dev rows.
"""

import abc
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, vstack
from sklearn.base import clone
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer
from sklearn.semi_supervised import SelfTrainingClassifier

__all__ = ["BASELINES", "Baseline", "Sequences", "Task"]

Sequences = Sequence[str] | Sequence[Sequence[str]]
Array = NDArray[np.float64]

SELF_TRAINING_FEATURES, SELF_TRAINING_ROWS = 20_000, 4_000  # for it fits again and again
SELF_TRAINING_ROUNDS = 4
EM_WEIGHTS = (0.0, 0.01, 0.1, 1.0)  # of an unlabelled row; 0 is plain naive Bayes
EM_STEPS = 10
EM_SMOOTHING = 0.1


@dataclasses.dataclass(frozen=True)
class Task:
    """What a classifier learns from; the same for every arm of a comparison.

    Attributes:
        labelled: Training sequences with a label.
        y: Their classes, `[n]`.
        unlabelled: Training sequences without.
        dev: Held-out labelled sequences, for choices; may be empty.
        dev_y: Their classes.
        num_classes: K.
    """

    labelled: Sequences
    y: NDArray[np.int64]
    unlabelled: Sequences
    dev: Sequences
    dev_y: NDArray[np.int64]
    num_classes: int


class Baseline(abc.ABC):
    """A classifier with a name."""

    @abc.abstractmethod
    def fit(self, task: Task, seed: int) -> Callable[[Sequences], Array]:
        """Learn, and return the function from n sequences to probabilities `[n, K]`."""


def ngrams(unit: str, longest: int) -> Callable[[str | Sequence[str]], list[str]]:
    """What a vectoriser counts.

    Args:
        unit: "words" or "characters"; given tokens are the symbols of either.
        longest: n-grams have from 1 to this many symbols.
    """

    def analyse(sequence: str | Sequence[str]) -> list[str]:
        if isinstance(sequence, str):
            symbols = sequence.lower().split() if unit == "words" else list(f" {sequence} ")
            joint = " " if unit == "words" else ""
        else:
            symbols, joint = ["^", *sequence, "$"], " "
        return [
            joint.join(symbols[start : start + size])
            for size in range(1, longest + 1)
            for start in range(len(symbols) - size + 1)
        ]

    return analyse


def spread(probabilities: Array, classes: NDArray[np.int64], num_classes: int) -> Array:
    """Probabilities of all K classes from those of the classes that were seen."""
    table = np.zeros((len(probabilities), num_classes))
    table[:, classes] = probabilities
    return table


@dataclasses.dataclass(frozen=True)
class Logistic(Baseline):
    """TF-IDF with logistic regression; over LSA's dimensions, or self-trained, as asked."""

    unit: str
    longest: int
    lsa_size: int = 0
    self_trained: bool = False
    strength: float = 10.0  # scikit-learn's C

    def fit(self, task: Task, seed: int) -> Callable[[Sequences], Array]:
        """Learn; the vectoriser and LSA see unlabelled rows too."""
        vectorizer = TfidfVectorizer(
            analyzer=ngrams(self.unit, self.longest),
            sublinear_tf=True,
            max_features=SELF_TRAINING_FEATURES if self.self_trained else None,
        )
        everything = [*task.labelled, *task.unlabelled]
        features = vectorizer.fit_transform(everything)
        steps: list[object] = []
        if self.lsa_size:
            size = max(1, min(self.lsa_size, min(features.shape) - 1))
            steps = [TruncatedSVD(size, random_state=seed), Normalizer()]
        pipeline = make_pipeline(*steps) if steps else None
        if pipeline is not None:
            features = pipeline.fit_transform(features)
        y, labelled = task.y, features[: len(task.y)]
        if len(np.unique(y)) < 2:
            only = spread(np.ones((1, 1)), np.unique(y), task.num_classes)
            return lambda sequences: np.repeat(only, len(sequences), 0)

        def transform(sequences: Sequences) -> csr_matrix | Array:
            found = vectorizer.transform(sequences)
            return found if pipeline is None else pipeline.transform(found)

        model = LogisticRegression(C=self.strength, max_iter=1000)
        used = np.arange(features.shape[1])
        if self.self_trained and len(task.unlabelled):
            free = np.random.default_rng(seed).permutation(len(task.unlabelled))
            free = len(y) + free[:SELF_TRAINING_ROWS]
            rows = np.concatenate([np.arange(len(y)), free])
            y = np.concatenate([y, np.full(len(free), -1)])
            surest = {"criterion": "k_best", "k_best": -(-len(free) // SELF_TRAINING_ROUNDS)}
            candidates = [
                SelfTrainingClassifier(clone(model), max_iter=SELF_TRAINING_ROUNDS, **options).fit(
                    features[rows], y
                )
                for options in ({"threshold": 0.9}, surest)
            ]
            model = max(candidates, key=lambda candidate: _dev_score(candidate, task, transform))
        else:
            # the minimum has no weight where no labelled row has a feature
            used = np.flatnonzero(np.asarray(abs(labelled).sum(0)).ravel())
            model.fit(labelled[:, used], y)

        def predict(sequences: Sequences) -> Array:
            found = model.predict_proba(transform(sequences)[:, used])
            return spread(found, model.classes_, task.num_classes)

        return predict


def _dev_score(
    model: SelfTrainingClassifier, task: Task, transform: Callable[[Sequences], Any]
) -> tuple[float, float]:
    """Accuracy, then mean log-likelihood, on labelled dev rows; zeros without any."""
    if not len(task.dev):
        return (0.0, 0.0)
    table = spread(model.predict_proba(transform(task.dev)), model.classes_, task.num_classes)
    chosen = table[np.arange(len(table)), task.dev_y]
    return (float((table.argmax(1) == task.dev_y).mean()), float(np.log(chosen + 1e-12).mean()))


@dataclasses.dataclass(frozen=True)
class NaiveBayes(Baseline):
    """Multinomial naive Bayes; with EM, the weight of unlabelled rows is chosen on dev."""

    unit: str
    longest: int
    em: bool

    def fit(self, task: Task, seed: int) -> Callable[[Sequences], Array]:
        """Learn."""
        vectorizer = CountVectorizer(analyzer=ngrams(self.unit, self.longest))
        counts = vectorizer.fit_transform([*task.labelled, *task.unlabelled]).astype(np.float64)
        labelled, unlabelled = counts[: len(task.y)], counts[len(task.y) :]
        weights = EM_WEIGHTS if self.em and unlabelled.shape[0] else (0.0,)
        models = [_expectation_maximisation(task, labelled, unlabelled, w) for w in weights]
        if len(task.dev) and len(models) > 1:
            dev = vectorizer.transform(task.dev)
            scores = [float((m.predict(dev) == task.dev_y).mean()) for m in models]
            likelihoods = [
                float(
                    np.log(
                        m.predict_proba(dev)[np.arange(len(task.dev_y)), task.dev_y] + 1e-12
                    ).mean()
                )
                for m in models
            ]
            best = max(range(len(models)), key=lambda i: (scores[i], likelihoods[i]))
        else:
            best = len(models) // 2
        model = models[best]

        def predict(sequences: Sequences) -> Array:
            probabilities: Array = model.predict_proba(vectorizer.transform(sequences))
            return probabilities

        return predict


def _expectation_maximisation(
    task: Task, labelled: csr_matrix, unlabelled: csr_matrix, weight: float
) -> MultinomialNB:
    """Naive Bayes fitted to labelled rows and, each counting `weight`, to unlabelled ones."""
    one_hot = np.eye(task.num_classes)[task.y]
    num_classes, rows = task.num_classes, unlabelled.shape[0]
    model = MultinomialNB(alpha=EM_SMOOTHING, fit_prior=False)
    classes = np.arange(num_classes)
    model.partial_fit(labelled, task.y, classes=classes)
    if weight == 0 or rows == 0:
        return model
    everything = vstack([labelled, unlabelled]).tocsr()
    for _ in range(EM_STEPS):
        posterior = model.predict_proba(unlabelled)
        responsibility = np.concatenate([one_hot, weight * posterior])  # [n + m, K]
        model.feature_count_ = np.asarray(responsibility.T @ everything)
        model.class_count_ = responsibility.sum(0)
        model._update_feature_log_prob(EM_SMOOTHING)
    return model


BASELINES: dict[str, Baseline] = {
    "tfidf-lr-words": Logistic("words", 2),
    "tfidf-lr-characters": Logistic("characters", 5),
    "lsa-lr": Logistic("words", 1, lsa_size=100),
    "self-trained-lr": Logistic("characters", 5, self_trained=True),
    "nb-words": NaiveBayes("words", 1, em=False),
    "nb-characters": NaiveBayes("characters", 4, em=False),
    "nb-em-words": NaiveBayes("words", 1, em=True),
    "nb-em-characters": NaiveBayes("characters", 4, em=True),
}
