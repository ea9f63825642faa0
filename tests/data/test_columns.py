"""Columns by name, and those of data sets by type."""

from typing import Any

import datasets
import pytest

from seqssvae.data.columns import ColumnChoice, Columns, class_names
from seqssvae.errors import InputError

TEXT, NUMBER = datasets.Value("string"), datasets.Value("int64")
TOKENS, CLASS = datasets.List(TEXT), datasets.ClassLabel(names=["no", "yes"])


def choose(names: list[str], **named: Any) -> Columns:
    return ColumnChoice(**named).of_names(names, "f:1")


def empty(features: dict[str, Any]) -> datasets.Dataset:
    columns: dict[str, list[Any]] = {name: [] for name in features}
    return datasets.Dataset.from_dict(columns, features=datasets.Features(features))


def columns(features: dict[str, Any], **named: Any) -> Columns:
    return ColumnChoice(**named).of_dataset(empty(features), "here")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["id", "text", "label"], Columns("text", False, "label", "id")),
        (["tokens", "class"], Columns("tokens", True, "class", None)),
        (["tokens", "text"], Columns("text", False, None, None)),
        (["smiles", "tokens", "category", "labels"], Columns("tokens", True, "labels", None)),
        (["smiles", "sentence"], Columns("sentence", False, None, None)),
        (["ID", " Text", "LABEL "], Columns(" Text", False, "LABEL ", "ID")),
        (["Label", "label", "SMILES"], Columns("SMILES", False, "label", None)),
        (["Tokens", "Class"], Columns("Tokens", True, "Class", None)),
        (["ID", "id", "text"], Columns("text", False, None, "id")),
    ],
)
def test_usual_columns_are_chosen(names: list[str], expected: Columns) -> None:
    assert choose(names) == expected


def test_named_columns_are_chosen() -> None:
    names = ["text", "title", "label", "topic", "id"]
    assert choose(names, text="title", label="topic") == Columns("title", False, "topic", "id")
    assert choose(names, tokens="title", read_labels=False).label is None
    assert choose(names, tokens="title").is_tokens
    assert choose(names, label="away", read_labels=False).label is None
    assert choose(names, text="label").label is None
    assert choose(names, text=" Title", label="TOPIC") == Columns("title", False, "topic", "id")
    assert choose(["Title", "title"], text="title").sequence == "title"


@pytest.mark.parametrize(
    ("names", "columns", "message"),
    [
        (["a", "b"], {}, "wanted a column 'text' or 'tokens' .*, got 'a', 'b'"),
        (["a", "b"], {"text": "c"}, "wanted a column 'c', got 'a', 'b'; --text-column"),
        (["text"], {"label": "c"}, "wanted a column 'c', got 'text'"),
        ([], {}, "got none"),
        (["peptide", "x"], {}, "named by --text-column or --tokens-column.*, got 'peptide', 'x'"),
        (["text", "Label", "LABEL"], {}, "wanted one column 'label', got 'Label', 'LABEL'"),
        (["Text", "TEXT"], {}, "wanted one column 'text', got 'Text', 'TEXT'"),
        (["ID", "Id", "text"], {}, "wanted one column 'id', got 'ID', 'Id'"),
        (["a"], {"text": "a", "tokens": "a"}, "got both"),
        (["text", "text"], {}, "wanted one column 'text', got 2"),
        (["text", "label", "label"], {}, "wanted one column 'label', got 2"),
    ],
)
def test_absent_columns_are_errors(names: list[str], columns: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=f"^f:1: .*{message}"):
        choose(names, **columns)


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
        ({"Text": TEXT, "Title": TEXT, "Label": TEXT, "kind": CLASS},
         Columns("Text", False, "Label", None)),
        ({"ID": TEXT, "Class": TEXT, "Review": TEXT}, Columns("Review", False, "Class", "ID")),
        ({"tokens": TOKENS, "ner_tags": datasets.List(CLASS)}, Columns("tokens", True, None, None)),
    ],
)  # fmt: skip
def test_columns_of_data_sets_are_chosen(features: dict[str, Any], wanted: Columns) -> None:
    assert columns(features) == wanted


def test_named_columns_come_first_and_ambiguous_ones_are_an_error() -> None:
    features = {"question": TEXT, "answer": TEXT, "a": CLASS, "b": CLASS}
    with pytest.raises(InputError, match=r"^here: wanted a column .*got 'question', 'answer'"):
        columns(features)
    found = columns(features, text="answer", label="b")
    assert found == Columns("answer", False, "b", None)
    assert columns({"a": TEXT, "b": CLASS}, read_labels=False).label is None
    with pytest.raises(InputError, match=r"^here: wanted a column 'text' or 'tokens'"):
        columns({"number": NUMBER})


def test_names_of_classes() -> None:
    dataset = empty({"a": CLASS, "b": datasets.List(CLASS), "c": NUMBER})
    found = [class_names(dataset, name) for name in ("a", "b", "c", None)]
    assert found == [("no", "yes"), ("no", "yes"), None, None]
