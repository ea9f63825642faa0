"""Wheel and sdist, built, and used in an environment that has nothing else."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.rows import write_rows

pytestmark = pytest.mark.packaging

ROOT = Path(__file__).parent.parent
OUTSIDE = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
QUICK = (
    "--model.encoder_size=4 --model.decoder_size=4 --objective.kl_warmup_steps=2 "
    "--training.num_steps=4"
).split()

Run = Callable[..., str]


def call(program: str | Path, *words: object, folder: Path = ROOT) -> str:
    """Run a program without this tree on its path; returns what it prints."""
    done = subprocess.run(
        [program, *map(str, words)], cwd=folder, env=OUTSIDE, capture_output=True,
        encoding="utf-8", check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def install(environment: Path, *words: object) -> None:
    """Install packages in the versions of constraints.txt."""
    pip = (environment / "bin" / "python", "-m", "pip", "install", "--quiet")
    call(*pip, *words, "--constraint", ROOT / "constraints.txt")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The wheel and the sdist."""
    folder = tmp_path_factory.mktemp("dist")
    call(sys.executable, "-m", "hatchling", "build", "-d", folder)
    return {"wheel": next(folder.glob("*.whl")), "sdist": next(folder.glob("*.tar.gz"))}


@pytest.fixture(scope="module")
def environment(built: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment with the wheel and its dependencies."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=True)
    install(folder, built["wheel"])
    return folder


WITH_EXTRA = {  # arguments of python that use each extra
    "words": [f"{ROOT}/data/prepare_words.py --words 5 --test 2 --languages en,fi --out words"],
    "plots": ["-m seqssvae plot run --out plots"],
    "report": ["-m seqssvae report run --out report.html"],
    "onnx": [
        "-m seqssvae export run --to onnx --out exported",
        f"{ROOT}/experiments/onnx_classify.py exported abab",
    ],
    "tensorboard": [
        f"-m seqssvae train --data rows.jsonl --out logged {' '.join(QUICK)} "
        "--training.tensorboard true"
    ],
    "sweep": [
        f"{ROOT}/experiments/sweep.py --data rows.jsonl --config quick.yaml --trials 1 "
        "--out best.yaml"
    ],
    "pyro": ["draw.py"],
    "explore": ["ask.py"],
}
DRAW = """
import pyro, seqssvae
from seqssvae.data.batches import collate

model = seqssvae.load("run")
rows = model.read("rows.jsonl", labels=True)
batch = collate(rows, range(4), num_classes=2)
print(pyro.render_model(model.model.model, (batch,)).source)
"""
ASK = """
import re, subprocess, sys, urllib.request

server = subprocess.Popen(
    [sys.executable, "-u", "-m", "seqssvae", "explore", "run", "--port", "0"],
    stdout=subprocess.PIPE, encoding="utf-8",
)
address = next(found[0] for line in server.stdout if (found := re.search(r"http://\\S+", line)))
page = urllib.request.urlopen(address).read()
server.terminate()
assert b"seqssvae" in page, page
"""


@pytest.mark.parametrize("extra", WITH_EXTRA)
def test_an_extra_installs_all_that_its_commands_need(
    extra: str, built: dict[str, Path], environment: Path, tmp_path: Path
) -> None:
    """In a copy of the environment that has this extra and no other."""
    write_pairs(tmp_path / "rows.jsonl")
    (tmp_path / "draw.py").write_text(DRAW)
    (tmp_path / "ask.py").write_text(ASK)
    (tmp_path / "quick.yaml").write_text(
        "training: {num_steps: 2, teacher: false}\nobjective: {kl_warmup_steps: 1}\n"
    )
    copied = tmp_path / "environment"
    shutil.copytree(environment, copied, symlinks=True, copy_function=os.link)
    install(copied, f"{built['wheel']}[{extra}]")
    train = f"-m seqssvae train --data rows.jsonl --out run {' '.join(QUICK)}"
    for line in [train, *WITH_EXTRA[extra]]:
        call(copied / "bin" / "python", *line.split(), folder=tmp_path)


def write_pairs(path: Path) -> None:
    rows = [{"text": part * n, "label": part} for part in ("ab", "cd") for n in range(1, 9)]
    write_rows(path, rows)


@pytest.fixture(params=["wheel", "sdist"])
def run(
    request: pytest.FixtureRequest, built: dict[str, Path], environment: Path, tmp_path: Path
) -> Run:
    """Run a program of an environment with that package, in a folder outside of the tree."""
    install(environment, "--force-reinstall", "--no-deps", built[request.param])
    return lambda program, *words: call(environment / "bin" / program, *words, folder=tmp_path)


def test_the_installed_package_trains_and_classifies(run: Run, tmp_path: Path) -> None:
    write_pairs(tmp_path / "rows.jsonl")
    assert "classify" in run("seqssvae", "--help")
    assert "_shtab_seqssvae" in run("seqssvae", "--print-completion", "bash")
    run("seqssvae", "train", "--data", "rows.jsonl", "--out", "run", *QUICK)
    found = json.loads(run("seqssvae", "classify", "run", "ababab", "--json").splitlines()[-1])
    assert found["predictions"][0]["label"] in ("ab", "cd")
    loaded = "import seqssvae; print(seqssvae.load('run').labels.names)"
    assert run("python", "-W", "error", "-c", loaded).strip() == "('ab', 'cd')"


def test_the_installed_package_shows_the_main_job(run: Run, tmp_path: Path) -> None:
    """Without a clone, a file or an extra."""
    small = ("--labels-per-class", 3, "--steps", 1)
    assert "the whole SS-VAE" in run("seqssvae", "demo", "--out", "shown", *small)
    again = "import seqssvae; print(seqssvae.demo('more', labels_per_class=3, steps=1)['accuracy'])"
    assert "'ssvae': 0." in run("python", "-c", again)
    assert len((tmp_path / "more-words" / "test.jsonl").read_text("utf-8").splitlines()) == 240


def test_the_package_is_typed_licensed_and_needs_no_extra(run: Run, environment: Path) -> None:
    where = Path(run("python", "-c", "import seqssvae; print(seqssvae.__path__[0])").strip())
    assert where.is_relative_to(environment) and (where / "py.typed").exists()
    program = "from importlib.metadata import metadata; print(metadata('seqssvae')['{}'])"
    assert run("python", "-c", program.format("License-Expression")).strip() == "Apache-2.0"
    assert run("python", "-c", program.format("Description")).startswith("# seqssvae")
    assert run("python", "-m", "pip", "check").startswith("No broken requirements")
    listed = json.loads(run("python", "-m", "pip", "list", "--format", "json"))
    assert not {"pytest", "matplotlib", "sphinx"} & {row["name"].lower() for row in listed}


def test_the_wheel_holds_only_the_package_and_the_sdist_its_tests_too(
    built: dict[str, Path],
) -> None:
    names = zipfile.ZipFile(built["wheel"]).namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"seqssvae"}
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert "seqssvae/show/templates/report.html" in names
    assert "seqssvae/compare/words.csv" in names
    engine = "seqssvae/nn/engine/"
    assert {engine + "recurrent.c", engine + "softmax.c", engine + "exponential.h"} <= set(names)
    with tarfile.open(built["sdist"]) as archive:
        inside = {name.split("/", 1)[1] for name in archive.getnames()}
    for name in ("tests/test_packaging.py", "docs/conf.py", "constraints.txt", "CHANGELOG.md"):
        assert name in inside, name
    assert not [name for name in inside if name.startswith(("runs/", "docs/_build", ".venv"))]
