"""Sufficient statistics of an evaluation, of the same size for any number of rows."""

import dataclasses
import functools
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from seqssvae import distributed
from seqssvae.data.encoded import EncodedRows
from seqssvae.data.labels import Labels

Floats = npt.NDArray[np.float64]

NUM_BINS = 15  # of confidence, for the calibration error (Guo et al. 2017)
FIGURES = ("elbo", "nll", "likelihood", "kl")  # of each row, labelled or not
NORMAL_95 = 1.959963984540054  # the quantile of 97.5 %
MAX_CONFUSION = 300  # classes of a confusion matrix


@dataclasses.dataclass(frozen=True, eq=False)
class Moments:
    """Mean and spread of values over some rows; the sum of two is that of the rows of both.

    Attributes:
        num_rows: Number of rows, n.
        mean: Mean over them, `[...]`; 0 without rows.
        squares: Sum of the squared distances from it, `[...]`.
    """

    num_rows: int
    mean: Floats
    squares: Floats

    @classmethod
    def of_rows(cls, values: Floats) -> "Moments":
        """Of values `[n, ...]`; n may be 0."""
        mean = values.sum(0) / max(len(values), 1)
        return cls(len(values), mean, np.square(values - mean).sum(0))

    def __add__(self, other: "Moments") -> "Moments":
        """By the formulas of Chan et al. 1983."""
        num_rows = self.num_rows + other.num_rows
        distance, share = other.mean - self.mean, other.num_rows / max(num_rows, 1)
        between = np.square(distance) * (self.num_rows * share)
        return Moments(
            num_rows, self.mean + distance * share, self.squares + other.squares + between
        )

    @property
    def variance(self) -> Floats:
        """Variance over the rows, at least one, `[...]`."""
        return self.squares / self.num_rows


@dataclasses.dataclass(frozen=True, eq=False)
class Tally:
    """Sums over some rows; the sum of two tallies is that of the rows of both.

    Attributes:
        sums: Of labelled rows, of `of_predictions`: `log_loss`; by class `[K]` the numbers of
            `labels`, of `predictions` and of `hits`; `bins`, `[3, 15]`, as `bin_sums`; of up to 300
            classes, `confusion`, `[K, K]`, by label and prediction; and, where there are sets of
            labels, `sets`, `[2]`, the sum of their sizes and how many hold the true label.
        moments: Of `of_figures`: each of `FIGURES`, `symbols`, `nll+symbols` and `z_mean` of all
            rows, and `y_gap` of those that have one.
    """

    sums: Mapping[str, npt.NDArray[Any]] = dataclasses.field(default_factory=dict)
    moments: Mapping[str, Moments] = dataclasses.field(default_factory=dict)

    @classmethod
    def of_predictions(cls, columns: Mapping[str, npt.NDArray[Any]], num_classes: int) -> "Tally":
        """The tally of labelled rows.

        Args:
            columns: By name, of each row: `log_loss` and `confidence`, `[n]`; `y` and `predicted`,
                int64 `[n]`; optionally `sets`, which labels are in its set, `[n, K]`.
            num_classes: K.
        """
        y, predicted = columns["y"], columns["predicted"]
        count = functools.partial(np.bincount, minlength=num_classes)
        sums = {
            "log_loss": columns["log_loss"].sum(),
            "labels": count(y),
            "predictions": count(predicted),
            "hits": count(y[y == predicted]),
            "bins": bin_sums(columns["confidence"], y == predicted),
        }
        if num_classes <= MAX_CONFUSION:
            pairs = np.bincount(y * num_classes + predicted, minlength=num_classes**2)
            sums["confusion"] = pairs.reshape(num_classes, num_classes)
        if "sets" in columns:
            sets = columns["sets"]
            sums["sets"] = np.array([sets.sum(), sets[np.arange(len(y)), y].sum()])
        return cls(sums=sums)

    @classmethod
    def of_figures(cls, columns: Mapping[str, npt.NDArray[Any]]) -> "Tally":
        """The tally of some rows.

        Args:
            columns: By name, of each row: `FIGURES`, `y_gap`, whether it `has_gap`, and `length`,
                `[n]`; `z_mean`, float64 `[n, Z]`.
        """
        symbols = columns["length"].astype(np.float64)
        values = {name: columns[name] for name in (*FIGURES, "z_mean")}
        values |= {"symbols": symbols, "nll+symbols": columns["nll"] + symbols}
        values["y_gap"] = columns["y_gap"][columns["has_gap"]]
        return cls(moments={name: Moments.of_rows(value) for name, value in values.items()})

    def __add__(self, other: "Tally") -> "Tally":
        """The tally of the rows of both."""
        return Tally(_add(self.sums, other.sums), _add(self.moments, other.moments))

    def prediction_metrics(self) -> dict[str, Any]:
        """Metrics of `of_predictions`; None where there are no such rows."""
        if not self.sums:
            names = ["accuracy", "accuracy_low", "accuracy_high"]
            names += ["log_loss", "macro_f1", "calibration_error"]
            return {"num_labelled": 0} | dict.fromkeys(names)
        labels, hits = self.sums["labels"], self.sums["hits"]
        num_labelled = int(labels.sum())
        labels_and_predictions = labels + self.sums["predictions"]
        occurs = labels_and_predictions > 0
        low, high = wilson_interval(int(hits.sum()), num_labelled)
        sizes, covered = self.sums.get("sets", np.zeros(2)).tolist()
        of_sets = {"set_coverage": covered / num_labelled, "set_size": sizes / num_labelled}
        return {
            "num_labelled": num_labelled,
            "accuracy": int(hits.sum()) / num_labelled,
            "accuracy_low": low,
            "accuracy_high": high,
            "log_loss": float(self.sums["log_loss"]) / num_labelled,
            "macro_f1": float(np.mean(2 * hits[occurs] / labels_and_predictions[occurs])),
            "calibration_error": calibration_error(self.sums["bins"]),
            **(of_sets if "sets" in self.sums else {}),
        }

    def class_metrics(self, names: Sequence[str]) -> dict[str, Any]:
        """`classes` and `confusion` of `of_predictions`, see `evaluate`.

        Args:
            names: Of the classes, K.
        """
        if not self.sums:
            return {"classes": {}, "confusion": None}
        labels, predictions, hits = (
            self.sums[name].tolist() for name in ("labels", "predictions", "hits")
        )
        classes = {
            name: {
                "num_labelled": label,
                "num_predicted": predicted,
                "precision": hit / predicted if predicted else None,
                "recall": hit / label if label else None,
                "f1": 2 * hit / (label + predicted) if label + predicted else None,
            }
            for name, label, predicted, hit in zip(names, labels, predictions, hits, strict=True)
        }
        confusion = self.sums.get("confusion")
        return {"classes": classes, "confusion": None if confusion is None else confusion.tolist()}

    def figures(self) -> dict[str, float | None]:
        """Means of `of_figures`, and as `NAME_se` their standard errors; None where there is none.

        `nats_per_symbol` is a ratio of means; its error is that of the mean of nll - ratio symbols,
        divided by the mean of symbols.
        """
        nll, symbols, both = (self.moments[name] for name in ("nll", "symbols", "nll+symbols"))
        ratio = nll.mean / symbols.mean
        twice_products = both.squares - nll.squares - symbols.squares
        squares = nll.squares + ratio**2 * symbols.squares - ratio * twice_products
        per_symbol = Moments(nll.num_rows, ratio, squares.clip(min=0) / symbols.mean**2)
        named = {name: self.moments[name] for name in (*FIGURES, "y_gap")}
        figures: dict[str, float | None] = {}
        for name, moments in {**named, "nats_per_symbol": per_symbol}.items():
            n = moments.num_rows
            figures[name] = float(moments.mean) if n else None
            figures[f"{name}_se"] = math.sqrt(moments.squares / (n - 1) / n) if n > 1 else None
        return figures


def measure_columns(
    labels: Labels, rows: EncodedRows, classify: Callable[[EncodedRows], Floats]
) -> dict[str, Any]:
    """`columns`, what `evaluate` says of the labels of each of several columns; else nothing.

    Args:
        labels: The classes.
        rows: Of each column, those are measured whose label of it is known.
        classify: Gives the probabilities of every class, `[n, K]`, for n rows.
    """
    if not labels.columns:
        return {}
    table, found = classify(rows), dict[str, dict[str, Any]]()
    for column, names in labels.columns.items():
        y, _ = labels.of_column(column, rows.y, rows.candidates)
        found[column] = _measure(labels.marginal(column, table), y, names)
    return {"columns": found}


def measure_levels(
    labels: Labels, rows: EncodedRows, classify: Callable[[EncodedRows], Floats]
) -> dict[str, Any]:
    """`levels`, what `evaluate` says of each level of a label tree above its leaves; else nothing.

    Args:
        labels: The classes.
        rows: Of each level, those are measured whose possible classes are below one node of it.
        classify: Gives the probabilities of every class, `[n, K]`, for n rows.
    """
    if labels.tree is None:
        return {}
    rows = rows.take(np.union1d(np.flatnonzero(rows.y >= 0), list(rows.candidates)))
    found, tables = [], labels.tree.sums(classify(rows))
    for (names, node_of), table in zip(labels.tree.levels, tables, strict=True):
        y = np.where(rows.y >= 0, node_of[rows.y], -1)
        for row, possible in rows.candidates.items():
            nodes = np.unique(node_of[list(possible)])
            y[row] = nodes[0] if len(nodes) == 1 else -1
        found.append(_measure(table, y, names))
    return {"levels": found}


def _measure(table: Floats, y: npt.NDArray[np.int64], names: Sequence[str]) -> dict[str, Any]:
    """Metrics of probabilities `[n, K]` over the rows whose y is not -1."""
    tally, known = Tally(), np.flatnonzero(y >= 0)
    if len(known):
        table, y = table[known], y[known]
        columns = {
            "log_loss": -np.log(table[np.arange(len(y)), y].clip(1e-300)),
            "confidence": table.max(1),
            "predicted": table.argmax(1),
            "y": y,
        }
        tally = Tally.of_predictions(columns, len(names))
    return {**tally.prediction_metrics(), **tally.class_metrics(names)}


def wilson_interval(num_hits: int, num_rows: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927), which also holds where all or no rows are hits.

    Args:
        num_hits: Rows that are counted, 0 to `num_rows`.
        num_rows: All rows, at least one.
    """
    share, added = num_hits / num_rows, NORMAL_95**2 / num_rows
    centre = share + added / 2
    spread = math.sqrt(added * (share * (1 - share) + added / 4))
    low, high = (centre - spread) / (1 + added), (centre + spread) / (1 + added)
    return max(low, 0.0), min(high, 1.0)


def describe_accuracy(accuracy: float | None, num_rows: int) -> str:
    """Accuracy on some labelled rows with its 95 % interval, for people."""
    if accuracy is None:
        return "not measured: no labelled rows"
    low, high = wilson_interval(round(accuracy * num_rows), num_rows)
    rows = f"{num_rows:,} labelled row{'s' * (num_rows != 1)}"
    return f"{accuracy:.3f} of {rows} (95 % interval {low:.3f} to {high:.3f})"


def _add(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Values by name; those that both have are added."""
    both = {name: first[name] + second[name] for name in first if name in second}
    return {**first, **second, **both}


def gather_tally(tally: Tally) -> Tally:
    """The tally of all processes' rows, added up in the order of their ranks, on every process."""
    own = {
        "sums": {name: value.tolist() for name, value in tally.sums.items()},
        "moments": {
            name: [value.num_rows, value.mean.tolist(), value.squares.tolist()]
            for name, value in tally.moments.items()
        },
    }
    tallies = (
        Tally(
            sums={name: np.array(value) for name, value in plain["sums"].items()},
            moments={
                name: Moments(num_rows, np.array(mean, np.float64), np.array(squares, np.float64))
                for name, (num_rows, mean, squares) in plain["moments"].items()
            },
        )
        for plain in distributed.gather(own)
    )
    return functools.reduce(operator.add, tallies)


def bin_sums(confidence: Floats, correct: npt.NDArray[np.bool_]) -> Floats:
    """Number of rows, sum of confidences and number of correct rows in 15 bins of confidence.

    Bins have equal width and are closed at the right.

    Args:
        confidence: Probability of the predicted label, `[n]`.
        correct: Whether it is the true one, `[n]`.

    Returns:
        `[3, 15]`.
    """
    number = np.ceil(confidence * NUM_BINS).clip(1, NUM_BINS).astype(np.int64) - 1
    weights = (np.ones(len(number)), confidence, correct)
    return np.stack([np.bincount(number, weights=w, minlength=NUM_BINS) for w in weights])


def calibration_error(bins: Floats) -> float:
    """The expected calibration error (Guo et al. 2017, eq. 3) from `bin_sums`."""
    num_rows, confidence, num_correct = bins
    return float(np.abs(num_correct - confidence).sum() / num_rows.sum())


def reliability(bins: Floats) -> tuple[Floats, Floats, Floats]:
    """Points of the reliability diagram from `bin_sums`.

    Returns:
        Mean confidence, accuracy and number of rows of each bin with rows, in ascending order.
    """
    num_rows, confidence, num_correct = bins[:, bins[0] > 0]
    return confidence / num_rows, num_correct / num_rows, num_rows
