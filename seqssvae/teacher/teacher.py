"""A teacher: p(y | x) by a pool of cheap classifiers, weighed by cross-validation over the labels.

Its members read words, characters or tokens (see `views`), its posteriors of the rows it was
fitted to come from models that have not counted the row itself (see `interpolated`), and it is
what a linear student inside q(y | x) learns from (see `regression`).
"""

import dataclasses
import functools
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from seqssvae.teacher.members import FittedMember, Member, list_members
from seqssvae.teacher.ngram_models import softmax
from seqssvae.teacher.pool import Pool, assign_folds, fit_pool, reestimate_prior
from seqssvae.teacher.views import Material, Sequences, Splitter, Views

__all__ = ["Teacher", "fit_teacher"]

Doubles = NDArray[np.float64]
Floats = NDArray[np.float32]
Integers = NDArray[np.int64]

# What is read at most, so that time and memory are bounded whatever the corpus.
LABELLED_ROWS = 5_000
FIT_ROWS, FIT_SYMBOLS = 20_000, 1_000_000
FOLD_ROWS, FOLD_SYMBOLS = 3_500, 200_000  # without label, in cross-validation
CHARACTERS = 1_200_000  # more than these are not read by n-gram models of characters
MANY_CLASSES = 5  # of more, fewer symbols are read in proportion
FREEDOM = 0.01  # nats a label that a pool gains by having more members to choose from
CHUNK = 10_000_000  # symbols times classes of rows that are scored at once
ORDER_OF_WORDS, ORDER = 3, 4
STEPS, FOLD_STEPS = 8, 5  # of EM


@dataclasses.dataclass(frozen=True, eq=False)
class Teacher:
    """A fitted pool; made by `fit_teacher`.

    Attributes:
        posteriors: p(y | x) of the N rows it was fitted to, float32 `[N, K]`; 0 for a class that
            no label names. A labelled row's comes from models that were not given its label,
            unless it is its class's only one.
        held_out_accuracy: Share of labelled rows whose class the pool found while they were held
            out; NaN if none were. The pool was chosen on these rows, so it is a little too high.
        accuracy_without_guesses: The same of a pool whose members learn from labels alone.
        unlabelled_help: Whether the pool with all members found held-out labels likelier than that
            other one, by more than 0.01 nats a label; if not, it is the other one that teaches.
        member_weights: Of each member of the pool, by name.
    """

    posteriors: Floats
    held_out_accuracy: float
    accuracy_without_guesses: float
    unlabelled_help: bool
    member_weights: dict[str, float]
    _splitter: Splitter
    _pool: Pool
    _members: list[FittedMember]
    _shift: Doubles  # of log posteriors to the estimated prior, [number of seen classes]
    _seen: Integers  # classes that some label names

    def predict(self, sequences: Sequences) -> Floats:
        """p(y | x) of other rows, float32 `[n, K]`; n may be 0, and rows may be empty."""
        num_classes = self.posteriors.shape[1]
        result = np.zeros((len(sequences), num_classes), np.float32)
        for first, after in _chunks(sequences, CHUNK // num_classes):
            views = self._splitter.views(sequences[first:after])
            scores = [member.score(views) for member in self._members]
            logits = self._pool.log_posteriors(scores) + self._shift
            result[first:after, self._seen] = softmax(logits)
        return result


def fit_teacher(
    sequences: Sequences, labelled: Integers, y: Integers, *, num_classes: int, seed: int = 0
) -> Teacher:
    """Fit a pool to rows of which some have labels.

    Of more than 20,000 rows, or of more than a million words, characters or tokens (fewer for
    more than 5 classes), a random part is fitted to, and the rest is predicted like other rows;
    of more than 5,000 labels, 5,000 are used.

    Args:
        sequences: N texts or N lists of tokens; empty ones are allowed.
        labelled: The rows that have a label, different, `[n]`, n at least 1.
        y: Their classes, `[n]`; a class may have one label or none.
        num_classes: K.
        seed: Of which rows are read and of the pool's bootstrap samples. The same seed and rows
            give the same teacher.

    Raises:
        ValueError: no labels, a row or class out of range, or a row named twice.
    """
    labelled, y = np.asarray(labelled, np.int64), np.asarray(y, np.int64)
    _check(len(sequences), labelled, y, num_classes)
    random = np.random.default_rng(seed)
    chosen = np.sort(random.permutation(len(y))[:LABELLED_ROWS])
    free = random.permutation(np.setdiff1d(np.arange(len(sequences)), labelled))
    rows = np.concatenate((labelled[chosen], free))[: max(FIT_ROWS, len(chosen))]
    seen, classes = np.unique(y[chosen], return_inverse=True)

    read = [sequences[row] for row in rows]
    splitter = Splitter(read)
    views, kept = _cut(splitter.views(read), len(chosen), len(read), FIT_SYMBOLS, num_classes)
    rows = rows[:kept]
    fitting = _Fitting(views, classes, len(seen), splitter.has_words)
    choice = fitting.choose(seed)
    pool, held_out = choice.pool, choice.held_out
    members = fitting.fit(pool)
    logits = pool.log_posteriors([member.own_scores for member in members])
    is_held_out = np.isfinite(held_out[:, 0])
    logits[: len(chosen)][is_held_out] = held_out[is_held_out]
    prior = fitting.prior
    shift = np.log(reestimate_prior(softmax(logits[len(chosen) :]), prior) / prior)

    teacher = Teacher(
        posteriors=np.zeros((len(sequences), num_classes), np.float32),
        held_out_accuracy=_accuracy(held_out[is_held_out] + shift, classes[is_held_out]),
        accuracy_without_guesses=_accuracy(
            choice.held_out_without_guesses[is_held_out] + shift, classes[is_held_out]
        ),
        unlabelled_help=choice.unlabelled_help,
        member_weights={
            member.name: float(weight)
            for member, weight in zip(fitting.members, pool.weights, strict=True)
            if weight
        },
        _splitter=splitter,
        _pool=pool,
        _members=members,
        _shift=shift,
        _seen=seen,
    )
    teacher.posteriors[np.ix_(rows, seen)] = softmax(logits + shift)
    rest = np.setdiff1d(np.arange(len(sequences)), rows)
    teacher.posteriors[rest] = teacher.predict([sequences[row] for row in rest])
    return teacher


class _Fitting:
    """Members to choose among, and the rows they are fitted to, labelled ones first.

    Args:
        views: N rows.
        y: Classes of the first n, each from 0 to K - 1 at least once, `[n]`.
        num_classes: K.
        has_words: Whether n-grams of words are read; they are shorter.
    """

    def __init__(self, views: Views, y: Integers, num_classes: int, has_words: bool) -> None:
        self.views, self.y, self.num_classes = views, y, num_classes
        self.order = ORDER_OF_WORDS if has_words else ORDER
        characters = views.by_name.get("characters")
        self.members: Sequence[Member] = list_members(
            self.order,
            has_characters=characters is not None,
            has_long_characters=characters is not None
            and len(characters.symbols) < _scale(CHARACTERS, num_classes),
        )
        counts = np.bincount(y, minlength=num_classes) + 0.5
        self.prior: Doubles = counts / counts.sum()

    def choose(self, seed: int) -> "_Choice":
        """The pool of all members or, if it is no better, that of those that do not guess."""
        num_rows, folds = len(self.y), assign_folds(self.y)
        scores = np.full((len(self.members), num_rows, self.num_classes), np.nan)
        is_held_out = folds >= 0
        if is_held_out.any():
            total = len(self.views.by_name["main"].offsets) - 1
            most = min(total, num_rows + FOLD_ROWS)
            views, _ = _cut(self.views, num_rows, most, FOLD_SYMBOLS, self.num_classes)
            material = Material(views, self.order)
            for fold in range(folds.max() + 1):
                train, held_out = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
                for number, member in enumerate(self.members):
                    fitted = member.fit(
                        material, train, self.y[train], self.num_classes, FOLD_STEPS
                    )
                    scores[number, held_out] = fitted.own_scores[held_out]
        choose = functools.partial(
            fit_pool,
            scores[:, is_held_out],
            self.y[is_held_out],
            usual_temperatures=np.array([member.usual_temperature for member in self.members]),
            log_priors=np.array(
                [np.log(self.prior) * (not member.has_prior) for member in self.members]
            ),
            seed=seed,
        )
        do_not_guess = np.array([not member.guesses for member in self.members])
        pools = [choose(), choose(allowed=do_not_guess)]
        found = [pool.log_posteriors(list(scores[pool.weights > 0])) for pool in pools]
        rows = np.flatnonzero(is_held_out)
        nats = [float(one[rows, self.y[rows]].sum()) for one in found]
        help_ = nats[0] > nats[1] + FREEDOM * len(rows) or not len(rows)
        return _Choice(pools[not help_], found[not help_], found[1], help_)

    def fit(self, pool: Pool) -> list[FittedMember]:
        """The members that have a weight, fitted to all rows."""
        material = Material(self.views, self.order)
        labelled = np.arange(len(self.y))
        return [
            member.fit(material, labelled, self.y, self.num_classes, STEPS)
            for member, weight in zip(self.members, pool.weights, strict=True)
            if weight
        ]


@dataclasses.dataclass(frozen=True, eq=False)
class _Choice:
    """A pool, and log posteriors of held-out rows, `[n, K]`, NaN where none was."""

    pool: Pool
    held_out: Doubles
    held_out_without_guesses: Doubles
    unlabelled_help: bool


def _cut(
    views: Views, least: int, most: int, num_symbols: int, num_classes: int
) -> tuple[Views, int]:
    """The first rows, from `least` to `most`, with at most so many main symbols in all."""
    limit = _scale(num_symbols, num_classes)
    ends = views.by_name["main"].offsets[1:]
    within = int(np.searchsorted(ends, limit, side="right"))
    kept = min(max(within, least), most)
    return (views if kept == len(ends) else views.take(np.arange(kept))), kept


def _scale(num_symbols: int, num_classes: int) -> int:
    """How many symbols are read: fewer for many classes, since the work grows with both."""
    return num_symbols * MANY_CLASSES // max(num_classes, MANY_CLASSES)


def _chunks(sequences: Sequences, size: int) -> Iterator[tuple[int, int]]:
    """Runs of rows, first and after last, of about `size` characters or tokens."""
    ends = np.cumsum([len(row) + 1 for row in sequences])
    first = 0
    while first < len(ends):
        start = ends[first - 1] if first else 0
        after = max(int(np.searchsorted(ends, start + size, side="right")), first + 1)
        yield first, after
        first = after


def _accuracy(logits: Doubles, y: Integers) -> float:
    return float((logits.argmax(1) == y).mean()) if len(y) else float("nan")


def _check(num_rows: int, labelled: Integers, y: Integers, num_classes: int) -> None:
    if not len(y):
        raise ValueError("teacher: wanted at least one label, got none")
    if len(labelled) != len(y):
        raise ValueError(f"teacher: wanted a class for each labelled row, got {len(y)}")
    if not 0 <= labelled.min() <= labelled.max() < num_rows:
        raise ValueError(f"teacher: wanted labelled rows below {num_rows}")
    if len(np.unique(labelled)) < len(labelled):
        raise ValueError("teacher: wanted different labelled rows, got one twice")
    if not 0 <= y.min() <= y.max() < num_classes:
        raise ValueError(f"teacher: wanted classes below {num_classes}")
