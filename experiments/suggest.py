"""Do suggested rows need fewer labels? Rounds of labelling by `suggest`, by margin and at random.

    python experiments/suggest.py FOLDER words chess --draws 10 --jobs 8 --out runs/suggest

FOLDER has a folder for each data set, with `train.jsonl` and `test.jsonl`, gzipped or not, whose
labels answer in the place of a person. All ways begin with the same `--labels` rows, shared by the
classes; in each round a model is trained anew with all labels so far, measured on the test rows,
and asked for as many rows again. 'margin' takes those whose two likeliest labels differ least.
Results are appended to `OUT/NAME.jsonl`, and the same command resumes an interrupted run. Settings
are given as in `seqssvae train` and apply to every set; each job is a process with one thread.
"""

import itertools
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.processes import Job, read_records, run_jobs
from experiments.sets import find_file
from seqssvae.cli.parser import Parser
from seqssvae.cli.settings import add_settings, read_settings
from seqssvae.cli.suggest import ENOUGH
from seqssvae.compare.compare import limit_minutes
from seqssvae.config import Config
from seqssvae.data.corpus import Corpus, gather_corpus, read_corpus
from seqssvae.data.encode import encode_sequences
from seqssvae.data.labels import choose_labels
from seqssvae.data.prepare import Prepared, prepare
from seqssvae.errors import InputError
from seqssvae.inference.predict import classify_table
from seqssvae.inference.suggest import agreement, suggest
from seqssvae.overrides import override
from seqssvae.training.fit import train
from seqssvae.training.trainer import Trainer

WAYS = ("random", "margin", "suggest")
Fitted = tuple[Trainer, Prepared]
Integers = NDArray[np.int64]


def run_draw(
    config: Config, files: tuple[Path, Path], draw: int, labels: int, rounds: int, max_rows: int
) -> list[dict[str, Any]]:
    """The records of every way and round of one draw.

    Args:
        config: The settings.
        files: Training and test rows.
        draw: Number of the draw, the seed of everything.
        labels: Labels of a round.
        rounds: Number of rounds.
        max_rows: Training rows that are used; of more, a random part.
    """
    logging.disable(logging.INFO)
    settings = {"training.seed": draw, "training.num_threads": 1, "training.device": "cpu"}
    config, (corpus, test) = override(config, settings), map(read_corpus, files)
    kept = set(np.random.default_rng(draw).permutation(len(corpus))[:max_rows].tolist())
    rows = [row for number, row in enumerate(corpus) if number in kept]
    sequences, names = [row.sequence for row in rows], [str(row.label) for row in rows]
    y = np.unique(names, return_inverse=True)[1]
    start = choose_labels(y, [row.id for row in rows], total=labels, seed=draw)

    def fit(chosen: Integers) -> Fitted:
        known = set(chosen.tolist())
        given = [name if number in known else None for number, name in enumerate(names)]
        prepared = prepare(config, gather_corpus(sequences, given, source=str(files[0])))
        return train(limit_minutes(config), prepared), prepared

    first, records = fit(start), []
    for way in WAYS:
        chosen, fitted = start, first
        before: list[str] | None = None
        for number in range(rounds):
            if number:
                more = ask(way, *fitted, labels, np.random.default_rng([draw, number]))
                chosen = np.union1d(chosen, more)
                fitted = fit(chosen)
            predicted = predict(*fitted, test)
            is_right = [name == str(row.label) for name, row in zip(predicted, test, strict=True)]
            kappa = None if before is None else agreement(before, predicted)
            record = {"way": way, "draw": draw, "num_labels": len(chosen), "kappa": kappa}
            records.append({**record, "accuracy": float(np.mean(is_right))})
            before = predicted
    return records


def ask(
    way: str, trainer: Trainer, prepared: Prepared, num: int, random: np.random.Generator
) -> Integers:
    """Numbers of the rows to label next."""
    pool = prepared.unlabelled
    mode, weights = trainer.progress.default_mode
    if way == "random":
        chosen = random.permutation(len(pool))[:num]
    elif way == "margin":
        table = classify_table(trainer.model, pool, mode=mode, weights=weights)
        two = np.sort(table, axis=1)[:, -2:]
        chosen = np.argsort(two[:, 1] - two[:, 0], kind="stable")[:num]
    else:
        found = suggest(trainer.model, pool, num, mode=mode, weights=weights)
        chosen = found.seen[found.chosen]
    return pool.index[chosen].astype(np.int64)


def predict(trainer: Trainer, prepared: Prepared, test: Corpus) -> list[str]:
    """Names of the labels of test rows."""
    mode, weights = trainer.progress.default_mode
    rows = encode_sequences(
        list(test.sequences()),
        prepared.vocabulary,
        max_length=trainer.config.data.max_length,
        whole_length=trainer.config.whole_length,
    )
    best = classify_table(trainer.model, rows, mode=mode, weights=weights).argmax(1)
    return [prepared.labels.names[y] for y in best]


def print_table(name: str, records: Sequence[dict[str, Any]]) -> None:
    """Mean accuracy of each round, and the difference to random rows with its standard error."""
    by_way: dict[str, dict[int, list[dict[str, Any]]]] = {way: {} for way in WAYS}
    for record in records:
        by_way[record["way"]].setdefault(record["draw"], []).append(record)
    draws = sorted(by_way[WAYS[0]])
    accuracy = {  # [draws, rounds]
        way: 100 * np.array([[one["accuracy"] for one in by_way[way][draw]] for draw in draws])
        for way in WAYS
    }
    for number, record in enumerate(by_way[WAYS[0]][draws[0]]):
        cells = [name, str(record["num_labels"])]
        for way in WAYS:
            points = accuracy[way][:, number]
            gain = points - accuracy["random"][:, number]
            error = gain.std(ddof=min(1, len(gain) - 1)) / np.sqrt(len(gain))
            shown = f" ({gain.mean():+.1f} ± {error:.1f})" if way != "random" else ""
            cells.append(f"{points.mean():.1f}{shown}")
        kappas = [by_way["suggest"][draw][number]["kappa"] or 0.0 for draw in draws]
        cells.append(f"{sum(kappa >= ENOUGH for kappa in kappas)} of {len(draws)}")
        print(f"| {' | '.join(cells)} |")


def main(argv: Sequence[str] | None = None) -> None:
    """Run every draw that has no result yet, and print the table."""
    parser = Parser(description=__doc__)
    parser.add_argument("folder", type=Path, help="folder of the data sets")
    parser.add_argument("sets", nargs="+", metavar="NAME")
    parser.add_argument("--draws", type=int, default=10, help="draws of the first labels")
    parser.add_argument("--labels", type=int, default=20, help="labels of a round")
    parser.add_argument("--rounds", type=int, default=5, help="rounds, the first one included")
    parser.add_argument("--max-rows", type=int, default=3000, help="training rows that are used")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--out", type=Path, default=Path("runs/suggest"), help="output folder")
    add_settings(parser)
    arguments = parser.parse_args(argv)
    options = arguments.labels, arguments.rounds, arguments.max_rows
    outs = {name: arguments.out / f"{name}.jsonl" for name in arguments.sets}
    try:
        config, jobs = read_settings(arguments), []
        for draw, name in itertools.product(range(arguments.draws), arguments.sets):
            if not any(record["draw"] == draw for record in read_records(outs[name])):
                files = [find_file(arguments.folder / name, part) for part in ("train", "test")]
                jobs.append(Job(outs[name], (config, (files[0], files[1]), draw, *options)))
        run_jobs(run_draw, jobs, arguments.jobs)
    except InputError as error:
        parser.error(str(error))
    print(f"| set | labels | {' | '.join(WAYS)} | would stop |")
    print("| --- | --: | --: | --: | --: | --: |")
    for name, out in outs.items():
        print_table(name, read_records(out))


if __name__ == "__main__":
    main()
