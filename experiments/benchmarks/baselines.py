"""Baselines of the fused step: a Pyro program and a step in plain PyTorch.

`PyroStep` is what a careful Pyro user would write for a semi-supervised VAE over sequences: y
enumerated in parallel, the input repeated K times, logits of all positions at once. `TorchStep` is
the same maths without Pyro. Both compute the same objective as `SSVAE`; `copy_weights` copies its
weights, so that a test can compare them.
"""

import math
from collections.abc import Sequence

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import TraceEnum_ELBO, config_enumerate
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence

from seqssvae.data.vocabulary import BOS, PAD
from seqssvae.model.ssvae import SSVAE
from seqssvae.nn.encoders import SequenceEncoder
from seqssvae.nn.recurrent_decoder import RecurrentDecoder
from seqssvae.shapes import length_mask

__all__ = ["Networks", "PyroStep", "TorchStep"]


class Networks(nn.Module):
    """Two recurrent encoders and a decoder whose initial state is an MLP of [z, y].

    Args:
        cell: "gru" or "lstm".
        vocabulary_size: V.
        num_classes: K.
        size: H, size of the embeddings and of each direction's hidden state.
        latent_size: Z.
    """

    def __init__(
        self, *, cell: str, vocabulary_size: int, num_classes: int, size: int, latent_size: int
    ) -> None:
        super().__init__()
        kind = nn.LSTM if cell == "lstm" else nn.GRU
        self.num_classes, self.is_lstm = num_classes, cell == "lstm"
        self.embeddings = nn.ModuleList(
            nn.Embedding(vocabulary_size, size, padding_idx=PAD) for _ in range(2)
        )
        self.encoders = nn.ModuleList(
            kind(size, size, batch_first=True, bidirectional=True) for _ in range(2)
        )
        features = 2 * size
        self.y_logits = nn.Linear(features, num_classes)
        self.z_hidden = nn.Linear(features + num_classes, features)
        self.z_loc = nn.Linear(features, latent_size)
        self.z_log_scale = nn.Linear(features, latent_size)
        self.decoder_embedding = nn.Embedding(vocabulary_size, size)
        self.decoder = kind(size, size, batch_first=True)
        self.initial_hidden = nn.Linear(latent_size + num_classes, size)
        self.initial = nn.Linear(size, size * (2 if self.is_lstm else 1))
        self.output = nn.Linear(size, vocabulary_size)

    def encode(self, which: int, x: Tensor, lengths: Tensor) -> Tensor:
        """The last state of each direction, `[B, 2 H]`; encoder 0 is that of y, 1 that of z."""
        packed = pack_padded_sequence(
            self.embeddings[which](x), lengths, batch_first=True, enforce_sorted=False
        )
        _, last = self.encoders[which](packed)
        hidden: Tensor = last[0] if self.is_lstm else last
        return torch.cat([hidden[0], hidden[1]], -1)

    def posterior(self, features: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Location and scale of q(z | x, y), `[*L, B, Z]`, from `[B, 2 H]` and y `[*L, B]`."""
        joint = torch.cat([features.expand(*y.shape, -1), self._one_hot(y, features)], -1)
        hidden = torch.tanh(self.z_hidden(joint))
        return self.z_loc(hidden), self.z_log_scale(hidden).clamp(-8, 8).exp()

    def decode(self, x: Tensor, z: Tensor, y: Tensor) -> Tensor:
        """Logits at all positions, `[*L, B, T, V]`; x `[B, T]`, z `[*L, B, Z]`, y `[*L, B]`."""
        shape, num_steps = y.shape, x.shape[-1]
        previous = functional.pad(x[:, :-1], (1, 0), value=BOS)
        repeated = previous.expand(*shape, num_steps).reshape(-1, num_steps)  # [N, T]
        joint = torch.cat([z, self._one_hot(y, z)], -1).flatten(0, -2)  # [N, Z + K]
        state = self.initial(torch.tanh(self.initial_hidden(joint))).unsqueeze(0)
        embedded = self.decoder_embedding(repeated)
        if self.is_lstm:
            hidden, cell = state.chunk(2, -1)
            states, _ = self.decoder(embedded, (torch.tanh(hidden), cell.contiguous()))
        else:
            states, _ = self.decoder(embedded, torch.tanh(state))
        logits: Tensor = self.output(states)
        return logits.view(*shape, num_steps, -1)

    def _one_hot(self, y: Tensor, like: Tensor) -> Tensor:
        return functional.one_hot(y, self.num_classes).to(like.dtype)

    @torch.no_grad()
    def copy_weights(self, ssvae: SSVAE) -> None:
        """Copy the weights of an `SSVAE` of the same sizes, with `pooling="last"`."""
        decoder, head_y, head_z = ssvae.decoder, ssvae.head_y, ssvae.head_z
        assert head_y is not None and head_z.y is not None
        assert isinstance(decoder, RecurrentDecoder)
        assert decoder.initial_z is not None and decoder.initial_y is not None
        for own, encoder in enumerate((ssvae.encoder_y, ssvae.encoder_z)):
            assert isinstance(encoder, SequenceEncoder)
            _copy(self.embeddings[own], encoder.embedding)
            _copy(self.encoders[own], encoder.rnn)
        _copy(self.y_logits, head_y.features)
        _join(self.z_hidden, head_z.x, head_z.y.weight)
        assert head_z.loc is not None and head_z.log_scale is not None
        _copy(self.z_loc, head_z.loc)
        _copy(self.z_log_scale, head_z.log_scale)
        _copy(self.decoder_embedding, decoder.embedding)
        _copy(self.decoder, decoder.rnn)
        _join(self.initial_hidden, decoder.initial_z, decoder.initial_y.weight)
        _copy(self.initial, decoder.initial)
        self.output.weight.copy_(decoder.output.weight)
        self.output.bias.copy_(decoder.output_bias())


class PyroStep:
    """A Pyro model and guide with `TraceEnum_ELBO`.

    Args:
        networks: The encoders and the decoder.
        strategy: "parallel" or "sequential".
    """

    def __init__(self, networks: Networks, strategy: str = "parallel") -> None:
        self.networks = networks
        self._guide = config_enumerate(self.guide, strategy, expand=True)
        self._elbo = TraceEnum_ELBO(max_plate_nesting=1)

    def model(self, x: Tensor, lengths: Tensor) -> None:
        """p(x, y, z)."""
        weight = self.networks.output.weight
        prior = weight.new_zeros(self.networks.num_classes)
        zero = weight.new_zeros(self.networks.z_loc.out_features)
        mask = length_mask(lengths.to(x.device), x.shape[1])
        with pyro.plate("batch", len(x)):
            y = pyro.sample("y", dist.Categorical(logits=prior))
            z = pyro.sample("z", dist.Normal(zero, zero + 1).to_event(1))
            logits = self.networks.decode(x, z, y.expand(z.shape[:-1]))
            pyro.sample("x", dist.Categorical(logits=logits).mask(mask).to_event(1), obs=x)

    def guide(self, x: Tensor, lengths: Tensor) -> None:
        """q(y | x) q(z | x, y)."""
        for_y, for_z = (self.networks.encode(which, x, lengths) for which in range(2))
        with pyro.plate("batch", len(x)):
            y = pyro.sample("y", dist.Categorical(logits=self.networks.y_logits(for_y)))
            loc, scale = self.networks.posterior(for_z, y)
            pyro.sample("z", dist.Normal(loc, scale).to_event(1))

    def loss(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Minus the ELBO, summed over unlabelled rows, a scalar in nats."""
        loss: Tensor = self._elbo.differentiable_loss(self.model, self._guide, x, lengths)
        return loss


class TorchStep:
    """The exact sum over y in plain PyTorch, with the KL of z in closed form.

    Args:
        networks: The encoders and the decoder.
    """

    def __init__(self, networks: Networks) -> None:
        self.networks = networks

    def loss(self, x: Tensor, lengths: Tensor, noise: Tensor | None = None) -> Tensor:
        """Minus the ELBO, summed over unlabelled rows, a scalar in nats.

        Args:
            x: Symbol ids, `[B, T]`, PAD after `lengths`.
            lengths: Number of symbols of each row, `[B]`.
            noise: Standard normal noise of z, broadcastable to `[K, B, Z]`; sampled if None.
        """
        networks = self.networks
        for_y, for_z = (networks.encode(which, x, lengths) for which in range(2))
        log_q = networks.y_logits(for_y).log_softmax(-1).t()  # [K, B]
        y = torch.arange(networks.num_classes, device=x.device).unsqueeze(1).expand(-1, len(x))
        loc, scale = networks.posterior(for_z, y)
        z = loc + scale * (torch.randn_like(loc) if noise is None else noise)
        logits = networks.decode(x, z, y)  # [K, B, T, V]
        targets = x.masked_fill(~length_mask(lengths.to(x.device), x.shape[1]), PAD)
        nats = functional.cross_entropy(
            logits.flatten(0, 2),
            targets.expand(len(y), -1, -1).flatten(),
            ignore_index=PAD,
            reduction="none",
        ).view(len(y), *x.shape)
        kl = (0.5 * (loc.square() + scale.square() - 1) - scale.log()).sum(-1)
        bound = -nats.sum(-1) - kl - math.log(len(y))
        total: Tensor = (log_q.exp() * (bound - log_q)).sum()
        return -total


def _copy(own: nn.Module, theirs: nn.Module) -> None:
    own.load_state_dict(theirs.state_dict())


def _join(own: nn.Linear, theirs: nn.Linear, table: Tensor) -> None:
    """Set a linear layer of [a, y] from a linear layer of a and an embedding of y."""
    parts: Sequence[Tensor] = (theirs.weight, table.t())
    own.weight.copy_(torch.cat(list(parts), 1))
    own.bias.copy_(theirs.bias)
