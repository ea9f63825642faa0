"""Rows of Arrow batches of every form."""

from typing import Any

import pyarrow
import pytest

from seqssvae.data.arrow_rows import batch_rows
from seqssvae.data.rows import Columns, RawRow
from seqssvae.errors import InputError

COLUMNS = Columns("text", False, "label", None)


def table(label: Any) -> pyarrow.Table:
    return pyarrow.table({"text": ["a", "b", "c"], "label": label})


def read(*tables: pyarrow.Table, names: list[str] | None = None) -> list[RawRow]:
    return list(batch_rows(tables, COLUMNS, "source", label_names=names))


def test_numbers_go_on_over_batches() -> None:
    rows = read(table(["x", "y", None]), table(["x", "y", None]))
    assert [row.number for row in rows] == [1, 2, 3, 4, 5, 6]
    assert rows[4] == RawRow(5, "b", "y", None)


@pytest.mark.parametrize("kind", [pyarrow.large_string(), pyarrow.string_view()])
def test_every_kind_of_string_is_one(kind: pyarrow.DataType) -> None:
    rows = read(table(pyarrow.array(["x", "y", None], kind)))
    assert [row.label for row in rows] == ["x", "y", None]


def test_categories_are_their_values() -> None:
    rows = read(table(pyarrow.array(["x", "y", None]).dictionary_encode()))
    assert [row.label for row in rows] == ["x", "y", None]


def test_integers_of_named_classes_become_names() -> None:
    rows = read(table([1, -1, None]), names=["no", "yes"])
    assert [row.label for row in rows] == ["yes", None, None]
    rows = read(table([[1, 0], [], None]), names=["no", "yes"])
    assert [row.label for row in rows] == [["yes", "no"], [], None]
    for bad in (2, -2):
        with pytest.raises(InputError, match=f"source:2: wanted a label from 0 to 1.*, got {bad}"):
            read(table([0, bad, 1]), names=["no", "yes"])
