"""Columns of data sets, by name and by type."""

from typing import Any

import datasets
import pytest

from seqssvae.data.dataset_columns import class_names, dataset_columns
from seqssvae.data.rows import Columns
from seqssvae.errors import InputError

TEXT, NUMBER = datasets.Value("string"), datasets.Value("int64")
TOKENS, CLASS = datasets.List(TEXT), datasets.ClassLabel(names=["no", "yes"])


def columns(features: dict[str, Any], **named: Any) -> Columns:
    empty = datasets.Dataset.from_dict(
        {name: [] for name in features}, features=datasets.Features(features)
    )
    wanted = {"text_column": None, "tokens_column": None, "label_column": None, "read_labels": True}
    return dataset_columns(empty, "here", **{**wanted, **named})


@pytest.mark.parametrize(
    ("features", "wanted"),
    [
        ({"text": TEXT, "label": CLASS}, Columns("text", False, "label", None)),
        ({"review": TEXT, "stars": CLASS}, Columns("review", False, "stars", None)),
        ({"words": TOKENS, "kind": CLASS}, Columns("words", True, "kind", None)),
        ({"review": TEXT, "words": TOKENS}, Columns("review", False, None, None)),
        ({"id": TEXT, "review": TEXT}, Columns("review", False, None, "id")),
        ({"text": TOKENS}, Columns("text", True, None, None)),  # the type counts, not the name
        ({"tokens": TEXT, "class": TEXT}, Columns("tokens", False, "class", None)),
        ({"title": TEXT, "content": TEXT}, Columns("content", False, None, None)),
        ({"text": TEXT, "label": TEXT, "a": CLASS}, Columns("text", False, "label", None)),
        ({"text": TEXT, "a": CLASS, "b": CLASS}, Columns("text", False, None, None)),
        ({"words": datasets.LargeList(datasets.Value("large_string"))},
         Columns("words", True, None, None)),
        ({"tokens": TOKENS, "ner_tags": datasets.List(CLASS)}, Columns("tokens", True, None, None)),
    ],
)  # fmt: skip
def test_columns_are_found(features: dict[str, Any], wanted: Columns) -> None:
    assert columns(features) == wanted


def test_what_is_named_wins_and_what_is_not_clear_is_asked_for() -> None:
    features = {"question": TEXT, "answer": TEXT, "a": CLASS, "b": CLASS}
    with pytest.raises(InputError, match=r"^here: wanted a column .*got 'question', 'answer'"):
        columns(features)
    found = columns(features, text_column="answer", label_column="b")
    assert found == Columns("answer", False, "b", None)
    assert columns({"a": TEXT, "b": CLASS}, read_labels=False).label is None
    with pytest.raises(InputError, match=r"^here: wanted a column 'text' or 'tokens'"):
        columns({"number": NUMBER})


def test_names_of_classes() -> None:
    features = datasets.Features(a=CLASS, b=datasets.List(CLASS), c=NUMBER)
    found = [class_names(features, name) for name in ("a", "b", "c", None)]
    assert found == [("no", "yes"), ("no", "yes"), None, None]
