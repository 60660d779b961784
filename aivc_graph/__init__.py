"""aivc-graph: a virtual tissue that can be questioned."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aivc_graph import io
    from aivc_graph.config import Config, load_config
    from aivc_graph.graph.build import GraphConfig, build_graph
    from aivc_graph.graph.tissue_graph import TissueGraph
    from aivc_graph.pipeline.evaluate import evaluate
    from aivc_graph.pipeline.evaluate_predictions import evaluate_predictions
    from aivc_graph.pipeline.evaluate_tables import evaluate_table
    from aivc_graph.pipeline.from_anndata import from_anndata
    from aivc_graph.pipeline.train import Run, train
    from aivc_graph.query.virtual_tissue import VirtualTissue
    from aivc_graph.tissue.intervention import Intervention, activation, drug, knockout, ligand

__version__ = "0.1.0"
__all__ = [
    "Config",
    "GraphConfig",
    "Intervention",
    "Run",
    "TissueGraph",
    "VirtualTissue",
    "activation",
    "build_graph",
    "drug",
    "evaluate",
    "evaluate_predictions",
    "evaluate_table",
    "from_anndata",
    "io",
    "knockout",
    "ligand",
    "load_config",
    "train",
]

# Imported on first use, so that `aivc --help` is instant and a query needs no slide reader.
_DEFINED_IN = {
    "Config": "aivc_graph.config",
    "load_config": "aivc_graph.config",
    "GraphConfig": "aivc_graph.graph.build",
    "build_graph": "aivc_graph.graph.build",
    "TissueGraph": "aivc_graph.graph.tissue_graph",
    "Run": "aivc_graph.pipeline.train",
    "train": "aivc_graph.pipeline.train",
    "evaluate": "aivc_graph.pipeline.evaluate",
    "evaluate_predictions": "aivc_graph.pipeline.evaluate_predictions",
    "evaluate_table": "aivc_graph.pipeline.evaluate_tables",
    "from_anndata": "aivc_graph.pipeline.from_anndata",
    "VirtualTissue": "aivc_graph.query.virtual_tissue",
    **dict.fromkeys(("Intervention", "activation", "drug", "knockout", "ligand"), "aivc_graph.tissue.intervention"),
}


def __getattr__(name: str) -> Any:
    if name == "io":
        return importlib.import_module("aivc_graph.io")
    if name in _DEFINED_IN:
        return getattr(importlib.import_module(_DEFINED_IN[name]), name)
    raise AttributeError(f"module 'aivc_graph' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
