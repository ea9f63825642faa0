"""A teacher: p(y | x) by a pool of cheap classifiers, fitted by cross-validation over the labels.

Its n-gram models leave out a row's own counts in the posteriors of the rows they are fitted to, so
that a linear student inside q(y | x) can learn from them (see `student`).
"""

import dataclasses
import functools
import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from seqssvae import progress
from seqssvae.data.rows import hash_sequences
from seqssvae.nn.ngrams import row_chunks
from seqssvae.teacher.classifiers import (
    Classifier,
    FittedClassifier,
    NGramClassifier,
    list_classifiers,
)
from seqssvae.teacher.features import (
    Analyzer,
    Features,
    Limits,
    Sequences,
    draw_rows,
    num_first,
    scale_limit,
)
from seqssvae.teacher.partial import Known, is_known, weighed, what_is_known
from seqssvae.teacher.pool import Pool, accuracy, assign_folds, fit_pool, reestimate_prior
from seqssvae.teacher.vector_models import list_vector_classifiers, split

logger = logging.getLogger(__name__)

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
Vectors = Callable[[Int64], Float32]

MIN_GAIN = 0.01  # nats a label, expected of more classifiers to choose from
NUM_STEPS, FOLD_STEPS = 8, 5  # of EM


@dataclasses.dataclass(frozen=True, eq=False)
class Teacher:
    """A fitted pool; made by `fit_teacher`.

    Attributes:
        posteriors: p(y | x) of the N rows it was fitted to, float32 `[N, K]`; 0 for a class that is
            not known, and for one that is not possible for the row. A labelled row's is computed
            without its label, unless it is the only one of its class.
        held_out_accuracy: Accuracy on labelled rows while they were held out; NaN if none were. A
            little too high, since the pool was chosen on these rows.
        accuracy_without_unlabelled: The same of a pool of classifiers that use labelled rows alone.
        unlabelled_help: Whether the pool of all classifiers has a greater log-likelihood of
            held-out labels than that other one, by more than 0.01 nats a label. If not, the
            teacher is the other one.
        weights: Weight of each classifier in the pool, by name.
        of_ngrams: The same without classifiers of vectors, whose posteriors of labelled rows are
            those of the whole pool; None where these classifiers have all weight, or none.
        share: The weight of classifiers of n-grams.
        of_vectors: W `[D, K]` and b `[K]` of the others, see `split`; None without.
    """

    posteriors: Float32
    held_out_accuracy: float
    accuracy_without_unlabelled: float
    unlabelled_help: bool
    weights: dict[str, float]
    _analyzer: Analyzer
    _pool: Pool
    _classifiers: list[FittedClassifier]
    _shift: Float64  # of log posteriors, from the labelled rows' prior to the estimated one
    _seen: Int64  # known classes: those with a label, or possible for some row with a set of labels
    of_ngrams: "Teacher | None" = None
    share: float = 1.0
    of_vectors: tuple[Float64, Float64] | None = None

    @property
    def offset(self) -> Float64:
        """What the pool adds to its log posteriors, `[K]`; 0 for a class that is not known."""
        offset = np.zeros(self.posteriors.shape[1])
        offset[self._seen] = self._pool.bias + self._shift
        return offset

    def predict(
        self,
        sequences: Sequences,
        vectors: Vectors | None = None,
        *,
        evidence: Known | None = None,
        chunk_size: int = 10_000_000,
    ) -> Float32:
        """p(y | x) of other rows.

        Args:
            sequences: n texts or lists of tokens; n may be 0, and rows may be empty.
            vectors: Gives the vectors of some of them, as `EncodedRows.vectors`.
            evidence: What is known of their classes, `[n, K]`; nothing when None.
            chunk_size: About how many characters or tokens, times classes, are scored at once.

        Returns:
            Float32 `[n, K]`.
        """
        num_classes = self.posteriors.shape[1]
        result = np.zeros((len(sequences), num_classes), np.float32)
        offsets = np.cumsum([0, *(len(row) + 1 for row in sequences)])
        with progress.task("rows classified by the teacher", len(sequences)) as task:
            for first, last in row_chunks(offsets, chunk_size // num_classes):
                of_rows = None if vectors is None else vectors(np.arange(first, last))
                features = self._analyzer.encode(sequences[first:last], of_rows)
                scores = [classifier.score(features) for classifier in self._classifiers]
                logits: NDArray[np.floating] = self._pool.log_posteriors(scores) + self._shift
                if evidence is not None:
                    logits = weighed(logits, evidence[first:last, self._seen])
                result[first:last, self._seen] = softmax(logits, axis=1)
                task.advance(last - first)
        return result


def fit_teacher(
    sequences: Sequences,
    labelled: Int64,
    y: Int64,
    *,
    num_classes: int,
    candidates: Mapping[int, Sequence[int]] | None = None,
    evidence: Float32 | None = None,
    vectors: Vectors | None = None,
    seed: int = 0,
    limits: Limits | None = None,
    max_seconds: float | None = None,
) -> Teacher:
    """Fit a pool to rows of which some have labels.

    If there are more rows, symbols or labels than `limits`, the pool is fitted to a random part of
    them, rows with labels first and then those with candidates, and the other rows are predicted.

    Args:
        sequences: N texts or N lists of tokens; empty ones are allowed.
        labelled: Distinct rows that have a label, `[n]`, n at least 1.
        y: Their classes, `[n]`; a class may have one label or none.
        num_classes: K.
        candidates: Possible classes of other rows that have a set of them.
        evidence: e(y) of rows without one label, `[N, K]`, see `partial`; None for 1.
        vectors: Gives the vectors of some rows, as `EncodedRows.vectors`.
        seed: Seed of the choice of rows. The same seed and rows give the same teacher.
        limits: Bounds on what is read.
        max_seconds: Time after which no further classifier is cross-validated, or fitted where no
            row can be held out; those with the least work come first, and one always is.
    """
    limits = limits or Limits()
    of_sets = what_is_known(len(sequences), num_classes, candidates, evidence)
    informed = np.flatnonzero(is_known(of_sets))
    chosen, rows = draw_rows(len(sequences), labelled, informed, seed, limits)
    seen = np.union1d(y[chosen], np.flatnonzero((of_sets[informed] == 1).any(0)))
    classes = np.searchsorted(seen, y[chosen])
    analyzer = Analyzer([sequences[row] for row in rows])
    of_rows = None if vectors is None else vectors(rows)
    features = analyzer.encode([sequences[row] for row in rows], of_rows)
    num_kept = num_first(features, len(chosen), limits.symbols, len(seen))
    features, rows = features.take(np.arange(num_kept)), rows[:num_kept]
    allowed = of_sets[np.ix_(rows, seen)]
    known = np.concatenate([np.eye(len(seen), dtype=np.bool_)[classes], allowed[len(chosen) :]])
    hashes = hash_sequences(sequences[row] for row in rows)
    choice = _choose_pool(features, classes, known, hashes, limits=limits, max_seconds=max_seconds)
    logits = np.pad(choice.held_out, [(0, num_kept - len(chosen)), (0, 0)])
    scored = np.flatnonzero(np.isnan(logits[:, 0]) | (np.arange(num_kept) >= len(chosen)))
    choice, fitted = _fit_members(choice, features, known, scored, max_seconds)
    logits[scored] = choice.pool.log_posteriors([one.own_scores for one in fitted])
    posteriors = softmax(weighed(logits, allowed)[len(chosen) :], axis=1)
    shift = np.log(reestimate_prior(posteriors, choice.prior) / choice.prior)
    teacher = Teacher(
        posteriors=np.zeros((len(sequences), num_classes), np.float32),
        held_out_accuracy=accuracy(choice.held_out + shift, classes),
        accuracy_without_unlabelled=accuracy(choice.held_out_without_unlabelled + shift, classes),
        unlabelled_help=choice.unlabelled_help,
        weights={classifier.name: weight for classifier, weight in choice.weights.items()},
        _analyzer=analyzer,
        _pool=choice.pool,
        _classifiers=fitted,
        _shift=shift,
        _seen=seen,
    )
    whole = _Rows(sequences, vectors, rows, of_sets)
    _fill(teacher, whole, logits)
    return _divide(teacher, whole, logits, scored)


@dataclasses.dataclass(frozen=True, eq=False)
class _Rows:
    """The N rows of a teacher."""

    sequences: Sequences
    vectors: Vectors | None
    fitted: Int64  # those that the pool is fitted to, `[n]`
    evidence: Known  # beside labels, `[N, K]`


def _fill(teacher: Teacher, rows: _Rows, logits: Float64) -> None:
    """Set the posteriors: of rows that the pool is fitted to by `logits` `[n, K]`."""
    places, vectors = np.ix_(rows.fitted, teacher._seen), rows.vectors
    allowed = weighed(logits, rows.evidence[places])
    teacher.posteriors[places] = softmax(allowed + teacher._shift, axis=1)
    rest = np.setdiff1d(np.arange(len(rows.sequences)), rows.fitted)
    teacher.posteriors[rest] = teacher.predict(
        [rows.sequences[row] for row in rest],
        None if vectors is None else lambda some: vectors(rest[some]),
        evidence=rows.evidence[rest],
    )


def _divide(teacher: Teacher, rows: _Rows, logits: Float64, scored: Int64) -> Teacher:
    """The teacher with what classifiers of n-grams and of vectors say by themselves.

    Args:
        teacher: A teacher.
        rows: Its rows.
        logits: Of rows that its pool is fitted to, `[n, K]`.
        scored: Which of these have own scores, `[m]`.
    """
    members = [one for one in teacher._classifiers if one.of_vectors is None]
    if len(members) == len(teacher._classifiers):
        return teacher
    share, pool, linear = split(teacher._pool, teacher._classifiers)
    part = None
    if members:
        posteriors = np.zeros_like(teacher.posteriors)
        part = dataclasses.replace(teacher, posteriors=posteriors, _pool=pool, _classifiers=members)
        logits = logits.copy()
        logits[scored] = pool.log_posteriors([one.own_scores for one in members])
        _fill(part, rows, logits)
    weight, bias = (np.zeros((*one.shape[:-1], teacher.posteriors.shape[1])) for one in linear)
    weight[:, teacher._seen], bias[teacher._seen] = linear
    return dataclasses.replace(teacher, of_ngrams=part, share=share, of_vectors=(weight, bias))


@dataclasses.dataclass(frozen=True, eq=False)
class _Choice:
    """A pool, and log posteriors of labelled rows, `[n, K]`, NaN where a row was not held out."""

    weights: dict[Classifier, float]  # above 0
    pool: Pool
    prior: Float64  # shares of the classes among the labelled rows, `[K]`
    held_out: Float64
    held_out_without_unlabelled: Float64
    unlabelled_help: bool


def _choose_pool(
    features: Features,
    y: Int64,
    evidence: Known,
    hashes: NDArray[np.uint64],
    *,
    limits: Limits,
    max_seconds: float | None,
) -> _Choice:
    """The pool of all classifiers or, if it is no better, of those that use labelled rows alone.

    Args:
        features: N rows, the labelled ones first.
        y: Classes of the first n, below K, `[n]`.
        evidence: What is known of the classes, `[N, K]`; see `partial`.
        hashes: Checksums of the rows' sequences, `[N]`; equal rows are held out together.
        limits: Bounds on what is read.
        max_seconds: See `fit_teacher`.
    """
    counts = np.bincount(y, minlength=evidence.shape[1]) + 0.5
    prior = counts / counts.sum()
    num_rows, num_classes, folds = len(y), len(prior), assign_folds(y, hashes[: len(y)])
    classifiers = _candidates(features, num_classes, limits)
    is_held_out = folds >= 0
    if is_held_out.any():
        scores = _cross_validate(
            classifiers, features, evidence, hashes, folds, limits, max_seconds
        )
        in_time = np.flatnonzero(~np.isnan(scores[:, is_held_out, 0]).any(1)).tolist()
        classifiers, scores = [classifiers[number] for number in in_time], scores[in_time]
    else:
        scores = np.full((len(classifiers), num_rows, num_classes), np.nan)
    has_prior = np.array([classifier.has_prior for classifier in classifiers])
    fit = functools.partial(
        fit_pool,
        scores[:, is_held_out],
        y[is_held_out],
        usual_temperatures=np.array([classifier.usual_temperature for classifier in classifiers]),
        log_priors=np.where(has_prior[:, None], 0, np.log(prior)),
    )
    without = np.array([not classifier.unlabelled_weight for classifier in classifiers])
    pools = [fit()]
    pools.append(fit(allowed=without, temperatures=pools[0].temperatures))
    log_posteriors = [pool.log_posteriors(list(scores[pool.weights > 0])) for pool in pools]
    rows = np.flatnonzero(is_held_out)
    nats = [float(of_pool[rows, y[rows]].sum()) for of_pool in log_posteriors]
    unlabelled_help = nats[0] > nats[1] + MIN_GAIN * len(rows) or not len(rows)
    best = 0 if unlabelled_help else 1
    weights = {c: float(w) for c, w in zip(classifiers, pools[best].weights, strict=True) if w}
    of_best, without_unlabelled = log_posteriors[best], log_posteriors[1]
    return _Choice(weights, pools[best], prior, of_best, without_unlabelled, unlabelled_help)


def _candidates(features: Features, num_classes: int, limits: Limits) -> list[Classifier]:
    """The classifiers that a pool is chosen from."""
    max_characters = scale_limit(limits.characters, num_classes)
    classifiers = list_classifiers(
        has_words=features.has_words,
        long_characters=features.has_words
        and len(features.rows["characters"].symbols) < max_characters,
    )
    of_vectors = () if features.vectors is None else list_vector_classifiers()
    return [*classifiers, *of_vectors]


def _cross_validate(
    classifiers: Sequence[Classifier],
    features: Features,
    evidence: Known,
    hashes: NDArray[np.uint64],
    folds: Int64,
    limits: Limits,
    max_seconds: float | None,
) -> Float64:
    """Scores of J classifiers for the labelled rows in their folds, `[J, n, K]`.

    NaN for rows in no fold, and for all rows of a classifier that was left out for want of time.
    """
    num_folds = int(folds.max()) + 1
    num_rows, num_classes = len(folds), evidence.shape[1]
    num_kept = num_first(features, num_rows, limits.fold_symbols, num_classes)
    num_kept = min(num_kept, num_rows + limits.fold_rows)
    features, evidence = features.take(np.arange(num_kept)), evidence[:num_kept]
    scores = np.full((len(classifiers), num_rows, num_classes), np.nan)
    with progress.task("classifiers cross-validated", num_folds * len(classifiers)) as task:
        for classifier in _in_time(classifiers, max_seconds):
            number = classifiers.index(classifier)
            for fold in range(num_folds):
                held_out, without_fold = np.flatnonzero(folds == fold), evidence.copy()
                # rows with a set of labels too
                without_fold[np.isin(hashes[:num_kept], hashes[held_out])] = True
                fitted = classifier.fit(features, without_fold, FOLD_STEPS, held_out)
                scores[number, held_out] = fitted.own_scores
                task.advance()
    return scores


def _in_time(classifiers: Iterable[Classifier], max_seconds: float | None) -> Iterator[Classifier]:
    """The classifiers that a time limit leaves, one at least; those with the least work first."""
    end = time.monotonic() + (max_seconds or math.inf)
    # linear ones take less time with many classes
    quick_first = sorted(classifiers, key=lambda one: isinstance(one, NGramClassifier))
    for place, classifier in enumerate(quick_first):
        if place and time.monotonic() > end:
            left = f"{place} of {len(quick_first)} classifiers to choose from"
            logger.warning("the time limit left the teacher %s", left)
            return
        yield classifier


def _fit_members(
    choice: _Choice,
    features: Features,
    evidence: Known,
    scored: Int64,
    max_seconds: float | None,
) -> tuple[_Choice, list[FittedClassifier]]:
    """Fit the classifiers of a pool; of those that were not cross-validated, as many as in time."""
    if np.isfinite(choice.held_out).any():  # the time is that of the cross-validation
        max_seconds = None
    members = progress.track(
        _in_time(choice.weights, max_seconds), "classifiers fitted", len(choice.weights)
    )
    fitted = {one: one.fit(features, evidence, NUM_STEPS, scored) for one in members}
    in_time = [one for one in choice.weights if one in fitted]
    if len(in_time) < len(choice.weights):
        shares = choice.pool.weights.copy()
        shares[shares > 0] = [weight * (one in fitted) for one, weight in choice.weights.items()]
        pool = dataclasses.replace(choice.pool, weights=shares / shares.sum())
        weights = {one: 1 / len(in_time) for one in in_time}  # all had the same
        choice = dataclasses.replace(choice, pool=pool, weights=weights)
    return choice, [fitted[one] for one in in_time]
