"""Tallies: what an evaluation keeps of its rows, as much for millions of them as for few.

Sums are exact, so that neither the batches' sizes and order nor the number of ranks that share them
show in a mean, not in its last bit.
"""

import dataclasses
import functools
import math
import operator
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from seqssvae import distributed

__all__ = ["NUM_BINS", "Tally", "bin_numbers", "exact_parts", "gather_tally"]

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

NUM_BINS = 15  # of confidence, for the calibration error (Guo et al. 2017)
MEANS = ("elbo", "nll", "likelihood", "kl")  # over all rows


@dataclasses.dataclass(frozen=True, eq=False)
class Tally:
    """Sufficient statistics of some rows; two of them are added for the rows of both.

    Attributes:
        counts: `rows` and their `symbols`; of the labelled rows, by class `[K]`, `known` (the
            label), `predicted` (by q) and `hits` (both), and by bin of the confidence `[15]`,
            `binned` rows and `binned_hits`.
        sums: Of each of `MEANS`; of the labelled rows, of `y_gap`, and of the confidence in each
            bin that holds some, by the bin's number; each as `exact_parts`.
        z_mean: The mean of the posterior means, `[Z]`.
        z_squares: The sum of their squared distances from it, `[Z]`.
    """

    counts: dict[str, Integers]
    sums: dict[str, list[float]]
    z_mean: Floats
    z_squares: Floats

    @classmethod
    def of_rows(cls, columns: Mapping[str, npt.NDArray[Any]], num_classes: int) -> "Tally":
        """The tally of at least one row.

        Args:
            columns: By name, of each row: `MEANS`, `y_gap` and `confidence`, float64 `[n]`;
                `length`, `y` (-1 where no label is known) and `predicted`, int64 `[n]`; `z_mean`,
                float64 `[n, Z]`.
            num_classes: K; at least 1 where a label is known.
        """
        known = columns["y"] >= 0
        y, predicted, confidence, y_gap = (
            columns[name][known] for name in ("y", "predicted", "confidence", "y_gap")
        )
        is_hit, numbers = y == predicted, bin_numbers(confidence)
        by_class = functools.partial(np.bincount, minlength=num_classes)
        by_bin = functools.partial(np.bincount, minlength=NUM_BINS)
        sums = {name: exact_parts(columns[name].tolist()) for name in MEANS}
        sums["y_gap"] = exact_parts(y_gap.tolist())
        for number in np.unique(numbers).tolist():
            sums[str(number)] = exact_parts(confidence[numbers == number].tolist())
        z_mean = columns["z_mean"].mean(0)
        return cls(
            counts={
                "rows": np.array(len(known)),
                "symbols": columns["length"].sum(),
                "known": by_class(y),
                "predicted": by_class(predicted),
                "hits": by_class(y[is_hit]),
                "binned": by_bin(numbers),
                "binned_hits": by_bin(numbers[is_hit]),
            },
            sums=sums,
            z_mean=z_mean,
            z_squares=np.square(columns["z_mean"] - z_mean).sum(0),
        )

    def __add__(self, other: "Tally") -> "Tally":
        """The tally of the rows of both; z by the formulas of Chan et al. 1983."""
        num_rows = self.num_rows + other.num_rows
        distance = other.z_mean - self.z_mean
        share = other.num_rows / num_rows
        return Tally(
            counts={name: value + other.counts[name] for name, value in self.counts.items()},
            sums={
                name: exact_parts([*self.sums.get(name, ()), *other.sums.get(name, ())])
                for name in self.sums | other.sums
            },
            z_mean=self.z_mean + distance * share,
            z_squares=self.z_squares
            + other.z_squares
            + np.square(distance) * (self.num_rows * share),
        )

    @property
    def num_rows(self) -> int:
        """n."""
        return int(self.counts["rows"])

    @property
    def num_symbols(self) -> int:
        """Of the rows, EOS included."""
        return int(self.counts["symbols"])

    @property
    def z_variance(self) -> Floats:
        """Of the posterior means over the rows, `[Z]`."""
        return self.z_squares / self.num_rows

    def mean(self, name: str) -> float:
        """One of `MEANS`."""
        return self.total(name) / self.num_rows

    def total(self, name: str) -> float:
        """One of `sums`, correctly rounded."""
        parts = self.sums.get(name)
        return parts[0] if parts else 0.0

    def labelled_figures(self) -> dict[str, Any]:
        """Figures over the rows with one known label; None where there is nothing to measure."""
        known, predicted, hits = (self.counts[name] for name in ("known", "predicted", "hits"))
        num_labelled = int(known.sum())
        figures: dict[str, Any] = {
            "num_labelled": num_labelled,
            "accuracy": None,
            "macro_f1": None,
            "calibration_error": None,
            "y_gap": None,
        }
        if not num_labelled:
            return figures
        seen = known + predicted > 0
        figures["accuracy"] = int(hits.sum()) / num_labelled
        figures["macro_f1"] = float(np.mean(2 * hits[seen] / (known + predicted)[seen]))
        confidence = np.array([self.total(str(number)) for number in range(NUM_BINS)])
        gaps = np.abs(self.counts["binned_hits"] - confidence)
        figures["calibration_error"] = float(gaps.sum()) / num_labelled
        if len(known) > 1:
            figures["y_gap"] = self.total("y_gap") / num_labelled
        return figures


def bin_numbers(confidence: Floats) -> Integers:
    """The bin of each confidence, from 0; bins are closed at the right."""
    return np.ceil(confidence * NUM_BINS).clip(1, NUM_BINS).astype(np.int64) - 1


def exact_parts(values: Sequence[float]) -> list[float]:
    """Few numbers with exactly the sum of many; the first one is the sum, correctly rounded.

    Each is what `math.fsum` finds of what those before it leave over. A sum of 0 has no parts; one
    that is not finite has one.
    """
    parts: list[float] = []
    try:
        while rest := math.fsum([*values, *(-part for part in parts)]):
            parts.append(rest)
            if not math.isfinite(rest):
                break
    except (OverflowError, ValueError):  # beyond the floats, or of both infinities
        return [sum(values)]
    return parts


def gather_tally(tally: Tally | None) -> Tally:
    """The tally of all ranks' rows, added up in the ranks' order; all get the same one.

    Args:
        tally: Of this rank's rows; None if it has none. Some rank has rows.
    """
    told = distributed.gather(None if tally is None else _plain(tally))
    return functools.reduce(operator.add, (_restored(one) for one in told if one is not None))


def _plain(tally: Tally) -> dict[str, Any]:
    """What JSON can say; floats lose nothing there."""
    return {
        "counts": {name: value.tolist() for name, value in tally.counts.items()},
        "sums": tally.sums,
        "z_mean": tally.z_mean.tolist(),
        "z_squares": tally.z_squares.tolist(),
    }


def _restored(plain: Mapping[str, Any]) -> Tally:
    return Tally(
        counts={name: np.array(value, dtype=np.int64) for name, value in plain["counts"].items()},
        sums=plain["sums"],
        z_mean=np.array(plain["z_mean"], dtype=np.float64),
        z_squares=np.array(plain["z_squares"], dtype=np.float64),
    )
