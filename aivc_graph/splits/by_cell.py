"""Hold out cells at random, fold by fold: for dissociated samples of one donor, which no group can part."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from pydantic import Field, model_validator

from aivc_graph import names
from aivc_graph.errors import ConfigError, Faults
from aivc_graph.splits.design import DESIGNS, AbstractSplit, Counts, count_labels, write_labels
from aivc_graph.tissue.frame import is_dissociated
from aivc_graph.tissue.section import metadata_of


@DESIGNS.register("by_cell", needs="dissociated samples")
class CellSplit(AbstractSplit):
    """Each section's cells are cut in folds at random; one fold is tested, and the next ones validate.

    The donor stands on both sides: this asks what is unknown of a cell whose like were seen, not whether a model
    travels.
    Over all folds each cell is tested once. Cells of tissue are refused: their neighbours would tell.

    Parameters
    ----------
    folds
        Into how many.
    fold
        Which one is tested, from 0.
    validation_folds
        How many validate.
    seed
        Which cells.
    """

    folds: int = Field(default=5, ge=2)
    fold: int = Field(default=0, ge=0)
    validation_folds: int = Field(default=1, ge=0)
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _some_train(self) -> Self:
        if self.fold >= self.folds:
            raise ValueError(f"fold {self.fold} of {self.folds}; they are numbered 0–{self.folds - 1}")
        if self.validation_folds + 2 > self.folds:
            raise ValueError(f"{self.folds} folds leave none to train on; validate on fewer, or cut more")
        return self

    def __call__(self, sections: Sequence[Any]) -> Counts:
        """Label the cells of the sections.

        Raises
        ------
        ConfigError
            A section with positions, or with fewer cells than folds.
        """
        faults = Faults(ConfigError)
        for section in sections:
            where = f"split · {metadata_of(section)['section']}"
            if not is_dissociated(section):
                faults.add(where, "cells with positions", "dissociated cells", "hold out blocks: `kind: by_block`")
            elif (n := len(section.shapes[names.CELL])) < self.folds:
                faults.add(where, f"{n} cells", f"at least one a fold, {self.folds}", "cut fewer folds")
        faults.raise_if_any()
        rng = np.random.default_rng(self.seed)
        sides = np.full(self.folds, names.TRAIN, dtype=object)
        sides[[(self.fold + 1 + i) % self.folds for i in range(self.validation_folds)]] = names.VALIDATION
        sides[self.fold] = names.TEST
        for section in sections:
            fold = rng.permutation(len(section.shapes[names.CELL])) % self.folds
            write_labels(section, names.CELL, sides[fold].astype(str))
        return count_labels(sections)
