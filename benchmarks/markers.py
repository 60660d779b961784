"""Types of cells of the Xenium breast panel by the markers of their clusters; no published types lie beside them."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA

# Of the Xenium panel; a cluster of cells has the type whose markers stand out most in it.
MARKERS = {
    "B-cells": ["MS4A1", "BANK1", "CD79A", "CD19", "TCL1A", "CD79B"],
    "CAFs": ["LUM", "POSTN", "PDGFRA", "FBLN1", "DPT", "CCDC80", "SFRP4", "CXCL12", "MMP2", "PTGDS", "IGF1"],
    "Endothelial": ["PECAM1", "VWF", "CLDN5", "KDR", "CLEC14A", "EGFL7", "ESM1", "CD93", "AQP1"],
    "Epithelial": [
        "EPCAM",
        "KRT7",
        "KRT8",
        "CDH1",
        "KRT5",
        "KRT14",
        "KRT15",
        "KRT6B",
        "ERBB2",
        "FOXA1",
        "GATA3",
        "ELF3",
        "TACSTD2",
        "CEACAM6",
        "KRT23",
    ],
    "Myeloid": ["CD68", "CD163", "LYZ", "ITGAX", "CD14", "FCGR3A", "C1QA", "AIF1", "FCER1G", "ITGAM"],
    "PVL": ["NDUFA4L2", "PDGFRB", "ACTG2", "MYH11"],
    "Plasmablasts": ["MZB1", "TNFRSF17", "SLAMF7", "DERL3", "CD27", "PRDM1"],
    "T-cells": ["CD3D", "CD3E", "CD3G", "CD8A", "CD4", "IL7R", "TRAC", "CD247", "GZMK", "NKG7"],
}


def label_by_markers(section: Any) -> None:
    """Label cells of ten counts or more by the markers of their cluster."""
    table = section.tables["cell_rna"]
    counts, genes = table.X.toarray(), list(table.var_names)
    deep = counts.sum(axis=1) >= 10
    logs = np.log1p(100 * counts[deep] / counts[deep].sum(axis=1, keepdims=True))
    reduced = PCA(20, random_state=0).fit_transform(logs)
    cluster = KMeans(40, n_init=2, random_state=0).fit_predict(reduced)
    label = np.full(len(section.shapes["cell"]), None, dtype=object)
    rows = section.shapes["cell"].index.get_indexer(table.obs["barcode"])
    label[rows[deep]] = types_of_clusters(logs, cluster, genes)
    section.shapes["cell"]["label"] = label


def types_of_clusters(logs: np.ndarray, cluster: np.ndarray, genes: list[str]) -> np.ndarray:
    """Return the type of each cell (cell,): that whose markers stand out most in its cluster."""
    means = np.stack([logs[cluster == one].mean(axis=0) for one in range(cluster.max() + 1)])
    apart = (means - means.mean(axis=0)) / (means.std(axis=0) + 0.02)
    score = [apart[:, [genes.index(g) for g in of if g in genes]].mean(axis=1) for of in MARKERS.values()]
    return np.array(list(MARKERS))[np.argmax(score, axis=0)][cluster]
