"""How many small faults put into the code do its tests notice?

    python experiments/mutation.py --rooms likelihood streams --sample 40

Each mutant changes one operator, comparison, constant, condition or statement of a room, and the
room's own tests run on it until the first failure; `--sample` draws so many mutants of a room.
Survivors are listed with their lines: each is a missing test, or a change that changes nothing.

A mutator of our own, because mutmut 3 leaves functions with two decorators and properties alone,
which are the gradients of the likelihood, and needs a copy of the tree that the tests of structure
do not take. Here each mutant is a fork of a process that has torch loaded, which costs no import;
nothing is written to the disk. Needs a system with `fork`.
"""

import argparse
import ast
import contextlib
import copy
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import random
import signal
import sys
import time
import types
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent
ROOMS = {
    "likelihood": ("seqssvae.model.likelihood", ["likelihood", "enumeration"]),
    "shapes": ("seqssvae.shapes", ["shapes", "likelihood"]),
    "batches": ("seqssvae.data.batches", ["batches", "streams"]),
    "streams": ("seqssvae.data.streams", ["streams"]),
    "runs": ("seqssvae.runs.run", ["runs", "fitting"]),
    "terms": ("seqssvae.estimators.terms", ["enumeration", "sampled"]),
    "enumeration": ("seqssvae.estimators.trace_enum", ["enumeration"]),
    "fused": ("seqssvae.estimators.fused", ["enumeration", "sampled"]),
    "sampled": ("seqssvae.estimators.sampled", ["sampled"]),
    "relaxed": ("seqssvae.estimators.relaxed", ["sampled"]),
}  # a module, and the test files that are its own
SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult, ast.Mod: ast.FloorDiv, ast.Pow: ast.Mult, ast.MatMult: ast.Add,
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn,
    ast.NotIn: ast.In, ast.And: ast.Or, ast.Or: ast.And, ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd, ast.USub: ast.UAdd, ast.Invert: ast.UAdd,
}  # fmt: skip
TIME_OUT = 900.0  # seconds; a mutant that runs on is noticed too


def main(argv: Sequence[str] | None = None) -> int:
    """Mutate, test, and print the share that was killed and what survived."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rooms", nargs="+", choices=ROOMS, default=list(ROOMS))
    parser.add_argument("--sample", type=int, default=0, metavar="N", help="0: all of them")
    parser.add_argument("--minutes", type=float, default=600.0, help="of a room, at most")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)
    import torch

    torch.set_num_threads(1)
    import pyro  # noqa: F401 - loaded before the forks
    import pytest  # noqa: F401

    totals = [0, 0]
    for room in arguments.rooms:
        module, tests = ROOMS[room]
        path = ROOT / Path(*module.split(".")).with_suffix(".py")
        source = path.read_text(encoding="utf-8")
        if not passes(module, source, path, tests):
            sys.exit(f"{room}: wanted tests that pass on the code as it is, got some that fail")
        mutants = list(find_mutants(source))
        random.Random(arguments.seed).shuffle(mutants)
        start, killed, survivors = time.monotonic(), 0, 0
        for number, line, what, mutated in mutants[: arguments.sample or None]:
            if killed + survivors and time.monotonic() - start > 60 * arguments.minutes:
                break
            if passes(module, mutated, path, tests):
                survivors += 1
                print(f"{room}.py:{line}: survived ({number}): {what}", flush=True)
            else:
                killed += 1
        tried = killed + survivors
        totals = [totals[0] + killed, totals[1] + tried]
        share = f"{100 * killed / max(1, tried):.1f} %"
        print(
            f"{room}: {killed} of {tried} tried ({len(mutants)} there are) killed, {share}",
            flush=True,
        )
    killed, tried = totals
    print(json.dumps({"killed": killed, "tried": tried, "share": killed / max(1, tried)}))
    return 0


def find_mutants(source: str) -> Iterator[tuple[int, int, str, str]]:
    """Yield the number of each mutant, its line, what was changed, and the new source."""
    tree = ast.parse(source)
    for number, (place, change) in enumerate(_changes(tree)):
        mutated = copy.deepcopy(tree)
        node = list(ast.walk(mutated))[place]
        before = ast.unparse(node)
        change_node(node, change)
        after = ast.unparse(node) if not isinstance(node, ast.stmt) else change
        what = " ".join(f"{before} -> {after}".split())
        yield number, getattr(node, "lineno", 0), what[:160], ast.unparse(mutated)


def _changes(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Places in `ast.walk` and what is done there; annotations and docstrings are left alone."""
    skipped: set[int] = set()
    for node in ast.walk(tree):
        for name in ("annotation", "returns"):
            inner = getattr(node, name, None)
            if isinstance(inner, ast.AST):
                skipped.update(id(part) for part in ast.walk(inner))
        if isinstance(node, ast.Raise):  # the words of a message
            skipped.update(id(part) for part in ast.walk(node) if isinstance(part, ast.Constant))
    for place, node in enumerate(ast.walk(tree)):
        if id(node) in skipped:
            continue
        match node:
            case ast.BinOp() | ast.BoolOp() | ast.UnaryOp():
                if type(node.op) in SWAPS or isinstance(node.op, ast.Not):
                    yield place, "operator"
            case ast.Compare() if type(node.ops[0]) in SWAPS:
                yield place, "comparison"
            case ast.Constant(value=bool()):
                yield place, "negated"
            case ast.Constant(value=int() | float()):
                yield place, "constant"
            case ast.If() | ast.IfExp() | ast.While():
                yield place, "condition true"
                yield place, "condition false"
            case ast.AugAssign() if type(node.op) in SWAPS:
                yield place, "operator"
            case ast.Expr(value=ast.Call()) | ast.Raise() | ast.Continue() | ast.Break():
                yield place, "statement left out"


def change_node(node: ast.AST, change: str) -> None:
    """Change a node in place."""
    match node:
        case ast.BinOp() | ast.BoolOp() | ast.AugAssign():
            node.op = SWAPS[type(node.op)]()  # type: ignore[assignment]
        case ast.UnaryOp():
            if isinstance(node.op, ast.Not):
                node.operand = ast.UnaryOp(ast.Not(), node.operand)
            else:
                node.op = SWAPS[type(node.op)]()  # type: ignore[assignment]
        case ast.Compare():
            node.ops[0] = SWAPS[type(node.ops[0])]()  # type: ignore[call-overload]
        case ast.Constant(value=bool(value)):
            node.value = not value
        case ast.Constant(value=int(value) | float(value)):
            node.value = value + 1
        case ast.If() | ast.IfExp() | ast.While():
            node.test = ast.Constant(change == "condition true")
        case ast.stmt():
            node.__class__ = ast.Pass  # in the place of any statement


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Loads one module from a source of our own."""

    def __init__(self, module: str, source: str, path: Path) -> None:
        self.module, self.source, self.path = module, source, path

    def find_spec(
        self, fullname: str, path: object = None, target: object = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The mutated module's spec, and no other's."""
        if fullname != self.module:
            return None
        return importlib.util.spec_from_file_location(fullname, self.path, loader=self)

    def exec_module(self, module: types.ModuleType) -> None:
        """Run the mutated source."""
        exec(compile(self.source, str(self.path), "exec"), module.__dict__)


def passes(module: str, source: str, path: Path, tests: Sequence[str]) -> bool:
    """Whether the tests pass on a mutated module, in a process of their own."""
    child = os.fork()
    if child == 0:
        status = 1
        with contextlib.suppress(BaseException):
            status = _test(module, source, path, tests)
        os._exit(status)
    deadline = time.monotonic() + TIME_OUT
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status) == 0
        time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


def _test(module: str, source: str, path: Path, tests: Sequence[str]) -> int:
    import pytest

    os.environ["HYPOTHESIS_PROFILE"] = "unshrunk"  # read by conftest.py
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    os.chdir(ROOT)
    sys.meta_path.insert(0, _Finder(module, source, path))
    files = [f"tests/test_{name}.py" for name in tests]
    return int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *files]))


if __name__ == "__main__":
    sys.exit(main())
