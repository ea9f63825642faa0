"""Snippets of Markdown pages: fenced blocks, inline code and table cells, and how they are run."""

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from seqssvae.cli import main
from seqssvae.config import Config
from seqssvae.data.readers import iterate_rows
from seqssvae.overrides import override
from tests.support.training import QUICK

ROOT = Path(__file__).parents[2]
SHORT = (  # settings that shorten a training of a page to a second
    "--training.num_steps=4 --objective.kl_warmup_steps=2 --model.embedding_size=4 "
    "--model.encoder_size=4 --model.decoder_size=4 --training.max_minutes=3 "
    "--model.ngram_buckets=256"
).split()
FEWER = {
    "compare": ["--draws", "1", "--arms", "tfidf-lr-words,ssvae", "--budgets", "10"],
    "explore": ["--port", "0"],
    "generate": ["-n", "5"],
    "check": ["--draws", "2", "--rows", "2"],
}
INSTALLERS = ("pip install ", ".venv/bin/pre-commit install")  # change more than a folder


class Block(NamedTuple):
    """A fenced block."""

    language: str
    text: str


def blocks(page: str) -> list[Block]:
    """The fenced blocks of a page, in order."""
    found = re.findall(r"^```([^\n`]*)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    return [Block(language.strip(), text) for language, text in found]


def inline_code(page: str) -> list[str]:
    """Text between single backticks outside of fenced blocks."""
    outside = re.sub(r"^```.*?^```$", "", page, flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"(?<!`)`([^`\n]+)`(?!`)", outside)


def table_code(page: str) -> Iterator[str]:
    """The last cell of each row of a page's tables that is one piece of code and nothing else."""
    for line in page.splitlines():
        if line.startswith("|") and (found := re.search(r"(?<!\\)\| `([^`]+)` \|$", line)):
            yield found[1].replace("\\|", "|")


def run_python(text: str, names: dict[str, Any], *, where: str) -> None:
    """Run a block with the names that earlier blocks of its page left; trainings are shortened."""
    names.setdefault("__name__", "page")
    names["short"] = override(Config(), {**QUICK, "training.teacher": False})
    short = text.replace("num_steps=1000", "num_steps=4, config=short")
    short = short.replace('"training.num_steps": 300', '"training.num_steps": 4')
    exec(compile(short, where, "exec"), names)


def run_shell(text: str) -> list[str]:
    """Run a block's lines in the current folder; return those that are run elsewhere or not at all.

    Commands of `seqssvae` run in this process, trainings shortened, and those under torchrun as
    one process; targets of `make` must exist.

    Raises:
        AssertionError: a command that fails, or one that is not known here.
    """
    left = []
    for line in text.replace("\\\n", "").splitlines():
        command = re.sub(r"^torchrun .*-m seqssvae", "seqssvae", line).partition(" > ")[0]
        words = shlex.split(command, comments=True)
        if not words:
            continue
        if words[0] == "seqssvae":
            if words[1] == "train":  # the page may use what is there already
                shutil.rmtree(words[words.index("--out") + 1], ignore_errors=True)
            if words[1] in ("train", "compare"):
                words += [word for word in SHORT if word.split("=")[0] not in words]
            words += FEWER.get(words[1], [])
            assert main(words[1:]) == 0, line
        elif words[0] == "make":
            dry = ["make", "--dry-run", "--directory", str(ROOT), *words[1:]]
            subprocess.run(dry, check=True, capture_output=True)
        elif words[0] == "python":
            assert (ROOT / words[1]).exists(), line  # it has a test of its own
            left.append(line)
        else:
            assert command.strip().startswith(INSTALLERS), f"no test runs {line}"
            left.append(line)
    return left


def check_rows(text: str, folder: Path) -> None:
    """Read a block of rows as a file."""
    path = folder / "snippet.jsonl"
    path.write_text(text, encoding="utf-8")
    assert list(iterate_rows(path))


def check_settings(text: str, folder: Path) -> None:
    """Read a block of settings, and leave it as `settings.yaml`."""
    override(Config(), yaml.safe_load(text))
    (folder / "settings.yaml").write_text(text, encoding="utf-8")
