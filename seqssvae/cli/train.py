"""Train a model on labelled and unlabelled rows.

A file's rows are {"text": ..., "label": ...} or {"tokens": [...], "label": ...}: jsonl, csv, tsv,
parquet or txt, gzipped or not. A missing, null or empty label means unlabelled.

Under torchrun the processes share each step; all of them must see the same files.
"""

import argparse
import logging
from pathlib import Path
from typing import Any

from seqssvae.config import Config, describe_fields, load_config, override
from seqssvae.errors import InputError

FLAGS = {
    "text_column": "data.text_column",
    "tokens_column": "data.tokens_column",
    "label_column": "data.label_column",
    "labels_per_class": "data.labels_per_class",
    "num_labels": "data.num_labels",
    "vocabulary": "data.vocabulary",
    "estimator": "estimator.name",
    "seed": "training.seed",
}

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument("--data", required=True, metavar="FILE|hub:NAME", help="training rows")
    parser.add_argument("--test", metavar="FILE", help="rows to evaluate on after training")
    parser.add_argument("--unlabelled", metavar="FILE", help="more rows; their labels are not read")
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--labels-per-class", metavar="N", help="hide all labels but N per class")
    budget.add_argument("--num-labels", metavar="N", help="hide all labels but N")
    parser.add_argument("--resume", action="store_true", help="go on from RUN's checkpoint")
    parser.add_argument("--out", required=True, metavar="RUN", type=Path, help="a new folder")
    add_settings(parser)


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Declare what `settings` reads, and list the settings in the help."""
    columns = parser.add_mutually_exclusive_group()
    columns.add_argument("--text-column", metavar="C", help="default: text, or a name like it")
    columns.add_argument("--tokens-column", metavar="C", help="default: tokens")
    parser.add_argument("--label-column", metavar="C", help="default: label, or a name like it")
    parser.add_argument("--vocabulary", metavar="KIND", help="sentencepiece, characters or tokens")
    parser.add_argument("--estimator", metavar="NAME", help="how y is summed: fused-enum, ...")
    parser.add_argument("--seed", metavar="S", help="of the split, the weights and the noise")
    parser.add_argument("--config", metavar="FILE.yaml", type=Path, help="settings; flags win")
    listed = "\n".join(f"  --{k} {t}  (default {d})" for k, t, d in describe_fields())
    parser.epilog = f"settings, each also a key of the YAML file:\n{listed}"


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Train, and save the run."""
    config = settings(arguments)
    from seqssvae.data.prepare import count_test_rows_seen
    from seqssvae.trained import load
    from seqssvae.training.fit import fit

    if arguments.test is not None:
        seen = count_test_rows_seen(
            config, arguments.data, arguments.test, unlabelled_source=arguments.unlabelled
        )
        if seen:
            logger.warning("%d test rows are among the training rows: figures flatter", seen)
    summary = fit(
        config,
        arguments.data,
        arguments.out,
        unlabelled=arguments.unlabelled,
        resume=arguments.resume,
        show_bar=True,
    )
    if arguments.test is not None:
        summary["test"] = load(arguments.out).evaluate(arguments.test)
    if not arguments.json:
        print(f"saved to {arguments.out}")
        if arguments.test is not None:
            print(f"test accuracy {summary['test']['accuracy']}")
    return summary


def settings(arguments: argparse.Namespace) -> Config:
    """The config that file, overrides and flags make together.

    Raises:
        InputError: an unknown setting or a value that does not fit.
    """
    config = Config() if arguments.config is None else load_config(arguments.config)
    changes = _overrides(arguments.rest)
    for flag, key in FLAGS.items():
        value = getattr(arguments, flag, None)
        if value is not None:
            changes[key] = value
    if {"data.num_labels", "data.labels_per_class"} & set(changes):
        # a flag replaces the budget of the file, whichever kind that is
        changes.setdefault("data.num_labels", None)
        changes.setdefault("data.labels_per_class", None)
    return override(config, changes)


def _overrides(rest: list[str]) -> dict[str, Any]:
    """`--a.b VALUE` and `--a.b=VALUE` as a mapping."""
    changes: dict[str, Any] = {}
    words = iter(rest)
    for word in words:
        if not word.startswith("--"):
            raise InputError(f"wanted --section.name VALUE, got {word}")
        key, equals, value = word[2:].partition("=")
        if not equals:
            try:
                value = next(words)
            except StopIteration:
                raise InputError(f"--{key}: wanted a value, got none") from None
        changes[key] = value
    return changes
