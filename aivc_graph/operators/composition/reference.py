"""What patches are made of, told from labelled cells that were taken out of other tissue: a reference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from aivc_graph import names
from aivc_graph.graph.panels import is_observed, labels, measured_molecules, panel, panel_columns, shared_columns
from aivc_graph.graph.schema import dissociated_sections
from aivc_graph.graph.tissue_graph import TissueGraph, to_scipy_csr
from aivc_graph.operators.composition import reference_fit
from aivc_graph.operators.composition.composition import CompositionPlan, is_reference
from aivc_graph.operators.composition.mixture import Prior, amounts, least_squares, posterior, shortest, unexplained
from aivc_graph.operators.part import KINDS, LAST_ANSWERS, AbstractPart, Fitting, Shape
from aivc_graph.operators.product import SparseOperator
from aivc_graph.operators.state import Expected, Inputs, State

# Of the genes that both count, those by which types differ most.
MOST_GENES = 2_000
PATCHES_AT_ONCE = 4_000


@dataclass(frozen=True)
class Told:
    """Share of each type (patch, type), the ends of its 90 % interval, and the share no type accounts for (patch,)."""

    shares: Tensor
    lower: Tensor
    upper: Tensor
    unexplained: Tensor


@KINDS["composition"].register("reference")
class ReferenceComposition(AbstractPart):
    r"""Share of a patch's RNA that each type of a dissociated, labelled reference gives, with its posterior.

    With :math:`\mu_{tg}` the share of gene g in a cell of type t,

    .. math:: y_{sg} \sim \mathrm{Poisson}\Bigl(\sum_t a_{st} e_g f_{tg} \mu_{tg}\Bigr), \qquad
              p_{st} = a_{st} / \textstyle\sum_t a_{st}

    where e is how much better the patch's platform catches a gene, and f how far the types of this tissue differ from
    those of the reference: as far as too few cells, or donors of the reference, leave open. Noise as of counts in place
    of least squares, e, and f open one after the other, and go on for as many rounds, as molecules hidden from patches
    that were not fitted on ask for. With none of them, the start, it is exactly non-negative least squares on the mean
    profiles. Genes in which tissue and reference disagree are weighed out. A type may be absent from a patch; how often
    each is, the tissue tells. Where it tells more, a share of the mean over the nearest patches is mixed in. No truth
    of any composition is looked at.

    The interval holds what a wrong profile does: counts are believed less, until 90 % of the true shares lie within,
    of patches put together of cells of donors of the reference that no profile comes from (of one donor alone, of
    cells that lie away along the main axis of variation of their type), seen by a platform as uneven as this one.

    Of RNA, and not of cells: how much RNA a cell of a type holds in this tissue cannot be told from counts of patches.

    Shapes
    ------
    counts
        (patch, molecule)
    out
        (patch, type); rows sum to one, or to zero where nothing was counted

    References
    ----------
    Cable et al. 2022, doi:10.1038/s41587-021-00830-w (platform effects); Lawson & Hanson 1974,
    doi:10.1137/1.9781611971217.
    """

    kind: ClassVar[str] = "composition"
    Plan = CompositionPlan
    plan: CompositionPlan
    stages: ClassVar[Mapping[str, str]] = {LAST_ANSWERS: "fit"}
    profiles: Tensor
    rates: Tensor
    weight: Tensor
    genes: Tensor
    present: Tensor
    share: Tensor
    temper: Tensor
    opened: Tensor
    neighbour_share: Tensor

    def __init__(self, plan: CompositionPlan) -> None:
        super().__init__(plan)
        types, molecules = len(plan.types), min(len(plan.of_parent), MOST_GENES)
        self.hold("genes", torch.arange(molecules))
        self.hold("profiles", torch.zeros(types, molecules))
        self.hold("rates", torch.zeros(types, molecules))
        self.hold("weight", torch.ones(molecules))
        self.hold("present", torch.full((types,), 0.5))
        self.hold("share", torch.full((types,), 2.0 / types))
        self.hold("temper", torch.ones(()))
        self.hold("opened", torch.zeros(()))
        self.hold("neighbour_share", torch.zeros(()))

    @property
    def prior(self) -> Prior:
        """How often a patch has each type, and the mean share where it has."""
        return Prior(self.present, self.share)

    @classmethod
    def serves(cls, graph: TissueGraph, shape: Shape) -> list[CompositionPlan]:
        """Return a plan where the labels that train are those of dissociated cells, and patches count their genes."""
        child, parent = names.CELL, names.PATCH
        if not (all(is_observed(graph, v, names.RNA) for v in (child, parent)) and is_reference(graph, child)):
            return []
        own, shared = shared_columns(*(panel(graph, level, names.RNA) for level in (child, parent)))
        kept = _measured(graph, child, own, loose=True) & _measured(graph, parent, shared, loose=False)
        columns = [[one for one, keep in zip(on, kept.tolist(), strict=True) if keep] for on in (own, shared)]
        if not columns[0]:
            return []
        sizes = {"of_child": tuple(columns[0]), "of_parent": tuple(columns[1]), "rings": shape.rings}
        return [CompositionPlan(child=child, parent=parent, types=labels(graph, child), **sizes)]

    @property
    def slot(self) -> tuple[str, ...]:
        """Child and parent."""
        return (self.plan.child, self.plan.parent)

    def fit(self, fitting: Fitting) -> None:
        """Fit to the labelled cells of the reference and the counts of training patches."""
        reference_fit.fit_reference(self, fitting)

    def of(self, state: State, inputs: Inputs, told: Expected, depth: float) -> Tensor:
        """Return the share of each type under every parent (parent, type)."""
        return self.tell(state, inputs).shares

    @torch.no_grad()
    def tell(self, state: State, inputs: Inputs) -> Told:
        """Return what is known of each parent from its own counts; zeros where they were not seen."""
        parent, columns = self.plan.parent, torch.tensor(self.plan.of_parent)[self.genes]
        data = inputs.measured(parent, names.RNA)
        counts, seen = to_scipy_csr(data.counts.cpu()), (state.counted[parent] > 0).cpu()
        panel_of, rings = data.panel_of[data.section], inputs.rings(parent)
        found = [torch.zeros(len(seen), len(self.plan.types)) for _ in range(3)] + [torch.zeros(len(seen))]
        for one in panel_of.unique().tolist():
            there = data.panels[one][columns] > 0
            for rows in torch.nonzero((panel_of == one) & seen).ravel().split(PATCHES_AT_ONCE):
                some = torch.from_numpy(counts[rows.numpy()][:, columns.numpy()].toarray())
                for whole, part in zip(found, self(some, there), strict=True):
                    whole[rows] = part
        shares, lower, upper, rest = found
        moved = self.smoothed(shares, rings[0]) if rings else shares
        return Told(moved, (lower + moved - shares).clamp_min(0.0), (upper + moved - shares).clamp(0.0, 1.0), rest)

    @torch.no_grad()
    def forward(self, counts: Tensor, there: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return shares, the ends of their intervals (patch, type), and what is unexplained (patch,).

        Parameters
        ----------
        counts
            Of the part's genes (patch, molecule).
        there
            Which of them were measured (molecule,); all if not given.
        """
        there = torch.ones_like(self.weight, dtype=torch.bool) if there is None else there
        seen, rates, weight = counts[:, there], self.rates[:, there], self.weight[there]
        likeliest = amounts(seen * weight, rates * weight)
        draws = posterior(seen * weight, rates * weight, self.prior, likeliest)
        shares = draws.mean(dim=2) if self.opened else least_squares(seen, self.profiles[:, there])
        if self.temper > 1:
            believed = weight / self.temper
            draws = posterior(seen * believed, rates * believed, self.prior, likeliest)
        lower, upper = shortest(draws)
        rest = unexplained(seen, likeliest @ rates)
        return shares, torch.minimum(lower, shares), torch.maximum(upper, shares), rest

    @torch.no_grad()
    def smoothed(self, shares: Tensor, neighbours: SparseOperator) -> Tensor:
        """Return `shares` mixed with the mean of those neighbours of which something is known."""
        known = (shares.sum(dim=1, keepdim=True) > 0).float()
        number = neighbours @ known
        mean = (neighbours @ shares) / number.clamp_min(1e-12)
        return shares + self.neighbour_share * known * (number > 0) * (mean - shares)


def _measured(graph: TissueGraph, level: str, columns: list[int], loose: bool) -> Tensor:
    """Return which of a level's `columns` were measured by all its sections, dissociated or not, that measured any."""
    there = measured_molecules(graph, level, names.RNA)[:, panel_columns(graph, level, names.RNA)[columns]]
    who = (dissociated_sections(graph) == loose) & there.any(dim=1).numpy()
    return there[torch.from_numpy(who)].all(dim=0)
