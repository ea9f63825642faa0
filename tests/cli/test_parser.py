"""What Tab offers after `seqssvae --print-completion` was read by a shell."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from seqssvae.cli import COMMANDS, main
from seqssvae.cli.parser import SHELLS
from seqssvae.config import list_settings

Complete = Callable[..., list[str]]

PRESS_TAB = """
source "$1"; shift
function_of_seqssvae=$(complete -p seqssvae | sed 's/.* -F \\([^ ]*\\) .*/\\1/')
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
"$function_of_seqssvae" seqssvae "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def complete(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Complete:
    """What bash offers for the last of some words, in a folder with the file `rows.jsonl`."""
    assert main(["--print-completion", "bash"]) == 0
    script = tmp_path / "completion"
    script.write_text(capsys.readouterr().out, encoding="utf-8")
    (tmp_path / "rows.jsonl").touch()

    def offered(*words: str) -> list[str]:
        done = subprocess.run(
            ["bash", "--norc", "-c", PRESS_TAB, "bash", str(script), "seqssvae", *words],
            capture_output=True,
            encoding="utf-8",
            check=True,
            cwd=tmp_path,
        )
        assert done.stderr == ""
        return [line.strip() for line in done.stdout.splitlines() if line.strip()]

    return offered


def test_bash_completes_commands_flags_settings_choices_and_files(complete: Complete) -> None:
    assert sorted(complete("")) == sorted(COMMANDS)
    assert complete("eval") == ["evaluate"]
    assert complete("generate", "--temp") == ["--temperature"]
    assert complete("train", "--model.enc") == [
        f"--{one.key}" for one in list_settings() if one.key.startswith("model.enc")
    ]
    assert complete("train", "--model.cell", "") == ["lstm", "gru"]
    assert complete("train", "--training.teacher", "f") == ["false"]
    assert complete("classify", "--mode", "p") == ["posterior"]
    assert complete("train", "--data", "row") == ["rows.jsonl"]
    assert complete("evaluate", "--model.enc") == []  # takes no settings


@pytest.mark.parametrize("shell", SHELLS)
def test_the_shell_can_read_it(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here")
    assert main(["--print-completion", shell]) == 0
    script = capsys.readouterr().out
    done = subprocess.run([shell, "-n"], input=script, encoding="utf-8", check=False)
    assert done.returncode == 0


def test_zsh_completes_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--print-completion", "zsh"]) == 0
    script = capsys.readouterr().out
    assert script.startswith("#compdef seqssvae")
    ends = ('"--{}[', ",--{}}")  # a flag of its own, and the second name of one
    for one in list_settings():
        assert any(end.replace("{}", one.key) in script for end in ends), one.key
