import pytest
import torch
from torch import nn

from seqssvae.nn.encoders import SequenceEncoder, encode_both
from seqssvae.nn.recurrent import in_order, pack, reading_order, rnn_states
from seqssvae.nn.side_by_side import states_of_both
from tests.support.gradients import assert_same_gradients

LENGTHS = torch.tensor([2, 5, 1, 5])


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
@pytest.mark.parametrize("num_layers", [1, 3])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_one_network_is_both(
    kind: type[nn.LSTM] | type[nn.GRU], num_layers: int, bidirectional: bool
) -> None:
    networks = (
        kind(3, 4, num_layers, bidirectional=bidirectional).double(),
        kind(3, 4, num_layers, bidirectional=bidirectional).double(),
    )
    packing = pack(torch.zeros(4, 5).long(), LENGTHS, torch.arange(4))
    inputs = [torch.randn(13, 3, requires_grad=True) for _ in networks]
    ordered = [value[packing.position] for value in inputs]
    position = reading_order(networks[0], packing)
    got = states_of_both(networks, (ordered[0], ordered[1]), packing, position)
    want = [rnn_states(rnn, value, packing)[0] for rnn, value in zip(networks, inputs, strict=True)]
    for one, other in zip(got, want, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-14)
    weights = [torch.randn_like(states) for states in want]
    sums = [
        torch.stack([(w * states).sum() for w, states in zip(weights, both, strict=True)]).sum()
        for both in (got, want)
    ]
    parameters = [p for rnn in networks for p in rnn.parameters()] + inputs
    assert_same_gradients(sums[0], sums[1], parameters, atol=1e-14)


@pytest.mark.parametrize("pooling", ["last", "mean", "max"])
def test_encoders_that_run_together_have_their_own_features(
    pooling: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of an empty row, of which no more than one PAD is read."""
    encoders = (
        SequenceEncoder(vocabulary_size=9, embedding_size=3, hidden_size=4, pooling=pooling),
        SequenceEncoder(vocabulary_size=9, embedding_size=3, hidden_size=4, pooling=pooling),
    )
    x, lengths = torch.randint(4, 9, (5, 6)), torch.tensor([6, 0, 2, 1, 6])
    want = [encoder(x, lengths) for encoder in encoders]
    monkeypatch.setattr("seqssvae.nn.encoders.are_faster_together", lambda *_: True)
    monkeypatch.setattr("seqssvae.nn.encoders.rnn_states", None)  # not one after the other
    got = encode_both(encoders, x, lengths)
    for one, other in zip(got, want, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_states_in_order_are_those_of_each_row() -> None:
    rnn = nn.GRU(3, 4, bidirectional=True, batch_first=True)
    x = torch.randn(4, 5, 3)
    mask = torch.arange(5) < LENGTHS.unsqueeze(1)
    packing = pack(torch.zeros(4, 5).long(), LENGTHS, torch.arange(4))
    got = in_order(*rnn_states(rnn, x[mask], packing))
    want = torch.cat([rnn(x[row : row + 1, :n])[0][0] for row, n in enumerate(LENGTHS.tolist())])
    torch.testing.assert_close(got, want, rtol=0, atol=1e-12)
