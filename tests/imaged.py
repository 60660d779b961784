"""Sections whose cells were imaged: intensities of markers with a known law, in three stripes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anndata as ad
import numpy as np

from aivc_graph.tissue.section import add_observation

N_MARKERS, COFACTOR = 12, 0.5
MARKERS = [f"M{i}" for i in range(N_MARKERS)]


def imaged(
    striped_section: Callable[..., Any],
    name: str,
    *,
    n: int = 600,
    seed: int = 0,
    donor: str = "d1",
    unit: float = 1.0,
    brighter: float = 0.0,
    freedom: float = np.inf,
    keep_rna: bool = False,
    labels: bool = True,
) -> Any:
    """Return a section of cells with arcsinh(y / 0.5) = 2 + B f + ε, f of a cell's stripe and of the cell itself.

    Parameters
    ----------
    unit
        What all intensities are multiplied by.
    brighter
        Added to every arcsinh, as of a stronger stain.
    freedom
        Of the Student-t that ε is drawn from; normal if it has no end.
    """
    section, rng = striped_section(name, n=n, seed=seed, donor=donor), np.random.default_rng([7, seed])
    table = section.tables["cell_rna"]
    stripe = section.shapes["cell"]["label"].str.removeprefix("stripe ").astype(int).to_numpy()
    loading = np.random.default_rng(11).normal(size=(3, N_MARKERS))
    factors = np.eye(3)[stripe] * 1.2 + 0.7 * rng.normal(size=(len(stripe), 3))
    noise = rng.normal(size=(len(stripe), N_MARKERS))
    if np.isfinite(freedom):
        noise = rng.standard_t(freedom, noise.shape)
    terms = 2.0 + brighter + factors @ loading + 0.5 * noise
    imaged_table = ad.AnnData((unit * COFACTOR * np.sinh(terms)).astype(np.float32))
    imaged_table.obs_names, imaged_table.var_names = table.obs["barcode"].astype(str), MARKERS
    if not keep_rna:
        del section.tables["cell_rna"]
    add_observation(section, "cell", "intensity", imaged_table)
    if not labels:
        section.shapes["cell"] = section.shapes["cell"].drop(columns="label")
    return section
