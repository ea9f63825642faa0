import pytest
import torch

from seqssvae.shapes import check_below, fold, length_mask, unfold


def test_unfold_undoes_fold() -> None:
    value = torch.randn(4, 1, 3, 5)
    shape = torch.Size([4, 2, 3])
    folded = fold(value, shape, 1)
    assert folded.shape == (24, 5)
    torch.testing.assert_close(unfold(folded, shape), value.expand(4, 2, 3, 5))


def test_row_of_a_leading_index_and_an_example() -> None:
    """B = K, where a transposed fold would run as well."""
    value = torch.arange(9).reshape(3, 3)
    folded = fold(value, torch.Size([3, 3]), 0)
    for label in range(3):
        for example in range(3):
            assert folded[label * 3 + example] == value[label, example]


def test_empty_events_fold() -> None:
    assert fold(torch.randn(2, 0), torch.Size([3, 2]), 1).shape == (6, 0)


def test_length_mask() -> None:
    mask = length_mask(torch.tensor([0, 2, 3]), 3)
    assert mask.tolist() == [[False] * 3, [True, True, False], [True] * 3]


@pytest.mark.parametrize("wrong", [-1, 4, 2**40])
def test_ids_out_of_range_are_refused(wrong: int) -> None:
    check_below("ids", torch.tensor([0, 3]), 4)
    check_below("ids", torch.tensor([], dtype=torch.int64), 4)
    with pytest.raises(ValueError, match=f"ids: wanted 0 to 3, got {wrong}"):
        check_below("ids", torch.tensor([0, wrong, 3]), 4)
    check_below("ids", torch.tensor([-1, 3]), 4, least=-1)
    with pytest.raises(ValueError, match=f"ids: wanted 1 to 3, got {min(wrong, 0) or wrong}"):
        check_below("ids", torch.tensor([1, wrong, 3]), 4, least=1)
