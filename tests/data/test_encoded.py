"""Encoded rows against plain lists."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqssvae.data.encoded import EncodedRows
from seqssvae.data.vocabulary import EOS, UNK
from tests.support.rows import make_rows

symbols = st.lists(st.sampled_from([UNK, 4, 5, 6]), max_size=6)
sequences = st.lists(st.tuples(symbols, st.sampled_from([4, EOS])), max_size=8).map(
    lambda rows: [[*row, last] for row, last in rows]
)


def encoded(rows: list[list[int]]) -> EncodedRows:
    """Labelled rows, every third one with a partial label."""
    partial = range(2, len(rows), 3)
    y = [-1 if row in partial else row for row in range(len(rows))]
    return make_rows(rows, y, dict.fromkeys(partial, (0, 2)))


def as_lists(rows: EncodedRows) -> list[list[int]]:
    return [rows.row(number).tolist() for number in range(len(rows))]


@given(rows=sequences)
def test_rows_are_what_they_were_made_of(rows: list[list[int]]) -> None:
    found = encoded(rows)
    assert as_lists(found) == rows
    assert found.lengths.tolist() == [len(row) for row in rows]
    assert found.num_truncated == sum(row[-1] != EOS for row in rows)
    assert found.num_unknown == sum(row.count(UNK) for row in rows)
    assert found.ids == [f"row-{number}" for number in range(len(rows))]
    assert [found.symbols.dtype, found.offsets.dtype, found.y.dtype] == [
        np.dtype(name) for name in ("int32", "int64", "int64")
    ]
    bare = EncodedRows(found.symbols, found.offsets)
    assert bare.y.tolist() == [-1] * len(rows) and bare.candidates == {}


@given(rows=sequences.filter(bool), data=st.data())
def test_selected_rows_are_those_rows(rows: list[list[int]], data: st.DataObject) -> None:
    whole = encoded(rows)
    order = data.draw(st.lists(st.integers(-len(rows), len(rows) - 1)))
    selection = whole.take(np.array(order, dtype=np.int64))
    order = [number % len(rows) for number in order]
    assert as_lists(selection) == [rows[number] for number in order]
    assert selection.index.tolist() == order
    assert selection.y.tolist() == whole.y[order].tolist()
    assert selection.ids == [whole.ids[number] for number in order]
    assert selection.candidates == {
        new: whole.candidates[old] for new, old in enumerate(order) if old in whole.candidates
    }


@given(rows=sequences.filter(bool), data=st.data())
def test_a_selection_equals_a_copy(rows: list[list[int]], data: st.DataObject) -> None:
    """Also of a selection, in parts, and concatenated."""
    whole = encoded(rows)
    first = data.draw(st.lists(st.integers(0, len(rows) - 1), min_size=1))
    second = data.draw(st.lists(st.integers(0, len(first) - 1)))
    selection = whole.take(first).take(second)
    copy = make_rows([rows[first[number]] for number in second])
    assert not len(second) or np.shares_memory(selection.row(0), whole.symbols)
    assert as_lists(selection) == as_lists(copy)
    assert selection.symbols.tolist() == copy.symbols.tolist()
    assert selection.offsets.tolist() == copy.offsets.tolist()
    assert selection.lengths.tolist() == copy.lengths.tolist()
    assert selection.ids == [whole.ids[first[number]] for number in second]
    assert selection.num_truncated == copy.num_truncated
    assert selection.num_unknown == copy.num_unknown
    parts = list(selection.parts(2))
    assert [row for part in parts for row in as_lists(part)] == as_lists(copy)
    both = EncodedRows.concatenate([selection, whole])
    assert as_lists(both) == as_lists(copy) + rows
    assert both.y.tolist() == [*selection.y, *whole.y]
    if len(second):
        x, lengths = selection.padded(np.arange(len(second)))
        assert [row[:n] for row, n in zip(x.tolist(), lengths, strict=True)] == as_lists(copy)
        assert all(not any(row[n:]) for row, n in zip(x.tolist(), lengths, strict=True))


@given(rows=sequences.filter(bool), max_length=st.integers(1, 8), data=st.data())
def test_long_rows_are_read_in_part_and_kept_whole(
    rows: list[list[int]], max_length: int, data: st.DataObject
) -> None:
    """Also of a selection, with other labels, and concatenated with a copy or without."""
    chosen = data.draw(st.lists(st.integers(0, len(rows) - 1), min_size=1))
    made = make_rows(rows, max_length=max_length)
    selection = made.take(chosen).with_labels(np.zeros(len(chosen), np.int64))
    other = data.draw(st.sampled_from([made, make_rows(rows, max_length=max_length)]))
    found = EncodedRows.concatenate([selection, other])
    whole = [*(rows[number] for number in chosen), *rows]
    cut = [row[:max_length] for row in whole]
    assert as_lists(found) == whole and found.max_length == max_length
    assert found.symbols.tolist() == [symbol for row in whole for symbol in row]
    assert np.diff(found.offsets).tolist() == [len(row) for row in whole]
    assert found.lengths.tolist() == [len(row) for row in cut]
    assert found.num_truncated == sum(row[-1] != EOS for row in cut)
    every = np.arange(len(whole))
    longer = [len(row) > max_length for row in whole]
    assert found.are_longer(every).tolist() == longer
    for wanted, lists in ((False, cut), (True, whole)):
        x, lengths = found.padded(every, whole=wanted)
        assert [row[:n] for row, n in zip(x.tolist(), lengths, strict=True)] == lists
        assert x.shape[1] == max(map(len, lists))


def test_rows_are_selected_by_lists_and_masks() -> None:
    rows = make_rows([[4, EOS], [5, 5, EOS], [6, EOS]])
    assert rows.take([2, 0]).ids == ["row-2", "row-0"]
    assert rows.take(np.array([True, False, True])).ids == ["row-0", "row-2"]
    assert len(rows.take([])) == 0
    for bad in (3, -4):
        with pytest.raises(IndexError):
            rows.take([bad])
        with pytest.raises(IndexError):
            rows.row(bad)
    assert rows.row(-1).tolist() == [6, EOS]


@given(parts=st.lists(sequences, min_size=1, max_size=3))
def test_parts_are_concatenated_in_order(parts: list[list[list[int]]]) -> None:
    rows = [encoded(part) for part in parts]
    whole = EncodedRows.concatenate(rows)
    assert as_lists(whole) == [row for part in parts for row in part]
    assert whole.ids == [id for part in rows for id in part.ids]
    starts = np.cumsum([0, *map(len, rows)])
    for start, part in zip(starts, rows, strict=False):
        some = whole.slice(start, start + len(part))
        assert as_lists(some) == as_lists(part)
        assert some.y.tolist() == part.y.tolist()
        assert some.candidates == part.candidates


def test_labels_can_be_replaced() -> None:
    rows = encoded([[4], [5, 5], [6]])
    assert rows.with_labels(None).y.tolist() == [-1, -1, -1]
    assert rows.with_labels(None).candidates == {}
    guessed = rows.with_labels(np.array([1, 0, 1]))
    assert guessed.take([1]).ids == ["row-1"] and guessed.take([1]).y.tolist() == [0]
