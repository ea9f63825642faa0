"""Labels of which some are missing."""

from typing import Any

import numpy as np
import pandas
import pyarrow
import pytest

from seqssvae.export.unlabelled import LabelledKFold, is_unlabelled


def test_folds_keep_unlabelled_rows_in_training() -> None:
    y = [*"uvw"] * 10 + [None] * 20
    texts = [f"text {number}" for number in range(50)]
    free = set(range(30, 50))
    tested: list[int] = []
    for train, test in LabelledKFold(5, shuffle=True, random_state=0).split(texts, y):
        assert free <= set(train) and not free & set(test) and not set(train) & set(test)
        assert sorted(y[i] for i in test) == [*"uuvvww"]  # stratified
        tested.extend(test)
    assert sorted(tested) == list(range(30))


@pytest.mark.parametrize(
    "form",
    [
        list,
        lambda texts: [text.split() for text in texts],
        lambda texts: np.array([[len(texts), int(text.split()[1])] for text in texts]),
        pyarrow.array,
        lambda texts: pandas.DataFrame({"text": texts}),
    ],
)
def test_equal_rows_are_in_one_fold(form: Any) -> None:
    """Each labelled row is there twice, and once without a label."""
    texts, y = [f"text {i}" for i in range(30)] * 3, [*"uvw" * 20, *[None] * 30]
    tested: list[int] = []
    for train, test in LabelledKFold(5, shuffle=True, random_state=0).split(form(texts), y):
        assert not {texts[i] for i in train} & {texts[i] for i in test}
        assert sorted(y[i] for i in test) == [*"uuuuvvvvwwww"]
        tested.extend(test)
    assert sorted(tested) == list(range(60))
    assert len(list(LabelledKFold(5).split(None, y))) == 5


def test_which_labels_are_missing() -> None:
    assert is_unlabelled([1, -1, None, "", "a", float("nan")]).tolist() == [0, 1, 1, 1, 0, 1]
    assert is_unlabelled(np.array([0, -1, 2])).tolist() == [False, True, False]
    assert is_unlabelled(np.array(["a", -1, np.nan, None, " "], str)).tolist() == [0, 1, 1, 1, 1]
    assert is_unlabelled(np.array(["a", np.nan])).tolist() == [False, True]
    assert is_unlabelled(["NA", "a"], ["a"]).tolist() == [False, True]
