"""Baselines: TF-IDF, LSA, self-training, and naive Bayes with and without EM.

All but the EM are scikit-learn's. Each is fitted to labelled and unlabelled sequences; settings
are chosen on dev rows, whose labels are learned after that.
"""

import abc
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.base import clone
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer
from sklearn.semi_supervised import SelfTrainingClassifier

from seqssvae.teacher.features import Sequences
from seqssvae.teacher.naive_bayes import fit_naive_bayes
from seqssvae.teacher.partial import possible_classes

Float64 = NDArray[np.float64]
Predict = Callable[[Sequences], Float64]  # from n sequences to probabilities `[n, K]`
Setting = TypeVar("Setting")

SELF_TRAINING_FEATURES, SELF_TRAINING_ROWS = 20_000, 4_000  # fewer, since it fits many times
SELF_TRAINING_ROUNDS = 4
EM_WEIGHTS = (0.0, 0.01, 0.1, 1.0)  # of an unlabelled row; 0 is plain naive Bayes


@dataclasses.dataclass(frozen=True)
class Task:
    """The data of a classifier; the same for every arm of a comparison.

    Attributes:
        labelled: Training sequences with a label.
        y: Their classes, `[n]`.
        num_classes: K.
        unlabelled: Training sequences without a label.
        dev: Held-out labelled sequences, to choose settings; learned once these are chosen.
        dev_y: Their classes.
    """

    labelled: Sequences
    y: NDArray[np.int64]
    num_classes: int
    unlabelled: Sequences = ()
    dev: Sequences = ()
    dev_y: NDArray[np.int64] = dataclasses.field(default_factory=lambda: np.zeros(0, np.int64))

    @property
    def sequences(self) -> list[str | Sequence[str]]:
        """All of them: labelled, dev, unlabelled."""
        return [*self.labelled, *self.dev, *self.unlabelled]

    @property
    def all_y(self) -> NDArray[np.int64]:
        """Classes of the labelled sequences, then of dev."""
        return np.concatenate([self.y, self.dev_y])


class Baseline(abc.ABC):
    """A classifier and its settings."""

    @abc.abstractmethod
    def fit(self, task: Task, seed: int) -> Predict:
        """Choose settings on dev, fit to all labels; returns what predicts other sequences."""


def ngrams(unit: str, longest: int) -> Callable[[str | Sequence[str]], list[str]]:
    """An analyzer for a vectorizer: the n-grams of a sequence.

    Args:
        unit: "words" or "characters" of a text; of a list of tokens, the tokens.
        longest: Size of the longest n-grams; the shortest have one symbol.
    """

    def analyze(sequence: str | Sequence[str]) -> list[str]:
        if isinstance(sequence, str):
            symbols = sequence.lower().split() if unit == "words" else list(f" {sequence} ")
            separator = " " if unit == "words" else ""
        else:
            symbols, separator = ["^", *sequence, "$"], " "
        return [
            separator.join(symbols[start : start + size])
            for size in range(1, longest + 1)
            for start in range(len(symbols) - size + 1)
        ]

    return analyze


def dev_score(probabilities: Float64, y: NDArray[np.int64]) -> tuple[float, float]:
    """Accuracy, then mean log-likelihood, on labelled dev rows; zeros if there are none."""
    if not len(y):
        return (0.0, 0.0)
    of_true_class = np.maximum(probabilities[np.arange(len(y)), y], 1e-12)
    return float(np.mean(probabilities.argmax(1) == y)), float(np.log(of_true_class).mean())


@dataclasses.dataclass(frozen=True)
class Logistic(Baseline):
    """Logistic regression on TF-IDF or LSA, perhaps with self-training."""

    unit: str
    longest: int
    lsa_size: int = 0
    self_trained: bool = False

    def fit(self, task: Task, seed: int) -> Predict:
        """Fit; TF-IDF and LSA are fitted to unlabelled rows too."""
        vectorizer = TfidfVectorizer(
            analyzer=ngrams(self.unit, self.longest),
            sublinear_tf=True,
            max_features=SELF_TRAINING_FEATURES if self.self_trained else None,
        )
        features = vectorizer.fit_transform(task.sequences)
        transform = vectorizer.transform
        if self.lsa_size:
            size = max(1, min(self.lsa_size, min(features.shape) - 1))
            lsa = make_pipeline(TruncatedSVD(size, random_state=seed), Normalizer())
            features = lsa.fit_transform(features)
            transform = make_pipeline(vectorizer, lsa).transform
        model = LogisticRegression(C=10.0, max_iter=1000)
        chosen = np.random.default_rng(seed).permutation(len(task.unlabelled))[:SELF_TRAINING_ROWS]
        self_trains = self.self_trained and len(chosen) > 0

        def fit(y: NDArray[np.int64], criterion: dict[str, Any]) -> Predict:
            classes, labelled = np.unique(y), features[: len(y)]
            if len(classes) == 1:
                return lambda rows: np.eye(task.num_classes)[np.repeat(classes, len(rows))]
            if self_trains:
                used = np.arange(features.shape[1])
                rows = np.concatenate([np.arange(len(y)), len(task.all_y) + chosen])
                fitted = SelfTrainingClassifier(
                    clone(model), max_iter=SELF_TRAINING_ROUNDS, **criterion
                ).fit(features[rows], np.concatenate([y, np.full(len(chosen), -1)]))
            else:  # a feature that no labelled row has gets the weight 0
                used = np.flatnonzero(np.asarray(abs(labelled).sum(0)).ravel() > 0)
                fitted = clone(model).fit(labelled[:, used], y)

            def predict(sequences: Sequences) -> Float64:
                result = np.zeros((len(sequences), task.num_classes))
                result[:, fitted.classes_] = fitted.predict_proba(transform(sequences)[:, used])
                return result

            return predict

        part = -(-len(chosen) // SELF_TRAINING_ROUNDS)
        criteria: list[dict[str, Any]] = [
            {"criterion": "k_best", "k_best": part},
            {"threshold": 0.9},
        ]
        return _choose_and_fit(fit, criteria if self_trains else criteria[:1], task)


@dataclasses.dataclass(frozen=True)
class NaiveBayes(Baseline):
    """Multinomial naive Bayes with EM; the weight of unlabelled rows is chosen on dev rows."""

    unit: str
    longest: int
    unlabelled_weights: Sequence[float] = (0.0,)
    num_steps: int = 10

    def fit(self, task: Task, seed: int) -> Predict:
        """Fit; without dev rows the weight is the one in the middle."""
        vectorizer = CountVectorizer(analyzer=ngrams(self.unit, self.longest), dtype=np.float64)
        counts = vectorizer.fit_transform(task.sequences)
        unlabelled = np.arange(len(task.all_y), counts.shape[0])

        def fit(y: NDArray[np.int64], weight: float) -> Predict:
            labelled = np.arange(len(y))
            rows = np.concatenate([labelled, unlabelled])
            log_probs = fit_naive_bayes(
                counts[rows],
                possible_classes(len(rows), labelled, y, task.num_classes),
                unlabelled_weight=weight,
                num_steps=self.num_steps if weight else 0,
                learn_prior=False,
            )
            return lambda sequences: softmax(vectorizer.transform(sequences) @ log_probs, axis=1)

        return _choose_and_fit(fit, self.unlabelled_weights if len(unlabelled) else (0.0,), task)


def _choose_and_fit(
    fit: Callable[[NDArray[np.int64], Setting], Predict], settings: Sequence[Setting], task: Task
) -> Predict:
    """Fit to all labels with the setting that has the best `dev_score` without those of dev.

    Args:
        fit: Fits to the first n of `Task.sequences`, given their classes, and to the unlabelled.
        settings: What to choose from; the one in the middle without dev rows.
        task: The data.
    """
    best = settings[len(settings) // 2]
    if len(settings) > 1 and len(task.dev):
        best = max(settings, key=lambda one: dev_score(fit(task.y, one)(task.dev), task.dev_y))
    return fit(task.all_y, best)


BASELINES: dict[str, Baseline] = {
    "tfidf-lr-words": Logistic("words", 2),
    "tfidf-lr-characters": Logistic("characters", 5),
    "lsa-lr": Logistic("words", 1, lsa_size=100),
    "self-trained-lr": Logistic("characters", 5, self_trained=True),
    "nb-words": NaiveBayes("words", 1),
    "nb-characters": NaiveBayes("characters", 4),
    "nb-em-words": NaiveBayes("words", 1, EM_WEIGHTS),
    "nb-em-characters": NaiveBayes("characters", 4, EM_WEIGHTS),
}
