import itertools

import pytest
import torch

from seqssvae.nn.engine import blocks
from seqssvae.nn.engine.blocks import Plan

SIZES = (100, 100, 90, 60, 60, 33, 17, 2)


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_blocks_hold_each_position_once(monkeypatch: pytest.MonkeyPatch, workers: int) -> None:
    monkeypatch.setattr(blocks, "BLOCK_ELEMENTS", 64)
    found = blocks._blocks(SIZES, torch.zeros(2, 100, 4), workers)
    for direction in range(2):
        own = [block for block in found if block.direction == direction]
        places = [range(100)[block.rows] for block in own]
        assert list(itertools.chain(*places)) == list(range(100))
        for time, (start, size) in enumerate(
            zip(itertools.accumulate(SIZES, initial=0), SIZES, strict=False)
        ):
            at_time = [range(1000)[block.times[time]] for block in own if time < len(block.times)]
            assert list(itertools.chain(*at_time)) == list(range(start, start + size))
    own_places = [range(10_000)[block.own] for block in found]
    assert list(itertools.chain(*own_places)) == list(range(2 * sum(SIZES)))
    assert all(sum(block.sizes) == len(range(10_000)[block.own]) for block in found)


def test_blocks_have_about_as_many_positions() -> None:
    first, second = blocks._blocks(SIZES, torch.zeros(1, 100, 2**10), 2)
    longest = len(SIZES)
    assert abs(sum(first.sizes) - sum(second.sizes)) <= longest
    assert first.rows.stop < 50  # rows are sorted, longest first


def test_small_loops_run_in_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "num_workers", lambda device: 4)
    hidden = torch.zeros(1, 100, 8)
    assert Plan.make(SIZES, hidden).workers == 1
    assert Plan.make(SIZES, torch.zeros(1, 100, 800)).workers == 4
    assert Plan.make((), hidden).blocks == []


def test_few_rows_stay_together() -> None:
    hidden = torch.zeros(2, 5, 2**18)
    assert len(blocks._blocks((5, 5, 1), hidden, 4)) == 2
