"""Does a run that learns more classes forget its own? `train --from` with rows of new ones alone.

    python experiments/more_classes.py words=160 requests=120 --folder FOLDER --new 2 --draws 3

FOLDER has a folder for each data set, as for `sets.py`. In each draw, which classes are the new
ones is drawn too; of the N labels each class has an equal part. Accuracy on the test rows of the
old classes and of the new ones:

* before: a run of the old classes, asked for these alone;
* after: `train --from` this run, with rows of the new classes alone;
* at once: one training with all of the rows.

Results are appended to `OUT/NAME.jsonl`, and the same command resumes an interrupted run. Settings
are given as in `seqssvae train`.
"""

import itertools
import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.processes import Job, read_records, run_jobs
from experiments.sets import DataSet, find_file
from seqssvae.cli.parser import Parser
from seqssvae.cli.settings import add_settings, read_settings
from seqssvae.config import Config
from seqssvae.data.corpus import Corpus, gather_corpus, read_corpus
from seqssvae.errors import InputError
from seqssvae.overrides import override
from seqssvae.trained import load
from seqssvae.training.fit import fit

PARTS = ("old", "new")
FIGURES = ("before_old", "after_old", "at_once_old", "after_new", "at_once_new")


def measure(
    config: Config, files: Sequence[Path], num_labels: int, num_new: int, draw: int
) -> list[dict[str, Any]]:
    """The figures of one draw, of the files of training and test."""
    logging.getLogger("seqssvae").setLevel(logging.ERROR)
    train, test = (
        [(row.sequence, str(row.label)) for row in read_corpus(file) if row.label is not None]
        for file in files
    )
    names = sorted({name for _, name in train})
    new = set(np.random.default_rng(draw).permutation(names)[:num_new].tolist())
    budgets = {"old": num_labels * (len(names) - num_new) // len(names)}
    budgets["new"] = num_labels - budgets["old"]

    def part(rows: Sequence[Any], which: str) -> list[Any]:
        return [row for row in rows if (row[1] in new) == (which == "new")]

    def corpus(rows: Sequence[Any]) -> Corpus:
        return gather_corpus(*zip(*rows, strict=True), source="rows")

    found: dict[str, Any] = {"num_labels": num_labels, "draw": draw, "new": sorted(new)}
    with tempfile.TemporaryDirectory() as folder:
        runs = {name: Path(folder) / name for name in ("before", "after", "at_once")}

        def settings(num_labels: int) -> dict[str, Any]:
            return {"data.num_labels": num_labels, "training.seed": draw, "training.num_threads": 1}

        own = override(config, settings(budgets["old"]))
        fit(own, corpus(part(train, "old")), runs["before"])
        fit(
            settings(budgets["new"]),
            corpus(part(train, "new")),
            runs["after"],
            start=runs["before"],
        )
        fit(override(config, settings(num_labels)), corpus(train), runs["at_once"])
        for name, run in runs.items():
            model = load(run)
            for which in PARTS if name != "before" else PARTS[:1]:
                sequences, truth = zip(*part(test, which), strict=True)
                answers = model.classify(list(sequences))
                is_right = [
                    one["label"] == label for one, label in zip(answers, truth, strict=True)
                ]
                found[f"{name}_{which}"] = float(np.mean(is_right))
    return [found]


def main(argv: Sequence[str] | None = None) -> None:
    """Run every draw that has no result yet, and print the table."""
    parser = Parser(description=__doc__)
    parser.add_argument("sets", nargs="+", metavar="NAME=N")
    parser.add_argument("--folder", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--new", type=int, default=2, help="classes that are learned later")
    parser.add_argument("--draws", type=int, default=3, help="draws of labels and new classes")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--out", type=Path, default=Path("runs/more_classes"), help="output folder")
    add_settings(parser)
    arguments = parser.parse_args(argv)
    try:
        config, jobs = read_settings(arguments), []
        budgets = {
            (one.name, budget): arguments.out / f"{one.name}.jsonl"
            for one in map(DataSet.parse, arguments.sets)
            for budget in one.budgets
        }
        for ((name, budget), out), draw in itertools.product(
            budgets.items(), range(arguments.draws)
        ):
            done = [(record["num_labels"], record["draw"]) for record in read_records(out)]
            if (budget, draw) not in done:
                files = [find_file(arguments.folder / name, part) for part in ("train", "test")]
                jobs.append(Job(out, (config, files, budget, arguments.new, draw)))
        run_jobs(measure, jobs, arguments.jobs)
    except InputError as error:
        parser.error(str(error))
    print(f"| set | labels | draws | {' | '.join(FIGURES).replace('_', ' ')} |")
    print(f"| --- | {' | '.join(['--:'] * (2 + len(FIGURES)))} |")
    for (name, budget), out in budgets.items():
        own = [record for record in read_records(out) if record["num_labels"] == budget]
        points = [100 * np.mean([record[figure] for record in own]) for figure in FIGURES]
        means = " | ".join(f"{mean:.1f}" for mean in points)
        print(f"| {name} | {budget} | {len(own)} | {means} |")


if __name__ == "__main__":
    main()
