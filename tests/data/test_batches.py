"""Batches against plain loops."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seqssvae.data.batches import Batch, collate, concatenate, evaluation_batches
from tests.support.rows import numbered_rows, row_numbers


def same(first: Batch, second: Batch) -> bool:
    for field in dataclasses.fields(Batch):
        a, b = getattr(first, field.name), getattr(second, field.name)
        if (a is None) != (b is None):
            return False
        pairs = zip(a, b, strict=True) if isinstance(a, tuple) else [(a, b)]
        if a is not None and not all(torch.equal(one, other) for one, other in pairs):
            return False
    return True


def test_long_rows_are_cut_with_the_whole_ones_beside() -> None:
    rows = numbered_rows([6, 1, 3, 4], max_length=3)
    batch = collate(rows, [1, 3, 0], num_classes=2)
    assert batch.x.tolist() == [[11, 0, 0], [13] * 3, [10] * 3]
    assert batch.lengths.tolist() == [1, 3, 3] and batch.whole is not None
    x, lengths = batch.whole
    assert x.tolist() == [[11] + [0] * 5, [13] * 4 + [0] * 2, [10] * 6]
    assert lengths.tolist() == [1, 4, 6]
    moved = batch.to("meta").whole
    assert moved is not None and moved[0].device.type == "meta" and moved[1] is lengths
    assert collate(rows, [1, 2], num_classes=2).whole is None  # none of them is longer


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12), st.data())
def test_collate_equals_a_loop(lengths: list[int], data: st.DataObject) -> None:
    rows = numbered_rows(lengths, [row % 3 - 1 for row in range(len(lengths))])
    indices = data.draw(st.lists(st.integers(0, len(lengths) - 1), min_size=1, max_size=9))
    batch = collate(rows, indices, num_classes=2)
    longest = max(lengths[row] for row in indices)
    for position, row in enumerate(indices):
        length = lengths[row]
        expected = [10 + row] * length + [0] * (longest - length)
        assert batch.x[position].tolist() == expected
        assert batch.lengths[position] == length
        assert batch.y[position] == row % 3 - 1
    assert batch.x.dtype == batch.lengths.dtype == batch.y.dtype == torch.int64
    assert batch.candidates is None and batch.w is None and batch.alpha is None
    assert batch.num_rows == len(indices)


def test_partial_labels() -> None:
    rows = numbered_rows(
        [1, 2, 3, 4, 5],
        [2, -1, -1, -1, -1],
        candidates={2: (0, 2), 3: (1,), 4: (2, 0, 1, 1)},
    )
    batch = collate(rows, range(5), num_classes=3)
    assert batch.y.tolist() == [2, -1, -1, 1, -1]  # a set of one is a label
    assert batch.candidates is not None
    expected = [[0, 0, 1], [1, 1, 1], [1, 0, 1], [0, 1, 0], [1, 1, 1]]
    assert batch.candidates.tolist() == [[bool(c) for c in row] for row in expected]
    assert torch.equal(batch.possible_labels(3), batch.candidates)
    assert collate(rows, [0, 1, 3, 4], num_classes=3).candidates is None  # of all is no knowledge
    assert collate(rows, [0, 1], num_classes=3).possible_labels(3).tolist() == [
        [False, False, True],
        [True, True, True],
    ]
    none = collate(rows, range(5), num_classes=0)
    assert none.y.tolist() == [-1] * 5 and none.candidates is None


@pytest.mark.parametrize("max_length", [None, 2, 5])
def test_select_equals_collate(max_length: int | None) -> None:
    rows = numbered_rows([6, 1, 3, 2], [0, 1, -1, -1], {2: (0, 1)}, max_length=max_length)
    weights = np.array([1.0, 2.0, 3.0, 4.0])
    batch = collate(rows, range(4), num_classes=3, w=weights, alpha=0.5)
    for indices in ([1, 3], [2, 0], [1], [3, 2], [0, 1, 2, 3]):
        expected = collate(rows, indices, num_classes=3, w=weights, alpha=0.5)
        assert same(batch.select(torch.tensor(indices)), expected)  # T and candidates too
    assert same(
        batch.select(batch.is_labelled), collate(rows, [0, 1], num_classes=3, w=weights, alpha=0.5)
    )


@pytest.mark.parametrize("max_length", [None, 2, 4])
def test_concatenate_equals_collate(max_length: int | None) -> None:
    rows = numbered_rows([2, 5, 3, 1], [0, 1, -1, -1], {2: (0, 1)}, max_length=max_length)
    for first, second in (([0, 1], [2, 3]), ([2, 3], [0, 1]), ([0], [3]), ([3, 2, 1], [0])):
        joined = concatenate(
            collate(rows, first, num_classes=3), collate(rows, second, num_classes=3)
        )
        assert same(joined, collate(rows, first + second, num_classes=3))
    weighted = concatenate(
        collate(rows, [0], num_classes=3, w=0.5), collate(rows, [1], num_classes=3, alpha=3.0)
    )
    assert weighted.w is not None and weighted.w.tolist() == [0.5, 1.0]
    assert weighted.alpha is not None and weighted.alpha.tolist() == [1.0, 3.0]


def test_to_moves_ids_and_casts_weights() -> None:
    rows = numbered_rows([2, 5], [0, -1], candidates={1: (0, 1)})
    batch = collate(rows, [0, 1], num_classes=3, w=0.5)
    moved = batch.to("meta", torch.float32)
    assert moved.x.device.type == moved.y.device.type == "meta"
    assert moved.lengths is batch.lengths and moved.host is batch
    assert moved.x.dtype == torch.int64 and moved.candidates is not None
    assert moved.candidates.device.type == "meta" and moved.candidates.dtype == torch.bool
    assert moved.w is not None and moved.w.dtype == torch.float32 and moved.alpha is None
    assert batch.to("cpu").w is not None and batch.to("cpu").w.dtype == torch.float64  # type: ignore[union-attr]


def test_invalid_batches_are_errors() -> None:
    with pytest.raises(ValueError, match="at least one row for a batch, got none"):
        collate(numbered_rows([1]), [], num_classes=2)
    with pytest.raises(ValueError, match="row 1: wanted at least one symbol"):
        collate(numbered_rows([1, 0, 2]), [2, 1], num_classes=2)
    with pytest.raises(ValueError, match="classes below 2, got 2"):
        collate(numbered_rows([1, 1], [2, 0]), [0, 1], num_classes=2)
    with pytest.raises(ValueError, match="classes below 2, got 5"):
        collate(numbered_rows([1], candidates={0: (0, 5)}), [0], num_classes=2)


@given(st.lists(st.integers(1, 30), max_size=40), st.integers(1, 12))
def test_evaluation_takes_every_row_once(lengths: list[int], batch_size: int) -> None:
    rows = numbered_rows(lengths, [row % 2 for row in range(len(lengths))])
    seen: list[int] = []
    widths: list[int] = []
    for indices, batch in evaluation_batches(rows, batch_size, num_classes=2):
        assert row_numbers(batch) == indices.tolist()
        assert batch.num_rows <= batch_size
        seen.extend(indices.tolist())
        widths.append(batch.x.shape[1])
    assert sorted(seen) == list(range(len(lengths)))
    assert len(widths) == -(-len(lengths) // batch_size)
    assert widths == sorted(widths)


def test_evaluation_limits_the_symbols_of_a_batch() -> None:
    """No batch of several rows is larger than that, and one more row would be too many."""
    rows = numbered_rows([3, 50, 2, 7, 7, 1, 4, 5], [0] * 8)
    found = list(evaluation_batches(rows, 5, num_classes=1, num_symbols=20))
    assert sorted(int(i) for indices, _ in found for i in indices) == list(range(8))
    for number, (_, batch) in enumerate(found):
        assert batch.num_rows == 1 or batch.x.numel() <= 20
        if number + 1 < len(found) and batch.num_rows < 5:
            longest = int(found[number + 1][1].lengths[0])
            assert (batch.num_rows + 1) * longest > 20


@pytest.mark.parametrize("wrong", [-2, 3])
def test_a_class_that_a_model_does_not_have_is_refused(wrong: int) -> None:
    ones = torch.ones(2, dtype=torch.int64)
    batch = Batch(torch.full((2, 1), 3), ones, torch.tensor([-1, wrong]))
    with pytest.raises(ValueError, match=f"classes: wanted -1 to 2, got {wrong}$"):
        batch.possible_labels(3)


@pytest.mark.parametrize("wrong", [-(2**40), 0, 4, 2**40])
def test_lengths_that_do_not_fit_are_refused_where_a_batch_is_made(wrong: int) -> None:
    x, y, lengths = torch.full((2, 3), 3), torch.tensor([-1, 0]), torch.tensor([1, 3])
    Batch(x, lengths, y, whole=(x, lengths))
    bad = torch.tensor([1, wrong])
    for of_row, of_whole in ((bad, lengths), (lengths, bad)):
        with pytest.raises(ValueError, match=f"^lengths: wanted 1 to 3, got {wrong}$"):
            Batch(x, of_row, y, whole=(x, of_whole))
    with pytest.raises(ValueError, match="^batch: wanted lengths on the CPU, got meta$"):
        Batch(x, lengths.to("meta"), y)
    for shapes in ((x[0], lengths, y), (x, lengths[:1], y), (x[:1], lengths, y)):
        with pytest.raises(ValueError, match=r"wanted x \[B, T\], lengths \[B\] and y \[B\], got"):
            Batch(*shapes)


def test_a_batch_counts_by_its_weights() -> None:
    x, lengths = torch.full((2, 1), 3), torch.ones(2, dtype=torch.int64)
    none, one = torch.zeros(2), torch.ones(2)
    unlabelled, labelled = torch.tensor([-1, -1]), torch.tensor([-1, 1])
    partial = torch.tensor([[True, True, True], [True, True, False]])
    assert Batch(x, lengths, unlabelled).counts
    assert not Batch(x, lengths, unlabelled, w=none).counts
    assert Batch(x, lengths, labelled, w=none).counts
    assert not Batch(x, lengths, labelled, w=none, alpha=none).counts
    assert Batch(x, lengths, unlabelled, candidates=partial, w=none, alpha=one).counts
    assert Batch(x, lengths, labelled, w=one, alpha=none).counts
