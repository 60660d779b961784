"""What a YAML file may set under ``training``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from aivc_graph.settings import Settings


class TrainingConfig(Settings):
    """How a model is trained.

    Parameters
    ----------
    epochs, patience
        Most epochs; epochs without a better validation loss after which training has converged and stops.
    learning_rate, weight_decay
        Of AdamW; the rate is halved after each third of the patience without a better loss.
    window_nodes
        Cells and patches in the core of one window of tissue; by default an eighth of all, between 500 and 40,000.
    hidden_nodes, hidden_molecules
        Share of nodes whose own observation is hidden, and of molecules hidden from the rest.
    feature_weight
        Weight of dense features (tiles, morphology) against counts in the objective.
    device, precision
        ``auto`` trains on CUDA in bfloat16 (sums stay in float32) where there is one, else on the CPU in float32.
    seed
        Of all random choices.
    """

    epochs: int = Field(200, ge=0)
    patience: int = Field(8, ge=1)
    learning_rate: float = Field(1e-2, gt=0)
    weight_decay: float = Field(1e-4, ge=0)
    window_nodes: int | None = Field(None, ge=1)
    hidden_nodes: float = Field(0.25, gt=0, lt=1)
    hidden_molecules: float = Field(0.3, gt=0, lt=1)
    feature_weight: float = Field(0.1, ge=0)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    seed: int = 0
