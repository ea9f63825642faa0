"""Prepare functions of installed Python packages, labelled by their package.

    python data/prepare_code.py --out data/docstrings
    python data/prepare_code.py --kind syntax --out data/syntax

Two kinds of data that need no download. Both show a package's style; its subject shows mostly in
the docstrings.

* `docstrings`: text, the first paragraph of each function's docstring, with runs of white space
  replaced by one space; 20 to 300 characters.
* `syntax`: tokens, the node types of each function's syntax tree ("FunctionDef", "arguments",
  "Return") in breadth-first order, at most 80; functions with at least three statements.

The packages' files are parsed, not imported. Tests are left out. Sequences that occur in two
packages are dropped, duplicates within a package are kept once. Rows are chosen and shuffled with
the given seed, and no row is in both parts. The rows depend on the installed versions: published
results used those of `constraints.txt`.

Output: `train.jsonl` and `test.jsonl` with rows `{"text": ..., "label": "scipy"}` or
`{"tokens": [...], "label": "scipy"}`. The packages' licenses allow copies; include them when you
redistribute the files.
"""

import ast
import importlib.util
import json
import random
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from seqssvae.cli.parser import Parser
from seqssvae.errors import InputError
from seqssvae.storage.files import write_lines

__all__ = ["KINDS", "PACKAGES", "choose_rows", "main", "read_functions"]

PACKAGES = ("matplotlib", "networkx", "pandas", "scipy", "sklearn", "sympy", "torch")
MIN_CHARACTERS, MAX_CHARACTERS = 20, 300  # of a docstring's first paragraph
MIN_STATEMENTS, MAX_NODES = 3, 80
EXCLUDED = "test"  # folders and files with this in their name are skipped

Function = ast.FunctionDef | ast.AsyncFunctionDef
Symbols = str | tuple[str, ...]


def docstring_of(function: Function) -> str | None:
    """The first paragraph of a function's docstring, or None if it is too short or too long."""
    text = " ".join((ast.get_docstring(function) or "").split("\n\n")[0].split())
    return text if MIN_CHARACTERS <= len(text) <= MAX_CHARACTERS else None


def syntax_of(function: Function) -> tuple[str, ...] | None:
    """The types of a function's syntax nodes, or None if it has too few statements."""
    if len(function.body) < MIN_STATEMENTS:
        return None
    return tuple(type(node).__name__ for node in ast.walk(function))[:MAX_NODES]


KINDS: dict[str, tuple[str, Callable[[Function], Symbols | None]]] = {
    "docstrings": ("text", docstring_of),
    "syntax": ("tokens", syntax_of),
}


def read_functions(package: str) -> Iterator[Function]:
    """Yield every function of an installed package, file by file, sorted by file name.

    Files that this version of Python cannot parse are skipped.

    Raises:
        InputError: The package does not exist, or is a single file.
    """
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):  # a missing parent package; an empty name
        spec = None
    folders = spec.submodule_search_locations if spec is not None else None
    if not folders:
        raise InputError(f"--packages: wanted installed packages, got {package!r}")
    for folder in folders:
        for file in sorted(Path(folder).rglob("*.py")):
            if any(EXCLUDED in part for part in file.relative_to(folder).parts):
                continue
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # invalid escape sequences in the packages
                try:
                    tree = ast.parse(file.read_bytes())
                except (OSError, SyntaxError, ValueError):
                    continue
            yield from (node for node in ast.walk(tree) if isinstance(node, Function))


def choose_rows(
    sequences: Mapping[str, Sequence[Symbols]], *, num_train: int, num_test: int, seed: int
) -> tuple[list[tuple[Symbols, str]], list[tuple[Symbols, str]]]:
    """Choose sequences that occur in one package only.

    Args:
        sequences: The sequences of each package.
        num_train: Number of training rows per package, at least 1.
        num_test: Number of test rows per package, at least 1.
        seed: Seed of the choice, at least 0.

    Returns:
        Training and test rows with their packages, shuffled; no row occurs twice.

    Raises:
        InputError: A number is out of range, or a package has too few rows.
    """
    for name, value, low in (("train", num_train, 1), ("test", num_test, 1), ("seed", seed, 0)):
        if value < low:
            raise InputError(f"--{name}: wanted at least {low}, got {value}")
    owners: dict[Symbols, set[str]] = {}
    for package, own in sequences.items():
        for sequence in own:
            owners.setdefault(sequence, set()).add(package)
    rng = random.Random(seed)
    train: list[tuple[Symbols, str]] = []
    test: list[tuple[Symbols, str]] = []
    for package in sequences:
        unique = [(sequence, package) for sequence, names in owners.items() if names == {package}]
        if len(unique) < num_train + num_test:
            raise InputError(
                f"--train, --test: wanted {num_train} + {num_test} rows of {package}, "
                f"got {len(unique)} that occur in no other package"
            )
        chosen = rng.sample(unique, num_train + num_test)
        train += chosen[:num_train]
        test += chosen[num_train:]
    rng.shuffle(train)
    rng.shuffle(test)
    return train, test


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return the exit status: 0, or 2 after a user's error."""
    parser = Parser(description=__doc__)
    add = parser.add_argument
    names = ",".join(PACKAGES)
    add("--kind", choices=KINDS, default="docstrings", help="kind of data")
    add("--packages", default=names, metavar="NAMES", help="packages")
    add("--train", type=int, default=1100, help="training rows per package")
    add("--test", type=int, default=250, help="test rows per package")
    add("--out", type=Path, help="output folder (default data/KIND)")
    add("--seed", type=int, default=0, help="seed of the choice")
    arguments = parser.parse_args(argv)
    folder = arguments.out or Path("data") / arguments.kind
    packages = [name.strip() for name in arguments.packages.split(",")]
    column, extract = KINDS[arguments.kind]
    try:
        if len(set(packages)) < max(2, len(packages)):
            got = ",".join(packages)
            raise InputError(f"--packages: wanted at least two, each once, got {got}")
        sequences = {
            package: [symbols for one in read_functions(package) if (symbols := extract(one))]
            for package in packages
        }
        parts = choose_rows(
            sequences, num_train=arguments.train, num_test=arguments.test, seed=arguments.seed
        )
        for name, rows in zip(("train", "test"), parts, strict=True):
            records = ({column: symbols, "label": package} for symbols, package in rows)
            write_lines(folder / f"{name}.jsonl", map(json.dumps, records))
    except InputError as error:
        parser.error(str(error))
    train, test = parts
    print(f"{folder}: {len(train)} training and {len(test)} test rows of {len(packages)} packages")
    return 0


if __name__ == "__main__":
    sys.exit(main())
