"""What two modalities tell of a cell is to lie nearer each other than what they tell of different cells."""

from __future__ import annotations

import math
from itertools import combinations
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from aivc_graph.errors import TrainingError
from aivc_graph.graph.panels import labels
from aivc_graph.graph.tissue_graph import TissueGraph
from aivc_graph.training.terms.term import TERMS, AbstractTerm, Loss, Pass, prior_variance

if TYPE_CHECKING:
    from aivc_graph.training.settings import TrainingConfig

# Bounds of the temperature, and where it starts.
COLDEST, WARMEST, START = 0.01, 1.0, 0.1
# Nodes of a window that are told from one another, drawn at random: their number squared is all the memory it takes.
MOST_ANCHORS = 1_024


@TERMS.register("alignment")
class AlignmentTerm(AbstractTerm):
    r"""Symmetric InfoNCE of what two modalities each tell of the same node.

    .. math:: -\tfrac12 \log \frac{e^{s_{vv}/\tau}}{\sum_{w \in N(v)} e^{s_{vw}/\tau}}
              -\tfrac12 \log \frac{e^{s_{vv}/\tau}}{\sum_{w \in N(v)} e^{s_{wv}/\tau}}

    with s the cosine of the two encodings in units of the prior's spread. A pair of nodes that their measurements
    cannot tell apart is no negative: where the squared distance of their states, in units of its error, is no more than
    two draws of one state are apart on average. The temperature is learnt as its logarithm, between 0.01 and 1.

    Raises
    ------
    TrainingError
        If no level has two modalities.

    References
    ----------
    van den Oord et al. 2018, arXiv:1807.03748; Radford et al. 2021, arXiv:2103.00020 (symmetric, learnt temperature).
    """

    def __init__(self, graph: TissueGraph, config: TrainingConfig) -> None:
        super().__init__(graph, config)
        if not any(len(graph.modalities(level)) + bool(labels(graph, level)) > 1 for level in graph.levels):
            found, mend = "one modality at every level", "set it to 0, or give a second modality of the same nodes"
            raise TrainingError("training.objective.alignment", found, "two to bring together", mend)
        self.log_temperature = nn.Parameter(torch.tensor(math.log(START)))

    @property
    def temperature(self) -> Tensor:
        """How much nearer is nearer."""
        return self.log_temperature.clamp(math.log(COLDEST), math.log(WARMEST)).exp()

    def forward(self, one: Pass) -> Loss:
        """Return the sums of a window, by level and pair of modalities."""
        loss = Loss()
        for a, b in combinations([part for part in one.model.parts_of("measurement") if part.seen], 2):
            if a.plan.level != b.plan.level or a.plan.level not in one.counted:
                continue
            first, second = (one.inputs.measured(*part.slot) for part in (a, b))
            both = torch.nonzero(one.counted[a.plan.level] * first.mask * second.mask).ravel()
            anchors = both[torch.randperm(len(both), generator=one.generator)[:MOST_ANCHORS].to(both.device)]
            key = (a.plan.level, f"{a.plan.modality} ~ {b.plan.modality}")
            loss.weight[key], loss.number[key] = 1.0, float(len(anchors))
            told = [_told(part, data, anchors) for part, data in ((a, first), (b, second))]
            x, y = (mean / prior_variance(one.model, a.plan.level).sqrt().to(mean) for mean, _ in told)
            loss.total[key] = info_nce(x, y, same_state(told), self.temperature)
        return loss


def info_nce(first: Tensor, second: Tensor, same: Tensor, temperature: Tensor) -> Tensor:
    """Return the symmetric InfoNCE of rows that belong together, summed; pairs in `same` (row, row) are left out."""
    alike = normalize(first, dim=1) @ normalize(second, dim=1).t() / temperature
    apart = same & ~torch.eye(len(same), dtype=torch.bool, device=same.device)
    alike, own = alike.masked_fill(apart, -torch.inf), torch.arange(len(alike), device=alike.device)
    return sum((0.5 * cross_entropy(side, own, reduction="sum") for side in (alike, alike.t())), alike.new_zeros(()))


def _told(part: Any, data: Any, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return what a modality alone tells of some nodes: mean and precision, both (row, latent)."""
    mean, precision = part.encode(data)[rows], part.precision(data)
    return mean, precision[rows] if precision.dim() == 2 else precision.expand_as(mean)


@torch.no_grad()
def same_state(told: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Return which rows cannot be told apart (row, row), given means and precisions of each modality (row, latent)."""
    precision = torch.stack([p for _, p in told]).sum(dim=0)
    mean = torch.stack([p * m for m, p in told]).sum(dim=0) / precision
    # Nodes of a window are measured about equally well, so that one error serves all pairs.
    scaled = mean * (precision.mean(dim=0) / 2).sqrt()
    return torch.cdist(scaled, scaled).square() <= mean.shape[1]
