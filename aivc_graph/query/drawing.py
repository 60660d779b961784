"""What of an answer is drawn."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd


def drawn_once(niches: ad.AnnData, n_base: np.ndarray) -> ad.AnnData:
    """Return one node for those that lie in the same place, as a window has one in each split it was cut into.

    Its niche has the largest share over all of them, weighed by how many nodes each stands for, `n_base` (node,).
    """
    _, first, place = np.unique(niches.obsm["spatial"], axis=0, return_index=True, return_inverse=True)
    shares = np.zeros((len(first), niches.n_vars))
    np.add.at(shares, place.ravel(), niches.X * n_base[:, None])
    once = niches[first].copy()
    label = np.where(shares.sum(axis=1) > 0, shares.argmax(axis=1), -1)
    once.obs["niche"] = pd.Categorical.from_codes(label, categories=niches.obs["niche"].cat.categories)
    return once
