"""Evaluate a model on a file.

Accuracy over the labelled rows; the un-annealed ELBO, importance-weighted NLL and KL over all rows,
in nats per sequence. With --judge, rows are also rewritten under another label, and a classifier
trained on the judge's file decides whether that succeeded.

Under torchrun the processes share the rows; the results are those of one process.
"""

import argparse
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", required=True, metavar="FILE", help="file of rows")
    parser.add_argument("--judge", metavar="FILE", help="labelled rows to train the judge on")
    parser.add_argument("--num-samples", type=int, default=16, metavar="S", help="samples of z")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="seed of the samples")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    from seqssvae.trained import load

    model = load(arguments.run)
    figures = model.evaluate(arguments.data, num_samples=arguments.num_samples, seed=arguments.seed)
    if arguments.judge is not None:
        from seqssvae.compare.swaps import measure_swaps

        figures |= measure_swaps(model, arguments.data, arguments.judge, seed=arguments.seed)
    for name, value in figures.items():
        print(f"{name:20s} {value:.4f}" if isinstance(value, float) else f"{name:20s} {value}")
    return figures
