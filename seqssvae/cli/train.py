"""Train a model on labelled and unlabelled rows.

A file's rows are {"text": ..., "label": ...} or {"tokens": [...], "label": ...}: jsonl, csv, tsv,
parquet, txt or FASTA, compressed or not. A missing, null or empty label means unlabelled. Several
files are one corpus.

Under torchrun the processes share each step; all of them must see the same files.
"""

import argparse
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqssvae.cli.settings import add_labels, add_rows, add_settings, read_rows, read_settings
from seqssvae.errors import InputError
from seqssvae.overrides import override

if TYPE_CHECKING:
    from seqssvae.config import Config

MAX_EPOCHS = 1e9

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_rows(
        parser,
        "--data",
        required=True,
        metavar="FILE|hub:NAME",
        help="training rows",
    )
    add_labels(parser)
    add_rows(parser, "--test", help="rows to evaluate on after training")
    add_rows(parser, "--unlabelled", help="more rows, whose labels are not read")
    parser.add_argument(
        "--resume", action="store_true", help="continue from the last checkpoint in RUN"
    )
    parser.add_argument(
        "--from",
        dest="start",
        metavar="RUN",
        type=Path,
        help="finished run to start from; rows may have more symbols and classes",
    )
    parser.add_argument(
        "--epochs",
        type=float,
        metavar="X",
        help="passes over the rows without a label, or over all if each has one, in place of "
        "training.num_steps",
    )
    parser.add_argument("--out", required=True, metavar="RUN", type=Path, help="new output folder")
    add_settings(parser, budget=True)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    start, before, known = None, None, tuple[str, ...]()
    if arguments.start is not None:
        from seqssvae.training.start import StartingRun, start_settings

        start = StartingRun.load(arguments.start)
        before, known = start_settings(start.contents.config), start.contents.labels.names
    config = read_settings(arguments, before)
    from seqssvae.data.prepare import warn_of_test_rows_seen
    from seqssvae.trained import load
    from seqssvae.training.fit import fit
    from seqssvae.training.messages import warn_of_unread

    if config.training.classifier_only:
        warn_of_unread(config)
    data, test = (read_rows(arguments, config, of=name) for name in ("data", "test"))
    if arguments.epochs is not None:
        config = _with_steps(config, arguments, data)
    if test is not None:
        warn_of_test_rows_seen(
            config,
            data,
            test,
            unlabelled_source=arguments.unlabelled,
            known=known,
        )
    summary = fit(
        config,
        data,
        arguments.out,
        unlabelled=arguments.unlabelled,
        resume=arguments.resume,
        start=start,
        show_bar=True,
    )
    if test is not None:
        summary["test"] = load(arguments.out, config.training.device).evaluate(test)
    _print(summary, config)
    return summary


def _with_steps(config: "Config", arguments: argparse.Namespace, data: Any) -> "Config":
    """The settings with the number of steps of `--epochs`."""
    if config.training.classifier_only:
        raise InputError("wanted --epochs or --classifier-only, which takes no steps, got both")
    if "training.num_steps" in vars(arguments):
        raise InputError("wanted --epochs or --training.num_steps, got both")
    if not 0 < arguments.epochs < MAX_EPOCHS:
        raise InputError(
            f"--epochs: wanted more than 0 and less than {MAX_EPOCHS:g}, got {arguments.epochs:g}"
        )
    from seqssvae.data.prepare import steps_of_epoch

    steps = steps_of_epoch(config, data, unlabelled_source=arguments.unlabelled)
    num_steps = math.ceil(arguments.epochs * steps)
    logger.info("%g epochs of %.1f steps are %d steps", arguments.epochs, steps, num_steps)
    return override(config, {"training.num_steps": num_steps})


def _print(summary: Mapping[str, Any], config: "Config") -> None:
    """The last lines: why training ended, how good the model is, and where it is."""
    from seqssvae.inference.tally import describe_accuracy

    training, steps = config.training, summary["num_steps"]
    reason = {
        "steps": "all of training.num_steps",
        "patience": f"no better score in {training.patience} evaluations (training.patience); "
        f"the best was at step {summary['best_step']}",
        "time": f"the limit of {training.max_minutes} minutes (training.max_minutes)",
    }
    if summary["stopped_by"] == "classifier-only":
        print("trained the classifiers alone (--classifier-only)")
    else:
        stopped_by = reason.get(summary["stopped_by"], summary["stopped_by"])
        print(f"ended after {steps} steps: {stopped_by}")
    dev, mode = summary["dev"], summary["mode"]
    if dev.get("num_mode_rows"):
        accuracy = describe_accuracy(dev[f"{mode}_accuracy"], dev["num_mode_rows"])
        print(f"accuracy on held-out rows {accuracy}")
    if "test" in summary:
        test = summary["test"]
        print(f"test accuracy {describe_accuracy(test['accuracy'], test['num_labelled'])}")
        for name, one in test.get("columns", {}).items():
            accuracy = describe_accuracy(one["accuracy"], one["num_labelled"])
            print(f"test accuracy of {name} {accuracy}")
    print(f"saved to {summary['run']}")
