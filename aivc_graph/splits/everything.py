"""Hold nothing out: for questions that no label answers, such as where the niches are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import Field

from aivc_graph import names
from aivc_graph.splits.blocks import label_blocks
from aivc_graph.splits.design import DESIGNS, AbstractSplit, Counts, count_labels, levels_of, write_labels


@DESIGNS.register("everything", needs="nothing")
class NoSplit(AbstractSplit):
    """All nodes train; some blocks may validate, so that training knows when to stop. No score follows from it.

    Parameters
    ----------
    validation_share
        Share of each section's nodes that validate, in whole blocks.
    block_um, buffer_um
        Edge of a block and least distance of a training node to a validating one [µm].
    seed
        Which blocks.
    """

    validation_share: float = Field(default=0.0, ge=0, lt=1)
    block_um: float = Field(default=1000.0, gt=0, allow_inf_nan=False)
    buffer_um: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    seed: int = Field(default=0, ge=0)

    def __call__(self, sections: Sequence[Any]) -> Counts:
        """Label the sections."""
        if self.validation_share > 0:
            shares = {names.VALIDATION: self.validation_share}
            label_blocks(sections, self.block_um, self.buffer_um, shares, self.seed)
        else:
            for section in sections:
                for level in levels_of(section):
                    write_labels(section, level, names.TRAIN)
        return count_labels(sections)
