"""What travels through the model: inputs of a window, what is hidden of them, states, and what is expected."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aivc_graph import names


@dataclass
class State:
    """Latent state of every level.

    `z` (node, latent); `own` and `counted` (node,), 1 where a node was measured itself, and counted; `known` (node,),
    from 0 (no state) to 1; `context` (node, latent), what neighbours alone say; `heard` (node,), how many
    levels beneath have told it of their children; `seen` (node,) by level and modality, 1 where that was seen of it.
    `mean` and `precision` (node, latent), what its own measurements alone tell, as a Gaussian; of nobody's, zero.
    """

    z: dict[str, Tensor] = field(default_factory=dict)
    own: dict[str, Tensor] = field(default_factory=dict)
    counted: dict[str, Tensor] = field(default_factory=dict)
    known: dict[str, Tensor] = field(default_factory=dict)
    context: dict[str, Tensor] = field(default_factory=dict)
    heard: dict[str, Tensor] = field(default_factory=dict)
    seen: dict[tuple[str, str], Tensor] = field(default_factory=dict)
    mean: dict[str, Tensor] = field(default_factory=dict)
    precision: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Hidden:
    """What the model may not see: whole nodes (node,) a (level, modality), and molecules shown (molecule,), 0 or 1."""

    nodes: dict[tuple[str, str], Tensor] = field(default_factory=dict)
    shown: dict[tuple[str, str], Tensor] = field(default_factory=dict)

    def seen(self, key: tuple[str, str], mask: Tensor) -> Tensor:
        """Return who of the measured `mask` (node,) may be seen (node,)."""
        return mask * (1 - self.nodes[key]) if key in self.nodes else mask


@dataclass(frozen=True)
class Expected:
    """Shares of each molecule, and log1p of scaled counts (node, molecule): what is expected where `looked_at`.

    Elsewhere the logarithm of what is expected. Of intensities, in the file's units, and their arcsinh. `looked_at`
    (node,): something tells expression directly; `around` (node,): the counts of neighbours do.
    """

    shares: Tensor
    logs: Tensor
    looked_at: Tensor
    around: Tensor


@dataclass(frozen=True)
class Inputs:
    """A window of the graph made ready, on one device: who its nodes are by level, and what each part reads of it.

    `section`, `split` and `place`, the region it lies in, (node,) by level; `by_part` holds by (kind, slot) what
    `AbstractPart.prepare` returned.
    """

    n_nodes: dict[str, int]
    section: dict[str, Tensor]
    split: dict[str, Tensor]
    place: dict[str, Tensor]
    by_part: dict[tuple[str, ...], Any]

    def __getitem__(self, place: tuple[str, ...]) -> Any:
        """Return what the part at ``(kind, *slot)`` reads."""
        return self.by_part[place]

    def __contains__(self, place: object) -> bool:
        return place in self.by_part

    @property
    def device(self) -> torch.device:
        """Device all tensors live on."""
        return next(iter(self.section.values())).device

    def measured(self, level: str, modality: str) -> Any:
        """Return what was measured of a modality at a level."""
        return self.by_part["measurement", level, modality]

    def rings(self, level: str) -> list[Any]:
        """Return the rings of neighbours of a level, nearest first; none where nobody has neighbours."""
        return self.by_part.get(("relation", level, names.NEAR, level), [])

    def in_training(self, level: str) -> Tensor:
        """Return who of `level` trains (node,), halo and core alike."""
        return self.split[level] == names.SPLITS.index(names.TRAIN)


@dataclass(frozen=True)
class Fold:
    """One window and who of it is fitted on: `rows` (node,) by level, nodes of its core."""

    inputs: Inputs
    rows: dict[str, Tensor]

    def training(self, level: str, mask: Tensor) -> NDArray[np.int64]:
        """Return the rows of `level` that are fitted on and measured."""
        return np.flatnonzero((self.rows[level] * mask).cpu().numpy() > 0)
