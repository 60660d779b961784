"""What cells make of what their neighbours send: the state at rest, and how interventions move it in time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.spatial import cKDTree

from aivc_graph.simulate.intervention import Part, active, changes, strengths
from aivc_graph.simulate.pathways import PATHWAYS, loadings
from aivc_graph.simulate.programmes import GENES

Array = NDArray[np.float64]

REACH: Final = 3.0  # decay lengths after which a signal counts as gone
STEP_HOURS: Final = 6.0
TURNOVER_HOURS: Final = 8.0  # a gene's transcript and product follow an intervention with this time constant
SWEEPS: Final = 25
CELLS_PER_UM2: Final = 2.5e-3  # the density at which `half_share` is stated
LEFT, MOST = np.log(20.0), np.log(4.0)  # full knock-out leaves 1/20, full activation makes four times as much

_ROUTES: Final = {i: p for i, p in enumerate(PATHWAYS.values()) if p.ligand is not None}
_REGULATORS: Final = [GENES.index(p.regulator) for p in PATHWAYS.values()]
_HOURS: Final = np.array([p.hours for p in PATHWAYS.values()])
_LOADINGS: Final = loadings()


@dataclass(frozen=True)
class Course:
    """The state at the time of measurement, or at rest.

    Parameters
    ----------
    activity
        ``(cell, pathway)``, 0–1.
    product, transcript
        Realised strengths of interventions, ``(cell, gene)``, signed; 0 where nothing was done.
    source
        Ligand from outside, ``(cell, pathway)``.
    """

    activity: Array
    product: Array
    transcript: Array
    source: Array

    def log_fold(self) -> Array:
        """Return what signals and interventions add to a gene's log rate, ``(cell, gene)``."""
        return self.signalled() + _fold(self.transcript)

    def signalled(self) -> Array:
        """Return what signals alone add to a gene's log rate: loadings × activities as far as regulators let them."""
        regulator = self.product[:, _REGULATORS].clip(max=1.0)
        opened = self.activity + 0.5 * regulator * (1 - self.activity)  # an activated regulator acts without a signal
        return np.where(regulator < 0, self.activity * np.exp(_fold(regulator)), opened) @ _LOADINGS


@dataclass(frozen=True)
class Signalling:
    r"""The cells of one section as far as signals go.

    The drive of pathway p in cell c is the saturating :math:`I^2 / (I^2 + K_p^2)` of

    .. math:: I_p(c) = r_p(c) \sum_u e^{-d_{cu} / \lambda_p}\, l_p(u)

    with receptor r and ligand l the cells' own, raised and lowered by their activities (feedback) and by interventions;
    an activity follows its drive by first-order relaxation, :math:`\dot A_p = (F_p(A) - A_p) / \tau_p`.

    Parameters
    ----------
    kernels
        exp(−distance / decay) between cells within reach, ``(cell, cell)`` for each pathway that has a ligand.
    output
        Each gene's product relative to the type that makes most, ``(cell, gene)``.
    field
        Drive from the surroundings, ``(cell, pathway)``, 0–1.
    """

    kernels: dict[int, sparse.csr_matrix]
    output: Array
    field: Array

    def rest(self) -> Course:
        """Return the state in which drive and activity agree, without interventions."""
        nothing = np.zeros((2, len(self.field), len(GENES)))
        course = Course(np.zeros_like(self.field), *nothing, np.zeros_like(self.field))
        for _ in range(SWEEPS):
            course = Course(self._drive(course), *nothing, course.source)
        return course

    def follow(
        self, rest: Course, parts: Sequence[Part], reached: Sequence[NDArray[np.bool_]], scale: float = 1.0
    ) -> Course:
        """Return the state when the last of `parts` ends, from `rest` at hour 0.

        In each step of at most `STEP_HOURS` hours signals go one reach further, so a cell further away than that from
        every cell that was reached stays exactly as it was.

        Parameters
        ----------
        reached
            Cells that each part acts on, ``(cell,)`` each.
        scale
            Factor on every effect.
        """
        course, at_rest, edges = rest, self._drive(rest), changes(parts)
        for start, end in pairwise(edges):
            now = active(parts, start)
            aim = strengths(now, [reached[parts.index(p)] for p in now], scale) if now else strengths_of_nothing(rest)
            steps = int(np.ceil((end - start) / STEP_HOURS))
            for _ in range(steps):
                course = self._step(course, rest, at_rest, aim, (end - start) / steps)
        return course

    def _step(self, course: Course, rest: Course, at_rest: Array, aim: tuple[Array, ...], hours: float) -> Course:
        share = 1 - np.exp(-hours / TURNOVER_HOURS)
        realised = [was + share * (to - was) for was, to in zip((course.product, course.transcript), aim, strict=False)]
        moved = Course(course.activity, *realised, aim[2])
        # The drive's difference from rest, so that what nothing reaches does not move by even a rounding error.
        drive = rest.activity + (self._drive(moved) - at_rest)
        return Course(course.activity + (1 - np.exp(-hours / _HOURS)) * (drive - course.activity), *realised, aim[2])

    def _drive(self, course: Course) -> Array:
        amount = self.output * np.exp(course.signalled() + _fold(course.product))
        drive = self.field.copy()
        for i, pathway in _ROUTES.items():
            made, heard = amount[:, GENES.index(str(pathway.ligand))], amount[:, GENES.index(str(pathway.receptor))]
            half = pathway.half_share * 2 * np.pi * pathway.decay_um**2 * CELLS_PER_UM2
            signal = (heard * (self.kernels[i] @ (made + course.source[:, i])) / half) ** 2
            drive[:, i] = signal / (1 + signal)
        return drive


def kernels(xy_um: Array) -> dict[int, sparse.csr_matrix]:
    """Return exp(−distance / decay) between cells within `REACH` decay lengths; a cell hears itself too."""
    reach = {i: REACH * p.decay_um for i, p in _ROUTES.items()}
    pairs = cKDTree(xy_um).query_pairs(max(reach.values()), output_type="ndarray")
    distance = np.hypot(*(xy_um[pairs[:, 0]] - xy_um[pairs[:, 1]]).T)
    found, itself = {}, np.arange(len(xy_um))
    for i, pathway in _ROUTES.items():
        near = distance <= reach[i]
        a, b, weight = *pairs[near].T, np.exp(-distance[near] / pathway.decay_um)
        rows, columns = np.concatenate([a, b, itself]), np.concatenate([b, a, itself])
        weights = np.concatenate([weight, weight, np.ones(len(xy_um))])
        found[i] = sparse.csr_matrix((weights, (rows, columns)), (len(xy_um),) * 2)
    return found


def strengths_of_nothing(rest: Course) -> tuple[Array, ...]:
    """Return the strengths at which no part acts: what was done before is washed out."""
    return tuple(np.zeros_like(values) for values in (rest.product, rest.transcript, rest.source))


def _fold(strength: Array) -> Array:
    """Natural-log fold of a signed strength; −1 leaves 1/20, +1 makes four times as much."""
    return np.where(strength < 0, LEFT, MOST) * strength
