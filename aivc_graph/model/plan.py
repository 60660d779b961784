"""What a model was made for: levels, modalities, panels and relations, written beside its weights."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ConfigDict, Field
from scipy import sparse

from aivc_graph import names
from aivc_graph.errors import ModelError
from aivc_graph.graph.tissue_graph import Relation, TissueGraph
from aivc_graph.model.intervention_plan import InterventionPlan
from aivc_graph.model.settings import ModelConfig
from aivc_graph.settings import Settings

Step = tuple[Relation, bool]
NO_LABEL = ("", "nan", "None")
MOST_TYPES = 200


class ModelPlan(Settings):
    """The graph a model expects.

    Parameters
    ----------
    counts, features
        Modality by level: the molecules of a count panel, the names of dense features.
    laterals, withins
        Relations messages travel along: near, and (child, within, parent) from fine to coarse.
    labels
        Types by level that training nodes are labelled with, where a coarser level counts the same molecules.
    interventions
        What was done to some of the tissue, if anything.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    config: ModelConfig
    latent: int
    levels: tuple[str, ...]
    counts: dict[str, dict[str, tuple[str, ...]]]
    features: dict[str, dict[str, tuple[str, ...]]]
    laterals: tuple[str, ...]
    withins: tuple[tuple[str, str], ...]
    labels: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    interventions: InterventionPlan | None = None

    @classmethod
    def of(cls, graph: TissueGraph, config: ModelConfig) -> ModelPlan:
        """Return the plan that fits `graph`."""
        counts: dict[str, dict[str, tuple[str, ...]]] = {}
        features: dict[str, dict[str, tuple[str, ...]]] = {}
        for level in graph.levels:
            for modality in graph.modalities(level):
                if modality in names.MOLECULE_OF:
                    counts.setdefault(level, {})[modality] = panel(graph, level, modality)
                else:
                    features.setdefault(level, {})[modality] = tuple(graph[level][f"{modality}_names"])
        widths = [len(p) for by in counts.values() for p in by.values()]
        laterals, withins = relations_of(graph)
        latent = min([config.latent, *[max(w - 1, 1) for w in widths]])
        plan = cls(
            config=config,
            latent=latent,
            levels=tuple(graph.levels),
            counts=counts,
            features=features,
            laterals=laterals,
            withins=withins,
            interventions=InterventionPlan.of(graph),
        )
        children = sorted({child for child, _, modality in plan.pools if modality == names.RNA})
        labels = {child: found for child in children if (found := _labels(graph, child))}
        return plan.model_copy(update={"labels": labels})

    @property
    def pools(self) -> list[tuple[str, str, str]]:
        """(child, parent, modality) where both levels count some of the same molecules."""
        return [
            (child, parent, modality)
            for child, parent in self.withins
            for modality, molecules in self.counts.get(parent, {}).items()
            if set(molecules) & set(self.counts.get(child, {}).get(modality, ()))
        ]

    @property
    def compositions(self) -> list[tuple[str, str]]:
        """(child, parent) where the children have types and the parent counts some of their molecules."""
        return [(child, parent) for child, parent, m in self.pools if m == names.RNA and child in self.labels]

    @property
    def tiles(self) -> list[tuple[str, str, str]]:
        """(level, feature modality, count modality) where a level has both."""
        return [(v, f, m) for v, by in self.features.items() for f in by for m in self.counts.get(v, {})]

    def shared_columns(self, child: str, parent: str, modality: str) -> tuple[list[int], list[int]]:
        """Return the columns of the child's and of the parent's panel that hold the same molecules."""
        place = {molecule: i for i, molecule in enumerate(self.counts[child][modality])}
        pairs = [(place[m], i) for i, m in enumerate(self.counts[parent][modality]) if m in place]
        return [a for a, _ in pairs], [b for _, b in pairs]

    @property
    def steps(self) -> list[Step]:
        """The message-passing steps of the model in order, as (relation, reverse), for exact window halos."""
        return steps_over(self.laterals, self.withins, self.config.depth)

    def check(self, graph: TissueGraph) -> None:
        """Raise `ModelError` if `graph` does not carry what the model was trained on."""
        found = ModelPlan.of(graph, self.config)
        for level, by_modality in self.counts.items():
            for modality, wanted in by_modality.items():
                have = found.counts.get(level, {}).get(modality)
                if have is not None and have != wanted:
                    missing = sorted(set(wanted) - set(have))
                    first = missing[0] if missing else have[0]
                    raise ModelError(
                        f"{level} · {modality}",
                        f"{len(missing)} of the model's {len(wanted)} molecules missing (first {first!r}) or in "
                        "another order",
                        "the panel the model was trained on",
                        "build the graph with the run's config.yaml",
                    )


def relations_of(graph: TissueGraph) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    """Return the levels with neighbours, and the pairs (child, parent) of levels below the section, finest first."""
    laterals = tuple(v for v in graph.levels if (v, names.NEAR, v) in graph.edge_types)
    withins = [(s, t) for s, name, t in graph.edge_types if name == names.WITHIN and t != names.SECTION]
    order = {level: i for i, level in enumerate(names.LEVELS)}
    return laterals, tuple(sorted(withins, key=lambda st: (order[st[0]], order[st[1]])))


def steps_over(laterals: tuple[str, ...], withins: tuple[tuple[str, str], ...], depth: int) -> list[Step]:
    """Return (relation, reverse) of every message: along each level, up, and down again, `depth` times."""
    lateral = [((v, names.NEAR, v), False) for v in laterals]
    lift: list[Step] = [((s, names.WITHIN, t), False) for s, t in withins]
    project: list[Step] = [((s, names.WITHIN, t), True) for s, t in reversed(withins)]
    return (lateral + lift + project) * depth


def panel(graph: TissueGraph, level: str, modality: str) -> tuple[str, ...]:
    """Return the symbols of the molecules measured by `modality` at `level`."""
    index = graph.obs(names.MOLECULE_OF[modality]).index
    return tuple(index[graph[level][f"{modality}_panel"].numpy()].astype(str))


def panel_columns(graph: TissueGraph, level: str, modality: str) -> torch.Tensor:
    """Return the columns of the count matrix that the level's panel measures."""
    return torch.nonzero(graph[level][f"{modality}_panel"]).ravel()


def types_of(graph: TissueGraph, level: str, types: tuple[str, ...]) -> NDArray[np.int64]:
    """Return the position in `types` of each node's label (node,), -1 where it has none of them."""
    obs = graph.obs(level)
    if names.LABEL not in obs:
        return np.full(len(obs), -1)
    place = {name: i for i, name in enumerate(types)}
    return np.array([place.get(str(label), -1) for label in obs[names.LABEL]], np.int64)


def type_shares(overlap: sparse.csr_matrix, kind: NDArray[np.int64], n_types: int) -> NDArray[np.float64]:
    """Return the overlap-weighted share of each type (parent, type); zero where no child of a type lies beneath."""
    known = np.flatnonzero(kind >= 0)
    onehot = sparse.csr_matrix((np.ones(len(known)), (known, kind[known])), shape=(len(kind), n_types))
    amount = np.asarray((overlap @ onehot).todense(), np.float64)
    return amount / np.maximum(amount.sum(axis=1, keepdims=True), 1e-12)


def _labels(graph: TissueGraph, level: str) -> tuple[str, ...]:
    """Return the labels of the training nodes of `level`, none where there is one alone or nearly one a node."""
    obs = graph.obs(level)
    if names.LABEL not in obs:
        return ()
    found = obs[names.LABEL].astype(object)[graph.in_split(level, names.TRAIN).numpy()]
    types = sorted({str(label) for label in found.unique()} - set(NO_LABEL))
    return tuple(types) if 2 <= len(types) <= MOST_TYPES else ()
