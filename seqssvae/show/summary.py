"""What a run learned, how good it is, and what to do next, in plain words."""

import math
from typing import TYPE_CHECKING

import numpy as np

from seqssvae.data.rows import list_names

if TYPE_CHECKING:
    from seqssvae.show.portrait import Portrait

SHOWN_LABELS = 8
WIDE = 0.1  # of an interval of accuracy, which 400 rows make narrower
OFTEN = 0.05  # of a label's rows, that are given the same other label


def summarise(portrait: "Portrait") -> tuple[str, str, str]:
    """Three sentences: what was learned from how many labels, how good it is, what to do next."""
    return _learned(portrait), _quality(portrait), f"Next: {_advice(portrait)}."


def most_common_share(portrait: "Portrait") -> float:
    """The accuracy of giving every row the most common label, of the labelled rows."""
    counts = np.bincount(portrait.y[portrait.y >= 0], minlength=1)
    return float(counts.max() / max(counts.sum(), 1))


def _learned(portrait: "Portrait") -> str:
    summary = portrait.summary
    labelled, unlabelled = summary.get("num_labelled", 0), summary.get("num_unlabelled", 0)
    if not portrait.labels:
        return f"This model learned from {_count(unlabelled)} to write sequences like them."
    if summary.get("dev_labels_learned"):
        labelled += summary["dev"].get("num_labelled") or 0
    names = list_names(portrait.labels, SHOWN_LABELS)
    voters = (
        f"{name!r} ({_percent(one['accuracy'])} right)"
        for name, one in summary.get("voters", {}).items()
    )
    listed = ", ".join(voters)
    return (
        f"This model learned {_count(len(portrait.labels), 'label')}, {names}, from "
        f"{_count(labelled)} with a label and {_count(unlabelled)} without"
        f"{f', and from votes, as it believes: {listed}' if listed else ''}."
    )


def _quality(portrait: "Portrait") -> str:
    figures = portrait.figures
    seen = "training has seen them" if portrait.learned else "training did not learn from them"
    if not portrait.labels:
        probability = math.exp(-figures["nats_per_symbol"])
        return (
            f"It gives a symbol of the {_count(figures['num_rows'])} shown here ({seen}) a "
            f"probability of {_percent(probability)}, on a geometric average."
        )
    if not figures.get("num_labelled"):
        return "How often it is right is not known, since none of the rows shown here has a label."
    low, high = figures["accuracy_low"], figures["accuracy_high"]
    return (
        f"It labels {_percent(figures['accuracy'])} of {_count(figures['num_labelled'])} correctly "
        f"({seen}; 95 % interval {_percent(low)} to {_percent(high)}), where the most common label "
        f"alone would be right for {_percent(most_common_share(portrait))}."
    )


def _advice(portrait: "Portrait") -> str:
    """The most urgent thing to do."""
    if not portrait.labels:
        return "read the generated sequences below; to classify, train again with some labels"
    if not portrait.figures.get("num_labelled"):
        return "measure it on rows with labels, by seqssvae report RUN --data FILE"
    if len(portrait.labels) == 1:
        return "give some rows another label, since a classifier needs two"
    if portrait.learned:
        return (
            "measure it on labelled rows that it has not seen, by seqssvae report RUN --data FILE"
        )
    low, high = portrait.figures["accuracy_low"], portrait.figures["accuracy_high"]
    if low <= most_common_share(portrait):
        return (
            "find out whether the label can be seen in a sequence, since this may be no better "
            "than guessing; if it can, label more rows and train again"
        )
    if high - low > WIDE:
        return (
            "measure it on more labelled rows, by seqssvae report RUN --data FILE, since the "
            "interval is wide; with 400 rows it is at most 5 points to either side"
        )
    if portrait.confused and portrait.confused[0].share > OFTEN:
        pair = portrait.confused[0]
        return (
            f"label more rows of {pair.true!r} and {pair.predicted!r}, which it confuses most, "
            "and train again"
        )
    return "use it, by seqssvae classify RUN --data FILE --out FILE.jsonl"


def _count(number: int, what: str = "row") -> str:
    return f"{number:,} {what}{'s' * (number != 1)}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
