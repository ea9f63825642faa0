"""Rows under other labels, and sequences between two of them, for the pictures of a run."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqssvae.show.examples import show_sequence
from seqssvae.trained import TrainedModel

Floats = NDArray[np.float64]

NUM_EXAMPLES = 8  # transferred rows, at most
NUM_STEPS, NUM_WALKS = 7, 3  # sequences per interpolation, and interpolations


def transferred(
    trained: TrainedModel, sequences: Sequence[Any], probabilities: Floats
) -> list[tuple[str, str, list[str]]]:
    """For each of the first labels, the row with the highest probability, under every label."""
    names, best = trained.labels.names, probabilities.argmax(1)
    predicted = [y for y in range(min(len(names), NUM_EXAMPLES)) if (best == y).any()]
    chosen = [int(np.where(best == y, probabilities[:, y], -1).argmax()) for y in predicted]
    examples = [sequences[i] for i in chosen]
    columns = [map(show_sequence, trained.transfer(examples, to=name)) for name in names]
    return [
        (show_sequence(example), names[y], list(written))
        for example, y, written in zip(examples, predicted, zip(*columns, strict=True), strict=True)
    ]


def walked(trained: TrainedModel, sequences: Sequence[Any], seed: int) -> list[list[str]]:
    """Interpolations between random pairs of rows."""
    order = np.random.default_rng(seed).permutation(len(sequences))[: 2 * NUM_WALKS].tolist()
    return [
        list(map(show_sequence, trained.interpolate(sequences[a], sequences[b], steps=NUM_STEPS)))
        for a, b in zip(order[::2], order[1::2], strict=False)
    ]
