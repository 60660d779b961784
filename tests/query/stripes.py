"""How the tests of questions build and train on tissue of three stripes."""

from __future__ import annotations

from aivc_graph.config import Config
from aivc_graph.graph.build import GraphConfig
from aivc_graph.model.settings import ModelConfig
from aivc_graph.training.settings import TrainingConfig

CONFIG = Config(
    model=ModelConfig(latent=4, rings=(6, 12)), training=TrainingConfig(epochs=3, window_nodes=400, device="cpu")
)
GRAPH = GraphConfig(edges={"cell": {"kind": "knn", "k": 12}, "patch": {"kind": "knn", "k": 6}})
BOTH = ("cell", "patch")
