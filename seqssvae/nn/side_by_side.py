"""Two recurrent networks of the same sizes over the same rows, run as one on a GPU.

A GPU takes as long for a step of a few rows as for one of twice as many units: what costs time is
to launch its kernels. So two networks of H units become one of 2 H units, whose matrices have the
two networks' own as blocks and zeros elsewhere.
"""

import torch
from torch import Tensor, nn

from seqssvae.nn.engine import kernels_for
from seqssvae.nn.recurrent import Packing, compute_dtype, in_reading_order, one_piece, run_plain

Network = nn.LSTM | nn.GRU

# multiplications of a step, by bytes of a number, that a GPU does while it launches the next one
FREE_PRODUCTS = {2: 2**32, 4: 2**28, 8: 2**27}


def are_faster_together(first: Network, second: Network, num_rows: int) -> bool:
    """Whether `states_of_both` takes less time than one network after the other."""
    weight, other = (rnn.all_weights[0][1] for rnn in (first, second))
    if first is second or not weight.is_cuda or kernels_for(weight) is not None:
        return False
    products = 4 * num_rows * weight.numel()
    return weight.shape == other.shape and products <= FREE_PRODUCTS[compute_dtype(first).itemsize]


def states_of_both(
    networks: tuple[Network, Network],
    inputs: tuple[Tensor, Tensor],
    packing: Packing,
    position: Tensor,
) -> tuple[Tensor, Tensor]:
    """States of both networks, each as of `rnn_states`.

    Args:
        networks: Of the same kind, sizes and dropout.
        inputs: Inputs of each, in packed order, `[S, E]`.
        packing: Layout of the rows, of which each reads its own sequence.
        position: Symbol that each direction reads at each packed position, `[D, S]`.

    Returns:
        Two tensors `[D, S, H]`.
    """
    first, second = networks
    dtype = compute_dtype(first)
    weights = one_piece(_merge(first, second), dtype)
    states = run_plain(first, weights, torch.cat(inputs, 1).to(dtype), packing)
    parts = states.unflatten(1, (len(position), 2, -1)).permute(2, 1, 0, 3)  # [2, D, S, H]
    both = [in_reading_order(part, packing, position) for part in parts]
    return both[0], both[1]


def _merge(first: Network, second: Network) -> list[Tensor]:
    """Weights of the one network, whose units are gate by gate those of both."""
    merged: list[Tensor] = []
    for layer, (one, other) in enumerate(zip(first.all_weights, second.all_weights, strict=True)):
        directions = 2 if first.bidirectional and layer >= 2 else 1  # each has units of both
        for weights in zip(one, other, strict=True):
            if weights[0].dim() == 1:
                merged.append(_by_gate(first, *weights))
                continue
            blocks = directions if weights[0] is one[0] else 1
            a, b = (weight.view(len(weight), blocks, 1, -1) for weight in weights)
            zeros = torch.zeros_like(a)
            rows = _by_gate(first, torch.cat([a, zeros], 2), torch.cat([zeros, b], 2))
            merged.append(rows.flatten(1))
    return merged


def _by_gate(rnn: Network, a: Tensor, b: Tensor) -> Tensor:
    """Rows of both, `[2 G, ...]`: for each gate those of the first, then those of the second."""
    gates = len(a) // rnn.hidden_size
    parts = [part.unflatten(0, (gates, rnn.hidden_size)) for part in (a, b)]
    return torch.cat(parts, 1).flatten(0, 1)
