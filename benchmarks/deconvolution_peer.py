"""A published tool on given counts and cells: what `deconvolution_peers.py` runs in an environment of the tool's own.

    PYTHON -c "import deconvolution_peer; deconvolution_peer.main(TOOL, IN, OUT)"

IN: counts of spots (spot, gene) and of cells (cell, gene), the kind of each cell, the section of each spot, how many
cells a spot holds about, and how much capture varies between spots of a section (``detection_alpha`` of
cell2location). OUT: ``told``, shares (spot, type) as the tool says them, in the order of kinds; ``half``, the same
after half of the steps, where the tool goes by steps; ``lower`` and ``upper``, 5 and 95 % of its posterior, where it
has one; its version; and seconds of processor, of both stages.

Settings are those of the tools' own tutorials, but that a small reference is gone over more often, up to `CELL_STEPS`
steps of the first stage: 250 epochs of 300 cells are 250 steps.
"""

from __future__ import annotations

import importlib.metadata
import logging
import os
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import torch

QUIET = {"accelerator": "cpu", "enable_progress_bar": False, "logger": False, "enable_model_summary": False}
BATCH = 128
CELL_STEPS = 5000
STEREOSCOPE_EPOCHS = 4000
TANGRAM_EPOCHS = 1000
DESTVI_EPOCHS = 600  # of 2,500: a tenth of a second a step
DRAWS = 500
Told = dict[str, np.ndarray]


def epochs(data: ad.AnnData, least: int) -> int:
    """Return in how many epochs of minibatches there are `CELL_STEPS` steps, and no fewer than `least`."""
    return max(least, -(-CELL_STEPS // -(-data.n_obs // BATCH)))


def legs(model: object, tell: Callable[[], pd.DataFrame], number: int, again: dict[str, object], **how: object) -> Told:
    """Train `number` epochs in two halves, the second as `again` says; return what is told after each."""
    model.train(max_epochs=number // 2, **how, **QUIET)
    half = tell()
    model.module.train()  # which the trainer leaves as the first half ended
    model.train(max_epochs=number - number // 2, **{**how, **again}, **QUIET)
    return {"half": half, "told": tell()}


def stereoscope(given: SimpleNamespace) -> Told:
    """Andersson et al. 2020, doi:10.1038/s42003-020-01247-y, of scvi-tools: 400 epochs of cells, all spots a step."""
    from scvi.external import RNAStereoscope, SpatialStereoscope

    RNAStereoscope.setup_anndata(given.cells, labels_key="type")
    of_cells = RNAStereoscope(given.cells)
    of_cells.train(max_epochs=epochs(given.cells, 400), **QUIET)
    SpatialStereoscope.setup_anndata(given.spots)
    of_spots = SpatialStereoscope.from_rna_model(given.spots, of_cells)
    return legs(of_spots, of_spots.get_proportions, STEREOSCOPE_EPOCHS, {}, batch_size=given.spots.n_obs)


def destvi(given: SimpleNamespace) -> Told:
    """Lopez et al. 2022, doi:10.1038/s41587-022-01272-8, of scvi-tools: 300 epochs of cells; of spots `DESTVI_EPOCHS`.

    Version 1.4.2 gives the prior of its cells as arrays where the model of its spots takes tensors: made such here.
    """
    from scvi.model import CondSCVI, DestVI

    CondSCVI.setup_anndata(given.cells, labels_key="type")
    of_cells = CondSCVI(given.cells, weight_obs=False, prior="normal")
    of_cells.train(max_epochs=epochs(given.cells, 300), **QUIET)
    arrays = of_cells.get_vamp_prior

    def tensors(*words: object, **named: object) -> dict[str, torch.Tensor]:
        return {name: torch.as_tensor(each, dtype=torch.float32) for name, each in arrays(*words, **named).items()}

    of_cells.get_vamp_prior = tensors
    DestVI.setup_anndata(given.spots)
    of_spots = DestVI.from_rna_model(given.spots, of_cells)
    return legs(of_spots, of_spots.get_proportions, DESTVI_EPOCHS, {"n_epochs_kl_warmup": None})


def cell2location(given: SimpleNamespace, steps: int, rates: tuple[float, float]) -> Told:
    """Kleshchevnikov et al. 2022, doi:10.1038/s41587-021-01139-4: 250 epochs of cells, all spots a step.

    `rates` of learning of either half of the steps on spots: 0.002 is the authors', with up to 30,000 steps.
    """
    from cell2location.models import Cell2location, RegressionModel
    from cell2location.utils.filtering import filter_genes

    genes = filter_genes(given.cells, cell_count_cutoff=5, cell_percentage_cutoff2=0.03, nonz_mean_cutoff=1.12)
    cells, spots = given.cells[:, genes].copy(), given.spots[:, genes].copy()
    RegressionModel.setup_anndata(cells, labels_key="type")
    of_cells = RegressionModel(cells)
    of_cells.train(max_epochs=epochs(cells, 250), batch_size=BATCH, **QUIET)
    known = of_cells.export_posterior(cells, sample_kwargs={"num_samples": 200, "batch_size": BATCH})
    table = known.varm["means_per_cluster_mu_fg"]
    table.columns = [name.removeprefix("means_per_cluster_mu_fg_") for name in table]
    Cell2location.setup_anndata(spots, batch_key="section")
    settings = {"N_cells_per_location": given.cells_a_spot, "detection_alpha": given.detection_alpha}
    of_spots = Cell2location(spots, cell_state_df=table, **settings)

    def draws() -> np.ndarray:
        sites = {"return_sites": ["w_sf"], "batch_size": spots.n_obs, "num_samples": DRAWS}
        found = of_spots.sample_posterior(**sites, return_samples=True)["posterior_samples"]["w_sf"]
        return found.reshape(DRAWS, spots.n_obs, -1)

    def tell() -> pd.DataFrame:
        return pd.DataFrame(draws().mean(axis=0), columns=table.columns)

    later = {"plan_kwargs": {"n_epochs_kl_warmup": None}, "lr": rates[1]}
    found = legs(of_spots, tell, steps, later, batch_size=None, train_size=1, lr=rates[0])
    each = draws()
    ends = np.quantile(each / each.sum(axis=2, keepdims=True), (0.05, 0.95), axis=0)
    lower, upper = (pd.DataFrame(one, columns=table.columns) for one in ends)
    return found | {"lower": lower, "upper": upper}


def tangram(given: SimpleNamespace, mode: str) -> Told:
    """Biancalani et al. 2021, doi:10.1038/s41592-021-01264-7, on the 100 best markers of each type."""
    import scanpy as sc
    import tangram as tg

    sc.pp.normalize_total(given.cells)
    logged = sc.pp.log1p(given.cells, copy=True)
    sc.tl.rank_genes_groups(logged, groupby="type")
    markers = np.unique(pd.DataFrame(logged.uns["rank_genes_groups"]["names"]).iloc[:100].to_numpy())
    tg.pp_adatas(given.cells, given.spots, genes=list(markers))

    def tell(number: int) -> pd.DataFrame:
        how = {"mode": mode, "cluster_label": "type" if mode == "clusters" else None, "num_epochs": number}
        how |= {"density_prior": "rna_count_based", "device": "cpu", "random_state": 0, "verbose": False}
        tg.project_cell_annotations(tg.map_cells_to_space(given.cells, given.spots, **how), given.spots, "type")
        return given.spots.obsm["tangram_ct_pred"]

    return {"half": tell(TANGRAM_EPOCHS // 2), "told": tell(TANGRAM_EPOCHS)}


def rctd(given: SimpleNamespace) -> Told:
    """Cable et al. 2022, doi:10.1038/s41587-021-00830-w, full mode, as written anew in Python by rctd-py."""
    tables = Path(given.folder) / "q_matrices.npz"
    if not tables.exists():
        np.savez(tables, **likelihood_tables())
    os.environ["RCTD_Q_MATRICES"] = str(tables)
    from rctd import RCTDConfig, Reference, run_rctd

    reference = Reference(given.cells, cell_type_col="type", cell_min=1, min_UMI=1)
    config = RCTDConfig(UMI_min=1, UMI_min_sigma=1, counts_MIN=0, device="cpu", compile=False)
    found = run_rctd(given.spots, reference, mode="full", config=config)
    told = pd.DataFrame(0.0, index=range(given.spots.n_obs), columns=found.cell_type_names)
    told.loc[np.flatnonzero(found.pixel_mask)] = np.maximum(found.weights, 0.0)
    return {"told": told}


def likelihood_tables() -> dict[str, np.ndarray]:
    """Return what rctd-py would fetch: log P(count | mean, σ) on its grid, summed over its steps of log noise.

    All σ of a count at once; the first is held against the package's own function.
    """
    from rctd._likelihood import _get_q_single, _ht_pdf_norm, build_x_vals
    from rctd._sigma import SIGMA_ALL
    from scipy.special import gammaln

    step, mean = 4e-3, build_x_vals()
    noise = np.arange(-5000, 5001) * step
    weight = np.stack([np.maximum(_ht_pdf_norm(noise / s) / s, 1e-300) for s in SIGMA_ALL / 100], axis=1) * step
    heard = np.flatnonzero(noise < np.log(1e7))  # beyond, no count up to 1,002 is told by any mean of the grid
    rate = np.log(mean)[:, None] + noise[heard]
    spread, found = np.exp(rate), np.zeros((len(SIGMA_ALL), 1003, len(mean)))
    for count in range(1003):
        found[:, count] = (np.exp(count * rate - spread - gammaln(count + 1)) @ weight[heard]).T
    first = _get_q_single(mean, 3, SIGMA_ALL[0] / 100)
    np.testing.assert_allclose(found[0, 3], first, rtol=1e-6, atol=1e-12)
    logs = np.log(np.maximum(found, 1e-300))
    return {"X_vals": mean} | {f"Q_{sigma}": each for sigma, each in zip(SIGMA_ALL, logs, strict=True)}


# Ten times the rate of cell2location's authors comes as far in a tenth of the steps; fifty times theirs diverges.
TOOLS: dict[str, tuple[Callable[..., Told], str, dict[str, Any]]] = {
    "cell2location": (cell2location, "cell2location", {"steps": 15_000, "rates": (0.002, 0.002)}),
    "cell2location fast": (cell2location, "cell2location", {"steps": 3000, "rates": (0.02, 0.02)}),
    "cell2location long": (cell2location, "cell2location", {"steps": 6000, "rates": (0.02, 0.02)}),
    "tangram cells": (tangram, "tangram-sc", {"mode": "cells"}),
    "tangram clusters": (tangram, "tangram-sc", {"mode": "clusters"}),
    "stereoscope": (stereoscope, "scvi-tools", {}),
    "destvi": (destvi, "scvi-tools", {}),
    "rctd": (rctd, "rctd-py", {}),
}


def main(tool: str, given: str, out: str) -> None:
    """Run a tool, and write what it says."""
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    os.environ["MPLBACKEND"] = "agg"
    np.random.seed(0)
    torch.manual_seed(0)
    torch.set_num_threads(1)
    v = np.load(given)
    both = (v["cells"].sum(axis=0) > 0) & (v["counts"].sum(axis=0) > 0)
    cells = ad.AnnData(v["cells"][:, both], obs=pd.DataFrame({"type": v["kind"].astype(str)}, dtype="category"))
    cells = cells[cells.X.sum(axis=1) > 0].copy()
    spots = ad.AnnData(v["counts"][:, both], obs=pd.DataFrame({"section": v["section"].astype(str)}, dtype="category"))
    for one in (cells, spots):
        one.obs_names = [f"o{i}" for i in range(one.n_obs)]
        one.var_names = [f"g{i}" for i in range(one.n_vars)]
    settings = {name: float(v[name]) for name in ("cells_a_spot", "detection_alpha")}
    tell, package, how = TOOLS[tool]
    found = tell(SimpleNamespace(cells=cells, spots=spots, folder=Path(given).parent, **settings), **how)
    order = [str(k) for k in sorted(set(v["kind"].tolist()))]
    told = {name: each[order].to_numpy(np.float64) for name, each in found.items()}
    for name in {"told", "half"} & set(told):
        told[name] = told[name] / np.maximum(told[name].sum(axis=1, keepdims=True), 1e-12)
    np.savez(out, version=importlib.metadata.version(package), seconds=time.process_time(), **told)
    sys.stdout.flush()
