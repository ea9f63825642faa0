"""Molecules by terciles: symbols, labels by a plain count, the command with stand-in packages."""

import gzip
import json
import re
import sys
from pathlib import Path

import pytest

from data.prepare_molecules import main, read_smiles, read_terciles, tercile_of, tokens_of
from seqssvae.errors import InputError
from tests.support.commands import assert_refused, read_train_and_test, run_data_script
from tests.support.molecules import TEST, TRAIN


def test_symbols_of_smiles() -> None:
    smiles = "C[C@@H](Br)c1cc[nH]c1-%12Cl=O"
    want = ["C", "[C@@H]", "(", "Br", ")", *"c1cc", "[nH]", *"c1-", "%12", "Cl", "=", "O"]
    assert tokens_of(smiles) == want
    assert tokens_of("C[N") == ["C", "[", "N"]  # a bracket that is not closed is no atom


def test_a_bound_is_in_the_upper_tercile() -> None:
    assert [tercile_of(value, [1, 2]) for value in (0.9, 1, 1.9, 2, 3)] == [
        *("low", "middle", "middle", "high", "high")
    ]


@pytest.mark.parametrize("name", ["logp", "qed"])
def test_the_command(molecule_packages: Path, tmp_path: Path, name: str) -> None:
    options = ["--property", name, "--labelled", 0.5, "--test", 6, "--seed", 1]
    for rows, out in (([], "all"), (["--rows", 12], "some")):
        words = (*options, *rows, "--out", tmp_path / out)
        run_data_script("prepare_molecules.py", *words, folder=tmp_path, path=molecule_packages)
    train, test = read_train_and_test(tmp_path / "all")
    found = ["".join(row["tokens"]) for row in train]
    assert sorted(found) == sorted(TRAIN) and found != TRAIN
    assert len({"".join(row["tokens"]) for row in test} & set(TEST)) == 6

    def value(row: dict[str, list[str]]) -> float:
        smiles = "".join(row["tokens"])
        share = smiles.count("C") / len(smiles)
        return share if name == "qed" else smiles.count("C") - smiles.count("O")

    labelled = [row for row in train if row["label"]]
    known, (low, high) = read_terciles(tmp_path / "all" / "terciles.json")
    values = sorted(map(value, labelled))
    assert known == name and len(values) == 10
    assert values[3] <= low <= values[4] and values[6] <= high <= values[7]  # of 0 to 9: at 3, 6
    for row in labelled + test:
        assert (value(row) < low) == (row["label"] == "low")
        assert (value(row) >= high) == (row["label"] == "high")
    some = read_train_and_test(tmp_path / "some")[0]
    assert ["".join(row["tokens"]) for row in some] == found[:12]
    assert sum(row["label"] is not None for row in some) == 6


@pytest.mark.usefixtures("molecule_packages")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--rows", "21"], "--rows: wanted 3 to 20, got 21"),
        (["--test", "0"], "--test: wanted 3 to 8, got 0"),
        (["--test", "8", "--labelled", "0.1"], "that is at least 3 rows, got 0.1"),
        (["--test", "8", "--labelled", "1.2"], "wanted a share up to 1 that"),
        (["--moses", "none"], "none/train.csv.gz: wanted a readable file"),
        (["--property", "mass"], "invalid choice: 'mass'"),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert_refused(main, options, message, tmp_path / "new", capsys)


def test_missing_packages_are_named(
    molecule_packages: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "new"
    monkeypatch.setitem(sys.modules, "rdkit", None)
    wanted = "wanted the package rdkit (pip install rdkit)"
    assert_refused(main, ["--test", "8", "--labelled", "1"], wanted, out, capsys)
    monkeypatch.undo()
    (molecule_packages / "moses").rename(molecule_packages / "other")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert_refused(main, [], "pip install --no-deps molsets==0.3.1", out, capsys)


def test_other_files_are_refused(molecule_packages: Path, tmp_path: Path) -> None:
    file = molecule_packages / "moses" / "dataset" / "data" / "test.csv.gz"
    assert read_smiles(file) == TEST
    whole = file.read_bytes()
    for content, got in (
        (whole[:-9], "wanted a gzip file of SMILES, got: "),
        (b"SMILES\nC\n", "wanted a gzip file of SMILES, got: Not a gzipped file"),
        (gzip.compress(b"SMILES,SPLIT\nC,test\n"), r"alone, got \['SMILES,SPLIT'\]"),
    ):
        file.write_bytes(content)
        with pytest.raises(InputError, match=f"^{re.escape(str(file))}: .*{got}"):
            read_smiles(file)
    path = tmp_path / "terciles.json"
    for found in ({"property": "logp", "bounds": [1]}, {"bounds": [1, 2]}):
        path.write_text(json.dumps(found))
        with pytest.raises(InputError, match="wanted property and two bounds, got"):
            read_terciles(path)
