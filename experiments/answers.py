"""Can a user act on the answers? Sets of labels, calibration, and rows of a new class.

    python experiments/answers.py FOLDER names=200 requests=35,210 --draws 20 --minutes 3 --jobs 8

FOLDER and the sets with their label budgets are those of `sets.py`. In each draw of the labels:

* a model is trained and measured on the test rows: the coverage and size of its sets of labels, and
  the calibration error of every mode, beside TF-IDF with logistic regression, whose strength is
  chosen by cross-validation. Both are calibrated by the same held-out rows in the same way, and
  learn the labels of these after that;
* of three classes and more, another one is trained without all rows of one class, the next one in
  each draw. AUROC of that class's test rows against those of the others: by p(x) per symbol, by the
  largest probability of a label, and by an isolation forest on TF-IDF.

Each draw is a line of `OUT/NAME.jsonl`; the same command runs those that are missing, each in a
process of one thread. Settings are given as in `seqssvae train` and apply to every set.
"""

import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import IsolationForest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold

sys.path.insert(0, str(Path(__file__).parent.parent))  # found whatever folder this runs in

from experiments.processes import Job, read_records, run_jobs  # noqa: E402
from experiments.sets import DataSet, find_file  # noqa: E402
from seqssvae.cli.parser import Parser  # noqa: E402
from seqssvae.cli.settings import add_settings, read_settings  # noqa: E402
from seqssvae.compare.baselines import ngrams  # noqa: E402
from seqssvae.config import Config  # noqa: E402
from seqssvae.data.corpus import Corpus, gather_corpus  # noqa: E402
from seqssvae.data.prepare import Prepared, prepare  # noqa: E402
from seqssvae.data.rows import has_words  # noqa: E402
from seqssvae.data.sources import read_corpus_like, read_like  # noqa: E402
from seqssvae.errors import InputError  # noqa: E402
from seqssvae.inference.classify import MODES  # noqa: E402
from seqssvae.inference.conformal import greatest_losses, label_sets  # noqa: E402
from seqssvae.inference.novelty import log_prob_per_symbol  # noqa: E402
from seqssvae.inference.tally import bin_sums, calibration_error  # noqa: E402
from seqssvae.overrides import override  # noqa: E402
from seqssvae.trained import TrainedModel  # noqa: E402
from seqssvae.training.fit import summarise, train  # noqa: E402

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

STRENGTHS = np.logspace(-2, 4, 7)  # C of the regression
LEAST = 1e-12  # probability
COLUMNS = {  # of the table: name, title and digits
    "coverage": "coverage", "size": "labels in a set",
    "regression_coverage": "regression: coverage", "regression_size": "labels in a set",
    "accuracy": "accuracy", "calibration": "calibration error",
    **{f"{mode}_calibration": mode for mode in MODES},
    "regression_calibration": "regression",
    "new_by_p": "AUROC of new by p(x)", "new_by_label": "by probability",
    "new_by_forest": "by forest",
}  # fmt: skip


class Cell(NamedTuple):
    """What a process measures."""

    name: str
    num_labels: int
    draw: int


def cell_of(record: Mapping[str, Any]) -> Cell:
    """What a line of results is of."""
    return Cell(*(record[name] for name in Cell._fields))


def measure(
    cell: Cell, config: Config, files: tuple[Path, Path], coverage: float
) -> list[dict[str, Any]]:
    """A line of results, plain values, of the files of training and test."""
    logging.getLogger("seqssvae").setLevel(logging.ERROR)
    changes = {"data.num_labels": cell.num_labels, "training.seed": cell.draw}
    config = override(config, changes | {"training.num_threads": 1})
    of_labels = measure_labels(config, *files, coverage)
    return [{**cell._asdict(), **of_labels, **measure_new(config, *files, cell.draw)}]


def fit_model(config: Config, source: Path | Corpus) -> tuple[Prepared, TrainedModel]:
    """Train a model, which is not saved."""
    prepared = prepare(config, source)
    trainer = train(config, prepared)
    manifest = {"summary": summarise(trainer, prepared), "held_out": trainer.progress.held_out}
    return prepared, TrainedModel(
        model=trainer.model.eval(),
        config=trainer.config,
        vocabulary=prepared.vocabulary,
        labels=prepared.labels,
        manifest=manifest,
    )


def measure_labels(
    config: Config, train_file: Path, test_file: Path, coverage: float
) -> dict[str, Any]:
    """Sets and calibration on the test rows, of the model and of the regression."""
    prepared, model = fit_model(config, train_file)
    test = read_like(test_file, config, prepared.vocabulary, prepared.labels)
    known = test.y >= 0
    test, num_classes = test.take(known), len(prepared.labels.names)
    found: dict[str, Any] = {"mode": model.default_mode, "num_held_out": len(model.held_out.y)}
    found |= of_sets(model.classify_table(test), model.greatest_losses(coverage), test.y)
    for mode in MODES:
        table = model.classify_table(test, mode=mode)
        found[f"{mode}_calibration"] = of_sets(table, np.zeros(num_classes), test.y)["calibration"]
    corpus = read_corpus_like(test_file, config, prepared.vocabulary, read_labels=False)
    rest = prepared.labelled.take(prepared.labelled.y >= 0)
    held_out = prepared.labelled_dev
    of_dev, of_test = regression(
        [prepared.sequences(rows) for rows in (rest, held_out)],
        [rest.y, held_out.y],
        list(corpus.sequences(known)),
        num_classes,
    )
    losses = -np.log(of_dev[np.arange(len(held_out)), held_out.y].clip(LEAST))
    greatest = greatest_losses(losses, held_out.y, num_classes=num_classes, coverage=coverage)
    beside = of_sets(of_test, greatest, test.y)
    return found | {f"regression_{name}": value for name, value in beside.items()}


def of_sets(probabilities: Float64, greatest: Float64, y: Int64) -> dict[str, float]:
    """Figures of some probabilities `[n, K]` and of the sets with them."""
    sets, is_right = label_sets(probabilities, greatest), probabilities.argmax(1) == y
    return {
        "coverage": float(sets[np.arange(len(y)), y].mean()),
        "size": float(sets.sum(1).mean()),
        "accuracy": float(is_right.mean()),
        "calibration": calibration_error(bin_sums(probabilities.max(1), is_right)),
        "log_loss": float(-np.log(probabilities[np.arange(len(y)), y].clip(LEAST)).mean()),
    }


def vectorizer(sequences: Sequence[Any]) -> TfidfVectorizer:
    """TF-IDF of n-grams of words, or of characters or tokens where there are none."""
    is_text = isinstance(sequences[0], str) and has_words(sequences[:1000], min_words=0)
    unit, longest = ("words", 2) if is_text else ("characters", 5)
    return TfidfVectorizer(analyzer=ngrams(unit, longest), sublinear_tf=True)


def regression(
    parts: Sequence[Sequence[Any]], classes: Sequence[Int64], test: Sequence[Any], num_classes: int
) -> tuple[Float64, Float64]:
    """Probabilities of the second part by a regression on the first, and of test rows by both."""

    def fit(sequences: Sequence[Any], y: Int64, others: Sequence[Any], strength: float) -> Float64:
        tfidf = vectorizer(sequences)
        model = LogisticRegression(C=strength, max_iter=1000).fit(tfidf.fit_transform(sequences), y)
        table = np.zeros((len(others), num_classes))
        table[:, model.classes_] = model.predict_proba(tfidf.transform(others))
        return table

    first, y = list(parts[0]), classes[0]
    folds = StratifiedKFold(3, shuffle=True, random_state=0)

    def loss(strength: float) -> float:
        total = 0.0
        for rest, fold in folds.split(first, y):
            table = fit([first[i] for i in rest], y[rest], [first[i] for i in fold], strength)
            total -= np.log(table[np.arange(len(fold)), y[fold]].clip(LEAST)).sum()
        return total

    strength = min(STRENGTHS, key=loss)
    of_second = fit(first, y, parts[1], strength)
    return of_second, fit([*first, *parts[1]], np.concatenate(classes), test, strength)


def measure_new(
    config: Config, train_file: Path, test_file: Path, draw: int
) -> dict[str, str | float]:
    """AUROC of the test rows of a class that training has no rows of; nothing of two classes."""
    everything = prepare(config, train_file)
    names = everything.labels.names
    if len(names) < 3:
        return {}
    y, _ = everything.corpus.classes(everything.labels)
    new = draw % len(names)
    rows = list(zip(everything.corpus.sequences(), y.tolist(), strict=True))
    kept = [(sequence, names[k] if k >= 0 else None) for sequence, k in rows if k != new]
    prepared, model = fit_model(config, gather_corpus(*zip(*kept, strict=True), source="rows"))
    y = read_like(test_file, config, prepared.vocabulary, everything.labels).y
    test = read_like(test_file, config, prepared.vocabulary, None)
    corpus = read_corpus_like(test_file, config, prepared.vocabulary, read_labels=False)
    known, training = y >= 0, [sequence for sequence, _ in kept]
    tfidf = vectorizer(training)
    forest = IsolationForest(random_state=draw).fit(tfidf.fit_transform(training))
    unusual = {
        "new_by_p": -log_prob_per_symbol(model.model, test, num_samples=0)[known],
        "new_by_label": -model.classify_table(test)[known].max(1),
        "new_by_forest": -forest.score_samples(tfidf.transform(list(corpus.sequences(known)))),
    }
    is_new = y[known] == new
    found = {name: float(roc_auc_score(is_new, score)) for name, score in unusual.items()}
    return {"new": names[new], **found}


def print_table(records: Sequence[dict[str, Any]], cells: Sequence[Cell]) -> None:
    """Means over the draws of each set and budget, and of all of them, with standard errors."""
    print(f"| set | labels | draws | {' | '.join(COLUMNS.values())} |")
    print(f"| --- | {' | '.join(['--:'] * (2 + len(COLUMNS)))} |")
    keys = list(dict.fromkeys((cell.name, cell.num_labels) for cell in cells))
    for key in [*keys, ("mean", "")]:
        own = [one for one in records if key in ((one["name"], one["num_labels"]), ("mean", ""))]
        values = ([one[column] for one in own if column in one] for column in COLUMNS)
        print(f"| {key[0]} | {key[1]} | {len(own)} | {' | '.join(map(mean_of, values))} |")


def mean_of(values: Sequence[float]) -> str:
    """A mean with its standard error, nothing for no values."""
    if len(values) < 2:
        return "".join(f"{value:.3f}" for value in values)
    return f"{np.mean(values):.3f} ± {np.std(values, ddof=1) / np.sqrt(len(values)):.3f}"


def main(argv: Sequence[str] | None = None) -> None:
    """Run every draw that has no result yet, and print the table."""
    parser = Parser(description=__doc__)
    parser.add_argument("folder", type=Path, help="folder of the data sets")
    parser.add_argument("sets", nargs="+", metavar="NAME=N,N")
    parser.add_argument("--draws", type=int, default=3, help="draws of the labels")
    parser.add_argument("--coverage", type=float, default=0.9, metavar="P", help="of the sets")
    parser.add_argument("--minutes", type=float, help="time limit of each training")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--out", type=Path, default=Path("runs/answers"), help="output folder")
    add_settings(parser)
    arguments = parser.parse_args(argv)
    try:
        config = read_settings(arguments)
        if arguments.minutes is not None:
            config = override(config, {"training.max_minutes": arguments.minutes})
        data_sets = [DataSet.parse(argument) for argument in arguments.sets]
        files = {
            one.name: (find_file(folder, "train"), find_file(folder, "test"))
            for one in data_sets
            for folder in [arguments.folder / one.name]
        }
    except InputError as error:
        parser.error(str(error))
    cells = [
        Cell(one.name, budget, draw)
        for draw in range(arguments.draws)
        for one in data_sets
        for budget in one.budgets
    ]
    outs = {one.name: arguments.out / f"{one.name}.jsonl" for one in data_sets}
    done = {cell_of(record) for out in outs.values() for record in read_records(out)}
    jobs = [
        Job(outs[cell.name], (cell, config, files[cell.name], arguments.coverage))
        for cell in cells
        if cell not in done
    ]
    run_jobs(measure, jobs, arguments.jobs)
    records = [record for out in outs.values() for record in read_records(out)]
    print_table([record for record in records if cell_of(record) in set(cells)], cells)


if __name__ == "__main__":
    main()
