"""Labels of which some are missing, as scikit-learn has them: classes, folds and scores."""

import functools
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import get_scorer
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
from sklearn.utils import _safe_indexing, column_or_1d
from sklearn.utils.multiclass import check_classification_targets

from seqssvae.config import DataConfig
from seqssvae.data.audit import find_suspicious
from seqssvae.data.rows import is_missing, name_of
from seqssvae.data.tables import column_of, is_table
from seqssvae.errors import InputError

logger = logging.getLogger(__name__)

Integers = NDArray[np.int64]


class LabelledKFold:
    """Stratified folds of the labelled rows; the unlabelled rows are in every training set.

    Equal rows are in one fold, and those that a fold tests are not in its training set.

    Args:
        n_splits: Number of folds, at least 2.
        shuffle: Shuffle the rows of each class before splitting.
        random_state: Seed of the shuffle.

    Example:
        >>> folds = seqssvae.LabelledKFold(2).split([*"abcde"], ["x", "y", "x", "y", None])
        >>> [test.tolist() for train, test in folds]
        [[0, 1], [2, 3]]
    """

    def __init__(
        self,
        n_splits: int = 5,
        *,
        shuffle: bool = False,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.n_splits, self.shuffle, self.random_state = n_splits, shuffle, random_state

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """The number of folds."""
        return self.n_splits

    def split(self, X: Any, y: Any, groups: Any = None) -> Iterator[tuple[Integers, Integers]]:
        """Yield the indices of the training rows and of the test rows of each fold."""
        unlabelled = is_unlabelled(y)
        known, free = (~unlabelled).nonzero()[0], unlabelled.nonzero()[0]
        copies = np.arange(len(unlabelled)) if X is None else _number_rows(X)
        is_repeated = len(np.unique(copies[known])) < len(known)
        kind = StratifiedGroupKFold if is_repeated else StratifiedKFold
        folds = kind(self.n_splits, shuffle=self.shuffle, random_state=self.random_state)
        of_known = copies[known] if is_repeated else None
        for rest, fold in folds.split(known, label_array(y, known), of_known):
            others = free[~np.isin(copies[free], copies[known[fold]])]
            yield np.sort(np.concatenate([known[rest], others])), known[fold]


def _number_rows(X: Any) -> Integers:
    """A number of each row, the same for equal ones, `[n]`."""
    rows, numbers = column_of(X), dict[str, int]()
    keys = (
        row if isinstance(row, str) else repr(row.tolist() if hasattr(row, "tolist") else row)
        for row in (np.asarray(rows) if is_table(rows) else rows)
    )
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys])


def labelled_scorer(scoring: str = "accuracy") -> Callable[[Any, Any, Any], float]:
    """A scikit-learn scorer that ignores unlabelled rows.

    Args:
        scoring: One of `sklearn.metrics.get_scorer_names()`.

    Example:
        >>> scorer = labelled_scorer("f1_macro")
    """
    return functools.partial(_score_labelled, scoring)  # can be pickled, as grid search needs


def _score_labelled(scoring: str, estimator: Any, X: Any, y: Any) -> float:
    known = (~is_unlabelled(y)).nonzero()[0]
    scorer = get_scorer(scoring)
    return float(scorer(estimator, _safe_indexing(column_of(X), known), label_array(y, known)))


def is_unlabelled(
    y: Any, values: Sequence[str] = DataConfig.unlabelled_values
) -> NDArray[np.bool_]:
    """Which labels are -1, None, NaN, empty, -1 in a string, or one of some words, `[n]`.

    Args:
        y: Labels, `[n]`.
        values: The words.

    Example:
        >>> seqssvae.is_unlabelled(["spam", None, "NA"]).tolist()
        [False, True, True]
    """
    array, words = _array_of(y), {"-1", *values}
    if array.dtype.kind in "biu":
        return np.asarray(array == -1).ravel()
    return np.array([_is_missing(label, words) for label in array.ravel()], dtype=bool)


def _is_missing(label: Any, words: Set[str]) -> bool:
    if label is None or isinstance(label, str):
        return label in words or is_missing(label)
    try:
        return bool(label == -1 or label != label)
    except (TypeError, ValueError):  # pandas.NA has no truth value
        return True


def name_label(label: Any) -> str:
    """A class as in files: 1.0, as numbers beside NaN are, is `1`."""
    return str(label) if isinstance(label, str) else name_of(label) or str(label)


def label_array(y: Any, rows: Integers) -> NDArray[Any]:
    """The labels of some rows, as an array of their common type."""
    chosen = _array_of(y)[rows]
    return np.array(chosen.tolist()) if chosen.dtype == object else chosen


def _array_of(y: Any) -> NDArray[Any]:
    """Labels as an array; a list becomes an array of objects, so that None is kept."""
    return np.array(y, dtype=object) if isinstance(y, list | tuple) else np.asarray(y)


def encode_labels(y: Any, words: Sequence[str]) -> tuple[NDArray[Any], Integers]:
    """The sorted classes, and the index of each row's class, -1 for unlabelled rows.

    Raises:
        InputError: no row has a label, or one has several or a soft one.
    """
    y = column_or_1d(_array_of(y), warn=True)
    for row, label in enumerate(y, start=1):
        if isinstance(label, Mapping | list | tuple):
            kind = "a soft label" if isinstance(label, Mapping) else "a list of labels"
            got = f"{kind} in row {row}, from which seqssvae.fit learns"
            raise InputError(f"y: wanted one label of each row, got {got}")
    unlabelled = is_unlabelled(y, words)
    known = (~unlabelled).nonzero()[0]
    given = Counter(one for one in y[unlabelled].tolist() if isinstance(one, str) and one.strip())
    for word, count in given.items():
        logger.warning("%d rows have the label %r: unlabelled", count, word)
    labels = label_array(y, known)
    if not len(labels):
        raise InputError("y: wanted a label for at least one row, got none")
    check_classification_targets(labels)
    encoded = np.full(len(y), -1, dtype=np.int64)
    classes, encoded[known] = np.unique(labels, return_inverse=True)
    for name in find_suspicious(map(str, classes)):
        logger.warning("the label %r is taken as a class; None, NaN or -1 is no label", name)
    return classes, encoded
