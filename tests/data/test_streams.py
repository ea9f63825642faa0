"""Streams as properties over seeds, sizes and ranks."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seqssvae.data.encoded import EncodedRows
from seqssvae.data.streams import Stream, TwoStreams
from tests.support.rows import batch_of, numbered_rows, row_numbers


@st.composite
def stream_settings(draw: st.DrawFn) -> tuple[list[int], int, int, int]:
    """Lengths, size, world, seed."""
    lengths = draw(st.lists(st.integers(1, 40), min_size=1, max_size=60))
    world = draw(st.integers(1, 4))
    return lengths, draw(st.integers(1, 17)), world, draw(st.integers(0, 2**63))


# streams


@given(stream_settings(), st.integers(1, 4))
def test_each_row_comes_once_a_pass_over_all_ranks(
    drawn: tuple[list[int], int, int, int], num_passes: int
) -> None:
    lengths, size, world, seed = drawn
    streams = [Stream(lengths, size, seed=seed, rank=rank, world=world) for rank in range(world)]
    num_rows = len(lengths)
    num_steps = -(-num_passes * num_rows // size)
    together: list[int] = []
    for step in range(num_steps):
        shares = [stream.indices(step) for stream in streams]
        assert sum(map(len, shares)) == size
        assert max(map(len, shares)) - min(map(len, shares)) <= 1
        whole = np.zeros(size, dtype=np.int64)
        for rank, share in enumerate(shares):
            whole[rank::world] = share
        together.extend(whole.tolist())
    for number in range(num_passes):
        one_pass = together[number * num_rows : (number + 1) * num_rows]
        assert sorted(one_pass) == list(range(num_rows))


@given(stream_settings(), st.lists(st.integers(0, 50), min_size=1, max_size=10))
def test_a_batch_depends_on_seed_step_and_rank_alone(
    drawn: tuple[list[int], int, int, int], steps: list[int]
) -> None:
    lengths, size, world, seed = drawn
    used = Stream(lengths, size, seed=seed, rank=world - 1, world=world)
    for step in steps:  # in any order, some of them again
        fresh = Stream(lengths, size, seed=seed, rank=world - 1, world=world)
        assert used.indices(step).tolist() == fresh.indices(step).tolist()


def test_seeds_numbers_and_passes_give_other_orders() -> None:
    lengths = [5] * 64
    orders = [
        tuple(Stream(lengths, 64, seed=seed, number=number).indices(step).tolist())
        for seed in range(3)
        for number in range(2)
        for step in range(3)
    ]
    assert len(set(orders)) == len(orders)


def test_batches_of_a_small_set_vary() -> None:
    lengths = list(range(21, 29))  # two batches, of short and of long rows, never twice the same
    firsts = [Stream(lengths, 4, seed=seed).indices(0).tolist() for seed in range(400)]
    with_shortest = [first for first in firsts if 0 in first]
    assert 160 < len(with_shortest) < 240  # 200 +- 4 standard deviations
    assert sum(1 in first for first in with_shortest) > 0.7 * len(with_shortest)
    assert len({tuple(sorted(first)) for first in firsts}) > 8


def test_batches_hold_rows_of_similar_length() -> None:
    num_rows = 10_007  # no whole number of batches: those of a later pass begin elsewhere
    lengths = np.random.default_rng(0).integers(1, 200, num_rows)
    stream = Stream(lengths, 32, seed=1)
    batches = [lengths[stream.indices(step)] for step in range(3 * num_rows // 32)]
    padded = sum(32 * batch.max() for batch in batches)
    assert padded < 1.15 * 3 * lengths.sum()  # unsorted batches are padded to twice the symbols
    spread = [batch.max() / batch.min() for batch in batches if batch.min() > 20]
    assert sum(ratio > 1.5 for ratio in spread) <= 8  # those that two windows share, of 938
    means = [batch.mean() for batch in batches]
    assert abs(np.corrcoef(means[:-1], means[1:])[0, 1]) < 0.2  # not from short to long


def test_a_batch_mixes_rows_from_all_over_the_file() -> None:
    stream = Stream([5] * 1000, 2, seed=0)  # a window is 100 rows
    distances = [abs(int(np.diff(stream.indices(step))[0])) for step in range(500)]
    assert 280 < np.mean(distances) < 390  # a third of the rows, +- 5 standard deviations


def test_an_order_is_drawn_once_a_pass_and_a_window_sorted_once() -> None:
    stream = Stream([3] * 100, 7, seed=0, batches_per_window=8)
    for step in range(40):
        stream.indices(step)
    assert stream._order.cache_info().misses == 3
    assert stream._window.cache_info().misses == 3 * 2


@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=40),
    st.integers(0, 4),
    st.integers(1, 9),
    st.integers(0, 1000),
)
def test_balanced_passes(classes: list[int], num_partial: int, size: int, seed: int) -> None:
    y = np.array([*classes, *[-1] * num_partial])
    stream = Stream([2] * len(y), size, seed=seed, classes=y)
    quota = -(-len(classes) // len(set(classes)))
    assert stream.num_rows == quota * len(set(classes)) + num_partial
    num_passes = 5
    num_steps = -(-num_passes * stream.num_rows // size)
    together = np.concatenate([stream.indices(step) for step in range(num_steps)])
    counts: Counter[int] = Counter()
    for number in range(num_passes):
        one_pass = together[number * stream.num_rows : (number + 1) * stream.num_rows]
        expected = Counter(dict.fromkeys(classes, quota) | {-1: num_partial})
        assert Counter(y[one_pass].tolist()) == expected
        counts.update(one_pass.tolist())
        for label in set(classes):
            drawn = [counts[row] for row in np.flatnonzero(y == label).tolist()]
            assert max(drawn) - min(drawn) <= 1


def test_invalid_streams_are_errors() -> None:
    with pytest.raises(ValueError, match="at least one row, got none"):
        Stream([], 3, seed=0)


# two streams


def drawn_rows(streams: TwoStreams, num_steps: int) -> tuple[list[int], list[int]]:
    """Labelled and unlabelled rows, by their symbols."""
    labelled: list[int] = []
    unlabelled: list[int] = []
    for step in range(num_steps):
        batch = batch_of(streams, step)
        for row, known in zip(row_numbers(batch), batch.is_labelled.tolist(), strict=True):
            (labelled if known else unlabelled).append(row)
    return labelled, unlabelled


@settings(deadline=None)
@given(
    st.integers(1, 12),
    st.integers(1, 30),
    st.tuples(st.integers(1, 7), st.integers(1, 7)),
    st.sampled_from(["both", "alternate"]),
    st.integers(0, 99),
)
def test_each_row_counts_once_in_its_own_stream(
    num_labelled: int, num_unlabelled: int, sizes: tuple[int, int], mode: str, seed: int
) -> None:
    labelled = numbered_rows([1 + row % 5 for row in range(num_labelled)], [0] * num_labelled)
    unlabelled = numbered_rows([1 + row % 9 for row in range(num_unlabelled)], first=100)
    streams = TwoStreams(labelled, unlabelled, sizes=sizes, num_classes=2, seed=seed, mode=mode)
    seen_labelled, seen_unlabelled = drawn_rows(streams, 30)
    for seen, rows in (
        (seen_labelled, range(num_labelled)),
        (seen_unlabelled, range(100, 100 + num_unlabelled)),
    ):
        for start in range(0, len(seen) - len(rows) + 1, len(rows)):
            assert sorted(seen[start : start + len(rows)]) == list(rows)
    assert set(seen_labelled) <= set(range(num_labelled))
    assert set(seen_unlabelled) <= set(range(100, 100 + num_unlabelled))


def test_both_puts_labelled_rows_first_in_fixed_numbers() -> None:
    streams = TwoStreams(
        numbered_rows([2] * 5, [1] * 5),
        numbered_rows([7] * 9, first=100),
        sizes=(2, 3),
        num_classes=2,
        seed=0,
        w=(0.1, 0.1),
        alpha=2.0,
    )
    for step in range(20):
        batch = batch_of(streams, step)
        assert batch.y.tolist() == [1, 1, -1, -1, -1]
        assert batch.lengths.tolist() == [2, 2, 7, 7, 7]
        assert (batch.x[:2, 2:] == 0).all()
        assert batch.w is not None and batch.w.tolist() == [0.1] * 5
        assert batch.alpha is not None and batch.alpha.tolist() == [2.0] * 5


@given(st.integers(1, 40), st.integers(1, 400), st.integers(1, 9), st.integers(1, 9))
@settings(deadline=None, max_examples=40)
def test_alternate_keeps_the_proportion_at_every_step(
    num_labelled: int, num_unlabelled: int, labelled_size: int, unlabelled_size: int
) -> None:
    streams = TwoStreams(
        numbered_rows([1] * num_labelled, [0] * num_labelled),
        numbered_rows([1] * num_unlabelled, first=1000),
        sizes=(labelled_size, unlabelled_size),
        num_classes=1,
        seed=0,
        mode="alternate",
    )
    labelled = -(-num_labelled // labelled_size)
    cycle = labelled + -(-num_unlabelled // unlabelled_size)
    kinds = []
    for step in range(min(2 * cycle, 300)):
        batch = batch_of(streams, step)
        assert batch.is_labelled.all() or not batch.is_labelled.any()
        assert batch.num_rows == (labelled_size if batch.is_labelled[0] else unlabelled_size)
        kinds.append(bool(batch.is_labelled[0]))
        assert 0 <= sum(kinds) - len(kinds) * labelled / cycle < 1  # spread evenly
    assert kinds[0]
    if len(kinds) >= cycle:
        assert sum(kinds[:cycle]) == labelled >= 1


@pytest.mark.parametrize("mode", ["both", "alternate"])
def test_one_stream_alone(mode: str) -> None:
    rows, none = numbered_rows([3] * 4, [0] * 4), numbered_rows([])
    labelled = TwoStreams(rows, none, sizes=(2, 3), num_classes=2, seed=0, mode=mode)
    unlabelled = TwoStreams(
        none, numbered_rows([3] * 4), sizes=(2, 3), num_classes=0, seed=0, mode=mode
    )
    for step in range(5):
        assert batch_of(labelled, step).y.tolist() == [0, 0]
        assert batch_of(unlabelled, step).y.tolist() == [-1, -1, -1]


@pytest.mark.parametrize("mode", ["both", "alternate"])
def test_parts_of_ranks_are_the_shares_of_more_ranks(mode: str) -> None:
    """Two ranks with two parts each, four ranks, one of four parts; some have no row at all."""
    rows, others = numbered_rows([3] * 5, [0] * 5), numbered_rows([4] * 11, first=100)

    def streams(rank: int, world: int, parts: int) -> TwoStreams:
        return TwoStreams(
            rows, others, sizes=(3, 2), num_classes=1, seed=3, mode=mode, rank=rank, world=world,
            parts=parts,
        )  # fmt: skip

    def shares(step: int, rank: int, world: int, parts: int) -> dict[int, list[int]]:
        mine = streams(rank, world, parts)
        assert mine.num_rows(step) in ((5,) if mode == "both" else (2, 3))
        found = {part: mine.part(step, part) for part in range(parts)}
        for part, batch in found.items():
            assert len(mine.ids(step, part)) == (0 if batch is None else batch.num_rows)
        return {
            rank + part * world: [] if batch is None else row_numbers(batch)
            for part, batch in found.items()
        }

    for step in range(8):
        whole = shares(step, 0, 1, 4)
        assert sorted(sum(whole.values(), [])) == sorted(
            row_numbers(batch_of(streams(0, 1, 1), step))
        )
        assert shares(step, 0, 2, 2) | shares(step, 1, 2, 2) == whole
        for rank in range(4):
            assert shares(step, rank, 4, 1) == {rank: whole[rank]}
        assert whole[3] == []
        assert streams(3, 4, 1).part(step) is None


def test_balanced_draws_classes_equally() -> None:
    streams = TwoStreams(
        numbered_rows([1] * 12, [0] * 9 + [1] * 2 + [2]),
        numbered_rows([1] * 3, first=100),
        sizes=(6, 1),
        num_classes=3,
        seed=0,
        balanced=True,
    )
    y = torch.cat([batch_of(streams, step).y[:6] for step in range(10)])
    assert y.bincount().tolist() == [20, 20, 20]


def test_invalid_pairs_of_streams_are_errors() -> None:
    labelled, unlabelled, none = numbered_rows([1], [0]), numbered_rows([1, 1]), numbered_rows([])

    def make(first: EncodedRows, second: EncodedRows) -> TwoStreams:
        return TwoStreams(first, second, sizes=(1, 1), num_classes=2, seed=0)

    with pytest.raises(ValueError, match="rows to learn from, got none"):
        make(none, none)
    with pytest.raises(ValueError, match="labelled row 0: wanted a label"):
        make(unlabelled, unlabelled)
    with pytest.raises(ValueError, match="counts twice"):
        make(labelled, labelled)
    with pytest.raises(ValueError, match="counts twice"):
        make(labelled, numbered_rows([1], candidates={0: (0, 1)}))
    make(numbered_rows([1], candidates={0: (0, 1)}), unlabelled)
