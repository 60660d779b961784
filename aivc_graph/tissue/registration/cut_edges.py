"""Edges at which a layer may have been cut off a larger tissue: straight ones, beyond which the other layer goes on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aivc_graph.tissue.frame import Matrix, apply_affine
from aivc_graph.tissue.registration.layer import Layer
from aivc_graph.tissue.registration.maps import draw_map

# An edge is straight if it runs along its line for this share of the tissue's width; a round outline does so for less.
STRAIGHT = 0.5
# Two straight edges differ by at least so much.
APART_DEG = 30
# Looked for tissue so many pixels beyond an edge: farther than what maps smear over it.
BEYOND_PX = 1.5


@dataclass(frozen=True)
class Edge:
    """A straight edge of one of two layers.

    Parameters
    ----------
    layer
        0 for the moving layer, 1 for the fixed one.
    line_um
        ``(3,)`` in its microns: ``a x + b y + c > 0`` beyond the edge.
    """

    layer: int
    line_um: Matrix

    def cut(self, layers: tuple[Layer, Layer]) -> tuple[Layer, Layer]:
        """Return both layers, the one as cut at the edge: what lies beyond it is unknown rather than empty."""
        moving, fixed = layers
        return (moving.cut_at(self.line_um), fixed) if self.layer == 0 else (moving, fixed.cut_at(self.line_um))

    def goes_on(self, layers: tuple[Layer, Layer], affine: Matrix, pixel_um: float) -> bool:
        """Say whether the other layer shows tissue beyond the edge, once `affine` places the first on the second."""
        moving, fixed = layers
        if self.layer == 1:
            moving, fixed, affine = fixed, moving, np.asarray(np.linalg.inv(affine), np.float64)
        xy, drawn = moving.um(), draw_map(fixed, pixel_um, pixel_um)
        out = xy @ self.line_um[:2] + self.line_um[2]
        last = out > -1.5 * pixel_um
        step = (BEYOND_PX * pixel_um - out[last])[:, None] * self.line_um[:2]
        inside, known = drawn.at(apply_affine(xy, affine))
        beyond, seen = drawn.at(apply_affine(xy[last] + step, affine))
        return bool(seen.any() and beyond[seen].sum(axis=1).mean() > 0.5 * inside[known].sum(axis=1).mean())


def straight_edges(layers: tuple[Layer, Layer], pixel_um: float) -> list[Edge]:
    """Return the straight edges of two layers on maps of pixels of `pixel_um`; of outlines alone, not of profiles."""
    outlines = [(n, layer) for n, layer in enumerate(layers) if not (layer.profile or layer.framed)]
    return [Edge(n, line) for n, layer in outlines for line in _lines(layer, pixel_um)]


def _lines(layer: Layer, pixel_um: float) -> list[Matrix]:
    """Lines of the straight edges, straightest first."""
    drawn = draw_map(layer, pixel_um, pixel_um)
    density = drawn.values.sum(axis=0).ravel()
    xy = drawn.centres_um()[density > 0.5 * np.median(drawn.at(layer.um())[0].sum(axis=1))]
    angles = np.radians(np.arange(360))
    lines, shares = zip(*(_line(xy, np.array([np.cos(a), np.sin(a)]), pixel_um) for a in angles), strict=True)
    found: list[int] = []
    for one in np.argsort(-np.array(shares), kind="stable").tolist():
        apart = [abs((one - other + 180) % 360 - 180) for other in found]
        if shares[one] >= STRAIGHT and min(apart, default=360) >= APART_DEG:
            found.append(one)
    return [lines[one] for one in found]


def _line(xy: Matrix, normal: Matrix, pixel_um: float) -> tuple[Matrix, float]:
    """Line of the outermost pixels along `normal`, and the share of the width that they take."""
    out, along = xy @ normal, xy @ [-normal[1], normal[0]]
    outermost = out > out.max() - 1.5 * pixel_um
    taken = len(np.unique(np.round(along[outermost] / pixel_um)))
    line = np.append(normal, -np.median(out[outermost]) - pixel_um / 2)
    return line, taken / (np.ptp(along) / pixel_um + 1)
