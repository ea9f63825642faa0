"""LSTM and GRU over packed rows, and over an expanded batch whose rows share the input projection.

Under enumeration K rows read the same sequence. `nn.LSTM` would multiply the same embeddings by
the input weights K times; where there are C kernels each distinct input is projected once and rows
select theirs by index. Elsewhere `nn.LSTM` and `nn.GRU` themselves run. Rows are packed as in a
`PackedSequence`: longest first, time-major, without padding.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from seqssvae.nn.engine import Plan, kernels_for, run_cells
from seqssvae.shapes import length_mask


@dataclasses.dataclass(frozen=True)
class Packing:
    """Layout of the symbols of an expanded batch without padding.

    Packed rows are sorted by length, longest first; packed positions are time-major.

    Attributes:
        order: Index of each packed row before sorting, `[N]`.
        row: Packed row of each position, `[M]`.
        position: Index in `symbols` of each position's symbol, `[M]`.
        symbols: Symbols of the examples, `[S]` with S = sum(lengths) over the B examples.
        sizes: Rows that still have a symbol at each time, at most T numbers.
    """

    order: Tensor
    row: Tensor
    position: Tensor
    symbols: Tensor
    sizes: tuple[int, ...]

    def last(self) -> Tensor:
        """The last position of each packed row, `[N]`; every row must have a symbol."""
        starts = torch.tensor([0, *itertools.accumulate(self.sizes)], device=self.row.device)
        lengths = torch.bincount(self.row, minlength=len(self.order))
        return starts[lengths - 1] + torch.arange(len(lengths), device=starts.device)

    def per_row(self, value: Tensor) -> Tensor:
        """Sum values of the positions, `[M]`, over time: `[N]`, in the order of the rows."""
        packed = value.new_zeros(len(self.order)).index_add_(0, self.row, value)
        return torch.empty_like(packed).index_copy_(0, self.order, packed)


def pack(x: Tensor, lengths: Tensor, example: Tensor) -> Packing:
    """Lay out N rows, of which row n reads the sequence `example[n]`.

    Args:
        x: Symbol ids, `[B, T]`; symbols after `lengths` are not read.
        lengths: Number of symbols of each example, `[B]`, from 0 to T.
        example: Example of each row, `[N]`.
    """
    max_length = x.shape[1]
    mask = length_mask(lengths, max_length)  # [B, T]
    compact = (mask.reshape(-1).cumsum(0) - 1).reshape(mask.shape)  # [B, T]
    row_lengths, order = lengths[example].sort(descending=True, stable=True)
    active = length_mask(row_lengths, max_length).t()  # [T, N]
    time, row = active.nonzero(as_tuple=True)  # [M] each
    sizes = tuple(size for size in active.sum(1).tolist() if size)
    return Packing(order, row, compact[example[order[row]], time], x[mask], sizes)


def packed_rnn(
    rnn: nn.LSTM | nn.GRU,
    inputs: Tensor,
    position: Tensor,
    context: Tensor | None,
    states: tuple[Tensor, ...],
    packing: Packing,
) -> Tensor:
    """Hidden states of the last layer at every packed position.

    Equal to `rnn` on each row's own sequence, with `[inputs, context]` fed at each step.

    Args:
        rnn: A one-directional RNN of input size `E + C`; its dropout acts between layers.
        inputs: Distinct inputs, `[S, E]`.
        position: Index of the input that each packed position reads, `[M]`.
        context: Further input of each row at every time, `[N, C]` in packed order, or None.
        states: Initial state, `(hidden,)` or `(hidden, cell)`, each
            `[num_layers, N, H]` in packed order.
        packing: The layout.

    Returns:
        `[M, H]`.
    """
    if not _has_kernels(rnn, packing):
        read = inputs[position]
        if context is not None:
            read = torch.cat([read, context[packing.row].to(read.dtype)], 1)
        return _run_plain(rnn, read, packing, states)
    hidden = inputs
    for layer in range(rnn.num_layers):
        first = layer == 0
        hidden = _run(
            rnn,
            [f"l{layer}"],
            hidden,
            position.unsqueeze(0) if first else None,
            context if first else None,
            tuple(state[layer : layer + 1] for state in states),
            packing.sizes,
        ).squeeze(0)  # whose gradient, unlike that of [0], is no copy
        if layer + 1 < rnn.num_layers:
            hidden = nn.functional.dropout(hidden, rnn.dropout, rnn.training)
    return hidden


def rnn_states(
    rnn: nn.LSTM | nn.GRU,
    inputs: Tensor,
    lengths: Tensor,
    packing: Packing,
    source: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """States of the last layer at every packed position, in D directions, 1 or 2.

    Equal to `rnn` on each row's own sequence, from zeros.

    Args:
        rnn: With one direction or two; its dropout acts between layers.
        inputs: Inputs of one row after the other without padding, `[S, E]`; or distinct ones.
        lengths: Number of symbols of each row, `[B]`.
        packing: Layout of those B rows, of which each reads its own sequence.
        source: Index of the distinct input that each symbol reads, `[S]`; None without.

    Returns:
        The states, `[D, S, H]`, and the symbol that each direction reads at each packed position,
        `[D, S]`: the second one reads every row from its end.
    """
    positions, suffixes = [packing.position], [""]
    if rnn.bidirectional:
        ends = lengths.cumsum(0)
        mirror = (2 * ends - lengths - 1)[packing.order[packing.row]] - packing.position
        positions, suffixes = [packing.position, mirror], ["", "_reverse"]
    position = torch.stack(positions)  # [D, S]
    if not _has_kernels(rnn, packing):
        read = packing.position if source is None else source[packing.position]
        states = _run_plain(rnn, inputs[read], packing, None)
        parts = states.split(rnn.hidden_size, 1)
        if rnn.bidirectional:  # whose second output is at the positions of the first direction
            parts = (parts[0], parts[1][packing.position.argsort()[positions[1]]])
        return torch.stack(parts), position
    zeros = inputs.new_zeros(len(positions), len(lengths), rnn.hidden_size)
    initial = (zeros, zeros) if isinstance(rnn, nn.LSTM) else (zeros,)
    states, reads = inputs, position if source is None else source[position]
    for layer in range(rnn.num_layers):
        names = [f"l{layer}{suffix}" for suffix in suffixes]
        states = _run(rnn, names, inputs, reads, None, initial, packing.sizes)  # [D, S, H]
        if layer + 1 < rnn.num_layers:
            inputs = nn.functional.dropout(in_order(states, position), rnn.dropout, rnn.training)
            reads = position
    return states, position


def in_order(states: Tensor, position: Tensor) -> Tensor:
    """Result of `rnn_states` in the order of the symbols, directions side by side, `[S, F]`."""
    orders = zip(states, position.argsort(1), strict=True)
    return torch.cat([one.index_select(0, order) for one, order in orders], 1)


def _has_kernels(rnn: nn.LSTM | nn.GRU, packing: Packing) -> bool:
    return bool(packing.sizes) and kernels_for(next(rnn.parameters())) is not None


def _run_plain(
    rnn: nn.LSTM | nn.GRU, inputs: Tensor, packing: Packing, states: tuple[Tensor, ...] | None
) -> Tensor:
    """All layers of `rnn` over packed inputs, `[M, E]`, in the dtype of its weights: `[M, D H]`."""
    weight = next(rnn.parameters())  # of the input, `[G, E]`
    with torch.autocast(weight.device.type, enabled=False):
        inputs = inputs.to(weight.dtype)
        if not packing.sizes:  # PackedSequence takes no empty batch
            return (inputs @ weight.t())[:, : rnn.hidden_size * (2 if rnn.bidirectional else 1)]
        initial: Any = None
        if states is not None:
            rows = slice(packing.sizes[0])  # the other ones have no symbol
            initial = tuple(state[:, rows].to(weight.dtype).contiguous() for state in states)
            initial = initial if isinstance(rnn, nn.LSTM) else initial[0]
        packed = PackedSequence(inputs, torch.tensor(packing.sizes))
        output: Tensor = rnn(packed, initial)[0].data
    return output


def _run(
    rnn: nn.LSTM | nn.GRU,
    names: Sequence[str],
    inputs: Tensor,
    position: Tensor | None,
    context: Tensor | None,
    initial: tuple[Tensor, ...],
    sizes: tuple[int, ...],
) -> Tensor:
    """One layer in D directions at once, in C.

    Args:
        rnn: Module with the parameters.
        names: Ends of their names, one for each direction.
        inputs: `[S, E]`.
        position: Index of the input of each packed position, `[D, M]`; None if they are the same.
        context: `[N, C]` or None.
        initial: First states, each `[D, N, H]`.
        sizes: Rows that still have a symbol at each time.

    Returns:
        `[D, M, H]`.
    """
    size, is_lstm = inputs.shape[1], isinstance(rnn, nn.LSTM)
    two = 2 * rnn.hidden_size
    weights, new_biases, projections, contexts = [], [], [], []
    for name in names:
        weight_ih, weight_hh, bias_ih, bias_hh = (
            getattr(rnn, f"{kind}_{name}")
            for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        if is_lstm:
            bias = bias_ih + bias_hh
        else:  # the new gate's recurrent bias is scaled by the reset gate
            bias = torch.cat([bias_ih[:two] + bias_hh[:two], bias_ih[two:]])
            new_biases.append(bias_hh[two:])
        if context is None:
            projections.append(torch.addmm(bias, inputs, weight_ih.t()))
        else:
            projections.append(inputs @ weight_ih[:, :size].t())
            contexts.append(torch.addmm(bias, context, weight_ih[:, size:].t()))
        weights.append(weight_hh)
    projected = torch.stack(projections)  # [D, S or M, G]
    return run_cells(
        projected,
        position,
        torch.stack(contexts) if contexts else None,  # [D, N, G]
        Plan.make(sizes, initial[0], projected.shape[1]),
        torch.stack(weights),
        initial[0],
        initial[1] if is_lstm else torch.stack(new_biases).unsqueeze(1),
    )
