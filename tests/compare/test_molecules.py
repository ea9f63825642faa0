"""What RDKit reads of sequences, and the distance of what it reads."""

import sys
from typing import Any

import pytest

from seqssvae.compare.molecules import frechet_distance, read_molecules, read_rdkit
from seqssvae.errors import InputError


@pytest.mark.usefixtures("molecule_packages")
def test_tokens_are_joined_and_what_is_no_molecule_is_none() -> None:
    found = read_molecules([["C", "Cl", "(", "N", ")"], ["C", "("], [], ["X"]])
    assert found[0].text == "CCl(N)" and found[1:] == [None] * 3
    assert [one.text for one in read_molecules(["CC", "O"])] == ["CC", "O"]


@pytest.mark.usefixtures("molecule_packages")
def test_the_distance_is_that_of_valid_molecules() -> None:
    written: list[Any] = [["C"], ["C", "Cl"], ["(", "C"], [], ["C", "N"]]  # of lengths 1, 3, 2
    assert frechet_distance(written, ["CCC", "CCCCC", "X" * 9]) == 2.0
    assert frechet_distance(["CC", "CC"], {"mu": 5.0}) == 3.0
    for part in ([["C"], ["("]], ["C"], []):
        for given in ((part, ["C", "C"]), (["C", "C"], part)):
            with pytest.raises(InputError, match="wanted at least two valid molecules"):
                frechet_distance(*given)


@pytest.mark.usefixtures("molecule_packages")
def test_the_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fcd_torch", None)
    with pytest.raises(InputError, match=r"wanted fcd_torch \(pip install fcd_torch\)"):
        frechet_distance(["C", "C"], ["C", "C"])
    monkeypatch.setitem(sys.modules, "rdkit", None)
    with pytest.raises(InputError, match=r"wanted the package rdkit \(pip install rdkit\)"):
        read_rdkit()
