"""Prepare functions of installed Python packages, labelled by the package they stand in.

    python data/prepare_code.py --out data/docstrings
    python data/prepare_code.py --kind syntax --out data/syntax

Two sets of very different kinds that need no download: of each function the first paragraph of its
docstring, a text, or what its syntax tree is made of, tokens. A package's style and subject show in
both, the latter hardly.

* `docstrings`: blanks joined to one, 20 to 300 characters.
* `syntax`: the kinds of the nodes ("FunctionDef", "arguments", "Return") breadth first, the first
  80, of functions of three statements or more.

Nothing is imported or run: the packages' files are parsed. Tests are left out, and so is what
stands in two packages; what stands in one package twice counts once. Rows are chosen and shuffled
by a seed, and training and test rows are different. The rows depend on the installed versions:
`constraints.txt` names those that figures were measured with.

Written to the folder: `train.jsonl` and `test.jsonl`, rows `{"text": ..., "label": "scipy"}` or
`{"tokens": [...], "label": "scipy"}`. The packages' licenses, of which each allows copies, go with
what is passed on.
"""

import argparse
import ast
import importlib.util
import json
import random
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from seqssvae.cli import Parser
from seqssvae.errors import InputError
from seqssvae.storage.files import write_lines

__all__ = ["KINDS", "PACKAGES", "choose_rows", "main", "read_functions"]

PACKAGES = ("matplotlib", "networkx", "pandas", "scipy", "sklearn", "sympy", "torch")
SHORTEST, LONGEST = 20, 300  # characters of a docstring's paragraph
LEAST_STATEMENTS, MOST_NODES = 3, 80
LEFT_OUT = "test"  # in the name of a folder or file that is left out

Function = ast.FunctionDef | ast.AsyncFunctionDef
Symbols = str | tuple[str, ...]


def docstring_of(function: Function) -> str | None:
    """The first paragraph of a function's docstring, or None if it is too short or too long."""
    text = " ".join((ast.get_docstring(function) or "").split("\n\n")[0].split())
    return text if SHORTEST <= len(text) <= LONGEST else None


def syntax_of(function: Function) -> tuple[str, ...] | None:
    """The kinds of a function's nodes, or None if it has too few statements."""
    if len(function.body) < LEAST_STATEMENTS:
        return None
    return tuple(type(node).__name__ for node in ast.walk(function))[:MOST_NODES]


KINDS: dict[str, tuple[str, Callable[[Function], Symbols | None]]] = {
    "docstrings": ("text", docstring_of),
    "syntax": ("tokens", syntax_of),
}


def read_functions(package: str) -> Iterator[Function]:
    """Every function of an installed package, file by file in the order of their names.

    Files that this Python cannot parse are left out.

    Raises:
        InputError: there is no such package, or it is a single file.
    """
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):  # of a part of a package; of a name such as ""
        spec = None
    folders = spec.submodule_search_locations if spec is not None else None
    if not folders:
        raise InputError(f"--packages: wanted installed packages, got {package!r}")
    for folder in folders:
        for file in sorted(Path(folder).rglob("*.py")):
            if any(LEFT_OUT in part for part in file.relative_to(folder).parts):
                continue
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of the packages' own escapes
                try:
                    tree = ast.parse(file.read_bytes())
                except (OSError, SyntaxError, ValueError):
                    continue
            yield from (node for node in ast.walk(tree) if isinstance(node, Function))


def choose_rows(
    found: Mapping[str, Sequence[Symbols]], *, num_train: int, num_test: int, seed: int
) -> tuple[list[tuple[Symbols, str]], list[tuple[Symbols, str]]]:
    """Choose rows that stand in one package only.

    Args:
        found: Each package's sequences.
        num_train: Training rows of each package, at least 1.
        num_test: Test rows of each package, at least 1.
        seed: Of the choice, at least 0.

    Returns:
        Training and test rows with their packages, shuffled; no row stands twice.

    Raises:
        InputError: a number out of its range, or more rows wanted than a package has.
    """
    for name, value, low in (("train", num_train, 1), ("test", num_test, 1), ("seed", seed, 0)):
        if value < low:
            raise InputError(f"--{name}: wanted at least {low}, got {value}")
    owners: dict[Symbols, set[str]] = {}
    for package, sequences in found.items():
        for sequence in sequences:
            owners.setdefault(sequence, set()).add(package)
    rng = random.Random(seed)
    train: list[tuple[Symbols, str]] = []
    test: list[tuple[Symbols, str]] = []
    for package in found:
        own = [(sequence, package) for sequence, names in owners.items() if names == {package}]
        if len(own) < num_train + num_test:
            raise InputError(
                f"--train, --test: wanted {num_train} + {num_test} rows of {package}, "
                f"got {len(own)} that stand in no other package"
            )
        chosen = rng.sample(own, num_train + num_test)
        train += chosen[:num_train]
        test += chosen[num_train:]
    rng.shuffle(train)
    rng.shuffle(test)
    return train, test


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return the exit status: 0, or 2 after a user's mistake."""
    parser = Parser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    names = ",".join(PACKAGES)
    add("--kind", choices=KINDS, default="docstrings", help="default docstrings")
    add("--packages", default=names, metavar="NAMES", help=f"default {names}")
    add("--train", type=int, default=1100, help="training rows of each package; default 1100")
    add("--test", type=int, default=250, help="test rows of each package; default 250")
    add("--out", type=Path, help="folder; default data/ and the kind")
    add("--seed", type=int, default=0, help="of the choice; default 0")
    arguments = parser.parse_args(argv)
    folder = arguments.out or Path("data") / arguments.kind
    packages = [name.strip() for name in arguments.packages.split(",")]
    column, cut = KINDS[arguments.kind]
    try:
        if len(set(packages)) < max(2, len(packages)):
            got = ",".join(packages)
            raise InputError(f"--packages: wanted at least two, each once, got {got}")
        found = {
            package: [symbols for one in read_functions(package) if (symbols := cut(one))]
            for package in packages
        }
        parts = choose_rows(
            found, num_train=arguments.train, num_test=arguments.test, seed=arguments.seed
        )
        for name, rows in zip(("train", "test"), parts, strict=True):
            records = ({column: symbols, "label": package} for symbols, package in rows)
            write_lines(folder / f"{name}.jsonl", map(json.dumps, records))
    except InputError as error:
        print(f"{parser.prog}: error: {error}", file=sys.stderr)
        return 2
    train, test = parts
    print(f"{folder}: {len(train)} training and {len(test)} test rows of {len(packages)} packages")
    return 0


if __name__ == "__main__":
    sys.exit(main())
