"""Fold, unfold and mask, and the glossary of shapes.

Every docstring of this project uses these letters:

| letter | size of |
| --- | --- |
| `B` | the batch: examples |
| `T` | time: symbols of the longest row, EOS included |
| `V` | the vocabulary |
| `K` | classes; 0 for a model with no y; of several columns of labels, their combinations |
| `C` | columns of labels, if there are several |
| `U` | labels of all columns in turn; K where there is one column |
| `Z` | the latent z |
| `E` | an embedding |
| `H` | a hidden state |
| `F` | the features that an encoder body makes of a sequence |
| `G` | the gates of a recurrent cell: 4 H for an LSTM, 3 H for a GRU |
| `*L` | leading dims: enumerated labels, particles; may be none |
| `N` | rows of the expanded batch, `prod(L) * B` when it was folded from `[*L, B]` |
| `M` | symbols of an expanded batch without padding, `sum(lengths)` over its N rows |

The batch dim is always the rightmost batch dim, and event dims are counted from the right.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

NO_FLOAT64 = ("mps",)  # kinds of devices


def fold(value: Tensor, batch_shape: torch.Size, event_dims: int) -> Tensor:
    """Broadcast to `[*L, B, ...]`, then flatten the leading dims into one batch dim.

    Args:
        value: `[..., *event]`, its batch dims broadcastable to `batch_shape`.
        batch_shape: `[*L, B]`.
        event_dims: Number of dims at the right that are no batch dims.

    Returns:
        `[N, *event]`; row `l * B + b` is leading index l (row-major) of example b.
    """
    event_shape = value.shape[value.dim() - event_dims :]
    return value.expand(*batch_shape, *event_shape).flatten(0, len(batch_shape) - 1)


def unfold(value: Tensor, batch_shape: torch.Size) -> Tensor:
    """Undo `fold`: `[N, *event]` to `[*L, B, *event]`."""
    return value.reshape(*batch_shape, *value.shape[1:])


def length_mask(lengths: Tensor, max_length: int) -> Tensor:
    """Whether a position has a symbol, bool `[B, T]`, from lengths `[B]`."""
    return torch.arange(max_length, device=lengths.device) < lengths.unsqueeze(-1)


def label_index(sizes: Sequence[int]) -> Tensor | None:
    """Number of each column's label, among those of all columns, in each combination, `[K, C]`.

    Args:
        sizes: Number of labels of each column; none for one column, of which the result is None.
    """
    if not sizes:
        return None
    labels = np.stack(np.unravel_index(np.arange(math.prod(sizes)), tuple(sizes)), 1)
    return torch.from_numpy(labels + np.cumsum([0, *sizes[:-1]]))


def of_classes(value: Tensor, index: Tensor | None) -> Tensor:
    """Sums over columns of what their labels have, `[..., U]`, for each class, `[..., K]`."""
    return value if index is None else value[..., index].sum(-1)


def symbol_index(lengths: Tensor) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row and position in its row of each symbol of rows without padding, `[S]` each.

    Args:
        lengths: `[B]`, on the CPU.
    """
    sizes: NDArray[np.int64] = lengths.numpy()
    row = np.repeat(np.arange(len(sizes)), sizes)
    return row, np.arange(len(row)) - (sizes.cumsum() - sizes)[row]


def arrays_to_device(
    arrays: Sequence[NDArray[np.int64]], device: torch.device
) -> tuple[Tensor, ...]:
    """Integers `[n]` of several arrays on another device, in one copy."""
    moved = to_device(torch.from_numpy(np.concatenate(arrays)), device)
    parts: tuple[Tensor, ...] = moved.split([len(array) for array in arrays])
    return parts


def to_device(value: Tensor, device: torch.device) -> Tensor:
    """A tensor on another device; a copy to a GPU is not waited for, nor is what it has to do."""
    if device.type == "cuda" and value.device.type == "cpu":
        return value.pin_memory().to(device, non_blocking=True)
    return value.to(device)


def wide(value: Tensor) -> Tensor:
    """In float64, or in float32 on a device that has no more."""
    return value.float() if value.device.type in NO_FLOAT64 else value.double()


def check_below(name: str, ids: Tensor, size: int, *, least: int = 0) -> None:
    """Make sure that ids on the CPU are from 0 to `size - 1`; elsewhere torch's kernels check them.

    Args:
        name: What they are, for the error.
        ids: Integers of any shape.
        size: More than the greatest.
        least: The least, if it is not 0.

    Raises:
        ValueError: an id is out of range.
    """
    if ids.device.type == "cpu" and ids.numel():
        low, high = map(int, ids.aminmax())
        if low < least or high >= size:
            got = low if low < least else high
            raise ValueError(f"{name}: wanted {least} to {size - 1}, got {got}")


def count_equal(keys: Tensor, mask: Tensor) -> Tensor:
    """Of each key, how many keys are equal to it and in the mask, `[S]`."""
    keys, order = keys.sort()
    is_new = torch.ones_like(keys)
    is_new[1:] = keys[1:] != keys[:-1]
    group = is_new.cumsum(0) - 1  # in place of `unique`, which fetches its number of keys
    counts = torch.zeros(len(keys), device=keys.device)
    counts.index_add_(0, group, mask[order].to(counts))
    return torch.empty_like(counts).index_copy_(0, order, counts[group])
