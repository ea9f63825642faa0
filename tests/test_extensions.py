"""Objects of modules that are not ours, by their import paths."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from seqssvae.config import Config
from seqssvae.errors import InputError
from seqssvae.extensions import import_object, path_of
from seqssvae.overrides import override, to_mapping


def example() -> None:
    """A function that can be imported."""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    monkeypatch.setattr("seqssvae.extensions._known", {})
    return tmp_path


def test_a_module_of_the_working_directory_is_found(here: Path) -> None:
    """After all that is installed, which it cannot shadow."""
    (here / "my_module_a.py").write_text("class A:\n    def b(): return 3\n")
    (here / "json.py").write_text("raise SystemExit")
    assert import_object("my_module_a:A.b", "x")() == 3
    assert import_object("json:dumps", "x")({}) == "{}" and sys.path[-1] == str(here)


@pytest.mark.parametrize(
    ("path", "got"),
    [
        ("no_such_module:build", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("my_module_b:build", "AttributeError: module 'my_module_b' has no attribute 'build'"),
        ("my_module_c:build", "SyntaxError: invalid syntax (my_module_c.py, line 1)"),
    ],
)
def test_what_cannot_be_imported_is_refused_in_a_line(path: str, got: str, here: Path) -> None:
    (here / "my_module_b.py").write_text("")
    (here / "my_module_c.py").write_text("def")
    with pytest.raises(InputError) as caught:
        import_object(path, "runs/a: model.class")
    wanted = f"{path} in the working directory, on PYTHONPATH or installed"
    assert str(caught.value) == f"runs/a: model.class: wanted {wanted}, got {got}"


def test_objects_become_their_paths() -> None:
    path = path_of(example, "model.class")
    assert path == f"{__name__}:example" and import_object(path, "model.class") is example
    config = override(Config(), {"model.class": example, "estimator.name": "my.module:Mine"})
    assert to_mapping(config)["model"]["class"] == path and config.model.class_ == path
    assert override(Config(), to_mapping(config)) == config


@pytest.mark.parametrize("value", [lambda: None, Config(), 3.5])
def test_what_has_no_path_is_refused(value: Any) -> None:
    with pytest.raises(InputError, match=r"^model.class: wanted .*got"):
        override(Config(), {"model.class": value})


@pytest.mark.parametrize(
    "text", ["build", "a/b.py:build", ":build", "a:", "a b:c", "a:b:c", "1a:b"]
)
def test_texts_that_are_no_path_are_refused(text: str) -> None:
    with pytest.raises(InputError) as caught:
        override(Config(), {"model.class": text})
    wanted = "package.module:name or null"
    assert str(caught.value) == f"model.class: wanted {wanted}, got {text!r}"
    with pytest.raises(InputError, match="straight-through, package.module:name or|or package.mod"):
        override(Config(), {"estimator.name": text})


@pytest.mark.parametrize(
    ("command", "path"),
    [(["my_script.py"], "my_script:build"), (["-m", "my_script"], "my_script:build"), (["-"], "")],
)
def test_a_function_of_the_script_that_runs(command: list[str], path: str, here: Path) -> None:
    """Has the name of its file; of standard input, as of a notebook, it has none."""
    script = (
        "from seqssvae.extensions import path_of\n"
        "def build(): pass\n"
        "print(path_of(build, 'model.class'))\n"
    )
    (here / "my_script.py").write_text(script)
    done = subprocess.run(
        [sys.executable, *command], input=script, encoding="utf-8", capture_output=True, check=False
    )
    if path:
        assert done.stdout.strip() == path, done.stderr
    else:
        assert "model.class: wanted a function or class at the top of a .py file" in done.stderr
