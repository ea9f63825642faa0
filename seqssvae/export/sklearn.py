"""`SeqSSVAEClassifier`: the semi-supervised VAE as a scikit-learn estimator."""

import contextlib
import dataclasses
import logging
from collections.abc import Mapping, Sequence, Set
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
from sklearn.utils import _safe_indexing, check_random_state
from sklearn.utils.validation import check_consistent_length, check_is_fitted, validate_data

from seqssvae import devices, progress
from seqssvae.config import Config
from seqssvae.data.columns import ColumnChoice
from seqssvae.data.corpus import gather_corpus, read_corpus
from seqssvae.data.prepare import prepare
from seqssvae.data.sources import column_choice
from seqssvae.data.tables import column_of, is_table
from seqssvae.errors import InputError
from seqssvae.export.unlabelled import encode_labels, is_unlabelled, label_array, name_label
from seqssvae.inference.conformal import COVERAGE, label_sets
from seqssvae.overrides import as_config, override
from seqssvae.storage.vectors import with_vectors
from seqssvae.trained import TrainedModel
from seqssvae.training.fit import summarise, train

logger = logging.getLogger(__name__)

Integers = NDArray[np.int64]
Sequences = Sequence[str | list[str]]

SOURCE = "X"  # the name of the data in error messages
TEXTS, TOKENS, SYMBOLS = "texts", "lists of tokens", "a 2-D array of symbols"
PARAMETERS = {  # constructor parameter: setting
    "num_steps": "training.num_steps",
    "max_minutes": "training.max_minutes",
    "latent_size": "model.latent_size",
    "max_length": "data.max_length",
    "vocabulary": "data.vocabulary",
    "vectors_column": "data.vectors_column",
    "estimator": "estimator.name",
    "teacher": "training.teacher",
    "dev_fraction": "data.dev_fraction",
    "device": "training.device",
}


class SeqSSVAEClassifier(
    ClassNamePrefixFeaturesOutMixin,  # type: ignore[misc] # scikit-learn has no types
    ClassifierMixin,  # type: ignore[misc]
    TransformerMixin,  # type: ignore[misc]
    BaseEstimator,  # type: ignore[misc]
):
    """A semi-supervised classifier of sequences.

    X is a list of texts, a list of lists of tokens, a DataFrame with a column of either, which is
    found as in `seqssvae.fit`, or a 2-D array of symbols: integers from 0, padded with -1 at the
    end of a row. A row whose y is -1, None or NaN is unlabelled, also
    where NumPy has made a string of it, and so is one with a word of `data.unlabelled_values`.

    The parameters up to `device` override settings of `config`, unless they are None.

    `CalibratedClassifierCV` takes -1 for a class, and with two classes its probabilities are then
    wrong. Fit it on labelled rows only, with the other rows as `unlabelled`.

    Args:
        num_steps: Training steps. A longer KL warm-up is cut to a third of them.
        max_minutes: Time limit of training; `config` has none by default.
        latent_size: Z.
        max_length: The most symbols of a row, EOS included; of longer rows, only n-gram features
            read more.
        vocabulary: "auto", "sentencepiece", "characters" or "tokens".
        vectors_column: Column of a DataFrame with a vector of each row, a list of numbers, which
            q(y | x) and q(z | x, y) read beside the sequence.
        estimator: The estimator of the discrete y: "fused-enum", ...
        teacher: Initialise q(y | x) from n-gram models with EM.
        dev_fraction: Share of the labelled rows that is held out for early stopping.
        device: Where training and the model run: "auto", "cpu", "cuda" or "mps". A pickle holds a
            model for the CPU.
        mode: How to classify: "q", "posterior", "mix", or None for the best of them on dev rows;
            see `TrainedModel.classify`.
        unlabelled: More unlabelled rows, in the form of X, for meta-estimators that do not support
            unlabelled rows.
        random_state: A seed or a generator of seeds; None is the seed of `config`, so that the same
            rows give the same model.
        config: All other settings; a mapping as of `override` will do.
        verbose: Show the log and the progress of `fit` on stderr.

    Attributes:
        classes_: The labels, sorted, `[K]`.
        model_: The `TrainedModel`; its labels are those of `classes_` as texts.
        n_features_in_: Columns of a 2-D array; missing for texts and lists of tokens.

    Example:
        >>> texts, labels = ["ab", "cd", "abab", "cdcd"], ["x", "y", None, None]
        >>> model = seqssvae.SeqSSVAEClassifier(num_steps=2, latent_size=2).fit(texts, labels)
        >>> model.predict(["cdcdcd"]).shape
        (1,)
    """

    def __init__(
        self,
        *,
        num_steps: int | None = None,
        max_minutes: float | None = None,
        latent_size: int | None = None,
        max_length: int | None = None,
        vocabulary: str | None = None,
        vectors_column: str | None = None,
        estimator: str | None = None,
        teacher: bool | None = None,
        dev_fraction: float | None = None,
        device: str | None = None,
        mode: str | None = None,
        unlabelled: Any = None,
        random_state: int | np.random.RandomState | None = None,
        config: Config | Mapping[str, Any] | None = None,
        verbose: bool = False,
    ) -> None:
        self.num_steps = num_steps
        self.max_minutes = max_minutes
        self.latent_size = latent_size
        self.max_length = max_length
        self.vocabulary = vocabulary
        self.vectors_column = vectors_column
        self.estimator = estimator
        self.teacher = teacher
        self.dev_fraction = dev_fraction
        self.device = device
        self.mode = mode
        self.unlabelled = unlabelled
        self.random_state = random_state
        self.config = config
        self.verbose = verbose

    def fit(self, X: Any, y: Any = None) -> Self:
        """Train on labelled and unlabelled rows.

        Args:
            X: n rows.
            y: Labels of the rows; -1, None or NaN for an unlabelled one, `[n]`.

        Raises:
            InputError: X has an unsupported type, no row has a label, or a setting is invalid.
        """
        config = self._config()
        if y is None:
            raise InputError(
                f"{type(self).__name__} requires y to be passed, but the target y is None"
            )
        if config.data.label_tree is not None:
            wanted = f"data.label_tree: wanted none in {type(self).__name__}"
            raise InputError(f"{wanted}, got {config.data.label_tree}")
        self._kind = ""
        vectors = [self._vectors(one) for one in (X, self.unlabelled) if one is not None]
        X = self._column(X)
        self._kind = _kind_of(X)
        sequences = self._sequences(X, reset=True)
        check_consistent_length(sequences, y)
        self.classes_, classes = encode_labels(y, config.data.unlabelled_values)
        # labels whose alphabetical order is that of the classes
        labels = [f"{number:09d}" if number >= 0 else None for number in classes]
        if self.unlabelled is not None:
            more = self._sequences(self.unlabelled)
            sequences, labels = [*sequences, *more], [*labels, *[None] * len(more)]
        device = devices.resolve(config.training.device)
        others = [] if device.type == "cpu" else [device]
        shown = progress.reported() if self.verbose else contextlib.nullcontext()
        with shown, torch.random.fork_rng(others):  # keeps the caller's random state
            known = [one for one in vectors if one is not None]
            of_rows = np.concatenate(known) if known else None
            corpus = gather_corpus(sequences, labels, source=SOURCE, vectors=of_rows)
            prepared = prepare(config, corpus)
            trainer = train(config, prepared)
        named = dataclasses.replace(prepared.labels, names=tuple(map(name_label, self.classes_)))
        self.n_iter_ = trainer.progress.step
        self.model_ = TrainedModel(
            model=trainer.model.eval(),
            config=trainer.config,
            vocabulary=prepared.vocabulary,
            labels=named,
            manifest={
                "source": SOURCE,
                "summary": summarise(trainer, prepared),
                "held_out": trainer.progress.held_out,
            },
        )
        return self

    def predict(self, X: Any) -> NDArray[Any]:
        """The most probable label of each row, `[n]`."""
        probabilities = self.predict_proba(X)
        labels: NDArray[Any] = self.classes_[probabilities.argmax(1)]
        return labels

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Probabilities of the labels in the order of `classes_`, `[n, K]`."""
        check_is_fitted(self)
        rows = self.model_.read_sequences(self._rows(X))
        table = self.model_.classify_table(rows, mode=self.mode)
        table /= table.sum(1, keepdims=True)  # sums to 1 in double precision
        return table

    def predict_set(self, X: Any, coverage: float = COVERAGE) -> NDArray[np.bool_]:
        """Which labels, in the order of `classes_`, are in the set of each row, `[n, K]`.

        A set holds the true label of a new row with a probability of `coverage`; see
        `seqssvae.inference.conformal`.

        Raises:
            InputError: a coverage out of range, or a fit without labelled dev rows.
        """
        probabilities = self.predict_proba(X)
        return label_sets(probabilities, self.model_.greatest_losses(coverage, self.mode))

    def transform(self, X: Any) -> NDArray[np.floating]:
        """The mean of q(z | x, y) at the most probable y, `[n, Z]`."""
        check_is_fitted(self)
        loc: NDArray[np.floating] = self.model_.encode(self._rows(X))["loc"]
        return loc

    def score(self, X: Any, y: Any, sample_weight: ArrayLike | None = None) -> float:
        """Accuracy over the labelled rows of X."""
        check_is_fitted(self)
        known = (~is_unlabelled(y, self._config().data.unlabelled_values)).nonzero()[0]
        weights = None if sample_weight is None else np.asarray(sample_weight)[known]
        plain = X if self._vectors(X) is not None else self._column(X)
        rows, labels = _safe_indexing(plain, known), label_array(y, known)
        return float(super().score(rows, labels, sample_weight=weights))

    def sample(self, label: Any, n: int = 1, **options: Any) -> list[Any]:
        """Generate sequences of a label, in the form of X in `fit`.

        Args:
            label: One of `classes_`.
            n: Number of sequences.
            options: Options of `TrainedModel.generate`: `temperature`, `top_p`, `seed`, ...

        Raises:
            InputError: an unknown label.
        """
        check_is_fitted(self)
        names = dict(zip(self.classes_.tolist(), self.model_.labels.names, strict=True))
        rows = self.model_.generate(names.get(label, str(label)), n, **options)
        return [[int(s) for s in row] for row in rows] if self._kind == SYMBOLS else list(rows)

    def __sklearn_tags__(self) -> Any:
        """The capabilities of the estimator."""
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
        """The settings of `config`, overridden by the parameters."""
        config = as_config(self.config)
        values = {key: getattr(self, name) for name, key in PARAMETERS.items()}
        if self.random_state is not None:
            values["training.seed"] = check_random_state(self.random_state).randint(2**31)
        changes = {
            key: value.item() if isinstance(value, np.generic) else value
            for key, value in values.items()
            if value is not None
        }
        return override(config, changes, where=f"{type(self).__name__}: ")

    def _sequences(self, X: Any, *, reset: bool = False) -> Sequences:
        """X as texts or lists of tokens, checked to have the form of X in `fit`."""
        X = self._column(X)
        if self._kind == SYMBOLS:
            return _symbols_to_tokens(validate_data(self, X, reset=reset, dtype=None))
        if isinstance(X, Sequence | np.ndarray) and not len(X):
            return []
        kind = _kind_of(X)
        if kind != self._kind:
            raise InputError(f"{SOURCE}: wanted {self._kind} as in fit, got {kind}")
        return list(X) if kind == TEXTS else [list(row) for row in X]

    def _rows(self, X: Any) -> Any:
        """The sequences of X, with their vectors if it has any."""
        vectors = self._vectors(X)
        return self._sequences(X) if vectors is None else with_vectors(self._sequences(X), vectors)

    def _vectors(self, X: Any) -> NDArray[np.float32] | None:
        """The vectors of a table, `[n, D]`; None without."""
        data = self._config().data
        if data.vectors_column is None or not is_table(X):
            return None
        rows = read_corpus(X, column_choice(data, read_labels=False))
        return None if rows.vectors is None else rows.vectors[np.arange(len(rows))]

    def _column(self, X: Any) -> Any:
        """The sequences of a table or a column; a table of numbers, or anything else, as it is."""
        if not is_table(X):
            is_given = isinstance(X, np.ndarray) and self._kind == TOKENS
            return X if is_given else column_of(X)
        if np.asarray(X).dtype.kind in "iufb":
            return X
        data = self._config().data
        choice = ColumnChoice(data.text_column, data.tokens_column, read_labels=False)
        return list(read_corpus(X, choice).sequences())


def _kind_of(X: Any) -> str:
    """The form of X: TEXTS, TOKENS or SYMBOLS.

    Raises:
        InputError: no such form.
    """
    is_other = isinstance(X, str | bytes | Mapping | Set | int | float) or X is None
    if is_other and not hasattr(X, "shape"):  # as a sparse matrix that is a mapping has
        got = "one text" if isinstance(X, str) else f"a value of the type {type(X).__name__}"
        raise InputError(f"{SOURCE}: wanted a list of texts, got {got}")
    if getattr(X, "ndim", None) == 1 or isinstance(X, Sequence):
        if not len(X):
            raise InputError(f"{SOURCE}: wanted a row, got none")
        first = next(iter(X))
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
    """Rows of integers as tokens, without the padding by -1."""
    try:
        whole = array.astype(np.int64)
    except TypeError:
        raise TypeError(
            f"{SOURCE}: argument must be an array of texts (string) or of integers (number)"
        ) from None
    if not (whole == array).all():
        row, column = np.argwhere(whole != array)[0]
        raise InputError(
            f"{SOURCE}:{row + 1}: wanted integers, got {array[row, column]} in column {column}"
        )
    inside = whole >= 0
    lengths = np.where(inside.all(1), whole.shape[1], inside.argmin(1))
    padding = np.arange(whole.shape[1]) >= lengths[:, None]
    if (whole[padding] != -1).any() or (lengths == 0).any():
        row = int((((whole != -1) & padding).any(1) | (lengths == 0)).argmax())
        raise InputError(
            f"{SOURCE}:{row + 1}: wanted symbols from 0, and -1 only as padding at the end, got "
            "Negative values in data or an empty row"
        )
    tokens: list[list[str]] = whole.astype(str).tolist()
    return [row[:length] for row, length in zip(tokens, lengths.tolist(), strict=True)]
