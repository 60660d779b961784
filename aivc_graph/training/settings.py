"""What a YAML file may set under ``training``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from aivc_graph.settings import Settings


class TrainingConfig(Settings):
    """How a model is trained.

    Parameters
    ----------
    epochs
        Maximum number of epochs; 0 keeps the closed-form fit alone.
    patience
        Epochs without a better validation loss after which training has converged and stops.
    learning_rate
        Learning rate of AdamW; halved after each third of the patience without a better loss.
    weight_decay
        Weight decay of AdamW.
    window_nodes
        Cells and patches in one window (mini-batch) of tissue; by default an eighth of all, between 500 and 40,000.
    hidden_nodes
        Fraction of nodes whose own measurement is masked in each step, to be predicted from the rest.
    hidden_molecules
        Fraction of molecules masked in the other nodes.
    feature_weight
        Weight of dense features (tiles, morphology) relative to counts in the loss.
    device
        ``auto`` uses CUDA where there is a GPU, else the CPU.
    precision
        ``auto`` is bfloat16 on CUDA (sums stay in float32), else float32.
    seed
        Seed of all random choices.
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
