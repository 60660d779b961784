"""Where adjacent sections of a simulated block lie against each other, found from what they express."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aivc_graph import names
from aivc_graph.errors import ReadError, RegistrationError
from aivc_graph.evaluation.intervals import units_of
from aivc_graph.evaluation.scoring import Scored
from aivc_graph.graph.tissue_graph import to_scipy_csr
from aivc_graph.pipeline.tasks.task import TASKS, Asked
from aivc_graph.tissue.frame import apply_affine
from aivc_graph.tissue.registration.intensity import IntensityRegistration
from aivc_graph.tissue.registration.layer import Layer

Floats = NDArray[np.float64]
N_GENES = 40
PIXEL_UM = 30.0


@TASKS.register("registration", needs="truth: sections cut from one block, and their frames")
def registration(asked: Asked) -> list[Scored]:
    """Place each section on the one before it in its block, by expression; score where its cells land in the block.

    Nothing is fitted on training tissue, so all blocks are scored.
    """
    level = next((v for v in names.LEVELS if asked.counted(v).any()), None) if asked.truth is not None else None
    if level is None:
        return []
    found = [_placed(asked, level, *pair) for pair in _adjacent(asked)]
    if not found:
        return []
    moved, true, identity, centred, donor, section = (np.concatenate(part) for part in zip(*found, strict=True))
    return [
        Scored(
            task="registration",
            axis="modality",
            split="all",
            scale="section",
            modality="rna → place",
            readout="position",
            measured=true,
            model=moved,
            baselines={"identity": identity, "centres_of_tissue": centred},
            metrics=("registration_um",),
            units=units_of(donor, section, true),
            leakage=0.0,
            ceilings={"truth": true},
        )
    ]


def _adjacent(asked: Asked) -> list[tuple[int, dict[str, Any], int, dict[str, Any]]]:
    """Return pairs of sections of one block: row and frame of the fixed one, row and frame of the moving one."""
    blocks: dict[str, list[tuple[int, dict[str, Any]]]] = {}
    for row, name in enumerate(asked.graph.obs(names.SECTION).index.astype(str)):
        path = asked.truth.folder / name / "transforms.json" if asked.truth is not None else Path()
        if path.is_file():
            frame = _frame(path)
            blocks.setdefault(str(frame.get("block", name)), []).append((row, frame))
    return [(*fixed, *moving) for members in blocks.values() for fixed, moving in pairwise(members)]


def _frame(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text())
        if np.shape(found["cells"]) != (3, 3):
            raise KeyError("cells")
    except (OSError, ValueError, KeyError) as error:
        raise ReadError(str(path), f"no frame ({error})", "a 3 × 3 map of cells", "simulate again") from error
    return found


def _placed(
    asked: Asked, level: str, fixed: int, fixed_frame: dict[str, Any], moving: int, moving_frame: dict[str, Any]
) -> tuple[Floats, Floats, Floats, Floats, NDArray[Any], NDArray[Any]]:
    layers = [_layer(asked, level, row) for row in (moving, fixed)]
    xy = layers[0].xy
    try:
        affine = IntensityRegistration(signal="expression", pixel_um=PIXEL_UM).align(*layers).affine
    except RegistrationError:
        affine = np.eye(3)  # it says so and leaves the section where it was
    shift = layers[1].xy.mean(axis=0) - xy.mean(axis=0)
    placed = [to_block(found, fixed_frame) for found in (apply_affine(xy, affine), xy, xy + shift)]
    n = len(xy)
    return (
        placed[0],
        to_block(xy, moving_frame),
        placed[1],
        placed[2],
        np.full(n, asked.donor[moving]),
        np.full(n, moving),
    )


def _layer(asked: Asked, level: str, section: int) -> Layer:
    """Return the counted nodes of a section with their most widely expressed genes."""
    graph = asked.graph
    counts = to_scipy_csr(graph.counts(level, names.RNA))
    genes = np.sort(np.argsort(-np.asarray((counts > 0).sum(axis=0)).ravel(), kind="stable")[:N_GENES])
    rows = np.flatnonzero((graph[level].section_index.numpy() == section) & asked.counted(level))
    pos = graph[level].pos.numpy()[rows].astype(np.float64)
    return Layer(pos, counts[rows][:, genes].toarray().astype(np.float64), np.eye(3), profile=True, framed=True)


def to_block(xy_um: Floats, frame: dict[str, Any]) -> Floats:
    """Return positions in the block (point, 2): the section's map, then its warp of a few sine waves."""
    q = apply_affine(xy_um, np.asarray(frame["cells"], np.float64))
    warp = frame.get("warp") or {}
    if not len(warp.get("amplitude_um", ())):
        return q
    direction, length, phase, amplitude = (
        np.asarray(warp[key], np.float64) for key in ("direction", "length_um", "phase", "amplitude_um")
    )
    return q + np.sin(2 * np.pi * (q @ direction.T) / length + phase) @ amplitude
