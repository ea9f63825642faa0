"""Do z and the n-grams gain likelihood? The VAE beside a language model, by the number of rows.

    python experiments/language_modelling.py FOLDER words=160 zinc=0 --rows 1000 10000 --jobs 2

FOLDER has a folder for each data set, with `train.jsonl` and `test.jsonl`, gzipped or not; a set is
given with its number of labels, 0 for a model without classes. For each number of training rows
(default: all), which include those with a label, three models learn: the VAE; the VAE without
n-grams in the decoder; and a language model, the same recurrent decoder without y, z and n-grams,
of all rows without their labels. The first one takes the steps of the settings, which are given as
in `seqssvae train`, and the others as many as fit into its minutes.

The NLL is that of the test rows: exact for the language model; for the VAE an importance-weighted
estimate (Burda et al. 2016), which is an upper bound in expectation. Results are appended to
`OUT/NAME.jsonl`, and the same command resumes an interrupted run; each job is a process with one
thread.
"""

import dataclasses
import itertools
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.processes import Job, read_records, run_jobs
from experiments.sets import DataSet, find_file
from seqssvae.cli.parser import Parser
from seqssvae.cli.settings import add_settings, read_settings
from seqssvae.config import Config
from seqssvae.data.corpus import gather_corpus, read_corpus
from seqssvae.data.encoded import EncodedRows
from seqssvae.data.labels import Labels
from seqssvae.data.prepare import Prepared, prepare
from seqssvae.data.sources import read_like
from seqssvae.errors import InputError
from seqssvae.inference.evaluate import evaluate
from seqssvae.overrides import override
from seqssvae.training.fit import train

PARTS = 20  # parts of the test rows for the standard error
PLAIN = "language model"
FIGURES = ("nats_per_symbol", "kl", "mutual_information", "active_units")


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


def within(minutes: float, config: Config, prepared: Prepared) -> Config:
    """The settings with as many steps as take these minutes, by the pace of a trial."""
    num_steps = config.training.evaluate_every
    trial = train(override(config, {"training.num_steps": num_steps}), prepared)
    num_steps = max(1, round(num_steps * minutes / trial.progress.minutes))
    return override(config, {"training.num_steps": num_steps, "training.max_minutes": minutes})


def measure(
    config: Config, prepared: Prepared, test: EncodedRows, num_samples: int
) -> dict[str, Any]:
    """Train a model and measure it on test rows.

    Returns:
        `FIGURES`, `parts`, the NLL in nats per row of each of `PARTS` parts of the rows, and the
        `minutes`, `steps` and `weights` of the model.
    """
    trainer = train(config, prepared)
    size = len(test) // PARTS  # parts of equal size; the last few rows are left out
    starts = range(0, PARTS * size, size)
    parts = [
        evaluate(trainer.model, test.slice(start, start + size), num_samples=num_samples)
        for start in starts
    ]
    figures = evaluate(trainer.model, test, num_samples=1) | {
        "nats_per_symbol": float(np.mean([part["nats_per_symbol"] for part in parts]))
    }
    return {
        **{name: figures[name] for name in FIGURES},
        "parts": [part["nll"] for part in parts],
        "minutes": trainer.progress.minutes,
        "steps": trainer.progress.step,
        "weights": sum(weight.numel() for weight in trainer.model.parameters()),
    }


def compare(
    config: Config,
    files: tuple[Path, Path],
    num_labels: int,
    num_rows: int | None,
    num_samples: int,
    num_tested: int,
) -> list[dict[str, Any]]:
    """The records of the three models.

    Args:
        config: The settings.
        files: Training and test rows.
        num_labels: Labelled rows; 0: no classes.
        num_rows: Training rows that are used, a random part; None: all.
        num_samples: Samples of z for a test row.
        num_tested: Test rows at most, a random part.
    """
    logging.disable(logging.INFO)
    budget = {"data.num_labels": num_labels} if num_labels else {"data.unlabelled_only": True}
    config = override(config, {**budget, "training.num_threads": 1, "training.device": "cpu"})
    rows = list(read_corpus(files[0]))
    order = np.random.default_rng(config.training.seed).permutation(len(rows))[:num_rows]
    some = [rows[number] for number in np.sort(order)]
    labels = [row.label for row in some] if num_labels else None
    sequences = [row.sequence for row in some]
    prepared = prepare(config, gather_corpus(sequences, labels, source=str(files[0])))
    test = read_like(files[1], config, prepared.vocabulary, None)
    test = test.take(np.random.default_rng(0).permutation(len(test))[:num_tested])
    if len(test) < PARTS:
        raise InputError(f"{files[1]}: wanted at least {PARTS} rows, got {len(test)}")
    found = {"VAE": measure(config, prepared, test, num_samples)}
    minutes = found["VAE"]["minutes"]
    others = {
        "VAE without n-grams": (override(config, {"model.decoder_ngrams": 0}), prepared),
        PLAIN: as_language_model(config, prepared),
    }
    for name, (own, own_rows) in others.items():
        samples = 1 if name == PLAIN else num_samples
        found[name] = measure(within(minutes, own, own_rows), own_rows, test, samples)
    cell = {"labels": num_labels, "rows": num_rows, "used": len(some)}
    return [{**cell, "model": name, **figures} for name, figures in found.items()]


def print_cell(name: str, records: Sequence[dict[str, Any]]) -> None:
    """Lines of the table of the models of one set and number of rows."""
    (plain,) = (np.array(one["parts"]) for one in records if one["model"] == PLAIN)
    for one in records:
        difference = np.array(one["parts"]) - plain
        half = 2 * difference.std(ddof=1) / math.sqrt(PARTS)
        share = 100 * difference.mean() / plain.mean()
        less = "" if one["model"] == PLAIN else f"{share:+.1f} ± {100 * half / plain.mean():.1f} %"
        figures = [f"{np.mean(one['parts']):.2f}", f"{one['nats_per_symbol']:.3f}", less]
        figures += [f"{one[key]:.2f}" for key in ("kl", "mutual_information")]
        figures += [str(one["active_units"]), f"{one['weights']:,}"]
        cells = [name, f"{one['used']:,}", one["model"], *figures, f"{one['minutes']:.1f}"]
        print(f"| {' | '.join(cells)} |")


def main(argv: Sequence[str] | None = None) -> None:
    """Train what has no result yet, and print the table."""
    parser = Parser(description=__doc__)
    parser.add_argument("folder", type=Path, help="folder of the data sets")
    parser.add_argument("sets", nargs="+", metavar="NAME=N", help="data sets and labels")
    parser.add_argument("--rows", type=int, nargs="+", default=[None], help="training rows")
    parser.add_argument("--test-rows", type=int, default=2000, help="test rows, at most")
    parser.add_argument("--samples", type=int, default=50, help="samples of z per test row")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--out", type=Path, default=Path("runs/language"), help="output folder")
    add_settings(parser)
    arguments = parser.parse_args(argv)
    options = arguments.samples, arguments.test_rows
    try:
        config, jobs = read_settings(arguments), []
        sets = [DataSet.parse(argument) for argument in arguments.sets]
        cells = [
            (one.name, arguments.out / f"{one.name}.jsonl", budget, rows)
            for rows, one in itertools.product(arguments.rows, sets)
            for budget in one.budgets
        ]
        for name, out, *cell in cells:
            if not _of_cell(out, *cell):
                files = [find_file(arguments.folder / name, part) for part in ("train", "test")]
                jobs.append(Job(out, (config, files, *cell, *options)))
        run_jobs(compare, jobs, arguments.jobs)
    except InputError as error:
        parser.error(str(error))
    print(
        "| set | rows | model | NLL | per symbol | to the language model | KL | MI | active units "
        "| weights | minutes |"
    )
    print(f"| --- | --: | --- |{' --: |' * 8}")
    for name, out, *cell in cells:
        print_cell(name, _of_cell(out, *cell))


def _of_cell(out: Path, labels: int, rows: int | None) -> list[dict[str, Any]]:
    """The records of a number of labels and of rows."""
    return [one for one in read_records(out) if (one["labels"], one["rows"]) == (labels, rows)]


if __name__ == "__main__":
    main()
