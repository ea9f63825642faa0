"""What the README tells a newcomer to type does what it says."""

import shlex
from pathlib import Path
from typing import Any

import pytest

from seqssvae.cli import main
from seqssvae.config import EstimatorConfig
from tests.support import snippets

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return [block.text for block in snippets.blocks(README) if block.language == language]


def test_the_python_runs(small_run: tuple[Path, Path]) -> None:
    run, data = small_run
    names: dict[str, Any] = {}
    found = blocks("python")
    assert len(found) == 2 and not any("from seqssvae." in block for block in found)
    for block in found:
        here = block.replace("runs/mine", str(run)).replace("rows.jsonl", str(data))
        exec(here.replace('"spam"', '"left"'), names)
    assert isinstance(names["svi"].step(names["batch"]), float)


def test_the_commands_run(
    small_run: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def stop(server: Any) -> None:
        raise KeyboardInterrupt  # as a user ends `explore`

    monkeypatch.setattr("werkzeug.serving.BaseWSGIServer.serve_forever", stop)
    for name in ("rows.jsonl", "test.jsonl", "new.jsonl"):
        (tmp_path / name).write_bytes(small_run[1].read_bytes())
    lines = [line for line in "".join(blocks("")).splitlines() if line.startswith("seqssvae ")]
    assert len(lines) == 8
    for line in lines:
        command = shlex.split(line)[1:]
        if "--label" in command:
            command[command.index("spam")] = "left"
        if "--budgets" in command:
            command[command.index("100,500")] = "20"
            command += ["--draws", "1", "--arms", "tfidf-lr-words,ssvae"]
        if command[0] in ("train", "compare"):
            command += ["--training.num_steps", "4", "--objective.kl_warmup_steps", "2"]
        if command[0] == "explore":
            command += ["--port", "0"]
        assert main(command) == 0, line
    assert (tmp_path / "predictions.jsonl").exists() and (tmp_path / "compared.jsonl").exists()


def test_every_estimator_is_in_the_table() -> None:
    hint = EstimatorConfig.__annotations__["name"]
    assert all(f"`{name}`" in README for name in hint.__args__)
