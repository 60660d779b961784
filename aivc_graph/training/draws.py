"""Random choices of an epoch, the same in every run of one seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True)
class Draws:
    """Random choices of an epoch, or of a look at held-out places: what is hidden, and the rest."""

    hidden: np.random.Generator
    states: torch.Generator

    @classmethod
    def of(cls, seed: int, epoch: int = 2**31) -> Draws:
        """Return the choices of an epoch; those of held-out places if not given."""
        rest = torch.Generator().manual_seed(int(np.random.SeedSequence([seed, epoch, 1]).generate_state(1)[0]))
        return cls(np.random.default_rng([seed, epoch]), rest)
