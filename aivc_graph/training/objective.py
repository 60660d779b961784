"""The objective: a sum of terms, each with its weight."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from aivc_graph.graph.tissue_graph import TissueGraph
from aivc_graph.training.settings import TrainingConfig
from aivc_graph.training.terms.term import TERMS, Loss, Pass


class Objective(nn.Module):
    r"""What is made small by gradient.

    .. math:: L = \sum_{s,m} w_{s,m}\,\mathrm{NLL}^{s,m} + \beta\,\mathrm{KL} + \lambda_{align}\,\mathrm{InfoNCE}
              + \lambda_{prior}\,\mathrm{NLL}^{prior} + \lambda_{\downarrow\uparrow} \|L P t - t\|^2_\Sigma
              + \lambda_{\uparrow\downarrow} D(P L \{z\}, \{z\}) + \lambda_{anchors}\,\mathrm{NLL}(y \mid L z)

    The weights are those of ``training.objective``, and w those within the likelihood. With the first two terms it is
    that of a multimodal variational autoencoder, with the third alone that of a dual encoder; the fourth holds
    molecules to what is known of them, and the others levels to each other. By default the first stands alone.
    """

    def __init__(self, graph: TissueGraph, config: TrainingConfig) -> None:
        super().__init__()
        self.weights = {name: weight for name, weight in sorted(config.objective.items()) if weight > 0}
        self.terms = nn.ModuleDict({name: TERMS.get(name)(graph, config) for name in self.weights})

    @property
    def draws(self) -> bool:
        """Whether a term asks for states drawn from what was measured."""
        return any(bool(TERMS.facts[name].get("draws")) for name in self.weights)

    def forward(self, one: Pass) -> dict[str, Loss]:
        """Return each term of a window."""
        return {name: term(one) for name, term in self.terms.items()}

    def value(self, losses: Mapping[str, Loss]) -> Tensor:
        """Return the weighted sum of terms."""
        return sum((weight * losses[name].mean() for name, weight in self.weights.items()), torch.zeros(()))

    def shares(self, losses: Mapping[str, Loss], parameters: Iterable[nn.Parameter]) -> dict[str, float]:
        """Return the norm of each weighted term's gradient, as a share of the sum of them."""
        if len(self.weights) == 1:
            return dict.fromkeys(self.weights, 1.0)
        learning, norms = [p for p in parameters if p.requires_grad], {}
        for name, weight in self.weights.items():
            value = weight * losses[name].mean()
            found = torch.autograd.grad(value, learning, retain_graph=True, allow_unused=True) if value.grad_fn else ()
            norms[name] = float(torch.sqrt(sum((g.square().sum() for g in found if g is not None), torch.zeros(()))))
        total = sum(norms.values())
        return {name: norm / total if total > 0 else 0.0 for name, norm in norms.items()}
