"""How cells talk: each pathway's ligand and receptor, how far it carries, and the genes it turns up and down.

Who acts on whom, and in which direction, is textbook; strengths are of this simulator's own making. Ligands are soaked
up by the cells around their source and so reach some 30–150 µm [1]; TGF-β holds back what cytotoxic cells make [2];
tumours lack oxygen some 100 µm and more from the stroma [3].

References
----------
[1] Oyler-Yaniv et al. 2017, doi:10.1016/j.immuni.2017.03.011.
[2] Thomas & Massagué 2005, doi:10.1016/j.ccr.2005.10.012.
[3] Thomlinson & Gray 1955, doi:10.1038/bjc.1955.55.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aivc_graph.simulate.programmes import GENES


@dataclass(frozen=True)
class Pathway:
    """One signal between cells, or from the surroundings where it has no ligand.

    Parameters
    ----------
    ligand, receptor
        Genes of the signal and of what hears it; None where the surroundings drive the pathway.
    regulator
        Gene through which the pathway acts; without its product no target moves.
    decay_um
        Distance at which a ligand's share has fallen to 1/e [µm].
    half_share
        Share of neighbours at full output that half activates a cell with the most receptor.
    hours
        Time constant with which the activity follows its drive [h].
    targets
        Natural-log fold of each target at full activity, signed.
    """

    ligand: str | None
    receptor: str | None
    regulator: str
    decay_um: float
    half_share: float
    hours: float
    targets: dict[str, float]


PATHWAYS: Final[dict[str, Pathway]] = {
    "hypoxia": Pathway(
        None, None, "HIF1A", 0.0, 0.0, 12.0,
        {"VEGFA": 2.0, "CA9": 2.4, "SLC2A1": 2.0, "LDHA": 1.6, "NDRG1": 2.0, "ADM": 2.0, "MKI67": -0.8},
    ),
    "tgf_beta": Pathway(
        "TGFB1", "TGFBR2", "SMAD3", 40.0, 0.12, 12.0,
        {"TGFB1": 0.6, "POSTN": 2.2, "CTHRC1": 2.2, "SERPINE1": 2.0, "MMP11": 2.0, "INHBA": 1.8, "COL1A1": 0.8,
         "GZMB": -1.2, "IFNG": -1.0},
    ),
    "interferon": Pathway(
        "IFNG", "IFNGR1", "STAT1", 30.0, 0.035, 6.0,
        {"CXCL9": 2.4, "CXCL10": 2.4, "IRF1": 1.8, "IDO1": 2.2, "CD274": 2.0, "GBP1": 2.0, "B2M": 0.6, "MKI67": -0.8},
    ),
    "vegf": Pathway(
        "VEGFA", "KDR", "ERG", 60.0, 0.6, 9.0,
        {"ESM1": 2.0, "ANGPT2": 2.0, "APLN": 1.8, "KDR": 0.5, "PLVAP": 1.0, "CLDN5": -0.8, "DLL4": 0.8},
    ),
    "nf_kb": Pathway(
        "TNF", "TNFRSF1A", "RELA", 35.0, 0.05, 3.0,
        {"CXCL8": 2.2, "CCL2": 2.0, "ICAM1": 2.0, "NFKBIA": 1.6, "IL6": 1.8, "TNF": 0.4},
    ),
    "egf": Pathway(
        "AREG", "EGFR", "ETV4", 25.0, 0.10, 4.0,
        {"DUSP6": 2.0, "SPRY4": 2.0, "CCND1": 1.6, "PHLDA1": 1.8, "MKI67": 0.8, "CDH1": -0.6},
    ),
    "chemokine": Pathway(
        "CXCL12", "CXCR4", "ELK1", 50.0, 0.09, 4.0,
        {"EGR1": 1.8, "FOS": 1.8, "MMP9": 1.8, "KLF2": -1.4},
    ),
    "notch": Pathway(
        "DLL4", "NOTCH3", "RBPJ", 12.0, 0.15, 6.0,
        {"HEY1": 2.2, "HEYL": 2.2, "NRARP": 2.0, "RGS5": 0.6},
    ),
}  # fmt: skip
PATHWAY_NAMES: Final = tuple(PATHWAYS)


def loadings(names: tuple[str, ...] = PATHWAY_NAMES) -> NDArray[np.float64]:
    """Return the natural-log fold of each gene at full activity, ``(pathway, gene)``."""
    return np.array([[PATHWAYS[name].targets.get(gene, 0.0) for gene in GENES] for name in names])


def network() -> pd.DataFrame:
    """Return all edges: regulator → target with sign and weight, ligand → receptor with its decay length [µm]."""
    rows: list[tuple[object, ...]] = []
    for name, pathway in PATHWAYS.items():
        for target, fold in pathway.targets.items():
            rows.append((pathway.regulator, target, int(np.sign(fold)), abs(fold), "regulates", name, np.nan))
        if pathway.ligand is not None:
            signal = (pathway.ligand, pathway.receptor, 1, 1.0, "ligand_receptor", name, pathway.decay_um)
            rows.append(signal)
    return pd.DataFrame(rows, columns=["source", "target", "sign", "weight", "kind", "pathway", "decay_um"])
