"""Hold out blocks of tissue within each section, with a gap around them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from aivc_graph import names
from aivc_graph.errors import ConfigError
from aivc_graph.splits.blocks import label_blocks
from aivc_graph.splits.design import DESIGNS, AbstractSplit, Counts, count_labels

AUTO = "auto"
Width = Annotated[float, Field(ge=0, allow_inf_nan=False)]


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
        Least distance of two nodes of different labels [µm]; ``auto`` is as wide as the model's receptive field. Where
        it is narrower, cut edges alone keep the sides apart: then it is doubted, with the width it should have.
    test_share, validation_share
        Share of each section's nodes, before the gap is taken from the tissue that trains.
    seed
        Which blocks.
    """

    parts_sections: ClassVar[bool] = True
    block_um: float = Field(default=1000.0, gt=0, allow_inf_nan=False)
    buffer_um: Width | Literal["auto"] = 200.0
    test_share: float = Field(default=0.2, gt=0, lt=1)
    validation_share: float = Field(default=0.1, ge=0, lt=1)
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _some_train(self) -> Self:
        if self.test_share + self.validation_share >= 1:
            raise ValueError("test_share and validation_share leave nothing to train on; together they must be below 1")
        return self

    def doubt(self, reach_um: float) -> str:
        """Say that the gap is narrower than what messages reach over."""
        if self.buffer_um == AUTO or float(self.buffer_um) >= reach_um:
            return ""
        found = f"{self.buffer_um:g} µm, so that cut edges alone keep the sides apart"
        mend = "set `buffer_um: auto` where that leaves enough tissue to train on"
        return str(ConfigError("split · buffer_um", found, f"{reach_um:.0f} µm, as far as messages reach", mend))

    def within_reach(self, reach_um: float) -> BlockSplit:
        """Return the design with a gap as wide as messages reach, where it is to be found."""
        return self.model_copy(update={"buffer_um": reach_um}) if self.buffer_um == AUTO else self

    def __call__(self, sections: Sequence[Any]) -> Counts:
        """Label the sections; see `label_blocks`.

        Raises
        ------
        ConfigError
            The gap is still to be found, a section has too few blocks, or the gaps leave a label without nodes.
        """
        if isinstance(self.buffer_um, str):
            raise ConfigError("split · buffer_um", AUTO, "a width [µm]", "build by a configuration, or give a number")
        shares = {names.TEST: self.test_share, names.VALIDATION: self.validation_share}
        label_blocks(sections, self.block_um, self.buffer_um, shares, self.seed)
        return count_labels(sections)
