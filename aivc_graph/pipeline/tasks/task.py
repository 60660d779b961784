"""What every task is given, and the registry of tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aivc_graph import names
from aivc_graph.config import Config
from aivc_graph.errors import QueryError
from aivc_graph.evaluation.baselines.baseline import Scene
from aivc_graph.evaluation.intervals import Units, units_of
from aivc_graph.evaluation.leakage import leakage
from aivc_graph.evaluation.metrics.metric import Answers, means_by
from aivc_graph.evaluation.readouts.footprints import Footprints
from aivc_graph.evaluation.responses.of_graph import responses_of_graph
from aivc_graph.evaluation.responses.table import Responses
from aivc_graph.evaluation.scoring import Scored
from aivc_graph.graph.panels import panel_columns
from aivc_graph.graph.screens import Setting
from aivc_graph.graph.tissue_graph import TissueGraph, to_scipy_csr
from aivc_graph.model.tissue_model import TissueModel
from aivc_graph.pipeline.truth import Truth
from aivc_graph.query.predictions import measured_log_expression
from aivc_graph.query.virtual_tissue import VirtualTissue
from aivc_graph.registry import Registry

HIDDEN = "hidden"
UNLABELLED = "unlabelled"
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Asked:
    """A run to be scored.

    Parameters
    ----------
    tissue, config
        The run.
    truth
        What is known of it, where it was simulated.
    weights
        What tells of pathways: columns ``source``, ``target``, ``weight``.
    ablated
        The tissue with one part taken away, by the name of the ablation.
    """

    tissue: VirtualTissue
    config: Config
    truth: Truth | None = None
    weights: pd.DataFrame | None = None
    ablated: Mapping[str, VirtualTissue] = field(default_factory=dict)

    @property
    def graph(self) -> TissueGraph:
        """The run's graph."""
        return self.tissue.graph

    @property
    def model(self) -> TissueModel:
        """The run's model."""
        return self.tissue.model

    @cached_property
    def split(self) -> str:
        """The nodes scored: ``test``, else ``validation``, else ``hidden``, training nodes with observations taken."""
        for split in (names.TEST, names.VALIDATION):
            levels = self.model.plan.panels or self.model.plan.levels
            if any(bool(self.graph.in_split(level, split).any()) for level in levels):
                return split
        return HIDDEN

    @cached_property
    def screen(self) -> tuple[Responses, list[Setting], NDArray[np.integer]] | None:
        """The graph's screen as a table of responses; see `responses_of_graph`."""
        return responses_of_graph(self.graph)

    def ablations(self, answer: Callable[[VirtualTissue], Answers], *without: str) -> dict[str, Answers]:
        """Return what each ablated tissue answers, but for those `without` which the question is the same."""
        return {name: answer(tissue) for name, tissue in self.ablated.items() if name not in without}

    def scored(self, level: str) -> Mask:
        """Return the nodes of `level` that are scored (node,)."""
        return self.graph.in_split(level, names.TRAIN if self.split == HIDDEN else self.split).numpy()

    def placed(self, level: str) -> Mask:
        """Return the nodes of `level` that have a position (node,): dissociated cells are near nobody."""
        return self.graph[level].pos.isfinite().all(dim=1).numpy()

    def training(self, level: str) -> Mask:
        """Return the nodes of `level` that were trained on (node,)."""
        return self.graph.in_split(level, names.TRAIN).numpy()

    def measured(self, level: str, modality: str) -> Mask:
        """Return who was measured (node,), nobody where the level has no such observation."""
        mask = names.mask_name(modality)
        if level not in self.graph.levels or mask not in self.graph[level]:
            return np.zeros(int(self.graph[level].num_nodes) if level in self.graph.levels else 0, bool)
        return self.graph[level][mask].numpy()

    def counted(self, level: str) -> Mask:
        """Return who has what expression at `level` is asked of, counts above zero or intensities (node,)."""
        modality = self.expressed(level)
        found = self.measured(level, modality).copy()
        if found.any() and modality in names.MOLECULE_OF:
            found &= np.asarray(to_scipy_csr(self.graph.counts(level, modality)).sum(axis=1)).ravel() > 0
        return found

    def totals(self, level: str) -> NDArray[np.floating[Any]]:
        """Return the counts of each node (node,), at least one; one where expression is not asked of counts."""
        modality = self.expressed(level)
        if modality not in names.MOLECULE_OF:
            return np.ones(int(self.graph[level].num_nodes))
        counts = to_scipy_csr(self.graph.counts(level, modality))[:, panel_columns(self.graph, level, modality).numpy()]
        return np.maximum(np.asarray(counts.sum(axis=1), np.float64).ravel(), 1.0)

    def expressed(self, level: str) -> str:
        """Return the modality that expression at `level` is asked of; RNA where it has none."""
        return self.model.plan.expressed(level) or names.RNA

    def footprints(self, level: str, genes: NDArray[np.integer[Any]] | None = None) -> Footprints | None:
        """Return which of the `genes` of a level tell of which pathway; None without weights, or where none does."""
        panel = self.model.plan.panels[level][self.expressed(level)]
        try:
            own = panel if genes is None else tuple(panel[i] for i in genes)
            return None if self.weights is None else Footprints(self.weights, own)
        except QueryError:
            return None

    def units(self, level: str, rows: Mask) -> Units:
        """Return who is resampled among `rows` of `level`: donors, where nodes have no positions."""
        section, pos = (self.graph[level][key].numpy()[rows] for key in ("section_index", "pos"))
        if np.isfinite(pos).all():
            return units_of(self.donor[section], section, pos)
        donors, code = np.unique(self.donor[section], return_inverse=True)
        within = np.unique(section, return_inverse=True)[1].reshape(-1)
        return Units(code.reshape(-1), "donor", within, tuple(map(str, donors)))

    @cached_property
    def donor(self) -> NDArray[Any]:
        """Donor of each section, the section's name where none is given (section,)."""
        obs = self.graph.obs(names.SECTION)
        own = obs.index.astype(str).to_numpy()
        return (
            obs["donor"].astype(object).where(obs["donor"].notna(), own).to_numpy().astype(str)
            if "donor" in obs
            else own
        )

    def kinds(self, level: str) -> NDArray[Any]:
        """Return the label of each node (node,), ``unlabelled`` where it has none."""
        obs = self.graph.obs(level)
        if names.LABEL not in obs:
            return np.full(len(obs), UNLABELLED)
        label = obs[names.LABEL].astype(object)
        return label.where(label.notna() & (label != ""), UNLABELLED).to_numpy().astype(str)

    def asked_of(self, level: str, rows: Mask) -> dict[str, Any]:
        """Return what a `Scored` says of its rows, `rows` of `level`: split, scale, units and leakage."""
        leak = self.leakage(level, rows)["any"]
        return {"split": self.split, "scale": level, "units": self.units(level, rows), "leakage": leak}

    def drawn(self, rows: Mask, most: int) -> Mask:
        """Return about `most` of `rows` (node,), drawn with the run's seed; all where they are no more."""
        share = most / max(int(rows.sum()), 1)
        return rows & (np.random.default_rng(self.tissue.seed).random(len(rows)) < share) if share < 1 else rows

    @cached_property
    def all_hidden(self) -> dict[tuple[str, str], Mask]:
        """All that the model reads of the scored nodes, to be taken away: (level, modality) → who loses it (node,)."""
        return {(v, m): self.scored(v) for v, by in self.model.plan.panels.items() for m in by}

    def leakage(self, level: str, rows: Mask) -> dict[str, float]:
        """Return how much of `rows` training has seen."""
        donor = self.donor[self.graph[level].section_index.numpy()]
        has = self.measured(level, names.RNA).any()
        counts = to_scipy_csr(self.graph.counts(level, names.RNA)) if has else None
        if self.split == HIDDEN:  # its own row is no duplicate of itself; its donor says it all
            counts = None
        return leakage(donor, self.training(level), rows, counts)

    def similarity(self, level: str, rows: Mask) -> dict[str, float]:
        """Return how like training each unit of `rows` is: its best correlation with a training donor, by label.

        Of mean log expression, over genes. Nothing where some of `rows` were not counted, or were trained on.
        """
        counted = self.counted(level)
        train = self.training(level) & counted
        if self.split == HIDDEN or not train.any() or not counted[rows].all():
            return {}
        units, donor = self.units(level, rows), self.donor[self.graph[level].section_index.numpy()]
        seen, code = np.unique(donor[train], return_inverse=True)
        known = self._mean_profiles(level, train, code.reshape(-1), len(seen))
        asked = self._mean_profiles(level, rows, units.code, units.n)
        shared = np.isfinite(asked).all(axis=0) & np.isfinite(known).all(axis=0)
        if shared.sum() < 2:
            return {}
        alike = np.corrcoef(asked[:, shared], known[:, shared])[: units.n, units.n :].max(axis=1)
        return {label: float(one) for label, one in zip(units.labels, alike, strict=True) if np.isfinite(one)}

    def _mean_profiles(self, level: str, rows: Mask, code: NDArray[Any], n: int) -> NDArray[Any]:
        profiles = measured_log_expression(self.model, self.graph, level, rows)
        return means_by(profiles, code, n)

    def scene(self, level: str, target: NDArray[Any], *, train: Mask, visible: Mask, asked: Mask, **more: Any) -> Scene:
        """Return what baselines may look at."""
        section, pos = self.graph[level].section_index.numpy(), self.graph[level].pos.numpy()
        return Scene(target, train, visible, asked, section, pos, **more)

    def slide_scene(self, level: str, target: NDArray[Any], train: Mask, rows: Mask) -> Scene:
        """Return what baselines may look at that see nothing of `rows` but tiles, and `target` of `train` alone."""
        return self.scene(
            level,
            np.where(train[:, None], target, np.nan),
            train=train,
            visible=np.zeros(len(train), bool),
            asked=rows,
            features=self.graph[level][names.HISTOLOGY].numpy(),
            featured=self.measured(level, names.HISTOLOGY),
        )


Task = Callable[[Asked], list[Scored]]
TASKS: Registry[Task] = Registry("task", "aivc_graph.pipeline.tasks")
