"""Training and held-out rows: drawn by row id, whatever the order of the rows."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from seqssvae.data.labels import class_sizes, draw_rows, hash_bytes

Integers = NDArray[np.int64]


def split_dev(
    rows: ArrayLike, labels: ArrayLike, ids: Iterable[str], fraction: float, seed: int
) -> tuple[Integers, Integers]:
    """Split labelled rows into train and dev, each class in proportion.

    Args:
        rows: Row numbers to split; their y is not -1.
        labels: y of every row of the corpus, `[n]`.
        ids: Ids of every row of the corpus, `[n]`.
        fraction: Share of the rows that goes to dev, rounded to whole rows over all classes; every
            class keeps a row in train.
        seed: Seed of the split.

    Returns:
        Ascending row numbers of train and of dev.

    Raises:
        ValueError: the fraction is not from 0 to 1, or a row is unlabelled.
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"fraction: wanted a number from 0 to 1, got {fraction}")
    chosen, known = np.asarray(rows, dtype=np.int64), np.asarray(labels, dtype=np.int32)
    y = np.full_like(known, -1)
    y[chosen] = known[chosen]
    if (y[chosen] < 0).any():
        raise ValueError("wanted labelled rows, got some with y = -1")
    sizes = class_sizes(y)
    # largest remainders: the whole rows of every class first, then the rest by what is left over
    quotas = np.minimum((fraction * sizes).astype(np.int64), np.maximum(sizes - 1, 0))
    missing = round(fraction * len(chosen)) - int(quotas.sum())
    unfilled = sorted(
        np.flatnonzero(quotas < sizes - 1).tolist(),
        key=lambda k: (quotas[k] - fraction * sizes[k], hash_bytes(seed, "dev class", str(k))),
    )
    quotas[unfilled[: max(missing, 0)]] += 1
    dev = draw_rows(y, ids, quotas, seed, "dev")
    y[dev] = -1
    return np.flatnonzero(y >= 0), dev


def hold_out(is_free: NDArray[np.bool_], ids: Iterable[str], num_rows: int, seed: int) -> Integers:
    """Draw rows to hold out.

    Args:
        is_free: Which rows can be drawn, `[n]`.
        ids: Ids of all rows, `[n]`.
        num_rows: Number of rows to draw; all that are free if they are fewer.
        seed: Seed of the draw.

    Returns:
        Row numbers, ascending.
    """
    y = is_free.astype(np.int8) - 1
    quotas = np.minimum(class_sizes(y), num_rows)
    return draw_rows(y, ids, quotas, seed, "held out")
