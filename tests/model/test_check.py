"""The checks pass for sound networks, and each fails for one that is broken in just its way."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from seqssvae.model.build import build_model
from seqssvae.model.check import check_decoder, check_encoder
from seqssvae.nn.encoders import Encoder
from seqssvae.nn.recurrent import Packing
from seqssvae.nn.recurrent_decoder import RecurrentDecoder
from tests.support.factories import DECODERS, SMALL, make_decoder, make_model

State = tuple[Tensor, ...]


@pytest.mark.parametrize("kind", DECODERS)
@pytest.mark.parametrize("num_classes", [0, 1, 3])
def test_decoders_of_a_config_pass(kind: str, num_classes: int) -> None:
    """Whatever mode and dtype they have, which they keep; the random state stays as it is."""
    decoder = make_decoder(num_classes, **DECODERS[kind], dropout=0.5, word_dropout=0.5)
    decoder.float().train()
    state = torch.get_rng_state()
    check_decoder(decoder)
    assert decoder.training and decoder.output.weight.dtype == torch.float32
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("vocabulary_size", [5, 300])
def test_few_symbols_and_many(vocabulary_size: int) -> None:
    model = make_model(vocabulary_size=vocabulary_size, label_columns=None)
    check_decoder(model.decoder)
    check_encoder(model.encoder_y, vocabulary_size)


@pytest.mark.parametrize("pooling", ["last", "mean", "max"])
def test_encoders_of_a_config_pass(pooling: str) -> None:
    check_encoder(make_model(pooling=pooling, encoder_layers=2).encoder_z, 7)


class Broken(RecurrentDecoder):
    """A decoder that adds something to its hidden states."""

    def added(self, x: Tensor, z: Tensor, packing: Packing) -> Tensor | float:
        return 0.0

    def hidden_states(self, x: Tensor, z: Tensor, y: Tensor | None, packing: Packing) -> Tensor:
        return super().hidden_states(x, z, y, packing) + self.added(x, z, packing)


class ReadsOn(Broken):
    def added(self, x: Tensor, z: Tensor, packing: Packing) -> Tensor:
        table = packing.pad(self.embedding(x)).sum(-1, keepdim=True)
        return packing.unpad(torch.cat([table[:, 1:], table[:, -1:]], 1))


class Mixes(Broken):
    def added(self, x: Tensor, z: Tensor, packing: Packing) -> Tensor:
        return z.mean()


class CountsFromTheEnd(Broken):
    def added(self, x: Tensor, z: Tensor, packing: Packing) -> Tensor:
        return (len(packing.sizes) - packing.time[packing.position]).unsqueeze(1).to(z)


class PadsHaveMass(RecurrentDecoder):
    def output_bias(self) -> Tensor:
        return self.output.bias


class OtherSteps(RecurrentDecoder):
    def next_hidden(self, symbols: Tensor, state: State) -> tuple[Tensor, State]:
        hidden, after = super().next_hidden(symbols, state)
        return hidden * 1.1, after


class Remembers(RecurrentDecoder):
    def first_state(self, z: Tensor, y: Tensor | None) -> State:
        self.z = z
        return super().first_state(z, y)

    def hidden_states(self, x: Tensor, z: Tensor, y: Tensor | None, packing: Packing) -> Tensor:
        each = z.sum(1, keepdim=True).index_select(0, packing.row)
        return super().hidden_states(x, z, y, packing) + each

    def next_hidden(self, symbols: Tensor, state: State) -> tuple[Tensor, State]:
        hidden, after = super().next_hidden(symbols, state)
        return hidden + self.z[: len(symbols)].sum(1, keepdim=True), after


class LayersFirst(RecurrentDecoder):
    def first_state(self, z: Tensor, y: Tensor | None) -> State:
        return tuple(part.transpose(0, 1) for part in super().first_state(z, y))

    def next_hidden(self, symbols: Tensor, state: State) -> tuple[Tensor, State]:
        by_row = tuple(part.transpose(0, 1) for part in state)
        hidden, after = super().next_hidden(symbols, by_row)
        return hidden, tuple(part.transpose(0, 1) for part in after)


class TakesWeightsForOthers(RecurrentDecoder):
    def initial_state(self, z: Tensor, y: Tensor | None) -> State:
        if y is not None and y.dtype.is_floating_point:
            y = y.flip(-1)
        return super().initial_state(z, y)


EVERYWHERE = {"rows", "padding", "steps", "expanded batch"}


@pytest.mark.parametrize(
    ("broken", "found"),
    [
        (ReadsOn, {"causality", "sum", "steps"}),
        (Mixes, EVERYWHERE),
        (CountsFromTheEnd, EVERYWHERE - {"rows"}),
        (PadsHaveMass, {"sum"}),
        (OtherSteps, {"steps"}),
        (Remembers, {"selection"}),
        (LayersFirst, {"selection"}),
        (TakesWeightsForOthers, {"weights of classes"}),
    ],
)
def test_a_broken_decoder_fails_its_checks(broken: type[RecurrentDecoder], found: set[str]) -> None:
    sizes: dict[str, Any] = {"vocabulary_size": 7, "num_classes": 3, "latent_size": 2}
    decoder = broken(**sizes, embedding_size=4, hidden_size=4)
    with pytest.raises(ValueError) as caught:
        check_decoder(decoder)
    lines = str(caught.value).splitlines()
    assert {line.split(":")[0] for line in lines if ": " in line} == found, lines


class BrokenEncoder(Encoder):
    """A mean of embeddings, or something near it."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.embedding, self.kind = nn.Embedding(7, 4), kind
        self.num_features = 5 if kind == "shape" else 4

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        is_inside = torch.arange(x.shape[1]) < lengths.unsqueeze(1)
        count = lengths if self.kind == "empty row" else lengths.clamp(min=1)
        if self.kind == "padding":
            is_inside, count = torch.ones_like(is_inside), torch.full_like(lengths, x.shape[1])
        mean: Tensor = (self.embedding(x) * is_inside.unsqueeze(-1)).sum(1) / count.unsqueeze(1)
        return mean - mean.mean(0) if self.kind == "rows" else mean


@pytest.mark.parametrize("kind", ["shape", "padding", "empty row"])
def test_a_broken_encoder_fails_its_check(kind: str) -> None:
    with pytest.raises(ValueError, match=rf"^{kind}: .*$") as caught:
        check_encoder(BrokenEncoder(kind), 7)
    assert "\n" not in str(caught.value)


def test_an_encoder_that_mixes_rows_fails() -> None:
    check_encoder(BrokenEncoder("none"), 7)
    with pytest.raises(ValueError, match="^rows: a row of a batch is another one alone: "):
        check_encoder(BrokenEncoder("rows"), 7)


def test_parts_of_ones_own_are_taken_for_those_of_the_config() -> None:
    decoder, encoder = make_decoder(2), BrokenEncoder("none")
    sizes: dict[str, Any] = {"vocabulary_size": 7, "num_classes": 2}
    model = build_model(SMALL, **sizes, encoders=(encoder, encoder), decoder=decoder)
    assert model.decoder is decoder and model.encoder_y is model.encoder_z is encoder
    assert build_model(SMALL, **sizes, decoder=decoder).encoder_y.num_features == 8
