"""Sizes and parts of the model; what a YAML file may set under ``model``."""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator

from aivc_graph.settings import Settings

Choice = dict[str, Any]
# Kinds of which one member serves all slots, and kinds of which a member is chosen by modality or relation.
ONE_MEMBER, BY_NAME = ("lateral", "lift", "project", "propagator"), ("measurement", "relation")


class ModelConfig(Settings):
    """Sizes of the model, and which member does what.

    Parameters
    ----------
    latent
        Size of the cell-state latent at every level; cut to the number of molecules where that is smaller.
    rings
        Last rank of each ring of neighbours, nearest first; the lateral kernel has one weight a ring.
    depth
        Number of (lateral, lift, project) blocks.
    measurement
        By modality, such as ``{rna: {kind: negative_binomial}}``.
    relation
        By relation, such as ``{near: {kind: near}}``: how it is read before messages travel along it.
    lateral
        Operator that passes messages within a level, such as ``{kind: ring_mean}``.
    lift
        Operator that passes messages from a finer level to a coarser one, such as ``{kind: set_summary}``.
    project
        Operator that passes messages from a coarser level to a finer one, such as ``{kind: broadcast}``.
    propagator
        How effects of interventions go with dose and time, such as ``{kind: hill_relaxation}``.
    """

    latent: int = Field(16, ge=2, le=512)
    rings: tuple[int, ...] = (6, 18)
    depth: int = Field(1, ge=1, le=8)
    measurement: dict[str, Choice] = Field(default_factory=dict)
    relation: dict[str, Choice] = Field(default_factory=dict)
    lateral: Choice = Field(default_factory=lambda: {"kind": "ring_mean"})
    lift: Choice = Field(default_factory=lambda: {"kind": "set_summary"})
    project: Choice = Field(default_factory=lambda: {"kind": "broadcast"})
    propagator: Choice = Field(default_factory=lambda: {"kind": "hill_relaxation"})

    @property
    def chosen(self) -> dict[str, Any]:
        """What was chosen, by kind of part."""
        return {kind: getattr(self, kind) for kind in (*ONE_MEMBER, *BY_NAME)}

    @field_validator("rings")
    @classmethod
    def _rings_grow(cls, rings: tuple[int, ...]) -> tuple[int, ...]:
        if not rings or any(b <= a for a, b in zip((0, *rings), rings, strict=False)):
            raise ValueError(f"rings must be positive and grow, found {rings}; such as [6, 18]")
        return rings
