"""Evaluate a model on a file.

Accuracy over the labelled rows; the un-annealed ELBO, importance-weighted NLL and KL over all rows,
in nats per sequence. With --judge, rows are also rewritten under another label, and a classifier
trained on the judge's file decides whether that succeeded.

Under torchrun the processes share the rows; the results are those of one process.
"""

import argparse
from typing import Any

from seqssvae.cli.settings import add_columns, add_rows, load_run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_rows(parser, "--data", required=True, help="rows")
    add_columns(parser)
    add_rows(parser, "--judge", help="labelled rows to train the judge on")
    parser.add_argument("--num-samples", type=int, default=16, metavar="S", help="samples of z")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="seed of the samples")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    model = load_run(arguments)
    figures = model.evaluate(arguments.data, num_samples=arguments.num_samples, seed=arguments.seed)
    if arguments.judge is not None:
        from seqssvae.compare.swaps import measure_swaps

        figures |= measure_swaps(model, arguments.data, arguments.judge, seed=arguments.seed)
    for name, value in figures.items():
        print(f"{name:20s} {value:.4f}" if isinstance(value, float) else f"{name:20s} {value}")
    return figures
