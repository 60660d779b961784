"""Anchors: which cells are known to lie beneath which spot, and how surely; and the pairs that placed them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field
from scipy import sparse

from aivc_graph import names
from aivc_graph.graph.known_pairs import pairs_of
from aivc_graph.graph.panels import labels, withins
from aivc_graph.graph.tissue_graph import TissueGraph, to_scipy_csr
from aivc_graph.graph.within import overlap_with_discs
from aivc_graph.tissue.registration.pairs import PLACES
from aivc_graph.tissue.thinning import Thinning

if TYPE_CHECKING:
    from aivc_graph.graph.nodes import Nodes

# Columns of the sections' annotation, there only where something else was done than to take each place as it is told.
SIGMA, SHARE, SHIFT = "anchor_sigma_um", "anchor_share", "anchor_shift_um"
OVERLAP = "overlap"
_NODES = ("section", "split", "fine", "coarse", "fine_barcode", "coarse_barcode", "membership", "sigma_um")
COLUMNS = (*_NODES, "kind", "residual_um", "doubtful", *PLACES)


class AnchorConfig(Thinning):
    """Which spots are taken to lie over which cells.

    Parameters
    ----------
    share
        Share of the spots outside the test side that keep the cells beneath them, drawn at random: what the model may
        learn of two levels at once. Of one seed a smaller share is part of a larger one.
    shift_um
        How far [µm] cells are moved against spots, in a direction drawn for each section: what a wrong registration
        does.
    sigma_um
        Standard error [µm], along each axis, of where cells lie beneath spots: a cell then belongs to a spot by the
        probability that it lies there. By default what the registration of one on the other left over; where neither
        was registered, and no `patch_reach_um` says how far places differ, what the counts of training nodes tell: 0
        unless they surely gain by more.
    seed
        Of what is drawn.
    """

    sigma_um: float | None = Field(None, ge=0)

    def sigmas(self, sections: pd.DataFrame, reach_um: float = 0.0) -> NDArray[np.float64]:
        """Return the standard error of the place of cells beneath spots, by section (section,) [µm]; NaN if unstated.

        A residual is a distance in the plane, which has two axes; one of both levels, moved together, says nothing of
        how they lie to each other. A reach says how far places differ, in another way.
        """
        if self.sigma_um is not None:
            return np.full(len(sections), self.sigma_um)
        levels = (names.CELL, names.PATCH)
        found = sections.reindex(columns=[f"{names.RESIDUAL_UM}{level}" for level in levels]).astype(float)
        for level, other in (levels, levels[::-1]):
            if (along := f"{names.ALONG}{level}") in sections:
                together = sections[along].fillna("").str.split(", ").map(lambda moved, other=other: other in moved)
                found.loc[together, f"{names.RESIDUAL_UM}{level}"] = np.nan
        unstated = found.isna().all(axis=1) if reach_um == 0 else False
        return np.where(unstated, np.nan, np.sqrt((found.fillna(0.0) ** 2).sum(axis=1) / 2))

    def beneath(self, cells: Nodes, spots: Nodes, section: str, reach_um: float, sigma_um: float) -> sparse.csr_matrix:
        """Return the membership (spot, cell) of one section's nodes of one side of the split.

        See `overlap_with_discs` for `reach_um` and `sigma_um`.
        """
        places = cells.pos_um + self.shift(section)
        membership = overlap_with_discs(places, cells.size_um, spots.pos_um, spots.size_um, reach_um, sigma_um)
        kept = sparse.diags(self.kept(spots, section).astype(np.float32)) @ membership
        kept.eliminate_zeros()
        return kept.tocsr()

    def kept(self, spots: Nodes, section: str) -> NDArray[np.bool_]:
        """Return which spots of one section and side keep the cells beneath them (spot,)."""
        test = spots.split[0] == names.SPLITS.index(names.TEST)
        return np.ones(len(spots), bool) if test else self.taken(len(spots), section)

    def note(self, sections: pd.DataFrame, sigma: NDArray[np.float64], anchored: NDArray[np.bool_]) -> pd.DataFrame:
        """Return the annotation of sections with what was done to their anchors, of error `sigma`, if anything was."""
        sigma = np.where(anchored, sigma, 0.0)
        done: dict[str, Any] = {SIGMA: sigma, SHARE: self.share, SHIFT: self.shift_um}
        usual = {SIGMA: not sigma.any(), SHARE: self.share == 1, SHIFT: self.shift_um == 0}
        return sections.assign(**{key: value for key, value in done.items() if anchored.any() and not usual[key]})


def anchor_pairs(graph: TissueGraph) -> list[tuple[str, str]]:
    """Return the pairs (child, parent) of levels at both of which something was measured, finest first."""
    seen = {level for level in graph.levels if graph.modalities(level) or labels(graph, level)}
    return [(child, parent) for child, parent in withins(graph) if {child, parent} <= seen]


def anchor_table(graph: TissueGraph) -> pd.DataFrame:
    """Return every anchor of a graph: nodes that lie, wholly or in part, beneath others, and pairs of known places.

    Columns ``section``, ``split``, ``fine`` and ``coarse``, ``fine_barcode``, ``coarse_barcode``, ``membership`` (0 to
    1, how much of the finer node lies there, or how probably), ``sigma_um``, the standard error of its place along each
    axis [µm], ``kind``, ``residual_um``, ``doubtful``, and where either lies, ``fine_x_um``, ``fine_y_um``,
    ``coarse_x_um``, ``coarse_y_um``.

    A pair by which an element was registered is of kind ``landmark``, or ``position`` of a coarse map: `fine` is the
    element that was moved, `coarse` the one it was placed on, either barcode the name of the pair, and its place there
    that by the map, and that it is said to have; ``residual_um`` is how far these are apart, and ``membership`` is 1 if
    the map was fitted to it, 0 if it was left out by `share`. It is on no side of the split. Those of nodes, ``kind``
    ``overlap``, have no residual.

    Examples
    --------
    >>> anchor_table(graph).columns[:4].tolist()
    ['section', 'split', 'fine', 'coarse']
    """
    sections = graph.obs(names.SECTION)
    sigma = sections[SIGMA].to_numpy(float) if SIGMA in sections else np.zeros(len(sections))
    parts = [_overlaps(graph, child, parent, sigma) for child, parent in anchor_pairs(graph)]
    pairs = pairs_of(graph)
    known = pairs.assign(split="", fine_barcode=pairs["name"], coarse_barcode=pairs["name"])
    known = known.assign(membership=pairs["fitted"].astype(np.float32))[list(COLUMNS)]
    return pd.concat([*parts, known] if len(known) else parts or [known], ignore_index=True)


def _overlaps(graph: TissueGraph, child: str, parent: str, sigma: NDArray[np.float64]) -> pd.DataFrame:
    """Return the anchors between two levels, whose places have the error `sigma` (section,) [µm]."""
    edges = to_scipy_csr(graph[child, names.WITHIN, parent].adj_t).tocoo()
    section = graph[parent].section_index.numpy()[edges.row]
    ends = {"fine": (child, edges.col), "coarse": (parent, edges.row)}
    found: dict[str, Any] = {"section": graph.obs(names.SECTION).index.to_numpy()[section]}
    found["split"] = np.array(names.SPLITS)[graph[parent].split.numpy()[edges.row]]
    for end, (level, rows) in ends.items():
        place = graph[level].pos.double().numpy()[rows]
        found |= {end: level, f"{end}_barcode": graph.obs(level)[names.BARCODE].to_numpy()[rows]}
        found |= {f"{end}_x_um": place[:, 0], f"{end}_y_um": place[:, 1]}
    found |= {"membership": edges.data, "sigma_um": sigma[section]}
    found |= {"kind": OVERLAP, "residual_um": np.nan, "doubtful": False}
    return pd.DataFrame(found)[list(COLUMNS)]


def anchors_told(graph: TissueGraph) -> list[str]:
    """Say what was done to the anchors of a graph; nothing where each place is as it is told."""
    obs, said = graph.obs(names.SECTION), []
    if SHARE in obs:
        share = obs[SHARE].iloc[0]
        said.append(f"Of the spots outside the test side {share:.0%} keep the cells beneath them, drawn at random.")
    if SHIFT in obs:
        said.append(f"Cells were moved {obs[SHIFT].iloc[0]:g} µm against the spots, by the configuration.")
    if SIGMA in obs:
        least, most = obs[SIGMA].min(), obs[SIGMA].max()
        error = f"{most:.0f} µm" if least == most else f"{least:.0f} to {most:.0f} µm"
        said.append(f"Where cells lie beneath spots is known to {error} along each axis; they belong by probability.")
    return said
