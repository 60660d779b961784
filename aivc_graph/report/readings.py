"""What marker genes are commonly read as, in plain words."""

from __future__ import annotations

from collections.abc import Mapping

READINGS = {
    "epithelial cells": "EPCAM KRT7 KRT8 KRT18 KRT19 CDH1 CLDN3 CLDN4 CLDN7 MUC1 ELF3 TACSTD2 SFN",
    "dividing cells": "MKI67 TOP2A CCNB1 CDK1 BIRC5 UBE2C PCNA TYMS",
    "basal epithelial cells": "KRT5 KRT14 KRT15 KRT17 TP63",
    "keratinocytes": "KRT1 KRT10 LOR FLG IVL DSG1 KRTDAP",
    "enterocytes": "FABP1 ALPI SI APOA4 VIL1 CDH17",
    "goblet cells": "MUC2 TFF3 SPINK4 FCGBP ZG16 CLCA1",
    "hepatocytes": "ALB APOA1 APOB TTR SERPINA1 CYP3A4 CYP2E1 HNF4A",
    "acinar cells of the pancreas": "PRSS1 CPA1 CELA3A CTRB1 CLPS AMY2A",
    "islet cells": "INS GCG SST IAPP CHGA PPY",
    "alveolar cells": "SFTPC SFTPB SFTPA1 AGER HOPX CLDN18",
    "kidney tubule cells": "LRP2 CUBN SLC34A1 UMOD AQP2 SLC12A1",
    "melanocytes": "MLANA PMEL TYR DCT SOX10 MITF",
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
    "mast cells": "TPSAB1 TPSB2 CPA3 KIT MS4A2",
    "neutrophils": "S100A8 S100A9 FCGR3B CSF3R CXCR2 MPO",
    "dendritic cells": "CLEC9A CD1C FCER1A XCR1 LAMP3 CLEC10A",
    "skeletal or heart muscle": "MYH7 MYH2 TNNT2 TNNI3 ACTA1 ACTC1 CKM MYL2",
    "cartilage or bone": "COL2A1 ACAN SOX9 BGLAP IBSP RUNX2 SP7",
    "microglia": "P2RY12 TMEM119 CX3CR1 SALL1 HEXB",
    "oligodendrocyte precursors": "CSPG5 OLIG1 OLIG2 VCAN PTPRZ1",
    "fat cells": "ADIPOQ PLIN1 FABP4 LEP CIDEC",
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
