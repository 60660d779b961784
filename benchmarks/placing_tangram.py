"""Tangram on the same cells: what `placing.py --tangram PYTHON` runs in an environment of Tangram's own.

    PYTHON -m pip install tangram-sc anndata torch scikit-learn

IN: counts of cells and nodes (cell, gene) in shared genes, counts of further genes in cells. OUT: by cell the node that
is likeliest, and further genes told of each node. Mode `cells`, uniform density, 200 epochs.

Biancalani et al. 2021, doi:10.1038/s41592-021-01264-7.
"""

from __future__ import annotations

import anndata as ad
import numpy as np

EPOCHS = 200


def main(given: str, out: str) -> None:
    import tangram as tg

    data = np.load(given)
    cells, nodes = (ad.AnnData(np.log1p(scaled(data[one]))) for one in ("cells", "nodes"))
    for one in (cells, nodes):
        one.var_names = [f"g{i}" for i in range(one.n_vars)]
        one.obs_names = [f"c{i}" for i in range(one.n_obs)]
    tg.pp_adatas(cells, nodes)
    told = tg.map_cells_to_space(
        cells, nodes, mode="cells", density_prior="uniform", num_epochs=EPOCHS, device="cpu", random_state=0
    )
    weight = np.asarray(told.X)  # (cell, node)
    genes = weight.T @ (data["further"] / np.maximum(data["cells"].sum(axis=1, keepdims=True), 1.0))
    np.savez(out, node=weight.argmax(axis=1), genes=genes)


def scaled(counts: np.ndarray) -> np.ndarray:
    return counts / np.maximum(counts.sum(axis=1, keepdims=True), 1.0) * np.median(counts.sum(axis=1))
