"""What a readout may look at, and the registry of readouts: expression or an effect, read as what is decided on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aivc_graph.evaluation.intervals import Halves
from aivc_graph.evaluation.metrics.metric import Answers
from aivc_graph.evaluation.readouts.footprints import Footprints
from aivc_graph.evaluation.readouts.niche_rule import NicheRule
from aivc_graph.evaluation.scoring import Scored
from aivc_graph.registry import Registry

Array = NDArray[Any]
CHUNK = 500


@dataclass(frozen=True)
class Ground:
    """What a readout may look at beside the values it reads: plain arrays, the same for every predictor.

    Parameters
    ----------
    footprints
        Which genes tell of which pathway.
    peers
        (row, k) positions among the asked of each node whose neighbourhood is described, and of the nearest to it.
    centre
        (column,) mean of the values over training nodes.
    known
        (node, gene) what was measured, log expression; rows of `asked` are never read.
    asked
        (node,) whose values are read.
    near
        (asked, k) each asked node and the nearest to it, nearest first, all of them known or asked.
    niches
        The rule that tells niches by expression around a node.
    section
        (node,) section of each node.
    group
        (asked,) code of the place each asked node lies in, all of 0 … n-1.
    base
        (asked, gene) expression to which nothing was done, in counts per 10,000, beneath an effect.
    own
        (group, gene) genes that the effect was done to.
    donor, outcome
        (section,) donor of each section, and the code of what became of it, -1 where it is not known.
    """

    footprints: Footprints | None = None
    peers: Array | None = None
    centre: Array | None = None
    known: Array | None = None
    asked: Array | None = None
    near: Array | None = None
    niches: NicheRule | None = None
    section: Array | None = None
    group: Array | None = None
    base: Array | None = None
    own: Array | None = None
    donor: Array | None = None
    outcome: Array | None = None

    def mean_around(self, values: Array) -> Array:
        """Return the mean around each asked node (asked, column): of predicted values there, of measured ones else."""
        assert self.near is not None and self.known is not None and self.asked is not None
        inside, means = np.cumsum(self.asked) - 1, np.empty(np.shape(values))
        for start in range(0, len(values), CHUNK):
            near = self.near[start : start + CHUNK]
            around, predicted = self.known[near], self.asked[near]
            around[predicted] = values[inside[near[predicted]]]
            means[start : start + CHUNK] = around.mean(axis=1)
        return means

    def mean_of_section(self, values: Array) -> Array:
        """Return the mean of each asked node's section (asked, column): of predicted values and of those known."""
        assert self.near is not None and self.known is not None and self.asked is not None and self.section is not None
        own, means = self.section[self.asked], np.empty(np.shape(values))
        for one in np.unique(own):
            known = self.known[(self.section == one) & ~self.asked]
            known = known[np.isfinite(known).all(axis=1)]
            means[own == one] = np.concatenate([values[own == one], known]).mean(axis=0)
        return means


# Values (asked, column) by one predictor, and the ground → what is decided on (row, …). Kinds of values: `expression`
# (log), `change` (of it), `environment` (log expression, or draws of it), `effect` and `composition`.
Readout = Callable[[Array, Ground], Answers]
# Facts: `reads`, kinds of values; `needs`, fields of the ground; `metrics` it is judged by; `formula`, `reference`,
# `weakness`.
READOUTS: Registry[Readout] = Registry("readout", "aivc_graph.evaluation.readouts")


def readouts_for(kind: str, ground: Ground) -> list[str]:
    """Return the readouts of a `kind` of values that the `ground` has all for, in alphabetical order."""
    return [name for name in READOUTS if kind in _fact(name, "reads") and not lacking(name, ground)]


def lacking(name: str, ground: Ground) -> list[str]:
    """Return what the `ground` lacks for the readout `name`."""
    return [field for field in _fact(name, "needs") if getattr(ground, field) is None]


def _fact(name: str, fact: str) -> tuple[str, ...]:
    found: Any = READOUTS.facts[name][fact]
    return tuple(found)


def read_out(scored: Scored, name: str, ground: Ground, **changes: Any) -> Scored:
    """Return a task with everybody's answers, and what was measured, read by the readout `name`.

    Parameters
    ----------
    scored
        The task, its answers values (asked, column), or draws (asked, draw, column) over which the readout is averaged.
    changes
        Fields of the result that follow the rows of the readout, such as its `units`.
    """
    readout = READOUTS[name]

    def read(values: Answers) -> Answers:
        if isinstance(values, Halves):
            return Halves(read(values.one), read(values.other))
        if np.ndim(values) == 3:
            return np.mean([readout(np.asarray(one, np.float64), ground) for one in np.moveaxis(values, 1, 0)], axis=0)
        return readout(np.asarray(values, np.float64), ground)

    return scored.read(read, **{"readout": name.replace("_", " "), "metrics": _fact(name, "metrics"), **changes})
