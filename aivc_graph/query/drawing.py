"""What of an answer is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd

from aivc_graph.errors import QueryError, unknown_name
from aivc_graph.tissue.thumbnail import Thumbnail


def draw_niches(
    niches: ad.AnnData, section: str | None, n_base: np.ndarray | None, slides: Mapping[str, Thumbnail]
) -> Any:
    """Draw the niches of one section, the first if not named, over its slide where there is one; return the Axes.

    Parameters
    ----------
    n_base
        How many nodes of the base level each node stands for (node,), where it is not of that level itself.
    """
    from aivc_graph.plot.niche_map import niche_map

    here = niches.obs["section"].cat.categories
    section = section or here[0]
    if section not in here:
        raise unknown_name(QueryError, "plot", "section", section, here)
    mine = (niches.obs["section"] == section).to_numpy()
    shown, slide = niches[mine], slides.get(section)
    if n_base is not None:
        shown = drawn_once(shown, n_base[mine])
    return niche_map(
        shown.obsm["spatial"] - (slide.origin_um if slide is not None else (0.0, 0.0)),
        shown.obs["niche"],
        slide=slide.image if slide is not None else None,
        mpp=slide.um_per_pixel if slide is not None else None,
        size_um=shown.obs["size_um"],
        order=list(niches.obs["niche"].cat.categories),
        title=f"{section}: niches",
    )


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
