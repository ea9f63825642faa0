"""Commands and scripts, run as a user would; a refusal is one line, exit status 2."""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def run_data_script(name: str, *options: object, folder: Path, path: Path = ROOT) -> str:
    """Run a script in a process of its own; it must succeed and print nothing on stderr."""
    result = subprocess.run(
        [sys.executable, "-W", "error", ROOT / "data" / name, *map(str, options)],
        cwd=folder,
        env={"PYTHONPATH": f"{path}:{ROOT}"},
        capture_output=True,
        encoding="utf-8",
    )
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


def read_train_and_test(folder: Path) -> tuple[list[Any], list[Any]]:
    """The rows that a script wrote."""
    train, test = (
        list(map(json.loads, (folder / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()))
        for name in ("train", "test")
    )
    return train, test


def refusal(
    main: Callable[[Sequence[str]], int], options: Sequence[str], capsys: pytest.CaptureFixture[str]
) -> str:
    """Run a command that must refuse its options, and return its message."""
    try:
        status: object = main(options)
    except SystemExit as stop:
        status = stop.code
    message = capsys.readouterr().err
    assert status == 2 and message.count("\n") == 1, (status, message)
    return message


def assert_refused(
    main: Callable[[Sequence[str]], int],
    options: Sequence[str],
    message: str,
    out: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The mistake is reported in one line, and nothing is written."""
    assert message in refusal(main, ["--out", str(out), *options], capsys)
    assert not out.exists()
