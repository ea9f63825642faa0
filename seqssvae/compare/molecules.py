"""Figures of molecules, written as SMILES: what RDKit reads, and the Frechet ChemNet distance.

Needs the packages rdkit and fcd_torch, which nothing else does.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from seqssvae import progress
from seqssvae.errors import InputError

Sequences = Sequence[str] | Sequence[Sequence[str]]


def read_rdkit() -> Any:
    """RDKit's module `Chem`, whose parser then reports no errors of its own.

    Raises:
        InputError: it is not installed.
    """
    try:
        from rdkit import Chem, RDLogger
    except ImportError as error:
        raise InputError(f"wanted the package rdkit (pip install rdkit), got: {error}") from error
    RDLogger.DisableLog("rdApp.*")
    return Chem


def read_molecules(sequences: Sequences) -> list[Any]:
    """The molecule of each text or list of tokens, None where RDKit reads none or no atom.

    Raises:
        InputError: RDKit is not installed.
    """
    read = read_rdkit().MolFromSmiles
    found = (
        read("".join(one)) for one in progress.track(sequences, "molecules read", len(sequences))
    )
    return [one if one is not None and one.GetNumAtoms() else None for one in found]


def frechet_distance(written: Sequences, reference: Sequences | Mapping[str, Any]) -> float:
    """The Frechet ChemNet distance of valid SMILES (Preuer et al. 2018), by fcd_torch.

    Args:
        written: Texts or lists of tokens; those that RDKit does not read are left out.
        reference: Others, or `mu` and `sigma` of their activations, as fcd_torch's `precalc` has.

    Raises:
        InputError: a package is not installed, or fewer than two of a part are valid.
    """
    try:
        from fcd_torch import FCD
    except ImportError as error:
        raise InputError(f"wanted fcd_torch (pip install fcd_torch), got: {error}") from error

    def valid(sequences: Sequences) -> list[str]:
        read = zip(sequences, read_molecules(sequences), strict=True)
        return ["".join(one) for one, molecule in read if molecule is not None]

    known = isinstance(reference, Mapping)
    given = {"pref": reference} if known else {"ref": valid(reference)}  # type: ignore[arg-type]
    distance = float(FCD(device="cpu", n_jobs=1)(gen=valid(written), **given))
    if not math.isfinite(distance):
        raise InputError("wanted at least two valid molecules, and two of the reference, got fewer")
    return distance
