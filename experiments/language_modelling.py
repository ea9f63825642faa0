"""Does z cost likelihood? Compare the VAE with its recurrent decoder as a language model.

    python experiments/language_modelling.py --data train.jsonl --test test.jsonl --num-labels 100

The language model has neither y nor z nor n-grams and is trained on all rows without their labels;
everything else is the same. Settings are given as in `seqssvae train`. The NLL is that of the test
rows: exact for the language model; for the VAE an importance-weighted estimate (Burda et al. 2016),
which is an upper bound in expectation.
"""

import dataclasses
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from seqssvae.cli.parser import Parser
from seqssvae.cli.settings import add_settings, read_settings
from seqssvae.compare.compare import limit_minutes
from seqssvae.config import Config
from seqssvae.data.encoded import EncodedRows
from seqssvae.data.labels import Labels
from seqssvae.data.prepare import Prepared, prepare
from seqssvae.data.sources import read_like
from seqssvae.errors import InputError
from seqssvae.inference.evaluate import evaluate
from seqssvae.overrides import override
from seqssvae.training.fit import train

PARTS = 20  # parts of the test rows for the standard error


def as_language_model(config: Config, prepared: Prepared) -> tuple[Config, Prepared]:
    """The same recurrent decoder without y and z, and the same rows without labels."""
    rows = EncodedRows.concatenate([prepared.labelled.with_labels(None), prepared.unlabelled])
    plain = dataclasses.replace(
        prepared,
        labels=Labels(()),
        labelled=prepared.labelled.take(np.arange(0)),
        unlabelled=rows,
        dev=prepared.dev.with_labels(None),
    )
    return override(config, {"model.latent_size": 0, "model.decoder_ngrams": 0}), plain


def measure(
    config: Config, prepared: Prepared, test: EncodedRows, num_samples: int
) -> dict[str, Any]:
    """Train a model and evaluate it on test rows.

    Returns:
        The metrics of `evaluate`, and also `parts`, the NLL in nats per row of each part of the
        rows, `[PARTS]`, and `minutes`.
    """
    trainer = train(config, prepared)
    model, progress = trainer.model, trainer.progress
    figures = evaluate(model, test, num_samples=1)
    size = len(test) // PARTS  # parts of equal size; the last few rows are left out
    parts = [
        evaluate(
            model,
            test.take(np.arange(part * size, (part + 1) * size)),
            num_samples=num_samples,
            seed=part,
        )["nll"]
        for part in range(PARTS)
    ]
    return {**figures, "parts": np.array(parts), "minutes": progress.minutes}


def main(argv: Sequence[str] | None = None) -> None:
    """Train both models and print a table."""
    parser = Parser(description=__doc__)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--test", required=True, type=Path)
    parser.add_argument("--samples", type=int, default=100, help="samples of z per test row")
    add_settings(parser, budget=True)
    arguments = parser.parse_args(argv)
    logging.getLogger("seqssvae.training").setLevel(logging.ERROR)
    try:
        config = limit_minutes(read_settings(arguments))
        prepared = prepare(config, arguments.data)
        test = read_like(arguments.test, config, prepared.vocabulary, None)
        if len(test) < PARTS:
            raise InputError(f"{arguments.test}: wanted at least {PARTS} rows, got {len(test)}")
    except InputError as error:
        parser.error(str(error))
    results = {
        "VAE": measure(config, prepared, test, arguments.samples),
        "language model": measure(*as_language_model(config, prepared), test, 1),
    }
    difference = results["VAE"]["parts"] - results["language model"]["parts"]
    print("| | NLL | per symbol | KL | active units | minutes |")
    print("| --- | --: | --: | --: | --: | --: |")
    symbols = test.lengths.mean()
    for name, figures in results.items():
        nll = figures["parts"].mean()
        print(
            f"| {name} | {nll:.2f} | {nll / symbols:.3f} | "
            f"{figures['kl']:.2f} | {figures['active_units']} | {figures['minutes']:.1f} |"
        )
    half = 2 * difference.std(ddof=1) / math.sqrt(PARTS)
    print(f"\nVAE minus language model: {difference.mean():+.2f} +- {half:.2f} nats per row")


if __name__ == "__main__":
    main()
