"""What cells are: types, the genes each turns on, the look of each nucleus, who lives in which niche."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

PROGRAMMES: Final[dict[str, tuple[str, ...]]] = {
    "housekeeping": ("ACTB", "GAPDH", "B2M", "MALAT1", "EEF1A1", "TMSB4X", "RPLP0", "FTL"),
    "luminal": ("EPCAM", "KRT8", "KRT18", "KRT19", "ERBB2", "GRB7", "ESR1", "GATA3", "MUC1", "CDH1", "CLDN4", "ELF3"),
    "cycle": ("MKI67", "TOP2A", "CCNB1", "CDK1", "BIRC5", "UBE2C", "PCNA", "TYMS"),
    "basal": ("KRT5", "KRT14", "KRT17", "TP63", "OXTR", "MYLK"),
    "matrix": ("COL1A1", "COL1A2", "COL3A1", "DCN", "LUM", "FAP", "PDGFRA", "PDPN", "FBLN1", "SFRP2"),
    "contractile": ("ACTA2", "TAGLN", "MYH11", "RGS5", "NOTCH3", "PDGFRB", "MCAM", "CSPG4"),
    "vessel": ("PECAM1", "VWF", "CDH5", "CLDN5", "KDR", "FLT1", "ENG", "PLVAP"),
    "leukocyte": ("PTPRC",),
    "t": ("CD3D", "CD3E", "TRAC"),
    "cytotoxic": ("CD8A", "CD8B", "GZMK", "GZMB", "NKG7", "PRF1"),
    "helper": ("CD4", "IL7R", "CCR7", "FOXP3", "CTLA4", "IL2RA", "TCF7"),
    "b": ("MS4A1", "CD79A", "CD79B", "CD19", "BANK1", "PAX5", "CXCR5"),
    "plasma": ("MZB1", "JCHAIN", "IGHG1", "IGKC", "XBP1", "SDC1", "TNFRSF17"),
    "myeloid": ("CD68", "CD163", "CD14", "LYZ", "C1QA", "C1QB", "MRC1", "ITGAX", "CSF1R", "TREM2"),
    "hypoxia": ("CA9", "SLC2A1", "LDHA", "NDRG1", "ADM"),
    "tgf_beta": ("POSTN", "CTHRC1", "SERPINE1", "MMP11", "INHBA"),
    "interferon": ("CXCL9", "CXCL10", "STAT1", "IRF1", "IDO1", "CD274", "GBP1"),
    "angiogenic": ("ESM1", "ANGPT2", "APLN"),
    "inflammatory": ("CXCL8", "CCL2", "ICAM1", "NFKBIA", "IL6"),
    "growth": ("DUSP6", "SPRY4", "CCND1", "PHLDA1"),
    "migration": ("EGR1", "FOS", "MMP9", "KLF2"),
    "notch": ("HEY1", "HEYL", "NRARP"),
}

# Ligands, receptors and regulators: how strongly each type turns each on, as a natural-log fold.
SIGNALS: Final[dict[str, dict[str, float]]] = {
    "TGFB1": {"macrophage": 2.5, "CD4 T": 2.0, "fibroblast": 1.0, "CD8 T": 1.0, "plasma": 1.0},
    "VEGFA": {"tumour": 1.0, "cycling tumour": 1.0, "macrophage": 1.0},
    "TGFBR2": {"fibroblast": 3.0, "pericyte": 2.5, "endothelial": 1.5, "CD8 T": 1.5, "CD4 T": 1.5, "tumour": 2.2},
    "IFNG": {"CD8 T": 3.0, "CD4 T": 1.2},
    "IFNGR1": {"tumour": 2.5, "cycling tumour": 2.5, "macrophage": 3.0, "endothelial": 2.0, "fibroblast": 1.0},
    "TNF": {"macrophage": 3.0, "CD8 T": 1.5, "CD4 T": 1.0},
    "TNFRSF1A": {"endothelial": 3.0, "fibroblast": 2.5, "tumour": 2.0, "macrophage": 2.0, "cycling tumour": 2.0},
    "AREG": {"macrophage": 2.5, "fibroblast": 2.0, "myoepithelial": 1.0},
    "EGFR": {"myoepithelial": 3.0, "tumour": 2.8, "cycling tumour": 3.0},
    "CXCL12": {"fibroblast": 3.0, "pericyte": 2.5, "endothelial": 1.5},
    "CXCR4": {"B": 3.2, "CD8 T": 3.0, "CD4 T": 3.0, "plasma": 2.0, "macrophage": 1.5},
    "DLL4": {"endothelial": 3.0},
    "HIF1A": {"tumour": 1.5, "cycling tumour": 1.5, "macrophage": 1.0},
    "SMAD3": {"fibroblast": 1.5, "pericyte": 1.0},
    "RELA": {},
    "ERG": {"endothelial": 3.0},
    "ETV4": {"tumour": 1.0, "cycling tumour": 1.5},
    "ELK1": {},
    "RBPJ": {},
}
GENES: Final = tuple(gene for genes in PROGRAMMES.values() for gene in genes) + tuple(SIGNALS)


@dataclass(frozen=True)
class CellType:
    """A kind of cell.

    Parameters
    ----------
    programmes
        Programmes it turns on, each with its strength as a natural-log fold.
    responds
        How fully it answers lack of oxygen, 0–1.
    nucleus_um
        Long and short axis of the nucleus [µm].
    darkness
        Hematoxylin of the nucleus, relative.
    cytoplasm
        Eosin of the cytoplasm, relative.
    depth
        Median counts of the panel in one cell.
    """

    programmes: dict[str, float]
    responds: float
    nucleus_um: tuple[float, float]
    darkness: float
    cytoplasm: float
    depth: float


_LYMPHOID: Final = {"leukocyte": 4.0, "migration": 1.5}
CELL_TYPES: Final[dict[str, CellType]] = {
    "tumour": CellType(
        {"luminal": 3.5, "hypoxia": 0.5, "interferon": 1.0, "growth": 1.5, "tgf_beta": 0.5},
        1.0,
        (11.0, 8.5),
        0.62,
        0.35,
        260,
    ),
    "cycling tumour": CellType(
        {"luminal": 3.2, "cycle": 3.3, "interferon": 1.0, "growth": 1.5}, 1.0, (12.5, 10.0), 0.85, 0.35, 340
    ),
    "myoepithelial": CellType(
        {"basal": 4.0, "contractile": 1.5, "luminal": 0.8, "growth": 1.5}, 0.0, (12.0, 5.0), 0.75, 0.30, 180
    ),
    "fibroblast": CellType({"matrix": 3.8, "tgf_beta": 2.0, "inflammatory": 1.0}, 0.3, (14.5, 4.2), 0.75, 0.10, 190),
    "pericyte": CellType(
        {"contractile": 4.0, "matrix": 1.0, "notch": 2.0, "tgf_beta": 1.0}, 0.0, (12.0, 4.5), 0.75, 0.20, 150
    ),
    "endothelial": CellType(
        {"vessel": 4.0, "angiogenic": 1.5, "inflammatory": 1.5, "interferon": 0.5}, 0.0, (12.0, 4.0), 0.80, 0.20, 150
    ),
    "CD8 T": CellType({**_LYMPHOID, "t": 4.0, "cytotoxic": 3.2}, 0.0, (6.8, 6.2), 0.95, 0.05, 110),
    "CD4 T": CellType({**_LYMPHOID, "t": 4.0, "helper": 3.0}, 0.0, (6.8, 6.2), 0.95, 0.05, 110),
    "B": CellType({**_LYMPHOID, "b": 3.6}, 0.0, (7.2, 6.6), 0.95, 0.05, 120),
    "plasma": CellType({"plasma": 4.2, "leukocyte": 1.5}, 0.0, (7.5, 6.8), 0.95, 0.40, 200),
    "macrophage": CellType(
        {"myeloid": 3.4, "leukocyte": 3.0, "interferon": 1.5, "inflammatory": 1.5}, 0.6, (10.0, 6.5), 0.60, 0.20, 200
    ),
}
TYPE_NAMES: Final = tuple(CELL_TYPES)
PURITY: Final = (0.7, 1.0)
LEVEL_SPREAD: Final = 0.8

NICHES: Final = ("tumour core", "tumour margin", "stroma", "immune aggregate", "vessel")
CELLS_PER_MM2: Final = np.array([3600.0, 3300.0, 1500.0, 7500.0, 2600.0])

# Share of each type (columns as in TYPE_NAMES) in each niche (rows as in NICHES).
MIXTURE: Final = np.array(
    [
        [0.78, 0.13, 0.00, 0.01, 0.01, 0.01, 0.02, 0.01, 0.00, 0.00, 0.03],
        [0.48, 0.10, 0.12, 0.08, 0.01, 0.01, 0.07, 0.04, 0.01, 0.01, 0.07],
        [0.01, 0.00, 0.01, 0.66, 0.05, 0.05, 0.04, 0.05, 0.02, 0.03, 0.08],
        [0.00, 0.00, 0.00, 0.03, 0.01, 0.02, 0.20, 0.27, 0.38, 0.05, 0.04],
        [0.00, 0.00, 0.00, 0.17, 0.25, 0.42, 0.03, 0.04, 0.01, 0.02, 0.06],
    ]
)


def background_profiles(number: int) -> NDArray[np.float64]:
    """Return genes that are in no programme, as shares of the panel's RNA, ``(type, gene)``; together a half of it.

    Each has its own level and differs somewhat from type to type; no signal moves it.
    """
    rng = np.random.default_rng(number)
    level = np.exp(rng.normal(0.0, 1.0, number) + rng.normal(0.0, 0.4, (len(TYPE_NAMES), number)))
    return 0.5 * level / level.sum(axis=1, keepdims=True)


def type_strengths() -> NDArray[np.float64]:
    """Return how strongly each type turns each gene on, ``(type, gene)``, as a natural-log fold over no expression."""
    return np.array([[_strength(kind, gene) for gene in GENES] for kind in TYPE_NAMES])


def type_profiles() -> NDArray[np.float64]:
    """Return the share of each gene in each type's RNA without any signal, ``(type, gene)``, rows summing to one."""
    purity, level = _gene_characters()
    share = np.exp(purity * type_strengths() + level)
    return share / share.sum(axis=1, keepdims=True)


def gene_levels(genes: tuple[str, ...] = GENES) -> NDArray[np.float64]:
    """Return the share of each of `genes` in the RNA of all types alike, the median for genes not in `GENES`."""
    level = dict(zip(GENES, type_profiles().mean(axis=0), strict=True))
    usual = float(np.median(list(level.values())))
    return np.array([level.get(gene, usual) for gene in genes])


def _strength(kind: str, gene: str) -> float:
    if gene in SIGNALS:
        return SIGNALS[gene].get(kind, 0.0)
    on = {**CELL_TYPES[kind].programmes, "housekeeping": 3.0}
    return max((strength for name, strength in on.items() if gene in PROGRAMMES[name]), default=0.0)


def _gene_characters() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How purely each gene marks its programme, and how far its level is from others'; the same in every tissue."""
    rng = np.random.default_rng(len(GENES))
    return rng.uniform(*PURITY, len(GENES)), rng.normal(0.0, LEVEL_SPREAD, len(GENES))
