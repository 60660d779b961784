"""Molecules of which a relation is known are to go with the same states."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from aivc_graph import names
from aivc_graph.errors import TrainingError
from aivc_graph.graph.tissue_graph import TissueGraph
from aivc_graph.training.terms.term import TERMS, AbstractTerm, Loss, Pass, prior_variance

if TYPE_CHECKING:
    from aivc_graph.training.settings import TrainingConfig


@TERMS.register("prior")
class PriorTerm(AbstractTerm):
    r"""Likelihood of the relations between molecules that the graph holds, beside as many drawn at random.

    .. math:: -\sum_{(i,j)} a_{ij} \big(\log\sigma(v_i \cdot v_j) + \log\sigma(-v_i \cdot v_{k(j)})\big)

    :math:`v_i` are the decoder's weights of molecule i in units of the prior's spread, so that the product is how the
    log shares of two molecules vary together over states; a is the weight of the edge, k(j) the end of another edge at
    random. An edge of sign −1 wants the opposite. A relation may join molecules of two modalities.

    Raises
    ------
    TrainingError
        If the graph holds no relation between molecules.

    References
    ----------
    Cao & Gao 2022, doi:10.1038/s41587-022-01284-4 (a guidance graph that decoders share).
    """

    def __init__(self, graph: TissueGraph, config: TrainingConfig) -> None:
        super().__init__(graph, config)
        self.edges = {one: _edges(graph, one) for one in graph.edge_types if {one[0], one[2]} <= set(names.MOLECULES)}
        if not self.edges:
            where, mend = "training.objective.prior", "set it to 0, or give relations between molecules"
            raise TrainingError(where, "a graph without relations between molecules", "at least one", mend)
        self.index = {kind: list(graph.obs(kind).index) for relation in self.edges for kind in relation[::2]}

    def forward(self, one: Pass) -> Loss:
        """Return the sums over all relations, by level and relation."""
        loss = Loss()
        parts = [part for part in one.model.parts_of("measurement") if part.plan.modality in names.MOLECULE_OF]
        for (source, name, target), edges in self.edges.items():
            for a, b in product(parts, parts):
                ends = [names.MOLECULE_OF[part.plan.modality] for part in (a, b)]
                if a.plan.level != b.plan.level or ends != [source, target]:
                    continue
                spread, key = prior_variance(one.model, a.plan.level).sqrt(), (a.plan.level, name)
                x, y = (self._vectors(part, kind, spread) for part, kind in ((a, source), (b, target)))
                loss.total[key], loss.number[key] = _edge_nll(x, y, edges, one.generator)
                loss.weight[key] = 1.0
        return loss

    def _vectors(self, part: Any, kind: str, spread: Tensor) -> Tensor:
        """Return the vector of each molecule of the graph (molecule, latent), not a number where it has none."""
        place = {name: i for i, name in enumerate(self.index[kind])}
        rows = torch.tensor([place[name] for name in part.plan.names], device=spread.device)
        found = torch.full((len(place), len(spread)), torch.nan, device=spread.device)
        return found.index_copy(0, rows, part.decoder() * spread)


def _edges(graph: TissueGraph, relation: tuple[str, str, str]) -> tuple[Tensor, Tensor, Tensor]:
    """Return source and target of each edge, and its weight, below 0 where one molecule lowers the other."""
    csr = graph[relation].adj_t
    target = torch.repeat_interleave(torch.arange(csr.shape[0]), csr.crow_indices().diff())
    weight = csr.values().float()
    lowers = graph[relation]["sign"] < 0 if "sign" in graph[relation] else torch.zeros(len(weight), dtype=torch.bool)
    return csr.col_indices().long(), target, torch.where(lowers, -weight, weight)


def _edge_nll(
    x: Tensor, y: Tensor, edges: tuple[Tensor, Tensor, Tensor], generator: torch.Generator
) -> tuple[Tensor, float]:
    source, target, weight = (one.to(x.device) for one in edges)
    known = torch.isfinite(x[source, 0]) & torch.isfinite(y[target, 0])
    source, target, weight = source[known], target[known], weight[known]
    drawn = target[torch.randperm(len(target), generator=generator).to(x.device)]
    alike, by_chance = (weight.sign() * (x[source] * y[one]).sum(dim=1) for one in (target, drawn))
    return -(weight.abs() * (logsigmoid(alike) + logsigmoid(-by_chance))).sum(), float(weight.abs().sum())
