import itertools

import pytest
import torch

from seqssvae.nn.engine.blocks import BLOCK_ELEMENTS, Plan, cut_blocks

SIZES = (100, 100, 90, 60, 60, 33, 17, 2)


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_blocks_have_each_position_once(workers: int) -> None:
    blocks = cut_blocks(SIZES, (2, 100, 4), workers, 64)
    for direction in range(2):
        own = [block for block in blocks if block.direction == direction]
        rows = [range(block.row, block.row + block.sizes[0]) for block in own]
        assert list(itertools.chain(*rows)) == list(range(100))
        for time, (start, size) in enumerate(
            zip(itertools.accumulate(SIZES, initial=0), SIZES, strict=False)
        ):
            at_time = [
                range(block.starts[time], block.starts[time] + block.sizes[time])
                for block in own
                if time < len(block.sizes)
            ]
            assert list(itertools.chain(*at_time)) == list(range(start, start + size))
    positions = [range(block.start, block.start + sum(block.sizes)) for block in blocks]
    assert list(itertools.chain(*positions)) == list(range(2 * sum(SIZES)))


def test_blocks_have_about_as_many_positions() -> None:
    first, second = cut_blocks(SIZES, (1, 100, 2**10), 2, BLOCK_ELEMENTS)
    longest = len(SIZES)
    assert abs(sum(first.sizes) - sum(second.sizes)) <= longest
    assert second.row < 50  # rows are sorted, longest first


def test_small_loops_run_in_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seqssvae.nn.engine.blocks.num_workers", lambda device: 4)
    assert Plan.make(SIZES, torch.zeros(1, 100, 8), 6).workers == 1
    assert Plan.make(SIZES, torch.zeros(1, 100, 800), 6).workers == 4
    assert Plan.make(SIZES, torch.zeros(1, 100, 8), 6, fewest_products=0).workers == 4


def test_few_rows_stay_together() -> None:
    assert len(cut_blocks((5, 5, 1), (2, 5, 2**18), 4, BLOCK_ELEMENTS)) == 2
