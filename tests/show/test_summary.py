from typing import Any

import numpy as np
import pytest

from seqssvae.inference.tally import wilson_interval
from seqssvae.show.examples import ConfusedPair
from seqssvae.show.portrait import Portrait
from seqssvae.show.summary import most_common_share, summarise
from tests.support.portraits import make_portrait


def measured(num_right: int, num_rows: int, **changes: Any) -> Portrait:
    """A portrait of three labels, as many rows of each, of which some are labelled correctly."""
    low, high = wilson_interval(num_right, num_rows)
    figures = {
        "num_rows": num_rows,
        "num_labelled": num_rows,
        "accuracy": num_right / num_rows,
        "accuracy_low": low,
        "accuracy_high": high,
    }
    defaults: dict[str, Any] = {"y": np.arange(num_rows) % 3, "figures": figures, "confused": []}
    return make_portrait(**{**defaults, **changes})


def test_three_sentences() -> None:
    """From how many labels, how good with which interval, and what to do."""
    learned, quality, advice = summarise(measured(300, 400))
    assert learned == (
        "This model learned 3 labels, '_a', '<i>b', 'c$', from 30 rows with a label and 1,000 rows "
        "without."
    )
    assert quality == (
        "It labels 75.0 % of 400 rows correctly (training did not learn from them; 95 % interval "
        "70.5 % to 79.0 %), where the most common label alone would be right for 33.5 %."
    )
    assert advice == "Next: use it, by seqssvae classify RUN --data FILE --out FILE.jsonl."


def test_labels_of_dev_rows_are_counted_once_they_are_learned() -> None:
    summary = {"num_labelled": 30, "num_unlabelled": 1, "dev": {"num_labelled": 8}}
    for are_learned, wanted in ((True, "from 38 rows"), (False, "from 30 rows")):
        portrait = make_portrait(summary={**summary, "dev_labels_learned": are_learned})
        assert f"{wanted} with a label and 1 row without." in summarise(portrait)[0]


PAIR = ConfusedPair("c$", "_a", 9, 0.1, ["row 1"])


@pytest.mark.parametrize(
    ("portrait", "wanted"),
    [
        (make_portrait(()), "to classify, train again with some labels"),
        (measured(1, 1, figures={"num_labelled": 0}), "measure it on rows with labels"),
        (make_portrait(("only",)), "give some rows another label"),
        (measured(400, 400, learned=True), "on labelled rows that it has not seen"),
        (measured(140, 400), "no better than guessing"),
        (measured(1, 3), "no better than guessing"),
        (measured(35, 40), "on more labelled rows, .* interval is wide"),
        (measured(360, 400, confused=[PAIR]), "label more rows of 'c\\$' and '_a'"),
        (measured(360, 400, confused=[PAIR._replace(share=0.01)]), "use it"),
    ],
)
def test_the_advice_is_for_the_case(portrait: Portrait, wanted: str) -> None:
    import re

    assert re.search(wanted, summarise(portrait)[2])


def test_400_rows_are_enough_for_an_interval_that_is_not_wide() -> None:
    assert all(np.diff(wilson_interval(hits, 400)) < 0.1 for hits in range(401))
    assert np.diff(wilson_interval(200, 350)) > 0.1


def test_what_cannot_be_measured_is_said() -> None:
    learned, quality, _ = summarise(make_portrait((), learned=True))
    assert learned == "This model learned from 1,000 rows to write sequences like them."
    assert "40 rows shown here (training has seen them) a probability of 22.3 %" in quality
    unlabelled = measured(1, 1, figures={"num_labelled": 0}, y=np.full(40, -1))
    assert summarise(unlabelled)[1].startswith("How often it is right is not known")
    assert most_common_share(unlabelled) == 0.0
    assert summarise(make_portrait(summary={}))[0].endswith(
        "from 0 rows with a label and 0 rows without."
    )
