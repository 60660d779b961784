"""Whether cells of a type that a section lacks are told to fit nowhere in it, and those of its own types are not.

    OMP_NUM_THREADS=1 AIVC_DATA=… python benchmarks/placing_foreign.py

All cells of a type are taken out of the section and asked beside half of the others: share told to fit nowhere, of
either, with 95 % intervals over squares of 500 µm drawn again. `profile apart`: how far the mean log profile of the
type lies from that of the nearest other type. `breast`: Xenium, 313 genes, clusters typed by markers; `simulated`: a
section of the cohort study, types as simulated, of at least sixty cells; `dissociated`: cells of another patient's
tumour (Wu et al. 2021, doi:10.1038/s41588-021-00911-1) in the breast section, share told to fit nowhere by their type.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
from deconvolution import DATA
from first_model_parts import r
from markers import MARKERS, types_of_clusters
from placing import SEED, Floats, breast, cohort, over_squares, square_of, stripped
from result_file import write_result
from scipy import sparse
from sklearn.cluster import KMeans

from aivc_graph.operators.placing_support import LEAST_FIT, fit_support
from aivc_graph.query.placing import expression_alike

CLUSTERS, LEAST_CELLS = 40, 60


def main() -> None:
    counts, pos, symbol = breast()
    seen, at, label = cohort()
    kinds = [kind for kind, number in zip(*np.unique(label, return_counts=True), strict=True) if number >= LEAST_CELLS]
    found = {
        "breast": taken_out(counts, pos, by_markers(counts, symbol), list(MARKERS)),
        "simulated": taken_out(seen, at, label, kinds),
        "dissociated": dissociated(counts, symbol),
    }
    print(json.dumps(found, indent=1))
    write_result(Path(__file__).parent / "results" / "placing.json", found, part="foreign")


def by_markers(counts: Any, symbol: list[str]) -> Any:
    """Return the type of each cell (cell,) by the markers of its cluster."""
    cells = counts.toarray()
    logs = np.log1p(100 * cells / np.maximum(cells.sum(axis=1, keepdims=True), 1.0))
    at = KMeans(CLUSTERS, n_init=1, random_state=SEED).fit_predict(expression_alike(counts, counts[:1])[0][:, :20])
    return types_of_clusters(logs, at, symbol)


def taken_out(counts: Any, pos: Floats, label: Any, kinds: Any) -> dict[str, Any]:
    """Return by type the share told to fit nowhere: of its cells, when it is not in the section, and of the others."""
    result, half, square = {}, stripped(len(pos)), square_of(pos)
    profile = {one: np.asarray(counts[label == one].sum(axis=0)).ravel() for one in np.unique(label)}
    logs = {one: np.log1p(100 * counted / counted.sum()) for one, counted in profile.items()}
    for kind in kinds:
        gone = label == kind
        asked = half | gone
        x, y = expression_alike(counts[~asked], counts[asked])
        nowhere = fit_support(x, counts[~asked], SEED).fit(y, counts[asked], SEED) < LEAST_FIT
        result[str(kind)] = {
            "cells": int(gone.sum()),
            "profile apart": r(min(np.linalg.norm(logs[kind] - logs[one]) for one in logs if one != kind)),
            "of the type": share_of(nowhere[gone[asked]], square[gone]),
            "others": share_of(nowhere[~gone[asked]], square[asked & ~gone]),
        }
    return result


def share_of(nowhere: Any, square: Any) -> list[float]:
    return over_squares(lambda rows: float(nowhere[rows].mean()), square)


def dissociated(counts: Any, symbol: list[str]) -> dict[str, Any]:
    cells = ad.read_h5ad(DATA / "scrna-breast-wu" / "wu_CID4465.h5ad")
    shared = [gene for gene in symbol if gene in cells.var_names]
    nodes, asked = counts[:, [symbol.index(one) for one in shared]], sparse.csr_matrix(cells[:, shared].X)
    x, y = expression_alike(nodes, asked)
    nowhere = fit_support(x, nodes, SEED).fit(y, asked, SEED) < LEAST_FIT
    kind = cells.obs["celltype_major"].astype(str).to_numpy()
    by_type = {one: [r(nowhere[kind == one].mean()), int((kind == one).sum())] for one in np.unique(kind)}
    return {"all": [r(nowhere.mean()), len(kind)]} | by_type


if __name__ == "__main__":
    main()
