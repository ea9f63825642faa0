"""What is said of each row that is classified: label, set, and whether it is undecided or new."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqssvae.inference.conformal import label_sets

Float64 = NDArray[np.float64]

NONE_OF_THESE = "none of the classes"


def answers(
    probabilities: Float64,
    names: Sequence[str],
    greatest: Float64 | None = None,
    abstain: float | None = None,
    novelty: Float64 | None = None,
    novel: float | None = None,
) -> Iterator[dict[str, Any]]:
    """Plain values for each row.

    Args:
        probabilities: Of every label, `[n, K]`.
        names: Of the classes, K.
        greatest: Of `greatest_losses`, `[K]`, for sets of labels.
        abstain: The least probability of a label, below which a row is left undecided.
        novelty: Of each row, `[n]`.
        novel: The greatest p-value, 1 - novelty, of a row that is none of the classes.

    Yields:
        `label`: the name of the most probable class; None for an undecided row, and
        `NONE_OF_THESE` for a new one; `probability` of that class, and `probabilities` of all by
        name. With `greatest`: `set`, the names in the set, the most probable one first; with
        `abstain`: `abstained`; with `novelty`: `novelty`.
    """
    sets = None if greatest is None else label_sets(probabilities, greatest)
    for number, row in enumerate(probabilities):
        best = int(row.argmax())
        answer: dict[str, Any] = {"label": names[best], "probability": float(row[best])}
        answer["probabilities"] = dict(zip(names, row.tolist(), strict=True))
        if sets is not None:
            inside = sets[number].nonzero()[0]
            order = inside[np.argsort(-row[inside], kind="stable")]
            answer["set"] = [names[y] for y in order]
        if abstain is not None:
            answer["abstained"] = bool(row[best] < abstain)
            answer["label"] = None if answer["abstained"] else answer["label"]
        if novelty is not None:
            answer["novelty"] = float(novelty[number])
            if novel is not None and round(1 - novelty[number], 9) <= novel:
                answer["label"] = NONE_OF_THESE
        yield answer
