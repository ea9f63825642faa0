"""Rules for places against lists of them."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqssvae.data.places import AllBut, Shuffled, places_between


@st.composite
def some_left_out(draw: st.DrawFn) -> tuple[int, np.ndarray]:
    size = draw(st.integers(0, 40))
    without = draw(st.sets(st.integers(0, size - 1))) if size else set[int]()
    return size, np.array(sorted(without), dtype=np.int64)


@given(some_left_out(), st.integers(0, 45), st.integers(0, 45))
def test_all_but_some_is_the_list_without_them(
    drawn: tuple[int, np.ndarray], first: int, after: int
) -> None:
    size, without = drawn
    found, wanted = AllBut(size, without), np.setdiff1d(np.arange(size), without)
    assert len(found) == len(wanted) and list(found) == wanted.tolist()
    backwards = np.arange(len(wanted))[::-1]
    assert found[backwards].tolist() == wanted[::-1].tolist()
    first, after = min(first, after, size), min(max(first, after), size)
    inside = [place for place in wanted.tolist() if first <= place < after]
    assert places_between(found, first, after).tolist() == inside
    assert places_between(wanted, first, after).tolist() == inside


@pytest.mark.parametrize("size", [2, 3, 4, 5, 15, 16, 17, 63, 64, 65, 1000, 4097, 70_000])
def test_shuffled_holds_each_number_once(size: int) -> None:
    order = Shuffled(size, np.random.default_rng(size))
    whole = order[0:size]
    assert len(order) == size
    assert sorted(whole.tolist()) == list(range(size))
    cuts = [0, size // 3, size // 2, size]
    parts = [order[first:after].tolist() for first, after in pairwise(cuts)]
    assert sum(parts, []) == whole.tolist()


def test_shuffled_is_no_march_and_each_generator_has_its_own() -> None:
    size = 100_003
    first, second = (Shuffled(size, np.random.default_rng(seed))[0:size] for seed in (0, 1))
    near = 4 / np.sqrt(size)
    for one, other in (
        (first, np.arange(size)),
        (first[1:], first[:-1]),
        (first, second),
        (first % 2, np.arange(size) % 2),
    ):
        assert abs(np.corrcoef(one, other)[0, 1]) < near
    # neighbours in the order are as far apart as any two numbers: a third of n in the mean
    assert np.abs(np.diff(first)).mean() == pytest.approx(size / 3, rel=0.02)
    assert 0.2 * size < Counter(np.sign(np.diff(first)).tolist())[1] < 0.8 * size


def test_where_a_number_comes_is_uniform_over_generators() -> None:
    size, draws = 20, 4000
    places = [
        np.flatnonzero(Shuffled(size, np.random.default_rng(seed))[0:size] == 7)[0]
        for seed in range(draws)
    ]
    counts = np.bincount(places, minlength=size)
    chi_squared = ((counts - draws / size) ** 2 / (draws / size)).sum()
    assert chi_squared < 50  # 19 degrees of freedom: above it once in 7,000 times
