"""Functions of packages: what is read of them, the choice against plain loops, the command."""

import ast
from collections.abc import Sequence
from pathlib import Path

import pytest

from data.prepare_code import (
    MAX_CHARACTERS,
    Function,
    choose_rows,
    docstring_of,
    main,
    read_functions,
    syntax_of,
)
from seqssvae.errors import InputError
from tests.support.commands import assert_refused, read_train_and_test, run_data_script

ROOT = Path(__file__).parent.parent


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two packages that can be found: `aa_code`, with six documented functions, and `bb_code`."""
    for package, number in (("aa_code", 6), ("bb_code", 5)):
        folder = tmp_path / package
        (folder / "tests").mkdir(parents=True)
        lines = [
            f'def f{i}(x):\n    """Number {i} of those in {package}."""\n    y = x\n    return y\n'
            for i in range(number)
        ]
        common = 'def g():\n    """This is in both of the packages."""\n'
        (folder / "__init__.py").write_text("raise RuntimeError('imported')\n")
        (folder / "good.py").write_text("\n".join([*lines, lines[0], common]))
        (folder / "bad.py").write_text("def f(:\n")
        (folder / "tests" / "more.py").write_text(
            'def h():\n    """A test, which is left out here."""\n'
        )
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def parse(code: str) -> Function:
    function = ast.parse(code).body[0]
    assert isinstance(function, Function)
    return function


def test_the_first_paragraph_in_one_line() -> None:
    code = 'def f():\n    """Two  lines\n    of a summary.\n\n    And more.\n    """'
    assert docstring_of(parse(code)) == "Two lines of a summary."
    assert docstring_of(parse('async def f():\n    "Nineteen letters.."')) is None
    assert docstring_of(parse('def f():\n    "Twenty characters..."')) == "Twenty characters..."
    assert docstring_of(parse(f'def f():\n    "{"a" * (MAX_CHARACTERS + 1)}"')) is None
    assert docstring_of(parse("def f(): pass")) is None


def test_kinds_of_nodes_breadth_first() -> None:
    assert syntax_of(parse("def f(x):\n    pass\n    y = x\n    return")) == (
        *("FunctionDef", "arguments", "Pass", "Assign", "Return"),
        *("arg", "Name", "Name", "Store", "Load"),
    )
    assert syntax_of(parse("def f(x):\n    y = x\n    return y")) is None
    long = syntax_of(parse("def f():\n" + "    x = 1\n" * 100))
    assert long is not None and len(long) == 80


def test_functions_of_a_package_are_parsed_not_imported(packages: Path) -> None:
    names = [function.name for function in read_functions("aa_code")]
    assert names == ["f0", "f1", "f2", "f3", "f4", "f5", "f0", "g"]


@pytest.mark.parametrize("name", ["no_such_package", "json.decoder.no", "", "this"])
def test_a_package_that_is_not_there(name: str) -> None:
    with pytest.raises(InputError, match=f"wanted installed packages, got '{name}'"):
        list(read_functions(name))


def test_rows_of_one_package_are_chosen() -> None:
    found: dict[str, Sequence[str]] = {"a": ["x", "y", "z", "y", "w"], "b": ["z", "u", "v", "t"]}
    alone = {("x", "a"), ("y", "a"), ("w", "a"), ("u", "b"), ("v", "b"), ("t", "b")}
    train, test = choose_rows(found, num_train=2, num_test=1, seed=0)
    assert len(train) == 4 and len(test) == 2
    assert set(train) | set(test) == alone
    assert choose_rows(found, num_train=2, num_test=1, seed=0) == (train, test)
    others = [choose_rows(found, num_train=1, num_test=1, seed=seed)[0] for seed in range(8)]
    assert any(set(other) != set(others[0]) for other in others)
    with pytest.raises(InputError, match=r"wanted 3 \+ 1 rows of a, got 3 that occur in no other"):
        choose_rows(found, num_train=3, num_test=1, seed=0)


@pytest.mark.parametrize(("kind", "column"), [("docstrings", "text"), ("syntax", "tokens")])
def test_the_command(packages: Path, tmp_path: Path, kind: str, column: str) -> None:
    code = "def f():\n    pass\n    " + "\n    ".join(f"{name} = 1" for name in "ab")
    for package, body in (("aa_code", code), ("bb_code", code + "\n    return a")):
        lines = [f"{body}{f'{chr(10)}    b += 1' * i}\n" for i in range(5)]
        (packages / package / "more.py").write_text("\n".join(lines))
    options = ["--packages", "aa_code,bb_code", "--kind", kind, "--train", 3, "--test", 2]
    run_data_script(
        "prepare_code.py", *options, "--out", tmp_path / "out", folder=tmp_path, path=packages
    )
    train, test = read_train_and_test(tmp_path / "out")
    assert [len(train), len(test)] == [6, 4]
    assert len({str(row[column]) for row in train + test}) == 10
    assert {row["label"] for row in test} == {"aa_code", "bb_code"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--packages", "aa_code"], "--packages: wanted at least two, each once, got aa_code"),
        (["--packages", "aa_code,bb_code,aa_code"], "each once, got aa_code,bb_code,aa_code"),
        (["--packages", "aa_code,cc_code"], "wanted installed packages, got 'cc_code'"),
        (["--packages", "aa_code,bb_code"], "wanted 1100 + 250 rows of aa_code, got 6 that"),
        (["--packages", "aa_code,bb_code", "--test", "0"], "--test: wanted at least 1, got 0"),
        (["--kind", "names"], "invalid choice: 'names'"),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(
    options: list[str],
    message: str,
    packages: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert_refused(main, options, message, tmp_path / "new", capsys)
