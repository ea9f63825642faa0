"""Symbols drawn from the mixture part by part, against the probability of every symbol."""

from typing import Any

import pytest
import torch
from torch import Tensor

from seqssvae.data.vocabulary import BOS, PAD, UNK
from seqssvae.nn.sampling import invert
from tests.support.factories import DECODERS, make_model

KINDS: dict[str, dict[str, Any]] = {
    **DECODERS,
    "no n-grams": {"decoder_ngrams": 0},
    "unigrams": {"decoder_ngrams": 1},
    "long n-grams": {"decoder_ngrams": 5},
    "two columns": {"num_classes": 6, "label_columns": {"a": 3, "b": 2}},
    "blend": {},
}
GRID = 20_000


@pytest.mark.parametrize("num_classes", [0, 3])
@pytest.mark.parametrize("path", [[], [4], [4, 6, 5], [5] * 70])
@pytest.mark.parametrize("kind", KINDS)
def test_symbols_have_the_probabilities_of_a_step(
    kind: str, path: list[int], num_classes: int
) -> None:
    """Each part of [0, 1) that a symbol has is as long as it is probable, UNK left out.

    A part of a grid is wrong by one point at each end; the network, each table's counts of each
    level, and the uniform distribution have a part of each symbol.
    """
    changes = {"num_classes": num_classes, "decoder_ngrams": 3, **KINDS[kind]}
    model = make_model(**changes).double()
    z = torch.randn(1, model.latent_size).double().expand(GRID, -1)
    y = torch.full((GRID,), 1) if model.num_classes else None
    if y is not None and kind == "blend":
        y = torch.tensor([[0.2, 0.7, 0.1]]).double().expand(GRID, -1)
    decoder = model.decoder
    uniform = (torch.arange(GRID) + 0.5).double() / GRID
    with torch.no_grad():
        state = decoder.start(z, y)
        for before in ([BOS, *path])[:-1]:
            _, state = decoder.step(torch.full((GRID,), before), state)
        last = torch.full((GRID,), [BOS, *path][-1])
        drawn, after = decoder.draw(last, state, uniform)
        logits, want = decoder.step(last, state)
    logits = logits[0].index_fill(0, torch.tensor([PAD, BOS, UNK]), -torch.inf)
    found = drawn.bincount(minlength=model.vocabulary_size) / GRID
    num_parts = 2 + 3 * 3 * (changes["decoder_ngrams"] + 1)  # three levels, or classes of two
    torch.testing.assert_close(
        found.double(), logits.softmax(0).double(), rtol=0, atol=2 * num_parts / GRID
    )
    assert not found[[PAD, BOS, UNK]].any()
    torch.testing.assert_close(after.network, want.network)
    torch.testing.assert_close(after.ngrams, want.ngrams)


def test_what_is_left_of_a_number_is_uniform_again() -> None:
    """Whatever was drawn: on a grid, a half is below 1/2; a weight of 0 is never drawn."""
    weights = torch.tensor([0.0, 1.0, 0.0, 2.5, 0.5, 0.0]).double()
    uniform = (torch.arange(8000) + 0.5).double() / 8000
    number, rest = invert(weights.expand(8000, -1), uniform)
    for drawn, share in ((1, 0.25), (3, 0.625), (4, 0.125)):
        of_one: Tensor = rest[number == drawn]
        assert len(of_one) == 8000 * share
        assert 0 <= of_one.min() and of_one.max() < 1
        assert (of_one < 0.5).double().mean() == pytest.approx(0.5, abs=1e-3)
    edge = torch.tensor([1 - 2**-53, 0.0]).double()
    assert invert(weights.expand(2, -1), edge)[0].tolist() == [4, 1]
