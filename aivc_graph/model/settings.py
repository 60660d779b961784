"""Sizes of the model; what a YAML file may set under ``model``."""

from __future__ import annotations

from pydantic import Field, field_validator

from aivc_graph.settings import Settings


class ModelConfig(Settings):
    """Sizes of the model.

    Parameters
    ----------
    latent
        Size of the cell-state latent at every level; cut to the number of molecules where that is smaller.
    rings
        Last rank of each ring of neighbours, nearest first; the lateral kernel has one weight a ring.
    depth
        Number of (lateral, lift, project) blocks.
    """

    latent: int = Field(16, ge=2, le=512)
    rings: tuple[int, ...] = (6, 18)
    depth: int = Field(1, ge=1, le=8)

    @field_validator("rings")
    @classmethod
    def _rings_grow(cls, rings: tuple[int, ...]) -> tuple[int, ...]:
        if not rings or any(b <= a for a, b in zip((0, *rings), rings, strict=False)):
            raise ValueError(f"rings must be positive and grow, found {rings}; such as [6, 18]")
        return rings
