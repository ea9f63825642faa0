"""Does unlabelled data help? The SS-VAE beside its baselines, on the same draws and test rows."""

import dataclasses
import json
import logging
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student_t
from sklearn.metrics import f1_score

from seqssvae import devices, progress
from seqssvae.compare.baselines import BASELINES, Task
from seqssvae.compare.parts import M2, predict_by_ssvae, predict_by_teacher
from seqssvae.compare.same_encoder import fit_pretrained, fit_self_trained, fit_supervised
from seqssvae.config import Config
from seqssvae.data.corpus import Corpus, Files, source_name
from seqssvae.data.encoded import EncodedRows
from seqssvae.data.prepare import Prepared, prepare, warn_of_test_rows_seen
from seqssvae.data.sources import encode_like, read_corpus_like
from seqssvae.errors import InputError
from seqssvae.inference.predict import classify_table
from seqssvae.inference.tally import bin_sums, calibration_error
from seqssvae.model.ssvae import SSVAE
from seqssvae.overrides import override, to_mapping
from seqssvae.teacher.dawid_skene import with_likely_labels
from seqssvae.teacher.features import Sequences

logger = logging.getLogger(__name__)

Probabilities = npt.NDArray[np.float64]
TestRows = tuple[Sequences, EncodedRows]  # as in their file, and encoded
Arm = Callable[[Config, Prepared, TestRows], Probabilities]  # trained, then run on the test rows

PROTOCOL = 2  # of a cell: every arm learns the labels of dev rows in the end; under 1 few did
METRICS = ("accuracy", "macro_f1", "calibration_error", "seconds")
# of arms that were not run yet, on a CPU; those of other arms take a few
GUESSED_SECONDS = {"self-trained": 300.0, **dict.fromkeys(("m2", "ssvae", "pretrained"), 200.0)}
GUESSED_SECONDS |= {"supervised": 60.0, "self-trained-lr": 20.0, "teacher": 20.0}
MINUTES = 3.5  # of a training, unless `training.max_minutes` is set


@dataclasses.dataclass(frozen=True)
class Cell:
    """One arm, one budget, one draw of the labels."""

    arm: str
    num_labels: int
    draw: int


def compare(
    config: Config,
    source: Files | Corpus,
    test_source: Files | Corpus,
    *,
    budgets: Sequence[int],
    num_draws: int,
    arms: Sequence[str],
    out: Path,
    unlabelled: Files | None = None,
) -> list[dict[str, Any]]:
    """Run every cell that is not yet in `out`, and append a line for each.

    Args:
        config: The settings; draw d has the seed `training.seed + d`. Without a
            `training.max_minutes` a training has at most 3.5 minutes.
        source: Training rows.
        test_source: Held-out rows, the same for every cell; nothing is chosen on them.
        budgets: Numbers of labelled rows, dev included.
        num_draws: Number of draws of the labels for each budget.
        arms: Keys of `ARMS`.
        out: A jsonl file of results; cells with the same settings in it are not run again.
        unlabelled: More rows, whose labels are not read.

    Returns:
        One record for each cell.

    Raises:
        InputError: bad input, test rows without labels, an unknown arm, or an `out` with other
            content.
    """
    for arm in arms:
        if arm not in ARMS:
            raise InputError(f"--arms: wanted some of {', '.join(ARMS)}, got {arm}")
    config = limit_minutes(config)
    settings = _describe(config, (source, test_source, unlabelled))
    logger.info("networks run on the device %s", devices.resolve(config.training.device))
    done = _read(out)
    warn_of_test_rows_seen(config, source, test_source, unlabelled_source=unlabelled)
    records = []
    draws = [[Cell(arm, n, draw) for arm in arms] for n in budgets for draw in range(num_draws)]
    all_cells = [cell for cells in draws for cell in cells]
    missing = [cell for cell in all_cells if (cell, settings) not in done]
    known = [done[cell, settings] for cell in all_cells if (cell, settings) in done]
    with progress.task("s of trainings", sum(_seconds(one, known) for one in missing)) as task:
        for cells in draws:
            drawn: tuple[Config, Prepared, TestRows] | None = None
            for cell in cells:
                if (record := done.get((cell, settings))) is None:
                    drawn = drawn or _draw(config, cell, source, test_source, unlabelled)
                    record = _run(cell, *drawn)
                    _append(out, {**record, "settings": settings})
                    known.append(record)
                    missing.remove(cell)
                    left = sum(_seconds(one, known) for one in missing)
                    task.total = task.done + record["seconds"] + left
                    task.advance(record["seconds"])
                    _log_cell(record, f"{len(known)} of {len(all_cells)}", left)
                records.append(record)
    return records


def limit_minutes(config: Config) -> Config:
    """The settings with a limit on the time of a training, so that many of them end."""
    is_set = config.training.max_minutes is not None
    return config if is_set else override(config, {"training.max_minutes": MINUTES})


def _describe(config: Config, sources: Sequence[Files | Corpus | None]) -> str:
    """All that the results of a cell depend on, in a line."""
    files = [None if one is None else source_name(one) for one in sources]
    mapping = to_mapping(config)
    del mapping["training"]["device"]  # which changes no result but seconds
    return json.dumps([PROTOCOL, mapping, *files], sort_keys=True)


def _draw(
    config: Config,
    cell: Cell,
    source: Files | Corpus,
    test_source: Files | Corpus,
    unlabelled: Files | None,
) -> tuple[Config, Prepared, TestRows]:
    """The settings, training rows and test rows of all arms of one draw."""
    config = dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, num_labels=cell.num_labels, labels_per_class=None),
        training=dataclasses.replace(config.training, seed=config.training.seed + cell.draw),
    )
    prepared = prepare(config, source, unlabelled_source=unlabelled)
    config = override(config, {"model.vector_size": prepared.vector_size})
    if not prepared.labels.names:
        raise InputError(
            f"{prepared.corpus.source}: wanted rows with labels to compare on, got none"
        )
    if prepared.labels.columns:
        wanted, got = "one label column to compare on", ", ".join(prepared.labels.columns)
        raise InputError(f"{prepared.corpus.source}: wanted {wanted}, got {got}")
    corpus = read_corpus_like(test_source, config, prepared.vocabulary, read_labels=True)
    rows = encode_like(corpus, config, prepared.vocabulary, prepared.labels)
    if not (rows.y >= 0).any():
        raise InputError(f"{corpus.source}: wanted test rows with labels, got none")
    num_labelled = len(prepared.with_dev_labels().labelled)
    if num_labelled < cell.num_labels and cell.draw == 0:
        logger.warning(f"{cell.num_labels} labels: the data have {num_labelled}, all of them used")
    for warning in prepared.warnings if cell.draw == 0 else ():
        logger.warning(warning)
    return config, prepared, (list(corpus.sequences()), rows)


def _run(cell: Cell, config: Config, prepared: Prepared, test: TestRows) -> dict[str, Any]:
    """The record of a cell: metrics on the test rows, and seconds of training and predicting."""
    start = time.perf_counter()
    probabilities = ARMS[cell.arm](config, prepared, test)
    seconds = time.perf_counter() - start
    metrics = classification_metrics(probabilities, test[1].y)
    return {**dataclasses.asdict(cell), **metrics, "seconds": seconds}


def _seconds(cell: Cell, known: Sequence[Mapping[str, Any]]) -> float:
    """How long a cell may take: as its arm did so far, else a rough guess."""
    of_arm = [record["seconds"] for record in known if record["arm"] == cell.arm]
    return float(np.mean(of_arm)) if of_arm else GUESSED_SECONDS.get(cell.arm, 5.0)


def _log_cell(record: Mapping[str, Any], number: str, left: float) -> None:
    logger.info(
        "%s: %s, %d labels, draw %d: accuracy %.3f in %.1f s, about %s left",
        number,
        record["arm"],
        record["num_labels"],
        record["draw"] + 1,
        record["accuracy"],
        record["seconds"],
        progress.in_words(left),
    )


def summarise(records: Sequence[dict[str, Any]], reference: str = "ssvae") -> list[dict[str, Any]]:
    """Means over draws, and the paired difference between the reference and each arm.

    Args:
        records: Records of `compare`.
        reference: The arm that the others are compared with.

    Returns:
        For each budget and arm: mean `accuracy`, `macro_f1`, `calibration_error`, `seconds`, the
        number of draws, and the reference's accuracy minus the arm's, `difference`, with its 95 %
        interval by Student's t over draws, `low` and `high`; None for fewer than 2 draws.
    """
    by_cell = {(r["num_labels"], r["arm"], r["draw"]): r for r in records}
    summary = []
    for num_labels, arm in dict.fromkeys((r["num_labels"], r["arm"]) for r in records):
        draws = [draw for n, a, draw in by_cell if (n, a) == (num_labels, arm)]
        row: dict[str, Any] = {"num_labels": num_labels, "arm": arm, "num_draws": len(draws)}
        for metric in METRICS:
            row[metric] = float(np.mean([by_cell[num_labels, arm, d][metric] for d in draws]))
        paired = [
            by_cell[num_labels, reference, d]["accuracy"] - by_cell[num_labels, arm, d]["accuracy"]
            for d in draws
            if arm != reference and (num_labels, reference, d) in by_cell
        ]
        row |= {"difference": None, "low": None, "high": None}
        if paired:
            row["difference"] = float(np.mean(paired))
        if len(paired) > 1:
            error = np.std(paired, ddof=1) / math.sqrt(len(paired))
            half = float(student_t.ppf(0.975, len(paired) - 1) * error)
            row |= {"low": row["difference"] - half, "high": row["difference"] + half}
        summary.append(row)
    return summary


def judge(summary: Sequence[Mapping[str, Any]], reference: str = "ssvae") -> list[str]:
    """A verdict for each budget: is the reference worth its time beside the best other arm?

    Args:
        summary: Of `summarise`, with the same reference.
        reference: The arm that is judged.

    Returns:
        A line for each number of labels for which the reference and another arm were run. Only a
        lead whose 95 % interval is above 0 speaks for an arm that takes longer.
    """
    verdicts = []
    for num_labels in dict.fromkeys(row["num_labels"] for row in summary):
        rows = {row["arm"]: row for row in summary if row["num_labels"] == num_labels}
        others = [row for row in rows.values() if row["difference"] is not None]
        if reference not in rows or not others:
            continue
        best = max(others, key=lambda row: row["accuracy"])
        lead, times = (
            100 * best["difference"],
            rows[reference]["seconds"] / max(best["seconds"], 1e-3),
        )
        half = None if best["low"] is None else 50 * (best["high"] - best["low"])
        name = f"{'ahead of' if lead >= 0 else 'behind'} {best['arm']} by {abs(lead):.1f}"
        name += " points" if half is None else f" \u00b1 {half:.1f} points"
        if max(abs(lead), half or 0) < 0.05:
            name = f"as good as {best['arm']}"
        line = f"{num_labels} labels: the SS-VAE is {name}"
        cost = f"at {times:.{0 if times >= 10 else 1}f} times the time"
        if half is None:
            verdicts.append(f"{line} {cost}; one draw does not decide: try --draws 3")
            continue
        is_worth_it = best["low"] > 0 or (times <= 1 and best["high"] >= 0)
        taken = "the SS-VAE" if is_worth_it else best["arm"]
        verdicts.append(f"{line} {cost}: take {taken}")
    return verdicts


def classification_metrics(
    probabilities: Probabilities, y: npt.NDArray[np.int64]
) -> dict[str, float]:
    """Accuracy, macro-F1 and calibration error over the rows with a label.

    Args:
        probabilities: `[n, K]`.
        y: Classes, -1 for a row without a label, `[n]`.
    """
    probabilities, y = probabilities[y >= 0], y[y >= 0]
    predicted = probabilities.argmax(1)
    return {
        "accuracy": float(np.mean(predicted == y)),
        "macro_f1": float(f1_score(y, predicted, average="macro", zero_division=0.0)),
        "calibration_error": calibration_error(bin_sums(probabilities.max(1), predicted == y)),
    }


def _neural(fit: Callable[[Config, Prepared], SSVAE]) -> Arm:
    """The arm of a model of this package."""
    return lambda config, prepared, test: classify_table(
        fit(config, with_likely_labels(prepared)), test[1]
    )


def _baseline(name: str) -> Arm:
    """The arm of a classifier of the texts or tokens."""

    def run(config: Config, prepared: Prepared, test: TestRows) -> Probabilities:
        prepared = with_likely_labels(prepared)
        labelled, dev = prepared.labelled.take(prepared.labelled.y >= 0), prepared.labelled_dev
        task = Task(
            labelled=prepared.sequences(labelled),
            y=labelled.y,
            unlabelled=prepared.sequences(prepared.unlabelled),
            dev=prepared.sequences(dev),
            dev_y=dev.y,
            num_classes=len(prepared.labels.names),
        )
        return BASELINES[name].fit(task, config.training.seed)(test[0])

    return run


ARMS: dict[str, Arm] = {
    **{name: _baseline(name) for name in BASELINES},
    "supervised": _neural(fit_supervised),
    "self-trained": _neural(fit_self_trained),
    "pretrained": _neural(fit_pretrained),
    "m2": lambda config, prepared, test: predict_by_ssvae(override(config, M2), prepared, test[1]),
    "teacher": lambda config, prepared, test: predict_by_teacher(config, prepared, *test),
    "ssvae": lambda config, prepared, test: predict_by_ssvae(config, prepared, test[1]),
}


def _read(path: Path) -> dict[tuple[Cell, str], dict[str, Any]]:
    """The records of a file of results, without an incomplete last line.

    Raises:
        InputError: the file cannot be read, or another line is not a record.
    """
    records = {}
    try:
        lines = path.read_bytes().split(b"\n") if path.exists() else []
    except OSError as error:
        raise InputError(f"{path}: wanted a file of results, got: {error.strerror}") from error
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            if line[:8] == b'{"arm": '[: len(line)]:
                continue
            record = None
        if not isinstance(record, dict) or not _is_result(record):
            raise InputError(
                f"{path}:{number}: wanted a line that compare wrote, got another one: {line[:60]!r}"
            )
        settings = record.pop("settings")
        records[Cell(record["arm"], record["num_labels"], record["draw"]), settings] = record
    return records


def _is_result(record: dict[str, Any]) -> bool:
    """Whether a line of a file is a record of `compare`."""
    kinds = {"arm": str, "settings": str, "num_labels": int, "draw": int}
    return all(isinstance(record.get(key), kind) for key, kind in kinds.items()) and all(
        isinstance(record.get(key), int | float) for key in METRICS
    )


def _append(path: Path, record: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as lines:
        end = lines.seek(0, os.SEEK_END)
        lines.seek(max(0, end - 1))
        is_torn = lines.read() not in (b"", b"\n")  # the process was killed while writing
        lines.write(b"\n" * is_torn + json.dumps(record).encode() + b"\n")
