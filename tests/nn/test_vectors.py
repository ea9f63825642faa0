"""What the guide reads of vectors, against plain loops."""

import numpy as np
import pytest
import torch
from torch import Tensor

from seqssvae.nn.ngram_logits import NGramLogits
from seqssvae.nn.vectors import VectorReader, linear_logits
from seqssvae.shapes import label_index

LABEL_SIZES = (2, 3)


def make_reader(num_classes: int = 6, label_sizes: tuple[int, ...] = ()) -> VectorReader:
    reader = VectorReader(
        4, num_features=5, num_classes=num_classes, has_logits=True, label_sizes=label_sizes
    )
    for value in reader.state_dict().values():
        value.normal_()
    reader.scale.abs_()
    return reader


def make_vectors() -> Tensor:
    v = torch.randn(3, 4)
    v[1] = torch.nan
    return v


@pytest.mark.parametrize("label_sizes", [(), LABEL_SIZES])
def test_features_and_logits_equal_a_loop(label_sizes: tuple[int, ...]) -> None:
    reader, v = make_reader(6, label_sizes), make_vectors()
    assert reader.y is not None and reader.linear is not None
    for_y, for_z = reader.join(torch.ones(3, 2), torch.zeros(3, 2), v)
    logits = reader.logits(v)
    index = label_index(label_sizes)
    for row in range(3):
        if row == 1:  # a missing vector
            assert not for_y[row, 2:].any() and not for_z[row, 2:].any() and not logits[row].any()
            continue
        standard = (v[row] - reader.loc) / reader.scale
        for joined, layer, own in ((for_y, reader.y, 1.0), (for_z, reader.z, 0.0)):
            torch.testing.assert_close(joined[row, 2:], torch.tanh(layer(standard)))
            assert joined[row, :2].tolist() == [own] * 2
        units = reader.linear(standard)
        wanted = units if index is None else units[index].sum(1)
        torch.testing.assert_close(logits[row], wanted)


def test_new_logits_are_0_and_other_sizes_are_refused() -> None:
    reader = VectorReader(4, num_features=5, num_classes=3, has_logits=True)
    assert not reader.logits(torch.randn(2, 4)).any()
    with pytest.raises(ValueError, match="v: wanted vectors of 4 numbers, got 3"):
        reader.logits(torch.randn(2, 3))


def test_moments_are_those_of_the_vectors_that_are_there() -> None:
    reader, v = make_reader(), torch.randn(7, 4) * 3 + 1
    v[:, 2] = 5.0  # no deviation
    v[3] = torch.nan
    reader.standardise_by(v)
    known = np.delete(v.numpy(), 3, 0)
    np.testing.assert_allclose(reader.loc.numpy(), known.mean(0))
    np.testing.assert_allclose(reader.scale.numpy(), [*known[:, :2].std(0), 1, known[:, 3].std()])
    before = reader.loc.clone()
    reader.standardise_by(torch.full((2, 4), torch.nan))
    assert torch.equal(reader.loc, before)


def test_an_assigned_map_is_that_of_the_vectors_themselves() -> None:
    reader, weight, bias, v = make_reader(), torch.randn(4, 6), torch.randn(6), torch.randn(3, 4)
    reader.assign(weight, bias)
    torch.testing.assert_close(reader.logits(v), v @ weight + bias)


def test_linear_terms_add_up() -> None:
    ngrams = NGramLogits(num_buckets=8, num_classes=6)
    torch.nn.init.normal_(ngrams.weight)
    rows, v, reader = (torch.randint(4, 9, (3, 5)), torch.tensor([5, 2, 3])), make_vectors(), None
    alone = linear_logits(ngrams, reader, rows, None)
    assert torch.equal(alone, ngrams(*rows))
    reader = make_reader()
    torch.testing.assert_close(
        linear_logits(ngrams, reader, rows, v), ngrams(*rows) + reader.logits(v)
    )
