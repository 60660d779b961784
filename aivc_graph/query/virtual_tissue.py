"""`VirtualTissue`: a trained run that answers questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import torch
from scipy import sparse

from aivc_graph import names
from aivc_graph.errors import QueryError, unknown_name
from aivc_graph.graph.hiding import hide_observations
from aivc_graph.graph.seen_as import seen_as
from aivc_graph.graph.store import read_store, read_thumbnails
from aivc_graph.graph.tissue_graph import TissueGraph
from aivc_graph.model.tissue_model import TissueModel
from aivc_graph.query.answers import contact_graph
from aivc_graph.query.drawing import draw_niches
from aivc_graph.query.likeness import nodes_like
from aivc_graph.query.niche_file import load_niches
from aivc_graph.query.niches import NicheRule, Surroundings, fit_niches
from aivc_graph.query.niches_of_features import told_by_features
from aivc_graph.query.places import NICHE, averaging, node_mask, on_every_level
from aivc_graph.query.questions.question import QUESTIONS, AbstractQuestion, question
from aivc_graph.query.screen_responses import Amount, screen_responses
from aivc_graph.query.states import NodeStates, niche_level, node_states, surroundings
from aivc_graph.query.what_if import WhatIf, what_if
from aivc_graph.tissue.intervention import Combination, Intervention
from aivc_graph.tissue.thumbnail import Thumbnail
from aivc_graph.training.checkpoint import load_model
from aivc_graph.training.run_folder import graph_of_run, read_whole, run_facts


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
    home
        The tissue of the run, where this is other tissue.

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
        home: VirtualTissue | None = None,
    ) -> None:
        model.plan.check(graph)
        self.graph, self.model, self.seed = graph, model.eval(), seed
        self.diagnostics, self.slides, self._given_rule = diagnostics or {}, slides or {}, niche_rule
        self.home = self if home is None else home
        self._niches: dict[tuple[int | None, float | None], dict[str, np.ndarray]] = {}

    @classmethod
    def load(cls, run: str | Path) -> VirtualTissue:
        """Return the tissue of a run folder.

        Raises
        ------
        StoreError
            If the folder is not a finished run, or its graph has moved, is damaged or was built anew since.
        """
        return read_whole(Path(run), cls._opened)

    @classmethod
    def _opened(cls, run: Path) -> VirtualTissue:
        graph, seed = graph_of_run(run)
        told, model = run_facts(run / "training.json", ("diagnostics",))["diagnostics"], load_model(run)
        return cls(read_store(graph), model, told, seed, read_thumbnails(graph), load_niches(run, model))

    def on(self, graph: TissueGraph | str | Path) -> VirtualTissue:
        """Return other tissue, which no training saw, to be asked of the same model and the same niches.

        Its counts are measured against the depth and the mean profile that the model was trained with, its sections
        against their own means, as sections held out whole are: the same section gives the same answers. Where nothing
        was counted, say on a slide alone, answers say so (``supported``).

        Parameters
        ----------
        graph
            A graph built with the settings of the run's graph, or the path of its store. Genes may come in any order,
            there may be more of them, or fewer: the state is then read from those there are, less surely, and the
            others are told by it (``measured`` of `expression` says which were seen).

        Raises
        ------
        GraphError
            If a level or features are missing, or fewer than 20 genes (of a panel below 40: half) are shared.

        Examples
        --------
        >>> VirtualTissue.load("runs/demo").on("runs/demo/graph.zarr").niches().n_obs > 0
        True
        """
        slides = {} if isinstance(graph, TissueGraph) else read_thumbnails(graph)
        found = graph if isinstance(graph, TissueGraph) else read_store(graph)
        asked = seen_as(found, self.graph), self.model, self.diagnostics, self.seed
        return VirtualTissue(*asked, slides, self.niche_rule, self.home)

    def without(self, hidden: Mapping[tuple[str, str], np.ndarray]) -> VirtualTissue:
        """Return this tissue as if observations of the `hidden` nodes, by (level, modality), were never made."""
        asked = hide_observations(self.graph, hidden), self.model, self.diagnostics, self.seed
        return VirtualTissue(*asked, self.slides, self.niche_rule, self.home)

    @cached_property
    def states(self) -> dict[str, NodeStates]:
        """Latent states of every level, computed once."""
        return node_states(self.model, self.graph)

    @property
    def base_level(self) -> str:
        """The finest measured level with neighbours: where niches are found; coarser levels inherit them."""
        return niche_level(self.model)

    @property
    def placed(self) -> bool:
        """Whether any node has a position: cells without positions are near nobody, and their niches say nothing."""
        return bool(torch.isfinite(self.graph[self.base_level].pos).any())

    def __repr__(self) -> str:
        sections = self.graph.obs(names.SECTION)
        kinds = [
            *self.graph.levels,
            names.SECTION,
            *(kind for kind in names.MOLECULES if kind in self.graph.node_types),
        ]
        held = [f"  {kind}: {int(self.graph[kind].num_nodes):,}" for kind in kinds]
        donors = sections["donor"].dropna().nunique() if "donor" in sections else 0
        held += [f"  donor: {donors:,}"] if donors else []
        return "\n".join(["VirtualTissue", *held, f"  ask('NAME'): {', '.join(QUESTIONS)}"])

    @cached_property
    def niche_rule(self) -> NicheRule:
        """What tells the niche of a node where neither number nor resolution is asked for."""
        return self._given_rule or fit_niches(self.surroundings, None, 1.0, self.seed)

    @property
    def knows_niches(self) -> bool:
        """Whether the niches are those of a run, rather than found on this tissue."""
        return self._given_rule is not None

    @cached_property
    def surroundings(self) -> Surroundings:
        """What niches are found from."""
        return surroundings(self.model, self.graph, self.states, self.diagnostics)

    def ask(self, asked: str | AbstractQuestion, **options: Any) -> Any:
        """Return the answer to a question, by its name and options: those of `aivc query`, and any of your own.

        Raises
        ------
        QueryError
            An unknown question or option (with the nearest match), or a tissue that cannot be asked it.

        Examples
        --------
        >>> table = tissue.ask("expression", genes=["COL1A1"], at="niche")
        """
        return (question(asked, options) if isinstance(asked, str) else asked).answer(self)

    def niches(self, k: int | None = None, resolution: float | None = None, level: str | None = None) -> ad.AnnData:
        """Return the niche of every node of a level; see `aivc_graph.query.questions.niches.NichesQuestion`."""
        return self.ask("niches", k=k, resolution=resolution, level=level)

    def expression(
        self,
        genes: Sequence[str] | None = None,
        at: str | None = None,
        k: int | None = None,
        resolution: float | None = None,
        modality: str | None = None,
    ) -> Any:
        """Return expected expression; see `aivc_graph.query.questions.expression.ExpressionQuestion`."""
        return self.ask("expression", genes=genes, modality=modality, at=at, k=k, resolution=resolution)

    def markers(
        self, n: int = 5, k: int | None = None, resolution: float | None = None, by: str = NICHE
    ) -> pd.DataFrame:
        """Return the `n` genes that mark each niche most; see `aivc_graph.query.questions.markers.MarkersQuestion`."""
        return self.ask("markers", n=n, k=k, resolution=resolution, by=by)

    def composition(
        self,
        level: str | None = None,
        k: int | None = None,
        resolution: float | None = None,
        by: str | None = None,
        cells: str | None = None,
    ) -> pd.DataFrame:
        """Return what niches are made of; see `aivc_graph.query.questions.composition.CompositionQuestion`."""
        return self.ask("composition", level=level, k=k, resolution=resolution, by=by, cells=cells)

    def abundance(self, by: str, k: int | None = None, resolution: float | None = None) -> pd.DataFrame:
        """Return shares by donor trait; see `aivc_graph.query.questions.abundance.AbundanceQuestion`."""
        return self.ask("abundance", by=by, k=k, resolution=resolution)

    def neighbours(self, k: int | None = None, resolution: float | None = None) -> pd.DataFrame:
        """Return which niches touch: a row a pair, with contacts, those expected by chance, and their log2 ratio."""
        return self.ask("neighbours", k=k, resolution=resolution)

    def contact_graph(self, k: int | None = None, resolution: float | None = None) -> Any:
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
        return nodes_like(self, self if of is None else of, node=node, niche=niche, k=k, n=n)

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
            How long it lasts until the tissue is looked at [h]; by default as each part says, or else as long as the
            longest in training.

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
        return what_if(self.graph, self.model, self.places, Combination(parts=parts), mask)

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
            Such as ``KLF1+MAP2K6``, in a cell line; those of this graph that training has not, where it trained. Of a
            context that did not train, controls must stand in this graph.
        dose, hours
            One for all parts, or one a part in alphabetical order; those most used in training if not given.

        Returns
        -------
        AnnData
            X = profile, of effects the effect; ``layers``: effect, lower, upper, untreated; ``obs``: also
            ``supported``, and ``why`` not.

        Raises
        ------
        QueryError
            A run of no screen, a context without controls, something never done that is no measured gene either.
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
        return draw_niches(self, section, k, resolution, level)

    def level(self, level: str | None = None) -> str:
        """Return a level of this tissue, the finest measured one if None; raise a `QueryError` if it has none such."""
        level = level or self.base_level
        if level not in self.graph.levels:
            raise unknown_name(QueryError, "level", "level", level, self.graph.levels)
        return level

    def places(self, by: str) -> tuple[pd.DataFrame, sparse.csr_matrix]:
        """Return the table of places of a kind (a level, or ``niche``), and what averages over each (`averaging`)."""
        return averaging(self.graph, self.base_level, by, self.niches().obs[NICHE] if by == NICHE else None)

    def niche_shares(self, k: int | None = None, resolution: float | None = None) -> dict[str, np.ndarray]:
        """Return the share of each niche in every node of each level (node, niche).

        Raises
        ------
        QueryError
            No node of the level at which the run's niches are found.
        """
        if not int(self.graph[self.base_level].num_nodes):
            found = f"no {self.base_level}, the level at which this run finds niches"
            mend = "ask types or expression of cells, or place, or give tissue that was measured like the run's"
            raise QueryError("niches", found, "some", mend)
        if (k, resolution) not in self._niches:
            if k is None and resolution is None:
                rule = self.niche_rule
            else:
                rule = fit_niches(self.surroundings, k, 1.0 if resolution is None else resolution, self.seed)
            shares = on_every_level(self.graph, self.base_level, rule(self.surroundings))
            asked = self.model, self.graph, self.base_level
            self._niches[k, resolution] = told_by_features(*asked, rule.of_features, shares)
        return self._niches[k, resolution]
