"""Spots cut off a simulated slide's tissue: true error beside the stated one, and how it was without looking for cuts.

Part of ``benchmarks/registration.py``, which runs it. What is taken for a cut edge was settled on seeds 0–11; these are
others.
"""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import numpy as np
from registration_planted import Case, calibration, planted, registered

from aivc_graph.tissue.frame import apply_affine
from aivc_graph.tissue.registration import intensity
from aivc_graph.tissue.registration.layer import Layer

RADIUS_UM, PITCH_UM, PIXEL_UM, SELECTED_UM = 1500.0, 200.0, 35.0, 25.0
SEEDS = range(100, 112)


def cut_spots() -> dict[str, Any]:
    """Register whole arrays, and arrays that end 5–35 % before the tissue does, with and without looking for cuts."""
    found: dict[str, Any] = {}
    for name, kind, looked in (
        ("whole", "whole", True),
        ("cut", "cut", True),
        ("cut, every edge outline", "cut", False),
    ):
        rows = [one_row(kind, seed, looked) for seed in SEEDS]
        done = [row for row in rows if "error_um" in row]
        sure = [row for row in done if not row["doubted"]]
        found[name] = {"cases": len(rows), "refused": len(rows) - len(done), "doubted": len(done) - len(sure)}
        found[name] |= {"all": calibration(done), "runs": rows}
        found[name] |= {"nothing doubted": calibration(sure)} if sure else {}
    return found


def one_row(kind: str, seed: int, looked: bool) -> dict[str, Any]:
    """Register one simulated array."""
    case, told = simulated_case(kind, seed), intensity.straight_edges
    with patch.object(intensity, "straight_edges", told if looked else lambda *_: []):
        return {"tissue": str(seed)} | registered(case)


def simulated_case(kind: str, seed: int) -> Case:
    """Return an array of spots over tissue of a random outline, selected as by hand, whole or cut straight."""
    rng = np.random.default_rng(seed)
    waves, far = np.arange(1, 8), np.arange(8, 48)
    size, phase = rng.normal(0, 0.28, 7) / waves, rng.uniform(0, 2 * np.pi, 7)
    noise, start = rng.normal(0, 1, 40) / np.sqrt(20), rng.uniform(0, 2 * np.pi, 40)
    flat = rng.uniform(0.65, 1)

    def inside(xy: np.ndarray, off_um: float = 0.0) -> np.ndarray:
        x, y = xy[:, 0] / RADIUS_UM, xy[:, 1] / RADIUS_UM / flat
        angle = np.arctan2(y, x)
        edge = np.exp(np.cos(np.outer(angle, waves) + phase) @ size)
        edge += off_um / RADIUS_UM * np.cos(np.outer(angle, far) + start) @ noise
        return np.hypot(x, y) < edge

    pixels = grid(PIXEL_UM, rng)
    angle = rng.uniform(-0.15, 0.15)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    spots = grid(PITCH_UM, rng) @ turn.T
    spots = spots[inside(spots, SELECTED_UM)]
    if kind == "cut":
        way = rng.uniform(0, 2 * np.pi) if seed % 2 else rng.integers(4) * np.pi / 2 + angle
        along = spots @ [np.cos(way), np.sin(way)]
        spots = spots[along < np.quantile(along, 1 - rng.uniform(0.05, 0.35))]
    moving = apply_affine(spots, np.linalg.inv(planted(rng, spots, 8)))
    fixed = Layer(pixels, inside(pixels)[:, None].astype(float), np.eye(3), framed=True)
    return Case(str(seed), kind, Layer(moving, np.ones((len(spots), 1)), np.eye(3)), fixed, spots)


def grid(step: float, rng: np.random.Generator) -> np.ndarray:
    """Return a square lattice that reaches beyond any outline ``(point, 2)`` [µm]."""
    at = np.arange(-2.2 * RADIUS_UM, 2.2 * RADIUS_UM, step)
    x, y = np.meshgrid(at + rng.uniform(0, step), at + rng.uniform(0, step))
    return np.column_stack([x.ravel(), y.ravel()])
