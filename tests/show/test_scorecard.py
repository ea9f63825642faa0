"""What is measured of a run, by hand."""

import numpy as np
import pytest

from seqssvae.show.scorecard import NUM_WRITTEN, measure_scorecard
from seqssvae.trained import load
from tests.support.fixtures import SmallRun


def test_the_scorecard_is_of_the_rows_and_of_as_many_sequences_of_each_label(
    small_run: SmallRun,
) -> None:
    model = load(small_run[0])
    rows, y = ["ab", "abab", "cd", "cdcd", "a"] * 4, np.array([0, 0, 1, 1, -1] * 4)
    found = measure_scorecard(model, rows, y)
    assert found is not None
    assert found.lengths[0] == list(map(len, rows)) and len(found.lengths[1]) == NUM_WRITTEN
    assert found.figures["num_sequences"] == NUM_WRITTEN
    shares = {symbol: share for symbol, share, _ in found.symbols}
    assert shares["a"] == 4 * 4 / (4 * 13) and sum(shares.values()) == pytest.approx(1)
    assert sum(share for *_, share in found.symbols) == pytest.approx(1)
    assert found.figures["label_agreement"] > 0.9
    few = measure_scorecard(model, rows[:5], y[:5])  # two rows of a label are not enough
    assert few is not None and "label_agreement" not in few.figures
    assert measure_scorecard(model, rows[:1], y[:1]) is None
