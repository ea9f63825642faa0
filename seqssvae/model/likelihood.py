"""p(x | y, z): the expanded batch, and a softmax that never exists for all positions at once.

This room alone folds enumerated labels and particles into the decoder's batch. No `[*L, B, T, V]`
tensor is made: the logits of a chunk of unpadded positions are, and are used up, one after
another in the same memory.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import torch
from pyro.distributions import TorchDistribution
from pyro.ops.provenance import get_provenance, track_provenance
from torch import Tensor
from torch.autograd.function import once_differentiable

from seqssvae.data.vocabulary import BOS, EOS, PAD, UNK
from seqssvae.nn.decoder import Decoder
from seqssvae.nn.engine.buffers import Buffer
from seqssvae.nn.engine.kernels import kernels_for
from seqssvae.nn.engine.threads import num_workers, share_out
from seqssvae.nn.recurrent import Packing, pack
from seqssvae.shapes import fold, length_mask, unfold

__all__ = ["SequenceLikelihood", "sequence_log_prob", "weighted_sequence_log_prob"]

CHUNK_ELEMENTS = 2**22  # logits that exist at once
SMALL = 2**22  # products of two numbers that one thread does
CACHED_ELEMENTS = 2**17  # of them, for each thread of a CPU, that a core's cache holds

Result = TypeVar("Result")


class SequenceLikelihood(TorchDistribution):
    """p(x | y, z) over whole sequences, for every leading index of y and z.

    Args:
        decoder: The network.
        z: `[*L, B, Z]`, leading dims broadcastable with those of y.
        y: Classes, int64 `[*L, B]`; weights of classes, float `[*L, B, K]`; None without classes.
        lengths: Symbols of each example, EOS included, `[B]`.
        batch_shape: `[*L, B]`; what the arguments broadcast to when None.
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
        batch_shape: torch.Size | None = None,
    ) -> None:
        self.decoder, self.z, self.y, self.lengths = decoder, z, y, lengths
        if batch_shape is None:
            shapes = [z.shape[:-1], lengths.shape]
            if y is not None:
                shapes.append(y.shape[:-1] if y.dtype.is_floating_point else y.shape)
            batch_shape = torch.broadcast_shapes(*shapes)
        super().__init__(batch_shape, torch.Size([int(lengths.max())]), validate_args=False)

    def expand(
        self,
        batch_shape: torch.Size | list[int] | tuple[int, ...],
        _instance: "SequenceLikelihood | None" = None,
    ) -> "SequenceLikelihood":
        """The same distribution over more leading dims."""
        shape = torch.Size(batch_shape)
        return SequenceLikelihood(self.decoder, self.z, self.y, self.lengths, batch_shape=shape)

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x | y, z), summed over time.

        Args:
            x: Symbol ids, `[B, T]`; what stands after `lengths` is never read.

        Returns:
            Nats per sequence, `[*L, B]`; 0 for a row of length 0.
        """
        y = self.y
        z = fold(self.z, self.batch_shape, 1)  # [N, Z]
        if y is not None:
            y = fold(y, self.batch_shape, 1 if y.dtype.is_floating_point else 0)
        num_examples = self.batch_shape[-1]
        example = torch.arange(len(z), device=z.device) % num_examples
        rows = sequence_log_prob(
            self.decoder, x.reshape(num_examples, -1), self.lengths, example, z, y
        )
        # An autograd function hides from `pyro.render_model` what its value was made from.
        made_from = get_provenance((self.z, self.y, x))
        result: Tensor = track_provenance(unfold(rows, self.batch_shape), made_from)
        return result

    @torch.no_grad()
    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        """Sequences, each up to EOS or to as many symbols as its example's length allows.

        PAD, BOS and UNK are never drawn. Dropout is on unless the network is in evaluation mode.

        Returns:
            Symbol ids, `[*sample_shape, *L, B, T]`, PAD after the end.
        """
        shape = torch.Size((*sample_shape, *self.batch_shape))
        z, y, limit = fold(self.z, shape, 1), self.y, fold(self.lengths, shape, 0)  # [N, Z], [N]
        if y is not None:
            y = fold(y, shape, 1 if y.dtype.is_floating_point else 0)
        x = limit.new_full((len(z), *self.event_shape), PAD)
        symbols, state = limit.new_full((len(z),), BOS), self.decoder.start(z, y)
        for time in range(x.shape[1]):
            going = (time < limit) & (symbols != EOS)
            logits, state = self.decoder.step(symbols, state)
            logits[:, [PAD, UNK, BOS]] = -torch.inf
            drawn = torch.distributions.Categorical(logits=logits).sample()
            symbols = torch.where(going, drawn, EOS)
            x[:, time] = torch.where(going, drawn, PAD)
        return unfold(x, shape)


def sequence_log_prob(
    decoder: Decoder, x: Tensor, lengths: Tensor, example: Tensor, z: Tensor, y: Tensor | None
) -> Tensor:
    """log p(x_n | y_n, z_n) for rows that each read one example.

    Args:
        decoder: The network.
        x: Symbol ids, `[B, T]`.
        lengths: Symbols of each example, `[B]`.
        example: The example that each row reads, `[N]`.
        z: `[N, Z]`.
        y: int64 `[N]`, float `[N, K]`, or None.

    Returns:
        Nats per sequence, `[N]`.
    """
    packing, hidden, softmax = _expanded(decoder, x, lengths, example, z, y)
    with torch.autocast(hidden.device.type, enabled=False):  # its buffers hold one dtype
        log_prob = _TokenLogProb.apply(softmax, *softmax.parameters(hidden))  # type: ignore[no-untyped-call]
    return packing.per_row(log_prob)


def weighted_sequence_log_prob(
    decoder: Decoder,
    x: Tensor,
    lengths: Tensor,
    example: Tensor,
    z: Tensor,
    y: Tensor | None,
    weights: Tensor,
) -> tuple[Tensor, Tensor]:
    """Sum over rows of `weights[n] log p(x_n | y_n, z_n)`, its gradient taken on the way.

    The weights are known before the likelihood, so the logits of a chunk give value and gradient
    while they are at hand and are not computed again.

    Args:
        decoder: The network.
        x: Symbol ids, `[B, T]`.
        lengths: Symbols of each example, `[B]`.
        example: The example that each row reads, `[N]`.
        z: `[N, Z]`.
        y: int64 `[N]`, float `[N, K]`, or None.
        weights: `[N]`; a gradient reaches them.

    Returns:
        The sum, a scalar in nats, and log p of each row, `[N]`, through which no gradient flows.
    """
    packing, hidden, softmax = _expanded(decoder, x, lengths, example, z, y)
    weights = weights.index_select(0, packing.order[packing.row])
    with torch.autocast(hidden.device.type, enabled=False):
        total, log_prob = _WeightedLogProb.apply(  # type: ignore[no-untyped-call]
            softmax, weights, *softmax.parameters(hidden)
        )
    return total, packing.per_row(log_prob)


def _expanded(
    decoder: Decoder, x: Tensor, lengths: Tensor, example: Tensor, z: Tensor, y: Tensor | None
) -> tuple[Packing, Tensor, "_Softmax"]:
    """Run the decoder over the expanded batch, up to the softmax."""
    packing = pack(x, lengths, example)
    previous = torch.nn.functional.pad(x[:, :-1], (1, 0), value=BOS)
    previous = previous[length_mask(lengths, x.shape[1])]  # [S]
    hidden = decoder.hidden_states(previous, z, y, packing)  # [M, H]
    table = None if decoder.class_bias is None else decoder.class_bias.weight
    softmax = _Softmax(
        weight=decoder.output.weight,
        bias=decoder.output_bias(),
        table=table,
        y=None if y is None or table is None else y[packing.order],
        row=packing.row,
        targets=packing.symbols[packing.position],
    )
    return packing, hidden, softmax


@dataclasses.dataclass(frozen=True)
class _Softmax:
    """Cat(targets; softmax(hidden weight' + bias + table[y])), chunk by chunk.

    `weight` `[V, H]`, `bias` `[V]`, `table` `[K, V]` or None, `y` of each packed row, `row` and
    `targets` of each position `[M]`.
    """

    weight: Tensor
    bias: Tensor
    table: Tensor | None
    y: Tensor | None
    row: Tensor
    targets: Tensor

    def parameters(self, hidden: Tensor) -> tuple[Tensor | None, ...]:
        """What gradients are for."""
        relaxed = self.y if self.y is not None and self.y.dtype.is_floating_point else None
        return hidden, self.weight, self.bias, self.table, relaxed

    def chunks(
        self, hidden: Tensor, upstream: Tensor | None, windows: Sequence[slice]
    ) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Yield a chunk, its log-probabilities, and the gradient of its logits.

        The latter lies in memory that the next chunk uses again, and is the one for `upstream`, the
        gradient of each position's log-probability, `[M]`; without that it means nothing.
        """
        size = len(self.bias)
        longest = max((window.stop - window.start for window in windows), default=0)
        memory = Buffer(hidden, (longest, size))
        transposed = self.weight.t()
        kernels = kernels_for(hidden, self.weight, *([] if self.table is None else [self.table]))
        if upstream is not None:
            upstream = upstream.to(hidden.dtype).contiguous()
        for window in windows:
            logits = memory.tensor[: window.stop - window.start]
            torch.addmm(self.bias, hidden[window], transposed, out=logits)
            table, classes = self._class_bias(logits, window)
            rest = (table, classes, self.targets[window])
            gradient = None if upstream is None else upstream[window]
            if kernels is None:
                log_prob = _log_softmax(logits, *rest, gradient)
            else:
                log_prob = kernels.log_softmax(logits, *rest, gradient)
            yield window, log_prob, logits

    def _class_bias(self, logits: Tensor, window: slice) -> tuple[Tensor | None, Tensor | None]:
        """The table and the classes that are still to be added: those that are no weights."""
        if self.table is None or self.y is None:
            return None, None
        y = self.y[self.row[window]]
        if y.dtype.is_floating_point:
            logits.addmm_(y, self.table)
            return None, None
        return self.table, y

    def share_out(self, hidden: Tensor, work: Callable[[list[slice]], Result]) -> list[Result]:
        """Do work on all chunks, on several threads of a CPU."""
        num_positions, size = len(hidden), len(self.bias)
        workers = num_workers(hidden.device)
        if num_positions * size * hidden.shape[1] < SMALL:
            workers = 1
        longest = max(64, CHUNK_ELEMENTS // (size * workers))
        num_chunks = -(-num_positions // longest)
        num_chunks += -num_chunks % workers  # each thread has the same number of them
        chunk = max(1, -(-num_positions // max(1, num_chunks)))
        windows = [
            slice(start, min(start + chunk, num_positions))
            for start in range(0, num_positions, chunk)
        ]
        sizes = [window.stop - window.start for window in windows]
        return share_out(work, windows, sizes, workers)

    def gradients(self, hidden: Tensor, d_hidden: Tensor) -> "_Gradients":
        """Sums for the gradient of every parameter, in which that of `hidden` has its place."""
        relaxed = self.parameters(hidden)[-1]
        return _Gradients(
            d_hidden,
            torch.zeros_like(self.weight),
            torch.zeros_like(self.bias),
            None if self.table is None else torch.zeros_like(self.table),
            None if relaxed is None else torch.zeros_like(relaxed),
        )


def _log_softmax(
    logits: Tensor,
    table: Tensor | None,
    classes: Tensor | None,
    targets: Tensor,
    upstream: Tensor | None,
) -> Tensor:
    """As `Kernels.log_softmax`, by torch's operations, on as many positions as a cache holds."""
    cached = len(logits)
    if logits.device.type == "cpu":
        cached = max(8, CACHED_ELEMENTS * torch.get_num_threads() // logits.shape[1])
    found = []
    for first in range(0, len(logits), cached):
        part = slice(first, first + cached)
        here, wanted = logits[part], targets[part].unsqueeze(1)
        if table is not None and classes is not None:
            here += table[classes[part]]
        chosen = here.gather(1, wanted)
        largest = here.amax(1, keepdim=True)
        sums = here.sub_(largest).exp_().sum(1, keepdim=True)
        if upstream is not None:
            given = upstream[part].unsqueeze(1)
            here.mul_(-given / sums).scatter_add_(1, wanted, given)
        found.append((chosen - largest - sums.log()).squeeze(1))
    return torch.cat(found) if found else logits.new_zeros(0)


@dataclasses.dataclass(frozen=True)
class _Gradients:
    """Gradients of `_Softmax.parameters`, in their order."""

    hidden: Tensor
    weight: Tensor
    bias: Tensor
    table: Tensor | None
    y: Tensor | None

    def add(self, softmax: _Softmax, hidden: Tensor, window: slice, logits: Tensor) -> None:
        """Add a chunk's, from the gradient of its logits."""
        torch.mm(logits, softmax.weight, out=self.hidden[window])
        self.weight.addmm_(logits.t(), hidden[window])
        self.bias.add_(logits.sum(0))
        if self.table is None or softmax.table is None or softmax.y is None:
            return
        rows = softmax.row[window]
        if self.y is not None:
            self.y.index_add_(0, rows, logits @ softmax.table.t())
            self.table.addmm_(softmax.y[rows].t(), logits)
        else:
            self.table.index_add_(0, softmax.y[rows], logits)

    @classmethod
    def total(cls, parts: "Sequence[_Gradients]") -> "_Gradients":
        """The sum over threads, in memory of the first."""
        for other in parts[1:]:
            for total, term in zip(parts[0].plain()[1:], other.plain()[1:], strict=True):
                if total is not None and term is not None:
                    total.add_(term)
        return parts[0]

    def scaled(self, factor: Tensor) -> tuple[Tensor | None, ...]:
        """All of them times a scalar."""
        parts = (self.hidden, self.weight, self.bias, self.table, self.y)
        return tuple(None if part is None else part * factor for part in parts)

    def plain(self) -> tuple[Tensor | None, ...]:
        """All of them."""
        return (self.hidden, self.weight, self.bias, self.table, self.y)


class _TokenLogProb(torch.autograd.Function):
    """Log-probability of each position's target, `[M]`; the backward pass computes logits anew."""

    @staticmethod
    def forward(ctx: Any, softmax: _Softmax, hidden: Tensor, *_: Tensor | None) -> Tensor:
        ctx.softmax = softmax
        ctx.save_for_backward(hidden)
        log_prob = hidden.new_empty(len(hidden))

        def run(windows: list[slice]) -> None:
            for window, chunk, _logits in softmax.chunks(hidden, None, windows):
                log_prob[window] = chunk

        softmax.share_out(hidden, run)
        return log_prob

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        (hidden,) = ctx.saved_tensors
        softmax: _Softmax = ctx.softmax
        d_hidden = torch.empty_like(hidden)

        def run(windows: list[slice]) -> _Gradients:
            gradients = softmax.gradients(hidden, d_hidden)
            for window, _, logits in softmax.chunks(hidden, upstream, windows):
                gradients.add(softmax, hidden, window, logits)
            return gradients

        return (None, *_Gradients.total(softmax.share_out(hidden, run)).plain())


class _WeightedLogProb(torch.autograd.Function):
    """Sum of weighted log-probabilities; value and gradient in one pass over the logits."""

    @staticmethod
    def forward(
        ctx: Any, softmax: _Softmax, weights: Tensor, hidden: Tensor, *_: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        wanted = any(ctx.needs_input_grad[2:])
        log_prob, memory = hidden.new_empty(len(hidden)), Buffer(hidden, hidden.shape)

        def run(windows: list[slice]) -> _Gradients | None:
            gradients = softmax.gradients(hidden, memory.tensor) if wanted else None
            for window, chunk, logits in softmax.chunks(
                hidden, weights if wanted else None, windows
            ):
                log_prob[window] = chunk
                if gradients is not None:
                    gradients.add(softmax, hidden, window, logits)
            return gradients

        parts = softmax.share_out(hidden, run)
        ctx.gradients, ctx.memory = None, memory  # which lives as long as the gradients
        if wanted:
            ctx.gradients = _Gradients.total([part for part in parts if part is not None])
        ctx.save_for_backward(log_prob)
        ctx.mark_non_differentiable(log_prob)
        return (weights * log_prob).sum(), log_prob

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        (log_prob,) = ctx.saved_tensors
        rest: tuple[Tensor | None, ...] = (None,) * 5
        if ctx.gradients is not None:
            rest = ctx.gradients.scaled(upstream)
        return (None, upstream * log_prob, *rest)
