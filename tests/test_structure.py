"""Imports run downward only, and every room has its test file."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "seqssvae"
LAYERS = [
    [
        "config",
        "plain_yaml",
        "shapes",
        "vocabulary",
        "pieces",
        "stopping",
        "files",
        "manifests",
        "metrics",
        "ranks",
        "slices",
    ],
    [
        "places",
        "caches",
        "rows",
        "arrow_rows",
        "dataset_columns",
        "readers",
        "splits",
        "encoded",
        "tables",
        "corpora",
        "encoding",
        "oddities",
        "batches",
        "streams",
        "words",
        "ngrams",
        "interpolated",
        "bags",
    ],
    [
        "buffers",
        "threads",
        "kernels",
        "blocks",
        "loops",
        "cells",
        "recurrent",
        "encoders",
        "decoder",
    ],
    ["likelihood", "model"],
    [
        "estimators",
        "schedules",
        "decoding",
        "classification",
        "latents",
        "tallies",
        "evaluation",
        "costs",
    ],
    ["novelty", "projection"],
    ["baselines", "regression", "evidence", "views", "members", "pooling", "teacher"],
    [
        "checking",
        "preparation",
        "distillation",
        "building",
        "identity",
        "badsteps",
        "steps",
        "training",
        "tensors",
        "checkpoints",
        "runs",
        "cards",
        "sharing",
        "scalars",
        "fitting",
        "trained",
        "rivals",
        "swaps",
        "comparison",
        "portraits",
        "plots",
        "comparison_plots",
        "maps",
        "report",
        "explorer",
        "explorer_page",
    ],
    ["classifier", "export"],
    ["cli"],
]
FREE_OF_TORCH = [
    "config",
    "rows",
    "readers",
    "splits",
    "vocabulary",
    "corpora",
    "encoded",
    "encoding",
]


def rooms() -> Iterator[tuple[str, Path]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if parts[0] not in ("__init__", "__main__"):
            yield parts[0], path


def imported(path: Path) -> Iterator[str]:
    """Rooms that a file imports when it is loaded or run."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("seqssvae."):
            yield (node.module or "").split(".")[1]


def layer(room: str) -> int:
    found = [number for number, names in enumerate(LAYERS) if room in names]
    assert found, f"{room} stands in no layer"
    return found[0]


def test_imports_run_downward() -> None:
    upward = [
        f"{room} imports {other}"
        for room, path in rooms()
        for other in imported(path)
        if layer(other) > layer(room)
    ]
    assert upward == []


def test_no_room_imports_in_a_circle() -> None:
    below: dict[str, set[str]] = {}
    for room, path in rooms():
        below.setdefault(room, set()).update(set(imported(path)) - {room})
    while below:
        free = [room for room, others in below.items() if not others & set(below)]
        assert free, f"a circle among {sorted(below)}"
        for room in free:
            del below[room]


def test_every_room_has_its_test_file() -> None:
    subpackages = {"estimators", "cli"}  # theirs are named after what they test
    names = {room for room, _ in rooms()} - subpackages
    missing = [name for name in names if not (ROOT / "tests" / f"test_{name}.py").exists()]
    assert missing == []


def test_every_script_has_its_test_file() -> None:
    scripts = [*(ROOT / "data").glob("*.py"), *(ROOT / "experiments").rglob("*.py")]
    tests = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").glob("*.py"))
    assert [path.name for path in scripts if path.stem not in tests] == []


def test_only_the_model_samples() -> None:
    found = [
        path.name
        for room, path in rooms()
        if "pyro.sample(" in path.read_text(encoding="utf-8") and room != "model"
    ]
    assert found == []
