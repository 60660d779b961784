"""Fewer known places than there are, or wrong ones, on purpose: to measure what hangs on them."""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from aivc_graph.settings import Settings


class Thinning(Settings):
    """Which of some known places are taken, and how far off.

    Parameters
    ----------
    share
        Share of them that is taken, drawn at random; of one seed a smaller share is part of a larger one.
    shift_um
        How far [µm] all are moved, in a direction drawn for each section: what a wrong registration does.
    seed
        Of what is drawn.
    """

    share: float = Field(1.0, gt=0, le=1)
    shift_um: float = Field(0.0, ge=0, allow_inf_nan=False)
    seed: int = Field(0, ge=0)

    def taken(self, n: int, section: str) -> NDArray[np.bool_]:
        """Return which of `n` places of a section are taken (place,), at least one."""
        if self.share == 1:
            return np.ones(n, bool)
        return self._drawn(section).permutation(n) < np.ceil(self.share * n)

    def shift(self, section: str) -> NDArray[np.float64]:
        """Return what the places of a section are moved by (2,) [µm]."""
        angle = self._drawn(section).uniform(0, 2 * np.pi)
        return self.shift_um * np.array([np.cos(angle), np.sin(angle)])

    def _drawn(self, section: str) -> np.random.Generator:
        return np.random.default_rng([self.seed, zlib.crc32(section.encode())])
