"""The classifiers of which a teacher is made: each scores every row of a corpus it was fitted to.

Three kinds: class-conditional n-gram models with leave-one-out EM, logistic regression on TF-IDF
(plain, of places, or of singular vectors: LSA), and naive Bayes on bags of n-grams with EM.
"""

import abc
import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from seqssvae.teacher.ngram_models import ClassNGrams, softmax
from seqssvae.teacher.student import fit_regression, weigh_counts
from seqssvae.teacher.views import Bag, Material, Views

__all__ = ["FittedMember", "Member", "list_members"]

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]

STRONG, WEAK = (30.0, 100.0), (3.0, 10.0)  # pseudo-counts
SOME = 0.05  # the weight of an unlabelled row that only helps a little
REGRESSION_STRENGTH, REGRESSION_STEPS = 0.1, 100
BAYES_WEIGHT, BAYES_SMOOTHING, BAYES_STEPS = 0.1, 0.1, 5


class FittedMember(abc.ABC):
    """A member that has learned.

    Attributes:
        own_scores: Log evidence of the rows it was fitted to, up to a constant of each row,
            `[N, K]`; the n-gram models leave out a row's own counts.
    """

    own_scores: Floats

    @abc.abstractmethod
    def score(self, views: Views) -> Floats:
        """The same of other rows, `[n, K]`."""


class Member(abc.ABC):
    """A classifier yet to be fitted.

    Attributes:
        name: Says which.
        view: Of the rows, that it reads: "main" or "characters".
        has_prior: Whether its scores hold the share of each class among the labelled rows.
        usual_temperature: Of its scores, where there are too few labels to choose one.
        guesses: Whether it learns from what it takes unlabelled rows to be.
    """

    name: str
    view: str
    has_prior: bool
    usual_temperature: float

    @property
    @abc.abstractmethod
    def guesses(self) -> bool:
        """See above."""

    @abc.abstractmethod
    def fit(
        self, material: Material, labelled: Integers, y: Integers, num_classes: int, num_steps: int
    ) -> FittedMember:
        """Learn.

        Args:
            material: N rows.
            labelled: Those with a label, `[n]`.
            y: Their classes, `[n]`.
            num_classes: K.
            num_steps: Of EM, if it does any.
        """


@dataclasses.dataclass(frozen=True)
class NGramMember(Member):
    """`ClassNGrams`, over what stands before a symbol or over its place in the row."""

    name: str
    view: str
    order: int
    pseudo_counts: tuple[float, float]
    share: float
    unlabelled_weight: float
    by_position: bool = False
    has_prior: bool = False
    usual_temperature: float = 3.0

    @property
    def guesses(self) -> bool:  # noqa: D102
        return self.unlabelled_weight > 0

    def fit(  # noqa: D102
        self, material: Material, labelled: Integers, y: Integers, num_classes: int, num_steps: int
    ) -> FittedMember:
        model = ClassNGrams(
            material.index(self.view, self.by_position),
            order=self.order,
            pseudo_counts=self.pseudo_counts,
            share=self.share,
        )
        own_scores = model.fit(
            labelled,
            y,
            num_classes,
            unlabelled_weight=self.unlabelled_weight,
            num_steps=num_steps,
        )
        return FittedNGrams(self.view, model, own_scores)


@dataclasses.dataclass(frozen=True, eq=False)
class FittedNGrams(FittedMember):
    """Class-conditional n-gram models with their counts."""

    view: str
    model: ClassNGrams
    own_scores: Floats

    def score(self, views: Views) -> Floats:  # noqa: D102
        return self.model.evidence(views.by_name[self.view])


@dataclasses.dataclass(frozen=True)
class LinearMember(Member):
    """Logistic regression on TF-IDF, or on its singular vectors."""

    name: str
    view: str
    bag: str
    is_reduced: bool = False
    has_prior: bool = True
    usual_temperature: float = 1.0

    @property
    def guesses(self) -> bool:  # noqa: D102
        return False

    def fit(  # noqa: D102
        self, material: Material, labelled: Integers, y: Integers, num_classes: int, num_steps: int
    ) -> FittedMember:
        bag = material.bag(self.view, self.bag)
        features = bag.reduced() if self.is_reduced else bag.weighted
        weight, bias = fit_regression(
            features[labelled],
            np.eye(num_classes)[y],
            np.ones(len(y)),
            strength=REGRESSION_STRENGTH,
            num_steps=REGRESSION_STEPS,
        )
        own_scores = (features @ weight + bias).astype(np.float32)
        return FittedLinear(self, bag, weight, bias, own_scores)


@dataclasses.dataclass(frozen=True, eq=False)
class FittedLinear(FittedMember):
    """Weights of a linear map of a bag."""

    member: LinearMember
    bag: Bag
    weight: NDArray[np.float64]
    bias: NDArray[np.float64]
    own_scores: Floats

    def score(self, views: Views) -> Floats:  # noqa: D102
        counts = self.bag.select(views.counts(self.member.view, self.member.bag))
        features = weigh_counts(counts, self.bag.idf)
        if self.member.is_reduced:
            features = self.bag.reduce(features)
        result: Floats = (features @ self.weight + self.bias).astype(np.float32)
        return result


@dataclasses.dataclass(frozen=True)
class BayesMember(Member):
    """Naive Bayes on counts with EM (Nigam et al. 2000)."""

    name: str
    view: str
    bag: str
    has_prior: bool = False
    usual_temperature: float = 5.0

    @property
    def guesses(self) -> bool:  # noqa: D102
        return True

    def fit(  # noqa: D102
        self, material: Material, labelled: Integers, y: Integers, num_classes: int, num_steps: int
    ) -> FittedMember:
        bag = material.bag(self.view, self.bag)
        counts, transposed = bag.counts, bag.counts.T.tocsr()
        weights = np.zeros((material.num_rows, num_classes), np.float32)
        weights[labelled, y] = 1
        is_free = np.ones(len(weights), bool)
        is_free[labelled] = False
        for step in range(min(num_steps, BAYES_STEPS) + 1):
            totals = transposed @ weights + BAYES_SMOOTHING
            log_probabilities = np.log(totals / totals.sum(0)).astype(np.float32)
            own_scores = counts @ log_probabilities
            posteriors = softmax(own_scores[is_free] + np.log(weights.sum(0) + 1))
            if step < num_steps:
                weights[is_free] = BAYES_WEIGHT * posteriors
        return FittedBayes(self, bag, log_probabilities, own_scores)


@dataclasses.dataclass(frozen=True, eq=False)
class FittedBayes(FittedMember):
    """Log probabilities of n-grams, `[F, K]`."""

    member: BayesMember
    bag: Bag
    log_probabilities: Floats
    own_scores: Floats

    def score(self, views: Views) -> Floats:  # noqa: D102
        counts = self.bag.select(views.counts(self.member.view, self.member.bag))
        result: Floats = counts @ self.log_probabilities
        return result


def list_members(
    order: int, *, has_characters: bool, has_long_characters: bool
) -> Sequence[Member]:
    """The members of a pool.

    Args:
        order: Of the longest n-grams of the main symbols.
        has_characters: Whether there is a view of characters beside the main one.
        has_long_characters: Whether n-gram models read it (bags always do).
    """
    other = "characters" if has_characters else "main"
    members: list[Member] = [
        NGramMember(f"{longest}-grams, {smoothing}, EM {weight}", "main", longest, a, share, weight)
        for longest, smoothing, a, share, weight in (
            (order, "strong", STRONG, 1.0, 1.0),
            (2, "strong", STRONG, 1.0, 1.0),
            (order, "strong", STRONG, 1.0, SOME),
            (1, "strong", STRONG, 1.0, SOME),
            (order, "weak", WEAK, 1.0, SOME),
            (3, "weak halved", WEAK, 0.5, SOME),
            (3, "weak halved", WEAK, 0.5, 0.0),
        )
    ]
    for weight in (1.0, SOME):
        members.append(
            NGramMember(
                f"places, EM {weight}", "main", 1, (10.0, 10.0), 1.0, weight, by_position=True
            )
        )
    if has_long_characters:
        for weight in (1.0, SOME):
            name = f"4-grams of characters, strong, EM {weight}"
            members.append(NGramMember(name, "characters", 4, STRONG, 1.0, weight))
    members += [
        LinearMember("regression on pairs", "main", "pairs"),
        LinearMember("regression on long n-grams", other, "long"),
        LinearMember("regression on places", "main", "places"),
        LinearMember("regression on singular vectors", "main", "pairs", is_reduced=True),
        BayesMember("naive Bayes on pairs, EM", "main", "pairs"),
        BayesMember("naive Bayes on long n-grams, EM", other, "long"),
    ]
    return members
