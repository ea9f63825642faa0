"""The network of p(x | y, z): a recurrent decoder whose initial state is an MLP of [z, y]."""

import dataclasses
import functools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from seqssvae.data.vocabulary import BOS, PAD
from seqssvae.nn.encoders import LabelTable, hide_symbols
from seqssvae.nn.ngram_lm import NGramLM
from seqssvae.nn.recurrent import Packing, packed_rnn

NEVER = -1e9  # a logit: such a symbol's probability is exactly 0, and no gradient is NaN


@dataclasses.dataclass(frozen=True)
class DecoderState:
    """State of the decoder between two symbols, for N rows.

    Attributes:
        states: `(hidden,)` or `(hidden, cell)`, each `[num_layers, N, H]`.
        context: Further input at every step, `[N, C]`, or None.
        class_bias: Added to the logits, `[N, V]`, or None.
        ngrams: Contexts of the n-gram model, `[N, D]`, or None.
        y: As in `Decoder.start`; read by the n-gram model.
    """

    states: tuple[Tensor, ...]
    context: Tensor | None
    class_bias: Tensor | None
    ngrams: Tensor | None = None
    y: Tensor | None = None

    def select(self, index: Tensor) -> "DecoderState":
        """The state of the rows `index`, `[M]`, which may repeat rows."""
        return DecoderState(
            tuple(state[:, index] for state in self.states),
            *(
                None if part is None else part[index]
                for part in (self.context, self.class_bias, self.ngrams, self.y)
            ),
        )


class Decoder(nn.Module):
    """p(x_t | x_<t, y, z) for every t.

    PAD and BOS have no probability, so that p(x | y, z) sums to 1 over the finite sequences that
    end with EOS.

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
        class_bias: Add a bias of each class to the logits.
        tied_embeddings: Use the embeddings as weights of the softmax.
        ngram_order: Size of the longest n-grams that are mixed in; 0 for none.
        softmax_memory: Share of a GPU's free memory for the logits of the softmax that exist at
            once.

    Attributes:
        recurrent_only: Whether p(x | y, z) is that of the recurrent part alone, without n-grams.
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
        super().__init__()
        self.softmax_memory, self.label_sizes = softmax_memory, tuple(label_sizes)
        self.num_classes, self.latent_size = num_classes, latent_size
        self.vocabulary_size, self.word_dropout = vocabulary_size, word_dropout
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
        self.output = nn.Linear(num_features, vocabulary_size)
        if tied_embeddings:
            self.output.weight = self.embedding.weight
        self.class_bias = table(vocabulary_size) if class_bias and num_classes else None
        if self.class_bias is not None:
            nn.init.zeros_(self.class_bias.weight)
        self.recurrent_only = False
        self.ngrams: NGramLM | None = None
        if ngram_order:
            self.ngrams = NGramLM(
                vocabulary_size=vocabulary_size,
                num_classes=num_classes,
                order=ngram_order,
                num_features=num_features,
                label_sizes=label_sizes,
            )
        self.register_buffer("never", torch.tensor([PAD, BOS]), persistent=False)
        self.never: Tensor

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

    def output_bias(self) -> Tensor:
        """Bias of the logits that all classes share, `[V]`; PAD and BOS have probability 0."""
        return self.output.bias.index_fill(0, self.never, NEVER)

    def hidden_states(self, x: Tensor, z: Tensor, y: Tensor | None, packing: Packing) -> Tensor:
        """Inputs of the softmax at each packed position; position t depends on x_<t only.

        Args:
            x: For each of the packing's symbols the one *before* it, `[S]`.
            z: `[N, Z]`, in the order of the rows.
            y: As in `initial_state`, in the order of the rows.
            packing: Layout of the rows.

        Returns:
            `[M, H]`, or `[M, E]` with tied embeddings.
        """
        z, y = z[packing.order], None if y is None else y[packing.order]
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

    def _before_softmax(self, hidden: Tensor) -> Tensor:
        hidden = self.dropout(hidden)
        return hidden if self.projection is None else self.projection(hidden)

    @property
    def used_ngrams(self) -> NGramLM | None:
        """The n-grams that p(x | y, z) has now: none while it is that of the recurrent part."""
        return None if self.recurrent_only else self.ngrams

    def start(self, z: Tensor, y: Tensor | None) -> DecoderState:
        """The state before the first symbol, for z `[N, Z]` and y `[N]`, `[N, K]` or None."""
        bias = None if self.class_bias is None or y is None else self.class_bias(y)
        contexts = self.used_ngrams.start(len(z)) if self.used_ngrams is not None else None
        return DecoderState(self.initial_state(z, y), self.context(z, y), bias, contexts, y)

    def step(self, symbols: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState]:
        """Read a symbol and predict the next.

        Args:
            symbols: `[N]`; BOS first.
            state: State of the rows before that symbol.

        Returns:
            Logits of the next symbol, `[N, V]`, and the new state.
        """
        inputs = self.embedding(symbols)
        if state.context is not None:
            inputs = torch.cat([inputs, state.context], -1)
        before = tuple(part.contiguous() for part in state.states)
        hidden, after = self.rnn(inputs.unsqueeze(0), before if len(before) > 1 else before[0])
        features = self._before_softmax(hidden.squeeze(0))
        logits = nn.functional.linear(features, self.output.weight, self.output_bias())
        if state.class_bias is not None:
            logits = logits + state.class_bias
        states, contexts = after if len(before) > 1 else (after,), state.ngrams
        if self.ngrams is not None and contexts is not None:
            contexts = self.ngrams.advance(contexts, symbols)
            logits = self.ngrams.mix_all(logits.log_softmax(-1), features, contexts, state.y)
        return logits, dataclasses.replace(state, states=states, ngrams=contexts)
