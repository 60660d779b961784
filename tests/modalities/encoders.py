"""Tiny encoders as files, made anew by each test that needs one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

WIDTH = 5


def network() -> nn.Sequential:
    """Return a convolution with pooling: images (tile, 3, y, x) to (tile, 5)."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, WIDTH, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()


def script(folder: Path, one: nn.Module | None = None) -> Path:
    """Write an encoder as TorchScript."""
    torch.jit.script(one or network()).save(str(folder / "encoder.pt"))
    return folder / "encoder.pt"


def exported(folder: Path) -> Path:
    """Write an encoder by `torch.export`, for any number of images."""
    shapes = ({0: torch.export.Dim("n")},)
    program = torch.export.export(network(), (torch.ones(2, 3, 32, 32),), dynamic_shapes=shapes)
    torch.export.save(program, folder / "encoder.pt2")
    return folder / "encoder.pt2"


def embedded(tiles: np.ndarray, mean: Any, sd: Any) -> np.ndarray:
    """Return what the network itself says of tiles ``(tile, y, x, 3)``."""
    scaled = (tiles / 255 - np.array(mean)) / np.array(sd)
    with torch.inference_mode():
        return network()(torch.from_numpy(scaled.transpose(0, 3, 1, 2)).float()).numpy()
