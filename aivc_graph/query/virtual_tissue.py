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
from aivc_graph.errors import QueryError, unknown_name
from aivc_graph.graph.seen_as import seen_as
from aivc_graph.graph.store import read_store, read_thumbnails
from aivc_graph.graph.tissue_graph import TissueGraph, to_scipy_csr
from aivc_graph.model.tissue_model import TissueModel
from aivc_graph.plot.palette import nth_colour
from aivc_graph.query.answers import (
    composition_table,
    contact_graph,
    contact_table,
    counted_nodes,
    expression_table,
    marker_table,
    measured_genes,
    node_table,
    state_distances,
    state_of,
)
from aivc_graph.query.composition import composition_beneath, predicted_composition
from aivc_graph.query.drawing import draw_niches
from aivc_graph.query.niche_file import load_niches
from aivc_graph.query.niches import NicheRule, Surroundings, fit_niches
from aivc_graph.query.places import NICHE, averaging, node_mask, on_every_level
from aivc_graph.query.screen_responses import Amount, screen_responses
from aivc_graph.query.states import NodeStates, niche_level, node_states, surroundings
from aivc_graph.query.what_if import WhatIf, what_if
from aivc_graph.tissue.intervention import Combination, Intervention
from aivc_graph.tissue.thumbnail import Thumbnail
from aivc_graph.training.checkpoint import load_model
from aivc_graph.training.run_folder import graph_of_run, run_facts


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
    niche_rule
        The niches of the run the model is of; those of `graph`, all its nodes taken together, if not given.

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
        niche_rule: NicheRule | None = None,
    ) -> None:
        model.plan.check(graph)
        self.graph, self.model, self.seed = graph, model.eval(), seed
        self.diagnostics, self.slides, self._given_rule = diagnostics or {}, slides or {}, niche_rule
        self._niches: dict[tuple[int | None, float | None], dict[str, np.ndarray]] = {}

    @classmethod
    def load(cls, run: str | Path) -> VirtualTissue:
        """Return the tissue of a run folder.

        Raises
        ------
        StoreError
            If the folder is not a finished run, or its graph has moved, is damaged or was built anew since.
        """
        run = Path(run)
        graph, seed = graph_of_run(run)
        diagnostics = run_facts(run / "training.json", ("diagnostics",))["diagnostics"]
        model, slides = load_model(run), read_thumbnails(graph)
        return cls(read_store(graph), model, diagnostics, seed, slides, load_niches(run, model))

    def on(self, graph: TissueGraph | str | Path) -> VirtualTissue:
        """Return other tissue, which no training saw, to be asked of the same model and the same niches.

        Its counts are measured against the depth and the mean profile that the model was trained with, its sections
        against their own means, as sections held out whole are: the same section gives the same answers. Where nothing
        was counted, say on a slide alone, answers say so (``supported``).

        Parameters
        ----------
        graph
            A graph built with the settings of the run's graph, or the path of its store. Genes may come in any order,
            and there may be more of them.

        Raises
        ------
        GraphError
            If a level, genes of a panel or features are missing that the model needs.

        Examples
        --------
        >>> VirtualTissue.load("runs/demo").on("runs/demo/graph.zarr").niches().n_obs > 0
        True
        """
        slides = {} if isinstance(graph, TissueGraph) else read_thumbnails(graph)
        found = graph if isinstance(graph, TissueGraph) else read_store(graph)
        asked = seen_as(found, self.graph), self.model, self.diagnostics, self.seed
        return VirtualTissue(*asked, slides, self.niche_rule)

    @cached_property
    def states(self) -> dict[str, NodeStates]:
        """Latent states of every level, computed once."""
        return node_states(self.model, self.graph)

    @property
    def base_level(self) -> str:
        """The finest measured level with neighbours: where niches are found; coarser levels inherit them."""
        return niche_level(self.model)

    @cached_property
    def niche_rule(self) -> NicheRule:
        """What tells the niche of a node where neither number nor resolution is asked for."""
        return self._given_rule or fit_niches(self._surroundings, None, 1.0, self.seed)

    def niches(self, k: int | None = None, resolution: float | None = None, level: str | None = None) -> ad.AnnData:
        """Return the niche of every node of a level.

        Niches are those of the run, found once on its training nodes at the finest measured level: they keep their
        numbers and colours on any tissue. A patch's or region's share of each niche is the overlap-weighted mean over
        its children, so the scales nest. Where `k` or `resolution` is given they are found anew on this tissue.

        Parameters
        ----------
        k
            Number of niches; by default as many as tell what kind a node left out is; one where there is no structure.
        resolution
            More niches above 1, fewer below (1), where `k` is not given.
        level
            ``cell``, ``patch`` or ``region``; by default the finest measured level.

        Returns
        -------
        AnnData
            X = share of each niche (node, niche); ``obs``: section, barcode, x_um, y_um, ``niche`` (1, 2, … by
            size where they were found), ``certainty`` (largest share) and ``supported`` (false where nothing was
            counted, so that the niche rests on the slide or on neighbours alone); ``obsm["spatial"]`` in µm; ``uns``
            says how they were found, and the colour of each.
        """
        level = self._level(level or self.base_level)
        shares = self._niche_shares(k, resolution)[level]
        obs = node_table(self.graph, level)
        order = [str(i + 1) for i in range(shares.shape[1])]
        known = shares.sum(axis=1) > 0.5
        label = np.where(known, shares.argmax(axis=1), -1)
        obs[NICHE] = pd.Categorical.from_codes(label, categories=pd.Index(order))
        obs = obs.assign(certainty=np.where(known, shares.max(axis=1), np.nan))
        obs["supported"] = known & counted_nodes(self.model, self.graph, level)
        answer = ad.AnnData(X=shares.astype(np.float32), obs=obs, var=pd.DataFrame(index=pd.Index(order, name=NICHE)))
        answer.obsm["spatial"] = self.graph[level].pos.numpy()
        answer.obsm["X_latent"] = self.states[level].z
        facts = {"base_level": self.base_level, "made_of": self._surroundings.made_of, "k": shares.shape[1]}
        of_run = self._given_rule is not None and k is None and resolution is None
        answer.uns["niches"] = facts | {"units": "µm", "of": "the run" if of_run else "this tissue"}
        answer.uns[f"{NICHE}_colors"] = [nth_colour(i) for i in range(len(order))]
        return answer

    def expression(
        self,
        genes: list[str] | None = None,
        at: str = names.PATCH,
        k: int | None = None,
        resolution: float | None = None,
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
        chosen = measured_genes(self.model, level, genes)
        niche = self.niches(k, resolution, level).obs[NICHE] if at == NICHE else None
        return expression_table(self.model, self.graph, level, chosen, niche)

    def markers(self, n: int = 5, k: int | None = None, resolution: float | None = None) -> pd.DataFrame:
        """Return the `n` genes of each niche that stand out most from the other niches.

        One row a niche and gene: expected counts per 10,000 and ``log2_ratio``, over the mean of the other niches, both
        with one count per 10,000 added so that rarely seen genes do not lead. Empty where there is one niche alone.
        """
        return marker_table(self.expression(at=NICHE, k=k, resolution=resolution), n)

    def composition(
        self, level: str | None = None, k: int | None = None, resolution: float | None = None, by: str | None = None
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
            return composition_beneath(self.graph.obs(self.base_level), self._places(level)[1], obs, by, level)
        by = by or NICHE
        return composition_table(obs, by if by in obs else "section")

    def neighbours(self, k: int | None = None, resolution: float | None = None) -> pd.DataFrame:
        """Return which niches touch: a row a pair, with contacts, those expected by chance, and their log2 ratio."""
        answer, relation = self.niches(k, resolution), (self.base_level, names.NEAR, self.base_level)
        near = to_scipy_csr(self.graph[relation].adj_t) if relation in self.graph.edge_types else None
        return contact_table(near, answer.obs[NICHE].cat.codes.to_numpy(), answer.n_vars)

    def contact_graph(self, k: int | None = None, resolution: float | None = None) -> nx.Graph:
        """Return the niche contact graph: nodes are niches and their size, edges touching pairs; weight = contacts."""
        members = self.niches(k, resolution).obs[NICHE]
        return contact_graph(members.value_counts(sort=False), self.neighbours(k, resolution))

    def similar_to(
        self,
        *,
        node: str | None = None,
        niche: str | int | None = None,
        k: int | None = None,
        n: int = 20,
        of: VirtualTissue | None = None,
    ) -> pd.DataFrame:
        """Return the nodes most like a node (``section:barcode``) or the middle of a niche, on any section.

        Distance is Euclidean in units of the spread of the run's niche states, so that it means the same on any tissue;
        nodes are of the finest measured level.

        Parameters
        ----------
        of
            The tissue that `node` or `niche` is of, seen by the same model (`on`); this one if not given.
        """
        if n < 1:
            raise QueryError("similar_to", f"n = {n}", "n ≥ 1", "say how many nodes to list")
        if (node is None) == (niche is None):
            raise QueryError("similar_to", "both or neither of node and niche", "exactly one", "give node= or niche=")
        there = self if of is None else of
        if there.model is not self.model:
            mend = "ask both of one run: run = VirtualTissue.load(RUN), then run.on(GRAPH)"
            raise QueryError("similar_to", "tissue seen by another model", "states of one model", mend)
        among = self._surroundings.known
        if niche is not None:
            members = there.niche(niche, k)
            if not members.any():
                raise QueryError("similar_to", f"niche {niche} has no node there", "a niche that is found there")
            to = there._surroundings.x[members].mean(axis=0)
        else:
            to = state_of(there.graph, there.base_level, there._surroundings, str(node))
            if there is self:
                among = among & (self.graph.obs(self.base_level).index != node)
        distance = state_distances(self._surroundings.x, to, self.niche_rule.spread)
        table = node_table(self.graph, self.base_level).assign(distance=distance)
        supported = counted_nodes(self.model, self.graph, self.base_level)
        return table.assign(supported=supported)[among].nsmallest(n, "distance")

    def niche(self, niche: str | int, k: int | None = None, resolution: float | None = None) -> np.ndarray:
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
        mask = node_mask(self.graph, self.base_level, where)
        return what_if(self.graph, self.model, self._places, Combination(parts=parts), mask)

    def responses(
        self,
        conditions: Sequence[str] | None = None,
        contexts: Sequence[str] | None = None,
        dose: Amount = None,
        hours: Amount = None,
    ) -> ad.AnnData:
        """Return what conditions would do to the cells of a screen: a row a condition and context.

        Parameters
        ----------
        conditions, contexts
            Such as ``KLF1+MAP2K6``, in a cell line; those of this graph that training has not, where it trained.
        dose, hours
            One for all parts, or one a part in alphabetical order; those most used in training if not given.

        Returns
        -------
        AnnData
            X = profile; ``layers``: effect, lower, upper, untreated; ``obs``: also ``supported``, and ``why`` not.
        """
        return screen_responses(self.graph, self.model, conditions, contexts, dose, hours)

    def plot(
        self,
        section: str | None = None,
        k: int | None = None,
        resolution: float | None = None,
        level: str | None = None,
    ) -> Any:
        """Draw the niches of one section, over its slide where there is one; returns a matplotlib Axes."""
        level = self._level(level or self.base_level)
        n_base = None if level == self.base_level else np.diff(self._places(level)[1].indptr)
        return draw_niches(self.niches(k, resolution, level), section, n_base, self.slides)

    def _level(self, level: str) -> str:
        if level not in self.graph.levels:
            raise unknown_name(QueryError, "level", "level", level, self.graph.levels)
        return level

    @cached_property
    def _surroundings(self) -> Surroundings:
        return surroundings(self.model, self.graph, self.states, self.diagnostics)

    def _places(self, by: str) -> tuple[pd.DataFrame, sparse.csr_matrix]:
        return averaging(self.graph, self.base_level, by, self.niches().obs[NICHE] if by == NICHE else None)

    def _niche_shares(self, k: int | None, resolution: float | None) -> dict[str, np.ndarray]:
        if (k, resolution) not in self._niches:
            rule = self.niche_rule
            if k is not None or resolution is not None:
                rule = fit_niches(self._surroundings, k, 1.0 if resolution is None else resolution, self.seed)
            self._niches[k, resolution] = on_every_level(self.graph, self.base_level, rule(self._surroundings))
        return self._niches[k, resolution]
