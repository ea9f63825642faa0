"""A portrait with all that may go wrong in its texts, for tests of what shows it."""

import dataclasses
from typing import Any

import numpy as np

from seqssvae.show.examples import find_confused_pairs
from seqssvae.show.portrait import Portrait
from seqssvae.show.scorecard import Scorecard

EVIL = "</script><script>window.hurt = 1</script><img src=x onerror='window.hurt = 1'>"
ODD = ["$x_1$ and $", "<b>bold</b> &amp; %{x}", "\U0001f9ec \u6f22\u5b57", "long " * 100, ""]


def make_portrait(labels: tuple[str, ...] = ("_a", "<i>b", "c$"), **changes: Any) -> Portrait:
    """40 rows, the first ones with odd texts, the last one without a label."""
    generator = np.random.default_rng(0)
    num_rows, num_classes = 40, len(labels)
    y = np.arange(num_rows) % max(1, num_classes) if labels else np.full(num_rows, -1)
    y[-1] = -1
    probabilities = (
        generator.dirichlet([0.5] * num_classes, num_rows) if labels else np.zeros((40, 0))
    )
    texts = [EVIL, *ODD, *(f"row {i}" for i in range(num_rows - 1 - len(ODD)))]
    portrait = Portrait(
        name="runs/<b>mine",
        source="data/<i>rows.jsonl",
        labels=labels,
        metrics=[
            {"step": 0, "elbo": -9.0, "kl": 0.1, "accuracy": None, "y_gap": None},
            {"step": 5, "elbo": -7.0, "kl": 0.4, "accuracy": 0.5 if labels else None},
        ],
        figures={
            "num_rows": num_rows,
            "num_labelled": 39 if labels else 0,
            "accuracy": 0.5 if labels else None,
            "accuracy_low": 0.35,
            "accuracy_high": 0.65,
            **({"set_size": 1.25, "set_coverage": 0.9} if labels else {}),
            "elbo": -7.25,
            "nll": 7.0,
            "nats_per_symbol": 1.5,
            "kl": 0.6,
            "mutual_information": 0.3,
            "active_units": 2,
            "y_gap": None,
        },
        sequences=texts,
        y=y,
        probabilities=probabilities,
        z_pca=generator.normal(size=(num_rows, 2)),
        z_explained=np.array([0.6, 0.3]),
        z_tsne=generator.normal(size=(num_rows, 2)),
        logits_tsne=generator.normal(size=(num_rows, 2)),
        kl_nats=np.array([0.1, 0.5, 0.0]),
        transfers=[(EVIL, labels[0], [*texts[:num_classes]])] if labels else [],
        walks=[[EVIL, *ODD]],
        samples={name: [EVIL, *ODD] for name in labels or ("",)},
        summary={"num_labelled": 30, "num_unlabelled": 1000, "warnings": ["<b>z</b> is ignored"]},
        free_bits=0.25,
        confused=find_confused_pairs(y, probabilities, labels, texts),
        nearest={name: [EVIL, *texts[8 : 8 + len(ODD)]] for name in labels or ("",)},
        num_compared=1030,
        scorecard=make_scorecard(labels),
    )
    return dataclasses.replace(portrait, **changes)


def make_scorecard(labels: tuple[str, ...]) -> Scorecard:
    """Odd symbols, and a label that nothing was generated for."""
    figures: dict[str, Any] = {"num_sequences": 400, "num_reference": 40, "unique": 0.75}
    figures |= {"perplexity": 12.5, "reference_perplexity": 10.0}
    if labels:
        shares = [None, *np.linspace(0.5, 1, len(labels) - 1).tolist()]
        figures |= {"label_agreement": 0.7, "judge_accuracy": 0.9, "agreement_of_classes": shares}
    symbols = [(symbol, 0.1, 0.2) for symbol in (EVIL, *ODD, " ")]
    return Scorecard(figures, ([0, 1, 5], [3, 70]), symbols)
