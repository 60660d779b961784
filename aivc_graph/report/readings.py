"""What marker genes are commonly read as, in plain words."""

from __future__ import annotations

from collections.abc import Mapping

READINGS = {
    "epithelium": "EPCAM KRT7 KRT8 KRT18 KRT19 CDH1 CLDN3 CLDN4 MUC1 ELF3 GATA3 ESR1 ERBB2 GRB7 FOXA1 TACSTD2",
    "dividing cells": "MKI67 TOP2A CCNB1 CDK1 BIRC5 UBE2C PCNA TYMS",
    "basal or myoepithelial cells": "KRT5 KRT14 KRT17 TP63 OXTR MYLK",
    "fibroblasts and matrix": "COL1A1 COL1A2 COL3A1 COL6A3 DCN LUM FAP PDGFRA PDPN FBLN1 SFRP2 FN1",
    "smooth muscle or pericytes": "ACTA2 TAGLN MYH11 RGS5 NOTCH3 PDGFRB MCAM CSPG4 DES",
    "blood vessels": "PECAM1 VWF CDH5 CLDN5 KDR FLT1 ENG PLVAP",
    "T cells": "CD3D CD3E CD3G TRAC CD4 IL7R CCR7 FOXP3 CTLA4 IL2RA TCF7 CD8A CD8B GZMK",
    "cytotoxic cells": "GZMB NKG7 PRF1 GNLY KLRD1",
    "B cells": "MS4A1 CD79A CD79B CD19 BANK1 PAX5 CXCR5",
    "plasma cells": "MZB1 JCHAIN IGHG1 IGKC XBP1 SDC1 TNFRSF17",
    "macrophages": "CD68 CD163 CD14 LYZ C1QA C1QB MRC1 ITGAX CSF1R TREM2",
    "response to low oxygen": "VEGFA CA9 SLC2A1 LDHA NDRG1 ADM",
    "TGF-β response": "TGFB1 POSTN CTHRC1 SERPINE1 MMP11 INHBA",
    "interferon response": "CXCL9 CXCL10 STAT1 IRF1 IDO1 CD274 GBP1",
    "fat": "ADIPOQ PLIN1 FABP4 LEP CIDEC",
    "neurons": "SNAP25 SYT1 RBFOX3 SLC17A7 GAD1 GAD2 NRGN",
    "oligodendrocytes": "MBP MOBP PLP1 MOG MAG",
    "astrocytes": "GFAP AQP4 SLC1A3 ALDH1L1",
}
READING_OF: Mapping[str, str] = {gene: words for words, genes in READINGS.items() for gene in genes.split()}
MIN_VOICES = 2


def reading(markers: Mapping[str, float]) -> str | None:
    """Return what most of the markers are commonly read as, or None where fewer than two agree.

    Each marker speaks with its log2 ratio; only those that stand out (above 0) speak.

    Parameters
    ----------
    markers
        Symbol → log2 ratio over the other niches.

    References
    ----------
    The genes are the canonical markers of cell atlases such as Karlsson et al. 2021, doi:10.1126/sciadv.abh2169.

    Examples
    --------
    >>> reading({"COL1A1": 2.0, "DCN": 1.5, "CD3E": 1.0})
    'fibroblasts and matrix'
    """
    voices: dict[str, list[float]] = {}
    for gene, ratio in markers.items():
        if ratio > 0 and gene.upper() in READING_OF:
            voices.setdefault(READING_OF[gene.upper()], []).append(ratio)
    heard = {words: sum(ratios) for words, ratios in voices.items() if len(ratios) >= MIN_VOICES}
    return max(heard, key=heard.__getitem__) if heard else None
