"""A scale bar in microns."""

from __future__ import annotations

import math
from typing import Any


def add_scale_bar(ax: Any, width_um: float) -> float:
    """Draw a bar of a round length, at most a fifth of `width_um`, lower left on axes in µm; return its length [µm]."""
    from matplotlib.patheffects import withStroke

    length = _round_length(width_um / 5)
    label = f"{length / 1000:g} mm" if length >= 1000 else f"{length:g} µm"
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    x, y = left + 0.04 * (right - left), bottom + 0.05 * (top - bottom)
    halo = [withStroke(linewidth=6, foreground="white")]
    ax.plot([x, x + length], [y, y], color="black", linewidth=3, solid_capstyle="butt", path_effects=halo)
    halo = [withStroke(linewidth=3, foreground="white")]
    ax.text(x + length / 2, y + 0.015 * (top - bottom), label, ha="center", va="bottom", fontsize=9, path_effects=halo)
    return length


def _round_length(about: float) -> float:
    """Largest of 1, 2, 5 × 10^n that is not above `about`."""
    power = 10.0 ** math.floor(math.log10(about))
    return next(step * power for step in (5, 2, 1) if step * power <= about * (1 + 1e-9))
