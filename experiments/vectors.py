"""Are vectors of a pretrained model and unlabelled rows worth more together than either alone?

    python experiments/vectors.py FOLDER trec=60,300 sst2=100 --vectors VECTORS --draws 5 --jobs 4

FOLDER has a folder for each data set, as for `sets.py`; VECTORS has `NAME-train.npy` and
`NAME-test.npy`, as `data/embed.py` writes them. Three arms learn the same labels: logistic
regression on the vectors, its penalty chosen by cross-validation; the SS-VAE without vectors; the
SS-VAE with them. Results are appended to OUT, and the same command resumes an interrupted run.
Settings are given as in `seqssvae train`; a training has at most 3.5 minutes unless
`--training.max_minutes` is set. With `--cut N` the last N training rows are the test rows.
"""

import concurrent.futures
import dataclasses
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV

from experiments.sets import DataSet, find_file
from seqssvae.cli.parser import Parser
from seqssvae.cli.settings import add_settings, read_settings
from seqssvae.compare.compare import classification_metrics, limit_minutes
from seqssvae.compare.parts import predict_by_ssvae
from seqssvae.config import Config
from seqssvae.data.corpus import gather_corpus, read_corpus
from seqssvae.data.encoded import EncodedRows
from seqssvae.data.prepare import Prepared, prepare
from seqssvae.data.sources import read_like
from seqssvae.errors import InputError
from seqssvae.overrides import override
from seqssvae.storage.files import write_atomically
from seqssvae.storage.vectors import open_vectors

ARMS = ("regression", "without", "with")


@dataclasses.dataclass(frozen=True)
class Job:
    """An arm on a draw of the labels of a data set."""

    folder: Path
    vectors: Path
    name: str
    num_labels: int
    draw: int
    arm: str
    cut: int

    @property
    def key(self) -> list[Any]:
        """What a result is of."""
        return [self.name, self.num_labels, self.draw, self.arm, self.cut]


def predict_by_regression(prepared: Prepared, rows: EncodedRows) -> NDArray[np.float64]:
    """p(y | v) of rows, `[n, K]`, by logistic regression on the vectors of all labelled ones."""
    labelled = prepared.with_dev_labels().labelled
    num_folds = max(2, min(5, int(np.bincount(labelled.y).min())))
    penalties = {"C": np.logspace(-2, 3, 11)}
    model = GridSearchCV(
        LogisticRegression(max_iter=2000), penalties, cv=num_folds, scoring="neg_log_loss"
    )
    model.fit(labelled.vectors(), labelled.y)
    result = np.zeros((len(rows), len(prepared.labels.names)))
    result[:, model.classes_] = model.predict_proba(rows.vectors())
    return result


def measure(config: Config, job: Job) -> dict[str, Any]:
    """The metrics of a job."""
    torch.set_num_threads(config.training.num_threads or torch.get_num_threads())
    logging.getLogger("seqssvae").setLevel(logging.ERROR)
    config = override(
        config,
        {"data.num_labels": job.num_labels, "training.seed": config.training.seed + job.draw},
    )
    parts = []
    for part in ("train", "test"):
        rows = read_corpus(find_file(job.folder / job.name, part))
        vectors = open_vectors(job.vectors / f"{job.name}-{part}.npy", len(rows), rows.source)
        listed = [(row.sequence, row.label, number) for number, row in enumerate(rows)]
        parts.append((listed, vectors))
    if job.cut:
        (listed, vectors), _ = parts
        parts = [(listed[: -job.cut], vectors), (listed[-job.cut :], vectors)]
    corpora = []
    for listed, vectors in parts:
        sequences, labels, numbers = zip(*listed, strict=True)
        of_rows = None if job.arm == "without" else vectors[np.array(numbers)]
        corpora.append(gather_corpus(sequences, labels, source=job.name, vectors=of_rows))
    prepared = prepare(config, corpora[0])
    config = override(config, {"model.vector_size": prepared.vector_size})
    test = read_like(corpora[1], config, prepared.vocabulary, prepared.labels)
    if job.arm == "regression":
        probabilities = predict_by_regression(prepared, test)
    else:
        probabilities = predict_by_ssvae(config, prepared, test)
    return {"job": job.key, **classification_metrics(probabilities, test.y)}


def print_table(sets: Sequence[DataSet], records: Sequence[dict[str, Any]]) -> None:
    """The mean of each arm in per cent, and how far the last one is above the better other.

    The standard error of that is over the draws, in each of which both have the same labels.
    """
    print("| set | labels | regression on vectors | SS-VAE without | SS-VAE with | above |")
    print("| --- | --: | --: | --: | --: | --: |")
    for one in sets:
        for budget in one.budgets:
            found = {
                (record["job"][3], record["job"][2]): 100 * record[one.metric]
                for record in records
                if record["job"][:2] == [one.name, budget]
            }
            draws = sorted({draw for _, draw in found})
            values = np.array([[found[arm, draw] for draw in draws] for arm in ARMS])
            means = values.mean(1)
            above = values[2] - values[int(means[:2].argmax())]
            error = above.std(ddof=min(1, len(above) - 1)) / np.sqrt(len(above))
            cells = [f"{mean:.1f}" for mean in means] + [f"{above.mean():+.1f} ± {error:.1f}"]
            print(f"| {one.name} | {budget} | {' | '.join(cells)} |")


def main(argv: Sequence[str] | None = None) -> None:
    """Run every job that has no result yet, and print the table."""
    parser = Parser(description=__doc__)
    add = parser.add_argument
    add("folder", type=Path, help="folder of the data sets")
    add("sets", nargs="+", metavar="NAME=N,N[:macro_f1]")
    add("--vectors", type=Path, required=True, metavar="FOLDER", help="folder of .npy files")
    add("--draws", type=int, default=5, help="draws of the labels")
    add("--jobs", type=int, default=1, help="processes")
    add("--cut", type=int, default=0, metavar="N", help="training rows that are the test rows")
    add("--out", type=Path, default=Path("runs/vectors.jsonl"), help="results")
    add_settings(parser)
    arguments = parser.parse_args(argv)
    try:
        config = limit_minutes(read_settings(arguments))
        sets = [DataSet.parse(argument) for argument in arguments.sets]
        jobs = [
            Job(arguments.folder, arguments.vectors, one.name, n, draw, arm, arguments.cut)
            for one in sets
            for n in one.budgets
            for draw in range(arguments.draws)
            for arm in ARMS
        ]
        lines = arguments.out.read_text().splitlines() if arguments.out.exists() else []
        records = [json.loads(line) for line in lines]
        missing = [job for job in jobs if job.key not in [record["job"] for record in records]]
        with concurrent.futures.ProcessPoolExecutor(arguments.jobs) as pool:
            for future in concurrent.futures.as_completed(
                [pool.submit(measure, config, job) for job in missing]
            ):
                records.append(future.result())
                print(json.dumps(records[-1]), flush=True)
                arguments.out.parent.mkdir(parents=True, exist_ok=True)
                content = "".join(json.dumps(record) + "\n" for record in records)
                write_atomically(arguments.out, content.encode())
    except InputError as error:
        parser.error(str(error))
    keys = [job.key for job in jobs]
    print_table(sets, [record for record in records if record["job"] in keys])


if __name__ == "__main__":
    main()
