"""What is said of each row that is classified: label, set, and whether it is undecided or new."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqssvae.data.encoded import EncodedRows
from seqssvae.data.labels import Labels
from seqssvae.errors import check_share
from seqssvae.inference.conformal import label_sets
from seqssvae.inference.novelty import log_prob_per_symbol
from seqssvae.inference.novelty import novelty as novelty_of
from seqssvae.model.ssvae import SSVAE

Float64 = NDArray[np.float64]

NONE_OF_THESE = "none of the classes"
OF_COLUMN = ("label", "probability", "probabilities")  # also given of each of several columns


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


def answer_rows(
    model: SSVAE,
    rows: EncodedRows,
    labels: Labels,
    classify: Callable[[EncodedRows], Float64],
    *,
    greatest: Float64 | None = None,
    abstain: float | None = None,
    reference: Float64 | None = None,
    novel: float | None = None,
) -> Iterator[dict[str, Any]]:
    """`answers` for any number of rows, of which some are classified at a time.

    With several columns of labels, a row has the `label`, `probability` and `probabilities` of each
    of them too, as `label_COLUMN` and so on. With a label tree it has `levels`: of each level above
    the leaves, from the top down, the `label` and the `probability` of the most probable node.

    Args:
        model: The model.
        rows: The rows.
        labels: The classes.
        classify: Gives the probabilities of every label, `[n, K]`, for n rows.
        greatest: As in `answers`.
        abstain: As in `answers`.
        reference: log p(x) / T of held-out rows, for `novelty` of the rows.
        novel: As in `answers`.

    Raises:
        InputError: `abstain` or `novel` is out of range.
    """
    for name, share in {"abstain": abstain, "novel": novel}.items():
        if share is not None:
            check_share(name, share)

    def answer(part: EncodedRows) -> Iterator[dict[str, Any]]:
        is_new = None
        table = classify(part)
        if reference is not None:
            is_new = novelty_of(log_prob_per_symbol(model, part, num_samples=0), reference)
        of_columns = [
            answers(labels.marginal(column, table), names, None, abstain, is_new, novel)
            for column, names in labels.columns.items()
        ]
        of_rows = answers(table, labels.names, greatest, abstain, is_new, novel)
        levels = [] if labels.tree is None else labels.tree.sums(table)
        for number, (found, *others) in enumerate(zip(of_rows, *of_columns, strict=True)):
            if labels.tree is not None:
                best = [
                    {"label": names[one[number].argmax()], "probability": float(one[number].max())}
                    for (names, _), one in zip(labels.tree.levels, levels, strict=True)
                ]
                found["levels"] = best
            for column, of_column in zip(labels.columns, others, strict=True):
                found |= {f"{name}_{column}": of_column[name] for name in OF_COLUMN}
            yield found

    # a table of all rows might not fit in memory
    return itertools.chain.from_iterable(map(answer, rows.parts()))
