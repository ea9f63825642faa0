"""Does unlabelled data help? The SS-VAE beside its baselines, on the same draws and test rows."""

import dataclasses
import json
import logging
import math
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student_t
from sklearn.metrics import f1_score

from seqssvae.compare.baselines import BASELINES, Sequences, Task
from seqssvae.compare.same_encoder import fit_pretrained, fit_self_trained, fit_supervised
from seqssvae.config import Config, to_mapping
from seqssvae.data.encode import encode_corpus
from seqssvae.data.encoded import EncodedRows
from seqssvae.data.prepare import (
    Prepared,
    count_test_rows_seen,
    prepare,
    read_corpus_like,
)
from seqssvae.errors import InputError
from seqssvae.inference.tally import bin_sums, calibration_error
from seqssvae.model.ssvae import SSVAE
from seqssvae.trained import classify_table
from seqssvae.training.fit import train

__all__ = ["ARMS", "Cell", "classification_figures", "compare", "run_arm", "summarise"]

logger = logging.getLogger(__name__)

Probabilities = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Cell:
    """One arm, one budget, one draw of the labels."""

    arm: str
    num_labels: int
    draw: int


def run_arm(
    arm: str, config: Config, prepared: Prepared, test: tuple[Sequences, EncodedRows]
) -> Probabilities:
    """Train an arm on prepared rows and return its probabilities for test rows.

    Args:
        arm: A key of `ARMS`.
        config: The settings, its seed among them.
        prepared: Rows and the choice of labels, the same for every arm.
        test: The test rows as they stand, and encoded.

    Returns:
        `[n, K]`.
    """
    return ARMS[arm](config, prepared, test)


def compare(
    config: Config,
    source: str | Path,
    test_source: str | Path,
    *,
    budgets: Sequence[int],
    num_draws: int,
    arms: Sequence[str],
    out: Path,
    unlabelled: str | Path | None = None,
) -> list[dict[str, Any]]:
    """Run every cell that `out` does not hold yet, a line each.

    Args:
        config: The settings; draw d has the seed `training.seed + d`.
        source: Training rows.
        test_source: Held-out rows, the same for every cell; nothing is chosen on them.
        budgets: Labelled rows in all, dev included.
        num_draws: Draws of the labels for each budget.
        arms: Keys of `ARMS`.
        out: A jsonl file of results; what it holds of the same settings is not run again.
        unlabelled: More rows, their labels unread.

    Returns:
        One record for each cell.

    Raises:
        InputError: bad input, test rows without labels, an unknown arm, or an `out` that holds
            something else.
    """
    for arm in arms:
        if arm not in ARMS:
            raise InputError(f"--arms: wanted some of {', '.join(ARMS)}, got {arm}")
    files = [None if name is None else str(name) for name in (source, test_source, unlabelled)]
    settings = json.dumps([to_mapping(config), *files], sort_keys=True)
    done = _read(out)
    seen = count_test_rows_seen(config, source, test_source, unlabelled_source=unlabelled)
    if seen:
        logger.warning("%d test rows are among the training rows: figures flatter", seen)
    records = []
    for num_labels in budgets:
        for draw in range(num_draws):
            cells = [Cell(arm, num_labels, draw) for arm in arms]
            drawn: _Draw | None = None
            for cell in cells:
                record = done.get((cell, settings))
                if record is None:
                    if drawn is None:
                        drawn = _Draw.make(config, cell, source, test_source, unlabelled)
                    record = {**dataclasses.asdict(cell), **drawn.run(cell.arm)}
                    _append(out, {**record, "settings": settings})
                    logger.info(
                        "%s, %d labels, draw %d: accuracy %.4f in %.1f s",
                        cell.arm,
                        num_labels,
                        draw,
                        record["accuracy"],
                        record["seconds"],
                    )
                records.append(record)
    return records


def summarise(records: Sequence[dict[str, Any]], reference: str = "ssvae") -> list[dict[str, Any]]:
    """Means over draws, and the reference's paired difference from each arm.

    Args:
        records: Of `compare`.
        reference: The arm that the others are compared with.

    Returns:
        For each budget and arm: mean `accuracy`, `macro_f1`, `calibration_error`, `seconds`, the
        number of draws, and the reference's accuracy minus the arm's, `difference`, with its 95 %
        interval by Student's t over draws, `low` and `high`; None for fewer than 2 draws.
    """
    summary = []
    keys = dict.fromkeys((record["num_labels"], record["arm"]) for record in records)
    for num_labels, arm in keys:
        rows = {r["draw"]: r for r in records if (r["num_labels"], r["arm"]) == (num_labels, arm)}
        base = {
            r["draw"]: r for r in records if (r["num_labels"], r["arm"]) == (num_labels, reference)
        }
        row: dict[str, Any] = {"num_labels": num_labels, "arm": arm, "num_draws": len(rows)}
        for key in ("accuracy", "macro_f1", "calibration_error", "seconds"):
            row[key] = float(np.mean([record[key] for record in rows.values()]))
        paired = np.array(
            [
                base[d]["accuracy"] - rows[d]["accuracy"]
                for d in rows
                if d in base and arm != reference
            ]
        )
        row["difference"] = float(paired.mean()) if len(paired) else None
        half = None
        if len(paired) > 1:
            error = paired.std(ddof=1) / math.sqrt(len(paired))
            half = float(student_t.ppf(0.975, len(paired) - 1) * error)
        row["low"] = None if half is None else row["difference"] - half
        row["high"] = None if half is None else row["difference"] + half
        summary.append(row)
    return summary


def classification_figures(
    probabilities: Probabilities, y: npt.NDArray[np.int64]
) -> dict[str, float]:
    """Accuracy, macro-F1 and calibration error over the rows with a label.

    Args:
        probabilities: `[n, K]`.
        y: Classes, -1 for a row without a label, `[n]`.
    """
    found, y = probabilities[y >= 0], y[y >= 0]
    predicted = found.argmax(1)
    return {
        "accuracy": float(np.mean(predicted == y)),
        "macro_f1": float(f1_score(y, predicted, average="macro", zero_division=0.0)),
        "calibration_error": calibration_error(bin_sums(found.max(1), predicted == y)),
    }


@dataclasses.dataclass(frozen=True)
class _Draw:
    """What all arms of one draw share."""

    config: Config
    prepared: Prepared
    test: tuple[Sequences, EncodedRows]

    @classmethod
    def make(
        cls,
        config: Config,
        cell: Cell,
        source: str | Path,
        test_source: str | Path,
        unlabelled: str | Path | None,
    ) -> "_Draw":
        drawn = dataclasses.replace(
            config,
            data=dataclasses.replace(
                config.data, num_labels=cell.num_labels, labels_per_class=None
            ),
            training=dataclasses.replace(config.training, seed=config.training.seed + cell.draw),
        )
        prepared = prepare(drawn, source, unlabelled_source=unlabelled)
        if not prepared.labels.names:
            raise InputError(f"{source}: wanted rows with labels to compare on, got none")
        corpus = read_corpus_like(test_source, drawn, prepared.vocabulary, read_labels=True)
        rows = encode_corpus(
            corpus, prepared.vocabulary, prepared.labels, max_length=drawn.data.max_length
        )
        if not (rows.y >= 0).any():
            raise InputError(f"{test_source}: wanted test rows with labels, got none")
        for warning in prepared.warnings if cell.draw == 0 else ():
            logger.warning(warning)
        return cls(drawn, prepared, (list(corpus.sequences()), rows))

    def run(self, arm: str) -> dict[str, Any]:
        """Figures on the test rows, and the seconds that training and predicting took."""
        start = time.perf_counter()
        probabilities = run_arm(arm, self.config, self.prepared, self.test)
        seconds = time.perf_counter() - start
        figures = classification_figures(probabilities, self.test[1].y)
        return {**figures, "seconds": seconds}


def _rival(
    fit: Callable[[Config, Prepared], SSVAE],
) -> Callable[[Config, Prepared, tuple[Sequences, EncodedRows]], Probabilities]:
    def run(
        config: Config, prepared: Prepared, test: tuple[Sequences, EncodedRows]
    ) -> Probabilities:
        return classify_table(fit(config, prepared), test[1])

    return run


def _neural(
    config: Config, prepared: Prepared, test: tuple[Sequences, EncodedRows]
) -> Probabilities:
    """The SS-VAE."""
    return classify_table(train(config, prepared).model, test[1])


def _baseline(
    name: str,
) -> Callable[[Config, Prepared, tuple[Sequences, EncodedRows]], Probabilities]:
    def run(
        config: Config, prepared: Prepared, test: tuple[Sequences, EncodedRows]
    ) -> Probabilities:
        known, dev = prepared.labelled.take(prepared.labelled.y >= 0), prepared.labelled_dev
        task = Task(
            labelled=prepared.sequences(known),
            y=known.y,
            unlabelled=prepared.sequences(prepared.unlabelled),
            dev=prepared.sequences(dev),
            dev_y=dev.y,
            num_classes=len(prepared.labels.names),
        )
        return BASELINES[name].fit(task, config.training.seed)(test[0])

    return run


ARMS: dict[str, Callable[[Config, Prepared, tuple[Sequences, EncodedRows]], Probabilities]] = {
    **{name: _baseline(name) for name in BASELINES},
    "supervised": _rival(fit_supervised),
    "self-trained": _rival(fit_self_trained),
    "pretrained": _rival(fit_pretrained),
    "ssvae": _neural,
}


def _read(path: Path) -> dict[tuple[Cell, str], dict[str, Any]]:
    """What a file of results holds; a line cut short by a kill is left out.

    Raises:
        InputError: the file cannot be read, or another line is no result; the line is named.
    """
    found = {}
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
            got = f"another one: {line[:60]!r}"
            raise InputError(f"{path}:{number}: wanted a line that compare wrote, got {got}")
        settings = record.pop("settings")
        found[Cell(record["arm"], record["num_labels"], record["draw"]), settings] = record
    return found


def _is_result(record: dict[str, Any]) -> bool:
    """Whether a line of a file is what `compare` wrote."""
    kinds = {"arm": str, "settings": str, "num_labels": int, "draw": int}
    figures = ("accuracy", "macro_f1", "calibration_error", "seconds")
    return all(isinstance(record.get(key), kind) for key, kind in kinds.items()) and all(
        isinstance(record.get(key), int | float) for key in figures
    )


def _append(path: Path, record: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as lines:
        end = lines.seek(0, os.SEEK_END)
        lines.seek(max(0, end - 1))
        torn = lines.read() not in (b"", b"\n")  # a kill cut the last line short
        lines.write(b"\n" * torn + json.dumps(record).encode() + b"\n")
