import torch

from seqssvae.nn.engine import buffers
from seqssvae.nn.engine.buffers import MOST_FREE, Buffer


def test_memory_is_taken_over_when_a_buffer_is_gone() -> None:
    del buffers._free[:]
    first = Buffer(torch.zeros(1), (3, 5))
    where = first.tensor.data_ptr()
    other = Buffer(torch.zeros(1), (3, 5))
    assert other.tensor.data_ptr() != where and first.tensor.shape == (3, 5)
    del first
    smaller = Buffer(torch.zeros(1), (2, 4))
    assert smaller.tensor.data_ptr() == where and smaller.tensor.shape == (2, 4)


def test_dtypes_do_not_mix() -> None:
    del buffers._free[:]
    wide = Buffer(torch.zeros(1, dtype=torch.float64), (4,))
    del wide
    narrow = Buffer(torch.zeros(1, dtype=torch.float32), (4,))
    assert narrow.tensor.dtype == torch.float32


def test_larger_memory_takes_the_place_of_smaller() -> None:
    del buffers._free[:]
    for size in range(1, 50):
        Buffer(torch.zeros(1), (size,))
    assert len(buffers._free) == 1 and len(buffers._free[0]) == 49


def test_few_pieces_are_kept() -> None:
    held = [Buffer(torch.zeros(1), (size,)) for size in range(1, 3 * MOST_FREE)]
    del held
    assert len(buffers._free) == MOST_FREE


def test_memory_made_in_inference_can_be_trained_in() -> None:
    del buffers._free[:]
    with torch.inference_mode():
        Buffer(torch.zeros(1), (4,))
    weight = torch.ones(4, requires_grad=True)
    (Buffer(weight, (4,)).tensor.zero_() + weight).sum().backward()
    assert weight.grad is not None
