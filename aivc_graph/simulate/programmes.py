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
    "hypoxia": ("VEGFA", "CA9", "SLC2A1", "LDHA", "NDRG1", "ADM"),
    "tgf_beta": ("TGFB1", "POSTN", "CTHRC1", "SERPINE1", "MMP11", "INHBA"),
    "interferon": ("CXCL9", "CXCL10", "STAT1", "IRF1", "IDO1", "CD274", "GBP1"),
}
GENES: Final = tuple(gene for genes in PROGRAMMES.values() for gene in genes)


@dataclass(frozen=True)
class CellType:
    """A kind of cell.

    Parameters
    ----------
    programmes
        Programmes it turns on, each with its strength as a natural-log fold.
    responds
        Context programmes it can turn on: hypoxia, tgf_beta, interferon.
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
    responds: tuple[str, ...]
    nucleus_um: tuple[float, float]
    darkness: float
    cytoplasm: float
    depth: float


_LYMPHOID: Final = {"leukocyte": 4.0}
_STRESSED: Final = ("hypoxia", "interferon")
CELL_TYPES: Final[dict[str, CellType]] = {
    "tumour": CellType({"luminal": 3.5}, _STRESSED, (11.0, 8.5), 0.62, 0.35, 260),
    "cycling tumour": CellType({"luminal": 3.2, "cycle": 3.3}, _STRESSED, (12.5, 10.0), 0.85, 0.35, 340),
    "myoepithelial": CellType({"basal": 4.0, "contractile": 1.5, "luminal": 0.8}, (), (12.0, 5.0), 0.75, 0.30, 180),
    "fibroblast": CellType({"matrix": 3.8}, ("tgf_beta",), (14.5, 4.2), 0.75, 0.10, 190),
    "pericyte": CellType({"contractile": 4.0, "matrix": 1.0}, (), (12.0, 4.5), 0.75, 0.20, 150),
    "endothelial": CellType({"vessel": 4.0}, (), (12.0, 4.0), 0.80, 0.20, 150),
    "CD8 T": CellType({**_LYMPHOID, "t": 4.0, "cytotoxic": 3.2}, (), (6.8, 6.2), 0.95, 0.05, 110),
    "CD4 T": CellType({**_LYMPHOID, "t": 4.0, "helper": 3.0}, (), (6.8, 6.2), 0.95, 0.05, 110),
    "B": CellType({**_LYMPHOID, "b": 3.6}, (), (7.2, 6.6), 0.95, 0.05, 120),
    "plasma": CellType({"plasma": 4.2, "leukocyte": 1.5}, (), (7.5, 6.8), 0.95, 0.40, 200),
    "macrophage": CellType({"myeloid": 3.4, "leukocyte": 3.0}, ("interferon",), (10.0, 6.5), 0.60, 0.20, 200),
}
TYPE_NAMES: Final = tuple(CELL_TYPES)

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


def type_profiles() -> NDArray[np.float64]:
    """Return the share of each gene in each type's RNA outside any context, ``(type, gene)``, rows summing to one."""
    log_share = np.array([[_strength(kind, gene) for gene in GENES] for kind in CELL_TYPES.values()]) + _gene_levels()
    share = np.exp(log_share)
    return share / share.sum(axis=1, keepdims=True)


def _strength(kind: CellType, gene: str) -> float:
    on = {**kind.programmes, "housekeeping": 3.0}
    return max((strength for name, strength in on.items() if gene in PROGRAMMES[name]), default=0.0)


def _gene_levels() -> NDArray[np.float64]:
    """How much each gene is above or below others of its programme; the same in every tissue."""
    return np.random.default_rng(len(GENES)).normal(0.0, 0.5, len(GENES))
