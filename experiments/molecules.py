"""MOSES's figures of generated molecules, for several runs, as a curve over the rows seen.

    python data/prepare_molecules.py --rows 300000 --out data/molecules
    seqssvae train --data data/molecules/train.jsonl --out runs/molecules
    python experiments/molecules.py runs/molecules --reference data/molecules/test.jsonl

Of `-n` molecules of each run, in the proportions of the reference's labels, as Polykovskiy et al.
(2020) measure them:

* `valid`: share that RDKit reads; the others are left out of all that follows;
* `unique@1k`, `unique@10k`: share of different ones, canonical, of the first 1,000 and 10,000;
* `novel`: share of the different ones that are no molecule of MOSES's whole training set, which a
  run may have read in part;
* `fcd`: Frechet ChemNet distance to MOSES's whole test set. Fewer molecules have a larger one: at
  least 10,000 are needed, 30,000 are usual;
* `in_tercile`: share whose property is in the tercile that was asked for, and those of each label.

`rows_seen` counts rows of a run's training steps, a row again in each epoch, without those of the
run that it started from. Active units, mutual information of z, NLL and accuracy are those of
`seqssvae evaluate`, over `--likelihood-rows` of the reference. With `--real`, the first line is of
the reference itself: what a perfect model has.
A line of JSON is printed, and appended to `--out`, for each run, and a table at the end. The
packages are those of `data/prepare_molecules.py`, and fcd_torch.
"""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent.parent))  # for data, whatever folder this runs in

import seqssvae  # noqa: E402
from data.prepare_molecules import (  # noqa: E402
    TERCILES,
    find_moses,
    property_of,
    read_smiles,
    read_terciles,
    tercile_of,
)
from seqssvae import progress  # noqa: E402
from seqssvae.cli.parser import Parser  # noqa: E402
from seqssvae.cli.settings import add_decoding, decoding_options  # noqa: E402
from seqssvae.compare.molecules import (  # noqa: E402
    frechet_distance,
    read_molecules,
    read_rdkit,
)
from seqssvae.compare.score import read_labelled, write_like  # noqa: E402
from seqssvae.data.readers import iterate_rows  # noqa: E402
from seqssvae.errors import InputError  # noqa: E402
from seqssvae.storage.files import readable, to_json  # noqa: E402
from seqssvae.trained import TrainedModel  # noqa: E402

UNIQUE = {"unique@1k": 1000, "unique@10k": 10_000}
COLUMNS = (
    *("run", "rows_seen", "valid", *UNIQUE, "novel", "fcd"),
    *("in_tercile", *TERCILES, "active_units", "mutual_information", "nll", "accuracy"),
)


class Moses:
    """What generated molecules are measured by.

    Args:
        folder: Of MOSES's files; None: of the installed package.
        terciles: File of the property and its terciles.

    Raises:
        InputError: a file or a package is missing.
    """

    def __init__(self, folder: Path | None, terciles: Path) -> None:
        folder = find_moses(folder)
        self.property, self.bounds = read_terciles(terciles)
        self.value = property_of(self.property)
        self.training = set(read_smiles(folder / "train.csv.gz"))
        path = folder / "test_stats.npz"
        with readable(path):  # a pickle, as trustworthy as the package that it came with
            self.statistics = np.load(path, allow_pickle=True)["stats"].item()["FCD"]

    def measure(self, written: Sequence[Any], asked: Sequence[str | None]) -> dict[str, Any]:
        """Figures by name.

        Args:
            written: Texts or lists of tokens, in random order.
            asked: The tercile that each was written for, None for none.
        """
        molecules = read_molecules(written)
        valid = [i for i, molecule in enumerate(molecules) if molecule is not None]
        if len(valid) < 2:
            raise InputError(f"wanted at least 2 valid molecules, got {len(valid)}")
        as_smiles = read_rdkit().MolToSmiles
        canonical = [as_smiles(molecules[i]) for i in valid]
        different = set(canonical)
        found: dict[str, Any] = {"valid": len(valid) / len(written)}
        for name, number in UNIQUE.items():
            some = canonical[:number]
            found[name] = len(set(some)) / len(some)
        found["novel"] = len(different - self.training) / len(different)
        right: dict[str, list[bool]] = {name: [] for name in TERCILES}
        for i in valid:
            label = asked[i]
            if label in right:
                right[label].append(tercile_of(self.value(molecules[i]), self.bounds) == label)
        if every := sum(right.values(), []):
            found["in_tercile"] = sum(every) / len(every)
            found |= {name: sum(own) / len(own) for name, own in right.items() if own}
        found["fcd"] = frechet_distance([written[i] for i in valid], self.statistics)
        return found


def rows_seen(model: TrainedModel) -> int:
    """Rows of all training steps of a run, without those of the run that it started from."""
    training = model.config.training
    labelled = training.labelled_batch_size * bool(model.manifest["summary"]["num_labelled"])
    size = labelled + training.unlabelled_batch_size
    return int(model.manifest["summary"]["num_steps"]) * size


def of_run(run: str, moses: Moses, arguments: Any) -> dict[str, Any]:
    """The figures of a run."""
    model = seqssvae.load(run)
    model.require_decoder("molecules")
    _, y = read_labelled(model, [str(arguments.reference)])
    options: Any = decoding_options(arguments, model.vocabulary.kind)
    start = time.perf_counter()
    written, classes = write_like(model, arguments.n, y, options)
    seconds = time.perf_counter() - start
    order = np.random.default_rng(arguments.seed).permutation(len(written)).tolist()
    names = [*model.labels.names, None]  # class -1 is none
    figures = moses.measure([written[i] for i in order], [names[classes[i]] for i in order])
    kept = ("active_units", "mutual_information", "kl", "nll", "accuracy")
    evaluated = model.evaluate(
        str(arguments.reference), likelihood_rows=arguments.likelihood_rows, seed=arguments.seed
    )
    figures |= {name: evaluated[name] for name in kept if name in evaluated}
    return {"run": run, "rows_seen": rows_seen(model), **figures, "seconds": round(seconds, 1)}


def of_reference(path: Path, moses: Moses, n: int, seed: int) -> dict[str, Any]:
    """The figures of n real molecules."""
    rows = list(iterate_rows(path))
    order: NDArray[np.int64] = np.random.default_rng(seed).permutation(len(rows))[:n]
    some = [rows[i] for i in order.tolist()]
    labels = [row.label if isinstance(row.label, str) else None for row in some]
    return {"run": "reference", **moses.measure([row.sequence for row in some], labels)}


def table(records: Sequence[dict[str, Any]]) -> list[str]:
    """Lines of a table in Markdown."""
    lines = [f"| {' | '.join(COLUMNS)} |", f"| --- |{' --: |' * (len(COLUMNS) - 1)}"]
    for record in records:
        cells = [_shown(record.get(name)) for name in COLUMNS]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _shown(value: Any) -> str:
    match value:
        case None:
            return ""
        case float():
            return f"{value:.3f}"
        case int():
            return f"{value:,}"
    return str(value)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return the exit status: 0, or 2 after a user's error."""
    parser = Parser(description=__doc__)
    add = parser.add_argument
    add("runs", nargs="*", metavar="RUN", help="runs, in the order of the table")
    add("--reference", type=Path, required=True, help="test rows of data/prepare_molecules.py")
    add("--terciles", type=Path, help="file of the property (default: terciles.json beside them)")
    add("--moses", type=Path, metavar="FOLDER", help="of the MOSES files (default: of molsets)")
    add("-n", type=int, default=30_000, metavar="N", help="molecules of each run")
    add("--real", action="store_true", help="measure the reference first")
    add("--likelihood-rows", type=int, default=1000, metavar="N", help="rows for z and NLL")
    add("--out", type=Path, help="file that a line of JSON of each run is appended to")
    add_decoding(parser)
    arguments = parser.parse_args(argv)
    terciles = arguments.terciles or arguments.reference.with_name("terciles.json")
    records: list[dict[str, Any]] = []
    try:
        if not (arguments.runs or arguments.real):
            raise InputError("wanted at least one RUN or --real, got none")
        with progress.shown():
            moses = Moses(arguments.moses, terciles)
            for run in [None] * arguments.real + arguments.runs:
                if run is None:
                    found = of_reference(arguments.reference, moses, arguments.n, arguments.seed)
                else:
                    found = of_run(run, moses, arguments)
                records.append(found)
                line = to_json(found, indent=None).decode()
                print(line, end="", flush=True)
                if arguments.out is not None:
                    with arguments.out.open("a", encoding="utf-8") as stream:
                        stream.write(line)
    except InputError as error:
        parser.error(str(error))
    print("\n".join(table(records)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
