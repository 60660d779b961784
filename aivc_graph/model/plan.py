"""What a model was made for: its parts, and the facts of a graph that each was made after; kept beside the weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Any, cast

from pydantic import ConfigDict

from aivc_graph import names
from aivc_graph.errors import ModelError, unknown_name
from aivc_graph.graph.panels import MOST_TYPES, labels_told, observed, panel, same_level, withins
from aivc_graph.graph.tissue_graph import TissueGraph
from aivc_graph.model.settings import ModelConfig
from aivc_graph.operators.intervention_plan import InterventionPlan
from aivc_graph.operators.measurement.measurement import AbstractMeasurement, state_maker
from aivc_graph.operators.part import KINDS, AbstractPart, Shape, Step
from aivc_graph.registry import Registry
from aivc_graph.settings import Settings

# Kinds of which every block of messages has parts of its own.
MESSAGES = ("lateral", "lift", "project")


class PartSpec(Settings):
    """One part: its kind, the member that was chosen, and its plan as plain data."""

    kind: str
    member: str
    plan: dict[str, Any]

    @cached_property
    def facts(self) -> Any:
        """The part's plan."""
        return self.part_class.Plan.model_validate(self.plan)

    @property
    def part_class(self) -> type[AbstractPart]:
        """The class of the part."""
        return KINDS[self.kind].get(self.member, "model.json", ModelError)

    def make(self) -> AbstractPart:
        """Return the part, at its start."""
        return self.part_class(self.facts)


class ModelPlan(Settings):
    """The parts of a model, in the order in which they speak.

    Parameters
    ----------
    config
        What was chosen.
    latent
        Size of the state.
    levels
        Levels of the graphs it was made for, fine to coarse.
    parts
        Each part with what it was made after.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    config: ModelConfig
    latent: int
    levels: tuple[str, ...]
    parts: tuple[PartSpec, ...]

    @classmethod
    def of(cls, graph: TissueGraph, config: ModelConfig) -> ModelPlan:
        """Return the plan that fits `graph`: each member of each kind says which of its slots it serves."""
        _check_measurements(graph, config)
        shape = Shape(config.latent, config.rings, config.chosen)
        made_of = [(level, one) for level in graph.levels if (one := state_maker(graph, level, shape)) is not None]
        measured = [key for key in made_of if key[1] != names.TYPE] or made_of
        latent = min([config.latent, *[max(len(panel(graph, *key)) - 1, 1) for key in measured]])
        shape = dataclasses.replace(shape, latent=latent)
        parts = [
            PartSpec(kind=kind, member=member, plan=plan.model_dump(mode="json"))
            for kind, members in KINDS.items()
            for member in sorted(members, key=_rank_in(members))
            for plan in members[member].serves(graph, shape)
        ]
        _check_relations(graph, config, parts)
        _check_measured(graph, parts)
        return cls(config=config, latent=latent, levels=tuple(graph.levels), parts=tuple(parts))

    def of_kind(self, kind: str) -> list[Any]:
        """Return the plans of all parts of a kind."""
        return [part.facts for part in self.parts if part.kind == kind]

    @cached_property
    def counts(self) -> dict[str, dict[str, tuple[str, ...]]]:
        """Modality by level: the molecules of each panel of counts."""
        return self._measured(lambda one: one.facts.modality in names.MOLECULE_OF)

    @cached_property
    def panels(self) -> dict[str, dict[str, tuple[str, ...]]]:
        """Modality by level: molecules or markers of what states may be made of, counts first; else types."""
        return self._measured(lambda one: cast(Any, one.part_class).makes_state is not None or one.facts.first)

    @cached_property
    def types(self) -> dict[str, tuple[str, ...]]:
        """Level by level the types that its labels tell of."""
        return {one.level: one.names for one in self.of_kind("measurement") if one.modality == names.TYPE}

    def made_of(self, level: str) -> str | None:
        """Return the modality that the state of `level` is made of; None where it has features alone, or nothing."""
        return next((one.modality for one in self.of_kind("measurement") if one.level == level and one.first), None)

    @cached_property
    def features(self) -> dict[str, dict[str, tuple[str, ...]]]:
        """Modality by level: the names of dense features."""
        found = self._measured(lambda one: cast(Any, one.part_class).makes_state is None)
        kept = {level: {m: of for m, of in by.items() if m != names.TYPE} for level, by in found.items()}
        return {level: by for level, by in kept.items() if by}

    def _measured(self, wanted: Callable[[PartSpec], bool]) -> dict[str, dict[str, tuple[str, ...]]]:
        found: dict[str, dict[str, tuple[str, ...]]] = {}
        for one in self.parts:
            if one.kind == "measurement" and wanted(one):
                found.setdefault(one.facts.level, {})[one.facts.modality] = one.facts.names
        return found

    def expressed(self, level: str) -> str | None:
        """Return the modality that expression at `level` is asked of: RNA, else what states are made of; or None."""
        there = [one for one in names.PANELS if one in self.panels.get(level, {})]
        return there[0] if there else None

    @cached_property
    def laterals(self) -> tuple[str, ...]:
        """Levels whose nodes have neighbours."""
        return tuple(dict.fromkeys(one.relation[0] for one in self.of_kind("lateral") if one.relation[1] == names.NEAR))

    @property
    def compositions(self) -> dict[tuple[str, str], tuple[str, ...]]:
        """(child, parent) whose children have types and whose parents count some of their genes: the types."""
        return {(one.child, one.parent): one.types for one in self.of_kind("composition")}

    @property
    def interventions(self) -> Any:
        """What was done to some of the tissue; None if nothing was."""
        return next((one for one in self.of_kind("intervention") if isinstance(one, InterventionPlan)), None)

    @cached_property
    def steps(self) -> list[Step]:
        """The steps of messages, then of answers, in order, as (relation, reverse), for exact window halos."""

        def of(kinds: Iterable[str]) -> list[Step]:
            return [step for kind in kinds for part in self.parts if part.kind == kind for step in part.make().steps()]

        return of(MESSAGES) * self.config.depth + of(kind for kind in KINDS if kind not in MESSAGES)

    def check(self, graph: TissueGraph) -> None:
        """Raise `ModelError` if `graph` does not carry what the model was trained on."""
        for one in self.of_kind("measurement"):
            level, modality = one.level, one.modality
            if modality not in names.MOLECULE_OF or (level, modality) not in observed(graph):
                continue
            have = panel(graph, level, modality)
            if have != one.names:
                missing = sorted(set(one.names) - set(have))
                first = missing[0] if missing else have[0]
                raise ModelError(
                    f"{level} · {modality}",
                    f"{len(missing)} of the model's {len(one.names)} molecules missing (first {first!r}) or in "
                    "another order",
                    "the panel the model was trained on",
                    "build the graph with the run's config.yaml",
                )


def _check_measured(graph: TissueGraph, parts: list[PartSpec]) -> None:
    """Raise `ModelError` if there is nothing to learn from: no state would be made of anything."""
    if any(part.kind in ("measurement", "intervention") for part in parts):
        return
    found = labels_told(graph) or "no label"
    mend = "name a column of types as `label:`, such as coarser ones, or give what was measured"
    raise ModelError(
        "model", f"{found}, and nothing else measured", f"measurements, or labels of 2 to {MOST_TYPES} types", mend
    )


def _check_measurements(graph: TissueGraph, config: ModelConfig) -> None:
    """Raise `ModelError` if a measurement is chosen for what is no modality, or one of counts for what is none."""
    known = {*names.MODALITIES, *(one for level in graph.levels for one in graph.modalities(level))}
    for modality, chosen in config.measurement.items():
        where, members = f"model.measurement.{modality}", KINDS["measurement"]
        if modality not in known:
            raise unknown_name(ModelError, "model.measurement", "modality", modality, known)
        reads = cast(tuple[str, ...], members.facts[chosen["kind"]].get("modalities", (modality,)))
        counts, member = modality in names.MOLECULE_OF, cast(type[AbstractMeasurement], members[chosen["kind"]])
        of_features = counts and member.makes_state is None
        if of_features or counts != any(one in names.MOLECULE_OF for one in reads):
            found = f"{chosen['kind']!r}, a measurement of {'features' if of_features else ', '.join(reads)}"
            raise ModelError(where, found, f"one of {modality}", "leave the key out for the usual one")


def _check_relations(graph: TissueGraph, config: ModelConfig, parts: list[PartSpec]) -> None:
    """Raise `ModelError` if a relation is chosen for that is none, or by a member that does not read it."""
    there = [*same_level(graph), *((child, names.WITHIN, parent) for child, parent in withins(graph))]
    known = {names.NEAR, names.WITHIN, *(relation for _, relation, _ in there)}
    for name in config.relation:
        if name not in known:
            raise unknown_name(ModelError, "model.relation", "relation", name, known)
    read = {part.make().slot for part in parts if part.kind == "relation"}
    for relation in there:
        if relation not in read:
            chosen, where = config.relation[relation[1]]["kind"], " · ".join(relation)
            raise ModelError(
                f"model.relation.{relation[1]}", f"{chosen!r}, which does not read {where}", "one that does"
            )


def _rank_in(members: Registry[Any]) -> Callable[[str], int]:
    return lambda name: int(members[name].rank)


def message_steps(graph: TissueGraph, config: ModelConfig) -> list[Step]:
    """Return the steps that messages of a model of `graph` would take; its structure alone is looked at."""
    shape = Shape(config.latent, config.rings, config.chosen)
    members = [KINDS[kind][member] for kind in MESSAGES for member in KINDS[kind]]
    return [step for one in members for plan in one.serves(graph, shape) for step in one(plan).steps()] * config.depth
