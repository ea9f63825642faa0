"""Train a model on labelled and unlabelled rows.

A file's rows are {"text": ..., "label": ...} or {"tokens": [...], "label": ...}: jsonl, csv, tsv,
parquet, txt or FASTA, gzipped or not. A missing, null or empty label means unlabelled. Several
files are one corpus.

Under torchrun the processes share each step; all of them must see the same files.
"""

import argparse
from pathlib import Path
from typing import Any

from seqssvae.cli.settings import add_rows, add_settings, read_settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_rows(
        parser,
        "--data",
        required=True,
        metavar="FILE|hub:NAME",
        help="training rows",
    )
    add_rows(parser, "--test", help="rows to evaluate on after training")
    add_rows(parser, "--unlabelled", help="more rows, whose labels are not read")
    parser.add_argument(
        "--resume", action="store_true", help="continue from the last checkpoint in RUN"
    )
    parser.add_argument("--out", required=True, metavar="RUN", type=Path, help="new output folder")
    add_settings(parser, budget=True)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    config = read_settings(arguments)
    from seqssvae.data.prepare import warn_of_test_rows_seen
    from seqssvae.trained import load
    from seqssvae.training.fit import fit

    if arguments.test is not None:
        warn_of_test_rows_seen(
            config, arguments.data, arguments.test, unlabelled_source=arguments.unlabelled
        )
    summary = fit(
        config,
        arguments.data,
        arguments.out,
        unlabelled=arguments.unlabelled,
        resume=arguments.resume,
        show_bar=True,
    )
    if arguments.test is not None:
        summary["test"] = load(arguments.out, config.training.device).evaluate(arguments.test)
    print(f"saved to {arguments.out}")
    if arguments.test is not None:
        print(f"test accuracy {summary['test']['accuracy']}")
    return summary
