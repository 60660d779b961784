"""The windows a closed form is fitted on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from aivc_graph.model.inputs import Inputs


@dataclass(frozen=True)
class Fold:
    """One window and who of it is fitted on: `rows` (node,) by level, training nodes of its core."""

    inputs: Inputs
    rows: dict[str, Tensor]

    def training(self, level: str, mask: Tensor) -> NDArray[np.int64]:
        """Return the rows of `level` that are fitted on and measured."""
        return np.flatnonzero((self.rows[level] * mask).cpu().numpy() > 0)


def count_keys(folds: list[Fold]) -> list[tuple[str, str]]:
    """Return every (level, modality) of counts."""
    return sorted({key for fold in folds for key in fold.inputs.counts})


def feature_keys(folds: list[Fold]) -> list[tuple[str, str]]:
    """Return every (level, modality) of dense features."""
    return sorted({key for fold in folds for key in fold.inputs.features})
