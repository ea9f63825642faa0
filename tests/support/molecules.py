"""Stand-ins for rdkit, fcd_torch and molsets, which the development environment does not have.

A molecule is a text of C, N, O, c and Cl with balanced brackets; its logP is the number of C less
that of O, its QED the share of C. The canonical form is in upper case. The Frechet distance is the
difference between the mean lengths.
"""

import contextlib
import gzip
import importlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

import numpy as np

RDKIT = """
class Molecule:
    def __init__(self, text):
        self.text = text
    def GetNumAtoms(self):
        return len(self.text.replace("(", "").replace(")", ""))
"""
CHEM = """
from rdkit import Molecule
def MolFromSmiles(text):
    if not isinstance(text, str):
        raise TypeError("wanted a str")
    known = set(text.replace("Cl", "C")) <= set("CNOc()")
    return Molecule(text) if known and text.count("(") == text.count(")") else None
def MolToSmiles(molecule):
    return molecule.text.upper()
"""
FILES = {
    "rdkit/__init__.py": RDKIT,
    "rdkit/RDLogger.py": "def DisableLog(name):\n    assert name == 'rdApp.*'\n",
    "rdkit/Chem/__init__.py": CHEM,
    "rdkit/Chem/Crippen.py": "def MolLogP(m):\n    return m.text.count('C') - m.text.count('O')\n",
    "rdkit/Chem/QED.py": "def qed(m):\n    return m.text.count('C') / len(m.text)\n",
    "fcd_torch/__init__.py": """
import math
class FCD:
    def __init__(self, device, n_jobs):
        assert (device, n_jobs) == ("cpu", 1)
    def precalc(self, rows):
        return {"mu": sum(map(len, rows)) / len(rows)} if len(rows) > 1 else {}
    def __call__(self, ref=None, gen=None, pref=None):
        of, own = pref or self.precalc(ref), self.precalc(gen)
        return abs(of["mu"] - own["mu"]) if of and own else math.nan
""",
    "moses/__init__.py": "raise RuntimeError('imported')\n",
}
PACKAGES = ("rdkit", "fcd_torch", "moses")
TRAIN = [c + o for c in ("C", "CC", "CCC", "C(C)CC") for o in ("", "O", "OO", "Cl", "N")]
TEST = ["CN", "CCNN", "CCC(N)", "cCN", "CNO", "OOO", "ClN", "CCCCN"]


def write_packages(folder: Path, train: Sequence[str] = TRAIN, test: Sequence[str] = TEST) -> Path:
    """Write the packages into a folder, with these molecules as MOSES's; returns that of these."""
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    data = folder / "moses" / "dataset" / "data"
    data.mkdir(parents=True)
    for name, molecules in (("train", train), ("test", test)):
        lines = "".join(f"{smiles}\n" for smiles in ("SMILES", *molecules))
        (data / f"{name}.csv.gz").write_bytes(gzip.compress(lines.encode()))
    statistics = {"FCD": {"mu": sum(map(len, test)) / len(test)}}
    np.savez(data / "test_stats.npz", stats=np.array(statistics, dtype=object))
    return data


@contextlib.contextmanager
def importable(folder: Path) -> Iterator[None]:
    """Within it, the packages of a folder are imported in place of installed ones."""
    before = _forget()
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        _forget()
        sys.modules.update(before)


def _forget() -> dict[str, ModuleType]:
    """Remove the packages from the imported modules; returns these."""
    own = [name for name in sys.modules if name.split(".")[0] in PACKAGES]
    return {name: sys.modules.pop(name) for name in own}
