"""Does unlabelled data help? `seqssvae compare` over many data sets, in one table.

    python experiments/sets.py FOLDER reviews=100,500 names=200:macro_f1 --draws 3 --out runs/sets

FOLDER has a folder for each data set, with `train.jsonl` and `test.jsonl`, gzipped or not. A set is
given with its label budgets, and with `:macro_f1` to use that metric instead of accuracy. Results
are appended to `OUT/NAME.jsonl`, and the same command resumes an interrupted run. Settings are
given as in `seqssvae train` and apply to every set.
"""

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from seqssvae.cli.parser import Parser
from seqssvae.cli.settings import add_settings, read_settings
from seqssvae.compare.arms import CHEAP, MEANINGS, SAME_ENCODER
from seqssvae.compare.compare import compare
from seqssvae.errors import InputError

OURS, PARTS = "ssvae", ("m2", "teacher")
KINDS = {"cheap": CHEAP, "encoder": SAME_ENCODER}
AHEAD, BEHIND = 2.0, 1.0  # thresholds in percentage points


@dataclasses.dataclass(frozen=True)
class DataSet:
    """A data set, its label budgets and the metric to compare."""

    name: str
    budgets: tuple[int, ...]
    metric: str = "accuracy"

    @classmethod
    def parse(cls, argument: str) -> "DataSet":
        """Parse `NAME=N,N` or `NAME=N,N:macro_f1`.

        Raises:
            InputError: The argument has another form.
        """
        name, _, rest = argument.partition("=")
        numbers, _, metric = rest.partition(":")
        try:
            budgets = tuple(int(number) for number in numbers.split(","))
        except ValueError:
            budgets = ()
        if not name or not budgets or metric not in ("", "accuracy", "macro_f1"):
            raise InputError(f"wanted NAME=N,N or NAME=N,N:macro_f1, got {argument}")
        return cls(name, budgets, metric or "accuracy")


def find_file(folder: Path, part: str) -> Path:
    """The file with the rows of one part of a data set.

    Raises:
        InputError: There is no such file.
    """
    for end in (".jsonl", ".jsonl.gz"):
        if (folder / f"{part}{end}").exists():
            return folder / f"{part}{end}"
    raise InputError(f"{folder}: wanted {part}.jsonl or {part}.jsonl.gz, got neither")


def summarise(
    data_set: DataSet, records: Sequence[dict[str, Any]], arms: Sequence[str]
) -> list[dict[str, Any]]:
    """For each budget, in per cent, the mean of the SS-VAE, its parts and each kind's best arm.

    With these `calibration_error`, the expected one of the SS-VAE, from 0 to 1.
    """
    rows = []
    for budget in data_set.budgets:

        def mean(arm: str, metric: str, budget: int = budget) -> float:
            of_arm = [one for one in records if (one["arm"], one["num_labels"]) == (arm, budget)]
            return float(np.mean([one[metric] for one in of_arm]))

        means = {arm: 100 * mean(arm, data_set.metric) for arm in arms}
        row: dict[str, Any] = {"set": data_set.name, "labels": budget, "ours": means[OURS]}
        for kind, names in KINDS.items():
            own = [arm for arm in arms if arm in names]
            best = max(own, key=means.__getitem__, default=None)
            row[kind] = best
            row[f"{kind}_points"] = None if best is None else means[best]
        known = [row[f"{kind}_points"] for kind in KINDS if row[kind]]
        row["difference"] = means[OURS] - max(known) if known else None
        row |= {part: means.get(part) for part in PARTS}
        row["calibration_error"] = mean(OURS, "calibration_error")
        row["gain"] = means[OURS] - means["teacher"] if "teacher" in means else None
        rows.append(row)
    return rows


def print_table(rows: Sequence[dict[str, Any]]) -> None:
    """Print a table, and in how many cells the SS-VAE is ahead and behind."""
    print(
        "| set | labels | best cheap arm | | best arm of the same encoder | | M2 | teacher "
        "| SS-VAE | ahead | over the teacher | calibration error |"
    )
    print("| --- | --: | --- | --: | --- | --: | --: | --: | --: | --: | --: | --: |")
    for row in rows:
        cells = [row["set"], str(row["labels"])]
        for kind in KINDS:
            cells += [row[kind] or "", _points(row[f"{kind}_points"])]
        cells += [_points(row[name]) for name in (*PARTS, "ours")]
        cells += [_points(row[name], "+.1f") for name in ("difference", "gain")]
        cells.append(f"{row['calibration_error']:.3f}")
        print(f"| {' | '.join(cells)} |")
    differences = [row["difference"] for row in rows if row["difference"] is not None]
    if differences:
        ahead = sum(difference >= AHEAD for difference in differences)
        behind = sum(difference < -BEHIND for difference in differences)
        print(
            f"\n{len(differences)} cells: at least {AHEAD:g} points ahead of every other model in "
            f"{ahead}, more than {BEHIND:g} behind the best in {behind}"
        )
    gains = [row["gain"] for row in rows if row["gain"] is not None]
    if gains:
        print(f"over the teacher: {np.mean(gains):+.1f} in the mean, at least {min(gains):+.1f}")
    mean = np.mean([row["calibration_error"] for row in rows])
    print(f"expected calibration error of the SS-VAE: {mean:.3f} in the mean")


def _points(points: float | None, form: str = ".1f") -> str:
    return "" if points is None else format(points, form)


def main(argv: Sequence[str] | None = None) -> None:
    """Run every cell that has no result yet, and print the table."""
    parser = Parser(description=__doc__)
    parser.add_argument("folder", type=Path, help="folder of the data sets")
    parser.add_argument("sets", nargs="+", metavar="NAME=N,N[:macro_f1]")
    parser.add_argument("--draws", type=int, default=3, help="draws of the labels")
    parser.add_argument("--arms", default=",".join(MEANINGS), metavar="A,A", help="arms")
    parser.add_argument("--out", type=Path, default=Path("runs/sets"), help="output folder")
    add_settings(parser)
    arguments = parser.parse_args(argv)
    logging.getLogger("seqssvae.training").setLevel(logging.ERROR)
    arms = list(dict.fromkeys([*arguments.arms.split(","), OURS]))
    rows = []
    try:
        config = read_settings(arguments)
        for data_set in [DataSet.parse(argument) for argument in arguments.sets]:
            records = compare(
                config,
                find_file(arguments.folder / data_set.name, "train"),
                find_file(arguments.folder / data_set.name, "test"),
                budgets=data_set.budgets,
                num_draws=arguments.draws,
                arms=arms,
                out=arguments.out / f"{data_set.name}.jsonl",
            )
            rows += summarise(data_set, records, arms)
    except InputError as error:
        parser.error(str(error))
    print_table(rows)


if __name__ == "__main__":
    main()
