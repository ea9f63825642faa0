"""p(x_t | x_<t, y, z) for every t: any network of sequences, a softmax, and n-grams beside it."""

import abc
import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from seqssvae.data.vocabulary import BOS, PAD, UNK
from seqssvae.nn.encoders import LabelTable
from seqssvae.nn.ngram_lm import NGramLM
from seqssvae.nn.recurrent import Packing
from seqssvae.nn.sampling import NETWORK, draw_symbols, invert
from seqssvae.shapes import wide

NEVER = -1e9  # a logit: such a symbol's probability is exactly 0, and no gradient is NaN


@dataclasses.dataclass(frozen=True)
class DecoderState:
    """State of the decoder between two symbols, for N rows.

    Attributes:
        network: The state of the network, each tensor `[N, ...]`.
        class_bias: Added to the logits, `[N, V]`, or None.
        ngrams: Contexts of the n-gram model, `[N, D]`, or None.
        y: As in `Decoder.start`; read by the n-gram model.
    """

    network: tuple[Tensor, ...]
    class_bias: Tensor | None = None
    ngrams: Tensor | None = None
    y: Tensor | None = None

    def without_ngrams(self) -> "DecoderState":
        """The same without the contexts of the n-gram model."""
        return dataclasses.replace(self, ngrams=None)

    def select(self, index: Tensor) -> "DecoderState":
        """The state of the rows `index`, `[M]`, which may repeat rows."""
        others = (self.class_bias, self.ngrams, self.y)
        return DecoderState(
            tuple(part[index] for part in self.network),
            *(None if part is None else part[index] for part in others),
        )


class Decoder(nn.Module, abc.ABC):
    """p(x_t | x_<t, y, z) for every t.

    A subclass is a network of its own: its first state, its hidden states at all positions of a
    batch, and one step. It makes its layers, then calls `add_output` for what is read of the hidden
    states. `seqssvae.check_decoder` says whether it keeps to what is written here.

    PAD and BOS have no probability, so that p(x | y, z) sums to 1 over the finite sequences that
    end with EOS.

    Args:
        vocabulary_size: V.
        num_classes: K; 0 without y.
        latent_size: Z; 0 without z.
        label_sizes: As of `LabelTable`.
        softmax_memory: Share of a GPU's free memory for the logits of the softmax that exist at
            once.

    Attributes:
        recurrent_only: Whether p(x | y, z) is that of the network alone, without n-grams.

    Example:
        >>> decoder = seqssvae.load(run, "cpu").model.decoder
        >>> state = decoder.start(z=torch.zeros(1, 2), y=torch.tensor([0]))
        >>> logits, state = decoder.step(torch.tensor([2]), state)
        >>> isinstance(decoder, seqssvae.Decoder), len(logits)
        (True, 1)
    """

    def __init__(
        self,
        *,
        vocabulary_size: int,
        num_classes: int,
        latent_size: int,
        label_sizes: Sequence[int] = (),
        softmax_memory: float = 0.001,
    ) -> None:
        super().__init__()
        self.softmax_memory, self.label_sizes = softmax_memory, tuple(label_sizes)
        self.num_classes, self.latent_size = num_classes, latent_size
        self.vocabulary_size, self.recurrent_only = vocabulary_size, False

    def add_output(
        self,
        num_features: int,
        *,
        tied: nn.Embedding | None = None,
        class_bias: bool = False,
        ngram_order: int = 0,
    ) -> None:
        """Make the softmax, and the n-grams that are mixed with it.

        Args:
            num_features: H, size of a hidden state.
            tied: Embeddings, `[V, H]`, that are the weights of the softmax too.
            class_bias: Add a bias of each class to the logits.
            ngram_order: Size of the longest n-grams that are mixed in; 0 for none.
        """
        self.output = nn.Linear(num_features, self.vocabulary_size)
        if tied is not None:
            self.output.weight = tied.weight
        self.class_bias: LabelTable | None = None
        if class_bias and self.num_classes:
            self.class_bias = LabelTable(self.num_classes, self.vocabulary_size, self.label_sizes)
            nn.init.zeros_(self.class_bias.weight)
        self.ngrams: NGramLM | None = None
        if ngram_order:
            self.ngrams = NGramLM(
                vocabulary_size=self.vocabulary_size,
                num_classes=self.num_classes,
                order=ngram_order,
                num_features=num_features,
                label_sizes=self.label_sizes,
            )
        self.register_buffer("never", torch.tensor([PAD, BOS]), persistent=False)
        self.never: Tensor

    @abc.abstractmethod
    def hidden_states(self, x: Tensor, z: Tensor, y: Tensor | None, packing: Packing) -> Tensor:
        """Inputs of the softmax at each packed position; position t depends on x_<t only.

        Args:
            x: For each of the packing's symbols the one *before* it, BOS first, `[S]`;
                `packing.pad(x)` has a row for each of the N.
            z: `[N, Z]`, in the order of the packed rows, as all of these.
            y: Classes, int64 `[N]`; weights of the classes, `[N, K]`; None without classes. A
                `LabelTable` maps each of them.
            packing: Layout of the rows, longest first.

        Returns:
            `[M, H]`; of states `[N, T, H]`, `packing.unpad(states)`.
        """

    @abc.abstractmethod
    def first_state(self, z: Tensor, y: Tensor | None) -> tuple[Tensor, ...]:
        """The state before BOS is read; arguments as of `hidden_states`.

        Returns:
            Tensors `[N, ...]`, of which rows are selected and repeated.
        """

    @abc.abstractmethod
    def next_hidden(
        self, symbols: Tensor, state: tuple[Tensor, ...]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Read a symbol.

        Args:
            symbols: `[N]`; BOS first.
            state: State of the rows before that symbol.

        Returns:
            The input of the softmax for the next symbol, `[N, H]`, as in `hidden_states`, and the
            state after the symbol.
        """

    def output_bias(self) -> Tensor:
        """Bias of the logits that all classes share, `[V]`; PAD and BOS have probability 0."""
        return self.output.bias.index_fill(0, self.never, NEVER)

    @property
    def used_ngrams(self) -> NGramLM | None:
        """The n-grams that p(x | y, z) has now: none while it is that of the network alone."""
        return None if self.recurrent_only else self.ngrams

    def start(self, z: Tensor, y: Tensor | None) -> DecoderState:
        """The state before the first symbol, for z `[N, Z]` and y `[N]`, `[N, K]` or None."""
        bias = None if self.class_bias is None or y is None else self.class_bias(y)
        contexts = self.used_ngrams.start(len(z)) if self.used_ngrams is not None else None
        return DecoderState(self.first_state(z, y), bias, contexts, y)

    def step(self, symbols: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState]:
        """Read a symbol and predict the next.

        Args:
            symbols: `[N]`; BOS first.
            state: State of the rows before that symbol.

        Returns:
            Logits of the next symbol, `[N, V]`, and the new state.
        """
        hidden, state = self._read(symbols, state)
        return self._logits(hidden, state), state

    def draw(
        self, symbols: Tensor, state: DecoderState, uniform: Tensor
    ) -> tuple[Tensor, DecoderState]:
        """Read a symbol and draw the next, by the probabilities of `step` without UNK's.

        Args:
            symbols: `[N]`; BOS first.
            state: State of the rows before that symbol.
            uniform: From [0, 1), `[N]`.

        Returns:
            Symbols `[N]`, and the new state.
        """
        hidden, state = self._read(symbols, state)
        drawn, rest = torch.full_like(symbols, NETWORK), uniform.clone()
        if self.ngrams is not None and state.ngrams is not None:
            gate = self.ngrams.gate(hidden).softmax(-1)
            drawn, rest = draw_symbols(self.ngrams, gate, state.ngrams, state.y, uniform)
        for symbol, without in ((NETWORK, state.without_ngrams()), (UNK, state)):
            rows = (drawn == symbol).nonzero().squeeze(1)
            if len(rows):
                logits = self._logits(hidden[rows], without.select(rows))
                if symbol == UNK:  # once more, from the rest of the probability
                    logits = logits.index_fill(-1, logits.new_tensor([UNK]).long(), NEVER)
                drawn[rows], rest[rows] = invert(wide(logits).softmax(-1), rest[rows])
        return drawn, state

    def _read(self, symbols: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState]:
        """The input of the softmax for the next symbol, `[N, H]`, and the state."""
        hidden, after = self.next_hidden(symbols, state.network)
        contexts = state.ngrams
        if self.ngrams is not None and contexts is not None:
            contexts = self.ngrams.advance(contexts, symbols)
        return hidden, dataclasses.replace(state, network=after, ngrams=contexts)

    def _logits(self, hidden: Tensor, state: DecoderState) -> Tensor:
        """Logits of the next symbol, `[N, V]`; n-grams are mixed in where the state has any."""
        logits = nn.functional.linear(hidden, self.output.weight, self.output_bias())
        if state.class_bias is not None:
            logits = logits + state.class_bias
        if self.ngrams is not None and state.ngrams is not None:
            logits = self.ngrams.mix_all(logits.log_softmax(-1), hidden, state.ngrams, state.y)
        return logits
