"""Niches drawn: one section, and of nodes that lie in one place, one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd

from aivc_graph.errors import QueryError, unknown_name
from aivc_graph.query.places import NICHE

if TYPE_CHECKING:
    from aivc_graph.query.virtual_tissue import VirtualTissue


def draw_niches(
    tissue: VirtualTissue, section: str | None, k: int | None, resolution: float | None, level: str | None
) -> Any:
    """Draw the niches of one section, over its slide where there is one; return the Axes."""
    from aivc_graph.plot.niche_map import niche_map

    level = tissue.level(level)
    answer = tissue.niches(k, resolution, level)
    names_here = answer.obs["section"].cat.categories
    section = section or names_here[0]
    if section not in names_here:
        raise unknown_name(QueryError, "plot", "section", section, names_here)
    shown, slide = answer[answer.obs["section"] == section], tissue.slides.get(section)
    if level != tissue.base_level:
        n_base = np.diff(tissue.places(level)[1].indptr)
        shown = drawn_once(shown, n_base[(answer.obs["section"] == section).to_numpy()])
    return niche_map(
        shown.obsm["spatial"] - (slide.origin_um if slide is not None else (0.0, 0.0)),
        shown.obs[NICHE],
        slide=slide.image if slide is not None else None,
        mpp=slide.um_per_pixel if slide is not None else None,
        size_um=shown.obs["size_um"],
        order=list(answer.obs[NICHE].cat.categories),
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
