"""`SeqSSVAEClassifier`: the semi-supervised VAE as a scikit-learn estimator."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
)
from sklearn.metrics import get_scorer
from sklearn.model_selection import StratifiedKFold
from sklearn.utils import _safe_indexing, check_random_state, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length, check_is_fitted, validate_data

from seqssvae.config import Config, override
from seqssvae.data.corpus import gather_corpus
from seqssvae.data.prepare import prepare
from seqssvae.errors import InputError
from seqssvae.trained import TrainedModel, classify_table
from seqssvae.training.fit import train

__all__ = ["LabelledKFold", "SeqSSVAEClassifier", "is_unlabelled", "labelled_scorer"]

Integers = NDArray[np.int64]
Sequences = Sequence[str | list[str]]

SOURCE = "X"  # stands before an error about a row
TEXTS, TOKENS, SYMBOLS = "texts", "lists of tokens", "a 2-D array of symbols"
PARAMETERS = {  # of the constructor, as settings
    "num_steps": "training.num_steps",
    "max_minutes": "training.max_minutes",
    "latent_size": "model.latent_size",
    "max_length": "data.max_length",
    "vocabulary": "data.vocabulary",
    "estimator": "estimator.name",
    "teacher": "training.teacher",
    "dev_fraction": "data.dev_fraction",
}


class SeqSSVAEClassifier(
    ClassNamePrefixFeaturesOutMixin,  # type: ignore[misc] # scikit-learn has no types
    ClassifierMixin,  # type: ignore[misc]
    TransformerMixin,  # type: ignore[misc]
    BaseEstimator,  # type: ignore[misc]
):
    """A classifier of sequences that learns from rows without a label too.

    X is a list of texts, a list of lists of tokens, or a 2-D array of symbols: whole numbers from
    0, and -1 after the end of a shorter row. A row whose y is -1, None or NaN is unlabelled.

    The parameters up to `dev_fraction` are settings of `config` that are asked for often; None
    leaves them as they stand there.

    `CalibratedClassifierCV` takes -1 for a class: with two classes its probabilities are then
    wrong. Give it labelled rows alone, and the others as `unlabelled`.

    Args:
        num_steps: Steps of training. A KL warm-up that would be longer is cut to a third of them.
        max_minutes: Training stops in time, whatever is left.
        latent_size: Z.
        max_length: Symbols of a row, its end included; longer rows are cut.
        vocabulary: "auto", "sentencepiece", "characters" or "tokens".
        estimator: How y is summed, sampled or relaxed: "fused-enum", ...
        teacher: Start q(y | x) from n-gram models with EM.
        dev_fraction: Of the labelled rows, kept for early stopping.
        mode: How labels are found: "q", "posterior" or "mix"; see `TrainedModel.classify`.
        unlabelled: More rows without a label, of the kind of X, for meta-estimators that know no
            unlabelled rows.
        random_state: A seed, or where to draw one from; None is the seed of `config`, so that
            the same rows give the same model.
        config: All other settings.

    Attributes:
        classes_: The labels, sorted, `[K]`.
        model_: The `TrainedModel`; its labels are those of `classes_` as texts.
        n_features_in_: Columns of a 2-D array; not there for texts and lists of tokens.
    """

    def __init__(
        self,
        *,
        num_steps: int | None = None,
        max_minutes: float | None = None,
        latent_size: int | None = None,
        max_length: int | None = None,
        vocabulary: str | None = None,
        estimator: str | None = None,
        teacher: bool | None = None,
        dev_fraction: float | None = None,
        mode: str = "q",
        unlabelled: Any = None,
        random_state: int | np.random.RandomState | None = None,
        config: Config | None = None,
    ) -> None:
        self.num_steps = num_steps
        self.max_minutes = max_minutes
        self.latent_size = latent_size
        self.max_length = max_length
        self.vocabulary = vocabulary
        self.estimator = estimator
        self.teacher = teacher
        self.dev_fraction = dev_fraction
        self.mode = mode
        self.unlabelled = unlabelled
        self.random_state = random_state
        self.config = config

    def fit(self, X: Any, y: Any = None) -> Self:
        """Train on labelled and unlabelled rows.

        Args:
            X: n rows.
            y: Their labels, -1, None or NaN for an unlabelled one, `[n]`.

        Raises:
            InputError: X is of no kind that is read, no row has a label, or a setting is wrong.
        """
        config = self._config()
        if y is None:
            raise InputError(
                f"{type(self).__name__} requires y to be passed, but the target y is None"
            )
        self._kind = _kind_of(X)
        sequences = self._sequences(X, reset=True)
        check_consistent_length(sequences, y)
        self.classes_, classes = _encode_labels(y)
        # The names that the model goes by sort as the classes do, so that y is the same in both.
        names = np.array([f"{place:09d}" for place in range(len(self.classes_))], dtype=object)
        labels = [names[place] if place >= 0 else None for place in classes]
        if self.unlabelled is not None:
            more = self._sequences(self.unlabelled)
            sequences, labels = [*sequences, *more], [*labels, *[None] * len(more)]
        with torch.random.fork_rng(devices=[]):  # the caller's noise stays as it was
            prepared = prepare(config, gather_corpus(sequences, labels, source=SOURCE))
            trainer = train(config, prepared)
        shown = dataclasses.replace(prepared.labels, names=tuple(map(str, self.classes_)))
        self.n_iter_ = trainer.progress.step
        self.model_ = TrainedModel(
            model=trainer.model.eval(),
            config=trainer.config,
            vocabulary=prepared.vocabulary,
            labels=shown,
            manifest={"source": SOURCE, "summary": {"dev": trainer.progress.metrics}},
        )
        return self

    def predict(self, X: Any) -> NDArray[Any]:
        """The likeliest label of each row, `[n]`."""
        probabilities = self.predict_proba(X)
        found: NDArray[Any] = self.classes_[probabilities.argmax(1)]
        return found

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Probabilities of the labels in the order of `classes_`, `[n, K]`."""
        check_is_fitted(self)
        rows = self.model_.read_sequences(self._sequences(X))
        table = classify_table(self.model_.model, rows, mode=self.mode)
        table /= table.sum(1, keepdims=True)  # to 1 in double precision
        return table

    def transform(self, X: Any) -> NDArray[np.floating]:
        """The mean of q(z | x, y) at the likeliest y, `[n, Z]`."""
        check_is_fitted(self)
        loc: NDArray[np.floating] = self.model_.encode(self._sequences(X))["loc"]
        return loc

    def score(self, X: Any, y: Any, sample_weight: ArrayLike | None = None) -> float:
        """Accuracy over the rows of X that have a label."""
        check_is_fitted(self)
        known = (~is_unlabelled(y)).nonzero()[0]
        weights = None if sample_weight is None else np.asarray(sample_weight)[known]
        found = super().score(
            _safe_indexing(X, known), _label_array(y, known), sample_weight=weights
        )
        return float(found)

    def sample(self, label: Any, n: int = 1, **options: Any) -> list[Any]:
        """Write new sequences of a label, in the form that X had in `fit`.

        Args:
            label: One of `classes_`.
            n: How many.
            options: Of `TrainedModel.generate`: `temperature`, `top_p`, `seed`, ...

        Raises:
            InputError: an unknown label.
        """
        check_is_fitted(self)
        places = (self.classes_ == label).nonzero()[0]
        name = self.model_.labels.names[places[0]] if len(places) else str(label)
        found = self.model_.generate(name, n, **options)
        return [[int(s) for s in row] for row in found] if self._kind == SYMBOLS else list(found)

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn may pass."""
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.categorical = tags.input_tags.positive_only = True
        tags.transformer_tags.preserves_dtype = []
        tags.non_deterministic = False
        return tags

    @property
    def _n_features_out(self) -> int:
        return self.model_.model.latent_size

    def _config(self) -> Config:
        """The settings that parameters and `config` make together."""
        config = Config() if self.config is None else self.config
        given = {key: getattr(self, name) for name, key in PARAMETERS.items()}
        changes = {key: value for key, value in given.items() if value is not None}
        if self.random_state is not None:
            changes["training.seed"] = int(check_random_state(self.random_state).randint(2**31))
        plain = {key: v.item() if isinstance(v, np.generic) else v for key, v in changes.items()}
        return override(config, plain, where=f"{type(self).__name__}: ")

    def _sequences(self, X: Any, *, reset: bool = False) -> Sequences:
        """X as texts or lists of tokens, of the kind that `fit` was given."""
        if self._kind == SYMBOLS:
            array = validate_data(self, X, reset=reset, dtype=None)
            return _symbols_to_tokens(array)
        kind = _kind_of(X)
        if kind != self._kind:
            raise InputError(f"{SOURCE}: wanted {self._kind} as in fit, got {kind}")
        return list(X) if kind == TEXTS else [list(row) for row in X]


class LabelledKFold:
    """Stratified folds of the labelled rows; unlabelled ones are in every training set, in no test.

    Args:
        n_splits: Folds, at least 2.
        shuffle: Draw the folds at random.
        random_state: Of the draw.
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
        """Yield rows to train on and rows to test on, for each fold."""
        unlabelled = is_unlabelled(y)
        known, free = (~unlabelled).nonzero()[0], unlabelled.nonzero()[0]
        folds = StratifiedKFold(self.n_splits, shuffle=self.shuffle, random_state=self.random_state)
        for rest, fold in folds.split(known, _label_array(y, known)):
            yield np.sort(np.concatenate([known[rest], free])), known[fold]


def labelled_scorer(scoring: str = "accuracy") -> Callable[[Any, Any, Any], float]:
    """A scorer of scikit-learn over those rows alone that have a label.

    Args:
        scoring: A name of `sklearn.metrics.get_scorer_names()`.

    Example:
        >>> scorer = labelled_scorer("f1_macro")
    """
    return _LabelledScorer(scoring)


@dataclasses.dataclass(frozen=True)
class _LabelledScorer:
    """Picklable, as grid search in several processes needs."""

    scoring: str

    def __call__(self, estimator: Any, X: Any, y: Any) -> float:
        known = (~is_unlabelled(y)).nonzero()[0]
        scorer = get_scorer(self.scoring)
        return float(scorer(estimator, _safe_indexing(X, known), _label_array(y, known)))


def is_unlabelled(y: Any) -> NDArray[np.bool_]:
    """Which labels are -1, None, NaN or empty, `[n]`."""
    array = _array_of(y)
    if array.dtype.kind in "biu":
        return np.asarray(array == -1).ravel()
    return np.array([_is_missing(label) for label in array.ravel()], dtype=bool)


def _is_missing(label: Any) -> bool:
    if label is None or isinstance(label, str):
        return not label
    try:
        return bool(label == -1 or label != label)
    except (TypeError, ValueError):  # pandas.NA has no truth value
        return True


def _label_array(y: Any, rows: Integers) -> NDArray[Any]:
    """The labels of some rows, as an array of their own type."""
    chosen = _array_of(y)[rows]
    return np.array(chosen.tolist()) if chosen.dtype == object else chosen


def _array_of(y: Any) -> NDArray[Any]:
    """Labels as an array; those of a list keep their types, so that None stays None."""
    return np.array(y, dtype=object) if isinstance(y, list | tuple) else np.asarray(y)


def _encode_labels(y: Any) -> tuple[NDArray[Any], Integers]:
    """The classes, and the place of each row's label among them, -1 for none."""
    y = column_or_1d(_array_of(y), warn=True)
    known = (~is_unlabelled(y)).nonzero()[0]
    labels = _label_array(y, known)
    if not len(labels):
        raise InputError("y: wanted a label for some row at least, got none: no class is known")
    check_classification_targets(labels)
    classes, places = np.unique(labels, return_inverse=True)
    encoded = np.full(len(y), -1, dtype=np.int64)
    encoded[known] = places
    return classes, encoded


def _kind_of(X: Any) -> str:
    """What the rows of X are."""
    if isinstance(X, str):
        raise InputError(f"{SOURCE}: wanted a list of texts, got one text")
    if getattr(X, "ndim", None) == 1 or isinstance(X, Sequence):
        first = next(iter(X), None)
    elif isinstance(X, np.ndarray) and X.ndim == 2 and X.dtype.kind in "UO" and X.size:
        first = list(X[0])
    else:
        return SYMBOLS
    if isinstance(first, str):
        return TEXTS
    if isinstance(first, list | tuple | np.ndarray) and len(first) and isinstance(first[0], str):
        return TOKENS
    return SYMBOLS


def _symbols_to_tokens(array: NDArray[Any]) -> list[list[str]]:
    """Rows of whole numbers as tokens, without the -1 at their ends."""
    try:
        whole = array.astype(np.int64)
    except TypeError:
        raise TypeError(
            f"{SOURCE}: argument must be an array of texts (string) or of whole numbers (number)"
        ) from None
    if not (whole == array).all():
        row, column = np.argwhere(whole != array)[0]
        raise InputError(
            f"{SOURCE}:{row + 1}: wanted whole numbers, got {array[row, column]} in column {column}"
        )
    inside = whole >= 0
    lengths = np.where(inside.all(1), whole.shape[1], inside.argmin(1))
    padding = np.arange(whole.shape[1]) >= lengths[:, None]
    if (whole[padding] != -1).any() or (lengths == 0).any():
        row = int((((whole != -1) & padding).any(1) | (lengths == 0)).argmax())
        raise InputError(
            f"{SOURCE}:{row + 1}: wanted symbols from 0, and -1 after the row's end alone, got "
            f"Negative values in data or an empty row"
        )
    tokens: list[list[str]] = whole.astype(str).tolist()
    return [row[:length] for row, length in zip(tokens, lengths.tolist(), strict=True)]
