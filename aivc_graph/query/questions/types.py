"""The type of every cell or patch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
from pydantic import Field

from aivc_graph import names
from aivc_graph.errors import QueryError, unknown_name
from aivc_graph.query.questions.question import QUESTIONS, AbstractQuestion, Level
from aivc_graph.query.types import type_table, typed_level

if TYPE_CHECKING:
    from aivc_graph.query.virtual_tissue import VirtualTissue


@QUESTIONS.register("types", asks="the type of every cell or patch, with probability", example="--plot types.png")
class TypesQuestion(AbstractQuestion):
    """The type of every node: as its label says, and told without it, with the probability of each type.

    One row a node: ``type``, the label where one was ``measured``, else the likeliest; ``told``, the likeliest without
    the node's own label, its ``probability``, and ``p_<type>`` of each, which sum to one; ``supported``, false where
    nothing is said but how frequent types are. Types are those that training nodes bear: a node of any other is told as
    one of them. What is told rests on the state of the node and on the labels of others around it.
    """

    level: Level | None = Field(None, description="level whose nodes bear labels; the finest one if not given")
    section: str | None = Field(None, description="section that is drawn; the first if not given")

    def answer(self, tissue: VirtualTissue) -> pd.DataFrame:
        """Return a row a node."""
        known = tissue.graph.obs(names.SECTION).index.astype(str)
        if self.section is not None and self.section not in known:
            raise unknown_name(QueryError, "types", "section", self.section, known)
        return type_table(tissue.model, tissue.graph, typed_level(tissue.model, tissue.graph, self.level))

    def draw(self, tissue: VirtualTissue, answer: pd.DataFrame) -> Any:
        """Draw the types of one section, over its slide where there is one."""
        from aivc_graph.plot.niche_map import niche_map

        section = self.section or str(answer["section"].cat.categories[0])
        shown, slide = answer[answer["section"] == section], tissue.slides.get(section)
        return niche_map(
            shown[["x_um", "y_um"]].to_numpy() - (slide.origin_um if slide is not None else (0.0, 0.0)),
            shown["type"],
            slide=slide.image if slide is not None else None,
            mpp=slide.um_per_pixel if slide is not None else None,
            size_um=shown["size_um"],
            order=list(answer["type"].cat.categories),
            title=f"{section}: types",
        )
