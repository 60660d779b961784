"""A published tool on given counts and cells: what `deconvolution_peers.py` runs in an environment of the tool's own.

    PYTHON -c "import deconvolution_peer; deconvolution_peer.main(TOOL, IN, OUT, STEPS)"

IN: counts of spots (spot, gene) and of cells (cell, gene), and the kind of each cell. OUT: shares (spot, type) as the
tool says them, in the order of kinds, and its version. Each takes STEPS steps of its optimiser on cells and as many on
spots, else as it comes; Tangram has one stage, a step an epoch, and maps mean profiles of types.
"""

from __future__ import annotations

import importlib.metadata
import logging
import warnings

import anndata as ad
import numpy as np
import pandas as pd
import torch

QUIET = {"accelerator": "cpu", "enable_progress_bar": False, "logger": False}
BATCH = 128


def epochs(data: ad.AnnData, steps: int) -> int:
    """Return in how many epochs of minibatches there are so many steps."""
    return -(-steps // -(-data.n_obs // BATCH))


def stereoscope(cells: ad.AnnData, spots: ad.AnnData, steps: int) -> pd.DataFrame:
    """Andersson et al. 2020, doi:10.1038/s42003-020-01247-y, of scvi-tools."""
    from scvi.external import RNAStereoscope, SpatialStereoscope

    RNAStereoscope.setup_anndata(cells, labels_key="type")
    of_cells = RNAStereoscope(cells)
    of_cells.train(max_epochs=epochs(cells, steps), **QUIET)
    SpatialStereoscope.setup_anndata(spots)
    of_spots = SpatialStereoscope.from_rna_model(spots, of_cells)
    of_spots.train(max_epochs=epochs(spots, steps), **QUIET)
    return of_spots.get_proportions()


def destvi(cells: ad.AnnData, spots: ad.AnnData, steps: int) -> pd.DataFrame:
    """Lopez et al. 2022, doi:10.1038/s41587-022-01272-8, of scvi-tools."""
    from scvi.model import CondSCVI, DestVI

    CondSCVI.setup_anndata(cells, labels_key="type")
    of_cells = CondSCVI(cells, weight_obs=False, prior="normal")
    of_cells.train(max_epochs=epochs(cells, steps), **QUIET)
    DestVI.setup_anndata(spots)
    of_spots = DestVI.from_rna_model(spots, of_cells)
    of_spots.train(max_epochs=epochs(spots, steps), **QUIET)
    return of_spots.get_proportions()


def cell2location(cells: ad.AnnData, spots: ad.AnnData, steps: int) -> pd.DataFrame:
    """Kleshchevnikov et al. 2022, doi:10.1038/s41587-021-01139-4; eight cells a spot are expected."""
    from cell2location.models import Cell2location, RegressionModel

    RegressionModel.setup_anndata(cells, labels_key="type")
    of_cells = RegressionModel(cells)
    of_cells.train(max_epochs=epochs(cells, steps), batch_size=BATCH, **QUIET)
    told = of_cells.export_posterior(cells, sample_kwargs={"num_samples": 100, "batch_size": BATCH})
    table = told.varm["means_per_cluster_mu_fg"]
    table.columns = [name.removeprefix("means_per_cluster_mu_fg_") for name in table]
    Cell2location.setup_anndata(spots)
    of_spots = Cell2location(spots, cell_state_df=table, N_cells_per_location=8, detection_alpha=20)
    of_spots.train(max_epochs=steps, batch_size=None, **QUIET)
    told = of_spots.export_posterior(spots, sample_kwargs={"num_samples": 100, "batch_size": spots.n_obs})
    found = told.obsm["means_cell_abundance_w_sf"]
    found.columns = [name.rsplit("_", 1)[1] for name in found]
    return found


def tangram(cells: ad.AnnData, spots: ad.AnnData, steps: int) -> pd.DataFrame:
    """Biancalani et al. 2021, doi:10.1038/s41592-021-01264-7, of types in place of cells."""
    import tangram as tg

    for one in (cells, spots):
        one.X = np.log1p(one.X / np.maximum(one.X.sum(axis=1, keepdims=True), 1) * 1e4)
    tg.pp_adatas(cells, spots)
    options = {"mode": "clusters", "cluster_label": "type", "num_epochs": steps, "device": "cpu", "random_state": 0}
    told = tg.map_cells_to_space(cells, spots, density_prior="rna_count_based", verbose=False, **options)
    return pd.DataFrame(np.asarray(told.X).T, columns=told.obs["type"].astype(str))


TOOLS = {
    "stereoscope": (stereoscope, "scvi-tools"),
    "destvi": (destvi, "scvi-tools"),
    "cell2location": (cell2location, "cell2location"),
    "tangram": (tangram, "tangram-sc"),
}


def main(tool: str, given: str, out: str, steps: str) -> None:
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    np.random.seed(0)
    torch.manual_seed(0)
    torch.set_num_threads(1)
    v = np.load(given)
    both = (v["cells"].sum(axis=0) > 0) & (v["counts"].sum(axis=0) > 0)
    cells = ad.AnnData(v["cells"][:, both], obs=pd.DataFrame({"type": v["kind"].astype(str)}))
    cells, spots = cells[cells.X.sum(axis=1) > 0].copy(), ad.AnnData(v["counts"][:, both])
    for one in (cells, spots):
        one.obs_names = [f"o{i}" for i in range(one.n_obs)]
        one.var_names = [f"g{i}" for i in range(one.n_vars)]
    tell, package = TOOLS[tool]
    told = tell(cells, spots, int(steps))[[str(k) for k in sorted(set(v["kind"].tolist()))]].to_numpy(np.float64)
    told = told / np.maximum(told.sum(axis=1, keepdims=True), 1e-12)
    np.savez(out, told=told, version=importlib.metadata.version(package))
