"""Does unlabelled data help? Every arm of `seqssvae compare` over many sets, side by side.

    python experiments/sets.py FOLDER reviews=100,500 names=200:macro_f1 --draws 3 --out runs/sets

FOLDER holds a folder for each set, with `train.jsonl` and `test.jsonl`, gzipped or not. A set is
named with its label budgets and, where accuracy is not what counts, with `:macro_f1`. Results go
to `OUT/NAME.jsonl`, cell by cell; a run that was stopped goes on. Settings follow as in
`seqssvae train`, the same for every set.
"""

import argparse
import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from seqssvae.cli.train import add_settings, settings
from seqssvae.compare.compare import ARMS, compare
from seqssvae.errors import InputError

SAME_ENCODER = ("supervised", "self-trained", "pretrained")
OURS = "ssvae"
CLEARLY, UNDER = 2.0, 1.0  # points


@dataclasses.dataclass(frozen=True)
class Wanted:
    """A set, its budgets, and the figure that counts."""

    name: str
    budgets: tuple[int, ...]
    figure: str = "accuracy"

    @classmethod
    def read(cls, argument: str) -> "Wanted":
        """Read `NAME=N,N` or `NAME=N,N:macro_f1`.

        Raises:
            InputError: it is neither.
        """
        name, _, rest = argument.partition("=")
        budgets, _, figure = rest.partition(":")
        try:
            found = tuple(int(budget) for budget in budgets.split(","))
        except ValueError:
            found = ()
        if not name or not found or figure not in ("", "accuracy", "macro_f1"):
            raise InputError(f"wanted NAME=N,N or NAME=N,N:macro_f1, got {argument}")
        return cls(name, found, figure or "accuracy")


def find(folder: Path, part: str) -> Path:
    """The rows of one part of a set.

    Raises:
        InputError: there are none.
    """
    for end in (".jsonl", ".jsonl.gz"):
        if (folder / f"{part}{end}").exists():
            return folder / f"{part}{end}"
    raise InputError(f"{folder}: wanted {part}.jsonl or {part}.jsonl.gz, got neither")


def rows_of(
    wanted: Wanted, records: Sequence[dict[str, Any]], arms: Sequence[str]
) -> list[dict[str, Any]]:
    """For each budget: our mean, and the best arm of each kind by its mean, in points."""
    rows = []
    kinds = {
        "cheap": [arm for arm in arms if arm not in (*SAME_ENCODER, OURS)],
        "encoder": [arm for arm in arms if arm in SAME_ENCODER],
    }
    for budget in wanted.budgets:
        means = {
            arm: 100
            * float(
                np.mean(
                    [
                        record[wanted.figure]
                        for record in records
                        if (record["arm"], record["num_labels"]) == (arm, budget)
                    ]
                )
            )
            for arm in arms
        }
        row: dict[str, Any] = {"set": wanted.name, "labels": budget, "ours": means[OURS]}
        for kind, names in kinds.items():
            best = max(names, key=means.__getitem__, default=None)
            row[kind] = best
            row[f"{kind}_points"] = None if best is None else means[best]
        known = [row[f"{kind}_points"] for kind in kinds if row[kind]]
        row["difference"] = means[OURS] - max(known) if known else None
        rows.append(row)
    return rows


def show(rows: Sequence[dict[str, Any]]) -> None:
    """Print a table and, below it, in how many cells we are ahead and behind."""
    print("| set | labels | best cheap arm | | best arm of the same encoder | | SS-VAE | ahead |")
    print("| --- | --: | --- | --: | --- | --: | --: | --: |")
    for row in rows:
        cells = [row["set"], str(row["labels"])]
        for kind in ("cheap", "encoder"):
            points = row[f"{kind}_points"]
            cells += [row[kind] or "", "" if points is None else f"{points:.1f}"]
        cells.append(f"{row['ours']:.1f}")
        cells.append("" if row["difference"] is None else f"{row['difference']:+.1f}")
        print(f"| {' | '.join(cells)} |")
    differences = [row["difference"] for row in rows if row["difference"] is not None]
    if differences:
        ahead = sum(difference >= CLEARLY for difference in differences)
        behind = sum(difference < -UNDER for difference in differences)
        print(
            f"\n{len(differences)} cells: at least {CLEARLY:g} points ahead of every other arm in "
            f"{ahead}, more than {UNDER:g} behind the best in {behind}"
        )


def main(argv: Sequence[str] | None = None) -> None:
    """Run every cell that is not known yet, and show the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("sets", nargs="+", metavar="NAME=N,N[:macro_f1]")
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--arms", default=",".join(ARMS), metavar="A,A")
    parser.add_argument("--out", type=Path, default=Path("runs/sets"))
    add_settings(parser)
    arguments, rest = parser.parse_known_args(argv)
    arguments.rest = rest
    logging.getLogger("seqssvae.training.trainer").setLevel(logging.ERROR)
    arms = list(dict.fromkeys([*arguments.arms.split(","), OURS]))
    rows = []
    try:
        config = settings(arguments)
        for wanted in [Wanted.read(argument) for argument in arguments.sets]:
            records = compare(
                config,
                find(arguments.folder / wanted.name, "train"),
                find(arguments.folder / wanted.name, "test"),
                budgets=wanted.budgets,
                num_draws=arguments.draws,
                arms=arms,
                out=arguments.out / f"{wanted.name}.jsonl",
            )
            rows += rows_of(wanted, records, arms)
    except InputError as error:
        parser.error(str(error))
    show(rows)


if __name__ == "__main__":
    main()
