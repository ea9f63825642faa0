"""Sufficient statistics of an evaluation, of the same size for any number of rows."""

import dataclasses
import functools
import operator
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from seqssvae import distributed

Floats = npt.NDArray[np.float64]

NUM_BINS = 15  # of confidence, for the calibration error (Guo et al. 2017)
MEANS = ("elbo", "nll", "likelihood", "kl")  # over all rows


@dataclasses.dataclass(frozen=True, eq=False)
class Tally:
    """Sums over some rows; the sum of two tallies is that of the rows of both.

    Attributes:
        sums: Of all rows, their number `rows`, their `symbols` and each of `MEANS`; of the labelled
            rows, `y_gap` and `log_loss`, by class `[K]` the numbers of `labels`, of `predictions`
            and of `hits`, and `bins`, `[3, 15]`, as `bin_sums`.
        z_mean: Mean of the posterior means, `[Z]`.
        z_squares: Sum of their squared distances from it, `[Z]`.
    """

    sums: dict[str, npt.NDArray[Any]]
    z_mean: Floats
    z_squares: Floats

    @classmethod
    def of_rows(cls, columns: Mapping[str, npt.NDArray[Any]], num_classes: int) -> "Tally":
        """The tally of at least one row.

        Args:
            columns: By name, of each row: `MEANS`, `y_gap`, `log_loss` and `confidence`, `[n]`;
                `length`, `y` (-1 without a label) and `predicted`, int64 `[n]`; `z_mean`, float64
                `[n, Z]`.
            num_classes: K; at least 1 where there are labels.
        """
        is_labelled = columns["y"] >= 0
        y, predicted, confidence, y_gap = (
            columns[name][is_labelled] for name in ("y", "predicted", "confidence", "y_gap")
        )
        count = functools.partial(np.bincount, minlength=num_classes)
        z_mean = columns["z_mean"].mean(0)
        return cls(
            sums={
                "rows": np.array(len(is_labelled)),
                "symbols": columns["length"].sum(),
                **{name: columns[name].sum() for name in MEANS},
                "y_gap": y_gap.sum(),
                "log_loss": columns["log_loss"][is_labelled].sum(),
                "labels": count(y),
                "predictions": count(predicted),
                "hits": count(y[y == predicted]),
                "bins": bin_sums(confidence, y == predicted),
            },
            z_mean=z_mean,
            z_squares=np.square(columns["z_mean"] - z_mean).sum(0),
        )

    def __add__(self, other: "Tally") -> "Tally":
        """The tally of the rows of both; z by the formulas of Chan et al. 1983."""
        num_rows = self.num_rows + other.num_rows
        distance = other.z_mean - self.z_mean
        share = other.num_rows / num_rows
        between = np.square(distance) * (self.num_rows * share)
        return Tally(
            sums={name: value + other.sums[name] for name, value in self.sums.items()},
            z_mean=self.z_mean + distance * share,
            z_squares=self.z_squares + other.z_squares + between,
        )

    @property
    def num_rows(self) -> int:
        """Number of rows."""
        return int(self.sums["rows"])

    @property
    def z_variance(self) -> Floats:
        """Variance of the posterior means over the rows, `[Z]`."""
        return self.z_squares / self.num_rows

    def mean(self, name: str) -> float:
        """The mean of one of `MEANS` over the rows."""
        return float(self.sums[name]) / self.num_rows

    def labelled_metrics(self) -> dict[str, Any]:
        """Metrics over the rows with one known label; None where there is nothing to measure."""
        labels, hits = self.sums["labels"], self.sums["hits"]
        num_labelled = int(labels.sum())
        metrics: dict[str, Any] = {"num_labelled": num_labelled} | dict.fromkeys(
            ("accuracy", "log_loss", "macro_f1", "calibration_error", "y_gap")
        )
        if not num_labelled:
            return metrics
        labels_and_predictions = labels + self.sums["predictions"]
        occurs = labels_and_predictions > 0
        metrics["accuracy"] = int(hits.sum()) / num_labelled
        metrics["log_loss"] = float(self.sums["log_loss"]) / num_labelled
        metrics["macro_f1"] = float(np.mean(2 * hits[occurs] / labels_and_predictions[occurs]))
        metrics["calibration_error"] = calibration_error(self.sums["bins"])
        if len(labels) > 1:
            metrics["y_gap"] = float(self.sums["y_gap"]) / num_labelled
        return metrics


def gather_tally(tally: Tally | None) -> Tally:
    """The tally of all processes' rows, added up in the order of their ranks, on every process.

    Args:
        tally: Of this process's rows; None if it has none. At least one process has rows.
    """
    own = None
    if tally is not None:
        own = {
            "sums": {name: value.tolist() for name, value in tally.sums.items()},
            "z_mean": tally.z_mean.tolist(),
            "z_squares": tally.z_squares.tolist(),
        }
    tallies = (
        Tally(
            sums={name: np.array(value) for name, value in plain["sums"].items()},
            z_mean=np.array(plain["z_mean"], dtype=np.float64),
            z_squares=np.array(plain["z_squares"], dtype=np.float64),
        )
        for plain in distributed.gather(own)
        if plain is not None
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
