import functools
import json
import operator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import f1_score

from seqssvae import distributed
from seqssvae.inference.tally import (
    MEANS,
    Tally,
    bin_sums,
    calibration_error,
    gather_tally,
    reliability,
)

Columns = dict[str, NDArray[Any]]


def _columns(num_rows: int, num_classes: int = 4, latent_size: int = 3) -> Columns:
    """Columns far from 0, where a sum of squares loses digits; the last class is never a label."""
    stream = np.random.default_rng(0)
    columns: Columns = {name: 1e3 + 10 * stream.standard_normal(num_rows) for name in MEANS}
    return columns | {
        "y_gap": stream.standard_normal(num_rows),
        "log_loss": stream.exponential(size=num_rows),
        "confidence": stream.random(num_rows),
        "length": stream.integers(1, 9, num_rows),
        "y": stream.integers(-1, num_classes - 1, num_rows),
        "predicted": stream.integers(0, num_classes, num_rows),
        "z_mean": 1e4 + stream.standard_normal((num_rows, latent_size)) * [0.1, 0.0, 3.0],
    }


def _tally(columns: Columns, sizes: list[int], num_classes: int = 4) -> Tally:
    """The sum of the tallies of portions of some sizes; the last one has the rest of the rows."""
    cuts = np.cumsum(sizes)
    portions = [dict(zip(columns, part, strict=True)) for part in zip(
        *(np.split(column, cuts) for column in columns.values()), strict=True
    )]  # fmt: skip
    tallies = [Tally.of_rows(part, num_classes) for part in portions if len(part["y"])]
    return functools.reduce(operator.add, tallies)


@pytest.mark.parametrize("sizes", [[], [1], [1] * 199, [64, 0, 64], [150, 3, 7]])
def test_a_tally_in_portions_equals_whole_columns(sizes: list[int]) -> None:
    columns = _columns(200)
    found = _tally(columns, sizes)
    assert (found.num_rows, found.sums["symbols"]) == (200, columns["length"].sum())
    for name in MEANS:
        assert found.mean(name) == pytest.approx(columns[name].mean(), rel=1e-13)
    variance = columns["z_mean"].var(0)
    assert found.z_mean == pytest.approx(columns["z_mean"].mean(0), rel=1e-13)
    # the distances of numbers near 1e4 are rounded at 1e-12
    assert found.z_variance == pytest.approx(variance, rel=1e-10, abs=1e-20)
    is_labelled = columns["y"] >= 0
    y, predicted, confidence = (
        columns[name][is_labelled] for name in ("y", "predicted", "confidence")
    )
    assert 0 < is_labelled.sum() < 200 and set(predicted) - set(y) == {3}
    assert found.labelled_metrics() == pytest.approx(
        {
            "num_labelled": is_labelled.sum(),
            "accuracy": np.mean(y == predicted),
            "macro_f1": f1_score(y, predicted, average="macro", zero_division=0.0),
            "calibration_error": calibration_error(bin_sums(confidence, y == predicted)),
            "y_gap": columns["y_gap"][is_labelled].mean(),
            "log_loss": columns["log_loss"][is_labelled].mean(),
        },
        abs=1e-14,
    )


@pytest.mark.parametrize("num_classes", [0, 4])
def test_processes_send_all_of_it(monkeypatch: pytest.MonkeyPatch, num_classes: int) -> None:
    """Through JSON's types, added in the order of the ranks; a rank may have no rows."""
    columns = _columns(200)
    if not num_classes:
        columns |= {"y": np.full(200, -1)}
    first, second = (
        Tally.of_rows({name: column[rows] for name, column in columns.items()}, num_classes)
        for rows in (slice(0, 120), slice(120, 200))
    )
    sent: list[Any] = []

    def gather(value: Any) -> list[Any]:
        sent.append(json.loads(json.dumps(value)))
        return [*sent, None]

    monkeypatch.setattr(distributed, "gather", gather)
    gather_tally(first)
    found, want = gather_tally(second), first + second
    assert found.labelled_metrics() == want.labelled_metrics()
    assert [found.mean(name) for name in MEANS] == [want.mean(name) for name in MEANS]
    assert (found.z_variance == want.z_variance).all() and found.num_rows == 200


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30),
)
def test_macro_f1_equals_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    y, predicted = (np.array(column) for column in zip(*pairs, strict=True))
    columns = _columns(len(y)) | {"y": y, "predicted": predicted}
    want = f1_score(y, predicted, average="macro", zero_division=0.0)
    assert Tally.of_rows(columns, 4).labelled_metrics()["macro_f1"] == pytest.approx(want)


def test_calibration_error_equals_a_loop_over_bins() -> None:
    """Bins are closed at the right, so that a confidence of 1 is in the last one."""
    stream = np.random.default_rng(0)
    confidence = np.concatenate([stream.random(500), [1.0, 1 / 15, 2 / 15]])
    correct = stream.random(503) < confidence**2
    want, points = 0.0, []
    for number in range(15):
        inside = (confidence > number / 15) & (confidence <= (number + 1) / 15)
        if inside.any():
            points.append((confidence[inside].mean(), correct[inside].mean(), inside.sum()))
            want += inside.mean() * abs(points[-1][0] - points[-1][1])
    bins = bin_sums(confidence, correct)
    assert calibration_error(bins) == pytest.approx(want)
    np.testing.assert_allclose(np.stack(reliability(bins), 1), points)
    assert calibration_error(bin_sums(np.ones(4), np.ones(4, dtype=bool))) == 0
