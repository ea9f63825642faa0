"""Construction and stepping; whole sequences are in test_likelihood."""

import torch
from torch import Tensor

from seqssvae.model.ssvae import SSVAE
from tests.support.factories import make_batch, make_model


def test_without_its_n_grams_a_decoder_is_its_recurrent_part() -> None:
    """Of the likelihood and of single steps: that of a decoder which has no n-grams."""
    mixed, plain = (make_model(3, decoder_ngrams=size) for size in (3, 0))
    plain.load_state_dict(mixed.state_dict(), strict=False)
    batch = make_batch([0, 1, 2])
    z = torch.randn(3, mixed.latent_size)

    def values(model: SSVAE) -> tuple[Tensor, Tensor]:
        state = model.decoder.start(z, batch.y)
        logits = model.decoder.step(batch.x[:, 0], state)[0]
        return model.log_likelihood(batch.x, batch.lengths, z, batch.y), logits.log_softmax(-1)

    assert not any(torch.allclose(*pair) for pair in zip(values(mixed), values(plain), strict=True))
    mixed.decoder.recurrent_only = True
    for pair in zip(values(mixed), values(plain), strict=True):
        torch.testing.assert_close(*pair)
