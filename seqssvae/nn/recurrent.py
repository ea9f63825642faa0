"""LSTM and GRU over packed rows, and over an expanded batch whose rows share the input projection.

Under enumeration K rows read the same sequence. `nn.LSTM` would multiply the same embeddings by
the input weights K times; where there are C kernels each distinct input is projected once and rows
select theirs by index. Elsewhere `nn.LSTM` and `nn.GRU` themselves run. Rows are packed as in a
`PackedSequence`: longest first, time-major, without padding.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from seqssvae.nn.engine import Plan, kernels_for, run_cells
from seqssvae.shapes import arrays_to_device, symbol_index


@dataclasses.dataclass(frozen=True)
class Packing:
    """Layout of the symbols of an expanded batch without padding.

    Packed rows are sorted by length, longest first; packed positions are time-major.

    Attributes:
        order: Index of each packed row before sorting, `[N]`.
        lengths: Number of symbols of each packed row, `[N]`.
        first: Index in `symbols` of each packed row's first symbol, `[N]`.
        starts: First position of each time, `[T]`.
        row: Packed row of each position, `[M]`.
        position: Index in `symbols` of each position's symbol, `[M]`.
        symbols: Symbols of the examples, `[S]` with S = sum(lengths) over the B examples.
        example: Example of each symbol, `[S]`.
        time: Position of each symbol in its example, `[S]`.
        sizes: Rows that still have a symbol at each time, at most T numbers.

    Example:
        >>> from seqssvae.nn.recurrent import pack
        >>> packing = pack(torch.tensor([[4, 0], [5, 6]]), torch.tensor([1, 2]), torch.arange(2))
        >>> packing.pad(packing.symbols).tolist(), packing.lengths.tolist()
        ([[5, 6], [4, 4]], [2, 1])
    """

    order: Tensor
    lengths: Tensor
    first: Tensor
    starts: Tensor
    row: Tensor
    position: Tensor
    symbols: Tensor
    example: Tensor
    time: Tensor
    sizes: tuple[int, ...]

    def last(self) -> Tensor:
        """The last position of each packed row, `[N]`; every row must have a symbol."""
        rows = torch.arange(len(self.lengths), device=self.lengths.device)
        return self.starts[self.lengths - 1] + rows

    def pad(self, value: Tensor) -> Tensor:
        """Values of the symbols, `[S, ...]`, as a table of the packed rows, `[N, T, ...]`.

        After a row's end its last value is repeated; rows of length 0 have any value.
        """
        time = torch.arange(len(self.sizes), device=value.device)
        last = (self.lengths - 1).clamp(min=0).unsqueeze(1)
        index = self.first.unsqueeze(1) + torch.minimum(time, last)
        return value[index.clamp(max=len(value) - 1)]

    def unpad(self, value: Tensor) -> Tensor:
        """Values at the packed positions, `[M, ...]`, of a table as of `pad`, `[N, T, ...]`."""
        return value[self.row, self.time[self.position]]

    def per_row(self, value: Tensor) -> Tensor:
        """Sum values of the positions, `[M]`, over time: `[N]`, in the order of the rows."""
        return value.new_zeros(len(self.order)).index_add_(0, self.order[self.row], value)


def pack(x: Tensor, lengths: Tensor, example: Tensor) -> Packing:
    """Lay out N rows, of which row n reads the sequence `example[n]`.

    Args:
        x: Symbol ids, `[B, T]`; symbols after `lengths` are not read.
        lengths: Number of symbols of each example, `[B]`, from 0 to T; on the CPU, so that no
            shape has to be fetched from a GPU.
        example: Example of each row, `[N]`, on the CPU.
    """
    device, all_lengths, of_row = x.device, lengths.numpy(), example.numpy()
    packed = np.argsort(-all_lengths[of_row], kind="stable")
    of_row = of_row[packed]
    sizes = len(of_row) - np.bincount(all_lengths[of_row], minlength=1).cumsum()[:-1]
    order, row_lengths, first, active, starts, of_symbol, time_of_symbol = arrays_to_device(
        [
            packed,
            all_lengths[of_row],
            (all_lengths.cumsum() - all_lengths)[of_row],
            sizes,
            sizes.cumsum() - sizes,
            *symbol_index(lengths),
        ],
        device,
    )
    num_positions = int(sizes.sum())
    time = torch.repeat_interleave(active, output_size=num_positions)
    row = torch.arange(num_positions, device=device) - starts[time]
    return Packing(
        order=order,
        lengths=row_lengths,
        first=first,
        starts=starts,
        row=row,
        position=first[row] + time,
        symbols=x[of_symbol, time_of_symbol],
        example=of_symbol,
        time=time_of_symbol,
        sizes=tuple(sizes.tolist()),
    )


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
        dtype = compute_dtype(rnn)
        # embedding, not an index: its gradient is summed in order, not by atomic additions
        read = nn.functional.embedding(position, inputs.to(dtype))
        if context is not None:
            each = context.to(dtype).index_select(0, packing.row)
            read = torch.cat([read, each], 1)
        return run_plain(rnn, weights_as(rnn, dtype), read, packing, states)
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
    rnn: nn.LSTM | nn.GRU, inputs: Tensor, packing: Packing, source: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """States of the last layer at every packed position, in D directions, 1 or 2.

    Equal to `rnn` on each row's own sequence, from zeros.

    Args:
        rnn: With one direction or two; its dropout acts between layers.
        inputs: Inputs of one row after the other without padding, `[S, E]`; or distinct ones.
        packing: Layout of B rows, of which each reads its own sequence.
        source: Index of the distinct input that each symbol reads, `[S]`; None without.

    Returns:
        The states, `[D, S, H]`, and the symbol that each direction reads at each packed position,
        `[D, S]`: the second one reads every row from its end.
    """
    position = reading_order(rnn, packing)
    if not _has_kernels(rnn, packing):
        dtype = compute_dtype(rnn)
        read = packing.position if source is None else source[packing.position]
        read = nn.functional.embedding(read, inputs.to(dtype))
        states = run_plain(rnn, weights_as(rnn, dtype), read, packing)
        parts = states.unflatten(1, (len(position), -1)).transpose(0, 1)
        return in_reading_order(parts, packing, position), position
    zeros = inputs.new_zeros(len(position), len(packing.order), rnn.hidden_size)
    initial = (zeros, zeros) if isinstance(rnn, nn.LSTM) else (zeros,)
    states, reads = inputs, position if source is None else source[position]
    for layer in range(rnn.num_layers):
        names = [f"l{layer}{suffix}" for suffix in ("", "_reverse")[: len(position)]]
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


def reading_order(rnn: nn.LSTM | nn.GRU, packing: Packing) -> Tensor:
    """Index of the symbol that each direction reads at each packed position, `[D, S]`.

    The second direction reads every row from its end.
    """
    if not rnn.bidirectional:
        return packing.position.unsqueeze(0)
    mirror = (2 * packing.first + packing.lengths - 1)[packing.row] - packing.position
    return torch.stack([packing.position, mirror])


def in_reading_order(states: Tensor, packing: Packing, position: Tensor) -> Tensor:
    """States `[D, S, H]` of which those of a second direction were at the first one's positions."""
    if len(states) == 1:
        return states
    return torch.stack([states[0], states[1][packing.position.argsort()[position[1]]]])


def compute_dtype(rnn: nn.LSTM | nn.GRU) -> torch.dtype:
    """The dtype of autocast where it is on, else that of the weights."""
    weight = next(rnn.parameters())
    if torch.is_autocast_enabled(weight.device.type):
        return torch.get_autocast_dtype(weight.device.type)
    return weight.dtype


def run_plain(
    rnn: nn.LSTM | nn.GRU,
    weights: Sequence[Tensor],
    inputs: Tensor,
    packing: Packing,
    states: tuple[Tensor, ...] | None = None,
) -> Tensor:
    """All layers of an RNN by torch's own loop, by cuDNN on a GPU.

    Args:
        rnn: Gives layers, directions and dropout.
        weights: Of `weights_as`, or others of the same kind.
        inputs: In packed order, `[M, E]`, of the weights' dtype.
        packing: The layout.
        states: As in `packed_rnn`; zeros when None.

    Returns:
        `[M, D H]`.
    """
    size, num_directions = weights[1].shape[1], 2 if rnn.bidirectional else 1
    if not packing.sizes:  # torch takes no empty batch
        return (inputs @ weights[0].t())[:, : num_directions * size]
    rows = packing.sizes[0]  # the other ones have no symbol
    if states is None:
        zeros = inputs.new_zeros(num_directions * rnn.num_layers, rows, size)
        states = (zeros, zeros) if isinstance(rnn, nn.LSTM) else (zeros,)
    initial = [state[:, :rows].to(inputs.dtype).contiguous() for state in states]
    run: Any = torch.gru if len(initial) == 1 else torch.lstm
    start = initial[0] if len(initial) == 1 else initial
    dropout = rnn.dropout if rnn.training else 0.0
    has_backward = rnn.training or torch.is_grad_enabled()  # cuDNN has one in training mode only
    options = (True, rnn.num_layers, dropout, has_backward, rnn.bidirectional)
    with torch.autocast(inputs.device.type, enabled=False):
        output: Tensor = run(inputs, torch.tensor(packing.sizes), start, weights, *options)[0]
    return output


def weights_as(rnn: nn.LSTM | nn.GRU, dtype: torch.dtype) -> list[Tensor]:
    """The weights of an RNN in a dtype."""
    weights: list[Tensor] = [weight for layer in rnn.all_weights for weight in layer]
    return weights if weights[0].dtype == dtype else one_piece(weights, dtype)


def one_piece(weights: Sequence[Tensor], dtype: torch.dtype) -> list[Tensor]:
    """Weights in one piece of memory, as cuDNN wants them: matrices, then biases."""
    order = sorted(range(len(weights)), key=lambda index: weights[index].dim() == 1)
    flat = torch.cat([weights[index].flatten() for index in order]).to(dtype)
    parts = flat.split([weights[index].numel() for index in order])
    cast = dict(zip(order, parts, strict=True))
    return [cast[index].view_as(weight) for index, weight in enumerate(weights)]


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
