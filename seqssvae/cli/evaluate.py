"""Evaluate a model on a file.

Accuracy, F1, log-loss and calibration over all labelled rows; the un-annealed ELBO, importance-
weighted NLL and KL in nats per sequence, with their standard errors, over 1,000 rows drawn by the
seed, or over --likelihood-rows. With --judge, rows are also rewritten under another label, and a
classifier trained on the judge's file decides whether that succeeded.

Under torchrun the processes share the rows; the results are those of one process.
"""

import argparse
from typing import Any

from seqssvae.cli.settings import add_columns, add_rows, load_run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_rows(parser, "--data", required=True, help="rows")
    add_columns(parser)
    add_rows(parser, "--judge", help="labelled rows to train the judge on")
    parser.add_argument("--num-samples", type=int, default=4, metavar="S", help="samples of z")
    parser.add_argument(
        "--likelihood-rows",
        type=_rows,
        default=1000,
        metavar="N|all",
        help="rows for ELBO, NLL, KL",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="seed of samples and rows")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    model = load_run(arguments)
    figures = model.evaluate(
        arguments.data,
        num_samples=arguments.num_samples,
        likelihood_rows=arguments.likelihood_rows,
        seed=arguments.seed,
    )
    if arguments.judge is not None:
        from seqssvae.compare.swaps import measure_swaps

        figures |= measure_swaps(model, arguments.data, arguments.judge, seed=arguments.seed)
    for name, value in figures.items():
        if not name.endswith("_se"):
            error = figures.get(f"{name}_se")
            spread = "" if error is None else f" +/- {error:.4f}"
            shown = f"{value:.4f}{spread}" if isinstance(value, float) else value
            print(f"{name:20s} {shown}")
    return figures


def _rows(text: str) -> int | None:
    if text == "all":
        return None
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"wanted a number or all, got {text!r:.40}") from None
