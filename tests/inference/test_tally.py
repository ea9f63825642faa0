import functools
import math
import operator
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from seqssvae import distributed
from seqssvae.inference import tally
from seqssvae.inference.evaluate import calibration_error, macro_f1
from seqssvae.inference.tally import MEANS, Tally, exact_parts, gather_tally

Columns = dict[str, NDArray[Any]]
FINITE = st.floats(allow_nan=False, allow_infinity=False, min_value=-1e300, max_value=1e300)


def _columns(num_rows: int, num_classes: int = 4, latent_size: int = 3) -> Columns:
    """Figures of rows, far from 0 as sums of them go wrong there; the last class is never known."""
    stream = np.random.default_rng(0)
    found: Columns = {name: 1e3 + 10 * stream.standard_normal(num_rows) for name in MEANS}
    return found | {
        "y_gap": stream.standard_normal(num_rows),
        "confidence": stream.random(num_rows),
        "length": stream.integers(1, 9, num_rows),
        "y": stream.integers(-1, num_classes - 1, num_rows),
        "predicted": stream.integers(0, num_classes, num_rows),
        "z_mean": 1e4 + stream.standard_normal((num_rows, latent_size)) * [0.1, 0.0, 3.0],
    }


def _tally(columns: Columns, sizes: list[int], num_classes: int = 4) -> Tally:
    """Of rows in portions of some sizes, the last one as long as it takes."""
    cuts = np.cumsum(sizes)
    portions = [dict(zip(columns, part, strict=True)) for part in zip(
        *(np.split(column, cuts) for column in columns.values()), strict=True
    )]  # fmt: skip
    found = [Tally.of_rows(part, num_classes) for part in portions if len(part["y"])]
    return functools.reduce(operator.add, found)


@pytest.mark.parametrize("sizes", [[], [1], [1] * 199, [64, 0, 64], [150, 3, 7]])
def test_a_tally_in_portions_equals_whole_columns(sizes: list[int]) -> None:
    columns = _columns(200)
    found = _tally(columns, sizes)
    assert (found.num_rows, found.num_symbols) == (200, columns["length"].sum())
    for name in MEANS:
        assert found.mean(name) == pytest.approx(columns[name].mean(), rel=1e-13)
    variance = columns["z_mean"].var(0)
    assert found.z_mean == pytest.approx(columns["z_mean"].mean(0), rel=1e-13)
    # the distances of numbers near 1e4 are rounded at 1e-12
    assert found.z_variance == pytest.approx(variance, rel=1e-10, abs=1e-20)
    known = columns["y"] >= 0
    y, predicted, confidence = (columns[name][known] for name in ("y", "predicted", "confidence"))
    assert 0 < known.sum() < 200 and set(predicted) - set(y) == {3}
    assert found.labelled_figures() == pytest.approx(
        {
            "num_labelled": known.sum(),
            "accuracy": np.mean(y == predicted),
            "macro_f1": macro_f1(y, predicted),
            "calibration_error": calibration_error(confidence, y == predicted),
            "y_gap": columns["y_gap"][known].mean(),
        },
        abs=1e-14,
    )


def test_no_portion_shows_in_the_last_bit() -> None:
    """Whatever can be seen of sums, in any order of the rows and of the portions."""
    columns = _columns(200)
    want = _tally(columns, [])
    order = np.random.default_rng(1).permutation(200)
    shuffled = {name: column[order] for name, column in columns.items()}
    for found in (_tally(columns, [1] * 199), _tally(shuffled, [13, 90, 20])):
        assert found.labelled_figures() == want.labelled_figures()
        assert [found.total(name) for name in MEANS] == [want.total(name) for name in MEANS]


@pytest.mark.parametrize(("num_classes", "y"), [(0, -1), (3, -1), (1, 0)])
def test_what_is_not_there_is_none(num_classes: int, y: int) -> None:
    columns = _columns(5, num_classes=1) | {"y": np.full(5, y), "predicted": np.zeros(5, np.int64)}
    found = _tally(columns, [2], num_classes).labelled_figures()
    assert found["num_labelled"] == 5 * (y + 1)
    assert found["y_gap"] is None
    for name in ("accuracy", "macro_f1", "calibration_error"):
        assert (found[name] is None) == (y < 0)


def test_a_class_that_nobody_names_does_not_count() -> None:
    columns = _columns(4) | {"y": np.array([0, 0, 2, -1]), "predicted": np.array([0, 0, 2, 1])}
    assert _tally(columns, [2]).labelled_figures()["macro_f1"] == 1


def test_ranks_say_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Through JSON, and added up in their order; a rank without rows is no matter."""
    columns = _columns(200)
    first, second = (
        Tally.of_rows({name: column[rows] for name, column in columns.items()}, 4)
        for rows in (slice(0, 120), slice(120, 200))
    )

    def gather(value: Any) -> list[Any]:
        return [value, None, tally._plain(second)]

    monkeypatch.setattr(distributed, "gather", gather)
    found, want = gather_tally(first), first + second
    assert tally._plain(found) == tally._plain(want)
    assert found.num_rows == 200


@settings(max_examples=200, deadline=None)
@given(st.lists(FINITE, max_size=20))
def test_the_parts_hold_the_exact_sum(values: list[float]) -> None:
    values = [value / 32 for value in values]
    parts = exact_parts(values)
    exact = sum(map(Fraction, values))
    assert sum(map(Fraction, parts)) == exact
    assert float(exact) == (parts[0] if parts else 0.0)


def test_parts_of_what_has_no_finite_sum() -> None:
    big = 1.7e308
    for values in ([math.inf, 1.0], [big, big], [math.inf, math.inf]):
        assert exact_parts(values) == exact_parts([*exact_parts(values), 1.0]) == [math.inf]
    for values in ([math.nan, 1.0], [math.inf, -math.inf], [math.nan, math.inf]):
        (found,) = exact_parts(values)
        assert math.isnan(found)
