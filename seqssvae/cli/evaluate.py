"""Evaluate a model on a file.

Accuracy, F1, log-loss and calibration over all labelled rows, precision, recall and F1 of each
class, and the confusion matrix (rows: the labels; columns: predictions); the un-annealed ELBO,
importance-weighted NLL and KL in nats per sequence, with their standard errors, over 1,000 rows
drawn by the seed, or over --likelihood-rows. With --judge, rows are also rewritten under another
label, and a classifier trained on the judge's file decides whether that succeeded.

Under torchrun the processes share the rows; the results are those of one process.
"""

import argparse
import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqssvae import distributed
from seqssvae.cli.classify import warn_of_few_rows
from seqssvae.cli.parser import whole_number
from seqssvae.cli.settings import (
    add_columns,
    add_labels,
    add_rows,
    load_config,
    load_run,
    read_rows,
)
from seqssvae.errors import InputError

if TYPE_CHECKING:
    from seqssvae.trained import TrainedModel

logger = logging.getLogger(__name__)

# shown otherwise
HIDDEN = ("accuracy_low", "accuracy_high", "classes", "confusion", "columns", "levels")
MAX_SHOWN = 10  # classes of a confusion matrix that is printed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_rows(parser, "--data", required=True, help="rows")
    add_labels(parser)
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
    parser.add_argument("--coverage", type=float, metavar="P", help="of sets that are measured too")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    model = load_run(arguments)
    options = {"coverage": arguments.coverage, "novel": None, "mode": model.default_mode}
    warn_of_few_rows(model, options)
    distributed.from_writer(lambda: _warn_of_rows_seen(model, arguments))
    data = read_rows(arguments, model.config)
    figures = model.evaluate(
        data,
        num_samples=arguments.num_samples,
        likelihood_rows=arguments.likelihood_rows,
        seed=arguments.seed,
        coverage=arguments.coverage,
    )
    if arguments.judge is not None:
        from seqssvae.compare.swaps import measure_swaps

        figures |= measure_swaps(model, data, arguments.judge, seed=arguments.seed)
    _print(figures)
    return figures


def _warn_of_rows_seen(model: "TrainedModel", arguments: argparse.Namespace) -> None:
    """Warn of rows that are training rows too, if the files of training are still there."""
    from seqssvae.data.audit import count_shared
    from seqssvae.data.sources import read_corpus_like
    from seqssvae.data.tables import HUB_PREFIX
    from seqssvae.runs.run import training_files

    files = training_files(arguments.run, model.manifest)
    if files is None or any(file.startswith(HUB_PREFIX) for file in files):
        return
    with contextlib.suppress(InputError):  # other files: no warning; bad rows: `evaluate` says so
        trained = load_config(Path(arguments.run) / "config.json")
        rows, training = (
            read_corpus_like(source, config, model.vocabulary, read_labels=False)
            for source, config in ((arguments.data, model.config), (files, trained))
        )
        if seen := count_shared(rows, [training]):
            logger.warning(
                f"{seen} of {len(rows)} rows are also rows of {training.source}, which the run was "
                "trained on: results are optimistic"
            )


def _print(figures: Mapping[str, Any]) -> None:
    """All figures, and a table of the classes, or of those of each of several columns."""
    from seqssvae.inference.tally import describe_accuracy

    for name, value in figures.items():
        if name.endswith("_se") or name in HIDDEN:
            continue
        error = figures.get(f"{name}_se")
        spread = "" if error is None else f" +/- {error:.4f}"
        if name == "accuracy" and value is not None:
            low, high = figures["accuracy_low"], figures["accuracy_high"]
            spread = f" (95 % interval {low:.4f} to {high:.4f})"
        shown = f"{value:.4f}{spread}" if isinstance(value, float) else value
        print(f"{name:20s} {shown}")
    parts = {f"column {name}": one for name, one in figures.get("columns", {}).items()}
    parts |= {f"level {n}": one for n, one in enumerate(figures.get("levels", []), start=1)}
    for name, part in parts.items():
        print(f"\n{name}: accuracy {describe_accuracy(part['accuracy'], part['num_labelled'])}")
        if part["classes"]:
            print("\n".join(class_table(part["classes"], part["confusion"])))
    if figures.get("classes") and "columns" not in figures:
        print("\n" + "\n".join(class_table(figures["classes"], figures["confusion"])))


def class_table(
    classes: Mapping[str, Mapping[str, Any]], confusion: Sequence[Sequence[int]] | None
) -> Iterator[str]:
    """Lines of a table of the classes, and of the confusion matrix where it is small.

    Args:
        classes: As of `evaluate`.
        confusion: As of `evaluate`.
    """
    names = list(classes)
    width = max(map(len, ("class", *names)))
    yield f"{'class':{width}s}    rows precision  recall      F1  most often taken for"
    for row, (name, one) in enumerate(classes.items()):
        figures = [one[key] for key in ("precision", "recall", "f1")]
        shown = ["-" if value is None else f"{value:.3f}" for value in figures]
        wrong = [] if confusion is None else [*confusion[row][:row], 0, *confusion[row][row + 1 :]]
        most = max(wrong, default=0)
        other = f"  {names[wrong.index(most)]} ({most})" if most else ""
        yield (
            f"{name:{width}s} {one['num_labelled']:7d} {shown[0]:>9s} {shown[1]:>7s} "
            f"{shown[2]:>7s}{other}"
        )
    if confusion is not None and len(names) <= MAX_SHOWN:
        cell = max(7, *map(len, names))
        yield ""
        yield f"{'':{width}s} " + " ".join(f"{name:>{cell}s}" for name in names) + "  predicted"
        for name, counts in zip(names, confusion, strict=True):
            yield f"{name:{width}s} " + " ".join(f"{count:{cell}d}" for count in counts)


def _rows(text: str) -> int | None:
    if text == "all":
        return None
    try:
        return whole_number(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"wanted a number or all, got {text!r:.40}") from None
