"""Does unlabelled data help? Compare the SS-VAE with its baselines, over label budgets and draws.

All arms of a draw are trained on the same rows and evaluated on the same test rows. Each chooses
its settings or its number of steps on the labels that are held out (data.dev_fraction), and then
learns all labels. A training has at most 3.5 minutes, unless training.max_minutes is set. The same
command resumes an interrupted run.
"""

import argparse
import logging
from pathlib import Path
from typing import Any

from seqssvae.cli.parser import whole_number
from seqssvae.cli.settings import add_labels, add_rows, add_settings, read_rows, read_settings
from seqssvae.compare.arms import MEANINGS
from seqssvae.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    lines = (f"  {arm:20s} {meaning}" for arm, meaning in MEANINGS.items())
    parser.epilog = "\n".join(["arms:", *lines])
    add_rows(parser, "--data", required=True, metavar="FILE|hub:NAME", help="training rows")
    add_labels(parser)
    add_rows(parser, "--test", required=True, help="test rows")
    add_rows(parser, "--unlabelled", help="more rows, whose labels are not read")
    parser.add_argument("--budgets", default="100", metavar="N,N", help="labelled rows in total")
    parser.add_argument("--draws", type=int, default=3, metavar="N", help="draws of the labels")
    parser.add_argument("--arms", metavar="A,A", help="some of the arms below (default: all)")
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="FILE.jsonl",
        help="results, also those of an earlier run",
    )
    parser.add_argument(
        "--picture", type=Path, metavar="FILE.png", help="plot of the accuracies, PNG or SVG"
    )
    add_settings(parser)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    config = read_settings(arguments)
    from seqssvae.storage.files import check_output, locked, write_atomically

    try:
        budgets = [whole_number(part) for part in arguments.budgets.split(",")]
    except ValueError:
        raise InputError(f"--budgets: wanted N,N, got {arguments.budgets}") from None
    if arguments.draws < 1 or min(budgets) < 1:
        raise InputError("--draws, --budgets: wanted at least 1, got less")
    if arguments.picture is not None:
        if arguments.picture.suffix not in (".png", ".svg"):
            raise InputError(f"--picture: wanted FILE.png or FILE.svg, got {arguments.picture}")
        check_output(arguments.picture, "--picture")
        from seqssvae.show.plots import require

        require("matplotlib")
    from seqssvae.compare.compare import compare, judge, summarise

    of_training = logging.getLogger("seqssvae.training")
    level = of_training.level
    of_training.setLevel(logging.ERROR)
    try:
        with locked(arguments.out, is_file=True):
            records = compare(
                config,
                read_rows(arguments, config),
                read_rows(arguments, config, of="test"),
                budgets=budgets,
                num_draws=arguments.draws,
                arms=arguments.arms.split(",") if arguments.arms else list(MEANINGS),
                out=arguments.out,
                unlabelled=arguments.unlabelled,
            )
    finally:
        of_training.setLevel(level)
    summary = summarise(records)
    if arguments.picture is not None:
        from seqssvae.show.plots import draw_comparison, figure_to_bytes

        figure = draw_comparison(records, summary)
        write_atomically(arguments.picture, figure_to_bytes(figure, arguments.picture.suffix[1:]))
    print(
        f"{'labels':>6s}  {'arm':22s} {'accuracy':>8s} {'macro-F1':>8s} {'ECE':>6s} "
        f"{'seconds':>8s}  SS-VAE minus arm, 95 %"
    )
    for row in summary:
        difference = ""
        if row["difference"] is not None:
            difference = f"{100 * row['difference']:+.1f}"
        if row["low"] is not None:
            difference += f" [{100 * row['low']:+.1f}, {100 * row['high']:+.1f}]"
        print(
            f"{row['num_labels']:6d}  {row['arm']:22s} {100 * row['accuracy']:7.1f}% "
            f"{100 * row['macro_f1']:7.1f}% {row['calibration_error']:6.3f} "
            f"{row['seconds']:8.1f}  {difference}"
        )
    verdicts = judge(summary)
    print("\n".join(["", *verdicts]))
    return {"cells": records, "summary": summary, "verdicts": verdicts}
