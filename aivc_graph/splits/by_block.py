"""Hold out blocks of tissue within each section, with a gap around them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

from pydantic import Field, model_validator

from aivc_graph import names
from aivc_graph.splits.blocks import label_blocks
from aivc_graph.splits.design import DESIGNS, AbstractSplit, Counts, count_labels


@DESIGNS.register("by_block", needs="sections much larger than a block")
class BlockSplit(AbstractSplit):
    """Square blocks of each section are tested, others validate; a gap parts them from the tissue that trains.

    The donor and the section stand on both sides: this asks whether a map of tissue can be completed, not whether a
    model travels.

    Parameters
    ----------
    block_um
        Edge of a block [µm].
    buffer_um
        Least distance of two nodes of different labels [µm]; as wide as the model's receptive field, or it is cut edges
        alone that keep the sides apart: an evaluation says how far messages reach.
    test_share, validation_share
        Share of each section's nodes, before the gap is taken from the tissue that trains.
    seed
        Which blocks.
    """

    block_um: float = Field(default=1000.0, gt=0, allow_inf_nan=False)
    buffer_um: float = Field(default=200.0, ge=0, allow_inf_nan=False)
    test_share: float = Field(default=0.2, gt=0, lt=1)
    validation_share: float = Field(default=0.1, ge=0, lt=1)
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _some_train(self) -> Self:
        if self.test_share + self.validation_share >= 1:
            raise ValueError("test_share and validation_share leave nothing to train on; together they must be below 1")
        return self

    def __call__(self, sections: Sequence[Any]) -> Counts:
        """Label the sections; see `label_blocks`."""
        shares = {names.TEST: self.test_share, names.VALIDATION: self.validation_share}
        label_blocks(sections, self.block_um, self.buffer_um, shares, self.seed)
        return count_labels(sections)
