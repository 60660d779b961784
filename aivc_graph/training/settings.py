"""What a YAML file may set under ``training``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from aivc_graph.errors import ConfigError
from aivc_graph.settings import Settings
from aivc_graph.training.terms.term import TERMS

LIKELIHOOD = "likelihood"
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class TrainingConfig(Settings):
    """How a model is trained.

    Parameters
    ----------
    epochs
        Maximum number of epochs; 0 keeps the closed-form fit alone.
    patience
        Epochs without a better validation loss after which training has converged and stops.
    learning_rate
        Learning rate of AdamW; halved after each third of the patience without a better loss, and begun again from the
        closed form where none was better than that.
    weight_decay
        Weight decay of AdamW.
    window_nodes
        Cells and patches in one window (mini-batch) of tissue; by default an eighth of all, between 500 and 40,000.
    hidden_nodes
        Fraction of nodes whose own measurement is masked in each step, to be predicted from the rest.
    hidden_molecules
        Fraction of molecules masked in the other nodes.
    objective
        Weight of each term of the objective by its name; 0 removes it, and one that is not named stays as it is. Terms
        are the ``likelihood`` of what was hidden (1), the divergence ``kl`` of states from their prior (0), the
        ``alignment`` of modalities of the same cell (0), the likelihood of relations of a ``prior`` (0), and across
        levels ``down_up`` and ``up_down``, what lift and project lose there and back, and ``anchors``, the likelihood
        of a parent given its children (0 each). Beside a likelihood, what the others teach is let
        through as far as held-out places gain by it; training takes twice as long then.
    feature_weight
        Weight of dense features (tiles, morphology) relative to counts in the likelihood.
    modality_weight
        Weight of the likelihood of modalities by name, such as ``{protein: 0.5}``, where it is another.
    device
        ``auto`` uses CUDA where there is a GPU, else the CPU.
    precision
        ``auto`` is bfloat16 on CUDA (sums stay in float32), else float32.
    seed
        Seed of all random choices.
    """

    epochs: int = Field(200, ge=0)
    patience: int = Field(12, ge=1)
    learning_rate: float = Field(1e-2, gt=0)
    weight_decay: float = Field(1e-4, ge=0)
    window_nodes: int | None = Field(None, ge=1)
    hidden_nodes: float = Field(0.25, gt=0, lt=1)
    hidden_molecules: float = Field(0.3, gt=0, lt=1)
    objective: dict[str, Weight] = Field(default_factory=lambda: {LIKELIHOOD: 1.0})
    feature_weight: float = Field(0.1, ge=0)
    modality_weight: dict[str, Weight] = Field(default_factory=dict)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    seed: int = 0

    @field_validator("objective")
    @classmethod
    def _terms_are_known(cls, given: dict[str, float]) -> dict[str, float]:
        for name in given:
            try:
                TERMS.get(name, "objective")
            except ConfigError as error:
                raise ValueError(str(error)) from error
        objective = {LIKELIHOOD: 1.0} | given
        if not any(objective.values()):
            raise ValueError("every term has weight 0; give one of them more")
        return objective
