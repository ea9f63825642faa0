"""The recurrent network of p(x | y, z), whose initial state is an MLP of [z, y]."""

import functools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from seqssvae.nn.decoder import Decoder
from seqssvae.nn.encoders import LabelTable, hide_symbols
from seqssvae.nn.recurrent import Packing, packed_rnn


class RecurrentDecoder(Decoder):
    """p(x_t | x_<t, y, z) by an LSTM or a GRU.

    Args:
        vocabulary_size: V.
        num_classes: K; 0 without y.
        label_sizes: As of `LabelTable`.
        latent_size: Z; 0 without z.
        embedding_size: E.
        hidden_size: H.
        num_layers: Number of recurrent layers; the MLP gives the initial state of each.
        cell: "lstm" or "gru".
        dropout: Dropout probability between layers and of the states before the softmax.
        word_dropout: Probability that an input symbol is read as UNK while training
            (Bowman et al. 2016).
        feed_y: Feed y at each step too.
        feed_z: Feed z at each step too.
        class_bias: As of `add_output`.
        tied_embeddings: Use the embeddings as weights of the softmax.
        ngram_order: As of `add_output`.
        softmax_memory: As of `Decoder`.
    """

    def __init__(
        self,
        *,
        vocabulary_size: int,
        num_classes: int,
        latent_size: int,
        embedding_size: int,
        hidden_size: int,
        num_layers: int = 1,
        cell: str = "lstm",
        dropout: float = 0.0,
        word_dropout: float = 0.0,
        feed_y: bool = False,
        feed_z: bool = False,
        class_bias: bool = False,
        tied_embeddings: bool = False,
        ngram_order: int = 0,
        softmax_memory: float = 0.001,
        label_sizes: Sequence[int] = (),
    ) -> None:
        super().__init__(
            vocabulary_size=vocabulary_size,
            num_classes=num_classes,
            latent_size=latent_size,
            label_sizes=label_sizes,
            softmax_memory=softmax_memory,
        )
        self.word_dropout = word_dropout
        self.feed_y, self.feed_z = feed_y and num_classes > 0, feed_z and latent_size > 0
        self.embedding = nn.Embedding(vocabulary_size, embedding_size)
        nn.init.normal_(self.embedding.weight, std=embedding_size**-0.5)
        table = functools.partial(LabelTable, num_classes, label_sizes=label_sizes)
        fed_size = (sum(label_sizes) or num_classes) * self.feed_y + latent_size * self.feed_z
        self.rnn = (nn.LSTM if cell == "lstm" else nn.GRU)(
            embedding_size + fed_size,
            hidden_size,
            num_layers,
            dropout=dropout if num_layers > 1 else 0.0,
        )
        self.num_states = 2 if cell == "lstm" else 1
        self.initial_z = nn.Linear(latent_size, hidden_size) if latent_size else None
        self.initial_y = table(hidden_size) if num_classes else None
        self.initial = nn.Linear(hidden_size, self.num_states * num_layers * hidden_size)
        self.dropout = nn.Dropout(dropout)
        self.projection = nn.Linear(hidden_size, embedding_size) if tied_embeddings else None
        num_features = embedding_size if tied_embeddings else hidden_size
        self.add_output(
            num_features,
            tied=self.embedding if tied_embeddings else None,
            class_bias=class_bias,
            ngram_order=ngram_order,
        )

    def initial_state(self, z: Tensor, y: Tensor | None) -> tuple[Tensor, ...]:
        """The initial state of every layer, an MLP of [z, y].

        Args:
            z: `[N, Z]`.
            y: int64 `[N]`, weights of the classes `[N, K]`, or None without classes.

        Returns:
            `(hidden,)` or `(hidden, cell)`, each `[num_layers, N, H]`.
        """
        joint = z.new_zeros(len(z), self.rnn.hidden_size)
        if self.initial_z is not None:
            joint = self.initial_z(z)
        if self.initial_y is not None and y is not None:
            joint = joint + self.initial_y(y)
        states = self.initial(torch.tanh(joint))  # [N, num_states * num_layers * H]
        states = states.view(-1, self.num_states, self.rnn.num_layers, self.rnn.hidden_size)
        hidden, *cells = states.permute(1, 2, 0, 3).unbind(0)  # [num_layers, N, H] each
        return (torch.tanh(hidden), *cells)

    def context(self, z: Tensor, y: Tensor | None) -> Tensor | None:
        """Further input at every step, `[N, C]`, or None; z `[N, Z]`, y as in `initial_state`."""
        fed = []
        if self.feed_y and y is not None and self.initial_y is not None:
            fed.append(self.initial_y.one_hot(y, z.dtype))
        if self.feed_z:
            fed.append(z)
        return torch.cat(fed, -1) if fed else None

    def hidden_states(self, x: Tensor, z: Tensor, y: Tensor | None, packing: Packing) -> Tensor:
        """Inputs of the softmax, `[M, H]`, or `[M, E]` with tied embeddings."""
        if self.training and self.word_dropout:
            x = hide_symbols(x, self.word_dropout)
        weight, position = self.embedding.weight, packing.position
        if self.vocabulary_size < len(x):  # project each symbol once, not each occurrence
            inputs, position = weight, x[position]
        else:
            inputs = nn.functional.embedding(x, weight)
        states = self.initial_state(z, y)
        hidden = packed_rnn(self.rnn, inputs, position, self.context(z, y), states, packing)
        return self._before_softmax(hidden)

    def first_state(self, z: Tensor, y: Tensor | None) -> tuple[Tensor, ...]:
        """`initial_state` by row, each `[N, num_layers, H]`, and `context`, if there is one."""
        states, context = self.initial_state(z, y), self.context(z, y)
        by_row = tuple(state.transpose(0, 1) for state in states)
        return by_row if context is None else (*by_row, context)

    def next_hidden(
        self, symbols: Tensor, state: tuple[Tensor, ...]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """As of `Decoder`."""
        context = state[self.num_states :]
        before = tuple(part.transpose(0, 1).contiguous() for part in state[: self.num_states])
        inputs = torch.cat([self.embedding(symbols), *context], -1).unsqueeze(0)
        hidden, after = self.rnn(inputs, before if len(before) > 1 else before[0])
        after = after if len(before) > 1 else (after,)
        by_row = tuple(part.transpose(0, 1) for part in after)
        return self._before_softmax(hidden.squeeze(0)), (*by_row, *context)

    def _before_softmax(self, hidden: Tensor) -> Tensor:
        hidden = self.dropout(hidden)
        return hidden if self.projection is None else self.projection(hidden)
