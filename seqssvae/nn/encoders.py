"""The networks of q(y | x) and q(z | x, y): a body, recurrent if it is ours, and two heads."""

import abc
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from seqssvae.data.vocabulary import PAD, UNK
from seqssvae.nn.recurrent import Packing, in_order, pack, reading_order, rnn_states
from seqssvae.nn.side_by_side import are_faster_together, states_of_both
from seqssvae.shapes import label_index, length_mask, of_classes

START_LOC = 4.0  # times the bound of torch's initial weights, for the location of q(z | x, y)
START_LOG_SCALE = -2.0


def hide_symbols(x: Tensor, probability: float) -> Tensor:
    """Word dropout: symbols other than special ones become UNK at random."""
    hidden = torch.rand(x.shape, device=x.device) < probability
    return x.masked_fill(hidden & (x > UNK), UNK)


class Encoder(nn.Module, abc.ABC):
    """An encoder body; `seqssvae.check_encoder` says whether one keeps to what is written here.

    Attributes:
        num_features: F.

    Example:
        >>> encoder = seqssvae.load(run, "cpu").model.encoder_z
        >>> encoder(torch.tensor([[4, 5, 3]]), torch.tensor([3])).shape[1] == encoder.num_features
        True
    """

    num_features: int

    @abc.abstractmethod
    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Features of each sequence, which depend on no other row and not on padding.

        Args:
            x: Symbol ids, `[B, T]`; symbols after `lengths` are not read.
            lengths: Number of symbols of each row, `[B]`, from 0 to T, on the CPU.

        Returns:
            `[B, F]`.
        """


class SequenceEncoder(Encoder):
    """Features of a sequence, pooled over the states of a recurrent network.

    Args:
        vocabulary_size: V.
        embedding_size: E.
        hidden_size: H, units of each direction.
        num_layers: Number of recurrent layers.
        cell: "lstm" or "gru".
        bidirectional: Read in both directions.
        pooling: "last" (the final state of each direction), "mean" or "max" over time.
        dropout: Dropout probability of embeddings, between layers and of features.
        word_dropout: Probability that a symbol is read as UNK while training.
    """

    def __init__(
        self,
        *,
        vocabulary_size: int,
        embedding_size: int,
        hidden_size: int,
        num_layers: int = 1,
        cell: str = "lstm",
        bidirectional: bool = True,
        pooling: str = "last",
        dropout: float = 0.0,
        word_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary_size, embedding_size, padding_idx=PAD)
        self.rnn = (nn.LSTM if cell == "lstm" else nn.GRU)(
            embedding_size,
            hidden_size,
            num_layers,
            batch_first=True,
            dropout=dropout if num_layers > 1 else 0.0,
            bidirectional=bidirectional,
        )
        self.dropout = nn.Dropout(dropout)
        self.pooling = pooling
        self.word_dropout = word_dropout
        self.num_features = hidden_size * (2 if bidirectional else 1)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Features of each sequence, `[B, F]`; an empty row reads one PAD."""
        packing = pack_rows(x, lengths)
        return self._pool(self._read(packing)[0], packing)

    def states(self, x: Tensor, lengths: Tensor) -> Tensor:
        """States of the recurrent network at each symbol, the directions side by side.

        Args:
            x: Symbol ids, `[B, T]`.
            lengths: Number of symbols of each row, `[B]`, on the CPU; an empty row reads one PAD.

        Returns:
            One row after the other without padding, `[S, F]`, S = sum(max(lengths, 1)).
        """
        return in_order(*self._read(pack_rows(x, lengths)))

    def _read(self, packing: Packing) -> tuple[Tensor, Tensor]:
        """States in D directions, `[D, S, H]`, and the symbols they read, `[D, S]`."""
        symbols = self._symbols(packing)
        drops = self.training and self.dropout.p > 0  # each occurrence has a mask of its own
        if self.embedding.num_embeddings < len(symbols) and not drops:
            every = torch.arange(self.embedding.num_embeddings, device=symbols.device)
            return rnn_states(self.rnn, self.embedding(every), packing, symbols)
        return rnn_states(self.rnn, self.dropout(self.embedding(symbols)), packing)

    def _symbols(self, packing: Packing) -> Tensor:
        """What is read in place of `packing.symbols`."""
        if self.training and self.word_dropout:
            return hide_symbols(packing.symbols, self.word_dropout)
        return packing.symbols

    def _pool(self, states: Tensor, packing: Packing) -> Tensor:
        """Features `[B, F]`, after dropout, of packed states `[D, S, H]`."""
        num_directions, _, size = states.shape
        if self.pooling == "last":
            pooled = states.index_select(1, packing.last())
        elif self.pooling == "mean":
            wide = states.to(torch.promote_types(states.dtype, torch.float32))  # also of halves
            sums = wide.new_zeros(num_directions, len(packing.order), size)
            pooled = sums.index_add(1, packing.row, wide) / packing.lengths.unsqueeze(1)
            pooled = pooled.to(states.dtype)
        else:
            lowest = states.new_full((num_directions, len(packing.order), size), -torch.inf)
            index = packing.row.unsqueeze(1).expand_as(states)
            pooled = lowest.scatter_reduce(1, index, states, "amax")
        pooled = torch.empty_like(pooled).index_copy(1, packing.order, pooled)
        features: Tensor = self.dropout(pooled.transpose(0, 1).flatten(1))
        return features


def pack_rows(x: Tensor, lengths: Tensor) -> Packing:
    """The layout of rows, of which an empty one has one PAD; arguments as of `SequenceEncoder`."""
    if not lengths.numpy().all():
        x = x.masked_fill(~length_mask(lengths, x.shape[1]).to(x.device), PAD)
        lengths = lengths.clamp(min=1)
    return pack(x, lengths, torch.arange(len(x)))


def encode_both(
    encoders: tuple[Encoder, Encoder], x: Tensor, lengths: Tensor
) -> tuple[Tensor, Tensor]:
    """Features of two encoders for the same rows; see `Encoder`."""
    first, second = encoders
    if not (isinstance(first, SequenceEncoder) and isinstance(second, SequenceEncoder)):
        return first(x, lengths), second(x, lengths)
    both = (first, second)
    packing = pack_rows(x, lengths)
    if not are_faster_together(first.rnn, second.rnn, len(x)):
        features = (one._pool(one._read(packing)[0], packing) for one in both)
        return next(features), next(features)
    symbols = [one._symbols(packing)[packing.position] for one in both]
    inputs = [one.dropout(one.embedding(ids)) for one, ids in zip(both, symbols, strict=True)]
    position = reading_order(first.rnn, packing)
    states = states_of_both((first.rnn, second.rnn), (inputs[0], inputs[1]), packing, position)
    return first._pool(states[0], packing), second._pool(states[1], packing)


class LabelTable(nn.Module):
    """A linear map of y without bias, for y as a class or as weights of the classes.

    Of several columns of labels it is the sum of a map of each.

    Args:
        num_classes: K.
        size: D.
        label_sizes: Number of labels of each of several columns, whose product is K.

    Example:
        >>> table = seqssvae.LabelTable(num_classes=3, size=5)
        >>> table(torch.tensor([2, 0])).shape, table(torch.full((2, 3), 1 / 3)).shape
        (torch.Size([2, 5]), torch.Size([2, 5]))
    """

    index: Tensor | None

    def __init__(self, num_classes: int, size: int, label_sizes: Sequence[int] = ()) -> None:
        super().__init__()
        self.num_labels = sum(label_sizes) or num_classes
        self.register_buffer("index", label_index(label_sizes), persistent=False)
        self.weight = nn.Parameter(torch.empty(self.num_labels, size))
        nn.init.normal_(self.weight, std=self.num_labels**-0.5)

    @property
    def table(self) -> Tensor:
        """What each class is mapped to, `[K, D]`."""
        return self.weight if self.index is None else self.weight[self.index].sum(1)

    def one_hot(self, y: Tensor, dtype: torch.dtype) -> Tensor:
        """One-hot vectors of the labels of y, side by side, `[..., U]`; y as of `forward`."""
        if self.index is None:
            if y.dtype.is_floating_point:
                return y
            return nn.functional.one_hot(y, self.num_labels).to(dtype)
        vectors = nn.functional.one_hot(self.index, self.num_labels).sum(1).to(dtype)  # [K, U]
        return y @ vectors if y.dtype.is_floating_point else vectors[y]

    def forward(self, y: Tensor) -> Tensor:
        """Map y, int64 `[...]` or float `[..., K]`, to `[..., D]`."""
        if y.dtype.is_floating_point:
            return y @ self.table
        return nn.functional.embedding(y, self.table)


class CategoricalHead(nn.Module):
    """Logits of q(y | x), or of q(y | x, z); of several columns the product of one q for each.

    Args:
        num_features: F.
        latent_size: Z; 0 if z is not read.
        num_classes: K.
        label_sizes: As of `LabelTable`.
    """

    index: Tensor | None

    def __init__(
        self,
        *,
        num_features: int,
        latent_size: int,
        num_classes: int,
        label_sizes: Sequence[int] = (),
    ) -> None:
        super().__init__()
        num_labels = sum(label_sizes) or num_classes
        self.register_buffer("index", label_index(label_sizes), persistent=False)
        self.features = nn.Linear(num_features, num_labels)
        self.z: nn.Sequential | None = None
        if latent_size:
            self.z = nn.Sequential(
                nn.Linear(latent_size, num_features),
                nn.Tanh(),
                nn.Linear(num_features, num_labels),
            )

    def forward(self, features: Tensor, z: Tensor | None = None) -> Tensor:
        """Logits, `[*L, B, K]`, from features `[B, F]` and z `[*L, B, Z]` if it is read."""
        logits: Tensor = self.features(features)
        logits = logits if self.z is None or z is None else logits + self.z(z)
        return of_classes(logits, self.index)


class NormalHead(nn.Module):
    """Location and scale of q(z | x, y), or of q(z | x); each has weights of its own.

    Initial locations are far from each other and initial scales small, so that z identifies its
    row: a decoder that is first trained with z as noise learns to ignore it for good.

    Args:
        num_features: F.
        num_classes: K; 0 if y is not read.
        latent_size: Z; with 0, location and scale are empty.
        label_sizes: As of `LabelTable`.
    """

    def __init__(
        self,
        *,
        num_features: int,
        num_classes: int,
        latent_size: int,
        label_sizes: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.x = nn.Linear(num_features, num_features)
        self.y = LabelTable(num_classes, num_features, label_sizes) if num_classes else None
        # torch warns about a layer without units
        self.loc = nn.Linear(num_features, latent_size) if latent_size else None
        self.log_scale = nn.Linear(num_features, latent_size) if latent_size else None
        if self.loc is not None and self.log_scale is not None:
            bound = START_LOC / math.sqrt(num_features)
            nn.init.uniform_(self.loc.weight, -bound, bound)
            nn.init.constant_(self.log_scale.bias, START_LOG_SCALE)

    def forward(
        self, features: Tensor, y: Tensor | None = None, example: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Both `[*L, B, Z]`, from features `[B, F]` and y, int64 `[*L, B]` or `[*L, B, K]`.

        With `example`, `[P]`, row p is that of features `example[p]` and `y[p]`: both are `[P, Z]`.
        """
        hidden = self.x(features)
        if example is not None:
            hidden = hidden.index_select(0, example)
        if self.y is not None and y is not None:
            hidden = hidden + self.y(y)  # [K, 1, F] + [B, F] where y is enumerated
        hidden = torch.tanh(hidden)
        if self.loc is None or self.log_scale is None:
            return hidden[..., :0], hidden[..., :0]
        return self.loc(hidden), self.log_scale(hidden).clamp(-8, 8).exp()
