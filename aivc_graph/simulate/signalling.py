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

from aivc_graph.simulate.intervention import Influence, Part, active, changes, influence, nothing
from aivc_graph.simulate.pathways import PATHWAYS, loadings
from aivc_graph.simulate.programmes import GENES

Array = NDArray[np.float64]

REACH: Final = 3.0  # decay lengths after which a signal counts as gone
STEP_HOURS: Final = 6.0
TURNOVER_HOURS: Final = 8.0  # a gene's transcript and product follow an intervention with this time constant
SWEEPS, SETTLED = 50, 1e-10
CELLS_PER_UM2: Final = 2.5e-3  # the density at which `half_share` is stated
LEFT, MOST = np.log(20.0), np.log(4.0)  # full knock-out leaves 1/20, full activation makes four times as much

_ROUTES: Final = {i: p for i, p in enumerate(PATHWAYS.values()) if p.ligand is not None}
_REGULATORS: Final = [GENES.index(p.regulator) for p in PATHWAYS.values()]
_HOURS: Final = np.array([p.hours for p in PATHWAYS.values()])
_LOADINGS: Final = loadings()


@dataclass(frozen=True)
class State:
    """How active each pathway is, ``(cell, pathway)``, 0–1, and how far interventions have come into effect."""

    activity: Array
    done: Influence

    def signalled(self) -> Array:
        """Return what signals alone add to a gene's log rate: loadings × activities as far as regulators let them."""
        regulator = self.done.product[:, _REGULATORS].clip(max=1.0)
        opened = self.activity + 0.5 * regulator * (1 - self.activity)  # an activated regulator acts without a signal
        return np.where(regulator < 0, self.activity * np.exp(_fold(regulator)), opened) @ _LOADINGS

    def log_fold(self) -> Array:
        """Return what signals and interventions add to a gene's log rate, ``(cell, gene)``."""
        return self.signalled() + _fold(self.done.transcript)


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

    References
    ----------
    Jin et al. 2021, doi:10.1038/s41467-021-21246-9 (ligand × receptor through a Hill function). Schwanhäusser et al.
    2011, doi:10.1038/nature10098 (half of all transcripts turn over within some 9 h).
    """

    kernels: dict[int, sparse.csr_matrix]
    output: Array
    field: Array

    def rest(self) -> State:
        """Return the state in which drive and activity agree, without interventions."""
        state = State(np.zeros_like(self.field), nothing(len(self.field)))
        for _ in range(SWEEPS):
            before, state = state, State(self.drive(state), state.done)
            if np.abs(state.activity - before.activity).max(initial=0.0) < SETTLED:
                break
        return state

    def drive(self, state: State) -> Array:
        """Return F, the activity that each pathway tends to, ``(cell, pathway)``."""
        amount = self.output * np.exp(state.signalled() + _fold(state.done.product))
        drive = self.field.copy()
        for i, pathway in _ROUTES.items():
            made, heard = amount[:, GENES.index(str(pathway.ligand))], amount[:, GENES.index(str(pathway.receptor))]
            half = pathway.half_share * 2 * np.pi * pathway.decay_um**2 * CELLS_PER_UM2
            signal = (heard * (self.kernels[i] @ (made + state.done.source[:, i])) / half) ** 2
            drive[:, i] = signal / (1 + signal)
        return drive

    def follow(
        self, rest: State, parts: Sequence[Part], reached: Sequence[NDArray[np.bool_]], scale: float = 1.0
    ) -> State:
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
        state, tended = rest, self.drive(rest)
        for start, end in pairwise(changes(parts)):
            now = active(parts, start)
            aim = influence([parts[k] for k in now], [reached[k] for k in now], len(rest.activity), scale)
            steps = int(np.ceil((end - start) / STEP_HOURS))
            for _ in range(steps):
                hours = (end - start) / steps
                done = _approached(state.done, aim, hours)
                # The drive's difference from rest: what nothing reaches does not move by even a rounding error.
                drive = rest.activity + (self.drive(State(state.activity, done)) - tended)
                state = State(state.activity + (1 - np.exp(-hours / _HOURS)) * (drive - state.activity), done)
        return state


def kernels(xy_um: Array) -> dict[int, sparse.csr_matrix]:
    """Return exp(−distance / decay) between cells within `REACH` decay lengths; a cell hears itself too."""
    pairs = cKDTree(xy_um).query_pairs(REACH * max(p.decay_um for p in _ROUTES.values()), output_type="ndarray")
    itself = np.arange(len(xy_um))
    rows, columns = np.concatenate([*pairs.T, itself]), np.concatenate([*pairs.T[::-1], itself])
    distance = np.hypot(*(xy_um[rows] - xy_um[columns]).T)
    far = sparse.csr_matrix((distance, (rows, columns)), (len(xy_um),) * 2)
    found = {}
    for i, pathway in _ROUTES.items():
        near = far.data <= REACH * pathway.decay_um
        begins = np.concatenate([[0], np.cumsum(near)])[far.indptr]
        found[i] = sparse.csr_matrix((np.exp(-far.data[near] / pathway.decay_um), far.indices[near], begins), far.shape)
    return found


def _approached(was: Influence, aim: Influence, hours: float) -> Influence:
    """Products and transcripts turn over; a ligand is there from the moment it is given."""
    share = 1 - np.exp(-hours / TURNOVER_HOURS)
    product = was.product + share * (aim.product - was.product)
    return Influence(product, was.transcript + share * (aim.transcript - was.transcript), aim.source)


def _fold(strength: Array) -> Array:
    """Natural-log fold of a signed strength; −1 leaves 1/20, +1 makes four times as much."""
    return np.asarray(np.where(strength < 0, LEFT, MOST) * strength)
