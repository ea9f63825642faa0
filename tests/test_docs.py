"""The pages under docs/ say what is so: their snippets run, their names exist, and they build."""

import json
import pkgutil
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest
import sphinx.util.inventory
import torch

import seqssvae
from seqssvae import devices
from seqssvae.cli import COMMANDS, main
from seqssvae.compare.arms import MEANINGS
from seqssvae.config import EstimatorName, list_settings
from tests.support import snippets
from tests.support.fake_device import fake_device
from tests.support.rows import write_rows

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
README = ROOT / "README.md"
PAGES = [*sorted(DOCS.glob("*.md")), ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
EXAMPLES = sorted((DOCS / "examples").glob("*.py"))  # which have a test of their own
NOTEBOOKS = sorted((DOCS / "notebooks").glob("*.ipynb"))
SHOWN = (  # what no one types
    "text",
    "{eval-rst}",
    "{include} ../CHANGELOG.md",
    "{include} ../CONTRIBUTING.md",
    "{toctree}",
    *(f"{{literalinclude}} examples/{path.name}" for path in EXAMPLES),
    *(f"{{literalinclude}} _generated/{name}.txt" for name in ("log", "printed")),
)
BATCHED = ("estimators", "faq", "howto", "pyro")  # they give batches to the networks
PROSE = {
    "ham": ["lunch at noon?", "see you tomorrow", "the report is done", "thanks for the notes"],
    "spam": ["cheap pills, click here", "free pills now", "click to win", "win free money"],
}


def write_messages(path: Path, *, times: int) -> None:
    """Rows of two labels, and as many with none."""
    rows = [
        {"text": " and ".join([text] * n), "label": label if n % 2 else None}
        for n in range(1, times + 1)
        for label, texts in PROSE.items()
        for text in texts
    ]
    write_rows(path, rows)


@pytest.fixture(scope="session")
def mail(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the pages speak of, and the run `runs/mine`."""
    folder = tmp_path_factory.mktemp("mail")
    (folder / "folder").mkdir()
    for name in ("rows", "test", "new", "folder/train", "folder/test"):
        write_messages(folder / f"{name}.jsonl", times=4)
    (folder / "proteins.fasta").write_text("".join(f">p{i}\nMK{'AV'[i % 2]}\n" for i in range(12)))
    families = "".join(f"p{i},{'xy'[i % 2]}\n" for i in range(12))
    (folder / "families.csv").write_text(f"id,family\n{families}")
    calls = "a room,book,en|ein Zimmer,book,de|stop it,cancel,|hallo,,de|no room,cancel,en"
    rows = f"{calls}|kein Zimmer,cancel,de|".replace("|", "\n") * 4
    reviews = "good,pos,pos,,pos\nbad,neg,neg,neg,\nfine,,pos,pos,neg\nawful,,,neg,pos\n" * 5
    (folder / "reviews.csv").write_text(f"text,label,rule_1,rule_2,rule_3\n{reviews}")
    (folder / "tree.csv").write_text("child,parent\ncat,mammal\ndog,mammal\neagle,bird\n")
    animals = "miaow,cat\nwoof,dog\nscreech,eagle\npurr,mammal\nhowl,\n" * 4
    (folder / "animals.csv").write_text(f"text,label\n{animals}")
    (folder / "calls.csv").write_text(f"text,intent,language\n{rows}", encoding="utf-8")
    lines = [f'"{text}",{label}\n' for label, texts in PROSE.items() for text in texts]
    (folder / "messages.csv").write_text("body,kind\n" + "".join(lines * 2), encoding="utf-8")
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    data, out = str(folder / "rows.jsonl"), str(folder / "runs" / "mine")
    assert main(["train", "--data", data, "--out", out, *snippets.SHORT]) == 0
    torch.set_default_dtype(before)
    return folder


@pytest.fixture
def here(mail: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that folder to work in."""
    folder = tmp_path / "here"
    shutil.copytree(mail, folder)
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(DOCS / "examples")

    def stop(server: Any) -> None:
        raise KeyboardInterrupt  # as a user ends `explore`

    monkeypatch.setattr("werkzeug.serving.BaseWSGIServer.serve_forever", stop)
    return folder


@pytest.mark.parametrize("page", [*PAGES, README], ids=lambda page: page.stem)
def test_every_snippet_runs(page: Path, here: Path) -> None:
    names: dict[str, Any] = {}
    text = page.read_text(encoding="utf-8")
    for block in snippets.blocks(text):
        match block.language:
            case "python":
                assert "from seqssvae." not in block.text
                snippets.run_python(block.text, names, where=str(page))
            case "sh" | "":
                snippets.run_shell(block.text)
            case "jsonl":
                snippets.check_rows(block.text, here)
            case "yaml":
                snippets.check_settings(block.text, here)
            case language:
                assert language in SHOWN, f"no test runs {block.text}"
    if page.stem != "howto":
        return
    lines = list(snippets.table_code(text))
    num_rows = len(re.findall(r"^\| .* \|$", text, re.MULTILINE)) - 2 * text.count("| here |")
    assert len(lines) == num_rows > 30
    for line in lines:
        if line.startswith("seqssvae "):
            snippets.run_shell(line)
        elif line.startswith("len("):
            assert eval(line, names), line
        else:
            snippets.run_python(line, names, where=line)


@pytest.mark.parametrize("name", ["README", *(f"docs/{name}" for name in BATCHED)])
def test_batches_are_where_a_loaded_run_is(
    name: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also on a machine with a GPU, which `load` takes."""
    names: dict[str, Any] = {}
    text = (ROOT / f"{name}.md").read_text(encoding="utf-8")
    code = [one.text for one in snippets.blocks(text) if one.language == "python"]
    code = [one for one in code if "load(" in one or "collate(" in one or "batch" in one]
    if name == "docs/howto":
        lines = [one for one in snippets.table_code(text) if "adam" not in one]
        code += [one for one in lines if re.search(r"\b(batch|x|loc|trace)\b", one)]
    with fake_device():
        resolve = devices.resolve
        monkeypatch.setattr(devices, "resolve", lambda kind: resolve(kind.replace("auto", "cuda")))
        for one in code:
            snippets.run_python(one, names, where=name)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_names_and_settings_exist(page: Path) -> None:
    known = {one.key for one in list_settings()}
    sections = {key.split(".")[0] for key in known}
    for code in snippets.inline_code(page.read_text(encoding="utf-8")):
        if re.fullmatch(r"seqssvae(\.\w+)+", code):
            pkgutil.resolve_name(code)
        for key in re.findall(r"(?<![\w.])(\w+\.\w+)", code):
            is_module = (ROOT / "seqssvae" / key.replace(".", "/")).with_suffix(".py").exists()
            in_section = key.split(".")[0] in sections
            assert not in_section or is_module or key in known, f"{page.name}: {key}"
        if code.startswith(("tests/", "experiments/", "docs/", "seqssvae/")):
            assert (ROOT / code).exists(), code


def test_every_estimator_and_command_has_its_line() -> None:
    for page in (DOCS / "estimators.md", README):
        estimators = page.read_text(encoding="utf-8")
        assert [name for name in get_args(EstimatorName) if f"`{name}`" not in estimators] == []
    commands = (DOCS / "commands.md").read_text(encoding="utf-8")
    assert all(f"| `{name}` |" in commands for name in COMMANDS)
    lines = commands.replace("\\|", "|")
    assert all(f"| `{arm}` | {meaning} |" in lines for arm, meaning in MEANINGS.items())


def test_figures_are_those_of_the_experiments() -> None:
    """Each percentage, and each row of a table with figures, is also beside its command."""
    measured = "".join(
        (ROOT / name).read_text(encoding="utf-8") for name in ("experiments/README.md", "README.md")
    )
    pages = [(DOCS / name).read_text(encoding="utf-8") for name in ("estimators.md", "recipes.md")]
    known = {one.replace(" ", "") for one in re.findall(r"\d+\.\d+ ?%", measured)}
    figures = re.findall(r"\d+\.\d+ %", "".join(pages))
    assert len(figures) > 20
    assert [one for one in figures if one.replace(" ", "") not in known] == []
    rows = re.findall(r"^\| [a-z].*\d(?: %)? \|$", pages[0], re.MULTILINE)
    assert len(rows) > 10 and [row for row in rows if row not in measured] == []


def test_the_first_page_trains_in_ten_lines_by_public_names() -> None:
    """On data of the package; other tests run them, and the pages show what they print."""
    (code,) = (one for one in snippets.blocks((DOCS / "index.md").read_text("utf-8"))
               if one.language == "python")  # fmt: skip
    assert len(code.text.splitlines()) <= 10
    assert re.findall(r"^(?:import|from) .*", code.text, re.MULTILINE) == ["import seqssvae"]
    used = set(re.findall(r"seqssvae\.(\w+)\(", code.text))
    assert used == {"example_words", "fit", "load"} <= set(seqssvae.__all__)
    assert "model.classify(" in code.text and "model.generate(" in code.text


def test_every_public_name_has_an_example() -> None:
    """Which the doctests run."""
    assert [n for n in seqssvae.__all__ if ">>> " not in str(getattr(seqssvae, n).__doc__)] == []


def test_install_lines_work_from_a_clone() -> None:
    """The package is on no index, so that its name installs nothing, or something else."""
    code = [one for name in ("seqssvae", "experiments") for one in (ROOT / name).rglob("*.py")]
    texts = [*PAGES, *NOTEBOOKS, README, *code]
    lines = [re.findall(r"pip install [^`\n]*", one.read_text(encoding="utf-8")) for one in texts]
    found = [line for of_text in lines for line in of_text]
    assert found and [line for line in found if re.search(r"install '?seqssvae", line)] == []


def test_notebooks_are_kept_without_outputs() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["dna", "text", "words"]
    for path in NOTEBOOKS:
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            assert not cell.get("outputs") and cell.get("execution_count") is None, path.name


@pytest.mark.docs
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_notebook_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own assertions hold; a notebook is executed in a folder of its own."""
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources=resources).execute()


@pytest.mark.docs
def test_the_pages_build_without_a_warning_and_document_the_public_names(tmp_path: Path) -> None:
    """Every name of `seqssvae.__all__` and its members, and nothing else."""
    words = ["-b", "html", "-W", "--keep-going", "-n", "-q", "-d", str(tmp_path / "trees")]
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *words, str(DOCS), str(tmp_path / "html")],
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    content = (tmp_path / "html" / "objects.inv").read_bytes()
    inventory = sphinx.util.inventory.InventoryFile.loads(content, uri="").data
    documented = {
        ".".join(item.uri.partition("#")[2].split(".")[:2])
        for kind, items in inventory.items()
        if kind.startswith("py:")
        for item in items.values()
    }
    assert documented == {f"seqssvae.{name}" for name in seqssvae.__all__}
    assert "seqssvae.SSVAE.guide" in inventory["py:method"]
    settings = (tmp_path / "html" / "settings.html").read_text(encoding="utf-8")
    assert [one.key for one in list_settings() if f">{one.key}<" not in settings] == []
    pages = {
        one.name: one.read_text(encoding="utf-8") for one in (tmp_path / "html").glob("*.html")
    }
    fetched = r"""<(script|img|iframe)[^>]* src=["']https?:|<link[^>]* href=["']https?:[^>]*\.css"""
    assert [name for name, page in pages.items() if re.search(fetched, page)] == []
    assert pages["maths.html"].count("<math") > 30 and "step 300 of 300" in pages["start.html"]
    assert "map.png" in pages["index.html"]
