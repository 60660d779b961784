"""Where a model is trained, and whether memory ran out there."""

from __future__ import annotations

import torch

from aivc_graph.errors import TrainingError
from aivc_graph.training.settings import TrainingConfig


def device_of(config: TrainingConfig) -> torch.device:
    """Return the device that ``training.device`` stands for."""
    if config.device == "cuda" and not torch.cuda.is_available():
        raise TrainingError("training.device", "no CUDA device", "a machine with one", "set training.device: cpu")
    return torch.device("cuda" if config.device != "cpu" and torch.cuda.is_available() else "cpu")


def out_of_memory(error: BaseException) -> bool:
    """Say whether `error` is a lack of memory; on the CPU torch raises a plain RuntimeError for it."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)
