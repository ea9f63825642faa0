"""p(x | y, z), and the expanded batch: rows of the decoder for labels and particles of an example.

No other module folds labels or particles into the batch dim.
"""

import dataclasses
from typing import Any

import numpy as np
import torch
from pyro.distributions import TorchDistribution
from pyro.ops.provenance import get_provenance, track_provenance
from torch import Tensor

from seqssvae.data.vocabulary import BOS, EOS, PAD, UNK
from seqssvae.model.softmax import Softmax
from seqssvae.nn.decoder import Decoder
from seqssvae.nn.ngram_lm import Mixture
from seqssvae.nn.recurrent import pack
from seqssvae.shapes import fold, to_device, unfold


class SequenceLikelihood(TorchDistribution):
    """p(x | y, z) over whole sequences, for every leading index of y and z.

    Args:
        decoder: The network.
        z: `[*L, B, Z]`, leading dims broadcastable with those of y.
        y: Classes, int64 `[*L, B]`; weights of classes, float `[*L, B, K]`; None without classes.
        lengths: Number of symbols of each example, EOS included, `[B]`, on the CPU.
        counted: As in `Batch`.
        batch_shape: `[*L, B]`; the shape that the arguments broadcast to when None.
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012 - torch declares an instance attribute
    support = torch.distributions.constraints.nonnegative_integer

    def __init__(
        self,
        decoder: Decoder,
        z: Tensor,
        y: Tensor | None,
        lengths: Tensor,
        *,
        counted: Tensor | None = None,
        batch_shape: torch.Size | None = None,
    ) -> None:
        self.decoder, self.z, self.y, self.lengths = decoder, z, y, lengths
        self.counted = counted
        if batch_shape is None:
            shapes = [z.shape[:-1], lengths.shape]
            if y is not None:
                shapes.append(y.shape[:-1] if y.dtype.is_floating_point else y.shape)
            batch_shape = torch.Size(np.broadcast_shapes(*shapes))  # torch's imports sympy
        super().__init__(batch_shape, torch.Size([int(lengths.max())]), validate_args=False)

    def expand(
        self,
        batch_shape: torch.Size | list[int] | tuple[int, ...],
        _instance: "SequenceLikelihood | None" = None,
    ) -> "SequenceLikelihood":
        """The same distribution over more leading dims."""
        shape = torch.Size(batch_shape)
        return SequenceLikelihood(
            self.decoder, self.z, self.y, self.lengths, counted=self.counted, batch_shape=shape
        )

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x | y, z), summed over time.

        Args:
            x: Symbol ids, `[B, T]`; symbols after `lengths` are not read.

        Returns:
            Nats per sequence, `[*L, B]`; 0 for a row of length 0.
        """
        rows = self._expanded(x).log_prob()
        # An autograd function hides from `pyro.render_model` what its value was made from.
        made_from = get_provenance((self.z, self.y, x))
        result: Tensor = track_provenance(unfold(rows, self.batch_shape), made_from)
        return result

    def symbol_log_prob(self, x: Tensor) -> Tensor:
        """log p(x_t | x_<t, y, z) of each symbol; arguments as of `log_prob`.

        Returns:
            Nats, `[*L, B, T]`; 0 after the end of a row.
        """
        rows = self._expanded(x)
        packing, value = rows.packing, rows.symbol_log_prob()
        table = value.new_zeros(len(packing.order), x.shape[-1])
        index = packing.order[packing.row], packing.time[packing.position]
        return unfold(table.index_put(index, value), self.batch_shape)

    @torch.no_grad()
    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        """Sequences, each up to EOS or cut at its example's length.

        PAD, BOS and UNK are never drawn. Dropout is on unless the network is in evaluation mode.

        Returns:
            Symbol ids, `[*sample_shape, *L, B, T]`, PAD after the end.
        """
        shape = torch.Size((*sample_shape, *self.batch_shape))
        (z, y), limit = self._folded(shape), fold(self.lengths.to(self.z.device), shape, 0)
        x = limit.new_full((len(z), *self.event_shape), PAD)
        symbols, state = limit.new_full((len(z),), BOS), self.decoder.start(z, y)
        for time in range(x.shape[1]):
            unfinished = (time < limit) & (symbols != EOS)
            logits, state = self.decoder.step(symbols, state)
            logits[:, [PAD, UNK, BOS]] = -torch.inf
            drawn = torch.distributions.Categorical(logits=logits).sample()
            symbols = torch.where(unfinished, drawn, EOS)
            x[:, time] = torch.where(unfinished, drawn, PAD)
        return unfold(x, shape)

    def _expanded(self, x: Tensor) -> "ExpandedBatch":
        """The decoder's rows for symbols `[B, T]`."""
        z, y = self._folded(self.batch_shape)
        num_examples = self.batch_shape[-1]
        example = torch.arange(len(z)) % num_examples
        x_of_examples = x.reshape(num_examples, -1)
        arguments = (self.decoder, x_of_examples, self.lengths, example, z, y)
        return ExpandedBatch(*arguments, counted=self.counted)

    def _folded(self, batch_shape: torch.Size) -> tuple[Tensor, Tensor | None]:
        """z `[N, Z]` and y `[N]`, `[N, K]` or None."""
        y = self.y
        if y is not None:
            y = fold(y, batch_shape, 1 if y.dtype.is_floating_point else 0)
        return fold(self.z, batch_shape, 1), y


@dataclasses.dataclass(frozen=True)
class Pairs:
    """P rows of an expanded batch that need not hold every label of every example.

    Attributes:
        particle: Particle of z of each row, `[P]`, from 0 to S - 1.
        example: `[P]`, from 0 to B - 1.
        label: Classes, int64 `[P]`; weights of classes, `[P, K]`; None without classes.
        weight: `[P]`; over the pairs of one particle and example, the weighted sum of any f(y)
            is, in the mean, the sum over y of q(y | x) f(y).
        host: Particle and example on the CPU, `[2, P]`.
    """

    particle: Tensor
    example: Tensor
    label: Tensor | None
    weight: Tensor
    host: Tensor

    @classmethod
    def select(cls, mask: Tensor, label: Tensor | None, weight: Tensor) -> "Pairs":
        """The rows for which a mask is True, particle by particle, example by example.

        Args:
            mask: `[S, B]`, or `[S, B, m]` for m labels of each; on the CPU, so that a GPU need not
                be waited for.
            label: Int64 of the same shape, or weights of classes `[S, B, K]`; when None, the last
                index of a mask `[S, B, m]`, and no classes for one `[S, B]`.
            weight: Of the mask's shape.
        """
        host = torch.from_numpy(np.stack(mask.numpy().nonzero()))  # [2 or 3, P]
        index = to_device(host, weight.device).unbind()
        if label is not None:
            label = label[index]
        elif mask.dim() > 2:
            label = index[2]
        return cls(index[0], index[1], label, weight[index], host[:2])

    def gather(self, value: Tensor) -> Tensor:
        """Each row's element of a value `[S, B, ...]`, `[P, ...]`."""
        return value[self.particle, self.example]


class ExpandedBatch:
    """N rows of the decoder, each of which reads one example, run up to the softmax.

    Args:
        decoder: The network.
        x: Symbol ids, `[B, T]`.
        lengths: Number of symbols of each example, `[B]`, on the CPU.
        example: Example that each row reads, `[N]`, on the CPU.
        z: `[N, Z]`.
        y: Int64 `[N]`, float `[N, K]`, or None.
        counted: As in `Batch`.
        chunk_elements: As in `Softmax`.
    """

    def __init__(
        self,
        decoder: Decoder,
        x: Tensor,
        lengths: Tensor,
        example: Tensor,
        z: Tensor,
        y: Tensor | None,
        *,
        counted: Tensor | None = None,
        chunk_elements: int | None = None,
    ) -> None:
        self.packing = packing = pack(x, lengths, example)
        before = torch.nn.functional.pad(x[:, :-1], (1, 0), value=BOS)
        previous = before[packing.example, packing.time]  # [S]
        z, y = z[packing.order], None if y is None else y[packing.order]
        self.hidden = decoder.hidden_states(previous, z, y, packing)  # [M, H]
        table = None if decoder.class_bias is None else decoder.class_bias.table
        self.softmax = Softmax(
            weight=decoder.output.weight,
            bias=decoder.output_bias(),
            table=table,
            y=None if table is None else y,
            row=packing.row,
            targets=packing.symbols[packing.position],
            chunk_elements=chunk_elements,
            memory_share=decoder.softmax_memory,
        )
        self.mixture: Mixture | None = None
        ngrams = decoder.used_ngrams
        if ngrams is not None:
            probability = ngrams.target_probabilities(
                packing.symbols, packing.example, packing.time, counted
            )  # [S, D, K]
            classes = None if y is None else y[packing.row]
            chosen = _of_classes(probability, packing.position, classes)  # [M, D]
            self.mixture = ngrams.mix(self.hidden, chosen)

    def log_prob(self) -> Tensor:
        """log p(x_n | y_n, z_n) of each row in nats, `[N]`."""
        return self.packing.per_row(self.symbol_log_prob())

    def symbol_log_prob(self) -> Tensor:
        """log p of the symbol at each packed position in nats, `[M]`."""
        log_prob = self.softmax.log_prob(self.hidden)
        return log_prob if self.mixture is None else self.mixture.log_prob(log_prob)

    def weighted_log_prob(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Sum over rows of `weights[n] log p(x_n | y_n, z_n)`, with its gradient in the same pass.

        The weights are known before the likelihood, so value and gradient are computed from a
        chunk's logits while they exist, and the backward pass does not compute them again.

        Args:
            weights: `[N]`; they get a gradient.

        Returns:
            The sum, a scalar in nats, and log p of each row, `[N]`, which has no gradient.
        """
        weights = weights.index_select(0, self.packing.order[self.packing.row])  # [M]
        total, log_prob = self.softmax.weighted_log_prob(self.hidden, weights, self.mixture)
        return total, self.packing.per_row(log_prob)


def _of_classes(value: Tensor, position: Tensor, y: Tensor | None) -> Tensor:
    """Values `[S, D, K]` at M positions for their classes `[M]`, weights `[M, K]` or None."""
    if y is None:
        return value[position, :, 0]
    if y.dtype.is_floating_point:
        return (value[position] * y.unsqueeze(1)).sum(-1)
    return value[position, :, y]
