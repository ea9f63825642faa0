"""Imports run downward only, and every module has its test file."""

import ast
import collections
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "seqssvae"
ORDER = [
    "errors",
    "shapes",
    "devices",
    "distributed",
    "progress",
    "config",
    "extensions",
    "overrides",
    "storage",
    "data",
    "nn",
    "model",
    "teacher",
    "estimators",
    "inference",
    "runs",
    "training",
    "trained",
    "compare",
    "show",
    "export",
    "cli",
]


FILE_LINES, CLASS_LINES, FUNCTION_LINES, FOLDER_MODULES = 400, 300, 60, 16
LARGER = {  # lines of what is over a limit, which it may not grow beyond
    "inference.evaluate.evaluate": 105,
    "teacher.teacher.fit_teacher": 71,
    "trained": 544,
    "trained.TrainedModel": 462,
    "training.fit._fit": 73,
    "training.fit.fit": 64,
    "training.fit.train": 64,
    "training.trainer": 419,
    "training.trainer.Trainer": 317,
}


def modules() -> dict[str, Path]:
    """Each module of the package below its root, as `data.rows`, and its file."""
    paths = {
        path.relative_to(PACKAGE).with_suffix("").parts: path for path in PACKAGE.rglob("*.py")
    }
    names = {".".join(parts).removesuffix(".__init__"): path for parts, path in paths.items()}
    return {name: path for name, path in names.items() if name not in ("__init__", "__main__")}


def imported(path: Path) -> Iterator[str]:
    """Modules that a file imports, at its top or inside a function."""
    known = modules()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("seqssvae"):
            module = (node.module or "").removeprefix("seqssvae").removeprefix(".")
            for alias in node.names:
                inner = f"{module}.{alias.name}".removeprefix(".")
                yield inner if inner in known else module


def level(module: str) -> int:
    return ORDER.index(module.split(".")[0])


def test_imports_run_downward() -> None:
    """A module imports packages above its own in `ORDER`, and modules of its own package."""
    upward = {
        (module, other)
        for module, path in modules().items()
        for other in imported(path)
        if other and level(other) > level(module)
    }
    assert upward == set()


def test_no_modules_import_in_a_circle() -> None:
    below = {module: set(imported(path)) - {module} for module, path in modules().items()}
    while below:
        free = [module for module, others in below.items() if not others & set(below)]
        assert free, f"a circle among {sorted(below)}"
        for module in free:
            del below[module]


def sizes(module: str, path: Path) -> Iterator[tuple[str, int, int]]:
    """A file, its classes and its functions: name, lines and limit."""
    text = path.read_text(encoding="utf-8")
    yield module, len(text.splitlines()), FILE_LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            assert node.end_lineno is not None
            limit = CLASS_LINES if isinstance(node, ast.ClassDef) else FUNCTION_LINES
            yield f"{module}.{node.name}", node.end_lineno - node.lineno + 1, limit


def test_files_classes_and_functions_fit() -> None:
    """Those over a limit are in `LARGER`, and no larger than there."""
    found = [size for module, path in modules().items() for size in sizes(module, path)]
    larger = {name: lines for name, lines, limit in found if lines > limit}
    grown = {name: lines for name, lines in larger.items() if lines > LARGER.get(name, 0)}
    assert grown == {}
    assert LARGER.keys() == larger.keys(), "what fits again is no exception"


def test_folders_have_few_modules() -> None:
    """All but that of the commands."""
    folders = collections.Counter(
        path.parent.name for path in PACKAGE.rglob("*.py") if path.name != "__init__.py"
    )
    assert [name for name, n in folders.items() if n > FOLDER_MODULES and name != "cli"] == []


def test_the_tour_names_every_package() -> None:
    tour = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert [package for package in ORDER if not re.search(f"`{package}/?`", tour)] == []


def test_every_module_has_its_test_file() -> None:
    """At the same place under tests/; commands share one."""
    wanted = [
        ROOT / "tests" / path.relative_to(PACKAGE).with_name(f"test_{path.name}")
        for module, path in modules().items()
        if path.name != "__init__.py" and module.split(".")[0] != "cli"
    ]
    assert [path for path in wanted if not path.exists()] == []


def test_every_script_has_its_test_file() -> None:
    scripts = [*(ROOT / "data").glob("*.py"), *(ROOT / "experiments").rglob("*.py")]
    tests = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py"))
    assert [path.name for path in scripts if path.stem not in tests] == []


def test_no_test_module_imports_another() -> None:
    """What they share is under tests/support/."""
    importing = [
        str(path.relative_to(ROOT))
        for path in (ROOT / "tests").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        for name in _imported_names(node)
        if name.startswith("tests.") and not name.startswith("tests.support.")
    ]
    assert importing == []


def _imported_names(node: ast.AST) -> list[str]:
    """Full names that a statement imports."""
    match node:
        case ast.Import():
            return [alias.name for alias in node.names]
        case ast.ImportFrom():
            return [f"{node.module}.{alias.name}" for alias in node.names]
    return []


def test_only_the_model_samples() -> None:
    sampling = [
        module
        for module, path in modules().items()
        if "pyro.sample(" in path.read_text(encoding="utf-8")
    ]
    assert sorted(sampling) == ["model.labels", "model.ssvae", "model.votes"]
