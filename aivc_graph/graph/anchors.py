"""Anchors: which cells are known to lie beneath which spot, and how surely."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field
from scipy import sparse

from aivc_graph import names
from aivc_graph.graph.panels import labels, withins
from aivc_graph.graph.tissue_graph import TissueGraph, to_scipy_csr
from aivc_graph.graph.within import overlap_with_discs
from aivc_graph.settings import Settings

if TYPE_CHECKING:
    from aivc_graph.graph.nodes import Nodes

# Columns of the sections' annotation, there only where something else was done than to take each place as it is told.
SIGMA, SHARE, SHIFT = "anchor_sigma_um", "anchor_share", "anchor_shift_um"


class AnchorConfig(Settings):
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

    share: float = Field(1.0, gt=0, le=1)
    shift_um: float = Field(0.0, ge=0)
    sigma_um: float | None = Field(None, ge=0)
    seed: int = Field(0, ge=0)

    def sigmas(self, sections: pd.DataFrame, reach_um: float = 0.0) -> NDArray[np.float64]:
        """Return the standard error of the place of cells beneath spots, by section (section,) [µm]; NaN if unstated.

        A residual is a distance in the plane, which has two axes. A reach says how far places differ, in another way.
        """
        if self.sigma_um is not None:
            return np.full(len(sections), self.sigma_um)
        left = [f"residual_um_{level}" for level in (names.CELL, names.PATCH)]
        found = sections.reindex(columns=left).astype(float)
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
        if self.share == 1 or spots.split[0] == names.SPLITS.index(names.TEST):
            return np.ones(len(spots), bool)
        return self._drawn(section).permutation(len(spots)) < np.ceil(self.share * len(spots))

    def shift(self, section: str) -> NDArray[np.float64]:
        """Return what the cells of a section are moved by against its spots (2,) [µm]."""
        angle = self._drawn(section).uniform(0, 2 * np.pi)
        return self.shift_um * np.array([np.cos(angle), np.sin(angle)])

    def _drawn(self, section: str) -> np.random.Generator:
        return np.random.default_rng([self.seed, zlib.crc32(section.encode())])

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
    """Return every anchor of a graph: a row for each node that lies, wholly or in part, beneath another.

    Columns ``section``, ``split``, the levels ``fine`` and ``coarse``, ``fine_barcode``, ``coarse_barcode``,
    ``membership`` (0 to 1, how much of the finer node lies there, or how probably) and ``sigma_um``, the standard
    error of its place [µm].

    Examples
    --------
    >>> anchor_table(graph).columns[:4].tolist()
    ['section', 'split', 'fine', 'coarse']
    """
    sections = graph.obs(names.SECTION)
    sigma = sections[SIGMA].to_numpy(float) if SIGMA in sections else np.zeros(len(sections))
    found: dict[str, list[Any]] = {name: [] for name in ("section", "split", "fine", "coarse")}
    found |= {name: [] for name in ("fine_barcode", "coarse_barcode", "membership", "sigma_um")}
    for child, parent in anchor_pairs(graph):
        edges = to_scipy_csr(graph[child, names.WITHIN, parent].adj_t).tocoo()
        section = graph[parent].section_index.numpy()[edges.row]
        found["section"].append(sections.index.to_numpy()[section])
        found["split"].append(np.array(names.SPLITS)[graph[parent].split.numpy()[edges.row]])
        found["fine"].append(np.full(edges.nnz, child))
        found["coarse"].append(np.full(edges.nnz, parent))
        found["fine_barcode"].append(graph.obs(child)[names.BARCODE].to_numpy()[edges.col])
        found["coarse_barcode"].append(graph.obs(parent)[names.BARCODE].to_numpy()[edges.row])
        found["membership"].append(edges.data)
        found["sigma_um"].append(sigma[section])
    return pd.DataFrame({name: np.concatenate(parts) if parts else [] for name, parts in found.items()})


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
