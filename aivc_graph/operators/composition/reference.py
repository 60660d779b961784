"""What patches are made of, told from labelled cells that were taken out of other tissue: a reference."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from aivc_graph import names
from aivc_graph.graph.panels import (
    distinct_labels,
    is_observed,
    labels,
    measured_molecules,
    panel,
    panel_columns,
    shared_columns,
    types_of,
)
from aivc_graph.graph.schema import dissociated_sections
from aivc_graph.graph.tissue_graph import TissueGraph, to_scipy_csr
from aivc_graph.operators.composition import reference_fit
from aivc_graph.operators.composition.composition import CompositionPlan, is_reference, labelled
from aivc_graph.operators.composition.mixture import (
    Hill,
    Prior,
    Seen,
    least_squares,
    middle,
    unexplained,
)
from aivc_graph.operators.composition.reference_width import (
    CONTENT_SHARE,
    REDRAWN,
    from_none,
    of_cells,
    wide_draws,
)
from aivc_graph.operators.part import KINDS, LAST_ANSWERS, AbstractPart, Fitting, Shape
from aivc_graph.operators.product import SparseOperator
from aivc_graph.operators.state import Expected, Inputs, State
from aivc_graph.tissue.doubt import doubt

# Of the genes that both count, those by which types differ most.
MOST_GENES = 2_000
PATCHES_AT_ONCE = 4_000


@dataclass(frozen=True)
class Told:
    """Share of each type among cells (patch, type), the ends of its 90 % interval, and facts of each patch (patch,).

    Which share of its molecules no type accounts for, and its `amount`: the molecules of it over those that a cell of
    its composition gives, in a unit of its own, since nobody knows which share of them the platform catches.
    """

    shares: Tensor
    lower: Tensor
    upper: Tensor
    unexplained: Tensor
    amount: Tensor


@KINDS["composition"].register("reference")
class ReferenceComposition(AbstractPart):
    r"""Share of a patch's cells that are of each type of a dissociated, labelled reference, with its posterior.

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

    The interval holds what wrong profiles do: its draws are those of twelve fits, each of genes drawn anew, of profiles
    as likely as these, and for as many rounds as stretches of tissue drawn anew ask for. Where tissue and reference
    disagree gene by gene, these differ, and as far as the shares of all patches may err together.

    That is of RNA. A type's share of cells is its share of RNA over how much RNA a cell of it holds, which counts of
    patches cannot tell: half of what the reference says of it is believed, the rest widens the interval, and so does
    by how much the few cells of a patch vary within a type. An interval that would begin below half a cell begins at
    zero, as there is no such share.

    Shapes
    ------
    counts
        (patch, molecule)
    out
        (patch, type); rows sum to one, or to zero where nothing was counted

    References
    ----------
    Cable et al. 2022, doi:10.1038/s41587-021-00830-w (platform effects); Lawson & Hanson 1974,
    doi:10.1137/1.9781611971217; Rubin 1981, doi:10.1214/aos/1176345338 (genes drawn anew).
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
    content: Tensor
    scatter: Tensor
    redrawn_rates: Tensor
    redrawn_weight: Tensor
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
        self.hold("content", torch.zeros(types))
        self.hold("scatter", torch.zeros(types))
        self.hold("redrawn_rates", torch.zeros(REDRAWN, types, molecules))
        self.hold("redrawn_weight", torch.ones(REDRAWN, molecules))
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
        if is_observed(graph, parent, names.RNA) and child in graph.levels:
            _doubt_no_reference(graph, child)
        if not (all(is_observed(graph, v, names.RNA) for v in (child, parent)) and is_reference(graph, child)):
            return []
        own, shared = shared_columns(*(panel(graph, level, names.RNA) for level in (child, parent)))
        kept = _measured(graph, child, own, loose=True) & _measured(graph, parent, shared, loose=False)
        columns = [[one for one, keep in zip(on, kept.tolist(), strict=True) if keep] for on in (own, shared)]
        types = _types(graph, child)
        if not columns[0] or len(types) < 2:
            return []
        sizes = {"of_child": tuple(columns[0]), "of_parent": tuple(columns[1]), "rings": shape.rings}
        return [CompositionPlan(child=child, parent=parent, types=types, **sizes)]

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
        n, rings = len(state.counted[self.plan.parent]), inputs.rings(self.plan.parent)
        found = [torch.zeros(n, len(self.plan.types)) for _ in range(3)] + [torch.zeros(n) for _ in range(2)]
        for rows, counts, there in self.counted(state, inputs):
            told = self(counts, there)
            for whole, part in zip(found, (*told, self.amount(counts, there, told[0])), strict=True):
                whole[rows] = part
        shares, lower, upper, *rest = found
        moved = self.smoothed(shares, rings[0]) if rings else shares
        return Told(moved, from_none(lower + moved - shares), (upper + moved - shares).clamp(0.0, 1.0), *rest)

    def amount(self, counts: Tensor, there: Tensor, shares: Tensor) -> Tensor:
        """Return the molecules of each patch over those that a cell of its composition gives (patch,)."""
        of_cell = (CONTENT_SHARE * self.content).exp() * self.rates[:, there].sum(dim=1)
        return counts[:, there].sum(dim=1) / (shares @ of_cell).clamp_min(1e-12)

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
        likeliest, draws, wide = self.draws(counts, there)
        seen = counts[:, there]
        plain = draws if self.opened else least_squares(seen, self.profiles[:, there])[:, :, None]
        shares = of_cells(plain, self.content).mean(dim=2)
        lower, upper = middle(of_cells(wide, self.content, self.scatter))
        rest = unexplained(seen, likeliest @ self.rates[:, there])
        return shares, from_none(torch.minimum(lower, shares)), torch.maximum(upper, shares), rest

    def counted(self, state: State, inputs: Inputs) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield rows of parents that were counted, some thousands at a time, their counts, and what was measured."""
        parent, columns = self.plan.parent, torch.tensor(self.plan.of_parent)[self.genes]
        data = inputs.measured(parent, names.RNA)
        counts, seen = to_scipy_csr(data.counts.cpu()), (state.counted[parent] > 0).cpu()
        panel_of = data.panel_of[data.section]
        for one in panel_of.unique().tolist():
            for rows in torch.nonzero((panel_of == one) & seen).ravel().split(PATCHES_AT_ONCE):
                some = torch.from_numpy(counts[rows.numpy()][:, columns.numpy()].toarray())
                yield rows, some, data.panels[one][columns] > 0

    def draws(self, counts: Tensor, there: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the likeliest amounts (patch, type), and shares of RNA (patch, type, draw): best, as unsure."""
        seen, weight = counts[:, there], self.weight[there]
        hill = Hill.of(seen * weight, self.rates[:, there] * weight)
        every = [
            Seen(rates[:, there], trust[there])
            for rates, trust in zip(self.redrawn_rates, self.redrawn_weight, strict=True)
        ]
        best = hill.draws(self.prior)
        return hill.at.float(), best, wide_draws(hill, seen, every, self.prior, best[:, :, -1])

    @torch.no_grad()
    def given(self, counts: Tensor, there: Tensor, kind: int, columns: Tensor) -> Tensor:
        r"""Return how many molecules of the genes at `columns` a type gives to each patch (3, patch, gene).

        The mean, and the ends of the 90 % interval. Of a gene that was measured it is a part of its counts,
        :math:`y_{sg} p_{st} r_{tg} / \sum_u p_{su} r_{ug}`, so that types add up to what was counted; of another what
        the composition makes expected, at the depth of those that were.
        """
        _, *drawn = self.draws(counts, there)
        rates, measured = self.rates[:, columns], there[columns]
        found = []
        for shares in drawn:
            of_type = shares[:, kind, :, None] * rates[kind]
            every = torch.einsum("ptd,tg->pdg", shares, rates).clamp_min(1e-12)
            depth = counts[:, there].sum(dim=1)[:, None] / torch.einsum(
                "ptd,t->pd", shares, self.rates[:, there].sum(dim=1)
            ).clamp_min(1e-12)
            found.append(torch.where(measured, counts[:, None, columns] * of_type / every, depth[:, :, None] * of_type))
        mean = found[0].mean(dim=1)
        lower, upper = middle(found[1].transpose(1, 2))
        return torch.stack([mean, torch.minimum(lower, mean), torch.maximum(upper, mean)])

    @torch.no_grad()
    def smoothed(self, shares: Tensor, neighbours: SparseOperator) -> Tensor:
        """Return `shares` mixed with the mean of those neighbours of which something is known."""
        known = (shares.sum(dim=1, keepdim=True) > 0).float()
        number = neighbours @ known
        mean = (neighbours @ shares) / number.clamp_min(1e-12)
        return shares + self.neighbour_share * known * (number > 0) * (mean - shares)


def _doubt_no_reference(graph: TissueGraph, child: str) -> None:
    """Doubt dissociated, labelled cells that are no reference: held out, of one label or very many, or logarithms."""
    loose = dissociated_sections(graph)[graph[child].section_index.numpy()]
    if names.LABEL not in graph.obs(child) or not (labelled(graph, child) & loose).any():
        return
    number, kinds = len(distinct_labels(graph, child)), labels(graph, child)
    if number == 0:
        found, expected = "labelled dissociated cells, none of which trains", "some on the training side of the split"
        mend = "give a reference of donors that are not held out"
    elif not kinds:
        every = f"labelled cells of {number:,} types"
        found = f"labelled cells of which all are {distinct_labels(graph, child)[0]!r}" if number == 1 else every
        expected = "two types or more, and no names of cells"
        mend = "label what else the tissue may hold" if number == 1 else "name another column as `label:`"
    elif is_observed(graph, child, names.LOG_EXPRESSION) and not is_observed(graph, child, names.RNA):
        found, expected = "labelled dissociated cells, of which logarithms alone were given", "counts"
        mend = "read their counts (`layer:` or another file, without `values: log`)"
    else:
        return
    doubt(f"composition · {child}", found, expected, f"else no reference tells what patches are made of: {mend}")


def _types(graph: TissueGraph, child: str) -> tuple[str, ...]:
    """Return the types of the dissociated cells that train: others, of few cells in place, have no profile."""
    every, loose = labels(graph, child), dissociated_sections(graph)[graph[child].section_index.numpy()]
    kind = types_of(graph, child, every)
    there = np.unique(kind[(kind >= 0) & loose & graph.in_split(child, names.TRAIN).numpy()])
    return tuple(every[one] for one in there)


def _doubt_few(graph: TissueGraph, level: str, columns: list[int], loose: bool, kept: Tensor) -> None:
    """Doubt a section for which more than half of the genes that both levels count are set aside."""
    there = _of_sections(graph, level, columns, loose)
    if 2 * int(kept.sum()) >= len(kept) or not len(there):
        return
    least = min(there, key=lambda name: int(there[name].sum()))
    n, every = int(there[least].sum()), len(kept)
    if 2 * n < every and len(there) > 1:
        found = (
            f"{n:,} of {every:,} genes measured in {least}, so that only {int(kept.sum()):,} tell composition anywhere"
        )
        mend = f"leave {least} out" + ("" if loose else ", and ask it by --on")
        doubt(f"composition · {level}", found, "sections of one panel", mend)


def _of_sections(graph: TissueGraph, level: str, columns: list[int], loose: bool) -> dict[str, Tensor]:
    """Return which of a level's `columns` each of its sections measured that measured any, dissociated or not."""
    there = measured_molecules(graph, level, names.RNA)[:, panel_columns(graph, level, names.RNA)[columns]]
    who = (dissociated_sections(graph) == loose) & there.any(dim=1).numpy()
    known = list(graph.obs(names.SECTION).index.astype(str))
    return {known[i]: there[i] for i in np.flatnonzero(who).tolist()}


def _measured(graph: TissueGraph, level: str, columns: list[int], loose: bool) -> Tensor:
    """Return which of a level's `columns` were measured by all its sections, dissociated or not, that measured any."""
    every = torch.stack(list(_of_sections(graph, level, columns, loose).values())).all(dim=0)
    _doubt_few(graph, level, columns, loose, every)
    return every
