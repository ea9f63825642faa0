"""Random numbers of a generated sequence: functions of the seed and of its number alone."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seqssvae.shapes import wide

NOISE_STEPS = 64  # uniform numbers that are drawn for a row at once


class Noise:
    """A stream of uniform numbers for each row, a function of the seed and the stream's number."""

    def __init__(self, seed: int, streams: Sequence[int]) -> None:
        self._streams = [np.random.default_rng([seed, number]) for number in streams]
        self._drawn = np.empty((len(streams), NOISE_STEPS))

    def uniform(self, rows: Tensor, step: int) -> Tensor:
        """The numbers of a step for some rows, `[n]`; steps 0, 1, ... come in order."""
        indices = rows.cpu().numpy()
        if step % NOISE_STEPS == 0:
            for row in indices:
                self._drawn[row] = self._streams[row].random(NOISE_STEPS)
        drawn = torch.from_numpy(self._drawn[indices, step % NOISE_STEPS])
        return drawn.to(wide(rows).dtype).to(rows.device)


def standard_normal(seed: int, streams: Sequence[int], size: int) -> NDArray[np.float64]:
    """Standard normal numbers, `[n, size]`, each row by the seed and its number alone."""
    drawn = np.empty((len(streams), size))
    for row, number in enumerate(streams):
        drawn[row] = np.random.default_rng([seed, number]).standard_normal(size)
    return drawn
