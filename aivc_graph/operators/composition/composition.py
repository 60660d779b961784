"""What a parent without measured children is made of: non-negative shares of type profiles in its own counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aivc_graph import names
from aivc_graph.graph.panels import (
    is_observed,
    labels,
    measured_molecules,
    panel,
    panel_columns,
    shared_columns,
    withins,
)
from aivc_graph.graph.schema import dissociated_sections
from aivc_graph.graph.tissue_graph import TissueGraph
from aivc_graph.operators.composition import composition_fit
from aivc_graph.operators.composition.anchors import log_expression
from aivc_graph.operators.part import KINDS, LAST_ANSWERS, AbstractPart, Fitting, Shape
from aivc_graph.operators.product import SparseOperator
from aivc_graph.operators.state import Expected, Inputs, State
from aivc_graph.settings import Settings

REWEIGHTINGS = 2
# Of so few labelled cells in place, shares beneath patches say nothing.
HARDLY = 0.05
Floats = NDArray[np.float64]


class CompositionPlan(Settings):
    """Levels of patches and typed cells, the types, and the columns of the RNA panels that hold the same genes."""

    child: str
    parent: str
    types: tuple[str, ...]
    of_child: tuple[int, ...]
    of_parent: tuple[int, ...]
    rings: tuple[int, ...]


@KINDS["composition"].register("least_squares")
class CompositionProject(AbstractPart):
    r"""Share of each cell type under a patch, from the patch's counts alone.

    With :math:`\mu_{tg}` the expected counts of a cell of type t and :math:`e_g` how much better the patch's platform
    catches gene g than the cells' does,

    .. math:: \hat a_s = \arg\min_{a \ge 0} \sum_g \frac{(y_{sg} - e_g^{\varepsilon} \sum_t a_t \mu_{tg})^2}
              {v_{sg}^{\omega}}, \qquad p_s = \hat a_s / \textstyle\sum_t \hat a_{st}

    where :math:`v = m + m^2 / \theta` is the variance of a negative binomial around the fit m. Two corrections follow:
    a share c of what ridge on log expression has learned from compositions measured at anchors, which without slope is
    their mean; and a share s of the mean over the nearest patches. With ε = ω = c = s = 0, the start, it is exactly
    non-negative least squares on the type profiles; with c = 1 and no slope, the mean composition. Invariant to the
    order of patches and molecules.

    Shapes
    ------
    counts
        (patch, molecule)
    neighbours
        (patch, patch), who is near whom
    out
        (patch, type); rows sum to one, or to zero where nothing was counted

    References
    ----------
    Lawson & Hanson 1974, doi:10.1137/1.9781611971217 (non-negative least squares); Cable et al. 2022,
    doi:10.1038/s41587-021-00830-w (platform effects of genes).
    """

    kind: ClassVar[str] = "composition"
    Plan = CompositionPlan
    plan: CompositionPlan
    stages: ClassVar[Mapping[str, str]] = {LAST_ANSWERS: "fit"}
    profiles: Tensor
    log_efficiency: Tensor
    log_theta: Tensor
    prior: Tensor
    centre: Tensor
    calibration: Tensor
    efficiency_share: Tensor
    variance_share: Tensor
    calibration_share: Tensor
    neighbour_share: Tensor

    def __init__(self, plan: CompositionPlan) -> None:
        super().__init__(plan)
        types, molecules = len(plan.types), len(plan.of_parent)
        self.hold("profiles", torch.zeros(types, molecules))
        self.hold("prior", torch.zeros(types))
        self.hold("calibration", torch.zeros(molecules, types))
        for name in ("log_efficiency", "log_theta", "centre"):
            self.hold(name, torch.zeros(molecules))
        for name in ("efficiency_share", "variance_share", "calibration_share", "neighbour_share"):
            self.hold(name, torch.zeros(()))

    @classmethod
    def serves(cls, graph: TissueGraph, shape: Shape) -> list[CompositionPlan]:
        """Return a plan for each pair of levels with typed children and parents that count some of their genes."""
        plans = []
        for child, parent in withins(graph):
            if is_reference(graph, child):
                continue  # no labelled cell lies beneath anything: `reference` serves
            if is_observed(graph, child, names.RNA) and is_observed(graph, parent, names.RNA):
                own, shared = shared_columns(*(panel(graph, level, names.RNA) for level in (child, parent)))
                own, shared = _measured_by_all(graph, {child: own, parent: shared})
                types = labels(graph, child)
                if own and types:
                    sizes = {"of_child": tuple(own), "of_parent": tuple(shared), "rings": shape.rings}
                    plans.append(CompositionPlan(child=child, parent=parent, types=types, **sizes))
        return plans

    @property
    def slot(self) -> tuple[str, ...]:
        """Child and parent."""
        return (self.plan.child, self.plan.parent)

    def of(self, state: State, inputs: Inputs, told: Expected, depth: float) -> Tensor:
        """Return the share of each type under every parent (parent, type).

        From the parent's own counts; where those were not seen, from the expression `told` of it, at `depth` [counts].
        """
        parent, shared = self.plan.parent, list(self.plan.of_parent)
        data = inputs.measured(parent, names.RNA)
        measured, there = data.counts.to_dense(), data.panels[data.panel_of[data.section]][:, shared] > 0
        total = measured.sum(dim=1, keepdim=True) / data.covered[data.section][:, None]
        counted = state.counted[parent][:, None] > 0
        answered = (state.known[parent] > 0).float()[:, None] * told.shares[:, shared]
        counts = torch.where(counted & there, measured[:, shared], answered * torch.where(counted, total, depth))
        rings = inputs.rings(parent)
        return self(counts, rings[0] if rings else None)

    def fit(self, fitting: Fitting) -> None:
        """Fit to training patches with labelled cells beneath."""
        composition_fit.fit_composition(self, fitting)

    @torch.no_grad()
    def forward(self, counts: Tensor, neighbours: SparseOperator | None = None) -> Tensor:
        """Return the share of each type (patch, type)."""
        shares = self.calibrated(self.solved(counts), counts)
        return shares if neighbours is None else self.smoothed(shares, neighbours)

    @torch.no_grad()
    def solved(self, counts: Tensor) -> Tensor:
        """Return the shares of the least-squares fit (patch, type)."""
        y = counts.double().cpu().numpy()
        seen = self.profiles.double() * (self.efficiency_share * self.log_efficiency.double()).exp()
        profiles, dispersion = seen.cpu().numpy(), self.log_theta.double().exp().cpu().numpy()
        amounts = non_negative(y, profiles)
        power = float(self.variance_share)
        for _ in range(REWEIGHTINGS if power else 0):
            mean = amounts @ profiles
            floor = np.maximum(mean, 1e-3 * y.mean() + 1e-12)
            amounts = non_negative(y, profiles, (floor + floor**2 / dispersion) ** -power)
        return torch.from_numpy(_normalised(amounts)).to(counts)

    @torch.no_grad()
    def calibrated(self, shares: Tensor, counts: Tensor) -> Tensor:
        """Return `shares` mixed with what anchors have taught of expression."""
        learned = (self.prior + (log_expression(counts) - self.centre) @ self.calibration).clamp_min(0.0)
        learned = learned / learned.sum(dim=1, keepdim=True).clamp_min(1e-12)
        return shares + self.calibration_share * (counts.sum(dim=1, keepdim=True) > 0) * (learned - shares)

    @torch.no_grad()
    def smoothed(self, shares: Tensor, neighbours: SparseOperator) -> Tensor:
        """Return `shares` mixed with the mean of those neighbours of which something is known."""
        known = (shares.sum(dim=1, keepdim=True) > 0).float()
        number = neighbours @ known
        mean = (neighbours @ shares) / number.clamp_min(1e-12)
        return shares + self.neighbour_share * known * (number > 0) * (mean - shares)


def is_reference(graph: TissueGraph, child: str) -> bool:
    """Say whether dissociated cells are the reference: they train with labels, and hardly any cell in place does."""
    if not labels(graph, child):
        return False
    loose = dissociated_sections(graph)[graph[child].section_index.numpy()]
    train, told = graph.in_split(child, names.TRAIN).numpy(), labelled(graph, child)
    in_place = train & ~loose
    return bool((train & loose & told).any() and (in_place & told).sum() <= HARDLY * in_place.sum())


def labelled(graph: TissueGraph, child: str) -> NDArray[np.bool_]:
    """Return which cells bear a label (cell,)."""
    return np.asarray(~graph.obs(child)[names.LABEL].astype(str).isin(names.NO_LABEL))


def _measured_by_all(graph: TissueGraph, columns: dict[str, list[int]]) -> list[list[int]]:
    """Return, level by level, the `columns` of molecules that every section measured at all of the levels."""
    there = [
        measured_molecules(graph, level, names.RNA)[:, panel_columns(graph, level, names.RNA)[own]].all(dim=0)
        for level, own in columns.items()
    ]
    kept = torch.stack(there).all(dim=0).tolist()
    return [[one for one, keep in zip(own, kept, strict=True) if keep] for own in columns.values()]


def non_negative(counts: Floats, profiles: Floats, weight: Floats | None = None) -> Floats:
    """Return the non-negative least-squares amounts (patch, type) of `profiles` (type, molecule) in `counts`."""
    from scipy.optimize import nnls

    out = np.zeros((len(counts), len(profiles)))
    for row, y in enumerate(counts):
        if y.any():
            root = np.ones(len(y)) if weight is None else np.sqrt(weight[row] / weight[row].mean())
            out[row] = nnls((profiles * root).T, y * root)[0]
    return out


def _normalised(amounts: Floats) -> Floats:
    return amounts / np.maximum(amounts.sum(axis=1, keepdims=True), 1e-12)
