"""Measure a trained model on a file.

Accuracy over its labelled rows; in nats per sequence the un-annealed ELBO, importance-weighted NLL
and KL over all of its rows. With --judge, rows are also written anew under another label, and a
classifier that learned from the judge's file says whether that succeeded.

Under torchrun the processes share the rows; the figures are those that one gives.
"""

import argparse
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument("run", metavar="RUN", help="a trained run's folder")
    parser.add_argument("--data", required=True, metavar="FILE", help="rows to measure on")
    parser.add_argument("--judge", metavar="FILE", help="labelled rows to judge label swaps by")
    parser.add_argument("--num-samples", type=int, default=16, metavar="S", help="of z (16)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of the samples (0)")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure."""
    from seqssvae.trained import load

    model = load(arguments.run)
    figures = model.evaluate(arguments.data, num_samples=arguments.num_samples, seed=arguments.seed)
    if arguments.judge is not None:
        from seqssvae.compare.swaps import measure_swaps

        figures |= measure_swaps(model, arguments.data, arguments.judge, seed=arguments.seed)
    if not arguments.json:
        for name, value in figures.items():
            print(f"{name:20s} {value:.4f}" if isinstance(value, float) else f"{name:20s} {value}")
    return figures
