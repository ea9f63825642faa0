"""Wheel and sdist, built, and used in an environment that has nothing else."""

import json
import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.packaging

ROOT = Path(__file__).parent.parent
OUTSIDE = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
QUICK = (
    "--model.encoder_size=4 --model.decoder_size=4 --objective.kl_warmup_steps=2 "
    "--training.num_steps=4"
).split()

Run = Callable[..., str]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The wheel and the sdist."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", str(folder)],
        cwd=ROOT,
        env=OUTSIDE,
        check=True,
        capture_output=True,
    )
    return {"wheel": next(folder.glob("*.whl")), "sdist": next(folder.glob("*.tar.gz"))}


@pytest.fixture(scope="module")
def environment(built: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment with the wheel and what it needs, in the versions of constraints.txt."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=True)
    install(folder, str(built["wheel"]), "--constraint", str(ROOT / "constraints.txt"))
    return folder


def install(environment: Path, *words: str) -> None:
    subprocess.run(
        [environment / "bin" / "python", "-m", "pip", "install", "--quiet", *words],
        env=OUTSIDE,
        check=True,
    )


@pytest.fixture(params=["wheel", "sdist"])
def run(
    request: pytest.FixtureRequest, built: dict[str, Path], environment: Path, tmp_path: Path
) -> Run:
    """Run a program of an environment with that package installed, outside of the tree."""
    install(environment, "--force-reinstall", "--no-deps", str(built[request.param]))

    def call(program: str, *words: str) -> str:
        done = subprocess.run(
            [environment / "bin" / program, *words],
            cwd=tmp_path,
            env=OUTSIDE,
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return call


def test_the_installed_package_trains_and_classifies(run: Run, tmp_path: Path) -> None:
    rows = [{"text": part * n, "label": part} for part in ("ab", "cd") for n in range(1, 9)]
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

    assert "classify" in run("seqssvae", "--help")
    assert "_shtab_seqssvae" in run("seqssvae", "--print-completion", "bash")
    run("seqssvae", "train", "--data", "rows.jsonl", "--out", "run", *QUICK)
    found = json.loads(run("seqssvae", "classify", "run", "ababab", "--json").splitlines()[-1])
    assert found["predictions"][0]["label"] in ("ab", "cd")
    loaded = "import seqssvae; print(seqssvae.load('run').labels.names)"
    assert run("python", "-W", "error", "-c", loaded).strip() == "('ab', 'cd')"


def test_the_package_is_typed_licensed_and_needs_no_extra(run: Run, environment: Path) -> None:
    where = Path(run("python", "-c", "import seqssvae; print(seqssvae.__path__[0])").strip())
    assert where.is_relative_to(environment) and (where / "py.typed").exists()
    told = "from importlib.metadata import metadata; print(metadata('seqssvae')['{}'])"
    assert run("python", "-c", told.format("License-Expression")).strip() == "Apache-2.0"
    assert run("python", "-c", told.format("Description")).startswith("# seqssvae")
    assert run("python", "-m", "pip", "check").startswith("No broken requirements")
    listed = json.loads(run("python", "-m", "pip", "list", "--format", "json"))
    assert not {"pytest", "matplotlib", "sphinx"} & {row["name"].lower() for row in listed}


def test_the_wheel_holds_the_package_alone_and_the_sdist_what_tests_it(
    built: dict[str, Path],
) -> None:
    names = zipfile.ZipFile(built["wheel"]).namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"seqssvae"}
    assert any(name.endswith("licenses/LICENSE") for name in names)
    with tarfile.open(built["sdist"]) as archive:
        inside = {name.split("/", 1)[1] for name in archive.getnames()}
    for name in ("tests/test_packaging.py", "docs/conf.py", "constraints.txt", "CHANGELOG.md"):
        assert name in inside, name
    assert not [name for name in inside if name.startswith(("runs/", "docs/_build", ".venv"))]
