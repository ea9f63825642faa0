"""Classes, budgets of labels, and held-out rows."""

import collections
import hashlib
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from seqssvae.data.labels import (
    Labels,
    choose_labels,
    class_sizes,
    draw_rows,
    is_among,
    is_first,
    split_dev,
)
from seqssvae.errors import InputError

label_lists = st.lists(st.integers(-1, 4), max_size=60)


def make_ids(n: int) -> list[str]:
    return [f"row-{i}" for i in range(n)]


def unequal(labels: list[int]) -> NDArray[np.uint64]:
    """Hashes of rows that all differ."""
    return np.arange(len(labels), dtype=np.uint64)


def test_an_unknown_label_is_an_error_with_the_nearest_known_one() -> None:
    labels = Labels(("negative", "neutral", "positive"))
    assert labels.index("neutral", "x") == 1
    with pytest.raises(InputError) as caught:
        labels.index("Positiv", "f.csv:7")
    assert str(caught.value) == (
        "f.csv:7: wanted a known label ('negative', 'neutral', 'positive'), got 'Positiv'; "
        "did you mean 'positive'?"
    )
    with pytest.raises(InputError, match=r"got 'zzz'$"):
        labels.index("zzz", "f.csv:7")


def test_a_label_is_no_argument_of_a_model_without_classes() -> None:
    assert Labels(("u", "v")).of_argument("v") == 1
    with pytest.raises(InputError, match=r"label: wanted a known label \('u', 'v'\), got 'w'"):
        Labels(("u", "v")).of_argument("w")
    with pytest.raises(InputError, match="label: wanted none for a model without classes, got w"):
        Labels(()).of_argument("w")


def test_many_known_labels_are_not_all_listed() -> None:
    labels = Labels(tuple(f"class {i}" for i in range(1000)))
    with pytest.raises(InputError) as caught:
        labels.index("other", "here")
    assert len(str(caught.value)) < 500
    assert "(1000 in all)" in str(caught.value)


def test_labels_are_loaded_as_they_were_saved(tmp_path: Path) -> None:
    labels = Labels(("größe", "a b", "\u2028"))
    path = tmp_path / "labels.json"
    labels.save(path)
    assert Labels.load(path) == labels
    trees = ('{"a": 1}', '{"a": "a"}', '{"a": null}', '{"a": ["b"]}')
    bad_trees = [f'{{"parents": {one}}}' for one in trees]
    for content in ("{}", "[1]", "[", '["a", "a"]', '[""]', *bad_trees):
        path.write_text(content)
        with pytest.raises(InputError, match="labels.json: wanted"):
            Labels.load(path)
    path.unlink()
    with pytest.raises(InputError, match="labels.json: wanted a readable file"):
        Labels.load(path)


@pytest.mark.parametrize("names", [("a", "a"), ("a", "")])
def test_names_are_different_and_not_empty(names: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="different names"):
        Labels(names)


@given(labels=label_lists, per_class=st.integers(1, 20), seed=st.integers(0, 3))
def test_per_class_takes_that_many_or_all(labels: list[int], per_class: int, seed: int) -> None:
    chosen = choose_labels(labels, make_ids(len(labels)), per_class=per_class, seed=seed)
    counts = collections.Counter(labels[i] for i in chosen)
    available = collections.Counter(y for y in labels if y >= 0)
    assert counts == {y: min(per_class, n) for y, n in available.items()}


@given(labels=label_lists, total=st.integers(1, 70), seed=st.integers(0, 3))
def test_total_is_met_and_balanced(labels: list[int], total: int, seed: int) -> None:
    chosen = choose_labels(labels, make_ids(len(labels)), total=total, seed=seed)
    available = collections.Counter(y for y in labels if y >= 0)
    assert len(chosen) == min(total, sum(available.values()))
    counts = collections.Counter(labels[i] for i in chosen)
    # a class with fewer rows than another, by more than one, has no more
    most = max(counts.values(), default=0)
    for y, n in available.items():
        assert counts[y] >= most - 1 or counts[y] == n
    more = choose_labels(labels, make_ids(len(labels)), total=total + 1, seed=seed)
    assert set(chosen.tolist()) <= set(more.tolist())


@given(
    labels=label_lists,
    budget=st.sampled_from(["per_class", "total"]),
    number=st.none() | st.integers(1, 20),
    seed=st.integers(0, 3),
)
def test_rows_with_the_smallest_hashes_are_chosen_in_any_order_of_rows(
    labels: list[int], budget: str, number: int | None, seed: int
) -> None:
    """How many of each class is tested above."""
    ids = make_ids(len(labels))
    random.Random(seed).shuffle(ids)

    def hashed(row: int) -> bytes:
        return hashlib.sha256(f"{seed}:label:{ids[row]}".encode()).digest()

    chosen = choose_labels(labels, ids, **{budget: number}, seed=seed)
    expected: list[int] = []
    for y in sorted(set(labels) - {-1}):
        rows = [i for i, label in enumerate(labels) if label == y]
        expected += sorted(rows, key=hashed)[: sum(labels[i] == y for i in chosen)]
    assert chosen.tolist() == sorted(expected)
    backwards = choose_labels(labels[::-1], ids[::-1], **{budget: number}, seed=seed)
    assert {ids[::-1][row] for row in backwards} == {ids[row] for row in chosen}


@given(
    labels=st.lists(st.integers(-1, 2), min_size=1, max_size=40),
    quotas=st.lists(st.integers(0, 4), min_size=3, max_size=3),
    chunk_rows=st.integers(1, 9),
)
def test_draws_do_not_depend_on_the_size_of_chunks(
    labels: list[int], quotas: list[int], chunk_rows: int
) -> None:
    y, ids = np.array(labels), make_ids(len(labels))
    sizes = class_sizes(y)
    counts = np.minimum(sizes, quotas[: len(sizes)])
    drawn = draw_rows(y, iter(ids), counts, 0, "label", chunk_rows=chunk_rows)
    assert np.bincount(y[drawn], minlength=len(sizes)).tolist() == counts.tolist()
    assert drawn.tolist() == draw_rows(y, ids, counts, 0, "label").tolist()


def test_without_a_budget_all_labels_are_kept() -> None:
    assert choose_labels(np.array([0, -1, 1, 0]), make_ids(4), seed=0).tolist() == [0, 2, 3]


known_lists = st.lists(st.integers(0, 4), min_size=1, max_size=60)


def hashed(seed: int, purpose: str, id: str) -> bytes:
    return hashlib.sha256(f"{seed}:{purpose}:{id}".encode()).digest()


@given(labels=known_lists, fraction=st.floats(0, 1), seed=st.integers(0, 3))
def test_dev_is_a_part_in_proportion(labels: list[int], fraction: float, seed: int) -> None:
    train, dev = split_dev(
        range(len(labels)), labels, make_ids(len(labels)), fraction, seed, hashes=unequal(labels)
    )
    assert sorted([*train, *dev]) == list(range(len(labels)))
    for y, n in collections.Counter(labels).items():
        held = sum(labels[i] == y for i in dev)
        assert n - held >= 1
        assert abs(held - fraction * n) <= 1
    assert len(dev) <= round(fraction * len(labels))


@given(labels=known_lists, fraction=st.floats(0, 1), seed=st.integers(0, 3), data=st.data())
def test_rows_with_the_smallest_hashes_are_dev_in_any_order_of_rows(
    labels: list[int], fraction: float, seed: int, data: st.DataObject
) -> None:
    """How many of each class is tested above."""
    ids = make_ids(len(labels))
    random.Random(seed).shuffle(ids)
    rows = sorted(data.draw(st.sets(st.sampled_from(range(len(labels))))))
    known = [label if row in rows else -1 for row, label in enumerate(labels)]
    train, dev = split_dev(rows, known, ids, fraction, seed, hashes=unequal(labels))
    expected: list[int] = []
    for y in sorted({labels[row] for row in rows}):
        of_class = [row for row in rows if labels[row] == y]
        of_class.sort(key=lambda row: hashed(seed, "dev", ids[row]))
        expected += of_class[: sum(labels[row] == y for row in dev)]
    assert dev.tolist() == sorted(expected)
    assert train.tolist() == sorted(set(rows) - set(expected))
    last = len(labels) - 1
    rows = [last - row for row in rows]
    backwards = split_dev(rows, known[::-1], ids[::-1], fraction, seed, hashes=unequal(labels))[1]
    assert sorted(last - backwards) == dev.tolist()


@pytest.mark.parametrize(("per_class", "expected"), [(1, 0), (2, 3), (5, 7), (30, 42)])
def test_dev_is_a_fifth_over_all_classes(per_class: int, expected: int) -> None:
    labels = [y for y in range(7) for _ in range(per_class)]
    dev = split_dev(
        range(len(labels)), labels, make_ids(len(labels)), 0.2, 0, hashes=unequal(labels)
    )[1]
    assert len(dev) == expected


@given(
    rows=st.lists(st.tuples(st.integers(-1, 3), st.integers(0, 8)), min_size=1, max_size=60),
    fraction=st.floats(0, 0.9),
    seed=st.integers(0, 3),
)
def test_equal_rows_are_all_train_or_all_dev(
    rows: list[tuple[int, int]], fraction: float, seed: int
) -> None:
    y, sequences = np.array(rows).T
    known = np.flatnonzero(y >= 0)
    train, dev = split_dev(
        known, y, make_ids(len(y)), fraction, seed, hashes=sequences.astype(np.uint64)
    )
    assert sorted([*train, *dev]) == known.tolist()
    assert not set(sequences[train]) & set(sequences[dev])
    assert set(y[train]) == set(y[known])


@given(hashes=st.lists(st.integers(0, 9)), some=st.lists(st.integers(0, 9)), size=st.integers(1, 5))
def test_equal_rows_are_found_in_chunks_as_by_a_loop(
    hashes: list[int], some: list[int], size: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("seqssvae.data.labels.CHUNK_ROWS", size)
        numbers = np.array(hashes, np.uint64)
        first = [one not in hashes[:row] for row, one in enumerate(hashes)]
        assert is_first(numbers).tolist() == first
        among = is_among(numbers, np.array(some, np.uint64))
        assert among.tolist() == [one in some for one in hashes]


def test_a_share_of_the_different_rows_is_dev() -> None:
    """Every row is there four times; one that is most of its class is not held out."""
    labels, hashes = [0] * 40 + [1] * 9, np.array([*range(10)] * 4 + [99] * 6 + [77] * 3, np.uint64)
    for seed in range(9):
        dev = split_dev(range(49), labels, make_ids(49), 0.2, seed, hashes=hashes)[1]
        assert len(dev) == 8 and set(hashes[dev]) <= set(range(10))


@given(
    is_free=st.lists(st.booleans(), max_size=40), count=st.integers(0, 45), seed=st.integers(0, 3)
)
def test_rows_are_held_out_by_their_ids(is_free: list[bool], count: int, seed: int) -> None:
    ids = make_ids(len(is_free))
    quotas = np.array([min(count, sum(is_free))])
    held = draw_rows(np.array(is_free, np.int8) - 1, ids, quotas, seed, "held out")
    free = sorted(np.flatnonzero(is_free), key=lambda i: hashed(seed, "held out", ids[i]))
    assert held.tolist() == sorted(free[:count])
