"""Labels, budgets and the dev split."""

import collections
import hashlib
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seqssvae.data import splits
from seqssvae.data.splits import Labels, choose_labels, hold_out, split_dev
from seqssvae.errors import InputError

label_lists = st.lists(st.integers(-1, 4), max_size=60)


def make_ids(n: int) -> list[str]:
    return [f"row-{i}" for i in range(n)]


def test_an_unknown_label_names_place_known_ones_and_the_nearest() -> None:
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


def test_many_known_labels_are_not_all_listed() -> None:
    labels = Labels(tuple(f"class {i}" for i in range(1000)))
    with pytest.raises(InputError) as caught:
        labels.index("other", "here")
    assert len(str(caught.value)) < 500
    assert "(1000 in all)" in str(caught.value)


def test_labels_come_back_from_a_file(tmp_path: Path) -> None:
    labels = Labels(("größe", "a b", "\u2028"))
    path = tmp_path / "labels.json"
    labels.save(path)
    assert Labels.load(path) == labels
    for content in ("{}", "[1]", "[", '["a", "a"]', '[""]'):
        path.write_text(content)
        with pytest.raises(InputError, match="labels.json: wanted"):
            Labels.load(path)
    path.unlink()
    with pytest.raises(InputError, match="labels.json: wanted a readable file"):
        Labels.load(path)


@pytest.mark.parametrize("names", [("a", "a"), ("a", "")])
def test_names_must_differ_and_say_something(names: tuple[str, ...]) -> None:
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
    # whoever gave less than another by more than one row has given all
    most = max(counts.values(), default=0)
    for y, n in available.items():
        assert counts[y] >= most - 1 or counts[y] == n
    more = choose_labels(labels, make_ids(len(labels)), total=total + 1, seed=seed)
    assert set(chosen.tolist()) <= set(more.tolist())


@given(labels=label_lists, seed=st.integers(0, 3))
def test_choices_follow_ids_and_not_the_order_of_rows(labels: list[int], seed: int) -> None:
    ids = make_ids(len(labels))
    order = list(range(len(labels)))
    random.Random(seed).shuffle(order)
    moved_labels, moved_ids = [labels[i] for i in order], [ids[i] for i in order]
    chosen = choose_labels(labels, ids, total=7, seed=seed)
    moved = choose_labels(moved_labels, moved_ids, total=7, seed=seed)
    assert {ids[i] for i in chosen} == {moved_ids[i] for i in moved}
    dev = split_dev(chosen, labels, ids, 0.3, seed)[1]
    moved_dev = split_dev(moved, moved_labels, moved_ids, 0.3, seed)[1]
    assert {ids[i] for i in dev} == {moved_ids[i] for i in moved_dev}


def draw(seed: int, purpose: str, id: str) -> bytes:
    return hashlib.sha256(f"{seed}:{purpose}:{id}".encode()).digest()


@pytest.mark.parametrize("chunk_rows", [7, 1000])
@given(
    labels=label_lists,
    per_class=st.none() | st.integers(1, 20),
    fraction=st.floats(0, 1),
    seed=st.integers(0, 3),
    is_shuffled=st.booleans(),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_arrays_choose_what_lists_do(
    chunk_rows: int,
    labels: list[int],
    per_class: int | None,
    fraction: float,
    seed: int,
    is_shuffled: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The plain rule: rows of a class in the order of their draws, as many as its quota."""
    monkeypatch.setattr(splits, "CHUNK_ROWS", chunk_rows)
    ids = make_ids(len(labels))
    if is_shuffled:
        random.Random(seed).shuffle(ids)
    chosen = choose_labels(labels, ids, per_class=per_class, seed=seed)
    train, dev = split_dev(chosen, labels, ids, fraction, seed)
    expected: list[int] = []
    held: list[int] = []
    for y in sorted(set(labels) - {-1}):
        rows = [i for i, label in enumerate(labels) if label == y]
        rows = sorted(rows, key=lambda i: draw(seed, "label", ids[i]))[:per_class]
        expected += rows
        rows = sorted(rows, key=lambda i: draw(seed, "dev", ids[i]))
        held += rows[: sum(labels[i] == y for i in dev)]  # how many is tested elsewhere
    assert chosen.tolist() == sorted(expected)
    assert dev.tolist() == sorted(held)
    assert train.tolist() == sorted(set(expected) - set(held))


@given(
    is_free=st.lists(st.booleans(), max_size=40), count=st.integers(0, 45), seed=st.integers(0, 3)
)
def test_rows_are_held_out_by_their_ids(is_free: list[bool], count: int, seed: int) -> None:
    ids = make_ids(len(is_free))
    held = hold_out(np.array(is_free, dtype=np.bool_), ids, count, seed)
    free = sorted(np.flatnonzero(is_free), key=lambda i: draw(seed, "held out", ids[i]))
    assert held.tolist() == sorted(free[:count])


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int64])
def test_small_integers_choose_what_large_ones_do(dtype: type) -> None:
    labels = np.random.default_rng(0).integers(-1, 128, 3000)
    wanted = choose_labels(labels, make_ids(3000), per_class=3, seed=0)
    found = choose_labels(labels.astype(dtype), make_ids(3000), per_class=3, seed=0)
    assert found.tolist() == wanted.tolist() and len(found) == 3 * 128


def test_without_a_budget_every_label_stays() -> None:
    assert choose_labels(np.array([0, -1, 1, 0]), make_ids(4), seed=0).tolist() == [0, 2, 3]


def test_other_seeds_choose_other_rows() -> None:
    ids, labels = make_ids(100), [0, 1] * 50
    chosen = {tuple(choose_labels(labels, ids, total=10, seed=seed).tolist()) for seed in range(20)}
    assert len(chosen) == 20
    splits = {
        tuple(split_dev(range(100), labels, ids, 0.1, seed)[1].tolist()) for seed in range(20)
    }
    assert len(splits) == 20


def test_two_budgets_are_refused() -> None:
    with pytest.raises(ValueError, match="both"):
        choose_labels([0], ["a"], per_class=1, total=1, seed=0)
    with pytest.raises(ValueError, match="ids"):
        choose_labels([0], [], seed=0)


@given(
    labels=st.lists(st.integers(0, 4), min_size=1, max_size=60),
    fraction=st.floats(0, 1),
    seed=st.integers(0, 3),
)
def test_dev_is_a_part_in_proportion(labels: list[int], fraction: float, seed: int) -> None:
    train, dev = split_dev(range(len(labels)), labels, make_ids(len(labels)), fraction, seed)
    assert sorted([*train, *dev]) == list(range(len(labels)))
    for y, n in collections.Counter(labels).items():
        held = sum(labels[i] == y for i in dev)
        assert n - held >= 1
        assert abs(held - fraction * n) <= 1
    assert len(dev) <= round(fraction * len(labels))


@pytest.mark.parametrize(("per_class", "expected"), [(1, 0), (2, 3), (5, 7), (30, 42)])
def test_dev_is_a_fifth_over_all_classes(per_class: int, expected: int) -> None:
    labels = [y for y in range(7) for _ in range(per_class)]
    dev = split_dev(range(len(labels)), labels, make_ids(len(labels)), 0.2, 0)[1]
    assert len(dev) == expected


def test_dev_refuses_what_it_cannot_split() -> None:
    with pytest.raises(ValueError, match="unlabelled|labelled"):
        split_dev([0], [-1], ["a"], 0.5, 0)
    with pytest.raises(ValueError, match="fraction"):
        split_dev([0], [0], ["a"], 1.5, 0)
