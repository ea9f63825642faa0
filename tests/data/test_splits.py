"""Rows for training, and rows that are held out."""

import collections
import hashlib
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqssvae.data.splits import hold_out, split_dev

label_lists = st.lists(st.integers(0, 4), min_size=1, max_size=60)


def make_ids(n: int) -> list[str]:
    return [f"row-{i}" for i in range(n)]


def hashed(seed: int, purpose: str, id: str) -> bytes:
    return hashlib.sha256(f"{seed}:{purpose}:{id}".encode()).digest()


@given(labels=label_lists, fraction=st.floats(0, 1), seed=st.integers(0, 3))
def test_dev_is_a_part_in_proportion(labels: list[int], fraction: float, seed: int) -> None:
    train, dev = split_dev(range(len(labels)), labels, make_ids(len(labels)), fraction, seed)
    assert sorted([*train, *dev]) == list(range(len(labels)))
    for y, n in collections.Counter(labels).items():
        held = sum(labels[i] == y for i in dev)
        assert n - held >= 1
        assert abs(held - fraction * n) <= 1
    assert len(dev) <= round(fraction * len(labels))


@given(labels=label_lists, fraction=st.floats(0, 1), seed=st.integers(0, 3), data=st.data())
def test_rows_with_the_smallest_hashes_are_dev_in_any_order_of_rows(
    labels: list[int], fraction: float, seed: int, data: st.DataObject
) -> None:
    """How many of each class is tested above."""
    ids = make_ids(len(labels))
    random.Random(seed).shuffle(ids)
    rows = sorted(data.draw(st.sets(st.sampled_from(range(len(labels))))))
    known = [label if row in rows else -1 for row, label in enumerate(labels)]
    train, dev = split_dev(rows, known, ids, fraction, seed)
    expected: list[int] = []
    for y in sorted({labels[row] for row in rows}):
        of_class = [row for row in rows if labels[row] == y]
        of_class.sort(key=lambda row: hashed(seed, "dev", ids[row]))
        expected += of_class[: sum(labels[row] == y for row in dev)]
    assert dev.tolist() == sorted(expected)
    assert train.tolist() == sorted(set(rows) - set(expected))
    last = len(labels) - 1
    backwards = split_dev([last - row for row in rows], known[::-1], ids[::-1], fraction, seed)[1]
    assert sorted(last - backwards) == dev.tolist()


@pytest.mark.parametrize(("per_class", "expected"), [(1, 0), (2, 3), (5, 7), (30, 42)])
def test_dev_is_a_fifth_over_all_classes(per_class: int, expected: int) -> None:
    labels = [y for y in range(7) for _ in range(per_class)]
    dev = split_dev(range(len(labels)), labels, make_ids(len(labels)), 0.2, 0)[1]
    assert len(dev) == expected


def test_invalid_splits_are_errors() -> None:
    with pytest.raises(ValueError, match="wanted labelled rows"):
        split_dev([0], [-1], ["a"], 0.5, 0)
    with pytest.raises(ValueError, match="fraction"):
        split_dev([0], [0], ["a"], 1.5, 0)


@given(
    is_free=st.lists(st.booleans(), max_size=40), count=st.integers(0, 45), seed=st.integers(0, 3)
)
def test_rows_are_held_out_by_their_ids(is_free: list[bool], count: int, seed: int) -> None:
    ids = make_ids(len(is_free))
    held = hold_out(np.array(is_free, dtype=np.bool_), ids, count, seed)
    free = sorted(np.flatnonzero(is_free), key=lambda i: hashed(seed, "held out", ids[i]))
    assert held.tolist() == sorted(free[:count])
