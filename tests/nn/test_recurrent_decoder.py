"""Construction; whole sequences are in test_likelihood."""

import pytest
import torch

from seqssvae.model.check import check_decoder
from tests.support.factories import make_decoder


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_y_and_z_reach_every_layer_of_the_first_state(cell: str) -> None:
    decoder = make_decoder(cell=cell, decoder_layers=3)
    z, y = torch.randn(2, 2), torch.tensor([0, 0])
    states = decoder.initial_state(z, y)
    assert len(states) == (2 if cell == "lstm" else 1)
    for other in (decoder.initial_state(z + 1, y), decoder.initial_state(z, y + 1)):
        for before, after in zip(states, other, strict=True):
            assert before.shape == (3, 2, 4)
            assert ((before - after).abs().amax((1, 2)) > 1e-6).all()


def test_what_is_fed_is_an_option() -> None:
    fed = make_decoder(feed_y=True, feed_z=True)
    bare = make_decoder(feed_y=False, feed_z=False, class_bias=False)
    z, y = torch.randn(2, 2), torch.tensor([0, 1])
    context = fed.context(z, y)
    assert context is not None and context.shape == (2, 5)
    assert bare.context(z, y) is None and bare.start(z, y).class_bias is None


def test_tied_embeddings_are_one_parameter() -> None:
    decoder = make_decoder(tied_embeddings=True)
    assert decoder.output.weight is decoder.embedding.weight


@pytest.mark.parametrize("num_layers", [1, 3, 4])
def test_row_n_depends_on_one_label_and_example(num_layers: int) -> None:
    """With as many rows as layers, 4, an unfolded state would be taken for the layers'."""
    check_decoder(make_decoder(decoder_layers=num_layers))
