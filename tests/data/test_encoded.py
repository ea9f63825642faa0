"""Packed rows against plain lists."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqssvae.data.encoded import EncodedRows, RowLengths, RowPacker
from seqssvae.data.vocabulary import EOS, UNK

sequences = st.lists(st.lists(st.sampled_from([UNK, 4, 5, 6]), max_size=6), max_size=8)


def pack(rows: list[list[int]], max_length: int = 4) -> EncodedRows:
    packer = RowPacker(max_length)
    for index, row in enumerate(rows):
        candidates = (0, 2) if index % 3 == 2 else ()
        packer.add(row, -1 if candidates else index, candidates, f"id-{index}")
    return packer.rows()


def as_lists(rows: EncodedRows) -> list[list[int]]:
    return [rows.row(index).tolist() for index in range(len(rows))]


@given(rows=sequences, max_length=st.integers(1, 8))
def test_rows_end_with_eos_or_were_cut(rows: list[list[int]], max_length: int) -> None:
    packed = pack(rows, max_length)
    expected = [row + [EOS] if len(row) < max_length else row[:max_length] for row in rows]
    assert as_lists(packed) == expected
    assert packed.lengths.tolist() == [len(row) for row in expected]
    assert packed.num_truncated == sum(len(row) >= max_length for row in rows)
    assert packed.num_unknown == sum(row.count(UNK) for row in expected)
    assert packed.ids == tuple(f"id-{index}" for index in range(len(rows)))
    assert packed.candidates == {index: (0, 2) for index in range(2, len(rows), 3)}
    assert [packed.symbols.dtype, packed.offsets.dtype, packed.y.dtype] == [
        np.dtype(name) for name in ("int32", "int64", "int64")
    ]


@given(rows=sequences.filter(bool), data=st.data())
def test_taken_rows_are_those_rows(rows: list[list[int]], data: st.DataObject) -> None:
    packed = pack(rows)
    order = data.draw(st.lists(st.integers(-len(rows), len(rows) - 1)))
    taken = packed.take(np.array(order, dtype=np.int64))
    order = [index % len(rows) for index in order]
    whole = as_lists(packed)
    assert as_lists(taken) == [whole[index] for index in order]
    assert taken.y.tolist() == [int(packed.y[index]) for index in order]
    assert taken.ids == tuple(packed.ids[index] for index in order)
    assert taken.num_truncated == sum(whole[index][-1] != EOS for index in order)
    assert taken.num_unknown == sum(whole[index].count(UNK) for index in order)
    assert taken.candidates == {
        new: packed.candidates[old] for new, old in enumerate(order) if old in packed.candidates
    }


@given(rows=sequences.filter(bool), data=st.data())
def test_a_view_equals_a_copy(rows: list[list[int]], data: st.DataObject) -> None:
    """Also of a view, in parts, and joined."""
    packed = pack(rows)
    first = data.draw(st.lists(st.integers(0, len(rows) - 1), min_size=1))
    second = data.draw(st.lists(st.integers(0, len(first) - 1)))
    view = packed.take(first).take(second)
    copy = pack([rows[first[index]] for index in second])
    assert not len(second) or np.shares_memory(view.row(0), packed.symbols)
    assert as_lists(view) == as_lists(copy)
    assert view.symbols.tolist() == copy.symbols.tolist()
    assert view.offsets.tolist() == copy.offsets.tolist()
    assert view.lengths.tolist() == copy.lengths.tolist()
    assert view.ids == [packed.ids[first[index]] for index in second]
    assert (view.num_truncated, view.num_unknown) == (copy.num_truncated, copy.num_unknown)
    parts = list(view.parts(2))
    assert [row for part in parts for row in as_lists(part)] == as_lists(copy)
    joined = EncodedRows.concatenate([view, packed])
    assert as_lists(joined) == as_lists(copy) + as_lists(packed)
    assert joined.y.tolist() == [*view.y, *packed.y]
    if len(second):
        x, lengths = view.padded(np.arange(len(second)))
        assert [row[:n] for row, n in zip(x.tolist(), lengths, strict=True)] == as_lists(copy)
        assert all(not any(row[n:]) for row, n in zip(x.tolist(), lengths, strict=True))


@given(rows=sequences, data=st.data())
def test_all_but_some_rows_are_the_others_without_labels(
    rows: list[list[int]], data: st.DataObject
) -> None:
    packed = pack(rows)
    without = data.draw(st.sets(st.integers(0, len(rows) - 1))) if rows else set[int]()
    kept = [index for index in range(len(rows)) if index not in without]
    view, copy = packed.all_but(np.array(sorted(without), np.int64)), packed.take(kept)
    assert len(view) == len(kept) and as_lists(view) == as_lists(copy)
    assert view.symbols.tolist() == copy.symbols.tolist()
    assert view.offsets.tolist() == copy.offsets.tolist()
    assert view.ids == copy.ids and [view.ids[i] for i in range(len(kept))] == list(copy.ids)
    assert view.ids[1:3] == copy.ids[1:3] and view.ids[::-1] == copy.ids[::-1]
    assert view.y.tolist() == [-1] * len(kept) and view.candidates == {}
    backwards = np.arange(len(kept))[::-1]
    assert RowLengths(view)[backwards].tolist() == copy.lengths[::-1].tolist()
    assert len(RowLengths(view)) == len(kept)
    assert as_lists(view.take(backwards)) == as_lists(copy)[::-1]
    joined = EncodedRows.concatenate([view, packed])
    assert as_lists(joined) == as_lists(copy) + as_lists(packed)
    if kept:
        assert view.padded(backwards)[0].tolist() == copy.padded(backwards)[0].tolist()
        assert view.row(-1).tolist() == copy.row(-1).tolist()
    with pytest.raises(ValueError, match="all rows of a corpus, got some"):
        view.all_but(np.zeros(0, np.int64))


def test_rows_are_taken_by_lists_and_masks() -> None:
    packed = pack([[4], [5, 5], [6]])
    assert packed.take([2, 0]).ids == ("id-2", "id-0")
    assert packed.take(np.array([True, False, True])).ids == ("id-0", "id-2")
    assert len(packed.take([])) == 0
    for bad in (3, -4):
        with pytest.raises(IndexError):
            packed.take([bad])
        with pytest.raises(IndexError):
            packed.row(bad)
    assert packed.row(-1).tolist() == [6, EOS]


@given(parts=st.lists(sequences, min_size=1, max_size=3))
def test_parts_are_joined_in_order(parts: list[list[list[int]]]) -> None:
    packed = [pack(part) for part in parts]
    whole = EncodedRows.concatenate(packed)
    assert as_lists(whole) == [row for part in packed for row in as_lists(part)]
    assert whole.ids == tuple(id for part in packed for id in part.ids)
    starts = np.cumsum([0, *map(len, packed)])
    for start, part in zip(starts, packed, strict=False):
        some = whole.take(np.arange(start, start + len(part)))
        assert as_lists(some) == as_lists(part)
        assert some.candidates == part.candidates
    assert whole.num_truncated == sum(part.num_truncated for part in packed)
    assert whole.num_unknown == sum(part.num_unknown for part in packed)


def test_no_parts_and_no_length_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one part"):
        EncodedRows.concatenate([])
    with pytest.raises(ValueError, match="max_length"):
        RowPacker(0)


def test_labels_can_be_replaced() -> None:
    packed = pack([[4], [5, 5], [6]])
    hidden = packed.with_labels(np.full_like(packed.y, -1), {})
    assert hidden.y.tolist() == [-1, -1, -1]
    assert hidden.take([1]).ids == ("id-1",)
