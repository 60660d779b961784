"""`VirtualTissue`: a trained run that answers questions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import anndata as ad
import networkx as nx
import numpy as np
import pandas as pd
from scipy import sparse

from aivc_graph import names
from aivc_graph.errors import QueryError, StoreError, unknown_name
from aivc_graph.graph.store import read_store, read_thumbnails, store_digest
from aivc_graph.graph.tissue_graph import TissueGraph, to_scipy_csr
from aivc_graph.model.tissue_model import TissueModel
from aivc_graph.operators.rings import split_rings
from aivc_graph.query.answers import (
    composition_table,
    contact_table,
    counted_nodes,
    expression_table,
    nearest_nodes,
    node_table,
)
from aivc_graph.query.composition import composition_beneath, predicted_composition
from aivc_graph.query.drawing import drawn_once
from aivc_graph.query.niches import Surroundings, find_niches
from aivc_graph.query.places import NICHE, averaging, node_mask
from aivc_graph.query.states import NodeStates, niche_level, niche_state, node_states
from aivc_graph.query.what_if import WhatIf, what_if
from aivc_graph.tissue.intervention import Combination, Intervention
from aivc_graph.tissue.thumbnail import Thumbnail
from aivc_graph.training.checkpoint import load_model
from aivc_graph.training.run_folder import run_facts


class VirtualTissue:
    """A tissue graph with a trained model, to be asked about its niches.

    Parameters
    ----------
    graph
        The tissue.
    model
        A model trained on it, or on tissue of the same panel.
    diagnostics
        Label-free errors from training; they choose what a niche is made of.
    seed
        Of the starts of the niche mixture, which hardly matter.
    slides
        Small pictures of the slides by section, to draw answers over.

    Examples
    --------
    >>> tissue = VirtualTissue.load("runs/demo")
    >>> sizes = tissue.niches(k=6).obs["niche"].value_counts()
    """

    def __init__(
        self,
        graph: TissueGraph,
        model: TissueModel,
        diagnostics: dict[str, float] | None = None,
        seed: int = 0,
        slides: dict[str, Thumbnail] | None = None,
    ) -> None:
        model.plan.check(graph)
        self.graph, self.model, self.seed = graph, model.eval(), seed
        self.diagnostics, self.slides = diagnostics or {}, slides or {}
        self._niches: dict[tuple[int | None, float], dict[str, np.ndarray]] = {}

    @classmethod
    def load(cls, run: str | Path) -> VirtualTissue:
        """Return the tissue of a run folder.

        Raises
        ------
        StoreError
            If the folder is not a finished run, or its graph has moved, is damaged or was built anew since.
        """
        run = Path(run)
        if not (run / "run.json").exists():
            raise StoreError(
                str(run), "no run.json", "a finished run folder", "train first: aivc train CONFIG --out RUN"
            )
        facts = run_facts(run / "run.json", ("graph", "seed"))
        graph = (run / facts["graph"]).resolve()
        if not graph.exists():
            raise StoreError(
                str(run / "run.json"),
                f"its graph {facts['graph']!r} is not there",
                mend="move it back, or build it again from the run's config.yaml",
            )
        if facts.get("graph_digest", digest := store_digest(graph)) != digest:
            raise StoreError(
                str(graph),
                "another graph than the model was trained on",
                mend="it was built anew since: train again, or put the old one back",
            )
        diagnostics = run_facts(run / "training.json", ("diagnostics",))["diagnostics"]
        return cls(read_store(graph), load_model(run), diagnostics, facts["seed"], read_thumbnails(graph))

    @cached_property
    def states(self) -> dict[str, NodeStates]:
        """Latent states of every level, computed once."""
        return node_states(self.model, self.graph)

    @property
    def base_level(self) -> str:
        """The finest measured level with neighbours: where niches are found; coarser levels inherit them."""
        return niche_level(self.model)

    def niches(self, k: int | None = None, resolution: float = 1.0, level: str | None = None) -> ad.AnnData:
        """Return the niche of every node of a level.

        Niches are found once, at the finest measured level; a patch's or region's share of each niche is the
        overlap-weighted mean over its children, so the scales nest.

        Parameters
        ----------
        k
            Number of niches; by default as many as tell what kind a node left out is; one where there is no structure.
        resolution
            More niches above 1, fewer below, where `k` is not given.
        level
            ``cell``, ``patch`` or ``region``; by default the finest measured level.

        Returns
        -------
        AnnData
            X = share of each niche (node, niche); ``obs``: section, barcode, x_um, y_um, ``niche`` (1, 2, … by
            size), ``certainty`` (largest share) and ``supported`` (false where nothing was counted, so that the niche
            rests on the slide or on neighbours alone); ``obsm["spatial"]`` in µm; ``uns`` says how they were found.
        """
        level = self._level(level or self.base_level)
        shares = self._niche_shares(k, resolution)[level]
        obs = node_table(self.graph, level)
        order = [str(i + 1) for i in range(shares.shape[1])]
        known = shares.sum(axis=1) > 0.5
        label = np.where(known, shares.argmax(axis=1), -1)
        obs[NICHE] = pd.Categorical.from_codes(label, categories=pd.Index(order))
        obs["certainty"] = np.where(known, shares.max(axis=1), np.nan)
        obs["supported"] = known & counted_nodes(self.model, self.graph, level)
        answer = ad.AnnData(X=shares.astype(np.float32), obs=obs, var=pd.DataFrame(index=pd.Index(order, name=NICHE)))
        answer.obsm["spatial"] = self.graph[level].pos.numpy()
        answer.obsm["X_latent"] = self.states[level].z
        _, made_of = niche_state(self.states[self.base_level], self.diagnostics, self.base_level)
        answer.uns["niches"] = {"base_level": self.base_level, "made_of": made_of, "k": shares.shape[1], "units": "µm"}
        return answer

    def expression(
        self, genes: list[str] | None = None, at: str = names.PATCH, k: int | None = None, resolution: float = 1.0
    ) -> Any:
        """Return expected expression, in counts per 10,000 of the measured panel.

        Parameters
        ----------
        genes
            Symbols; all measured ones if not given.
        at
            ``cell`` or ``patch``: AnnData (node, gene) with ``layers["measured"]`` beside the expectation, and
            ``supported`` in ``obs`` as in `niches`; ``niche``: a table with the mean, its 95 % interval over sections
            (or over regions, where there are fewer than five sections) and the measured mean.

        Raises
        ------
        QueryError
            Unknown gene (lists the nearest), or a level at which no RNA was measured.
        """
        level = self.base_level if at == NICHE else self._level(at)
        if names.RNA not in self.model.plan.counts.get(level, {}):
            measured = [v for v, by in self.model.plan.counts.items() if names.RNA in by]
            if not measured:
                raise QueryError(f"expression at {level}", "no RNA was measured at any level of this tissue")
            raise QueryError(
                f"expression at {level}",
                "no RNA was measured there",
                f"one of {', '.join(measured)}",
                f"ask at={measured[0]!r}",
            )
        panel = self.model.plan.counts[level][names.RNA]
        chosen = list(panel) if genes is None else list(dict.fromkeys(genes))
        for gene in chosen:
            if gene not in panel:
                raise unknown_name(QueryError, f"expression at {level}", "measured gene", gene, panel)
        niche = self.niches(k, resolution, level).obs[NICHE] if at == NICHE else None
        return expression_table(self.model, self.graph, level, chosen, niche)

    def markers(self, n: int = 5, k: int | None = None, resolution: float = 1.0) -> pd.DataFrame:
        """Return the `n` genes of each niche that stand out most from the other niches.

        One row a niche and gene: expected counts per 10,000 and ``log2_ratio``, over the mean of the other niches, both
        with one count per 10,000 added so that rarely seen genes do not lead. Empty where there is one niche alone.
        """
        table = self.expression(at=NICHE, k=k, resolution=resolution)
        wide = table.pivot(index="niche", columns="gene", values="expected")
        others = (wide.sum() - wide) / max(len(wide) - 1, 1)
        n = n if len(wide) > 1 else 0
        ratio = np.log2((wide + 1.0) / (others + 1.0)).stack().rename("log2_ratio").reset_index()
        best = ratio.sort_values("log2_ratio", ascending=False).groupby("niche", observed=True).head(n)
        best = best.merge(table, on=["niche", "gene"])
        return best.sort_values(["niche", "log2_ratio"], ascending=[True, False], ignore_index=True)

    def composition(
        self, level: str | None = None, k: int | None = None, resolution: float = 1.0, by: str | None = None
    ) -> pd.DataFrame:
        """Return what each niche (or section) is made of: the share of each cell type, or of each label of its nodes.

        Where nodes carry no label, the shares are those of the niches in each section. Of patches whose cells carry
        types, one row a patch unless `by` says otherwise: shares predicted from its counts alone, so that patches
        without measured cells are answered too, and ``measured_<type>``, those of the cells beneath. Of regions one row
        a region: the labels of the nodes beneath.

        Raises
        ------
        QueryError
            A level that bears no labels, above nodes that bear none either.
        """
        level = self._level(level or self.base_level)
        obs = self.niches(k, resolution, level).obs
        children = [child for child, parent in self.model.plan.compositions if parent == level]
        if children:
            return predicted_composition(self.model, self.graph, children[0], level, obs, by)
        if level != self.base_level and names.LABEL not in obs:
            return self._composition_beneath(level, obs, by)
        by = by or NICHE
        return composition_table(obs, by if by in obs else "section")

    def _composition_beneath(self, level: str, obs: pd.DataFrame, by: str | None) -> pd.DataFrame:
        beneath = self.graph.obs(self.base_level)
        if names.LABEL not in beneath:
            mend = f"ask for the niches at {level}: each row has the shares of the niches there"
            raise QueryError(f"composition at {level}", f"no label, nor at {self.base_level}", "labelled nodes", mend)
        return composition_beneath(beneath[names.LABEL], averaging(self, level)[1], obs, by)

    def neighbours(self, k: int | None = None, resolution: float = 1.0) -> pd.DataFrame:
        """Return which niches touch: a row a pair, with contacts, those expected by chance, and their log2 ratio."""
        answer = self.niches(k, resolution)
        return contact_table(self._adjacency(), answer.obs[NICHE].cat.codes.to_numpy(), answer.n_vars)

    def contact_graph(self, k: int | None = None, resolution: float = 1.0) -> nx.Graph:
        """Return the niche contact graph: nodes are niches and their size, edges touching pairs; weight = contacts."""
        graph: nx.Graph = nx.Graph()
        for niche, n in self.niches(k, resolution).obs[NICHE].value_counts(sort=False).items():
            graph.add_node(niche, nodes=int(n))
        touching = self.neighbours(k, resolution)
        for a, b, n, ratio in touching[["niche_a", "niche_b", "contacts", "log2_ratio"]].to_numpy():
            graph.add_edge(a, b, weight=float(n), log2_ratio=float(ratio))
        return graph

    def similar_to(
        self, *, node: str | None = None, niche: str | int | None = None, k: int | None = None, n: int = 20
    ) -> pd.DataFrame:
        """Return the nodes most like a node (``section:barcode``) or the middle of a niche, on any section.

        Distance is Euclidean in units of the spread of the niche states; nodes are of the finest measured level.
        """
        if n < 1:
            raise QueryError("similar_to", f"n = {n}", "n ≥ 1", "say how many nodes to list")
        level, known = self.base_level, self.states[self.base_level].known
        x, _ = niche_state(self.states[level], self.diagnostics, level)
        index = self.graph.obs(level).index
        if (node is None) == (niche is None):
            raise QueryError("similar_to", "both or neither of node and niche", "exactly one", "give node= or niche=")
        if node is not None:
            if node not in index:
                raise unknown_name(QueryError, "similar_to", "node", node, index[:1000])
            if not known[row := index.get_loc(node)]:
                raise QueryError("similar_to", f"{node}, of which nothing is known", "a node with counts")
            return nearest_nodes(self.graph, level, x, x[row], n, known & (index != node))
        members = self.niches(k, level=level).obs[NICHE].astype(str).to_numpy() == str(niche)
        if not members.any():
            raise QueryError("similar_to", f"no niche {niche!r}", f"1 … {self._niche_shares(k, 1.0)[level].shape[1]}")
        return nearest_nodes(self.graph, level, x, x[members].mean(axis=0), n, known)

    def niche(self, niche: str | int, k: int | None = None, resolution: float = 1.0) -> np.ndarray:
        """Return who of the base level belongs to a niche, boolean (node,); a place for `intervene`."""
        members = self.niches(k, resolution).obs[NICHE]
        if str(niche) not in members.cat.categories:
            raise unknown_name(QueryError, "niche", "niche", str(niche), members.cat.categories)
        return (members.astype(str) == str(niche)).to_numpy()

    def intervene(
        self,
        intervention: Intervention | Combination,
        where: np.ndarray | Sequence[str] | None = None,
        hours: float | None = None,
    ) -> WhatIf:
        """Return what an intervention, or several together, would do to this tissue.

        Parameters
        ----------
        intervention
            Such as ``ag.knockout("TGFB1")`` or ``ag.knockout("TGFB1") + ag.drug("ruxolitinib", dose=0.3)``.
        where
            Nodes of the finest measured level: boolean (node,), such as ``tissue.niche(3)``, or their names
            ``section:barcode``; all of them if not given.
        hours
            How long it lasts until the tissue is looked at [h]; by default as each part says.

        Raises
        ------
        QueryError
            A tissue trained without interventions, an intervention it has never seen, a place that is not there.

        Examples
        --------
        >>> answer = tissue.intervene(ag.knockout("TGFB1"), where=tissue.niche(1))
        >>> effect = answer.readout("genes", by="niche", genes=["COL1A1"])
        """
        parts = intervention.parts
        if hours is not None:
            if not 0 <= hours < np.inf:
                raise QueryError("intervene", f"hours = {hours:g}", "a number from 0")
            parts = tuple(part.model_copy(update={"hours": float(hours)}) for part in parts)
        return what_if(self, Combination(parts=parts), node_mask(self.graph, self.base_level, where))

    def plot(
        self, section: str | None = None, k: int | None = None, resolution: float = 1.0, level: str | None = None
    ) -> Any:
        """Draw the niches of one section, over its slide where there is one; returns a matplotlib Axes."""
        from aivc_graph.plot.niche_map import niche_map

        level = self._level(level or self.base_level)
        answer = self.niches(k, resolution, level)
        names_here = answer.obs["section"].cat.categories
        section = section or names_here[0]
        if section not in names_here:
            raise unknown_name(QueryError, "plot", "section", section, names_here)
        shown, slide = answer[answer.obs["section"] == section], self.slides.get(section)
        if level != self.base_level:
            n_base = np.diff(averaging(self, level)[1].indptr)
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

    def _level(self, level: str) -> str:
        if level not in self.graph.levels:
            raise unknown_name(QueryError, "level", "level", level, self.graph.levels)
        return level

    def _adjacency(self) -> sparse.csr_matrix | None:
        relation = (self.base_level, names.NEAR, self.base_level)
        return to_scipy_csr(self.graph[relation].adj_t) if relation in self.graph.edge_types else None

    def _surroundings(self) -> Surroundings:
        level, states = self.base_level, self.states[self.base_level]
        x, made_of = niche_state(states, self.diagnostics, level)
        return Surroundings(level, made_of, x, states.own, states.known, states.measured, self._nearest())

    def _nearest(self) -> sparse.csr_matrix:
        """Return who is among a node's nearest neighbours, as many as the model's last ring reaches (node, node)."""
        relation = (self.base_level, names.NEAR, self.base_level)
        if relation not in self.graph.edge_types:
            return sparse.csr_matrix((self.graph[self.base_level].num_nodes,) * 2)
        near = self.graph[relation]
        return to_scipy_csr(split_rings(near.adj_t, near.distance_um, self.model.plan.config.rings[-1:])[0])

    def _niche_shares(self, k: int | None, resolution: float) -> dict[str, np.ndarray]:
        if (k, resolution) not in self._niches:
            posterior = find_niches(self._surroundings(), k, resolution, self.seed)
            self._niches[k, resolution] = self._lift_shares(posterior)
        return self._niches[k, resolution]

    def _lift_shares(self, shares: np.ndarray) -> dict[str, np.ndarray]:
        """Carry niche shares from the base level to every other, up by overlap and then down to what has none yet."""
        found = {self.base_level: shares}
        pairs = [(s, t) for s, name, t in self.graph.edge_types if name == names.WITHIN and t != names.SECTION]
        order = {level: i for i, level in enumerate(names.LEVELS)}
        for child, parent in sorted(pairs, key=lambda p: (order[p[0]], order[p[1]])):
            if child in found and parent not in found:
                overlap = to_scipy_csr(self.graph[child, names.WITHIN, parent].adj_t)
                found[parent] = _normalised(overlap @ found[child])
        for child, parent in sorted(pairs, key=lambda p: -order[p[0]]):
            if parent in found and child not in found:
                overlap = to_scipy_csr(self.graph[child, names.WITHIN, parent].adj_t)
                found[child] = _normalised(overlap.T @ found[parent])
        return found


def _normalised(shares: np.ndarray) -> np.ndarray:
    return shares / np.maximum(shares.sum(axis=1, keepdims=True), 1e-12)
