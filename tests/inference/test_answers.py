import numpy as np
import pytest

from seqssvae.inference.answers import NONE_OF_THESE, answers

NAMES = ("a", "b", "c")
TABLE = np.array([[0.7, 0.1, 0.2], [0.3, 0.4, 0.3], [0.05, 0.05, 0.9]])


def test_a_row_has_its_label_and_probabilities_alone() -> None:
    """Unless more is asked for."""
    first, *_ = answers(TABLE, NAMES)
    assert first == {
        "label": "a", "probability": 0.7, "probabilities": {"a": 0.7, "b": 0.1, "c": 0.2}
    }  # fmt: skip


def test_sets_begin_with_the_label() -> None:
    greatest = -np.log([0.3, 0.2, 0.15])
    found = [answer["set"] for answer in answers(TABLE, NAMES, greatest)]
    assert found == [["a", "c"], ["b", "a", "c"], ["c"]]


def test_improbable_labels_are_left_undecided() -> None:
    found = list(answers(TABLE, NAMES, abstain=0.7))
    assert [answer["label"] for answer in found] == ["a", None, "c"]
    assert [answer["abstained"] for answer in found] == [False, True, False]
    assert found[1]["probability"] == 0.4


@pytest.mark.parametrize(("novel", "last"), [(0.1, NONE_OF_THESE), (0.01, "c")])
def test_unlikely_rows_are_none_of_the_classes(novel: float, last: str) -> None:
    """Those with a p-value of 0.1 or 0.01 at most, undecided ones too."""
    novelty = np.array([0.0, 0.85, 0.9])
    found = list(answers(TABLE, NAMES, abstain=0.5, novelty=novelty, novel=novel))
    assert [answer["label"] for answer in found] == ["a", None, last]
    assert [answer["novelty"] for answer in found] == [0.0, 0.85, 0.9]
