"""Sections of three stripes in which something was done, and what it did to them."""

from __future__ import annotations

from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

from aivc_graph.tissue.frame import scale_affine
from aivc_graph.tissue.intervention import Intervention, Where, set_interventions
from aivc_graph.tissue.section import add_level, add_observation, new_section

GENES = [f"G{i:02d}" for i in range(24)]
DISC = Where(disc_um=(150, 150, 70))
# Log effects (stripe, gene): G03 falls in stripe 0 alone, G20 everywhere; the drug raises G12, the ligand G15.
KNOCKOUT = np.zeros((3, 24))
KNOCKOUT[0, 3], KNOCKOUT[:, 20] = -1.5, -0.8
DRUG = np.zeros((3, 24))
DRUG[:, 12] = 0.9


def piece(name: str, donor: str, seed: int, *done: Intervention, effect: Any = None, split: str = "train") -> Any:
    """Return a section of three stripes in which `done` changed log expression by `effect(stripe, place)`."""
    rng = np.random.default_rng(seed)
    pos = rng.random((500, 2)) * 300
    stripe = np.minimum((pos[:, 0] / 100).astype(int), 2)
    log_rate = np.log(np.where(np.arange(24) // 8 == stripe[:, None], 4.0, 1.0))
    if effect is not None:
        log_rate = log_rate + effect(stripe, pos)
    share = np.exp(log_rate) / np.exp(log_rate).sum(axis=1, keepdims=True)
    counts = rng.poisson(share * rng.gamma(5.0, 30.0, (500, 1)))
    section, barcodes = new_section(name, donor=donor), [f"c{i}" for i in range(500)]
    add_level(section, "cell", barcodes, pos, 5.0, scale_affine(1.0), pd.DataFrame({"split": [split] * 500}))
    table = ad.AnnData(sparse.csr_matrix(counts.astype(np.float32)))
    table.obs_names, table.var_names = barcodes, GENES
    add_observation(section, "cell", "rna", table)
    set_interventions(section, done)
    return section


def near_disc(stripe: np.ndarray, pos: np.ndarray) -> np.ndarray:
    away = np.maximum(np.hypot(*(pos - 150).T) - 70, 0)
    return 1.2 * np.exp(-away / 25)[:, None] * (np.arange(24) == 15)
