"""Molecules by structure: one form, scaffolds, clusters of the like."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aivc_graph.errors import ConfigError, Faults

RADIUS, BITS = 2, 2048


def parse_molecules(smiles: Iterable[str]) -> dict[str, Any]:
    """Return the molecule of each SMILES, of a salt its largest part.

    Raises
    ------
    ConfigError
        If RDKit is missing, or SMILES cannot be read: all of them.
    """
    chem = _chemistry()
    faults, found = Faults(ConfigError), {}
    with chem.rdBase.BlockLogs():
        for text in smiles:
            whole = chem.Chem.MolFromSmiles(text.partition(" ")[0])  # what follows is a name or stereo groups
            if whole is None or whole.GetNumAtoms() == 0:
                faults.add(f"smiles {text!r}", "no molecule", "SMILES", "correct it, or leave it empty")
                continue
            parts = chem.Chem.GetMolFrags(whole, asMols=True)
            found[text] = max(parts, key=lambda part: (part.GetNumHeavyAtoms(), chem.Chem.MolToSmiles(part)))
    faults.raise_if_any()
    return found


def canonical(molecule: Any) -> str:
    """Return the one SMILES of a molecule, without stereochemistry: mirror images are one structure to a split."""
    return str(_chemistry().Chem.MolToSmiles(molecule, isomericSmiles=False))


def scaffold_of(molecule: Any) -> str:
    """Return the ring systems with their linkers as SMILES; a molecule without rings is its own scaffold.

    References
    ----------
    Bemis & Murcko 1996, doi:10.1021/jm9602928; by RDKit.
    """
    murcko = _chemistry().MurckoScaffold
    scaffold = canonical(murcko.GetScaffoldForMol(molecule))
    return scaffold or canonical(molecule)


def similarity_of(molecules: Sequence[Any]) -> NDArray[np.float32]:
    """Return the Tanimoto similarity of Morgan fingerprints (molecule, molecule), radius 2, 2,048 bits.

    References
    ----------
    Rogers & Hahn 2010, doi:10.1021/ci100050t.
    """
    generator = _chemistry().rdFingerprintGenerator.GetMorganGenerator(radius=RADIUS, fpSize=BITS)
    bits = np.array([generator.GetFingerprintAsNumPy(molecule) for molecule in molecules], np.float32)
    both = bits @ bits.T
    each = bits.sum(axis=1)
    return both / np.maximum(each[:, None] + each - both, 1.0)


def butina_clusters(similarity: NDArray[np.float32], least: float) -> NDArray[np.int64]:
    """Return the centre of each molecule's cluster (molecule,).

    The molecule with most neighbours of at least this similarity, the first of equals, takes them all; then the one
    with most of those left; and so on.

    References
    ----------
    Butina 1999, doi:10.1021/ci9803381.
    """
    near = similarity >= least
    np.fill_diagonal(near, True)
    centre = np.full(len(near), -1)
    while (free := centre < 0).any():
        crowd = np.where(free, (near & free).sum(axis=1), 0)
        first = int(crowd.argmax())
        centre[near[first] & free] = first
    return centre


@dataclass(frozen=True)
class _Chemistry:
    """The parts of RDKit that are used, under their own names."""

    Chem: Any
    rdBase: Any
    rdFingerprintGenerator: Any
    MurckoScaffold: Any


def _chemistry() -> _Chemistry:
    try:
        from rdkit import Chem, rdBase
        from rdkit.Chem import rdFingerprintGenerator
        from rdkit.Chem.Scaffolds import MurckoScaffold
    except ImportError as error:
        mend = "install it: pip install 'aivc-graph[chemistry]'"
        raise ConfigError("split · by_scaffold", "no RDKit in this environment", "RDKit", mend) from error
    return _Chemistry(Chem, rdBase, rdFingerprintGenerator, MurckoScaffold)
