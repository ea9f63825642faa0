import functools
import json
import operator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix, f1_score, precision_recall_fscore_support

from seqssvae import distributed
from seqssvae.inference.tally import (
    FIGURES,
    Tally,
    bin_sums,
    calibration_error,
    describe_accuracy,
    gather_tally,
    reliability,
    wilson_interval,
)

Columns = dict[str, NDArray[Any]]


def _figures(num_rows: int, latent_size: int = 3) -> Columns:
    """Columns far from 0, where a sum of squares loses digits."""
    stream = np.random.default_rng(0)
    columns: Columns = {name: 1e3 + 10 * stream.standard_normal(num_rows) for name in FIGURES}
    return columns | {
        "y_gap": stream.standard_normal(num_rows),
        "has_gap": stream.random(num_rows) < 0.6,
        "length": stream.integers(1, 9, num_rows),
        "z_mean": 1e4 + stream.standard_normal((num_rows, latent_size)) * [0.1, 0.0, 3.0],
    }


def _predictions(num_rows: int, num_classes: int = 4) -> Columns:
    """The last class is never a label."""
    stream = np.random.default_rng(1)
    return {
        "log_loss": stream.exponential(size=num_rows),
        "confidence": stream.random(num_rows),
        "y": stream.integers(0, num_classes - 1, num_rows),
        "predicted": stream.integers(0, num_classes, num_rows),
        "sets": stream.random((num_rows, num_classes)) < 0.6,
    }


def _portions(columns: Columns, sizes: list[int]) -> list[Columns]:
    """Portions of some sizes; the last one has the rest of the rows."""
    cuts = np.cumsum(sizes, dtype=np.int64)
    parts = zip(*(np.split(column, cuts) for column in columns.values()), strict=True)
    return [dict(zip(columns, part, strict=True)) for part in parts]


@pytest.mark.parametrize("sizes", [[], [1], [1] * 199, [64, 0, 64], [150, 3, 7]])
def test_a_tally_in_portions_equals_whole_columns(sizes: list[int]) -> None:
    columns, predictions = _figures(200), _predictions(200)
    tallies = [Tally.of_figures(part) for part in _portions(columns, sizes)]
    tallies += [Tally.of_predictions(part, 4) for part in _portions(predictions, sizes)]
    found = functools.reduce(operator.add, tallies, Tally())
    figures = found.figures()
    has_gap = columns["has_gap"]
    assert 0 < has_gap.sum() < 200
    for name in (*FIGURES, "y_gap"):
        values = columns[name][has_gap] if name == "y_gap" else columns[name]
        assert figures[name] == pytest.approx(values.mean(), rel=1e-12)
        error = values.std(ddof=1) / np.sqrt(len(values))
        assert figures[f"{name}_se"] == pytest.approx(error, rel=1e-10)
    nll, lengths = columns["nll"], columns["length"]
    ratio = nll.sum() / lengths.sum()
    error = (nll - ratio * lengths).std(ddof=1) / lengths.mean() / np.sqrt(200)
    assert figures["nats_per_symbol"] == pytest.approx(ratio, rel=1e-13)
    assert figures["nats_per_symbol_se"] == pytest.approx(error, rel=1e-9)
    # the distances of numbers near 1e4 are rounded at 1e-12
    z = found.moments["z_mean"]
    assert z.mean == pytest.approx(columns["z_mean"].mean(0), rel=1e-13)
    assert z.variance == pytest.approx(columns["z_mean"].var(0), rel=1e-10, abs=1e-20)
    y, predicted, confidence, log_loss, sets = (
        predictions[name] for name in ("y", "predicted", "confidence", "log_loss", "sets")
    )
    assert set(predicted) - set(y) == {3}
    metrics = found.prediction_metrics()
    interval = wilson_interval(int((y == predicted).sum()), 200)
    assert (metrics.pop("accuracy_low"), metrics.pop("accuracy_high")) == interval
    assert metrics == pytest.approx(
        {
            "num_labelled": 200,
            "accuracy": np.mean(y == predicted),
            "macro_f1": f1_score(y, predicted, average="macro", zero_division=0.0),
            "calibration_error": calibration_error(bin_sums(confidence, y == predicted)),
            "log_loss": log_loss.mean(),
            "set_coverage": np.mean(
                [y in row.nonzero()[0] for y, row in zip(y, sets, strict=True)]
            ),
            "set_size": np.mean([len(row.nonzero()[0]) for row in sets]),
        },
        abs=1e-14,
    )


def test_one_row_has_no_standard_error_and_no_label_no_metric() -> None:
    figures = Tally.of_figures(_figures(1) | {"has_gap": np.array([False])}).figures()
    assert figures["y_gap"] is None and figures["nll"] is not None
    assert all(value is None for name, value in figures.items() if name.endswith("_se"))
    metrics = Tally().prediction_metrics()
    assert metrics.pop("num_labelled") == 0 and set(metrics.values()) == {None}


@pytest.mark.parametrize("num_labelled", [0, 200])
def test_processes_send_all_of_it(monkeypatch: pytest.MonkeyPatch, num_labelled: int) -> None:
    """Through JSON's types, added in the order of the ranks; a rank may have no rows."""
    first, second = (Tally.of_figures(part) for part in _portions(_figures(200), [120]))
    if num_labelled:
        second += Tally.of_predictions(_predictions(num_labelled), 4)
    sent: list[Any] = []

    def gather(value: Any) -> list[Any]:
        sent.append(json.loads(json.dumps(value)))
        return list(sent)

    monkeypatch.setattr(distributed, "gather", gather)
    gather_tally(Tally())
    gather_tally(first)
    found, want = gather_tally(second), first + second
    assert found.prediction_metrics() == want.prediction_metrics()
    assert found.figures() == want.figures()
    z = found.moments["z_mean"]
    assert (z.variance == want.moments["z_mean"].variance).all() and z.num_rows == 200


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30),
)
def test_macro_f1_equals_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    y, predicted = (np.array(column) for column in zip(*pairs, strict=True))
    columns = _predictions(len(y)) | {"y": y, "predicted": predicted}
    want = f1_score(y, predicted, average="macro", zero_division=0.0)
    assert Tally.of_predictions(columns, 4).prediction_metrics()["macro_f1"] == pytest.approx(want)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30))
def test_figures_of_classes_equal_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    y, predicted = (np.array(column) for column in zip(*pairs, strict=True))
    columns = _predictions(len(y)) | {"y": y, "predicted": predicted}
    parts = [Tally.of_predictions(part, 4) for part in _portions(columns, [len(y) // 2])]
    found = (parts[0] + parts[1]).class_metrics("abcd")
    assert found["confusion"] == confusion_matrix(y, predicted, labels=range(4)).tolist()
    want = precision_recall_fscore_support(y, predicted, labels=range(4), zero_division=np.nan)
    for name, *values, num_rows in zip("abcd", *want, strict=True):
        one = found["classes"][name]
        got = [np.nan if one[key] is None else one[key] for key in ("precision", "recall", "f1")]
        assert got == pytest.approx(values, nan_ok=True) and one["num_labelled"] == num_rows


def test_of_many_classes_no_confusion_is_counted() -> None:
    tally = Tally.of_predictions(_predictions(50, 400), 400)
    found = tally.class_metrics([str(number) for number in range(400)])
    assert found["confusion"] is None and len(found["classes"]) == 400


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_equals_scipy(pair: tuple[int, int]) -> None:
    want = binomtest(*pair).proportion_ci(0.95, method="wilson")
    assert wilson_interval(*pair) == pytest.approx((want.low, want.high), abs=1e-12)


def test_accuracy_is_told_with_its_rows() -> None:
    assert describe_accuracy(1.0, 7) == "1.000 of 7 labelled rows (95 % interval 0.646 to 1.000)"
    assert describe_accuracy(0.0, 1).startswith("0.000 of 1 labelled row (")
    assert describe_accuracy(None, 0) == "not measured: no labelled rows"


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
