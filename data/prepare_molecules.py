"""Prepare molecules labelled by terciles of a property, from the MOSES data of the package molsets.

    pip install rdkit && pip install --no-deps molsets==0.3.1
    python data/prepare_molecules.py --out data/molecules

MOSES (Polykovskiy et al. 2020) has 1,584,663 training and 176,074 test molecules as SMILES. Only
the package's files are read, none of its code is run, which needs old versions of its requirements;
`--moses` names the folder of the files where the package is not installed.

A row's label is low, middle or high: the tercile of RDKit's logP (Crippen) or QED. The terciles are
those of the labelled training rows, and are those of test rows too. The rows of a smaller `--rows`
are among those of a larger one with the same seed.

Output:

* `train.jsonl`, `test.jsonl`: rows `{"tokens": ["C", "Cl", "[nH]", ...], "label": "low"}`, whose
  tokens joined without a space are the SMILES; label null for the training rows without one.
* `terciles.json`: the property and the two values between the terciles, for
  `experiments/molecules.py`.
"""

import gzip
import importlib.util
import json
import re
import sys
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from seqssvae import progress
from seqssvae.cli.parser import Parser
from seqssvae.compare.molecules import read_molecules, read_rdkit
from seqssvae.errors import InputError
from seqssvae.storage.files import parse_json, read_bytes, to_json, write_lines

__all__ = [
    "PROPERTIES",
    "TERCILES",
    "find_moses",
    "main",
    "property_of",
    "read_smiles",
    "read_terciles",
    "tercile_of",
    "tokens_of",
]

PROPERTIES = ("logp", "qed")
TERCILES = ("low", "middle", "high")
TOKEN = re.compile(r"\[[^\]]*\]|Br|Cl|%\d\d|.")  # an atom, bond, branch or ring of SMILES


def find_moses(folder: Path | None) -> Path:
    """The folder of the MOSES files: the given one, or that of the installed package.

    Raises:
        InputError: the package is not installed.
    """
    if folder is not None:
        return folder
    spec = importlib.util.find_spec("moses")  # which does not import it
    for place in (spec and spec.submodule_search_locations) or ():
        return Path(place) / "dataset" / "data"
    raise InputError("wanted the package molsets (pip install --no-deps molsets==0.3.1), got none")


def read_smiles(path: Path) -> list[str]:
    """The molecules of a compressed file with the column SMILES alone.

    Raises:
        InputError: the file cannot be read, or is another one.
    """
    content = read_bytes(path)
    try:
        lines = gzip.decompress(content).decode("ascii").split()
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise InputError(f"{path}: wanted a gzip file of SMILES, got: {error}") from error
    if lines[:1] != ["SMILES"]:
        raise InputError(f"{path}: wanted the column SMILES alone, got {lines[:1]}")
    return lines[1:]


def tokens_of(smiles: str) -> list[str]:
    """The symbols of SMILES; joined, they are the SMILES again."""
    return TOKEN.findall(smiles)


def property_of(name: str) -> Callable[[Any], float]:
    """The function of a molecule of RDKit by its name in `PROPERTIES`."""
    read_rdkit()
    from rdkit.Chem import QED, Crippen

    function: Callable[[Any], float] = {"logp": Crippen.MolLogP, "qed": QED.qed}[name]
    return function


def tercile_of(value: float, bounds: Sequence[float]) -> str:
    """The name of a value's tercile; a bound is in the upper one."""
    return TERCILES[sum(value >= bound for bound in bounds)]


def read_terciles(path: Path) -> tuple[str, list[float]]:
    """Property and bounds of a file `terciles.json`.

    Raises:
        InputError: it cannot be read, or is another file.
    """
    found = parse_json(read_bytes(path), dict, path)
    name, bounds = found.get("property"), found.get("bounds")
    if name not in PROPERTIES or not isinstance(bounds, list) or len(bounds) != 2:
        raise InputError(f"{path}: wanted property and two bounds, got {found}")
    return name, [float(bound) for bound in bounds]


def _values(molecules: Sequence[str], name: str) -> list[float]:
    """The property of each."""
    function = property_of(name)
    values = []
    for smiles, molecule in zip(molecules, read_molecules(molecules), strict=True):
        if molecule is None:
            raise InputError(f"wanted SMILES that RDKit reads, got {smiles}")
        values.append(function(molecule))
    return values


def prepare(arguments: Any) -> list[str]:
    """Write the files; the lines that say what they hold."""
    folder, name, random = find_moses(arguments.moses), arguments.property, arguments.seed
    parts = {}
    for part, number in (("train", arguments.rows), ("test", arguments.test)):
        molecules = read_smiles(folder / f"{part}.csv.gz")
        size = len(molecules) if number is None else number
        if not 3 <= size <= len(molecules):
            flag = "--rows" if part == "train" else "--test"
            raise InputError(f"{flag}: wanted 3 to {len(molecules)}, got {size}")
        order = np.random.default_rng([random, 0]).permutation(len(molecules))[:size]
        parts[part] = [molecules[row] for row in order.tolist()]
    train, test = parts["train"], parts["test"]
    num_labelled = round(arguments.labelled * len(train))
    if not 3 <= num_labelled <= len(train):
        raise InputError(
            f"--labelled: wanted a share up to 1 that is at least 3 rows, got {arguments.labelled}"
        )
    labelled = np.random.default_rng([random, 1]).permutation(len(train))[:num_labelled].tolist()
    values = _values([train[row] for row in labelled], name)
    bounds = np.quantile(values, [1 / 3, 2 / 3]).tolist()
    label = {row: tercile_of(value, bounds) for row, value in zip(labelled, values, strict=True)}
    labels: dict[str, list[str | None]] = {
        "train": [label.get(row) for row in range(len(train))],
        "test": [tercile_of(value, bounds) for value in _values(test, name)],
    }
    for part, molecules in parts.items():
        rows = zip(molecules, labels[part], strict=True)
        records = ({"tokens": tokens_of(smiles), "label": one} for smiles, one in rows)
        write_lines(arguments.out / f"{part}.jsonl", map(json.dumps, records))
    content = to_json({"property": name, "bounds": bounds}).decode()
    write_lines(arguments.out / "terciles.json", [content.rstrip()])
    low, high = bounds
    return [
        f"{arguments.out}: {len(train)} training rows, {num_labelled} of them labelled, "
        f"and {len(test)} test rows",
        f"{name}: low below {low:.4g}, high from {high:.4g} on",
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return the exit status: 0, or 2 after a user's error."""
    parser = Parser(description=__doc__)
    add = parser.add_argument
    add("--moses", type=Path, metavar="FOLDER", help="of the MOSES files (default: of molsets)")
    add("--property", choices=PROPERTIES, default="logp", help="that the labels are terciles of")
    add("--rows", type=int, metavar="N", help="training rows, drawn at random (default: all)")
    add("--labelled", type=float, default=0.05, metavar="SHARE", help="of the training rows")
    add("--test", type=int, default=10_000, metavar="N", help="test rows, drawn at random")
    add("--out", type=Path, default=Path("data/molecules"), help="output folder")
    add("--seed", type=int, default=0, help="seed of the rows and labels")
    arguments = parser.parse_args(argv)
    try:
        with progress.shown():
            lines = prepare(arguments)
    except InputError as error:
        parser.error(str(error))
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
