"""What the README and the pages of docs/ tell a reader to type does what they say."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from seqssvae.cli import main
from seqssvae.config import EstimatorConfig

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    text = page.read_text(encoding="utf-8")
    found = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [block for name, block in found if name == language]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_python_runs(
    page: Path, small_run: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The blocks of a page go on from one another; "spam" stands for a label, and steps are few."""
    monkeypatch.chdir(tmp_path)
    run, data = small_run
    names: dict[str, Any] = {"__name__": page.stem}
    found = blocks(page, "python")
    assert found
    for block in found:
        here = block.replace("runs/mine", str(run)).replace("rows.jsonl", str(data))
        exec(here.replace('"spam"', '"left"').replace("num_steps=1000", "num_steps=4"), names)
    if page == README:
        assert len(found) == 2 and isinstance(names["svi"].step(names["batch"]), float)


def test_the_commands_run(
    small_run: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def stop(server: Any) -> None:
        raise KeyboardInterrupt  # as a user ends `explore`

    monkeypatch.setattr("werkzeug.serving.BaseWSGIServer.serve_forever", stop)
    for name in ("rows.jsonl", "test.jsonl", "new.jsonl"):
        (tmp_path / name).write_bytes(small_run[1].read_bytes())
    lines = [
        line for line in "".join(blocks(README, "")).splitlines() if line.startswith("seqssvae ")
    ]
    assert len(lines) == 8
    for line in lines:
        command = shlex.split(line)[1:]
        if "--label" in command:
            command[command.index("spam")] = "left"
        if "--budgets" in command:
            command[command.index("100,500")] = "20"
            command += ["--draws", "1", "--arms", "tfidf-lr-words,ssvae"]
        if command[0] == "explore":
            command += ["--port", "0"]
        if command[0] in ("train", "compare"):
            command += ["--training.num_steps", "4", "--objective.kl_warmup_steps", "2"]
        assert main(command) == 0, line
    assert (tmp_path / "predictions.jsonl").exists() and (tmp_path / "compared.jsonl").exists()


def test_every_estimator_is_in_the_table() -> None:
    hint = EstimatorConfig.__annotations__["name"]
    text = README.read_text(encoding="utf-8")
    assert all(f"`{name}`" in text for name in hint.__args__)
