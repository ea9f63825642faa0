"""Rows in Arrow, against the rows."""

import itertools
import random
from pathlib import Path

import datasets
import numpy as np
import pandas
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqssvae.data.columns import dataset_of
from seqssvae.data.rows import Row
from seqssvae.data.tables import cached_table, is_table, iterate_column, table_of


def make_rows(number: int) -> list[Row]:
    labels = (None, "x", ("x", "y"))
    return [Row(i + 1, f"text {i}", labels[i % 3], f"id-{i}", i % 2 == 0) for i in range(number)]


def check(table: pa.Table, rows: list[Row]) -> None:
    assert table.num_rows == len(rows)
    found = table.to_pylist()
    assert [row["sequence"] for row in found] == [row.sequence for row in rows]
    assert [row["id"] for row in found] == [row.id for row in rows]
    assert [row["number"] for row in found] == [row.number for row in rows]
    assert [row["repeats_id"] for row in found] == [row.repeats_id for row in rows]
    assert [row["label"] for row in found] == [
        ([], ["x"], ["x", "y"])[i % 3] for i in range(len(rows))
    ]


def test_blocks_hold_the_rows_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    rows = make_rows(10)
    check(table_of(rows, is_tokens=False, block_rows=4), rows)
    table = cached_table("key", rows, is_tokens=False, block_rows=4)
    check(table, rows)
    assert len(table.column("id").chunks) == 3
    check(cached_table("key", make_rows(3), is_tokens=False), rows)  # the rows are not read
    path = tmp_path / "seqssvae" / "key.arrow"
    path.write_bytes(path.read_bytes()[:-20])
    del table
    check(cached_table("key", make_rows(3), is_tokens=False), make_rows(3))


def test_few_long_rows_make_a_block() -> None:
    rows = [Row(i, ["a"] * 15, None, str(i)) for i in range(6)]
    table = table_of(rows, is_tokens=True, block_symbols=20)
    assert len(table.column("id").chunks) == 3
    assert table.column("sequence").to_pylist() == [["a"] * 15] * 6


texts = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=4))


@given(values=texts, chunk=st.integers(1, 4), seed=st.integers(0, 9))
def test_selected_values_are_those_of_a_list(values: list[str], chunk: int, seed: int) -> None:
    chunks = [values[i : i + chunk] for i in range(0, len(values), chunk)]
    column = pa.chunked_array(chunks, pa.string())
    assert list(iterate_column(column)) == values
    generator = random.Random(seed)
    mask = np.array([generator.random() < 0.6 for _ in values], np.bool_)
    assert list(iterate_column(column, mask)) == list(itertools.compress(values, mask))


def test_a_table_of_any_library_is_a_data_set() -> None:
    """NaN beside texts is no label, and text views are texts; a column alone is no table."""
    frame = pandas.DataFrame({"text": ["ab", "cd"], "label": ["x", np.nan]}, index=[7, 3])
    views = pa.table({"text": pa.array(["ab", "cd"], pa.string_view())})
    for table in (frame, views):
        assert is_table(table) and dataset_of(table)["text"] == ["ab", "cd"]
    assert dataset_of(frame)["label"] == ["x", None]
    for value in (frame["text"], ["ab"], "ab", np.array(["ab"]), datasets.Dataset.from_dict({})):
        assert not is_table(value) and dataset_of(value) is value
