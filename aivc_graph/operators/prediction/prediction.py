"""The contract of predictions: expression of a node that was not counted, straight from what was seen there."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from aivc_graph.operators.gate import EXPRESSION
from aivc_graph.operators.part import AbstractPart
from aivc_graph.operators.state import Expected, Inputs, State


class AbstractPrediction(AbstractPart):
    """Change what the state says of the expression of nodes that were not counted themselves.

    ``rank`` is the order in which predictions speak. One that looks around has the last word, and one that ``yields``
    is silent where another looks around.
    """

    kind: ClassVar[str] = "prediction"
    question: ClassVar[str] = EXPRESSION
    looks_around: ClassVar[bool] = False
    yields: ClassVar[bool] = False

    @property
    @abstractmethod
    def target(self) -> tuple[str, str]:
        """The (level, modality) it tells of."""

    @property
    def columns(self) -> tuple[int, ...]:
        """The molecules, as columns of the level's panel, whose ``scatter`` (molecule,) about what it tells is known.

        The variance of a rate over the square of what is told of it; infinite where nothing says it. None by default.
        """
        return ()

    @abstractmethod
    def speaks(self, state: State, inputs: Inputs, *, fitted: bool = True) -> Tensor:
        """Return of whom it can tell anything, boolean (node,); if not yet `fitted`, once it will be."""

    @abstractmethod
    def tell(self, told: Expected, state: State, inputs: Inputs, here: Tensor) -> Expected:
        """Return what is expected, changed for the nodes `here`, boolean (node,)."""


def replaced(told: Expected, here: Tensor, shares: Tensor, depth: float) -> Expected:
    """Return what was `told` with other `shares` (node, molecule) for the nodes `here`."""
    shares = torch.where(here[:, None], shares, told.shares)
    return Expected(shares, torch.log1p(depth * shares), told.looked_at | here, told.around)
